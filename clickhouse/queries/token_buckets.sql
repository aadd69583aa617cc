-- Tokens of one bot in a range, by bucket: by the greatest of the ascending starts that is not after them.
-- No start but the first may lie inside an interval.
-- Reads each whole interval's sealed row, or where there is none its cells; the intervals that the range cuts, from
-- deduplicated raw rows. A branch whose part of the range is empty is left out.
-- On one thread: a second takes longer to begin than to help.
SELECT roundDown(ms, {starts:Array(Int64)}) AS start, sum(input_tokens), sum(output_tokens)
FROM
(
    -- intervals
    SELECT toUnixTimestamp64Milli(interval_start) AS ms, input_tokens, output_tokens
    FROM footfall.token_usages_15m FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- cells
    SELECT toUnixTimestamp64Milli(interval_start) AS ms, cell.input_tokens AS input_tokens, cell.output_tokens AS output_tokens
    FROM
    (
        SELECT interval_start, max(snapshot) AS cell
        FROM footfall.token_usages_cells
        WHERE bot_id = {bot:String}
          AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          AND interval_start NOT IN
          (
              SELECT interval_start FROM footfall.token_usages_15m
              WHERE bot_id = {bot:String}
                AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          )
        GROUP BY interval_start, epoch, partition
    )
    UNION ALL
    -- rows
    SELECT toUnixTimestamp64Milli(event_time) AS ms, input_tokens, output_tokens
    FROM footfall.token_usages FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
GROUP BY start
SETTINGS max_threads = 1
