-- How far each partition was consumed when a worker last said so. Reads progress.
SELECT topic, partition, toUnixTimestamp64Milli(caught_up_through)
FROM footfall.progress FINAL
WHERE epoch IN {epochs:Array(UUID)}
