"""Who listens: one Faust agent per topic, each a table of contents of its topic's way."""
