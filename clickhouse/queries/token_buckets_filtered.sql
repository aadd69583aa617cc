-- The same as token_buckets, for usages that match filters. A filter without values is left out. Starts may lie anywhere.
-- Reads deduplicated raw rows: rollups know one dimension at a time.
SELECT
    roundDown(toUnixTimestamp64Milli(event_time), {starts:Array(Int64)}) AS start,
    sum(input_tokens),
    sum(output_tokens)
FROM footfall.token_usages FINAL
WHERE bot_id = {bot:String}
  AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
  AND source IN {source:Array(String)}
  AND model IN {model:Array(String)}
GROUP BY start
