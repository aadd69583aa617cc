-- The events of open intervals that partitions flushed in other lives of their topic, of each partition the latest, latest
-- first: a producer may send one again to the topic made anew. Rows that the ledger does not account for are left out, since no
-- cell may count them. Reads raw rows and ledger rows written since the earliest open interval began (indices on ingested_at and
-- written_at spare the rest).
SELECT source_partition, bot_id, event_id, toUnixTimestamp64Milli(event_time)
FROM footfall.{raw:Identifier} AS raw
INNER JOIN
(
    SELECT epoch, partition, max(next_offset) AS position
    FROM footfall.ledger
    WHERE topic = {topic:String} AND epoch != {epoch:UUID} AND partition IN {partitions:Array(UInt32)}
      AND written_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
    GROUP BY epoch, partition
) AS flushed ON raw.source_epoch = flushed.epoch AND raw.source_partition = flushed.partition
WHERE ingested_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
  AND event_time >= fromUnixTimestamp64Milli({first_open_ms:Int64}, 'UTC')
  AND source_topic = {topic:String} AND source_offset < position
ORDER BY source_partition, ingested_at DESC, source_offset DESC
LIMIT {span:UInt32} BY source_partition
