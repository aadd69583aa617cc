-- Sets of IPs and conversations become lists of hashes (sipHash64) in place of states of uniqExact. They take half the time to
-- unite, since no set has to be built of each row before, and any client can read them.
-- The bytes of a state end with its members, 8 each.
ALTER TABLE footfall.bot_requests_cells
    ADD COLUMN IF NOT EXISTS ip_hashes   SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)) DEFAULT arrayMap(ip -> sipHash64(ip), ips_in) COMMENT 'sipHash64 of each distinct caller IP' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS chat_hashes SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)) DEFAULT arrayMap(chat -> sipHash64(chat), chats_in) COMMENT 'sipHash64 of each distinct conversation' CODEC(ZSTD(1));
ALTER TABLE footfall.bot_requests_15m
    ADD COLUMN IF NOT EXISTS ip_hashes   Array(UInt64) COMMENT 'sipHash64 of each distinct caller IP; absent ones are not counted' CODEC(ZSTD(1)) AFTER by_client_class,
    ADD COLUMN IF NOT EXISTS chat_hashes Array(UInt64) COMMENT 'sipHash64 of each distinct conversation; absent ones are not counted' CODEC(ZSTD(1)) AFTER ip_hashes;
ALTER TABLE footfall.bot_requests_1d
    ADD COLUMN IF NOT EXISTS ip_hashes   Array(UInt64) COMMENT 'sipHash64 of each distinct caller IP; absent ones are not counted' CODEC(ZSTD(1)) AFTER by_client_class,
    ADD COLUMN IF NOT EXISTS chat_hashes Array(UInt64) COMMENT 'sipHash64 of each distinct conversation; absent ones are not counted' CODEC(ZSTD(1)) AFTER ip_hashes;

ALTER TABLE footfall.bot_requests_cells
    UPDATE ip_hashes   = reinterpret(right(CAST(ips, 'String'), 8 * finalizeAggregation(ips)), 'Array(UInt64)'),
           chat_hashes = reinterpret(right(CAST(chats, 'String'), 8 * finalizeAggregation(chats)), 'Array(UInt64)')
    WHERE empty(ip_hashes) AND empty(chat_hashes)
    SETTINGS mutations_sync = 2;
ALTER TABLE footfall.bot_requests_15m
    UPDATE ip_hashes   = reinterpret(right(CAST(ips, 'String'), 8 * finalizeAggregation(ips)), 'Array(UInt64)'),
           chat_hashes = reinterpret(right(CAST(chats, 'String'), 8 * finalizeAggregation(chats)), 'Array(UInt64)')
    WHERE empty(ip_hashes) AND empty(chat_hashes)
    SETTINGS mutations_sync = 2;
ALTER TABLE footfall.bot_requests_1d
    UPDATE ip_hashes   = reinterpret(right(CAST(ips, 'String'), 8 * finalizeAggregation(ips)), 'Array(UInt64)'),
           chat_hashes = reinterpret(right(CAST(chats, 'String'), 8 * finalizeAggregation(chats)), 'Array(UInt64)')
    WHERE empty(ip_hashes) AND empty(chat_hashes)
    SETTINGS mutations_sync = 2;
