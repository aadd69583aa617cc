"""The flush: the order of its effects, and what it does when the store does not do as asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from clickhouse.client import Store, StoreError
from clickhouse.ledger import LedgerEntry
from pipeline import insist, sink
from pipeline.errors import RestartNeeded, Unavailable
from pipeline.insist import Abandoned
from pipeline.sink import Flush, Sink
from schemas import bot_request
from schemas.dead_letter import DeadLetter, Reason
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, row
from tests.fake_store import Crash, FakeStore, Fault
from tests.model_store import Request

MONTH_MS = 31 * 86_400_000
LEDGER, RAW, CELLS, LETTERS = (
    f"footfall.{name}" for name in ("ledger", "bot_requests", "bot_requests_cells", "dead_letters")
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insist, "FIRST_PAUSE_SECONDS", 0)


def entry(*, position: int = 0, next_offset: int = 3, partition: int = 0) -> LedgerEntry:
    return LedgerEntry(
        topic="bot_requests",
        epoch=EPOCH,
        partition=partition,
        next_offset=next_offset,
        position=position,
        first_offset=position,
        last_offset=next_offset - 1,
        records=next_offset - position,
        events=next_offset - position,
        duplicates=0,
        dead_letters=0,
        late=0,
        worker="w",
    )


def letter() -> DeadLetter:
    return DeadLetter(
        topic="bot_requests",
        epoch=EPOCH,
        partition=0,
        offset=2,
        record_ms=NOW_MS,
        reason=Reason.INVALID_JSON,
        field="",
        key=None,
        value=b"\xff\x00",
        value_bytes=2,
        value_sha256="00",
    )


def request(event_ms: int = NOW_MS, **values: Any) -> tuple[Any, ...]:
    return row(bot_request.COLUMNS, event_ms=event_ms, **values)


def cell() -> tuple[Any, ...]:
    return "bot", 0, EPOCH, 0, (2, 1, NOW_MS, {}, {}, {}, {}, 0), [], []


def full_flush(is_current: Callable[[], bool] = lambda: True, **values: Any) -> Flush:
    given: dict[str, Any] = {
        "rows": [request(), request(NOW_MS + MONTH_MS, source_offset=1)],
        "cells": [cell()],
        "dead_letters": [letter()],
        "entries": [entry()],
        "firsts": frozenset({0}),
        **values,
    }
    return Flush(topic=Topic.BOT_REQUESTS, origin="bot_requests:0@0-2", is_current=is_current, **given)


def sink_of(store: FakeStore) -> Sink:
    return Sink(cast(Store, store))


def flushed(store: FakeStore, flush: Flush) -> None:
    asyncio.run(sink_of(store).flush(flush))


def written(store: FakeStore) -> list[str]:
    return [table for table, _ in store.writes]


EVERYTHING = [LETTERS, RAW, RAW, CELLS, LEDGER]


def test_dead_letters_come_first_then_rows_then_cells_and_the_ledger_last() -> None:
    store = FakeStore()
    flushed(store, full_flush())
    assert written(store) == EVERYTHING


def test_what_is_not_there_is_not_written() -> None:
    store = FakeStore()
    flushed(store, full_flush(rows=[], cells=[], dead_letters=[]))
    assert written(store) == [LEDGER]


def test_a_dead_letter_keeps_its_bytes() -> None:
    store = FakeStore()
    flushed(store, full_flush())
    assert store.dead_letters() == {(0, 2): ("invalid_json", b"\xff\x00")}


def test_every_insert_touches_one_month_however_many_a_batch_spans() -> None:
    store = FakeStore()
    months = 150
    rows = [
        request(NOW_MS + number % months * MONTH_MS, source_offset=number) for number in range(2 * months)
    ]
    flushed(store, full_flush(rows=rows))
    inserts = [block for table, block in store.writes if table == RAW]
    assert len(inserts) > 120
    assert sorted(row["source_offset"] for block in inserts for row in block) == list(range(2 * months))
    for block in inserts:
        assert len({month(row["event_ms"]) for row in block}) == 1


def month(event_ms: int) -> str:
    return f"{datetime.fromtimestamp(event_ms / 1000, UTC):%Y-%m}"


@pytest.mark.parametrize("event_ms", [946_684_800_000, 10_413_705_600_000 - 1])
def test_the_first_and_the_last_month_of_the_calendar_have_a_name(event_ms: int) -> None:
    store = FakeStore()
    flushed(store, full_flush(rows=[request(event_ms)]))
    assert [row["event_ms"] for row in store.tables[RAW]] == [event_ms]


@pytest.mark.parametrize("number", range(len(EVERYTHING)))
@pytest.mark.parametrize("is_applied", [False, True], ids=["refused", "reply lost"])
@pytest.mark.parametrize(
    "error", [StoreError("away"), StoreError("authentication failed", 516), Unavailable("away")]
)
def test_a_failed_write_is_repeated_and_changes_nothing(
    number: int, is_applied: bool, error: Exception
) -> None:
    straight, store = FakeStore(), FakeStore()
    store.faults[number] = Fault(error, is_applied=is_applied)
    flushed(straight, full_flush())
    flushed(store, full_flush())
    assert store.tables == straight.tables
    # It may have come back without what it had: all that comes before the ledger is written again.
    is_in_the_ledger = is_applied and EVERYTHING[number] == LEDGER
    assert written(store) == [
        *EVERYTHING[: number + 1],
        *EVERYTHING[number:-1],
        *(EVERYTHING[:-1] if is_in_the_ledger else EVERYTHING),
    ]


@pytest.mark.parametrize("number", range(len(EVERYTHING)))
def test_a_store_that_comes_back_without_what_it_had_taken_gets_it_again(number: int) -> None:
    """Restored while a flush was on its way, to a state whose ledger stands where the flush begins."""
    straight, store = FakeStore(), Restored(at=number)
    flushed(straight, full_flush())
    flushed(store, full_flush())
    for table, rows in straight.tables.items():
        assert sorted(map(repr, store.tables[table])) == sorted(map(repr, rows))


@pytest.mark.parametrize("number", range(len(EVERYTHING) - 1))
def test_a_process_paused_while_the_store_was_put_back_writes_everything_again(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to an insert had arrived, so that none fails."""
    clock = iter([0.0, sink.QUICK_SECONDS + 1])
    monkeypatch.setattr(sink, "monotonic", lambda: next(clock))
    straight, store = FakeStore(), PutBack(after=number)
    flushed(store, full_flush())
    monkeypatch.undo()
    flushed(straight, full_flush())
    for table, rows in straight.tables.items():
        assert sorted(map(repr, store.tables[table])) == sorted(map(repr, rows))


class PutBack(FakeStore):
    """Has forgotten everything after one write."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self._after = after

    async def serve(self, request: Request) -> None:
        await super().serve(request)
        if len(self.writes) == self._after + 1:
            self.go_back_to_copy()


class Restored(FakeStore):
    """Fails one write, and has forgotten everything when the next one comes."""

    def __init__(self, *, at: int) -> None:
        super().__init__()
        self.faults[at] = Fault()

    async def serve(self, request: Request) -> None:
        if len(self.writes) == min(self.faults) + 1:
            self.go_back_to_copy()
        await super().serve(request)


def test_retries_have_no_limit() -> None:
    store = FakeStore()
    store.faults = dict.fromkeys(range(1, 200), Fault())
    flushed(store, full_flush())
    assert written(store) == [LETTERS, *[RAW] * 200, *EVERYTHING[2:-1], *EVERYTHING]


def test_a_question_that_fails_is_repeated_too() -> None:
    store = FakeStore()
    store.queries_failing = 7
    flushed(store, full_flush())
    assert written(store) == [*EVERYTHING[:-1] * 7, *EVERYTHING]


def test_the_sink_says_what_is_wrong_with_the_store_until_it_no_longer_is() -> None:
    store = FakeStore()
    store.faults[0] = Fault(StoreError("disk full"))
    sink, seen = sink_of(store), list[str | None]()

    def is_current() -> bool:
        seen.append(sink.insist.problem)
        return True

    asyncio.run(sink.flush(full_flush(is_current)))
    assert seen[:3] == [None, "disk full", None]
    assert sink.insist.problem is None


def test_of_an_abandoned_batch_no_problem_stays_behind() -> None:
    store, turns = FakeStore(), iter([True, False])
    store.faults[0] = Fault()
    sink = sink_of(store)
    with pytest.raises(Abandoned):
        asyncio.run(sink.flush(full_flush(lambda: next(turns))))
    assert sink.insist.problem is None


@pytest.mark.parametrize("before", range(len(EVERYTHING)))
def test_a_batch_that_is_not_ours_any_more_is_abandoned_before_its_next_effect(before: int) -> None:
    store, turns = FakeStore(), iter([True] * before + [False] * 10)
    with pytest.raises(Abandoned):
        flushed(store, full_flush(lambda: next(turns)))
    assert written(store) == EVERYTHING[:before]


def test_a_batch_taken_away_while_the_store_is_away_is_abandoned() -> None:
    store, turns = FakeStore(), iter([True] * 5 + [False])
    store.faults = dict.fromkeys(range(100), Fault())
    with pytest.raises(Abandoned):
        flushed(store, full_flush(lambda: next(turns)))
    assert store.tables == {}


def test_the_first_entry_of_a_partition_may_begin_anywhere() -> None:
    store = FakeStore()
    flushed(store, full_flush(entries=[entry(position=700, next_offset=710)]))
    assert store.positions("bot_requests", EPOCH, [0]) == {0: 710}


@pytest.mark.parametrize(
    ("position", "is_first", "why"),
    [
        (2, False, "another worker has gone on"),
        (0, True, "another worker has gone on"),
        (4, False, "restored to an older state"),
    ],
    ids=["behind", "not the first", "beyond"],
)
def test_entries_that_do_not_follow_the_ledger_need_a_restart(
    position: int, is_first: bool, why: str
) -> None:
    store = FakeStore()
    flushed(store, full_flush())
    firsts = frozenset({0} if is_first else ())
    with pytest.raises(RestartNeeded, match=why):
        flushed(store, full_flush(entries=[entry(position=position, next_offset=9)], firsts=firsts))
    assert store.positions("bot_requests", EPOCH, [0]) == {0: 3}


def test_a_store_that_has_forgotten_a_partition_needs_a_restart() -> None:
    store = FakeStore()
    flushed(store, full_flush())
    store.tables = {}
    with pytest.raises(RestartNeeded, match="restored to an older state"):
        flushed(store, full_flush(entries=[entry(position=3, next_offset=9)], firsts=frozenset()))
    assert LEDGER not in store.tables


def test_one_partition_that_does_not_follow_holds_all_entries_back() -> None:
    store = FakeStore()
    flushed(store, full_flush())
    with pytest.raises(RestartNeeded):
        flushed(
            store,
            full_flush(
                entries=[entry(partition=1), entry(partition=0, position=1, next_offset=5)],
                firsts=frozenset({1}),
            ),
        )
    assert store.positions("bot_requests", EPOCH, [0, 1]) == {0: 3}


def test_entries_that_are_in_the_ledger_already_are_not_written_again() -> None:
    store = FakeStore()
    flushed(store, full_flush())
    flushed(store, full_flush())
    assert written(store).count(LEDGER) == 1


def test_a_crash_between_any_two_effects_leaves_the_ledger_behind_them() -> None:
    for number in range(len(EVERYTHING)):
        store = FakeStore()
        store.faults[number] = Fault(Crash())
        with pytest.raises(Crash):
            flushed(store, full_flush())
        assert LEDGER not in store.tables
        assert list(store.tables) == list(dict.fromkeys(EVERYTHING[:number]))
