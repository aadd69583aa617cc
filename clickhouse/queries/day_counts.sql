-- How many events came late, and how many were refused, in the last 24 hours.
-- Reads that much of the ledger and of dead letters.
SELECT
    (SELECT sum(late) FROM footfall.ledger
     WHERE topic IN {topics:Array(String)} AND written_at >= now64(3) - INTERVAL 1 DAY) AS late,
    (SELECT count() FROM footfall.dead_letters FINAL
     WHERE topic IN {topics:Array(String)} AND ingested_at >= now64(3) - INTERVAL 1 DAY) AS dead_letters
