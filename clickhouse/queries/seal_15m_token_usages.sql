-- Compute queued intervals anew, each over all partitions: {limit} of them after {offset} others, in the order of the key of
-- raw rows. Reads raw rows of those intervals, deduplicated.
INSERT INTO footfall.token_usages_15m
SELECT
    bot_id,
    toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND) AS interval_start,
    count() AS usages,
    sum(token_usages.input_tokens) AS input_tokens,
    sum(token_usages.output_tokens) AS output_tokens,
    sumMap(map(source, toUInt64(1))) AS usages_by_source,
    sumMap(map(source, token_usages.input_tokens)) AS input_by_source,
    sumMap(map(source, token_usages.output_tokens)) AS output_by_source,
    sumMap(map(model, toUInt64(1))) AS usages_by_model,
    sumMap(map(model, token_usages.input_tokens)) AS input_by_model,
    sumMap(map(model, token_usages.output_tokens)) AS output_by_model,
    {version:UInt64} AS version
FROM footfall.token_usages FINAL
WHERE (bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND)) IN
(
    SELECT bot_id, interval_start FROM footfall.seal_queue
    WHERE topic = 'token_usages' AND version = {version:UInt64}
    ORDER BY bot_id, interval_start
    LIMIT {limit:UInt32} OFFSET {offset:UInt64}
)
GROUP BY bot_id, interval_start
SETTINGS do_not_merge_across_partitions_select_final = 1, max_partitions_per_insert_block = 0
