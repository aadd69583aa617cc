"""Every metric of a worker. Labels are bounded: never a bot, an address or a conversation."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("footfall_records", "Records consumed.", ["topic"])
ROWS_WRITTEN = Counter("footfall_rows_written", "Raw rows written to the store.", ["topic"])
DUPLICATES = Counter(
    "footfall_duplicate_events",
    "Events that the same partition held before, within the memory of open windows.",
    ["topic"],
)
LATE_EVENTS = Counter(
    "footfall_late_events",
    "Events whose interval was not open, or for which windows had no room: the sealer counts them.",
    ["topic"],
)
DEAD_LETTERS = Counter("footfall_dead_letters", "Malformed events, by reason.", ["topic", "reason"])
INVALID_ADDRESSES = Counter(
    "footfall_invalid_addresses", "Values of `ip` that are no address, taken as absent."
)
SKIPPED_RECORDS = Counter(
    "footfall_skipped_records",
    "Records below the ledger's position that the broker delivered again.",
    ["topic"],
)
MISSING_OFFSETS = Counter(
    "footfall_missing_offsets",
    "Offsets that were not there to be read, by reason.",
    ["topic", "reason"],
)
ABANDONED_BATCHES = Counter(
    "footfall_abandoned_batches", "Batches dropped because their partitions were taken away.", ["topic"]
)
CLOSED_CELLS = Gauge(
    "footfall_closed_cells",
    "Open intervals with too many values for a window; the sealer counts them.",
    ["topic"],
)
OPEN_CELLS = Gauge("footfall_open_cells", "Cells of open intervals in memory.", ["topic"])
REMEMBERED_IDENTITIES = Gauge(
    "footfall_remembered_identities", "Events in the memory of duplicates.", ["topic"]
)

FLUSH_SECONDS = Histogram(
    "footfall_flush_seconds",
    "Time to make a batch durable, from its first write to the last.",
    ["topic"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
STORE_ERRORS = Counter(
    "footfall_store_errors", "Failed requests to the store, by ClickHouse's code, or else HTTP's.", ["code"]
)
CONSUMER_LAG = Gauge(
    "footfall_consumer_lag_records", "Records appended and not yet durable.", ["topic", "partition"]
)
SEAL_LAG = Gauge(
    "footfall_seal_lag_seconds",
    "Time since the sealer's last complete pass began; 0 where another worker runs it.",
    ["topic"],
)
SEALED_INTERVALS = Counter(
    "footfall_sealed_intervals", "Intervals written from raw rows, repeats included.", ["topic"]
)
ASSIGNED_PARTITIONS = Gauge(
    "footfall_assigned_partitions", "Partitions that this worker consumes.", ["topic"]
)
GEO_FAILED_LOADS = Counter(
    "footfall_geo_database_failed_loads", "Geo database files that could not be read, each once."
)
GEO_FAILED_LOOKUPS = Counter(
    "footfall_geo_database_failed_lookups", "Lookups for which the geo database turned out to be damaged."
)
GEO_BUILD_TIME = Gauge(
    "footfall_geo_database_build_timestamp_seconds", "Build date of the geo database in use; 0 for none."
)
