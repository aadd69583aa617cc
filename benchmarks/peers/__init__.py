"""What one would write instead of Footfall: the same decode, enrich and window work on a plain consumer.

They call the very stages of the pipeline, so that they differ in how records come to them alone. They know no
duplicates, store nothing and can lose what they hold: each is a lower bound of what its kind costs.
"""
