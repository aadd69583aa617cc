-- Where each partition of a topic's life stands. Reads the projection `heads` of the ledger: a few rows of each of its parts.
SELECT partition, max(next_offset)
FROM footfall.ledger
WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition IN {partitions:Array(UInt32)}
GROUP BY partition
