-- One bot's newest token usages in a range that match filters and come after a position of that order. A filter
-- without values is left out. Newest first, of one time the greater event_id first.
-- Reads deduplicated raw rows, from the position on and in reverse order of their key: as few as the page needs.
SELECT
    toUnixTimestamp64Milli(event_time), source, input_tokens, output_tokens, input_tokens + output_tokens, model, event_id
FROM footfall.token_usages FINAL
WHERE bot_id = {bot:String}
  AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
  AND source IN {source:Array(String)}
  AND model IN {model:Array(String)}
  AND event_time <= {before_time:DateTime64(3, 'UTC')}
  AND (event_time, event_id) < ({before_time:DateTime64(3, 'UTC')}, {before_id:String})
ORDER BY event_time DESC, event_id DESC
LIMIT {limit:UInt32}
