-- Say that a pass is complete. Writes seal_passes.
INSERT INTO footfall.seal_passes (topic, version, provisional_from, data_as_of)
SELECT {topic:String}, {version:UInt64}, fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC'),
       fromUnixTimestamp64Milli({data_as_of_ms:Int64}, 'UTC')
