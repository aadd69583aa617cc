-- What partitions held when their topic was deleted, by the gaps that were noted. Reads the gaps of the ledger's rows.
SELECT DISTINCT topic, toString(epoch), partition, gap.first_offset AS first, gap.next_offset AS next
FROM footfall.ledger
ARRAY JOIN gaps AS gap
WHERE gap.reason = 'recreated' AND written_at >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC')
ORDER BY topic, epoch, partition, first
