-- One bot's newest requests in a range that match filters and come after a position of that order. A filter
-- without values is left out. Newest first, of one time the greater event_id first.
-- Reads deduplicated raw rows, from the position on and in reverse order of their key: as few as the page needs.
SELECT
    toUnixTimestamp64Milli(event_time), endpoint, ip, country, region, city, browser, timezone, page_url, chat_id,
    client_class, event_id
FROM footfall.bot_requests FINAL
WHERE bot_id = {bot:String}
  AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
  AND endpoint IN {endpoint:Array(String)}
  AND country IN {country:Array(String)}
  AND region IN {region:Array(String)}
  AND city IN {city:Array(String)}
  AND browser IN {browser:Array(String)}
  AND client_class IN {client_class:Array(String)}
  AND ip IN {ip:Array(String)}
  AND event_time <= {before_time:DateTime64(3, 'UTC')}
  AND (event_time, event_id) < ({before_time:DateTime64(3, 'UTC')}, {before_id:String})
ORDER BY event_time DESC, event_id DESC
LIMIT {limit:UInt32}
