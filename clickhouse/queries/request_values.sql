-- The most frequent values of one column (`by`) of one bot's requests in a range that match filters, of those that contain
-- a text, in capitals or not. A filter without values is left out, and an empty text is in all.
-- Reads deduplicated raw rows: rollups know no addresses, and of what they know one dimension at a time.
SELECT toString({by:Identifier}) AS value, count() AS requests
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
  AND (empty({contains:String}) OR positionCaseInsensitiveUTF8(value, {contains:String}) > 0)
GROUP BY value
ORDER BY requests DESC, value
LIMIT {limit:UInt32}
