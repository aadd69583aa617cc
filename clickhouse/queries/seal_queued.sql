-- How many entries a pass has in the queue. Reads them.
SELECT count() FROM footfall.seal_queue WHERE topic = {topic:String} AND version = {version:UInt64}
