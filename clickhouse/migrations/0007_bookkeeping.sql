-- The ledger: one row per flush and partition, written after everything else of that flush is durable. The greatest
-- next_offset of a partition is where its consumer resumes; Kafka's committed offset is only a hint for others.
-- ORDER BY: a resume and every flush read one partition's run, in its order.
CREATE TABLE IF NOT EXISTS footfall.ledger
(
    topic        LowCardinality(String) COMMENT 'Kafka topic, prefix included',
    epoch        UUID                   COMMENT 'Topic epoch',
    partition    UInt32,
    next_offset  UInt64                 COMMENT 'Position after this flush',
    position     UInt64                 COMMENT 'Position before it: the next_offset of the row it follows',
    first_offset UInt64                 COMMENT 'First offset seen; above position: a gap in the log',
    last_offset  UInt64                 COMMENT 'Last offset seen',
    records      UInt64                 COMMENT 'Records seen',
    events       UInt64                 COMMENT 'Valid events that were not known as repeats',
    duplicates   UInt64                 COMMENT 'Valid events of open intervals that an earlier offset of the partition held',
    dead_letters UInt64                 COMMENT 'Malformed events',
    late         UInt64                 COMMENT 'Events whose interval was no longer open: the sealer counts them',
    worker       String                 COMMENT 'Who wrote it',
    written_at   DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    INDEX written_at written_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (topic, epoch, partition, next_offset, position)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

-- Malformed events, once each. ORDER BY: where it came from is its identity.
CREATE TABLE IF NOT EXISTS footfall.dead_letters
(
    topic        LowCardinality(String) COMMENT 'Origin topic, prefix included',
    epoch        UUID                   COMMENT 'Topic epoch',
    partition    UInt32                 COMMENT 'Origin partition',
    offset       UInt64                 COMMENT 'Origin offset',
    record_ms    Int64 EPHEMERAL,
    record_time  DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(record_ms, 'UTC') COMMENT 'The record''s own timestamp',
    reason       LowCardinality(String) COMMENT 'Why it was refused: one of a closed set',
    field        LowCardinality(String) COMMENT 'The field at fault, empty where the whole value is',
    value_base64 String EPHEMERAL,
    value        String DEFAULT base64Decode(value_base64) COMMENT 'Original bytes, cut where they would not fit',
    value_bytes  UInt64                 COMMENT 'Length of the original',
    value_sha256 String                 COMMENT 'SHA-256 of the original, hexadecimal',
    ingested_at  DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    INDEX ingested_at ingested_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, epoch, partition, offset)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

-- How far each partition has been consumed, as its worker said last: every record appended before caught_up_through is
-- durable in the tables above. One row per partition; the latest holds.
CREATE TABLE IF NOT EXISTS footfall.progress
(
    topic                LowCardinality(String) COMMENT 'Topic, without the deployment''s prefix',
    epoch                UUID,
    partition            UInt32,
    caught_up_through_ms Int64 EPHEMERAL,
    caught_up_through    DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(caught_up_through_ms, 'UTC'),
    lag                  UInt64 COMMENT 'Records appended and not yet flushed',
    written_at           DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (topic, epoch, partition);

-- The last complete pass of the sealer per topic. Everything durable before started_at and outside open cells is in sealed
-- rollups; data_as_of is the progress of the slowest partition as read at started_at.
CREATE TABLE IF NOT EXISTS footfall.seal_passes
(
    topic            LowCardinality(String) COMMENT 'Topic, without the deployment''s prefix',
    version          UInt64                 COMMENT 'The store''s clock before it read anything, microseconds since the epoch',
    started_at       DateTime64(6, 'UTC')   DEFAULT fromUnixTimestamp64Micro(toInt64(version), 'UTC'),
    provisional_from DateTime64(3, 'UTC')   COMMENT 'Intervals from here on were not due for sealing',
    data_as_of       DateTime64(3, 'UTC')   COMMENT 'Every record appended before this is visible'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY topic;

-- What a pass of the sealer has to recompute: written first, so that the work of a pass that dies half-way is known to the
-- next one. version is the pass's, and that of the rollups it writes. ORDER BY: a pass reads its own entries.
CREATE TABLE IF NOT EXISTS footfall.seal_queue
(
    topic          LowCardinality(String) COMMENT 'Topic, without the deployment''s prefix',
    version        UInt64                 COMMENT 'When the pass began, microseconds since the epoch',
    bot_id         String,
    interval_start DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (topic, version, bot_id, interval_start)
TTL toDateTime(intDiv(version, 1000000)) + INTERVAL 2 DAY
SETTINGS non_replicated_deduplication_window = 1000;
