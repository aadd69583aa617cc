-- Half the bytes on disk: how columns are compressed, from the next part or merge on. What every filter reads (endpoint, country,
-- browser, client class, source, model) keeps the faster LZ4, and so do days' sets, which are hashes and cannot be compressed.
-- Identifiers in hexadecimal take 16 bytes in place of 30; ascending times and offsets are stored as differences.
ALTER TABLE footfall.bot_requests
    MODIFY COLUMN IF EXISTS event_time    CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS event_id      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS chat_id       CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS ip            CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS region        CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS city          CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS timezone      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS page_url      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS user_agent    CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS source_offset CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS record_time   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS ingested_at   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS version       CODEC(ZSTD(1));

ALTER TABLE footfall.token_usages
    MODIFY COLUMN IF EXISTS event_time    CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS event_id      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS input_tokens  CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS output_tokens CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS chat_id       CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS cached_input_tokens     CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS reasoning_output_tokens CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS source_offset CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS record_time   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS ingested_at   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS version       CODEC(ZSTD(1));

ALTER TABLE footfall.bot_feedback
    MODIFY COLUMN IF EXISTS event_time    CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS event_id      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS chat_id       CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS message_id    CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS source_offset CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS record_time   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS ingested_at   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS version       CODEC(ZSTD(1));

ALTER TABLE footfall.bot_requests_15m
    MODIFY COLUMN IF EXISTS interval_start  CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS requests        CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS last_request    CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_endpoint     CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_country      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_browser      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_client_class CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS ips             CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS chats           CODEC(ZSTD(1));

ALTER TABLE footfall.bot_requests_1d
    MODIFY COLUMN IF EXISTS last_request    CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_endpoint     CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_country      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_browser      CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS by_client_class CODEC(ZSTD(1));

ALTER TABLE footfall.token_usages_15m
    MODIFY COLUMN IF EXISTS interval_start   CODEC(Delta, ZSTD(1)),
    MODIFY COLUMN IF EXISTS usages           CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS input_tokens     CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS output_tokens    CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS usages_by_source CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS input_by_source  CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS output_by_source CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS usages_by_model  CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS input_by_model   CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS output_by_model  CODEC(ZSTD(1));

ALTER TABLE footfall.token_usages_1d
    MODIFY COLUMN IF EXISTS usages_by_source CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS input_by_source  CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS output_by_source CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS usages_by_model  CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS input_by_model   CODEC(ZSTD(1)),
    MODIFY COLUMN IF EXISTS output_by_model  CODEC(ZSTD(1));
