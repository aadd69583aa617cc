-- Aggregates of bot_requests: what agents hold of open intervals (cells), and what the sealer wrote from raw rows (15m, 1d).
--
-- Sets of IPs and conversations hold the 64-bit hash of each (sipHash64), which cannot be compressed and is most of what
-- rollups take on disk. Two that share one count as one: of a million, one is missed in 37 million sets.

-- One row per bot, open interval, topic epoch and partition. A worker writes a cell's whole counts again with every flush:
-- the snapshot with the greatest last_offset holds, so writing one twice, or an older one late, changes nothing. Sets are
-- united, so each flush adds only what it has seen. The maps of a snapshot are one text: a cell is written far more often than
-- read, and to parse and merge one string costs the store a quarter of what maps cost.
-- ORDER BY: readers take one bot's recent intervals; epoch and partition complete the key that snapshots are merged by.
-- Cells of sealed intervals are read by nobody and go after a week.
CREATE TABLE IF NOT EXISTS footfall.bot_requests_cells
(
    bot_id         String,
    interval_ms    Int64 EPHEMERAL,
    interval_start DateTime64(3, 'UTC') DEFAULT fromUnixTimestamp64Milli(interval_ms, 'UTC') COMMENT 'Start of 15 minutes',
    epoch          UUID,
    partition      UInt32,
    snapshot       SimpleAggregateFunction(max, Tuple(
                       last_offset UInt64, requests UInt64, last_request_ms Int64, dimensions String, is_closed UInt8))
                   COMMENT 'All counts as of last_offset; dimensions: requests by_endpoint, by_country, by_browser and by_client_class, as JSON; closed: too many values, the sealer has to count',
    ips_in         Array(String) EPHEMERAL,
    ips            AggregateFunction(uniqExact, UInt64) DEFAULT arrayReduce('uniqExactState', arrayMap(ip -> sipHash64(ip), ips_in)) COMMENT 'Distinct caller IPs',
    chats_in       Array(String) EPHEMERAL,
    chats          AggregateFunction(uniqExact, UInt64) DEFAULT arrayReduce('uniqExactState', arrayMap(chat -> sipHash64(chat), chats_in)) COMMENT 'Distinct conversations'
)
ENGINE = AggregatingMergeTree
ORDER BY (bot_id, interval_start, epoch, partition)
TTL toDateTime(interval_start) + INTERVAL 7 DAY
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

-- One sealed row per bot and interval, over all partitions, with the dimensions inside: a row per dimension would be more
-- rows than raw. The greatest version (when the sealer began to read raw, in microseconds) holds.
-- ORDER BY: readers sum one bot's intervals in time order. Granules are small because a bot's range is.
CREATE TABLE IF NOT EXISTS footfall.bot_requests_15m
(
    bot_id          String               COMMENT 'The bot',
    interval_start  DateTime64(3, 'UTC') COMMENT 'Start of 15 minutes',
    requests        UInt64               COMMENT 'Requests',
    last_request    DateTime64(3, 'UTC') COMMENT 'Greatest event time',
    by_endpoint     Map(LowCardinality(String), UInt64) COMMENT 'Requests by endpoint',
    by_country      Map(LowCardinality(String), UInt64) COMMENT 'Requests by country, empty key for unknown',
    by_browser      Map(LowCardinality(String), UInt64) COMMENT 'Requests by browser, empty key for unknown',
    by_client_class Map(LowCardinality(String), UInt64) COMMENT 'Requests by client class, empty key for unknown',
    ips             AggregateFunction(uniqExact, UInt64) COMMENT 'Distinct caller IPs; absent ones are not counted',
    chats           AggregateFunction(uniqExact, UInt64) COMMENT 'Distinct conversations; absent ones are not counted',
    version         UInt64               COMMENT 'When the sealer began to read raw rows, microseconds since the epoch'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(interval_start)
ORDER BY (bot_id, interval_start)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;

-- One row per bot and UTC day, from its sealed intervals: the inside of long ranges. Same shape, same rules.
CREATE TABLE IF NOT EXISTS footfall.bot_requests_1d
(
    bot_id          String               COMMENT 'The bot',
    interval_start  DateTime64(3, 'UTC') COMMENT 'Start of the UTC day',
    requests        UInt64               COMMENT 'Requests',
    last_request    DateTime64(3, 'UTC') COMMENT 'Greatest event time',
    by_endpoint     Map(LowCardinality(String), UInt64) COMMENT 'Requests by endpoint',
    by_country      Map(LowCardinality(String), UInt64) COMMENT 'Requests by country, empty key for unknown',
    by_browser      Map(LowCardinality(String), UInt64) COMMENT 'Requests by browser, empty key for unknown',
    by_client_class Map(LowCardinality(String), UInt64) COMMENT 'Requests by client class, empty key for unknown',
    ips             AggregateFunction(uniqExact, UInt64) COMMENT 'Distinct caller IPs; absent ones are not counted',
    chats           AggregateFunction(uniqExact, UInt64) COMMENT 'Distinct conversations; absent ones are not counted',
    version         UInt64               COMMENT 'When the sealer began to read raw rows, microseconds since the epoch'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYear(interval_start)
ORDER BY (bot_id, interval_start)
SETTINGS index_granularity = 1024, non_replicated_deduplication_window = 1000;
