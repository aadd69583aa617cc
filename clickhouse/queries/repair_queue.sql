-- Queue intervals for the sealer's statements: those named, or where none is all that begin in a range and have rows. Reads
-- the keys of a month's raw rows.
INSERT INTO footfall.seal_queue (topic, version, bot_id, interval_start)
SELECT DISTINCT {topic:String}, {version:UInt64}, bot_id, fromUnixTimestamp64Milli(start, 'UTC')
FROM
(
    SELECT pair.1 AS bot_id, pair.2 AS start FROM (SELECT arrayJoin({pairs:Array(Tuple(String, Int64))}) AS pair)
    UNION ALL
    SELECT bot_id, intDiv(toUnixTimestamp64Milli(event_time), {width_ms:Int64}) * {width_ms:Int64} AS start
    FROM footfall.{raw:Identifier}
    WHERE empty({pairs:Array(Tuple(String, Int64))})
      AND event_time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND event_time < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
)
WHERE start + {width_ms:Int64} <= {due_ms:Int64}
