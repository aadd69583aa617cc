-- Raw requests: one row per event, the one authority that everything else is computed from.
--
-- ORDER BY: every question names a bot and a range of time, so these two lead; event_id completes the identity, by which
-- copies of one event are replaced. Granules are small because the sealer reads many short key ranges at once.
-- The two indexes serve the sealer (what came in since its last pass) and a worker that takes over a partition.
CREATE TABLE IF NOT EXISTS footfall.bot_requests
(
    bot_id           String                 COMMENT 'The bot',
    event_ms         Int64 EPHEMERAL,
    event_time       DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(event_ms, 'UTC') COMMENT 'The producer''s clock',
    event_id         String                 COMMENT 'The producer''s identifier of the event',
    endpoint         LowCardinality(String) COMMENT 'Integration surface',
    chat_id          String                 COMMENT 'Conversation, empty when absent',
    ip               String                 COMMENT 'Caller: dotted IPv4 or RFC 5952 IPv6, empty when absent',
    country          LowCardinality(String) COMMENT 'ISO 3166-1 code of the geo database, empty when unknown',
    region           String                 COMMENT 'First subdivision, English, empty when unknown',
    city             String                 COMMENT 'City, English, empty when unknown',
    browser          LowCardinality(String) COMMENT 'Browser family, empty when unknown',
    client_class     LowCardinality(String) COMMENT 'person, crawler or api_client; empty when unknown',
    timezone         String                 COMMENT 'As the producer said it, empty when absent',
    page_url         String                 COMMENT 'Page that the call came from, cut at 2 kB, empty when absent',
    user_agent       String                 COMMENT 'Raw user agent, cut at 1 kB, empty when absent',
    geo_build_seconds UInt32 EPHEMERAL,
    geo_built_at     DateTime('UTC') DEFAULT toDateTime(geo_build_seconds, 'UTC') COMMENT 'Build date of the geo database used, 1970-01-01 for none',
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
