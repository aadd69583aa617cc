-- The same as rankings, for requests that match filters. A filter without values is left out.
-- A row for each value, and one whose column is empty for all requests; of each column the unknown value ('') first, then the
-- others in order.
-- Reads deduplicated raw rows once for all columns: to read them is what it costs.
SELECT column, value, requests
FROM
(
    SELECT
        multiIf(
            grouping(endpoint) = 0, 'endpoint',
            grouping(country) = 0, 'country',
            grouping(browser) = 0, 'browser',
            grouping(client_class) = 0, 'client_class',
            ''
        ) AS column,
        concat(endpoint, country, browser, client_class) AS value,
        count() AS requests
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
    GROUP BY GROUPING SETS ((), (endpoint), (country), (browser), (client_class))
)
ORDER BY column, value != '', requests DESC, value
LIMIT {limit:UInt32} + 1 BY column
