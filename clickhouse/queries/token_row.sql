-- Everything known of one token usage.
-- Reads its deduplicated raw row, by the whole key.
SELECT
    toUnixTimestamp64Milli(event_time), source, input_tokens, output_tokens, input_tokens + output_tokens, model, event_id,
    provider, chat_id, cached_input_tokens, reasoning_output_tokens,
    toUnixTimestamp64Milli(record_time), toUnixTimestamp64Milli(ingested_at), source_topic, source_partition, source_offset
FROM footfall.token_usages FINAL
WHERE bot_id = {bot:String} AND event_time = {time:DateTime64(3, 'UTC')} AND event_id = {event_id:String}
