-- Everything known of one request.
-- Reads its deduplicated raw row, by the whole key.
SELECT
    toUnixTimestamp64Milli(event_time), endpoint, ip, country, region, city, browser, timezone, page_url, chat_id,
    client_class, event_id,
    user_agent, nullIf(toInt64(toUnixTimestamp(geo_built_at)) * 1000, 0),
    toUnixTimestamp64Milli(record_time), toUnixTimestamp64Milli(ingested_at), source_topic, source_partition, source_offset
FROM footfall.bot_requests FINAL
WHERE bot_id = {bot:String} AND event_time = {time:DateTime64(3, 'UTC')} AND event_id = {event_id:String}
