-- From where a partition can be consumed again so that an offset is: the greatest end of a ledger row at or before it (null where
-- there is none), and the least end of one that the broker still has everything from. Reads the ledger's run of the partition.
SELECT maxOrNullIf(next_offset, next_offset <= {offset:UInt64}), minOrNullIf(next_offset, next_offset >= {beginning:UInt64})
FROM footfall.ledger
WHERE topic = {topic:String} AND epoch = {epoch:UUID} AND partition = {partition:UInt32}
