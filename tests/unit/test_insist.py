"""Doing a thing as often as it takes: how long it waits in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from clickhouse.client import StoreError
from pipeline.errors import Unavailable
from pipeline.insist import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Insistence


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have slept each time."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


def failing(times: int, error: Exception) -> Callable[[], Any]:
    left = [error] * times

    async def effect() -> str:
        if left:
            raise left.pop()
        return "done"

    return effect


def insist(times: int, error: Exception) -> None:
    assert asyncio.run(Insistence("store")(failing(times, error), lambda: True)) == "done"


@pytest.mark.parametrize("error", [StoreError("away"), Unavailable("away")])
def test_pauses_grow_up_to_a_limit_and_are_never_longer(pauses: list[float], error: Exception) -> None:
    insist(20, error)
    limits = [min(FIRST_PAUSE_SECONDS * 2**number, LONGEST_PAUSE_SECONDS) for number in range(20)]
    assert limits[-1] == LONGEST_PAUSE_SECONDS
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))


def test_workers_that_failed_together_do_not_come_back_together(pauses: list[float]) -> None:
    for _ in range(20):
        insist(10, StoreError("away"))
    last = pauses[9::10]
    assert len(last) == 20
    assert max(last) - min(last) > LONGEST_PAUSE_SECONDS / 10


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("too many parts", 252), "252"),
        (StoreError("too many requests", status=429), "http_429"),
        (StoreError("connection refused"), "0"),
    ],
)
def test_each_failure_of_the_store_is_counted_by_its_code(error: StoreError, code: str) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("footfall_store_errors_total", {"code": code}) or 0.0

    before = counted()
    insist(3, error)
    assert counted() == before + 3
