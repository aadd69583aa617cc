"""The flush: what a batch leaves in the store, in one declared order.

Each effect may be repeated for ever without changing the outcome, and the ledger, which says where to resume, is the
last. A crash between any two repeats work; it loses and doubles nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any

from clickhouse import ledger
from clickhouse.client import Store
from pipeline.errors import RestartNeeded
from pipeline.insist import Insistence
from schemas.dead_letter import DeadLetter
from schemas.topics import Topic

QUICK_SECONDS = 2.0
"""In less time nobody puts a store back to an older state without an insert failing."""


@dataclass(frozen=True, kw_only=True)
class Flush:
    """What one batch has to leave behind."""

    topic: Topic
    origin: str
    """Topic, epoch, partitions and offsets."""
    rows: Sequence[tuple[Any, ...]]
    cells: Sequence[tuple[Any, ...]]
    dead_letters: Sequence[DeadLetter]
    entries: Sequence[ledger.LedgerEntry]
    firsts: frozenset[int] = frozenset()
    """Partitions of which the ledger held nothing."""
    is_current: Callable[[], bool] = field(default=lambda: True)


class Sink:
    """Writes flushes to the store, retrying without limit while the store is slow or away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.insist = Insistence("store")

    async def flush(self, flush: Flush) -> None:
        """Make everything in `flush` durable. Raises Abandoned, or RestartNeeded when the ledger has moved."""
        store, topic, origin = self._store, flush.topic, flush.origin
        failures, began = self.insist.failures, monotonic()
        before_the_ledger: list[Callable[[], Awaitable[None]]] = []

        # 1. Dead letters: the key is where each came from, so a repeat replaces itself.
        if flush.dead_letters:
            before_the_ledger.append(
                partial(ledger.write_dead_letters, store, flush.dead_letters, origin=origin)
            )

        # 2. Raw rows, month by month, since an insert over several partitions of a table is not atomic. Copies of
        #    an event replace each other, the earliest holds.
        for month, rows in _by_month(flush.rows).items():
            before_the_ledger.append(
                partial(ledger.write_rows, store, topic, rows, origin=f"{origin}:{month}")
            )

        # 3. Cells: the snapshot with the greatest offset holds, sets are united. After the rows, so that what a
        #    cell counts can always be counted again from raw.
        if flush.cells:
            before_the_ledger.append(partial(ledger.write_cells, store, topic, flush.cells, origin=origin))

        for effect in before_the_ledger:
            await self.insist(effect, flush.is_current)

        # 4. The ledger: from here on nobody reads these records again. Last, so that everything before it is durable.
        async def enter() -> None:
            if self.insist.failures != failures or monotonic() - began > QUICK_SECONDS:
                # A store that was away, perhaps while this process was paused, may have come back in an older state,
                # without rows that it had taken. What it still has it knows by its token.
                for effect in before_the_ledger:
                    await effect()
            if await self._still_to_be_written(flush):
                await ledger.write_entries(store, flush.entries, origin=origin)

        await self.insist(enter, flush.is_current)

    async def _still_to_be_written(self, flush: Flush) -> bool:
        """Whether the ledger ends where these entries begin; not, if a retry finds that they are there already."""
        first = flush.entries[0]
        held = await ledger.positions(
            self._store,
            topic=first.topic,
            epoch=first.epoch,
            partitions=[entry.partition for entry in flush.entries],
        )
        if all(held.get(entry.partition) == entry.next_offset for entry in flush.entries):
            return False
        for entry in flush.entries:
            position = held.get(entry.partition)
            if position != (None if entry.partition in flush.firsts else entry.position):
                raise RestartNeeded(moved(entry.topic, entry.partition, now=position, was=entry.position))
        return True


def moved(topic: str, partition: int, *, now: int | None, was: int) -> str:
    """Why a worker whose partition stood at `was` cannot go on."""
    has = f"has no {topic}/{partition}" if now is None else f"has {topic}/{partition} at {now}"
    why = (
        "another worker has gone on from there"
        if now is not None and now > was
        else "the store was restored to an older state, or the ledger was put back"
    )
    return f"the ledger {has}, and this worker at {was}: {why}"


def _by_month(rows: Sequence[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by the month of their event time, UTC: the partitions of the raw tables."""
    months: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    names: dict[int, str] = {}
    for row in rows:
        day = row[1] // 86_400_000
        name = names.get(day)
        if name is None:
            name = names[day] = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y%m")
        months[name].append(row)
    return months
