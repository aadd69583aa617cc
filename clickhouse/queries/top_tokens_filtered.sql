-- The same as top_tokens, for usages that match filters. A filter without values is left out.
-- Reads deduplicated raw rows: rollups know one dimension at a time.
SELECT
    multiIf(value = '', 'unknown', rank <= {limit:UInt32}, 'value', 'other') AS kind,
    if(kind = 'value', value, NULL) AS shown,
    sum(usages) AS all_usages, sum(input_tokens) AS all_input, sum(output_tokens) AS all_output
FROM
(
    SELECT *, row_number() OVER (ORDER BY value = '', input_tokens + output_tokens DESC, value) AS rank
    FROM
    (
        SELECT toString({by:Identifier}) AS value, count() AS usages, sum(token_usages.input_tokens) AS input_tokens,
               sum(token_usages.output_tokens) AS output_tokens
        FROM footfall.token_usages FINAL
        WHERE bot_id = {bot:String}
          AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
          AND source IN {source:Array(String)}
          AND model IN {model:Array(String)}
        GROUP BY value
    )
)
GROUP BY kind, shown
ORDER BY indexOf(['value', 'other', 'unknown'], kind), all_input + all_output DESC, shown
