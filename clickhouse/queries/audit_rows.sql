-- How many deduplicated rows of a month came from what the ledger covers. Reads the month's raw rows.
WITH ranges AS
(
    SELECT r.2 AS topic, r.3 AS epoch, r.4 AS partition, r.5 AS first, r.6 AS next
    FROM (SELECT arrayJoin({ranges:Array(Tuple(UInt32, String, UUID, UInt32, UInt64, UInt64))}) AS r)
)
SELECT count()
FROM
(
    SELECT source_topic AS topic, source_epoch AS epoch, source_partition AS partition, source_offset AS offset
    FROM footfall.{raw:Identifier} FINAL
    WHERE toYYYYMM(event_time) = {month:UInt32}
) AS one
INNER JOIN ranges USING (topic, epoch, partition)
WHERE offset >= first AND offset < next
SETTINGS do_not_merge_across_partitions_select_final = 1
