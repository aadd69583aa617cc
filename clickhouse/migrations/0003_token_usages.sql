-- Raw token usages: one row per event, the one authority that everything else is computed from.
--
-- ORDER BY: every question names a bot and a range of time, so these two lead; event_id completes the identity, by which
-- copies of one event are replaced. Granules are small because the sealer reads many short key ranges at once.
-- The two indexes serve the sealer (what came in since its last pass) and a worker that takes over a partition.
CREATE TABLE IF NOT EXISTS footfall.token_usages
(
    bot_id           String                 COMMENT 'The bot',
    event_ms         Int64 EPHEMERAL,
    event_time       DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(event_ms, 'UTC') COMMENT 'The producer''s clock',
    event_id         String                 COMMENT 'The producer''s identifier of the event',
    source           LowCardinality(String) COMMENT 'What the tokens were used for: chat, fs_chat, responses, ticket_summary, ...',
    input_tokens     UInt64                 COMMENT 'Prompt tokens',
    output_tokens    UInt64                 COMMENT 'Completion tokens',
    model            LowCardinality(String) COMMENT 'Model, empty when absent',
    provider         LowCardinality(String) COMMENT 'Provider, empty when absent',
    chat_id          String                 COMMENT 'Conversation, empty when absent',
    cached_input_tokens     Nullable(UInt64) COMMENT 'Part of the input as the producer breaks it down; never added to totals',
    reasoning_output_tokens Nullable(UInt64) COMMENT 'Part of the output as the producer breaks it down; never added to totals',
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
