-- Requests: one for each of the traffic.
INSERT INTO footfall.bot_requests
    (bot_id, event_ms, event_id, endpoint, chat_id, ip, country, region, city, browser, client_class, timezone,
     page_url, user_agent, geo_build_seconds, source_topic, source_epoch, source_partition, source_offset, record_ms)
SELECT
    bot_id, event_ms, lower(hex(MD5(concat(toString(own), bot_id)))),
    ['widget', 'api', 'fs_chat', 'web', 'slack', 'whatsapp'][toUInt32(pow(7, who % 997 / 997))],
    lower(hex(begun)),
    if(who % 10 = 0,
       concat('2001:db8:', lower(hex(toUInt16(bot))), ':', lower(hex(toUInt16(who))), '::', lower(hex(toUInt16(who / 65536)))),
       concat('10.', toString(who % 256), '.', toString(intDiv(who, 256) % 256), '.', toString(intDiv(who, 65536) % 256))),
    country,
    if(is_nowhere, '', concat('Region ', toString(country_number * 10 + who % 10))),
    if(is_nowhere, '', concat('City ', toString(country_number * 60 + who % 60))),
    ['Chrome', 'Safari', 'Mobile Safari', 'Firefox', 'Edge', 'Chrome Mobile', 'Samsung Internet', 'Opera', '']
        [toUInt32(pow(10, who % 991 / 991))],
    multiIf(who % 97 < 5, 'crawler', who % 97 < 9, 'api_client', 'person'),
    if(is_nowhere, '', concat('Etc/GMT+', toString(country_number % 12))),
    concat('https://www.example.com/help/articles/', toString(toUInt32(pow(400, begun % 7919 / 7919)))),
    concat('Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/', toString(100 + who % 40),
           '.0.', toString(who % 300), '.0 Safari/537.36'),
    1700000000, 'bot_requests', '00000000-0000-4000-8000-000000000001', bot % 8,
    {heads:Array(UInt64)}[bot % 8 + 1] + row_number() OVER (PARTITION BY bot % 8 ORDER BY event_ms, own) - 1, event_ms + 200
FROM traffic
WHERE event_ms < {end:Int64}
