-- Whether anything was ever migrated here. Reads system.tables, so neither database nor table has to exist.
SELECT count() FROM system.tables WHERE database = 'footfall' AND name = 'migrations'
