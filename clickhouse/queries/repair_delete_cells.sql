-- Delete the cells of intervals that are due and that no raw row stands behind. Rewrites parts of cells, reads a week's raw rows.
ALTER TABLE footfall.{cells:Identifier}
DELETE WHERE interval_start < fromUnixTimestamp64Milli({due_ms:Int64}, 'UTC')
  AND (bot_id, toUnixTimestamp64Milli(interval_start)) NOT IN
  (
      SELECT bot_id, intDiv(toUnixTimestamp64Milli(event_time), 900000) * 900000
      FROM footfall.{raw:Identifier}
      WHERE event_time >= (SELECT min(interval_start) FROM footfall.{cells:Identifier})
  )
SETTINGS mutations_sync = 2
