-- The events of open intervals that a partition held within its memory's span, oldest first. Reads raw rows ingested since
-- the earliest open interval began (an index on ingested_at and source_offset spares the rest).
SELECT bot_id, event_id, toUnixTimestamp64Milli(event_time), source_offset
FROM footfall.{raw:Identifier}
WHERE ingested_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
  AND event_time >= fromUnixTimestamp64Milli({first_open_ms:Int64}, 'UTC')
  AND source_epoch = {epoch:UUID} AND source_topic = {topic:String}
  AND source_partition = {partition:UInt32} AND source_offset >= {from_offset:UInt64} AND source_offset < {before_offset:UInt64}
ORDER BY source_offset
