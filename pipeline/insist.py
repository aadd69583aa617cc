"""Doing a thing as often as it takes: what an outage asks for."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from clickhouse.client import StoreError
from pipeline import metrics
from pipeline.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


class Abandoned(Exception):
    """The partitions belong to another worker by now. Drop the batch, acknowledge nothing."""


class Insistence:
    """Repeats what one side (`store`, `broker`) does not do, and knows since when it has not."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.problem: str | None = None
        """Why the side did not do the last thing asked of it; None while it does."""
        self.failures = 0
        """How often it has not done what it was asked for."""

    async def __call__(self, effect: Callable[[], Awaitable[T]], is_current: Callable[[], bool]) -> T:
        """The effect's result, however often it takes. Raises Abandoned once it is not ours to do any more."""
        pause = FIRST_PAUSE_SECONDS
        while is_current():
            try:
                result = await effect()
            except (StoreError, Unavailable) as error:
                self._note(error)
            else:
                if self.problem is not None:
                    log.info("the %s does as asked again", self.side)
                    self.problem = None
                return result
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self.problem = None
        raise Abandoned

    def _note(self, error: Exception) -> None:
        self.failures += 1
        if isinstance(error, StoreError):
            metrics.STORE_ERRORS.labels(code=error.label).inc()
        if self.problem is None:
            log.warning("the %s does not do as asked, trying again until it does: %s", self.side, error)
        self.problem = str(error)
