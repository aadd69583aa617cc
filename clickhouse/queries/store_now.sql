-- The store's clock in microseconds since the epoch. Reads nothing.
SELECT toUnixTimestamp64Micro(now64(6, 'UTC'))
