-- Which migrations were begun here, and whether each is complete. Reads footfall.migrations.
SELECT version, name, checksum, is_complete
FROM footfall.migrations FINAL
ORDER BY version, checksum
