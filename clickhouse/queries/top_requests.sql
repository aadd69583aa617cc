-- The most frequent values of one dimension (`by`: its column; `rollup`: its map) of one bot's requests in a range.
-- Each row: value, requests, requests of all values, requests of the unknown value (which is '' and comes last).
-- Reads each whole interval's sealed row, or where there is none its cells; the intervals that the range cuts, from
-- deduplicated raw rows.
SELECT value, requests, total, unknown
FROM
(
    SELECT value, sum(n) AS requests, sum(requests) OVER () AS total, sumIf(requests, value = '') OVER () AS unknown
    FROM
    (
        SELECT CAST(sumMap({rollup:Identifier}), 'Map(String, UInt64)') AS counts
        FROM footfall.bot_requests_15m FINAL
        WHERE bot_id = {bot:String}
          AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
        UNION ALL
        SELECT tupleElement(cell, {rollup:String})
        FROM
        (
            SELECT max(snapshot) AS cell
            FROM footfall.bot_requests_cells
            WHERE bot_id = {bot:String}
              AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
              AND interval_start NOT IN
              (
                  SELECT interval_start FROM footfall.bot_requests_15m
                  WHERE bot_id = {bot:String}
                    AND interval_start >= {inner_start:DateTime64(3, 'UTC')} AND interval_start < {inner_end:DateTime64(3, 'UTC')}
              )
            GROUP BY interval_start, epoch, partition
        )
        UNION ALL
        SELECT CAST(sumMap(map({by:Identifier}, toUInt64(1))), 'Map(String, UInt64)')
        FROM footfall.bot_requests FINAL
        WHERE bot_id = {bot:String}
          AND ((event_time >= {head_start:DateTime64(3, 'UTC')} AND event_time < {head_end:DateTime64(3, 'UTC')})
            OR (event_time >= {tail_start:DateTime64(3, 'UTC')} AND event_time < {tail_end:DateTime64(3, 'UTC')}))
    )
    ARRAY JOIN mapKeys(counts) AS value, mapValues(counts) AS n
    GROUP BY value
)
ORDER BY value = '', requests DESC, value
LIMIT {limit:UInt32} + 1
