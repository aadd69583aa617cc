-- Offsets of one range of a partition that are neither an event nor a dead letter nor a gap nor within a hole of the ledger,
-- as ranges. Reads the ledger's rows and the dead letters of that range.
SELECT reached AS first, least(start, {next:UInt64}) AS next
FROM
(
    SELECT start,
           greatest({first:UInt64}, max(end) OVER (ORDER BY start, end ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS reached
    FROM
    (
        SELECT offset AS start, offset + 1 AS end
        FROM footfall.ledger ARRAY JOIN offsets AS offset
        WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition = {partition:UInt32}
          AND next_offset > {first:UInt64} AND position < {next:UInt64}
        UNION ALL
        SELECT gap.first_offset AS start, gap.next_offset AS end
        FROM footfall.ledger ARRAY JOIN gaps AS gap
        WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition = {partition:UInt32}
          AND next_offset > {first:UInt64} AND position < {next:UInt64}
        UNION ALL
        SELECT offset AS start, offset + 1 AS end
        FROM footfall.dead_letters
        WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition = {partition:UInt32}
          AND offset >= {first:UInt64} AND offset < {next:UInt64}
        UNION ALL
        SELECT hole.1 AS start, hole.2 AS end FROM (SELECT arrayJoin({holes:Array(Tuple(UInt64, UInt64))}) AS hole)
        UNION ALL
        SELECT {next:UInt64} AS start, {next:UInt64} AS end
    )
)
WHERE next > first
ORDER BY first
LIMIT {limit:UInt32}
