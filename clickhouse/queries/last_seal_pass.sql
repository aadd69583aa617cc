-- When the last complete pass over a topic began, and from where on intervals were not due then. Reads seal_passes.
SELECT version, toUnixTimestamp64Milli(provisional_from)
FROM footfall.seal_passes FINAL
WHERE topic = {topic:String}
