-- The most frequent values of one column (`by`) of one bot's requests in a range that match filters, of those that contain
-- a text, in capitals or not. An empty filter matches all, and an empty text is in all.
-- Reads deduplicated raw rows: rollups know no addresses, and of what they know one dimension at a time.
SELECT toString({by:Identifier}) AS value, count() AS requests
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
  AND (empty({contains:String}) OR positionCaseInsensitiveUTF8(value, {contains:String}) > 0)
GROUP BY value
ORDER BY requests DESC, value
LIMIT {limit:UInt32}
