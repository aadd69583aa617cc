-- Prompt and completion tokens of one bot in a range.
-- Reads each whole interval's sealed row, or where there is none its cells; the intervals that the range cuts, from
-- deduplicated raw rows.
SELECT sum(input_tokens), sum(output_tokens)
FROM
(
    SELECT input_tokens, output_tokens
    FROM footfall.token_usages_15m FINAL
    WHERE bot_id = {bot:String}
      AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
    UNION ALL
    SELECT cell.input_tokens, cell.output_tokens
    FROM
    (
        SELECT max(snapshot) AS cell
        FROM footfall.token_usages_cells
        WHERE bot_id = {bot:String}
          AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          AND interval_start NOT IN
          (
              SELECT interval_start FROM footfall.token_usages_15m
              WHERE bot_id = {bot:String}
                AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          )
        GROUP BY interval_start, epoch, partition
    )
    UNION ALL
    SELECT input_tokens, output_tokens
    FROM footfall.token_usages FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
            OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
