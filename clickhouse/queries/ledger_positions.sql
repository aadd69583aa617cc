-- Where each partition of a topic's life resumes. Reads the ledger's run of one (topic, epoch).
SELECT partition, max(next_offset)
FROM footfall.ledger
WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition IN {partitions:Array(UInt32)}
GROUP BY partition
