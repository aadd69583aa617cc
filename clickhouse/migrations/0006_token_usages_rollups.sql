-- Aggregates of token_usages: what agents hold of open intervals (cells), and what the sealer wrote from raw rows (15m, 1d).

-- One row per bot, open interval, topic epoch and partition. A worker writes a cell's whole counts again with every flush:
-- the snapshot with the greatest last_offset holds, so writing one twice, or an older one late, changes nothing. Its maps are
-- one text, as in bot_requests_cells.
-- ORDER BY: readers take one bot's recent intervals; epoch and partition complete the key that snapshots are merged by.
-- Cells of sealed intervals are read by nobody and go after a week.
CREATE TABLE IF NOT EXISTS footfall.token_usages_cells
(
    bot_id         String,
    interval_ms    Int64 EPHEMERAL,
    interval_start DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(interval_ms, 'UTC') COMMENT 'Start of 15 minutes',
    epoch          UUID,
    partition      UInt32,
    snapshot       SimpleAggregateFunction(max, Tuple(
                       last_offset UInt64, usages UInt64, input_tokens UInt64, output_tokens UInt64, dimensions String, is_closed UInt8))
                   COMMENT 'All counts as of last_offset; dimensions: usages, input and output, each _by_source and _by_model, as JSON; closed: too many values, the sealer has to count'
)
ENGINE = AggregatingMergeTree
ORDER BY (bot_id, interval_start, epoch, partition)
TTL toDateTime(interval_start) + INTERVAL 7 DAY
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

-- One sealed row per bot and interval, over all partitions, with the dimensions inside: a row per dimension would be more
-- rows than raw. The greatest version (when the sealer began to read raw, in microseconds) holds.
-- ORDER BY: readers sum one bot's intervals in time order. Granules are small because a bot's range is.
CREATE TABLE IF NOT EXISTS footfall.token_usages_15m
(
    bot_id          String               COMMENT 'The bot',
    interval_start  DateTime64(3, 'UTC') COMMENT 'Start of 15 minutes',
    usages           UInt64              COMMENT 'Model calls',
    input_tokens     UInt64              COMMENT 'Prompt tokens',
    output_tokens    UInt64              COMMENT 'Completion tokens',
    usages_by_source Map(LowCardinality(String), UInt64) COMMENT 'Model calls by source',
    input_by_source  Map(LowCardinality(String), UInt64) COMMENT 'Prompt tokens by source',
    output_by_source Map(LowCardinality(String), UInt64) COMMENT 'Completion tokens by source',
    usages_by_model  Map(LowCardinality(String), UInt64) COMMENT 'Model calls by model, empty key for unknown',
    input_by_model   Map(LowCardinality(String), UInt64) COMMENT 'Prompt tokens by model, empty key for unknown',
    output_by_model  Map(LowCardinality(String), UInt64) COMMENT 'Completion tokens by model, empty key for unknown',
    version         UInt64               COMMENT 'When the sealer began to read raw rows, microseconds since the epoch'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(interval_start)
ORDER BY (bot_id, interval_start)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

-- One row per bot and UTC day, from its sealed intervals: the inside of long ranges. Same shape, same rules.
CREATE TABLE IF NOT EXISTS footfall.token_usages_1d
(
    bot_id          String               COMMENT 'The bot',
    interval_start  DateTime64(3, 'UTC') COMMENT 'Start of the UTC day',
    usages           UInt64              COMMENT 'Model calls',
    input_tokens     UInt64              COMMENT 'Prompt tokens',
    output_tokens    UInt64              COMMENT 'Completion tokens',
    usages_by_source Map(LowCardinality(String), UInt64) COMMENT 'Model calls by source',
    input_by_source  Map(LowCardinality(String), UInt64) COMMENT 'Prompt tokens by source',
    output_by_source Map(LowCardinality(String), UInt64) COMMENT 'Completion tokens by source',
    usages_by_model  Map(LowCardinality(String), UInt64) COMMENT 'Model calls by model, empty key for unknown',
    input_by_model   Map(LowCardinality(String), UInt64) COMMENT 'Prompt tokens by model, empty key for unknown',
    output_by_model  Map(LowCardinality(String), UInt64) COMMENT 'Completion tokens by model, empty key for unknown',
    version         UInt64               COMMENT 'When the sealer began to read raw rows, microseconds since the epoch'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(interval_start)
ORDER BY (bot_id, interval_start)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;
