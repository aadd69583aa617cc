-- What 0013 made hashes of, and nobody reads any more.
ALTER TABLE footfall.bot_requests_cells DROP COLUMN IF EXISTS ips, DROP COLUMN IF EXISTS chats;
ALTER TABLE footfall.bot_requests_15m   DROP COLUMN IF EXISTS ips, DROP COLUMN IF EXISTS chats;
ALTER TABLE footfall.bot_requests_1d    DROP COLUMN IF EXISTS ips, DROP COLUMN IF EXISTS chats;
