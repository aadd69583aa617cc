-- Where raw rows say that they came from: of every partition of every life of a topic how many rows, the least and the
-- greatest offset. Reads the source columns of all raw rows.
SELECT source_topic, toString(source_epoch), source_partition, count(), min(source_offset), max(source_offset)
FROM footfall.{raw:Identifier}
GROUP BY source_topic, source_epoch, source_partition
