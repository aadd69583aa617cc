"""Answers that several requests may share: a page asks ten questions at once, and each would ask these first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Answer(Generic[V]):
    asked_at: float
    task: asyncio.Task[V]
    waiting: int = 0
    """How many wait for it."""


class Recent(Generic[K, V]):
    """Answers by what was asked, each kept for a while; within one event loop.

    Who asks while another waits for the same answer waits with them, and one who goes away does not take it from the
    others; a question that nobody waits for any more is given up. An answer counts as as old as its question. An error
    is everybody's who waits, and is not kept.
    """

    def __init__(
        self, ask: Callable[[K], Awaitable[V]], *, kept_for: timedelta, at_most: int = 1_000
    ) -> None:
        self._ask = ask
        self._seconds: Final = kept_for.total_seconds()
        self._at_most: Final = at_most
        self._answers: dict[K, _Answer[V]] = {}

    async def get(self, key: K) -> V:
        """The answer, as it was within the time that answers are kept for. Raises what asking raises."""
        now = time.monotonic()
        answer = self._answers.get(key)
        if answer is None or (answer.task.done() and now - answer.asked_at > self._seconds):
            if len(self._answers) >= self._at_most:
                self._answers.clear()
            answer = _Answer(now, asyncio.ensure_future(self._asked(key)))
            self._answers[key] = answer
        answer.waiting += 1
        try:
            return await asyncio.shield(answer.task)
        finally:
            answer.waiting -= 1
            if not answer.waiting and not answer.task.done():
                answer.task.cancel()
                if self._answers.get(key) is answer:
                    del self._answers[key]

    async def _asked(self, key: K) -> V:
        try:
            return await self._ask(key)
        except Exception:
            self._answers.pop(key, None)
            raise
