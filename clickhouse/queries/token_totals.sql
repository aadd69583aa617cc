-- Prompt and completion tokens of one bot in a range.
-- Reads of each part of the range what has counted most of it: rows of whole UTC days, sealed rows of whole intervals, of
-- intervals that have none their cells, and of intervals that the range cuts deduplicated raw rows. A branch whose part is
-- empty is left out.
-- On one thread: a second takes longer to begin than to help.
SELECT sum(input_tokens), sum(output_tokens)
FROM
(
    -- days
    SELECT input_tokens, output_tokens
    FROM footfall.token_usages_1d FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {days_start:DateTime64(3, 'UTC')} AND interval_start < {days_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- intervals
    SELECT input_tokens, output_tokens
    FROM footfall.token_usages_15m FINAL
    WHERE bot_id = {bot:String}
      AND ((interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {days_start:DateTime64(3, 'UTC')})
        OR (interval_start >= {days_end:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}))
    UNION ALL
    -- cells
    SELECT cell.input_tokens AS input_tokens, cell.output_tokens AS output_tokens
    FROM
    (
        SELECT max(snapshot) AS cell
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
    SELECT input_tokens, output_tokens
    FROM footfall.token_usages FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
SETTINGS max_threads = 1
