-- The months (UTC) that a table has rows of, how many, and of about how many intervals of one width. Reads two columns of it.
SELECT toYYYYMM({time:Identifier}), count(), uniq(bot_id, intDiv(toUnixTimestamp64Milli({time:Identifier}), {width_ms:Int64}))
FROM footfall.{table:Identifier}
GROUP BY 1
ORDER BY 1
