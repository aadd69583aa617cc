-- Whether a bot has any event in any topic. Reads the first granule of its key in each raw table.
SELECT count() > 0
FROM
(
    SELECT 1 FROM footfall.bot_requests WHERE bot_id = {bot:String} LIMIT 1
    UNION ALL
    SELECT 1 FROM footfall.token_usages WHERE bot_id = {bot:String} LIMIT 1
    UNION ALL
    SELECT 1 FROM footfall.bot_feedback WHERE bot_id = {bot:String} LIMIT 1
)
