-- The same as token_totals, for usages that match filters. A filter without values is left out.
-- Reads deduplicated raw rows: rollups know one dimension at a time.
SELECT sum(input_tokens), sum(output_tokens)
FROM footfall.token_usages FINAL
WHERE bot_id = {bot:String}
  AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
  AND source IN {source:Array(String)}
  AND model IN {model:Array(String)}
