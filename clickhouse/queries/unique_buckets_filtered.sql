-- The same as unique_buckets, for requests that match filters. A filter without values is left out. Starts may lie anywhere.
-- Reads deduplicated raw rows: rollups know one dimension at a time.
-- What is distinct is told by 64 bits, as in rollups; by this hash, since it is the quickest and no state is kept.
SELECT
    roundDown(toUnixTimestamp64Milli(event_time), {starts:Array(Int64)}) AS start,
    uniqExactIf(cityHash64(ip), ip != ''),
    uniqExactIf(cityHash64(chat_id), chat_id != '')
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
GROUP BY start
