-- Which of some events have a row: (bot, event time in ms, event id). Reads the blocks of raw rows that may hold them.
SELECT DISTINCT bot_id, toUnixTimestamp64Milli(event_time), event_id
FROM footfall.{raw:Identifier}
WHERE (bot_id, event_time, event_id) IN
(
    SELECT event.1, fromUnixTimestamp64Milli(event.2, 'UTC'), event.3
    FROM (SELECT arrayJoin({events:Array(Tuple(String, Int64, String))}) AS event)
)
