-- The most frequent values of one dimension as in rankings, for requests that match filters, and for dimensions that no rollup
-- has. An empty filter matches all.
-- Reads deduplicated raw rows: rollups know one dimension at a time.
SELECT value, requests, total, unknown
FROM
(
    SELECT
        toString({by:Identifier}) AS value,
        count() AS requests,
        sum(requests) OVER () AS total,
        sumIf(requests, value = '') OVER () AS unknown
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
    GROUP BY value
)
ORDER BY value = '', requests DESC, value
LIMIT {limit:UInt32} + 1
