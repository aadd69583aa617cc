-- How many requests, the latest, and how many distinct IPs and conversations, of one bot in a range.
-- Reads each whole interval's sealed row, or where there is none its cells; the intervals that the range cuts, from
-- deduplicated raw rows.
SELECT sum(requests), max(last_request_ms), uniqExactMerge(ips), uniqExactMerge(chats)
FROM
(
    SELECT requests, toUnixTimestamp64Milli(last_request) AS last_request_ms, ips, chats
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id = {bot:String}
      AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
    UNION ALL
    SELECT cell.requests, cell.last_request_ms, ips, chats
    FROM
    (
        SELECT max(snapshot) AS cell, uniqExactMergeState(ips) AS ips, uniqExactMergeState(chats) AS chats
        FROM footfall.bot_requests_cells
        WHERE bot_id = {bot:String}
          AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          AND interval_start NOT IN
          (
              SELECT interval_start FROM footfall.bot_requests_15m
              WHERE bot_id = {bot:String}
                AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          )
        GROUP BY interval_start, epoch, partition
    )
    UNION ALL
    SELECT
        count(),
        toUnixTimestamp64Milli(max(event_time)),
        CAST(uniqExactIfState(sipHash64(ip), ip != ''), 'AggregateFunction(uniqExact, UInt64)'),
        CAST(uniqExactIfState(sipHash64(chat_id), chat_id != ''), 'AggregateFunction(uniqExact, UInt64)')
    FROM footfall.bot_requests FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
            OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
