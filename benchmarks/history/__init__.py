"""A past for benchmarks: rows that the store makes itself, a day at a time, with their ledger, and the sealer seals.

200 bots over 90 days. Their shares follow a power law (the k-th has k^-0.8 of the first, which comes to a tenth of
all); conversations of five requests within four minutes, begun by visitors who come five times on average, each with an
address, a place and a browser; a model call for every four requests, a vote for every fifty.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import harness
from benchmarks.harness import say
from clickhouse.client import Store, StoreAddress, connect
from clickhouse.migrate import migrate
from pipeline.seal import seal
from schemas.rollup import DAY_MS
from schemas.topics import Topic
from tests.footfall import Footfall
from tests.kafka import free_port

BOTS: Final = 200
DAYS: Final = 90
PARTITIONS: Final = 8
DESCRIPTION: Final = " ".join(__doc__.split("\n\n")[1].split())

_WRITTEN: Final = """
SELECT partition, max(next_offset), countIf(worker = {day:String})
FROM footfall.ledger WHERE topic = {topic:String} GROUP BY partition
"""
_MERGES: Final = "SELECT count() FROM system.merges"
_OVER: Final = """
SELECT DISTINCT table, partition_id
FROM system.parts
WHERE active AND database = 'footfall' AND partition_id < {month:String}
  AND table IN (SELECT name FROM system.tables WHERE engine_full LIKE '%min_age_to_force_merge_on_partition_only = 1%')
ORDER BY table, partition_id
"""
_MERGE: Final = "OPTIMIZE TABLE footfall.{table:Identifier} PARTITION ID {partition_id:String} FINAL"


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What a directory holds: so many requests of the days before `end_ms`."""

    rows: int
    end_ms: int
    first_pass_seconds: Mapping[Topic, float] = {}
    """What the sealer's first pass over each topic took; empty until everything is written and sealed."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A store that runs and holds a past."""

    store: Footfall
    url: str
    past: Past


def bot(rank: int) -> str:
    """The one with the most requests is 0."""
    return f"bot-{rank:03}"


@contextmanager
def held(directory: Path, rows: int) -> Iterator[Held]:
    """A store in `directory` with so many requests, sealed and merged: as it was left there, or written first.

    What was cut off is gone on with.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    note = directory / "past.json"
    if note.exists():
        past = msgspec.json.decode(note.read_bytes(), type=Past)
        assert past.rows == rows, f"{directory} holds {past.rows:,} requests"
    else:
        past = Past(rows=rows, end_ms=int(time.time() * 1000) // DAY_MS * DAY_MS)
        directory.mkdir(parents=True, exist_ok=True)
        note.write_bytes(msgspec.json.encode(past))
    with Footfall(directory, "store", "--data-dir", directory / "data", "--store-port", str(port)) as store:
        store.says("ready")
        past = asyncio.run(_prepared(url, past))
        note.write_bytes(msgspec.json.encode(past))
        harness.wait_until(lambda: not asyncio.run(_merges(url)), seconds=1800, pause=1, what="it merges yet")
        yield Held(store=store, url=url, past=past)
        store.stop()


async def _prepared(url: str, past: Past) -> Past:
    async with connect(StoreAddress(url=url, request_timeout_seconds=3600)) as store:
        await migrate(store)
        if not past.first_pass_seconds:
            async for day in _write(store, rows=past.rows, end_ms=past.end_ms):
                if day % 10 == 0:
                    say(f"{day} of {DAYS} days are written")
            past = msgspec.structs.replace(past, first_pass_seconds=await _sealed(store))
        await _merge(store, end_ms=past.end_ms)
    return past


async def _merge(store: Store, *, end_ms: int) -> None:
    """Do what the store would have done by now, had it lived that long: months that are over are one part each."""
    month = time.strftime("%Y%m", time.gmtime(end_ms // 1000))
    for table, partition_id in await store.rows(_OVER, {"month": month}):
        of = {"table": table, "partition_id": partition_id}
        await store.command(_MERGE, of, settings={"optimize_skip_merged_partitions": 1})


async def _merges(url: str) -> int:
    async with connect(StoreAddress(url=url)) as store:
        return int((await store.rows(_MERGES))[0][0])


async def _sealed(store: Store) -> dict[Topic, float]:
    seconds = {}
    for topic in Topic:
        began = time.monotonic()
        await seal(store, topic, partitions=PARTITIONS)
        seconds[topic] = time.monotonic() - began
        say(f"{topic} is sealed, after {seconds[topic]:.0f} s")
    return seconds


async def _write(store: Store, *, rows: int, end_ms: int) -> AsyncIterator[int]:
    """Write the days that the ledger does not have yet. After each, how many there are.

    A day that was cut off is written again, row by row the same.
    """
    traffic = _sql("traffic")
    for day in range(DAYS):
        start_ms = end_ms - (DAYS - day) * DAY_MS
        for topic in Topic:
            written = await store.rows(_WRITTEN, {"topic": topic.value, "day": f"day {day}"})
            if any(entries for _, _, entries in written):
                continue
            reached = {partition: offset for partition, offset, _ in written}
            given = {
                "start": start_ms,
                "end": end_ms,
                "rows": rows,
                "days": DAYS,
                "bots": BOTS,
                "heads": [reached.get(partition, 0) for partition in range(PARTITIONS)],
            }
            await store.command(_sql(topic).replace("FROM traffic", f"FROM {traffic}"), given)
            await store.command(_sql("ledger"), {**given, "raw": topic.value, "day": f"day {day}"})
        yield day + 1


def _sql(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
