-- How many events of each topic came late, and how many were refused, in the last 24 hours. A topic that has none is left out.
-- Reads that much of the ledger and of dead letters.
SELECT topic, sum(late), sum(dead_letters)
FROM
(
    SELECT topic, late, 0 AS dead_letters
    FROM footfall.ledger
    WHERE topic IN {topics:Array(String)} AND written_at >= now64(3) - INTERVAL 1 DAY
    UNION ALL
    SELECT topic, 0 AS late, 1 AS dead_letters
    FROM footfall.dead_letters FINAL
    WHERE topic IN {topics:Array(String)} AND ingested_at >= now64(3) - INTERVAL 1 DAY
)
GROUP BY topic
