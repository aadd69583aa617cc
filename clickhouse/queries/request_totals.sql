-- How many requests, the latest, and how many distinct IPs and conversations, of one bot in a range.
-- Reads of each part of the range what has counted most of it: rows of whole UTC days, sealed rows of whole intervals, of
-- intervals that have none their cells, and of intervals that the range cuts deduplicated raw rows. A branch whose part is
-- empty is left out.
-- On one thread: two would make two sets, which have to be united once more.
SELECT sum(requests), max(last_request_ms), uniqExactArray(ip_hashes), uniqExactArray(chat_hashes)
FROM
(
    -- days
    SELECT requests, toUnixTimestamp64Milli(last_request) AS last_request_ms, ip_hashes, chat_hashes
    FROM footfall.bot_requests_1d FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {days_start:DateTime64(3, 'UTC')} AND interval_start < {days_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- intervals
    SELECT requests, toUnixTimestamp64Milli(last_request) AS last_request_ms, ip_hashes, chat_hashes
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id = {bot:String}
      AND ((interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {days_start:DateTime64(3, 'UTC')})
        OR (interval_start >= {days_end:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}))
    UNION ALL
    -- cells
    SELECT cell.requests AS requests, cell.last_request_ms AS last_request_ms, ip_hashes, chat_hashes
    FROM
    (
        SELECT max(snapshot) AS cell, groupUniqArrayArray(ip_hashes) AS ip_hashes, groupUniqArrayArray(chat_hashes) AS chat_hashes
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
    SELECT
        count() AS requests,
        toUnixTimestamp64Milli(max(event_time)) AS last_request_ms,
        groupUniqArrayIf(sipHash64(ip), ip != '') AS ip_hashes,
        groupUniqArrayIf(sipHash64(chat_id), chat_id != '') AS chat_hashes
    FROM footfall.bot_requests FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
SETTINGS max_threads = 1
