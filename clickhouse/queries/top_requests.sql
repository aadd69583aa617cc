-- The most frequent values of one dimension (`by`: its column; `rollup`: its map) of one bot's requests in a range.
-- Each row: value, requests, requests of all values, requests of the unknown value (which is '' and comes last).
-- Reads of each part of the range what has counted most of it: rows of whole UTC days, sealed rows of whole intervals, of
-- intervals that have none their cells, and of intervals that the range cuts deduplicated raw rows. A branch whose part is
-- empty is left out.
WITH counted AS
(
    -- days
    SELECT CAST(sumMap({rollup:Identifier}), 'Map(String, UInt64)') AS counts
    FROM footfall.bot_requests_1d FINAL
    WHERE bot_id = {bot:String} AND interval_start >= {days_start:DateTime64(3, 'UTC')} AND interval_start < {days_end:DateTime64(3, 'UTC')}
    UNION ALL
    -- intervals
    SELECT CAST(sumMap({rollup:Identifier}), 'Map(String, UInt64)') AS counts
    FROM footfall.bot_requests_15m FINAL
    WHERE bot_id = {bot:String}
      AND ((interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {days_start:DateTime64(3, 'UTC')})
        OR (interval_start >= {days_end:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}))
    UNION ALL
    -- cells
    SELECT JSONExtract(cell.dimensions, {rollup:String}, 'Map(String, UInt64)') AS counts
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
    SELECT CAST(sumMap(map({by:Identifier}, toUInt64(1))), 'Map(String, UInt64)') AS counts
    FROM footfall.bot_requests FINAL
    WHERE bot_id = {bot:String}
      AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
        OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
)
SELECT value, requests, total, unknown
FROM
(
    SELECT value, sum(n) AS requests, sum(requests) OVER () AS total, sumIf(requests, value = '') OVER () AS unknown
    FROM counted
    ARRAY JOIN mapKeys(counts) AS value, mapValues(counts) AS n
    GROUP BY value
)
ORDER BY value = '', requests DESC, value
LIMIT {limit:UInt32} + 1
