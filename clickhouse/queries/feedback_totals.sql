-- Positive and negative votes of one bot in a range. Of the votes on one message the last of all time holds, in its own
-- interval: one that was changed after the range counts nowhere in it. Without a message_id a vote is its own message.
-- Reads deduplicated raw votes from the start of the range on; earlier ones cannot be the last of a message that counts.
-- Their order is that of a text, since a pair costs the store twice as much to compare.
WITH concat(toString(event_time), event_id) AS vote
SELECT countIf(rating = 'positive'), countIf(rating = 'negative')
FROM
(
    SELECT argMax(rating, vote) AS rating, max(event_time) AS voted_at
    FROM footfall.bot_feedback FINAL
    WHERE bot_id = {bot:String} AND event_time >= {start:DateTime64(3, 'UTC')}
    GROUP BY chat_id, message_id, if(message_id = '', vote, '')
)
WHERE voted_at < {end:DateTime64(3, 'UTC')}
