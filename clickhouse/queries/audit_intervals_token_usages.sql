-- Intervals of one width, raw rows against their rollups: how many agree, how many are open yet, and of those that do not agree
-- how many by kind, with a few of each. `touched` are those of which a row was ingested a moment ago: they may be sealed again
-- just now. Shares nothing with the sealer: of copies the one with the least source is taken, counts are made by grouping, and
-- of rollups the greatest version is taken. Reads a month's raw rows and rollups, of those the bots and days of one bucket.
WITH
    events AS
    (
        SELECT bot_id, event_ms, ingested, kept.1 AS source, kept.2 AS model, kept.3 AS input_tokens, kept.4 AS output_tokens
        FROM
        (
            SELECT bot_id, toUnixTimestamp64Milli(event_time) AS event_ms, max(ingested_at) AS ingested,
                   argMin((source, model, input_tokens, output_tokens), (record_time, source_partition, source_offset)) AS kept
            FROM footfall.token_usages
            WHERE event_time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND event_time < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
              AND cityHash64(bot_id, intDiv(toUnixTimestamp64Milli(event_time), 86400000)) % {buckets:UInt32} = {bucket:UInt32}
            GROUP BY bot_id, event_time, event_id
        )
    ),
    rollups AS
    (
        SELECT *
        FROM footfall.{rollup:Identifier}
        WHERE interval_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND interval_start < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
          AND cityHash64(bot_id, intDiv(toUnixTimestamp64Milli(interval_start), 86400000)) % {buckets:UInt32} = {bucket:UInt32}
        ORDER BY bot_id, interval_start, version DESC
        LIMIT 1 BY bot_id, interval_start
    )
SELECT kind, is_touched, count(), sum(raw_total), groupArraySorted({few:UInt32})((start, bot_id, raw_total, rollup_total, differences))
FROM
(
    SELECT
        bot_id,
        start,
        maxIf(raw_n, dimension = '') AS raw_total,
        maxIf(rollup_n, dimension = '') AS rollup_total,
        groupArraySortedIf(3)((dimension, value, raw_n, rollup_n, raw_sum, rollup_sum), raw_n != rollup_n OR raw_sum != rollup_sum) AS differences,
        multiIf(
            max(has_raw) = 0, 'without_rows',
            max(has_rollup) = 0 AND start + {width_ms:Int64} > {due_ms:Int64}, 'open',
            max(has_rollup) = 0, 'unsealed',
            notEmpty(differences), 'differs',
            'agrees') AS kind,
        max(touched) > fromUnixTimestamp64Milli({touched_ms:Int64}, 'UTC') AND kind IN ('unsealed', 'differs') AS is_touched
    FROM
    (
        SELECT bot_id, start, dimension, value,
               sumIf(n, side = 0) AS raw_n, sumIf(n, side = 1) AS rollup_n, sumIf(amount, side = 0) AS raw_sum, sumIf(amount, side = 1) AS rollup_sum,
               max(side = 0) AS has_raw, max(side = 1) AS has_rollup, max(ingested) AS touched
        FROM
        (
            SELECT bot_id, intDiv(event_ms, {width_ms:Int64}) * {width_ms:Int64} AS start, said.1 AS dimension, said.2 AS value,
                   count() AS n, sum(toUInt64(said.3)) AS amount, max(ingested) AS ingested, toUInt8(0) AS side
            FROM events
            ARRAY JOIN [('', '', 0), ('input', '', input_tokens), ('output', '', output_tokens), ('source: input', toString(source), input_tokens), ('source: output', toString(source), output_tokens), ('model: input', toString(model), input_tokens), ('model: output', toString(model), output_tokens)] AS said
            GROUP BY bot_id, start, dimension, value
            UNION ALL
            SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start, said.1 AS dimension, said.2 AS value,
                   said.3 AS n, said.4 AS amount, toDateTime64(0, 3, 'UTC') AS ingested, toUInt8(1) AS side
            FROM rollups
            ARRAY JOIN arrayConcat(
                [('', '', usages, toUInt64(0)), ('input', '', usages, input_tokens), ('output', '', usages, output_tokens)],
                arrayMap(name -> ('source: input', toString(name), usages_by_source[name], input_by_source[name]), arrayDistinct(arrayConcat(mapKeys(usages_by_source), mapKeys(input_by_source)))),
                arrayMap(name -> ('source: output', toString(name), usages_by_source[name], output_by_source[name]), arrayDistinct(arrayConcat(mapKeys(usages_by_source), mapKeys(output_by_source)))),
                arrayMap(name -> ('model: input', toString(name), usages_by_model[name], input_by_model[name]), arrayDistinct(arrayConcat(mapKeys(usages_by_model), mapKeys(input_by_model)))),
                arrayMap(name -> ('model: output', toString(name), usages_by_model[name], output_by_model[name]), arrayDistinct(arrayConcat(mapKeys(usages_by_model), mapKeys(output_by_model))))) AS said
        )
        GROUP BY bot_id, start, dimension, value
    )
    GROUP BY bot_id, start
)
GROUP BY kind, is_touched
SETTINGS optimize_aggregation_in_order = 1
