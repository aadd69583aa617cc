from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pipeline.web.recent import Recent

LONG, NEVER = timedelta(hours=1), timedelta()


class Oracle:
    """Answers what it is asked, when it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None
        self.given_up = 0

    async def ask(self, key: str) -> str:
        self.asked.append(key)
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.error is not None:
            raise self.error
        return f"{key} {len(self.asked)}"


def test_who_asks_while_another_waits_gets_the_same_answer() -> None:
    async def run() -> None:
        oracle = Oracle()
        recent = Recent(oracle.ask, kept_for=NEVER)
        waiting = [asyncio.create_task(recent.get("a")) for _ in range(3)]
        await asyncio.sleep(0)
        oracle.may_answer.set()
        assert await asyncio.gather(*waiting) == ["a 1"] * 3
        assert oracle.asked == ["a"]

    asyncio.run(run())


def test_an_answer_is_kept_for_its_time_and_by_its_key() -> None:
    async def run() -> None:
        oracle = Oracle()
        oracle.may_answer.set()
        kept, fleeting = Recent(oracle.ask, kept_for=LONG), Recent(oracle.ask, kept_for=NEVER)
        assert [await kept.get(key) for key in ("a", "a", "b", "a")] == ["a 1", "a 1", "b 2", "a 1"]
        assert [await fleeting.get("a") for _ in range(2)] == ["a 3", "a 4"]

    asyncio.run(run())


def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    async def run() -> None:
        oracle = Oracle()
        recent = Recent(oracle.ask, kept_for=LONG)
        oracle.error = ValueError("no")
        waiting = [asyncio.create_task(recent.get("a")) for _ in range(2)]
        await asyncio.sleep(0)
        oracle.may_answer.set()
        assert all(
            isinstance(said, ValueError) for said in await asyncio.gather(*waiting, return_exceptions=True)
        )
        oracle.error = None
        assert await recent.get("a") == "a 2"

    asyncio.run(run())


def test_one_who_goes_away_does_not_take_the_answer_from_the_others() -> None:
    async def run() -> None:
        oracle = Oracle()
        recent = Recent(oracle.ask, kept_for=LONG)
        leaving, staying = (asyncio.create_task(recent.get("a")) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        oracle.may_answer.set()
        assert await staying == "a 1"

    asyncio.run(run())


def test_a_question_that_nobody_waits_for_any_more_is_given_up_and_asked_anew() -> None:
    async def run() -> None:
        oracle = Oracle()
        recent = Recent(oracle.ask, kept_for=LONG)
        leaving = [asyncio.create_task(recent.get("a")) for _ in range(2)]
        await asyncio.sleep(0)  # they begin ...
        await asyncio.sleep(0)  # ... to ask
        for one in leaving:
            one.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        oracle.may_answer.set()
        assert await recent.get("a") == "a 2"
        assert oracle.given_up == 1

    asyncio.run(run())


def test_it_keeps_no_more_than_it_may() -> None:
    async def run() -> None:
        oracle = Oracle()
        oracle.may_answer.set()
        recent = Recent(oracle.ask, kept_for=LONG, at_most=2)
        for key in "abcabc":
            await recent.get(key)
        assert len(oracle.asked) > 3
        assert await recent.get("c") == f"c {len(oracle.asked)}"

    asyncio.run(run())
