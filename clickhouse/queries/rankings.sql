-- The most frequent values of each dimension that rollups count, of one bot's requests in a range.
-- One row: requests in all; of each dimension (value, requests) in order, and requests of the unknown value (which is '' and
-- comes last).
-- All dimensions at once, since a page asks for several: what a question costs is mostly to begin it.
-- Reads of each part of the range what has counted most of it: rows of whole UTC days, sealed rows of whole intervals, of
-- intervals that have none their cells, and of intervals that the range cuts deduplicated raw rows. A branch whose part is
-- empty is left out.
-- On one thread: a second takes longer to begin than to help.
WITH
    (counts -> (
        arraySlice(arraySort(one -> (one.1 = '', -one.2, one.1), CAST(counts, 'Array(Tuple(String, Int64))')), 1, {limit:UInt32}),
        counts['']
    )) AS best,
    counted AS
(
    -- days
    SELECT requests, by_endpoint, by_country, by_browser, by_client_class
    FROM footfall.bot_requests_1d FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {days_start:DateTime64(3, 'UTC')} AND interval_start < {days_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- intervals
    SELECT requests, by_endpoint, by_country, by_browser, by_client_class
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id = {bot:String}
      AND ((interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {days_start:DateTime64(3, 'UTC')})
        OR (interval_start >= {days_end:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}))
    UNION ALL
    -- cells
    SELECT cell.requests AS requests,
           CAST(JSONExtract(cell.dimensions, 'by_endpoint', 'Map(String, UInt64)'), 'Map(LowCardinality(String), UInt64)') AS by_endpoint,
           CAST(JSONExtract(cell.dimensions, 'by_country', 'Map(String, UInt64)'), 'Map(LowCardinality(String), UInt64)') AS by_country,
           CAST(JSONExtract(cell.dimensions, 'by_browser', 'Map(String, UInt64)'), 'Map(LowCardinality(String), UInt64)') AS by_browser,
           CAST(JSONExtract(cell.dimensions, 'by_client_class', 'Map(String, UInt64)'), 'Map(LowCardinality(String), UInt64)') AS by_client_class
    FROM
    (
        SELECT max(snapshot) AS cell
        FROM footfall.bot_requests_cells
        WHERE bot_id = {bot:String}
          AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          AND interval_start NOT IN
          (
              SELECT interval_start FROM footfall.bot_requests_15m
              WHERE bot_id = {bot:String}
                AND interval_start >= {open_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
          )
        GROUP BY interval_start, epoch, partition
    )
    UNION ALL
    -- rows
    SELECT toUInt64(1) AS requests,
           map(endpoint, toUInt64(1)) AS by_endpoint,
           map(country, toUInt64(1)) AS by_country,
           map(browser, toUInt64(1)) AS by_browser,
           map(client_class, toUInt64(1)) AS by_client_class
    FROM footfall.bot_requests FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
SELECT sum(requests), best(sumMap(by_endpoint)), best(sumMap(by_country)), best(sumMap(by_browser)), best(sumMap(by_client_class))
FROM counted
SETTINGS max_threads = 1
