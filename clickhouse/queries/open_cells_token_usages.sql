-- The cells of open intervals that a worker takes over. Reads the cells of one topic epoch.
SELECT partition, bot_id, toUnixTimestamp64Milli(interval_start), max(snapshot) AS newest,
       newest.last_offset, newest.usages, newest.input_tokens, newest.output_tokens,
       newest.dimensions, newest.is_closed
FROM footfall.token_usages_cells
WHERE interval_start >= fromUnixTimestamp64Milli({first_open_ms:Int64}, 'UTC')
  AND epoch = {epoch:UUID} AND partition IN {partitions:Array(UInt32)}
GROUP BY partition, bot_id, interval_start
