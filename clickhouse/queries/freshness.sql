-- How fresh answers about each topic are: when the sealer last saw everything (null: not known yet), from when on intervals are
-- provisional (null: it was never sealed), how many records wait.
-- Reads one row per topic of seal_passes, one per partition of progress.
SELECT topic, nullIf(max(data_as_of), 0), max(provisional_from), sum(lag)
FROM
(
    SELECT topic, toUnixTimestamp64Milli(data_as_of) AS data_as_of, toNullable(toUnixTimestamp64Milli(provisional_from)) AS provisional_from, 0 AS lag
    FROM footfall.seal_passes FINAL
    UNION ALL
    SELECT topic, 0, NULL, lag
    FROM footfall.progress FINAL
    WHERE (topic, epoch) IN (SELECT topic, argMax(epoch, written_at) FROM footfall.progress GROUP BY topic)
)
GROUP BY topic
