-- Compute anew the UTC days that are over and of which an interval was queued since the last complete pass, or which came
-- to their end since then. Reads sealed intervals alone.
INSERT INTO footfall.bot_requests_1d
SELECT
    bot_id,
    toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day,
    sum(requests), max(last_request),
    sumMap(by_endpoint), sumMap(by_country), sumMap(by_browser), sumMap(by_client_class),
    groupUniqArrayArray(ip_hashes), groupUniqArrayArray(chat_hashes),
    {version:UInt64}
FROM footfall.bot_requests_15m FINAL
WHERE (bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND)) IN
(
    SELECT bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day
    FROM footfall.seal_queue
    WHERE topic = 'bot_requests' AND version > {last_version:UInt64} AND version <= {version:UInt64}
      AND day + INTERVAL 86400000 MILLISECOND <= fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC')
    UNION DISTINCT
    SELECT bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day
    FROM footfall.bot_requests_15m
    WHERE interval_start >= toStartOfInterval(fromUnixTimestamp64Milli({last_due_before_ms:Int64}, 'UTC'), INTERVAL 86400000 MILLISECOND)
      AND interval_start < toStartOfInterval(fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC'), INTERVAL 86400000 MILLISECOND)
)
GROUP BY bot_id, day
SETTINGS max_partitions_per_insert_block = 0, optimize_aggregation_in_order = 1
