-- All requests of one bot in a range that match filters, newest first, as the text of a file. A filter
-- without values is left out.
-- The first row's time is preceded by the number of rows and a space: one query counts and reads, so that both see
-- the same rows, whatever arrives meanwhile (enable_shared_storage_snapshot_in_query).
-- Reads deduplicated raw rows twice: to count them, and in reverse order of their key, which streams.
-- Times: `zone_since` are the instants, ascending, from which on the zone's offset is the one of `zone_offset` (in
-- milliseconds) and `zone_text`.
WITH
    (value -> if(
        {is_csv:Bool} AND substring(value, 1, 1) IN ('=', '+', '-', '@', '\t', '\r'),
        concat('''', value),
        nullIf(value, '')
    )) AS shown
SELECT
    if(rowNumberInAllBlocks() = 0, concat(toString(row_count), ' ', local_time), local_time) AS time,
    endpoint_text AS endpoint, ip_text AS ip, country_text AS country, region_text AS region, city_text AS city,
    browser_text AS browser, timezone_text AS timezone, page_url_text AS page_url, chat_id_text AS chat_id,
    client_class_text AS client_class, event_id_text AS event_id
FROM
(
    SELECT
        (
            SELECT count()
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
        ) AS row_count,
        toUnixTimestamp64Milli(event_time) AS ms,
        roundDown(ms, {zone_since:Array(Int64)}) AS since,
        ms + transform(since, {zone_since:Array(Int64)}, {zone_offset:Array(Int64)}, toInt64(0)) AS wall,
        concat(
            replaceOne(toString(fromUnixTimestamp64Milli(wall, 'UTC')), ' ', 'T'),
            transform(since, {zone_since:Array(Int64)}, {zone_text:Array(String)}, '')
        ) AS local_time,
        shown(endpoint) AS endpoint_text,
        shown(ip) AS ip_text,
        shown(country) AS country_text,
        shown(region) AS region_text,
        shown(city) AS city_text,
        shown(browser) AS browser_text,
        shown(timezone) AS timezone_text,
        shown(page_url) AS page_url_text,
        shown(chat_id) AS chat_id_text,
        shown(client_class) AS client_class_text,
        shown(event_id) AS event_id_text
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
    ORDER BY event_time DESC, event_id DESC
)
