"""What workers write: rows, cells, dead letters, the ledger, progress; and what they read when they take over."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from clickhouse.client import Store, sql
from schemas import bot_feedback, bot_request, token_usage
from schemas.dead_letter import DeadLetter
from schemas.gap import GapReason
from schemas.topics import Topic

RAW_COLUMNS: dict[Topic, Sequence[str]] = {
    Topic.BOT_REQUESTS: bot_request.COLUMNS,
    Topic.TOKEN_USAGES: token_usage.COLUMNS,
    Topic.BOT_FEEDBACK: bot_feedback.COLUMNS,
}
CELL_COLUMNS: dict[Topic, Sequence[str]] = {
    Topic.BOT_REQUESTS: ("bot_id", "interval_ms", "epoch", "partition", "snapshot", "ips_in", "chats_in"),
    Topic.TOKEN_USAGES: ("bot_id", "interval_ms", "epoch", "partition", "snapshot"),
}
"""Feedback has no rollup, so no cells."""
CELL_DIMENSIONS: dict[Topic, Sequence[str]] = {
    Topic.BOT_REQUESTS: ("by_endpoint", "by_country", "by_browser", "by_client_class"),
    Topic.TOKEN_USAGES: (
        *("usages_by_source", "input_by_source", "output_by_source"),
        *("usages_by_model", "input_by_model", "output_by_model"),
    ),
}
"""The maps of a snapshot, which stand between its numbers and whether it is closed; one JSON text in the store."""


class Gap(NamedTuple):
    """Offsets `[first_offset, next_offset)` that were not there to be read."""

    first_offset: int
    next_offset: int
    reason: GapReason


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One flush of one partition; see the table `ledger` for each field."""

    topic: str
    epoch: str
    partition: int
    next_offset: int
    position: int
    first_offset: int
    last_offset: int
    records: int = 0
    events: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    late: int = 0
    worker: str
    offsets: Sequence[int] = ()
    """Of the valid events, in order; then what makes up the identity of each."""
    bots_in: Sequence[str] = ()
    times_in: Sequence[int] = ()
    ids_in: Sequence[str] = ()
    gaps: Sequence[Gap] = ()


class UnreadTail(NamedTuple):
    """Offsets `[position, end)` of a topic's earlier life."""

    epoch: str
    partition: int
    position: int
    end: int


_AHEAD_MS = 20 * 60_000
"""An event may be ahead of its record by a few minutes: it is ingested before its interval begins."""


async def positions(store: Store, *, topic: str, epoch: str, partitions: Iterable[int]) -> dict[int, int]:
    """Where each partition resumes; those of which nothing was written are absent."""
    parameters = {"topic": topic, "epoch": epoch, "partitions": sorted(partitions)}
    return dict(await store.rows(sql("ledger_positions"), parameters))


async def write_entries(store: Store, entries: Sequence[LedgerEntry], *, origin: str) -> None:
    """Append to the ledger."""
    rows = [msgspec.structs.astuple(entry) for entry in entries]
    await store.insert("footfall.ledger", LedgerEntry.__struct_fields__, rows, origin=origin)


async def write_rows(store: Store, topic: Topic, rows: Sequence[Sequence[Any]], *, origin: str) -> None:
    """Write raw rows, all of one month."""
    await store.insert(f"footfall.{topic}", RAW_COLUMNS[topic], rows, origin=origin)


async def write_cells(store: Store, topic: Topic, cells: Sequence[Sequence[Any]], *, origin: str) -> None:
    """Write cells' snapshots."""
    names = CELL_DIMENSIONS[topic]
    rows = [
        (bot_id, start, epoch, partition, _with_text(names, snapshot), *members)
        for bot_id, start, epoch, partition, snapshot, *members in cells
    ]
    await store.insert(f"footfall.{topic}_cells", CELL_COLUMNS[topic], rows, origin=origin)


def _with_text(names: Sequence[str], snapshot: Sequence[Any]) -> tuple[Any, ...]:
    """A snapshot as the store has it."""
    first = -1 - len(names)
    text = msgspec.json.encode(dict(zip(names, snapshot[first:-1], strict=True))).decode()
    return (*snapshot[:first], text, snapshot[-1])


def _with_maps(snapshot: Sequence[Any]) -> tuple[Any, ...]:
    """A snapshot as windows have it."""
    *numbers, text, is_closed = snapshot
    return (*numbers, *msgspec.json.decode(text).values(), is_closed)


async def write_dead_letters(store: Store, letters: Sequence[DeadLetter], *, origin: str) -> None:
    """Write malformed events."""
    columns = (
        *("topic", "epoch", "partition", "offset", "record_ms", "reason", "field"),
        *("key_base64", "value_base64", "value_bytes", "value_sha256"),
    )
    rows = [
        (
            *(
                letter.topic,
                letter.epoch,
                letter.partition,
                letter.offset,
                letter.record_ms,
                letter.reason,
                letter.field,
            ),
            None if letter.key is None else b64encode(letter.key).decode(),
            *(b64encode(letter.value).decode(), letter.value_bytes, letter.value_sha256),
        )
        for letter in letters
    ]
    await store.insert("footfall.dead_letters", columns, rows, origin=origin)


async def write_progress(store: Store, rows: Sequence[tuple[str, str, int, int, int, int]]) -> None:
    """Say how far partitions are consumed: (topic, epoch, partition, caught up through in ms, lag, end of its log)."""
    columns = ("topic", "epoch", "partition", "caught_up_through_ms", "lag", "end_offset")
    await store.insert("footfall.progress", columns, rows, origin="progress")


async def read_progress(store: Store, *, epochs: Sequence[str]) -> dict[tuple[str, int], int]:
    """Caught up through, in ms, by (topic, partition), as workers said last."""
    rows = await store.rows(sql("progress_of_partitions"), {"epochs": epochs})
    return {(topic, partition): caught_up_ms for topic, partition, caught_up_ms in rows}


async def unread_of_other_epochs(store: Store, *, topic: Topic, source: str, epoch: str) -> list[UnreadTail]:
    """What the earlier lives of a topic held, when a worker last looked, that no ledger row covers."""
    parameters = {"topic": topic.value, "source": source, "epoch": epoch}
    return [UnreadTail(*row) for row in await store.rows(sql("unread_of_other_epochs"), parameters)]


async def cut_off(
    store: Store, topic: Topic, *, source: str, epoch: str, first_open_ms: int
) -> list[tuple[str, int, str, int, int]]:
    """(epoch, partition, bot, interval start in ms, last offset) of open intervals' rows that no ledger row covers.

    Those of the topic's earlier lives: nobody can go on with the flushes that wrote them.
    """
    rows = await store.rows(
        sql("cut_off"),
        {
            "raw": topic.value,
            "topic": source,
            "epoch": epoch,
            "first_open_ms": first_open_ms,
            "since_ms": first_open_ms - _AHEAD_MS,
        },
    )
    return [(of, partition, bot_id, start, offset) for of, partition, bot_id, start, offset in rows]


async def open_cells(
    store: Store, topic: Topic, *, epoch: str, partitions: Sequence[int], first_open_ms: int
) -> list[tuple[int, str, int, Sequence[Any]]]:
    """(partition, bot, interval start in ms, snapshot) of the cells from `first_open_ms` on."""
    rows = await store.rows(
        sql(f"open_cells_{topic}"), {"epoch": epoch, "partitions": partitions, "first_open_ms": first_open_ms}
    )
    return [
        (partition, bot_id, start, _with_maps(snapshot)) for partition, bot_id, start, _, *snapshot in rows
    ]


async def recent_identities(
    store: Store,
    topic: Topic,
    *,
    source: str,
    epoch: str,
    partition: int,
    from_offset: int,
    before_offset: int,
    first_open_ms: int,
) -> list[tuple[str, str, int, int]]:
    """(bot, event id, event time in ms, offset) of a partition's events in open intervals, oldest first."""
    rows = await store.rows(
        sql("recent_identities"),
        {
            "raw": topic.value,
            "topic": source,
            "epoch": epoch,
            "partition": partition,
            "from_offset": from_offset,
            "before_offset": before_offset,
            "first_open_ms": first_open_ms,
            "since_ms": first_open_ms - _AHEAD_MS,
        },
    )
    return [(bot_id, event_id, event_ms, offset) for bot_id, event_id, event_ms, offset in rows]


async def identities_of_other_epochs(
    store: Store,
    topic: Topic,
    *,
    source: str,
    epoch: str,
    partitions: Sequence[int],
    span: int,
    first_open_ms: int,
) -> list[tuple[int, str, str, int]]:
    """(partition, bot, event id, event time in ms) of open intervals, flushed from other lives of the topic.

    Of each partition the latest `span`, latest first.
    """
    rows = await store.rows(
        sql("identities_of_other_epochs"),
        {
            "raw": topic.value,
            "topic": source,
            "epoch": epoch,
            "partitions": partitions,
            "span": span,
            "first_open_ms": first_open_ms,
            "since_ms": first_open_ms - _AHEAD_MS,
        },
    )
    return [(partition, bot_id, event_id, event_ms) for partition, bot_id, event_id, event_ms in rows]


async def now_ms(store: Store) -> float:
    """The store's clock, milliseconds since the epoch."""
    return float((await store.rows(sql("store_now")))[0][0]) / 1000
