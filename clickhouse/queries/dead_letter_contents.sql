-- Key and bytes of some dead letters, the bot that the bytes name where they are JSON (no more of it than a bot's name may have),
-- and when they were stored. Reads the blocks of the table that hold them.
SELECT topic, toString(epoch), partition, offset, base64Encode(key), base64Encode(value),
       substringUTF8(JSONExtractString(value, 'bot_id'), 1, 128), toUnixTimestamp64Milli(ingested_at)
FROM footfall.dead_letters FINAL
WHERE (topic, epoch, partition, offset) IN {addresses:Array(Tuple(String, UUID, UInt32, UInt64))}
