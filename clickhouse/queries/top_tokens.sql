-- The values of one dimension (`by`: its column; `usages`, `input`, `output`: its maps) that take the most tokens of one bot in
-- a range, then all others together, then the unknown one. Each row: kind, value, usages, prompt and completion tokens.
-- Reads of each part of the range what has counted most of it: rows of whole UTC days, sealed rows of whole intervals, of
-- intervals that have none their cells, and of intervals that the range cuts deduplicated raw rows. A branch whose part is
-- empty is left out.
-- On one thread: a second takes longer to begin than to help.
WITH counted AS
(
    -- days
    SELECT CAST(sumMap({usages:Identifier}), 'Map(String, UInt64)') AS usages_of,
           CAST(sumMap({input:Identifier}), 'Map(String, UInt64)') AS input_of,
           CAST(sumMap({output:Identifier}), 'Map(String, UInt64)') AS output_of
    FROM footfall.token_usages_1d FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {days_start:DateTime64(3, 'UTC')} AND interval_start < {days_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- intervals
    SELECT CAST(sumMap({usages:Identifier}), 'Map(String, UInt64)') AS usages_of,
           CAST(sumMap({input:Identifier}), 'Map(String, UInt64)') AS input_of,
           CAST(sumMap({output:Identifier}), 'Map(String, UInt64)') AS output_of
    FROM footfall.token_usages_15m FINAL
    WHERE bot_id = {bot:String}
      AND ((interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {days_start:DateTime64(3, 'UTC')})
        OR (interval_start >= {days_end:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}))
    UNION ALL
    -- cells
    SELECT JSONExtract(cell.dimensions, {usages:String}, 'Map(String, UInt64)') AS usages_of,
           JSONExtract(cell.dimensions, {input:String}, 'Map(String, UInt64)') AS input_of,
           JSONExtract(cell.dimensions, {output:String}, 'Map(String, UInt64)') AS output_of
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
    SELECT CAST(sumMap(map({by:Identifier}, toUInt64(1))), 'Map(String, UInt64)') AS usages_of,
           CAST(sumMap(map({by:Identifier}, input_tokens)), 'Map(String, UInt64)') AS input_of,
           CAST(sumMap(map({by:Identifier}, output_tokens)), 'Map(String, UInt64)') AS output_of
    FROM footfall.token_usages FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
SELECT
    multiIf(value = '', 'unknown', rank <= {limit:UInt32}, 'value', 'other') AS kind,
    if(kind = 'value', value, NULL) AS shown,
    sum(usages) AS all_usages, sum(input_tokens) AS all_input, sum(output_tokens) AS all_output
FROM
(
    SELECT *, row_number() OVER (ORDER BY value = '', input_tokens + output_tokens DESC, value) AS rank
    FROM
    (
        SELECT value, sum(usages_of[value]) AS usages, sum(input_of[value]) AS input_tokens, sum(output_of[value]) AS output_tokens
        FROM counted
        ARRAY JOIN mapKeys(usages_of) AS value
        GROUP BY value
    )
)
GROUP BY kind, shown
ORDER BY indexOf(['value', 'other', 'unknown'], kind), all_input + all_output DESC, shown
SETTINGS max_threads = 1
