"""Durability: what a flush takes when ClickHouse brings it to the disk before it answers (`docs/guarantees.md`).

Records go through the stages of a worker in this process and are flushed to an embedded store in another, one flush
after the other, without Kafka. Each variant has a store of its own, new for each run; runs of the variants take turns.
A flush is timed from its first write to its last, as `footfall_flush_seconds` is. The small ones are what a worker
writes that keeps up with 1,000 events a second, the large ones what one writes that is behind.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks import harness, population
from benchmarks.harness import Report, percentile, say, spread
from clickhouse.client import StoreAddress, connect
from pipeline.flow import Flow
from pipeline.geography import Geography
from pipeline.sink import Sink
from schemas.topics import Topic
from tests.builders import EPOCH, FakeAssignment, FakeRecord
from tests.stack import Stack

INSERTS: Final = {"fsync_after_insert": 1, "fsync_part_directory": 1}
MERGES: Final = {"min_rows_to_fsync_after_merge": 1}
VARIANTS: Final[Mapping[str, Mapping[str, int]]] = {
    "ClickHouse's defaults": {},
    "inserts brought to the disk": INSERTS,
    "inserts and merges": INSERTS | MERGES,
}
TABLES: Final = ("bot_requests", "bot_requests_cells", "ledger", "dead_letters")
SMALL, LARGE = 500, 20_000
WARM_UP_FLUSHES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one run: milliseconds that each flush took, and the store's CPU in µs per event."""

    small: Sequence[float]
    large: Sequence[float]
    store_micros: float


class Records:
    """The population's records, in flushes; the same for every run, and each at the next offset of its partition."""

    def __init__(self, events: int) -> None:
        self._records = list(islice(population.records(seed=1), events))
        self._next = 0
        self._offsets: defaultdict[int, int] = defaultdict(int)

    def flush(self, size: int) -> dict[int, list[FakeRecord]]:
        """So many of them, by partition."""
        delivered: defaultdict[int, list[FakeRecord]] = defaultdict(list)
        now_ms = time.time_ns() // 1_000_000
        for record in self._records[self._next : self._next + size]:
            delivered[record.partition].append(
                FakeRecord(offset=self._offsets[record.partition], value=record.value, timestamp=now_ms)
            )
            self._offsets[record.partition] += 1
        self._next += size
        return delivered

    def again(self) -> Records:
        """From the first one on."""
        self._next = 0
        self._offsets.clear()
        return self


async def run(stack: Stack, settings: Mapping[str, int], records: Records, small: int, large: int) -> Cost:
    """Flush so many small and large ones."""
    said = ", ".join(f"{name} = {value}" for name, value in settings.items())
    for table in TABLES if settings else ():
        stack.command(f"ALTER TABLE footfall.{table} MODIFY SETTING {said}")
    async with connect(StoreAddress(url=stack.environment["FOOTFALL_CLICKHOUSE"])) as store:
        flow = Flow(
            Topic.BOT_REQUESTS,
            source="bot_requests",
            store=store,
            sink=Sink(store),
            geography=Geography(None),
            worker="benchmark",
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        await flow.resume(EPOCH, range(population.PARTITIONS), lambda: True)
        assignment = FakeAssignment()

        async def flush(size: int) -> float:
            decoded = flow.decode(assignment.batch(records.flush(size)))
            rows = flow.enrich(decoded)
            cells = flow.window(decoded, rows)
            began = time.monotonic()
            await flow.flush(decoded, rows, cells)
            return (time.monotonic() - began) * 1000

        for _ in range(WARM_UP_FLUSHES):
            await flush(SMALL)
        before = harness.cpu_seconds(stack.store.pid)
        taken = [
            [await flush(size) for _ in range(count)] for size, count in ((SMALL, small), (LARGE, large))
        ]
        cpu = harness.cpu_seconds(stack.store.pid) - before
    return Cost(small=taken[0], large=taken[1], store_micros=cpu / (small * SMALL + large * LARGE) * 1e6)


def bare_fsync_ms(directory: Path) -> list[float]:
    """How long this disk takes for 4 kB and an fsync."""
    taken = []
    for number in range(50):
        with (directory / f"probe-{number}").open("wb") as file:
            file.write(bytes(4096))
            file.flush()
            began = time.monotonic()
            os.fsync(file.fileno())
            taken.append((time.monotonic() - began) * 1000)
    return taken


def main() -> None:
    """The command line."""
    given = harness.arguments(
        __doc__.splitlines()[0], name="durability", runs=3, small_flushes=200, large_flushes=15
    )
    costs: dict[str, list[Cost]] = {name: [] for name in VARIANTS}
    events = (given.small_flushes + WARM_UP_FLUSHES) * SMALL + given.large_flushes * LARGE
    say(f"making {events:,} events")
    records = Records(events)
    with harness.place() as directory:
        bare = bare_fsync_ms(directory)
        for number in range(given.runs):
            for name, settings in VARIANTS.items():
                place = directory / f"{number}-{name[:8].strip()}-{len(settings)}"
                with harness.stored(place, "127.0.0.1:1", name="durability") as stack:
                    cost = asyncio.run(
                        run(stack, settings, records.again(), given.small_flushes, given.large_flushes)
                    )
                costs[name].append(cost)
                say(
                    f"{name}: {spread(cost.small)} ms, {spread(cost.large)} ms, store {cost.store_micros:.1f} µs"
                )
    report = Report(
        name="durability", title="Durability", method=f"{__doc__.strip()}\n\n{population.DESCRIPTION}"
    )
    for size, field in ((SMALL, "small"), (LARGE, "large")):
        flushes = {name: [ms for cost in runs for ms in getattr(cost, field)] for name, runs in costs.items()}
        report.say(f"Flushes of {size:,} records:")
        report.table(
            ["", "flushes", "median ms", "95 % within ms", "events/s, of flushes alone"],
            [
                [
                    name,
                    len(taken),
                    f"{percentile(taken, 0.5):.0f}",
                    f"{percentile(taken, 0.95):.0f}",
                    f"{size * len(taken) / sum(taken) * 1000:,.0f}",
                ]
                for name, taken in flushes.items()
            ],
        )
    report.table(
        ["", "store CPU µs/event"],
        [[name, spread([cost.store_micros for cost in runs])] for name, runs in costs.items()],
    )
    report.say(
        f"4 kB and an fsync take this disk {spread(bare, '{:.2f}')} ms (median, least–greatest of 50)."
    )
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
