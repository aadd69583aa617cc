-- Delete the rollups of a month that no raw row stands behind. Rewrites parts of rollups, reads the month's raw rows.
ALTER TABLE footfall.{rollup:Identifier}
DELETE WHERE interval_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND interval_start < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
  AND (bot_id, toUnixTimestamp64Milli(interval_start)) NOT IN
  (
      SELECT bot_id, intDiv(toUnixTimestamp64Milli(event_time), {width_ms:Int64}) * {width_ms:Int64}
      FROM footfall.{raw:Identifier}
      WHERE event_time >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AND event_time < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
  )
SETTINGS mutations_sync = 2
