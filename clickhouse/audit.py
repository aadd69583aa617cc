"""What an audit asks of the store: offsets by the ledger against rows and dead letters, and rows against rollups.

Every answer is small, whatever the store holds: sums, and a few examples of what is wrong. None of it shares a query
with the worker or the sealer. Instants are integer milliseconds since the epoch. Every function raises `StoreError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from clickhouse.client import Store, sql
from schemas.rollup import INTERVAL_MS
from schemas.topics import Topic

EXAMPLES: Final = 5
"""As many offsets, or intervals, of one kind are named unless told otherwise."""
MAX_HOLES: Final = 1_000
"""As many holes of the ledger, and ranges of unaccounted offsets, are told apart."""


class Source(NamedTuple):
    """A partition of one life of a topic."""

    topic: str
    """Prefix included."""
    epoch: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class Chain(NamedTuple):
    """The ledger's run of a partition: `[first, next)`."""

    source: Source
    first: int
    next: int
    began_ms: int
    """When its first row was written."""
    contradictions: int
    """Rows whose sums do not add up, or that do not list as many events as they count."""
    contradicting: Sequence[int]


class Range(NamedTuple):
    """Offsets `[first, next)` of a partition."""

    source: Source
    first: int
    next: int

    @property
    def offsets(self) -> int:
        """How many they are."""
        return self.next - self.first


class Counts(NamedTuple):
    """What the offsets of a range are."""

    events: int = 0
    dead_letters: int = 0
    without_row: int = 0
    """Events without a row of their own: copies, or lost."""
    without_event: int = 0
    """Rows where the ledger has no event."""
    few_without_event: Sequence[int] = ()
    of_other_events: int = 0
    """Rows of another event than the ledger has there."""
    few_of_other_events: Sequence[int] = ()
    once_refused: int = 0
    """Events of which there is a dead letter too, which another version wrote."""


class Lost(NamedTuple):
    """So many offsets, from the least to the greatest, and a few of them."""

    offsets: int
    least: int
    greatest: int
    few: Sequence[int]


class Held(NamedTuple):
    """Rows that say they came from one partition."""

    rows: int
    least: int
    greatest: int


class Beyond(NamedTuple):
    """Rows of a partition outside its chain."""

    rows: int
    least: int
    greatest: int
    ingested_ms: int
    few: Sequence[tuple[int, str, str]]
    """(offset, bot, event id)"""


class Month(NamedTuple):
    """How much a table has of a month."""

    rows: int
    intervals: int
    """About."""


class Interval(NamedTuple):
    """An interval or day that is not as it should be."""

    start_ms: int
    bot_id: str
    raw: int
    rollup: int
    differences: Sequence[tuple[str, str, int, int, int, int]]
    """(dimension, value, number in raw, in the rollup, sum in raw, in the rollup)"""


class Group(NamedTuple):
    """Intervals of one kind."""

    kind: str
    """`agrees`, `open`, `differs`, `unsealed` or `without_rows`."""
    is_touched: bool
    intervals: int
    rows: int
    few: Sequence[Interval]


# --- offsets


async def chains(store: Store, *, since_ms: int) -> list[Chain]:
    """Every partition's run in the ledger, lives of a topic in their order."""
    rows = await store.rows(sql("audit_chains"), {"since_ms": since_ms, "few": EXAMPLES})
    return [Chain(Source(*row[:3]), *row[3:]) for row in rows]


async def holes(store: Store, *, since_ms: int) -> list[Range]:
    """Offsets within the runs that no row of the ledger covers."""
    rows = await store.rows(sql("audit_holes"), {"since_ms": since_ms, "limit": MAX_HOLES})
    return [Range(Source(*source), first, following) for *source, first, following in rows]


async def gaps(store: Store, *, since_ms: int) -> list[tuple[Source, str, int]]:
    """(partition, reason, how many offsets were not there to be read)."""
    rows = await store.rows(sql("audit_gaps"), {"since_ms": since_ms})
    return [(Source(*source), reason, offsets) for *source, reason, offsets in rows]


async def recreated(store: Store, *, since_ms: int) -> list[Range]:
    """What a topic still held when it was deleted: rows of a write that was cut off then may be there."""
    rows = await store.rows(sql("audit_recreated"), {"since_ms": since_ms})
    return [Range(Source(*source), first, following) for *source, first, following in rows]


async def sources(store: Store, topic: Topic) -> dict[Source, Held]:
    """What raw rows say of where they came from."""
    rows = await store.rows(sql("audit_sources"), {"raw": topic.value})
    return {Source(*row[:3]): Held(*row[3:]) for row in rows}


async def beyond(store: Store, topic: Topic, outside: Range, *, few: int = EXAMPLES) -> Beyond:
    """The raw rows of these offsets, which the ledger does not cover."""
    parameters = {"raw": topic.value, "few": few, **_of(outside)}
    return Beyond(*(await store.rows(sql("audit_beyond"), parameters))[0])


async def offsets(
    store: Store, topic: Topic, ranges: Sequence[Range], *, kept: Sequence[Range], few: int = EXAMPLES
) -> dict[Range, Counts]:
    """What the offsets of these ranges are; of those in `kept` the ledger lists none, and rows may be there."""
    numbers = {one.source: number for number, one in enumerate(ranges)}
    parameters = {
        **_ranges(topic, ranges),
        "few": few,
        "kept": [(numbers[one.source], one.first, one.next) for one in kept if one.source in numbers],
    }
    rows = await store.rows(sql("audit_offsets"), parameters)
    found = {ranges[n]: Counts(*counts) for n, *counts in rows}
    return {one: found.get(one, Counts()) for one in ranges}


async def lost(store: Store, topic: Topic, ranges: Sequence[Range]) -> dict[Range, Lost]:
    """Events of these ranges of which raw has neither their row nor a copy."""
    rows = await store.rows(sql("audit_lost"), {**_ranges(topic, ranges), "few": EXAMPLES})
    return {ranges[n]: Lost(*lost) for n, *lost in rows}


async def unaccounted(store: Store, within: Range, *, holes: Sequence[Range]) -> list[Range]:
    """Offsets that are neither event nor dead letter nor gap nor in one of the holes."""
    parameters = {
        **_of(within),
        "holes": [(hole.first, hole.next) for hole in holes],
        "limit": MAX_HOLES,
    }
    rows = await store.rows(sql("audit_unaccounted"), parameters)
    return [Range(within.source, first, following) for first, following in rows]


async def rows(store: Store, topic: Topic, ranges: Sequence[Range], *, month: int) -> int:
    """How many deduplicated rows of a month are of these ranges."""
    return int((await store.rows(sql("audit_rows"), {**_ranges(topic, ranges), "month": month}))[0][0])


def _of(one: Range) -> dict[str, object]:
    return {**one.source._asdict(), "first": one.first, "next": one.next}


def _ranges(topic: Topic, ranges: Sequence[Range]) -> dict[str, object]:
    return {
        "raw": topic.value,
        "ranges": [(number, *one.source, one.first, one.next) for number, one in enumerate(ranges)],
        "partitions": sorted({one.source.partition for one in ranges}),
        "least": min(one.first for one in ranges),
        "most": max(one.next for one in ranges),
    }


# --- rollups


async def months(store: Store, table: str, *, time: str, width_ms: int = INTERVAL_MS) -> dict[int, Month]:
    """What a table has of each month (202601), copies included."""
    rows = await store.rows(sql("audit_months"), {"table": table, "time": time, "width_ms": width_ms})
    return {month: Month(*sizes) for month, *sizes in rows}


async def intervals(
    store: Store,
    topic: Topic,
    *,
    tier: str,
    width_ms: int,
    from_ms: int,
    to_ms: int,
    buckets: int,
    bucket: int,
    due_ms: int,
    touched_ms: int,
    few: int = EXAMPLES,
) -> list[Group]:
    """The intervals of one tier (`15m`, `1d`) that begin in `[from_ms, to_ms)`, of one of `buckets` parts, by kind.

    One that ends before `due_ms` has to have its rollup; one of which a row was ingested after `touched_ms` may be
    sealed anew just now.
    """
    parameters = {
        "rollup": f"{topic}_{tier}",
        "width_ms": width_ms,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "buckets": buckets,
        "bucket": bucket,
        "due_ms": due_ms,
        "touched_ms": touched_ms,
        "few": few,
    }
    found = await store.rows(sql(f"audit_intervals_{topic}"), parameters)
    return [
        Group(kind, bool(is_touched), intervals, rows, [Interval(*one) for one in some])
        for kind, is_touched, intervals, rows, some in found
    ]


async def doubled(
    store: Store, topic: Topic, *, tier: str, from_ms: int, to_ms: int, few: int = EXAMPLES
) -> tuple[int, list[tuple[int, str]]]:
    """How many intervals have two different rollups of one version; a few as (start, bot)."""
    parameters = {"rollup": f"{topic}_{tier}", "from_ms": from_ms, "to_ms": to_ms, "few": few}
    [(count, some)] = await store.rows(sql("audit_doubled"), parameters)
    return count, some


async def stale_cells(
    store: Store, topic: Topic, *, since_ms: int, due_ms: int, few: int = EXAMPLES
) -> tuple[int, list[tuple[int, str]]]:
    """How many intervals have cells that nothing stands behind and readers count; a few as (start, bot)."""
    parameters = {
        "raw": topic.value,
        "cells": f"{topic}_cells",
        "rollup": f"{topic}_15m",
        "since_ms": since_ms,
        "due_ms": due_ms,
        "few": few,
    }
    [(count, some)] = await store.rows(sql("audit_stale_cells"), parameters)
    return count, some
