-- Bots by name after a given one: each with its latest request of all time (0 for none) and its requests in a range that
-- ends now.
-- Reads UTC-day rollups for what was before the range; rollups, cells and, for the intervals that the range cuts,
-- deduplicated raw requests for what is in it; and all of feedback, which has no rollup.
WITH page AS
(
    SELECT bot_id
    FROM
    (
        SELECT bot_id FROM footfall.bot_requests_1d
        UNION ALL SELECT bot_id FROM footfall.bot_requests_15m WHERE interval_start >= {inner_start:DateTime64(3, 'UTC')}
        UNION ALL SELECT bot_id FROM footfall.bot_requests_cells
        UNION ALL SELECT bot_id FROM footfall.token_usages_1d
        UNION ALL SELECT bot_id FROM footfall.token_usages_15m WHERE interval_start >= {inner_start:DateTime64(3, 'UTC')}
        UNION ALL SELECT bot_id FROM footfall.token_usages_cells
        UNION ALL SELECT bot_id FROM footfall.bot_feedback
    )
    WHERE bot_id > {after:String}
    GROUP BY bot_id
    ORDER BY bot_id
    LIMIT {limit:UInt32}
)
SELECT bot_id, max(last_request_ms), sum(requests)
FROM
(
    SELECT bot_id, 0 AS last_request_ms, 0 AS requests FROM page
    UNION ALL
    SELECT bot_id, toUnixTimestamp64Milli(last_request), 0
    FROM footfall.bot_requests_1d
    WHERE bot_id IN page
    UNION ALL
    SELECT bot_id, toUnixTimestamp64Milli(last_request), if(interval_start < {inner_end:DateTime64(3, 'UTC')}, requests, 0)
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id IN page AND interval_start >= {inner_start:DateTime64(3, 'UTC')}
    UNION ALL
    SELECT
        bot_id,
        cell.last_request_ms,
        if(interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}, cell.requests, 0)
    FROM
    (
        SELECT bot_id, interval_start, max(snapshot) AS cell
        FROM footfall.bot_requests_cells
        WHERE bot_id IN page
          AND (bot_id, interval_start) NOT IN
          (
              SELECT bot_id, interval_start FROM footfall.bot_requests_15m
              WHERE (bot_id, interval_start) IN (SELECT bot_id, interval_start FROM footfall.bot_requests_cells)
          )
        GROUP BY bot_id, interval_start, epoch, partition
    )
    UNION ALL
    SELECT bot_id, toUnixTimestamp64Milli(event_time), 1
    FROM footfall.bot_requests FINAL
    WHERE bot_id IN page
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
GROUP BY bot_id
ORDER BY bot_id
