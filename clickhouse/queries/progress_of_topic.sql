-- Through when all partitions of a topic's present life have been consumed, in milliseconds; 0 as long as not every one of
-- them has been once. Reads progress.
SELECT if(count() < {partitions:UInt32}, 0, toUnixTimestamp64Milli(min(caught_up_through)))
FROM footfall.progress FINAL
WHERE topic = {topic:String}
  AND epoch = (SELECT argMax(epoch, written_at) FROM footfall.progress WHERE topic = {topic:String})
