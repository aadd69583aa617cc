-- How fresh answers about these topics are: when the sealer last saw everything, from when on intervals are provisional
-- (both null where a topic was never sealed), how many records wait.
-- Reads one row per topic of seal_passes, one per partition of progress.
SELECT
    (SELECT if(count() = length({topics:Array(String)}), nullIf(toUnixTimestamp64Milli(min(data_as_of)), 0), NULL)
     FROM footfall.seal_passes FINAL WHERE topic IN {topics:Array(String)}) AS data_as_of_ms,
    (SELECT if(count() = length({topics:Array(String)}), toUnixTimestamp64Milli(min(provisional_from)), NULL)
     FROM footfall.seal_passes FINAL WHERE topic IN {topics:Array(String)}) AS provisional_from_ms,
    (SELECT sum(lag)
     FROM footfall.progress FINAL
     WHERE topic IN {topics:Array(String)}
       AND (topic, epoch) IN (SELECT topic, argMax(epoch, written_at) FROM footfall.progress GROUP BY topic)) AS lag
