"""What is said: topics, events, rows and dead letters. Imports nothing of ours.

`topics` names the three topics; one file per topic holds its event (what a producer sends) and the columns of
its row (what is stored): `bot_request`, `token_usage`, `bot_feedback`. `event` holds what the three share,
`dead_letter` the closed set of reasons for which an event is refused, `gap` of those for which there was nothing to
read at an offset, `rollup` how long the intervals and days are that are counted.
"""
