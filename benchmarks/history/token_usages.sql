-- Model calls: one for every four requests.
INSERT INTO footfall.token_usages
    (bot_id, event_ms, event_id, source, input_tokens, output_tokens, model, provider, chat_id, cached_input_tokens,
     reasoning_output_tokens, source_topic, source_epoch, source_partition, source_offset, record_ms)
SELECT
    bot_id, event_ms, lower(hex(MD5(concat(toString(own), bot_id)))),
    ['chat', 'fs_chat', 'responses', 'ticket_summary'][toUInt32(pow(5, own % 997 / 997))],
    200 + own % 3000, 20 + own % 700,
    ['small', 'large', 'mini', ''][toUInt32(pow(5, own % 991 / 991))], 'example', lower(hex(begun)), own % 100, NULL,
    'token_usages', '00000000-0000-4000-8000-000000000002', bot % 8,
    {heads:Array(UInt64)}[bot % 8 + 1] + row_number() OVER (PARTITION BY bot % 8 ORDER BY event_ms, own) - 1, event_ms + 200
FROM traffic
WHERE event_ms < {end:Int64} AND n % 4 = 0
