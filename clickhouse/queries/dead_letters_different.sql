-- Dead letters that match, of those with the same bytes on the same topic the newest, and how many these are; newest first. An
-- empty list matches all. A page has what comes after `before`.
-- Reads the table without its bytes, unless a bot is asked for.
SELECT at.2, toString(at.3), at.4, at.5, at.1, what.1, what.2, what.3, lower(hex(sha256)), alike
FROM
(
    SELECT unhex(value_sha256) AS sha256,
           max((toUnixTimestamp64Milli(record_time), topic, epoch, partition, offset)) AS at,
           argMax((reason, field, value_bytes), (toUnixTimestamp64Milli(record_time), topic, epoch, partition, offset)) AS what,
           count() AS alike
    FROM footfall.dead_letters FINAL
    WHERE topic IN {topics:Array(String)}
      AND (empty({reasons:Array(String)}) OR reason IN {reasons:Array(String)})
      AND (empty({partitions:Array(UInt32)}) OR partition IN {partitions:Array(UInt32)})
      AND (empty({bots:Array(String)}) OR JSONExtractString(value, 'bot_id') IN {bots:Array(String)})
      AND (empty({addresses:Array(Tuple(String, UUID, UInt32, UInt64))})
        OR (topic, epoch, partition, offset) IN {addresses:Array(Tuple(String, UUID, UInt32, UInt64))})
      AND toUnixTimestamp64Milli(record_time) >= {since_ms:Int64} AND toUnixTimestamp64Milli(record_time) < {until_ms:Int64}
    GROUP BY topic, sha256
)
WHERE at < {before:Tuple(Int64, String, UUID, UInt32, UInt64)}
ORDER BY at DESC
LIMIT {limit:UInt64}
