-- Compute queued intervals anew, each over all partitions: {limit} of them after {offset} others, in the order of the key of
-- raw rows. Reads raw rows of those intervals, deduplicated.
INSERT INTO footfall.bot_requests_15m
SELECT
    bot_id,
    toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND) AS interval_start,
    count() AS requests,
    max(event_time) AS last_request,
    sumMap(map(endpoint, toUInt64(1))) AS by_endpoint,
    sumMap(map(country, toUInt64(1))) AS by_country,
    sumMap(map(browser, toUInt64(1))) AS by_browser,
    sumMap(map(client_class, toUInt64(1))) AS by_client_class,
    groupUniqArrayIf(sipHash64(ip), ip != '') AS ip_hashes,
    groupUniqArrayIf(sipHash64(chat_id), chat_id != '') AS chat_hashes,
    {version:UInt64} AS version
FROM footfall.bot_requests FINAL
WHERE (bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND)) IN
(
    SELECT bot_id, interval_start FROM footfall.seal_queue
    WHERE topic = 'bot_requests' AND version = {version:UInt64}
    ORDER BY bot_id, interval_start
    LIMIT {limit:UInt32} OFFSET {offset:UInt64}
)
GROUP BY bot_id, interval_start
SETTINGS do_not_merge_across_partitions_select_final = 1, max_partitions_per_insert_block = 0
