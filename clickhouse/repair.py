"""What `footfall audit --repair` does to the store. Each may be repeated, and raises `StoreError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clickhouse import sealing
from clickhouse.audit import Source
from clickhouse.client import Store, sql
from schemas.topics import Topic

AT_ONCE: Final = 100
"""As many offsets or intervals are named by one statement."""


async def boundaries(
    store: Store, source: Source, *, offset: int, beginning: int
) -> tuple[int | None, int | None]:
    """Ends of ledger rows: the last at or before `offset`, and the first at or after `beginning`."""
    parameters = {**source._asdict(), "offset": offset, "beginning": beginning}
    [(before, after)] = await store.rows(sql("repair_boundaries"), parameters)
    return before, after


async def put_back(store: Store, source: Source, *, position: int) -> None:
    """Let a partition be consumed again from `position` on."""
    await store.command(sql("repair_put_back"), {**source._asdict(), "position": position})


async def delete_foreign_rows(store: Store, topic: Topic, source: Source, *, offsets: Sequence[int]) -> None:
    """Delete the rows at these offsets that are not the event that the ledger has there."""
    parameters = {"raw": topic.value, **source._asdict(), "offsets": list(offsets)}
    await store.command(sql("repair_delete_foreign_rows"), parameters)


async def seal_anew(
    store: Store,
    topic: Topic,
    *,
    tier: str,
    width_ms: int,
    from_ms: int,
    to_ms: int,
    pairs: Sequence[tuple[str, int]],
    due_ms: int,
    at_once: int,
) -> None:
    """Compute rollups from raw rows: of these (bot, start) or, where none is named, of all that begin in the range."""
    version = await sealing.clock_us(store)
    parameters = {
        "topic": topic.value,
        "raw": topic.value,
        "rollup": f"{topic}_{tier}",
        "version": version,
        "width_ms": width_ms,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "pairs": list(pairs),
        "due_ms": due_ms,
    }
    await store.command(sql("repair_queue"), parameters)
    await store.command(sql("repair_delete_later"), parameters)
    if tier == "15m":
        [(found,)] = await store.rows(sql("seal_queued"), {"topic": topic.value, "version": version})
        for offset in range(0, found, at_once):
            await sealing.seal_intervals(store, topic, version=version, offset=offset, limit=at_once)
    queued = sealing.LastPass(version=version - 1, provisional_from_ms=due_ms)
    # A version of their own: a worker's pass, begun since, may have computed the days while intervals were still wrong.
    days_version = await sealing.clock_us(store)
    await sealing.seal_days(store, topic, queued, version=days_version, due_before_ms=due_ms)


async def delete_rollups_without_rows(
    store: Store, topic: Topic, *, tier: str, width_ms: int, from_ms: int, to_ms: int
) -> None:
    """Delete the rollups of a month that no raw row stands behind."""
    parameters = {
        "raw": topic.value,
        "rollup": f"{topic}_{tier}",
        "width_ms": width_ms,
        "from_ms": from_ms,
        "to_ms": to_ms,
    }
    await store.command(sql("repair_delete_rollups"), parameters)


async def delete_stale_cells(store: Store, topic: Topic, *, due_ms: int) -> None:
    """Delete the cells of intervals that are due and that no raw row stands behind."""
    parameters = {"raw": topic.value, "cells": f"{topic}_cells", "due_ms": due_ms}
    await store.command(sql("repair_delete_cells"), parameters)
