-- Events of the ledger, in some ranges of partitions, of which raw has neither their own row nor an earlier copy: how many in
-- each range, the least and greatest offset, and a few. Reads what `audit_offsets` reads, and the keys of all raw rows.
WITH
    ranges AS
    (
        SELECT r.1 AS n, r.2 AS topic, r.3 AS epoch, r.4 AS partition, r.5 AS first, r.6 AS next
        FROM (SELECT arrayJoin({ranges:Array(Tuple(UInt32, String, UUID, UInt32, UInt64, UInt64))}) AS r)
    ),
    without_row AS
    (
        SELECT n, offset, max(identity) AS event
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
            SELECT n, offset, toUInt64(0) AS identity, toUInt8(2) AS side
            FROM
            (
                SELECT source_topic AS topic, source_epoch AS epoch, source_partition AS partition, source_offset AS offset
                FROM footfall.{raw:Identifier}
                WHERE source_partition IN {partitions:Array(UInt32)} AND source_offset >= {least:UInt64} AND source_offset < {most:UInt64}
            ) AS one
            INNER JOIN ranges USING (topic, epoch, partition)
            WHERE offset >= first AND offset < next
        )
        GROUP BY n, offset
        HAVING groupBitOr(side) = 1
    )
SELECT n, count(), min(offset), max(offset), groupArraySorted({few:UInt32})(offset)
FROM without_row
WHERE event NOT IN
(
    SELECT cityHash64(bot_id, toUnixTimestamp64Milli(event_time), event_id) AS event
    FROM footfall.{raw:Identifier}
    WHERE event IN (SELECT event FROM without_row)
)
GROUP BY n
ORDER BY n
