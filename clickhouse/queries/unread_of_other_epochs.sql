-- What partitions of a topic's earlier lives held when a worker last looked, and no ledger row covers: the broker has it no
-- more. Reads progress, and the heads of the ledger. Where both speak the ledger holds: a store that was restored may have
-- lost what a worker had reached. So the end of a transaction that was the log's last counts as unread.
SELECT toString(epoch), partition, if(reached > 0, reached, end_offset - lag) AS position, end_offset
FROM footfall.progress FINAL
LEFT JOIN
(
    SELECT epoch, partition, max(next_offset) AS reached
    FROM footfall.ledger
    WHERE topic = {source:String}
    GROUP BY epoch, partition
) AS heads USING (epoch, partition)
WHERE topic = {topic:String} AND epoch != {epoch:UUID} AND end_offset > position
ORDER BY epoch, partition
