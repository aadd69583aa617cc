"""The store's clock as a worker knows it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from clickhouse.client import Store
from pipeline import worker
from pipeline.worker import StoreClock


class ClockOfStore:
    """A store that is asked for its clock alone, reads it at once, and answers after a while."""

    def __init__(self, *, ahead_ms: float, answers_after: float = 0.0) -> None:
        self.ahead_ms = ahead_ms
        self.answers_after = answers_after

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        now_ms = StoreClock().now_ms() + self.ahead_ms
        await asyncio.sleep(self.answers_after)
        return [(int(now_ms * 1000),)]


def sync(clock: StoreClock, store: ClockOfStore) -> None:
    asyncio.run(clock.sync(cast(Store, store)))


def test_a_worker_follows_the_stores_clock_and_not_its_own() -> None:
    clock = StoreClock()
    sync(clock, ClockOfStore(ahead_ms=3_600_000))
    assert clock.now_ms() == pytest.approx(StoreClock().now_ms() + 3_600_000, abs=500)


def test_its_idea_of_the_stores_clock_is_never_ahead() -> None:
    clock = StoreClock()
    sync(clock, ClockOfStore(ahead_ms=0, answers_after=0.2))
    assert clock.now_ms() <= StoreClock().now_ms()


def test_an_answer_that_took_long_does_not_move_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_SYNC_SECONDS", 0.05)
    clock = StoreClock()
    sync(clock, ClockOfStore(ahead_ms=0))
    sync(clock, ClockOfStore(ahead_ms=60_000, answers_after=0.1))
    assert clock.now_ms() == pytest.approx(StoreClock().now_ms(), abs=500)
