-- Delete the raw rows at some offsets of a partition that are not the event that the ledger has there. Rewrites parts of raw.
ALTER TABLE footfall.{raw:Identifier}
DELETE WHERE source_topic = {topic:String} AND source_epoch = {epoch:UUID} AND source_partition = {partition:UInt32}
  AND source_offset IN {offsets:Array(UInt64)}
  AND (source_offset, cityHash64(bot_id, toUnixTimestamp64Milli(event_time), event_id)) NOT IN
  (
      SELECT offset, identity
      FROM footfall.ledger
      ARRAY JOIN offsets AS offset, identities AS identity
      WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition = {partition:UInt32} AND offset IN {offsets:Array(UInt64)}
  )
SETTINGS mutations_sync = 2
