-- How many offsets of each partition's run were not there to be read, by reason, each once whoever noticed it. Reads the
-- gaps of the ledger's rows written since then.
SELECT topic, toString(epoch), partition, reason, toUInt64(sum(greatest(0, toInt64(next_offset) - toInt64(greatest(first_offset, reached)))))
FROM
(
    SELECT topic, epoch, partition, gap.first_offset AS first_offset, gap.next_offset AS next_offset, gap.reason AS reason,
           max(next_offset) OVER (PARTITION BY topic, epoch, partition ORDER BY first_offset, next_offset
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
    FROM footfall.ledger
    ARRAY JOIN gaps AS gap
    WHERE written_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
)
GROUP BY topic, epoch, partition, reason
ORDER BY topic, epoch, partition, reason
