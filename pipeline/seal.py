"""The sealer: write each interval's rollup from deduplicated raw rows, the one authority.

Runs in the worker that holds partition 0 of a topic, since the work is the store's and not the worker's. Two at once,
a repeat, or one that dies half-way change nothing: a rollup's version is the store's clock before raw was read, and
the greatest holds.
"""

from __future__ import annotations

from clickhouse import sealing
from clickhouse.client import Store
from pipeline import metrics
from pipeline.window import AHEAD_MS, GRACE_MS, SLACK_MS, interval_start
from schemas.topics import Topic

SETTLED_MS = 1_000
GUARD_MS = 45_000
"""An interval touched by a row is sealed again at every pass until the first of these is over, and once when the second
is: a row that was given its time of ingestion earlier may have become readable only then."""
LOOK_BACK_MS = 2 * GUARD_MS
"""How far before the last pass rows are looked for."""
MAX_INTERVALS = 5_000
"""As many are sealed by one statement; bounds its time and the store's memory."""


async def seal(store: Store, topic: Topic, *, partitions: int) -> bool:
    """One pass: seal what is due, and say how far every reader can see. Raises StoreError.

    `partitions` is how many the topic has. True: the pass came to its end.
    """
    last = await sealing.last_pass(store, topic)
    # Before the clock is read: what was durable then was ingested before this pass began, and it makes it visible.
    data_as_of_ms = await sealing.caught_up_through_ms(store, topic, partitions=partitions)
    began = await sealing.clock_us(store)
    due_before_ms = interval_start(began // 1000 - GRACE_MS)
    if topic in sealing.SEALED_TOPICS:
        await _seal_due(store, topic, last, began=began, due_before_ms=due_before_ms)
    await sealing.complete(
        store, topic, version=began, due_before_ms=due_before_ms, data_as_of_ms=data_as_of_ms
    )
    return True


async def _seal_due(
    store: Store, topic: Topic, last: sealing.LastPass, *, began: int, due_before_ms: int
) -> None:
    """Seal the intervals that are due, so many at a time; then the days that they belong to."""
    entries = await sealing.find(
        store,
        topic,
        began=began,
        touched_from_ms=last.version // 1000 - LOOK_BACK_MS,
        due_from_ms=last.provisional_from_ms,
        due_before_ms=due_before_ms,
        open_until_ms=began // 1000 + AHEAD_MS - SLACK_MS,
        settled_us=SETTLED_MS * 1000,
        guard_us=GUARD_MS * 1000,
    )
    for offset in range(1, entries, MAX_INTERVALS):  # the first is no interval
        await sealing.seal_intervals(store, topic, version=began, offset=offset, limit=MAX_INTERVALS)
        metrics.SEALED_INTERVALS.labels(topic=topic).inc(min(MAX_INTERVALS, entries - offset))
    # Also of what an earlier pass queued and did not come to.
    await sealing.seal_days(store, topic, last, version=began, due_before_ms=due_before_ms)
