-- Offsets within a partition's run that no ledger row covers: those between a row's end and the earliest beginning of all
-- that end later. Reads the ledger's rows written since then.
SELECT topic, toString(epoch), partition, next_offset AS hole_from, following AS hole_to
FROM
(
    SELECT topic, epoch, partition, next_offset,
           min(position) OVER (PARTITION BY topic, epoch, partition ORDER BY next_offset
                               ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS following,
           count() OVER (PARTITION BY topic, epoch, partition ORDER BY next_offset
                         ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS rows_following
    FROM (SELECT topic, epoch, partition, next_offset, min(position) AS position
          FROM footfall.ledger
          WHERE written_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
          GROUP BY topic, epoch, partition, next_offset)
)
WHERE rows_following > 0 AND following > next_offset
ORDER BY topic, epoch, partition, hole_from
LIMIT {limit:UInt32}
