-- Cells of intervals that are due, that no rollup replaces and no raw row stands behind, and that readers count all the same:
-- how many intervals, and a few. Reads the cells of a week, and rollups and raw rows of their intervals.
WITH due AS
(
    SELECT DISTINCT bot_id, interval_start
    FROM footfall.{cells:Identifier}
    WHERE interval_start < fromUnixTimestamp64Milli({due_ms:Int64}, 'UTC')
      AND interval_start >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
      AND (bot_id, interval_start) NOT IN
          (SELECT bot_id, interval_start FROM footfall.{rollup:Identifier}
           WHERE interval_start >= (SELECT min(interval_start) FROM footfall.{cells:Identifier}))
)
SELECT count(), groupArraySorted({few:UInt32})((toUnixTimestamp64Milli(interval_start), bot_id))
FROM due
WHERE (bot_id, interval_start) NOT IN
(
    SELECT bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND)
    FROM footfall.{raw:Identifier}
    WHERE event_time >= (SELECT min(interval_start) FROM due)
)
