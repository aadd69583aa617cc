-- Intervals of a month of which two different rollups have the greatest version, so that it is left to chance which one is
-- read: how many, and a few. Reads the month's rollups.
SELECT count(), groupArraySorted({few:UInt32})((start, bot_id))
FROM
(
    SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start
    FROM
    (
        SELECT bot_id, interval_start, version,
               cityHash64(* EXCEPT '^(ip_hashes|chat_hashes|version)$', COLUMNS('^(ip_hashes|chat_hashes)$') APPLY(arraySort)) AS content
        FROM footfall.{rollup:Identifier}
        WHERE interval_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND interval_start < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
    )
    GROUP BY bot_id, interval_start
    HAVING argMax(content, (version, content)) != argMax(content, (version, bitNot(content)))
)
