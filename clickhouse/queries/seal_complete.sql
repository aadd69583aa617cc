-- Say that a pass is complete, unless what it queued is gone: then the store was put back to an older state meanwhile, and
-- may lack what was sealed, too. Reads the queue, writes seal_passes.
INSERT INTO footfall.seal_passes (topic, version, provisional_from, data_as_of)
SELECT {topic:String}, {version:UInt64}, fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC'),
       fromUnixTimestamp64Milli({data_as_of_ms:Int64}, 'UTC')
WHERE {version:UInt64} IN (SELECT version FROM footfall.seal_queue WHERE topic = {topic:String} AND version = {version:UInt64})
   OR NOT {has_queued:Bool}
