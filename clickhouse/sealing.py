"""The sealer's work in the store: find what has to be sealed, seal it from raw rows, say so."""

from __future__ import annotations

from dataclasses import dataclass

from clickhouse.client import Store, sql
from schemas.topics import Topic

SEALED_TOPICS = (Topic.BOT_REQUESTS, Topic.TOKEN_USAGES)
"""Feedback has no rollup."""


@dataclass(frozen=True, kw_only=True)
class LastPass:
    """The last complete pass over a topic."""

    version: int
    """When it began, by the store's clock in microseconds since the epoch; 0: there was none."""
    provisional_from_ms: int


async def clock_us(store: Store) -> int:
    """The store's clock, microseconds since the epoch."""
    return int((await store.rows(sql("store_now")))[0][0])


async def last_pass(store: Store, topic: Topic) -> LastPass:
    """The last complete pass over a topic."""
    rows = await store.rows(sql("last_seal_pass"), {"topic": topic.value})
    version, provisional_from_ms = rows[0] if rows else (0, 0)
    return LastPass(version=version, provisional_from_ms=provisional_from_ms)


async def caught_up_through_ms(store: Store, topic: Topic, *, partitions: int) -> int:
    """Through when all `partitions` of a topic have been consumed; 0 as long as not all of them have been once."""
    parameters = {"topic": topic.value, "partitions": partitions}
    return int((await store.rows(sql("progress_of_topic"), parameters))[0][0])


async def find(
    store: Store,
    topic: Topic,
    *,
    began: int,
    touched_from_ms: int,
    due_from_ms: int,
    due_before_ms: int,
    open_until_ms: int,
    settled_us: int,
    guard_us: int,
) -> int:
    """Queue, under its beginning, the intervals that a pass that `began` then has to seal.

    Returns how many entries it has there: of no bot the first, which is not to be sealed, and the intervals.
    """
    await store.command(
        sql("seal_find"),
        {
            "topic": topic.value,
            "raw": topic.value,
            "cells": f"{topic}_cells",
            "rollup": f"{topic}_15m",
            "began": began,
            "touched_from_ms": touched_from_ms,
            "due_from_ms": due_from_ms,
            "due_before_ms": due_before_ms,
            "open_until_ms": open_until_ms,
            "settled_us": settled_us,
            "guard_us": guard_us,
        },
    )
    return int((await store.rows(sql("seal_queued"), {"topic": topic.value, "version": began}))[0][0])


async def seal_intervals(store: Store, topic: Topic, *, version: int, offset: int, limit: int) -> None:
    """Compute from raw rows `limit` of the intervals queued under `version`, those after `offset` others."""
    parameters = {"version": version, "offset": offset, "limit": limit}
    await store.command(sql(f"seal_15m_{topic}"), parameters)


async def seal_days(store: Store, topic: Topic, last: LastPass, *, version: int, due_before_ms: int) -> None:
    """Compute the days that were touched or came due after the last pass, as far as they are over."""
    await store.command(
        sql(f"seal_1d_{topic}"),
        {
            "last_version": last.version,
            "last_due_before_ms": last.provisional_from_ms,
            "version": version,
            "due_before_ms": due_before_ms,
        },
    )


async def complete(
    store: Store, topic: Topic, *, version: int, due_before_ms: int, data_as_of_ms: int
) -> None:
    """Say that the pass under `version` is complete, unless the store has lost what it queued."""
    await store.command(
        sql("seal_complete"),
        {
            "topic": topic.value,
            "version": version,
            "has_queued": topic in SEALED_TOPICS,
            "due_before_ms": due_before_ms,
            "data_as_of_ms": data_as_of_ms,
        },
    )
