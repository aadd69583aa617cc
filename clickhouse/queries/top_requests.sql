-- The most frequent values of one dimension that no rollup has, of one bot's requests in a range that match filters. A filter
-- without values is left out.
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
      AND endpoint IN {endpoint:Array(String)}
      AND country IN {country:Array(String)}
      AND region IN {region:Array(String)}
      AND city IN {city:Array(String)}
      AND browser IN {browser:Array(String)}
      AND client_class IN {client_class:Array(String)}
      AND ip IN {ip:Array(String)}
    GROUP BY value
)
ORDER BY value = '', requests DESC, value
LIMIT {limit:UInt32} + 1
