-- How far the slowest partition of a topic's present life has been consumed; NULL before any has said. Reads progress.
SELECT if(count() = 0, NULL, toUnixTimestamp64Milli(min(caught_up_through)))
FROM footfall.progress FINAL
WHERE topic = {topic:String}
  AND epoch = (SELECT argMax(epoch, written_at) FROM footfall.progress WHERE topic = {topic:String})
