-- Raw rows of one partition outside what the ledger covers: how many, the least and greatest offset, when the last was
-- ingested, and a few of them. Reads the source columns of all raw rows.
SELECT count(), min(source_offset), max(source_offset), toUnixTimestamp64Milli(max(ingested_at)),
       groupArraySorted({few:UInt32})((source_offset, bot_id, event_id))
FROM footfall.{raw:Identifier}
WHERE source_topic = {topic:String} AND source_epoch = {epoch:UUID} AND source_partition = {partition:UInt32}
  AND source_offset >= {first:UInt64} AND source_offset < {next:UInt64}
