-- How many intervals a pass has found. Reads its entries in the queue.
SELECT count() FROM footfall.seal_queue WHERE topic = {topic:String} AND version = {version:UInt64}
