-- Intervals of one width, raw rows against their rollups: how many agree, how many are open yet, and of those that do not agree
-- how many by kind, with a few of each. `touched` are those of which a row was ingested a moment ago: they may be sealed again
-- just now. Shares nothing with the sealer: of copies the one with the least source is taken, counts are made by grouping, and
-- of rollups the greatest version is taken. Reads a month's raw rows and rollups, of those the bots and days of one bucket.
WITH
    events AS
    (
        SELECT bot_id, event_ms, ingested, kept.1 AS endpoint, kept.2 AS country, kept.3 AS browser, kept.4 AS client_class, kept.5 AS ip, kept.6 AS chat_id
        FROM
        (
            SELECT bot_id, toUnixTimestamp64Milli(event_time) AS event_ms, max(ingested_at) AS ingested,
                   argMin((endpoint, country, browser, client_class, ip, chat_id), (record_time, source_partition, source_offset)) AS kept
            FROM footfall.bot_requests
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
                   count() AS n, toUInt64(max(said.3)) AS amount, max(ingested) AS ingested, toUInt8(0) AS side
            FROM events
            ARRAY JOIN [('', '', event_ms), ('endpoint', toString(endpoint), 0), ('country', toString(country), 0), ('browser', toString(browser), 0), ('client_class', toString(client_class), 0)] AS said
            GROUP BY bot_id, start, dimension, value
            UNION ALL
            SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start, said.1 AS dimension, said.2 AS value,
                   said.3 AS n, said.4 AS amount, toDateTime64(0, 3, 'UTC') AS ingested, toUInt8(1) AS side
            FROM rollups
            ARRAY JOIN arrayConcat(
                [('', '', requests, toUInt64(toUnixTimestamp64Milli(last_request)))],
                arrayMap((name, count) -> ('endpoint', toString(name), count, toUInt64(0)), mapKeys(by_endpoint), mapValues(by_endpoint)),
                arrayMap((name, count) -> ('country', toString(name), count, toUInt64(0)), mapKeys(by_country), mapValues(by_country)),
                arrayMap((name, count) -> ('browser', toString(name), count, toUInt64(0)), mapKeys(by_browser), mapValues(by_browser)),
                arrayMap((name, count) -> ('client_class', toString(name), count, toUInt64(0)), mapKeys(by_client_class), mapValues(by_client_class))) AS said
        )
        GROUP BY bot_id, start, dimension, value
            UNION ALL
            SELECT bot_id, start, member.1 AS dimension, '' AS value, member.2 AS raw_n, member.3 AS rollup_n, toUInt64(0) AS raw_sum, toUInt64(0) AS rollup_sum, toUInt8(1) AS has_raw, toUInt8(1) AS has_rollup, toDateTime64(0, 3, 'UTC') AS touched
            FROM
            (
                -- Two sets are one set if each is as large as both together.
                SELECT bot_id, start,
                       uniqExactArrayIf(ip_hashes, side = 0) AS raw_ips, uniqExactArrayIf(ip_hashes, side = 1) AS rollup_ips, uniqExactArray(ip_hashes) AS all_ips,
                       uniqExactArrayIf(chat_hashes, side = 0) AS raw_chats, uniqExactArrayIf(chat_hashes, side = 1) AS rollup_chats, uniqExactArray(chat_hashes) AS all_chats
                FROM
                (
                    SELECT bot_id, intDiv(event_ms, {width_ms:Int64}) * {width_ms:Int64} AS start, toUInt8(0) AS side,
                           groupUniqArrayIf(sipHash64(ip), ip != '') AS ip_hashes, groupUniqArrayIf(sipHash64(chat_id), chat_id != '') AS chat_hashes
                    FROM events
                    GROUP BY bot_id, start
                    UNION ALL
                    SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start, toUInt8(1) AS side, ip_hashes, chat_hashes FROM rollups
                )
                GROUP BY bot_id, start
                HAVING uniqExact(side) = 2
            )
            ARRAY JOIN [('ips', if(raw_ips = rollup_ips, all_ips, raw_ips), rollup_ips), ('chats', if(raw_chats = rollup_chats, all_chats, raw_chats), rollup_chats)] AS member
    )
    GROUP BY bot_id, start
)
GROUP BY kind, is_touched
SETTINGS optimize_aggregation_in_order = 1
