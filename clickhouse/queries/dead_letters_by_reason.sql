-- How many dead letters match, by reason, most first. An empty list matches all.
-- Reads the table without its bytes, unless a bot is asked for.
SELECT reason, count()
FROM footfall.dead_letters FINAL
WHERE topic IN {topics:Array(String)}
  AND (empty({reasons:Array(String)}) OR reason IN {reasons:Array(String)})
  AND (empty({partitions:Array(UInt32)}) OR partition IN {partitions:Array(UInt32)})
  AND (empty({bots:Array(String)}) OR JSONExtractString(value, 'bot_id') IN {bots:Array(String)})
  AND (empty({addresses:Array(Tuple(String, UUID, UInt32, UInt64))})
    OR (topic, epoch, partition, offset) IN {addresses:Array(Tuple(String, UUID, UInt32, UInt64))})
  AND toUnixTimestamp64Milli(record_time) >= {since_ms:Int64} AND toUnixTimestamp64Milli(record_time) < {until_ms:Int64}
GROUP BY reason
ORDER BY count() DESC, reason
