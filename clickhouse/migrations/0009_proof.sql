-- What `footfall audit` proves its sums by: of every flush the offset and identity of each event, and the offsets that the
-- log did not hold. Raw rows alone cannot say it: a copy of an event goes when parts are merged, and so would a lost row.

-- An event's identity is a hash of bot, event_time and event_id as raw rows have them: 8 bytes per event, that no codec makes
-- smaller. Offsets take next to nothing.
ALTER TABLE footfall.ledger
    ADD COLUMN IF NOT EXISTS bots_in  Array(String) EPHEMERAL,
    ADD COLUMN IF NOT EXISTS times_in Array(Int64)  EPHEMERAL,
    ADD COLUMN IF NOT EXISTS ids_in   Array(String) EPHEMERAL,
    ADD COLUMN IF NOT EXISTS offsets  Array(UInt64) COMMENT 'Offsets of the valid events, repeats included' CODEC(Delta, ZSTD),
    ADD COLUMN IF NOT EXISTS identities Array(UInt64)
        DEFAULT arrayMap((bot, ms, id) -> cityHash64(bot, ms, id), bots_in, times_in, ids_in)
        COMMENT 'Hash of (bot_id, event_time in ms, event_id) of each of them' CODEC(NONE),
    ADD COLUMN IF NOT EXISTS gaps Array(Tuple(first_offset UInt64, next_offset UInt64, reason LowCardinality(String)))
        COMMENT 'Offsets that were not there to be read, and why: retention, compaction, transactions, recreated or unknown';

-- Where each partition stands, kept with every part: a flush and a look for an older store ask it of the whole ledger, however
-- long that is.
ALTER TABLE footfall.ledger MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
ALTER TABLE footfall.ledger ADD PROJECTION IF NOT EXISTS heads
    (SELECT topic, epoch, partition, max(next_offset) GROUP BY topic, epoch, partition);

-- With it the last worker of a topic's life says what there was to read, should nobody come to read it.
ALTER TABLE footfall.progress ADD COLUMN IF NOT EXISTS end_offset UInt64 COMMENT 'End of the partition''s log';
