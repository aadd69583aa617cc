-- The ledger's run of each partition: from where to where it goes, what it holds, and how many of its rows contradict
-- themselves. Reads the ledger's rows written since then, of the arrays only their lengths and the gaps.
SELECT
    topic,
    toString(epoch),
    partition,
    min(position),
    max(next_offset),
    toUnixTimestamp64Milli(min(written_at)),
    countIf(
        records != events + duplicates + dead_letters
        OR length(offsets) != events + duplicates
        OR records + arraySum(gap -> gap.next_offset - gap.first_offset, gaps) != next_offset - position
    ) AS contradictions,
    groupArraySortedIf({few:UInt32})(position, records != events + duplicates + dead_letters
        OR length(offsets) != events + duplicates
        OR records + arraySum(gap -> gap.next_offset - gap.first_offset, gaps) != next_offset - position)
FROM footfall.ledger FINAL
WHERE written_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
GROUP BY topic, epoch, partition
ORDER BY topic, min(written_at), epoch, partition
