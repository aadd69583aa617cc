-- Where each partition of a topic's life stands, by what was written within so many seconds. Reads the ledger's rows of those
-- partitions; an index on written_at, which grows with next_offset, spares the older ones.
SELECT partition, max(next_offset)
FROM footfall.ledger
WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition IN {partitions:Array(UInt32)}
  AND written_at >= now64(3) - toIntervalSecond({within_seconds:UInt32})
GROUP BY partition
