-- Votes: one for every fifty requests.
INSERT INTO footfall.bot_feedback
    (bot_id, event_ms, event_id, rating, chat_id, message_id, endpoint, source_topic, source_epoch, source_partition,
     source_offset, record_ms)
SELECT
    bot_id, event_ms, lower(hex(MD5(concat(toString(own), bot_id)))), if(own % 5 = 0, 'negative', 'positive'),
    lower(hex(begun)), toString(n), 'widget',
    'bot_feedback', '00000000-0000-4000-8000-000000000003', bot % 8,
    {heads:Array(UInt64)}[bot % 8 + 1] + row_number() OVER (PARTITION BY bot % 8 ORDER BY event_ms, own) - 1, event_ms + 200
FROM traffic
WHERE event_ms < {end:Int64} AND n % 50 = 0
