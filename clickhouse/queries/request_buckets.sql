-- Requests of one bot in a range, by bucket: by the greatest of the ascending starts that is not after them.
-- No start but the first may lie inside an interval.
-- Reads each whole interval's sealed row, or where there is none its cells; the intervals that the range cuts, from
-- deduplicated raw rows. A branch whose part of the range is empty is left out.
-- On one thread: a second takes longer to begin than to help.
SELECT roundDown(ms, {starts:Array(Int64)}) AS start, sum(requests)
FROM
(
    -- intervals
    SELECT toUnixTimestamp64Milli(interval_start) AS ms, requests
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- cells
    SELECT toUnixTimestamp64Milli(interval_start) AS ms, cell.requests AS requests
    FROM
    (
        SELECT interval_start, max(snapshot) AS cell
        FROM footfall.bot_requests_cells
        WHERE bot_id = {bot:String}
          AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          AND interval_start NOT IN
          (
              SELECT interval_start FROM footfall.bot_requests_15m
              WHERE bot_id = {bot:String}
                AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          )
        GROUP BY interval_start, epoch, partition
    )
    UNION ALL
    -- rows
    SELECT toUnixTimestamp64Milli(event_time) AS ms, toUInt64(1) AS requests
    FROM footfall.bot_requests FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
GROUP BY start
SETTINGS max_threads = 1
