-- Dead letters that match, newest first by the record's own time: where each came from, why it was refused, and what it was. An
-- empty list matches all. A page has what comes after `before`.
-- Reads the table without its bytes, unless a bot is asked for.
SELECT topic, toString(epoch), partition, offset, toUnixTimestamp64Milli(record_time) AS ms, reason, field, value_bytes, value_sha256, 1
FROM footfall.dead_letters FINAL
WHERE topic IN {topics:Array(String)}
  AND (empty({reasons:Array(String)}) OR reason IN {reasons:Array(String)})
  AND (empty({partitions:Array(UInt32)}) OR partition IN {partitions:Array(UInt32)})
  AND (empty({bots:Array(String)}) OR JSONExtractString(value, 'bot_id') IN {bots:Array(String)})
  AND (empty({addresses:Array(Tuple(String, UUID, UInt32, UInt64))})
    OR (topic, epoch, partition, offset) IN {addresses:Array(Tuple(String, UUID, UInt32, UInt64))})
  AND ms >= {since_ms:Int64} AND ms < {until_ms:Int64}
  AND (ms, topic, epoch, partition, offset) < {before:Tuple(Int64, String, UUID, UInt32, UInt64)}
ORDER BY ms DESC, topic DESC, epoch DESC, partition DESC, offset DESC
LIMIT {limit:UInt64}
