-- Which intervals have to be computed from raw rows now. Reads raw rows ingested lately, those of intervals that came due
-- since the last pass, closed cells of intervals not due yet, and what is sealed already.
--
-- An interval touched by a row at t is sealed at every pass until t has settled, and once more when the guard has passed:
-- by then a row that was given its ingested_at earlier but became readable later is there too. One not due yet is left to
-- its cells, unless it lies outside what workers hold open, is sealed already, or a cell of it was closed. A closed cell may
-- come long after its rows, so it has its interval sealed even if no row has touched that lately. No pass seals an interval
-- twice, or looks at rows that came after it began: every pass ends.
--
-- First in the queue is an entry of no bot, by which the pass knows at its end that the store has not lost the rest.
INSERT INTO footfall.seal_queue (topic, version, bot_id, interval_start)
WITH
    fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC') AS due_before,
    touched AS
    (
        SELECT bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND) AS interval_start,
               toUnixTimestamp64Micro(toDateTime64(max(ingested_at), 6, 'UTC')) AS touched_at
        FROM footfall.{raw:Identifier}
        WHERE ingested_at >= fromUnixTimestamp64Milli({touched_from_ms:Int64}, 'UTC')
          AND ingested_at <= fromUnixTimestamp64Micro({began:Int64}, 'UTC')
        GROUP BY bot_id, interval_start
    ),
    come_due AS
    (
        SELECT DISTINCT bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND) AS interval_start
        FROM footfall.{raw:Identifier}
        WHERE event_time >= fromUnixTimestamp64Milli({due_from_ms:Int64}, 'UTC') AND event_time < due_before
    ),
    closed AS
    (
        SELECT DISTINCT bot_id, interval_start
        FROM footfall.{cells:Identifier}
        WHERE interval_start >= due_before AND snapshot.is_closed = 1
    ),
    candidates AS
    (
        SELECT bot_id, interval_start, max(touched_at) AS touched_at, max(is_closed) AS is_closed
        FROM
        (
            SELECT bot_id, interval_start, touched_at, 0 AS is_closed FROM touched
            UNION ALL
            SELECT bot_id, interval_start, toInt64(0), 0 FROM come_due
            UNION ALL
            SELECT bot_id, interval_start, toInt64(0), 1 FROM closed
        )
        GROUP BY bot_id, interval_start
    )
SELECT {topic:String}, {began:Int64}, bot_id, interval_start
FROM candidates
LEFT JOIN
(
    SELECT bot_id, interval_start, toInt64(max(version)) AS sealed_at
    FROM footfall.{rollup:Identifier}
    WHERE (bot_id, interval_start) IN (SELECT bot_id, interval_start FROM candidates)
    GROUP BY bot_id, interval_start
) AS sealed USING (bot_id, interval_start)
WHERE (interval_start < due_before
       OR interval_start > fromUnixTimestamp64Milli({open_until_ms:Int64}, 'UTC')
       OR sealed_at > 0
       OR is_closed = 1)
  AND sealed_at < {began:Int64}
  AND (sealed_at <= touched_at + {settled_us:Int64}
       OR (sealed_at < touched_at + {guard_us:Int64} AND {began:Int64} >= touched_at + {guard_us:Int64})
       OR sealed_at = 0)
UNION ALL
SELECT {topic:String}, {began:Int64}, '', fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC')
