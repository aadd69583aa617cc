-- Offset by offset, what the ledger, raw rows and dead letters say of some ranges of partitions: how many are events, dead
-- letters, events without a row of their own (a copy, or lost), rows that the ledger does not know at their offset, rows of
-- another event than the ledger's, and a few of the wrong ones; and how many events have a dead letter too. In the ranges
-- `kept` the ledger lists no events, and rows may be there all the same.
-- Reads the ledger's rows of these ranges, the source columns of all raw rows, and the keys of those in the ranges.
WITH ranges AS
(
    SELECT r.1 AS n, r.2 AS topic, r.3 AS epoch, r.4 AS partition, r.5 AS first, r.6 AS next
    FROM (SELECT arrayJoin({ranges:Array(Tuple(UInt32, String, UUID, UInt32, UInt64, UInt64))}) AS r)
)
SELECT
    n,
    countIf(is_event),
    countIf(is_letter),
    countIf(is_event AND NOT is_row),
    countIf(is_without_event), groupArraySortedIf({few:UInt32})(offset, is_without_event),
    countIf(is_of_another_event), groupArraySortedIf({few:UInt32})(offset, is_of_another_event),
    countIf(is_once_refused)
FROM
(
    SELECT
        n,
        offset,
        groupBitOr(side) AS sides,
        bitTest(sides, 0) AS is_event,
        bitTest(sides, 1) AS is_row,
        is_event AND bitTest(sides, 2) AS is_once_refused,
        NOT is_event AND arrayExists(one -> one.1 = n AND offset >= one.2 AND offset < one.3, {kept:Array(Tuple(UInt32, UInt64, UInt64))}) AS is_kept,
        bitTest(sides, 2) AND NOT is_event AND NOT is_kept AS is_letter,
        is_row AND NOT is_event AND NOT is_kept AS is_without_event,
        is_event AND minIf(identity, side < 4) != maxIf(identity, side < 4) AS is_of_another_event
    FROM
    (
        SELECT n, offset, identity, toUInt8(1) AS side
        FROM
        (
            SELECT topic, epoch, partition, offsets, identities
            FROM footfall.ledger
            WHERE (topic, epoch, partition) IN (SELECT topic, epoch, partition FROM ranges)
              AND next_offset > {least:UInt64} AND position < {most:UInt64}
        ) AS one
        ARRAY JOIN offsets AS offset, identities AS identity
        INNER JOIN ranges USING (topic, epoch, partition)
        WHERE offset >= first AND offset < next
        UNION ALL
        SELECT n, offset, identity, toUInt8(2) AS side
        FROM
        (
            SELECT source_topic AS topic, source_epoch AS epoch, source_partition AS partition, source_offset AS offset,
                   cityHash64(bot_id, toUnixTimestamp64Milli(event_time), event_id) AS identity
            FROM footfall.{raw:Identifier}
            WHERE source_partition IN {partitions:Array(UInt32)} AND source_offset >= {least:UInt64} AND source_offset < {most:UInt64}
        ) AS one
        INNER JOIN ranges USING (topic, epoch, partition)
        WHERE offset >= first AND offset < next
        UNION ALL
        SELECT n, offset, toUInt64(0) AS identity, toUInt8(4) AS side
        FROM
        (
            SELECT topic, epoch, partition, offset FROM footfall.dead_letters
            WHERE (topic, epoch, partition) IN (SELECT topic, epoch, partition FROM ranges)
              AND offset >= {least:UInt64} AND offset < {most:UInt64}
        ) AS one
        INNER JOIN ranges USING (topic, epoch, partition)
        WHERE offset >= first AND offset < next
    )
    GROUP BY n, offset
)
GROUP BY n
ORDER BY n
