-- All token usages of one bot in a range that match filters, newest first, as the text of a file. A filter
-- without values is left out.
-- The first row's time is preceded by the number of rows and a space: one query counts and reads, so that both see
-- the same rows, whatever arrives meanwhile (enable_shared_storage_snapshot_in_query).
-- Reads deduplicated raw rows twice: to count them, and in reverse order of their key, which streams.
-- Times: `zone_since` are the instants, ascending, from which on the zone's offset is the one of `zone_offset` (in
-- milliseconds) and `zone_text`.
WITH
    (value -> if(
        {is_csv:Bool} AND substring(value, 1, 1) IN ('=', '+', '-', '@', '\t', '\r'),
        concat('''', value),
        nullIf(value, '')
    )) AS shown
SELECT
    if(rowNumberInAllBlocks() = 0, concat(toString(row_count), ' ', local_time), local_time) AS time,
    source_text AS source, input_tokens, output_tokens, total_tokens, model_text AS model, event_id_text AS event_id
FROM
(
    SELECT
        (
            SELECT count()
            FROM footfall.token_usages FINAL
            WHERE bot_id = {bot:String}
              AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
              AND source IN {source:Array(String)}
              AND model IN {model:Array(String)}
        ) AS row_count,
        toUnixTimestamp64Milli(event_time) AS ms,
        roundDown(ms, {zone_since:Array(Int64)}) AS since,
        ms + transform(since, {zone_since:Array(Int64)}, {zone_offset:Array(Int64)}, toInt64(0)) AS wall,
        concat(
            replaceOne(toString(fromUnixTimestamp64Milli(wall, 'UTC')), ' ', 'T'),
            transform(since, {zone_since:Array(Int64)}, {zone_text:Array(String)}, '')
        ) AS local_time,
        shown(source) AS source_text,
        input_tokens,
        output_tokens,
        input_tokens + output_tokens AS total_tokens,
        shown(model) AS model_text,
        shown(event_id) AS event_id_text
    FROM footfall.token_usages FINAL
    WHERE bot_id = {bot:String}
      AND event_time >= {start:DateTime64(3, 'UTC')} AND event_time < {end:DateTime64(3, 'UTC')}
      AND source IN {source:Array(String)}
      AND model IN {model:Array(String)}
    ORDER BY event_time DESC, event_id DESC
)
