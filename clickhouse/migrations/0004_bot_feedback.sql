-- Raw votes: one row per event, the one authority that everything else is computed from.
--
-- ORDER BY: every question names a bot and a range of time, so these two lead; event_id completes the identity, by which
-- copies of one event are replaced. Granules are small because a bot has few votes. There is no rollup: a vote may be changed
-- at any time, so its range is counted when it is asked for. The two indexes serve a worker that takes over a partition.
CREATE TABLE IF NOT EXISTS footfall.bot_feedback
(
    bot_id           String                 COMMENT 'The bot',
    event_ms         Int64 EPHEMERAL,
    event_time       DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(event_ms, 'UTC') COMMENT 'The producer''s clock',
    event_id         String                 COMMENT 'The producer''s identifier of the event',
    rating           LowCardinality(String) COMMENT 'positive, negative or none (withdrawn)',
    chat_id          String                 COMMENT 'Conversation, empty when absent',
    message_id       String                 COMMENT 'The message voted on; empty: the vote is its own message',
    endpoint         LowCardinality(String) COMMENT 'Integration surface, empty when absent',
    source_topic     String                 COMMENT 'Kafka topic the event came from, prefix included',
    source_epoch     UUID                   COMMENT 'Topic epoch: changes when the topic is made anew',
    source_partition UInt32                 COMMENT 'Kafka partition',
    source_offset    UInt64                 COMMENT 'Kafka offset',
    record_ms        Int64 EPHEMERAL,
    record_time      DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(record_ms, 'UTC') COMMENT 'The Kafka record''s own timestamp',
    ingested_at      DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the store took the row, by its own clock',
    -- Of several copies the one with the smallest (record time, partition, offset) is the event: 44, 20 and 64 bits, inverted.
    version          UInt128 DEFAULT bitNot(bitOr(bitOr(
                         bitShiftLeft(toUInt128(least(greatest(toUnixTimestamp64Milli(record_time) + 1, 0), 17592186044415)), 84),
                         bitShiftLeft(toUInt128(source_partition), 64)),
                         toUInt128(source_offset))) COMMENT 'Row version: the greatest is the earliest copy',
    INDEX ingested_at ingested_at TYPE minmax GRANULARITY 1,
    INDEX source_offset source_offset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(event_time)
ORDER BY (bot_id, event_time, event_id)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;
