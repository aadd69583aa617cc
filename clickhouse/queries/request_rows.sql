-- One bot's newest requests in a range that match filters and come after a position of that order. An empty filter
-- matches all. Newest first, of one time the greater event_id first.
-- Reads deduplicated raw rows, from the position on and in reverse order of their key: as few as the page needs.
SELECT
    toUnixTimestamp64Milli(event_time), endpoint, ip, country, region, city, browser, timezone, page_url, chat_id,
    client_class, event_id
FROM footfall.bot_requests FINAL
WHERE bot_id = {bot:String}
  AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
  AND (empty({endpoint:Array(String)}) OR endpoint IN {endpoint:Array(String)})
  AND (empty({country:Array(String)}) OR country IN {country:Array(String)})
  AND (empty({region:Array(String)}) OR region IN {region:Array(String)})
  AND (empty({city:Array(String)}) OR city IN {city:Array(String)})
  AND (empty({browser:Array(String)}) OR browser IN {browser:Array(String)})
  AND (empty({client_class:Array(String)}) OR client_class IN {client_class:Array(String)})
  AND (empty({ip:Array(String)}) OR ip IN {ip:Array(String)})
  AND event_time <= {before_time:DateTime64(3, 'UTC')}
  AND (event_time, event_id) < ({before_time:DateTime64(3, 'UTC')}, {before_id:String})
ORDER BY event_time DESC, event_id DESC
LIMIT {limit:UInt32}
