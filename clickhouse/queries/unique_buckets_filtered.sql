-- The same as unique_buckets, for requests that match filters. An empty filter matches all. Starts may lie anywhere.
-- Reads deduplicated raw rows: rollups know one dimension at a time.
SELECT
    roundDown(toUnixTimestamp64Milli(event_time), {starts:Array(Int64)}) AS start,
    uniqExactIf(sipHash64(ip), ip != ''),
    uniqExactIf(sipHash64(chat_id), chat_id != '')
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
GROUP BY start
