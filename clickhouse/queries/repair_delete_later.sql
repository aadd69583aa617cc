-- Delete queued intervals' rollups that claim to be later than those that are about to be written. Rewrites parts of rollups.
ALTER TABLE footfall.{rollup:Identifier}
DELETE WHERE version >= {version:UInt64} AND (bot_id, interval_start) IN
    (SELECT bot_id, interval_start FROM footfall.seal_queue WHERE topic = {topic:String} AND version = {version:UInt64})
SETTINGS mutations_sync = 2
