-- Which rows of open intervals a flush wrote whose topic was deleted before it came to the ledger, as bot, interval and
-- partition, with the last offset of each. Reads raw rows ingested, and ledger rows written, since the earliest open interval
-- began (indices on ingested_at and written_at spare the rest).
SELECT toString(source_epoch), source_partition, bot_id,
       toUnixTimestamp64Milli(toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND)) AS start, max(source_offset)
FROM footfall.{raw:Identifier} AS raw
LEFT JOIN
(
    SELECT epoch, partition, max(next_offset) AS position
    FROM footfall.ledger
    WHERE topic = {topic:String} AND epoch != {epoch:UUID}
      AND written_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
    GROUP BY epoch, partition
) AS flushed ON raw.source_epoch = flushed.epoch AND raw.source_partition = flushed.partition
WHERE ingested_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
  AND event_time >= fromUnixTimestamp64Milli({first_open_ms:Int64}, 'UTC')
  AND source_topic = {topic:String} AND source_epoch != {epoch:UUID} AND source_offset >= position
GROUP BY source_epoch, source_partition, bot_id, start
