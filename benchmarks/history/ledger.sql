-- The ledger of one day's rows, which have the offsets from {heads} on: a flush for every 10,000 offsets of a partition.
INSERT INTO footfall.ledger
    (topic, epoch, partition, next_offset, position, first_offset, last_offset, records, events, duplicates, dead_letters,
     late, worker, offsets, identities)
SELECT
    source_topic, source_epoch, source_partition,
    max(source_offset) + 1, min(source_offset), min(source_offset), max(source_offset),
    count(), count(), 0, 0, 0, {day:String},
    arraySort(groupArray(source_offset)),
    arrayMap(one -> one.2, arraySort(groupArray((source_offset, cityHash64(bot_id, toUnixTimestamp64Milli(event_time), event_id)))))
FROM footfall.{raw:Identifier} FINAL
WHERE event_time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
  AND event_time < fromUnixTimestamp64Milli({start:Int64} + 90000000, 'UTC')
  AND source_offset >= {heads:Array(UInt64)}[source_partition + 1]
GROUP BY source_topic, source_epoch, source_partition, intDiv(source_offset, 10000)
