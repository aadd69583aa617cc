-- Compute anew the UTC days of the intervals queued since the last complete pass, as far as those days are over. Reads
-- sealed intervals alone.
INSERT INTO footfall.bot_requests_1d
SELECT
    bot_id,
    toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day,
    sum(requests), max(last_request),
    sumMap(by_endpoint), sumMap(by_country), sumMap(by_browser), sumMap(by_client_class),
    uniqExactMergeState(ips), uniqExactMergeState(chats),
    {version:UInt64}
FROM footfall.bot_requests_15m FINAL
WHERE (bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND)) IN
(
    SELECT bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day
    FROM footfall.seal_queue
    WHERE topic = 'bot_requests' AND version > {last_version:UInt64} AND version <= {version:UInt64}
      AND day + INTERVAL 86400000 MILLISECOND <= fromUnixTimestamp64Milli({due_before_ms:Int64}, 'UTC')
)
GROUP BY bot_id, day
SETTINGS max_partitions_per_insert_block = 0
