-- Distinct IPs and conversations of one bot in a range, by bucket: by the greatest of the ascending starts that is not
-- after them. No start but the first may lie inside an interval.
-- Reads each whole interval's sealed row, or where there is none its cells; the intervals that the range cuts, from
-- deduplicated raw rows. A branch whose part of the range is empty is left out.
SELECT roundDown(ms, {starts:Array(Int64)}) AS start, uniqExactArray(ip_hashes), uniqExactArray(chat_hashes)
FROM
(
    -- intervals
    SELECT toUnixTimestamp64Milli(interval_start) AS ms, ip_hashes, chat_hashes
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- cells
    SELECT toUnixTimestamp64Milli(interval_start) AS ms, ip_hashes, chat_hashes
    FROM footfall.bot_requests_cells
    WHERE bot_id = {bot:String}
      AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
      AND interval_start NOT IN
      (
          SELECT interval_start FROM footfall.bot_requests_15m
          WHERE bot_id = {bot:String}
            AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
      )
    UNION ALL
    -- rows
    SELECT
        roundDown(toUnixTimestamp64Milli(event_time), {starts:Array(Int64)}) AS ms,
        groupUniqArrayIf(sipHash64(ip), ip != '') AS ip_hashes,
        groupUniqArrayIf(sipHash64(chat_id), chat_id != '') AS chat_hashes
    FROM footfall.bot_requests FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
    GROUP BY ms
)
GROUP BY start
