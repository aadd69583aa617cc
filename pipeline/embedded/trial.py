"""The packaged broker as `up` runs it: behind a gate, and replaced when it has grown too large, or has died.

It holds every byte it ever took, so it is replaced at a limit. What it holds is first brought into the store; its
successor has topics of its own, and so another epoch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pipeline.config import Settings, flag
from pipeline.embedded.broker import PackagedBroker
from pipeline.embedded.gate import Gate
from pipeline.embedded.supervise import Child, Deaths, describe

if TYPE_CHECKING:
    from pipeline.topics import BrokerConnection

MEMORY_CHECK_SECONDS: Final = 1.0
IN_FLIGHT_SECONDS: Final = 0.5
"""For what was posted before the collector closed. What takes longer is sent again by whoever posted it."""
LOOK_SECONDS: Final = 0.2
STILL_SECONDS: Final = 30.0
"""How often it is said that the broker cannot be replaced yet."""
WORKER_STOP_SECONDS: Final = 10.0
BROKERLESS_SECONDS: Final = 3.0
"""For the worker to finish what it has when the broker is gone."""

REPLACED: Final = "The packaged broker is full and is being replaced by an empty one."
DIED: Final = "The packaged broker has ended and is being started again."
AGAIN: Final = "Send everything again in a moment: that is safe."

log = logging.getLogger(__name__)


class TrialBroker:
    """The packaged broker and its gate."""

    def __init__(self, settings: Settings) -> None:
        """`settings` are those that everybody is told: their broker is this one."""
        self._settings = settings
        self._broker = PackagedBroker(
            port=0, log_file=settings.data_dir / "broker.log", advertised_port=settings.broker_port
        )
        self._gate = Gate(port=settings.broker_port, broker_port=lambda: self._broker.port)
        self._is_empty = True
        """Nobody but us has reached the broker that runs now."""

    @cached_property
    def _connection(self) -> BrokerConnection:
        return replace(self._settings.broker_connection(), client_id=self._gate.client_id)

    async def start(self) -> None:
        """Return when it runs; nobody reaches it before `keep`.

        Raises Misconfigured where it is not installed or its port is taken, Unavailable where it does not come up.
        """
        limit = self._settings.broker_memory_limit_mib
        log.warning(
            "the packaged broker is for trying out: it keeps nothing when it stops, and its memory grows with every "
            "byte produced. At %d MiB (%s) events are refused for some seconds, until all it holds is counted and an "
            "empty one has taken its place. To keep events use --broker kafka, or a Kafka of yours: --broker host:port",
            limit,
            flag("broker_memory_limit_mib"),
        )
        if (left := self._settings.collector_closed_file) is not None:
            left.unlink(missing_ok=True)  # by one that was killed
        await self._gate.start()
        await self._broker.start()
        if self._broker.memory_bytes() is None:
            log.warning("this system does not say how large the packaged broker is: it will not be replaced")

    async def keep(self, worker: Child, traffic: Sequence[Child]) -> None:
        """Let everybody reach it, and replace it whenever it is full or has died, for ever.

        Raises RestartNeeded when it does not stay up.
        """
        await self._make_topics()
        deaths = Deaths("the packaged broker")
        while True:
            await self._full_or_ended()
            if self._broker.exit_code is None:
                with self._collector_closed(REPLACED):
                    await self._replace(worker)
            if self._broker.exit_code is not None:
                pause = deaths.another(self._broker.exit_code)
                log.error(
                    "the packaged broker ended with %s, and with it went what it had accepted and the worker had not "
                    "stored yet; starting an empty one",
                    describe(self._broker.exit_code),
                )
                self._is_empty = True
                with self._collector_closed(DIED):
                    await self._gate.shut()
                    # The worker's positions belong to the dead broker's topics: it begins anew with the new ones.
                    async with AsyncExitStack() as held:
                        for child in (worker, *traffic):
                            await held.enter_async_context(child.held(seconds=BROKERLESS_SECONDS))
                        await asyncio.sleep(pause)
                        await self._start_anew()

    async def hold(self, worker: Child) -> None:
        """Take in nothing more but the worker's dead letters."""
        from pipeline.topics import worker_client_id

        await self._gate.hold(but=lambda: worker_client_id(worker.pid or 0))

    async def undurable(self) -> int | None:
        """How many of the records it holds are not in the store; None when nobody can say."""
        from pipeline.embedded.drain import undurable

        if self._is_empty:
            return 0
        return await undurable(
            self._connection, self._settings.store_address(), prefix=self._settings.topic_prefix
        )

    async def stop(self) -> None:
        """End it, with all it holds."""
        await self._gate.stop()
        await self._broker.stop()

    # --- replacing it

    async def _full_or_ended(self) -> None:
        while self._broker.exit_code is None and not self._is_full():
            with suppress(TimeoutError):
                async with asyncio.timeout(MEMORY_CHECK_SECONDS):
                    await self._broker.wait()

    def _is_full(self) -> bool:
        return (self._broker.memory_bytes() or 0) >= self._settings.broker_memory_limit_mib * 2**20

    async def _replace(self, worker: Child) -> None:
        """Put an empty broker in its place once the store has all; return without, should it end meanwhile."""
        began = time.monotonic()
        log.warning(
            "the packaged broker has reached its limit of %d MiB: the collector is closed, until all it holds is "
            "counted and an empty one has taken its place",
            self._settings.broker_memory_limit_mib,
        )
        await asyncio.sleep(IN_FLIGHT_SECONDS)
        is_replaced = False
        while not is_replaced:
            await self.hold(worker)
            if not await self._all_durable():
                return
            async with worker.held(seconds=WORKER_STOP_SECONDS):
                # From here on nobody is told that anything was accepted. What was, is in the log by now.
                await self._gate.shut()
                if is_replaced := await self.undurable() == 0:
                    self._is_empty = True
                    await self._start_anew()
        log.warning(
            "an empty broker has taken the packaged broker's place after %.1f s, and nothing was lost: the collector "
            "is open again",
            time.monotonic() - began,
        )

    async def _all_durable(self) -> bool:
        """Return True once the store has all that the broker holds, False when the broker has ended."""
        next_word = time.monotonic() + STILL_SECONDS
        while (left := await self.undurable()) != 0:
            if self._broker.exit_code is not None:
                return False
            if time.monotonic() > next_word:
                next_word += STILL_SECONDS
                log.warning(
                    "the collector stays closed: %s events that the packaged broker holds are not in the store yet",
                    "some" if left is None else left,
                )
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def _start_anew(self) -> None:
        await self._broker.stop()
        await self._broker.start()
        await self._make_topics()

    async def _make_topics(self) -> None:
        """Make the topics, and only then let others reach the broker: what comes earlier it acknowledges and loses."""
        from pipeline.topics import ensure_topics

        await ensure_topics(self._connection, prefix=self._settings.topic_prefix)
        self._is_empty = False
        await self._gate.open()

    @contextmanager
    def _collector_closed(self, reason: str) -> Iterator[None]:
        file = self._settings.collector_closed_file
        assert file is not None  # noqa: S101 - `up` names one
        file.write_text(f"{reason} {AGAIN}\n", encoding="utf-8")
        try:
            yield
        finally:
            file.unlink(missing_ok=True)
