-- The contract for downstream services: deduplicated, commented, stable. A breaking change is a footfall_v2 beside it.

CREATE VIEW IF NOT EXISTS footfall_v1.bot_requests
(
    bot_id String COMMENT 'The bot',
    event_time DateTime64(3, 'UTC') COMMENT 'The producer''s clock',
    event_id String COMMENT 'The producer''s identifier of the event',
    endpoint LowCardinality(String) COMMENT 'Integration surface',
    chat_id String COMMENT 'Conversation, empty when absent',
    ip String COMMENT 'Caller: dotted IPv4 or RFC 5952 IPv6, empty when absent',
    country LowCardinality(String) COMMENT 'ISO 3166-1 code of the geo database, empty when unknown',
    region String COMMENT 'First subdivision, English, empty when unknown',
    city String COMMENT 'City, English, empty when unknown',
    browser LowCardinality(String) COMMENT 'Browser family, empty when unknown',
    client_class LowCardinality(String) COMMENT 'person, crawler or api_client; empty when unknown',
    timezone String COMMENT 'As the producer said it, empty when absent',
    page_url String COMMENT 'Page that the call came from, cut at 2 kB, empty when absent',
    user_agent String COMMENT 'Raw user agent, cut at 1 kB, empty when absent',
    geo_built_at DateTime('UTC') COMMENT 'Build date of the geo database used, 1970-01-01 for none',
    source_topic String COMMENT 'Kafka topic the event came from, prefix included',
    source_epoch UUID COMMENT 'Topic epoch: changes when the topic is made anew',
    source_partition UInt32 COMMENT 'Kafka partition',
    source_offset UInt64 COMMENT 'Kafka offset',
    record_time DateTime64(3, 'UTC') COMMENT 'The Kafka record''s own timestamp',
    ingested_at DateTime64(3, 'UTC') COMMENT 'When the store took the row, by its own clock',
    version UInt128 COMMENT 'Row version: the greatest is the earliest copy'
)
AS SELECT
    bot_id, event_time, event_id, endpoint, chat_id, ip, country, region, city, browser, client_class, timezone, page_url, user_agent, geo_built_at, source_topic, source_epoch, source_partition, source_offset, record_time, ingested_at, version
FROM footfall.bot_requests FINAL
COMMENT 'One row per request to a bot, deduplicated';

CREATE VIEW IF NOT EXISTS footfall_v1.token_usages
(
    bot_id String COMMENT 'The bot',
    event_time DateTime64(3, 'UTC') COMMENT 'The producer''s clock',
    event_id String COMMENT 'The producer''s identifier of the event',
    source LowCardinality(String) COMMENT 'What the tokens were used for: chat, fs_chat, responses, ticket_summary, ...',
    input_tokens UInt64 COMMENT 'Prompt tokens',
    output_tokens UInt64 COMMENT 'Completion tokens',
    model LowCardinality(String) COMMENT 'Model, empty when absent',
    provider LowCardinality(String) COMMENT 'Provider, empty when absent',
    chat_id String COMMENT 'Conversation, empty when absent',
    cached_input_tokens Nullable(UInt64) COMMENT 'Part of the input as the producer breaks it down; never added to totals',
    reasoning_output_tokens Nullable(UInt64) COMMENT 'Part of the output as the producer breaks it down; never added to totals',
    source_topic String COMMENT 'Kafka topic the event came from, prefix included',
    source_epoch UUID COMMENT 'Topic epoch: changes when the topic is made anew',
    source_partition UInt32 COMMENT 'Kafka partition',
    source_offset UInt64 COMMENT 'Kafka offset',
    record_time DateTime64(3, 'UTC') COMMENT 'The Kafka record''s own timestamp',
    ingested_at DateTime64(3, 'UTC') COMMENT 'When the store took the row, by its own clock',
    version UInt128 COMMENT 'Row version: the greatest is the earliest copy'
)
AS SELECT
    bot_id, event_time, event_id, source, input_tokens, output_tokens, model, provider, chat_id, cached_input_tokens, reasoning_output_tokens, source_topic, source_epoch, source_partition, source_offset, record_time, ingested_at, version
FROM footfall.token_usages FINAL
COMMENT 'One row per model call, deduplicated';

CREATE VIEW IF NOT EXISTS footfall_v1.bot_feedback
(
    bot_id String COMMENT 'The bot',
    event_time DateTime64(3, 'UTC') COMMENT 'The producer''s clock',
    event_id String COMMENT 'The producer''s identifier of the event',
    rating LowCardinality(String) COMMENT 'positive, negative or none (withdrawn)',
    chat_id String COMMENT 'Conversation, empty when absent',
    message_id String COMMENT 'The message voted on; empty: the vote is its own message',
    endpoint LowCardinality(String) COMMENT 'Integration surface, empty when absent',
    source_topic String COMMENT 'Kafka topic the event came from, prefix included',
    source_epoch UUID COMMENT 'Topic epoch: changes when the topic is made anew',
    source_partition UInt32 COMMENT 'Kafka partition',
    source_offset UInt64 COMMENT 'Kafka offset',
    record_time DateTime64(3, 'UTC') COMMENT 'The Kafka record''s own timestamp',
    ingested_at DateTime64(3, 'UTC') COMMENT 'When the store took the row, by its own clock',
    version UInt128 COMMENT 'Row version: the greatest is the earliest copy'
)
AS SELECT
    bot_id, event_time, event_id, rating, chat_id, message_id, endpoint, source_topic, source_epoch, source_partition, source_offset, record_time, ingested_at, version
FROM footfall.bot_feedback FINAL
COMMENT 'One row per vote, deduplicated; of the votes on one (bot_id, chat_id, message_id) the one with the greatest (event_time, event_id) holds';

-- Sealed intervals as the sealer wrote them; of those not yet sealed what the workers hold. Cells are few and recent, so
-- the intervals to leave out are looked up among theirs alone.
CREATE VIEW IF NOT EXISTS footfall_v1.bot_requests_15m
(
    bot_id String COMMENT 'The bot',
    interval_start DateTime64(3, 'UTC') COMMENT 'Start of the 15 minutes, UTC',
    requests UInt64 COMMENT 'Requests in the interval',
    by_endpoint Map(LowCardinality(String), UInt64) COMMENT 'Requests by integration surface',
    by_country Map(LowCardinality(String), UInt64) COMMENT 'Requests by country, empty key for unknown',
    is_sealed UInt8 COMMENT '1 when computed from deduplicated raw rows; 0 while still provisional'
)
AS SELECT bot_id, interval_start, requests, by_endpoint, by_country, 1 AS is_sealed
FROM footfall.bot_requests_15m FINAL
UNION ALL
SELECT bot_id, interval_start, sum(cell.requests) AS requests,
       CAST(sumMap(JSONExtract(cell.dimensions, 'by_endpoint', 'Map(String, UInt64)')), 'Map(LowCardinality(String), UInt64)') AS by_endpoint,
       CAST(sumMap(JSONExtract(cell.dimensions, 'by_country', 'Map(String, UInt64)')), 'Map(LowCardinality(String), UInt64)') AS by_country, 0 AS is_sealed
FROM (SELECT bot_id, interval_start, max(snapshot) AS cell FROM footfall.bot_requests_cells GROUP BY bot_id, interval_start, epoch, partition)
WHERE (bot_id, interval_start) NOT IN (
    SELECT bot_id, interval_start FROM footfall.bot_requests_15m
    WHERE (bot_id, interval_start) IN (SELECT bot_id, interval_start FROM footfall.bot_requests_cells))
GROUP BY bot_id, interval_start
COMMENT 'Requests per bot and 15-minute interval';

CREATE VIEW IF NOT EXISTS footfall_v1.token_usages_15m
(
    bot_id String COMMENT 'The bot',
    interval_start DateTime64(3, 'UTC') COMMENT 'Start of the 15 minutes, UTC',
    usages UInt64 COMMENT 'Model calls in the interval',
    input_tokens UInt64 COMMENT 'Prompt tokens',
    output_tokens UInt64 COMMENT 'Completion tokens',
    input_by_source Map(LowCardinality(String), UInt64) COMMENT 'Prompt tokens by source',
    output_by_source Map(LowCardinality(String), UInt64) COMMENT 'Completion tokens by source',
    input_by_model Map(LowCardinality(String), UInt64) COMMENT 'Prompt tokens by model, empty key for unknown',
    output_by_model Map(LowCardinality(String), UInt64) COMMENT 'Completion tokens by model, empty key for unknown',
    is_sealed UInt8 COMMENT '1 when computed from deduplicated raw rows; 0 while still provisional'
)
AS SELECT bot_id, interval_start, usages, input_tokens, output_tokens,
       input_by_source, output_by_source, input_by_model, output_by_model, 1 AS is_sealed
FROM footfall.token_usages_15m FINAL
UNION ALL
SELECT bot_id, interval_start, sum(cell.usages) AS usages, sum(cell.input_tokens) AS input_tokens,
       sum(cell.output_tokens) AS output_tokens,
       CAST(sumMap(JSONExtract(cell.dimensions, 'input_by_source', 'Map(String, UInt64)')), 'Map(LowCardinality(String), UInt64)') AS input_by_source,
       CAST(sumMap(JSONExtract(cell.dimensions, 'output_by_source', 'Map(String, UInt64)')), 'Map(LowCardinality(String), UInt64)') AS output_by_source,
       CAST(sumMap(JSONExtract(cell.dimensions, 'input_by_model', 'Map(String, UInt64)')), 'Map(LowCardinality(String), UInt64)') AS input_by_model,
       CAST(sumMap(JSONExtract(cell.dimensions, 'output_by_model', 'Map(String, UInt64)')), 'Map(LowCardinality(String), UInt64)') AS output_by_model, 0 AS is_sealed
FROM (SELECT bot_id, interval_start, max(snapshot) AS cell FROM footfall.token_usages_cells GROUP BY bot_id, interval_start, epoch, partition)
WHERE (bot_id, interval_start) NOT IN (
    SELECT bot_id, interval_start FROM footfall.token_usages_15m
    WHERE (bot_id, interval_start) IN (SELECT bot_id, interval_start FROM footfall.token_usages_cells))
GROUP BY bot_id, interval_start
COMMENT 'Model calls and tokens per bot and 15-minute interval';
