"""Publish events until the broker has acknowledged each: what `replay`, `simulate` and `dead-letters` share.

Sending something twice is harmless: it is the same event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Protocol, Self, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from pipeline.errors import Misconfigured, Unavailable
from pipeline.topics import BrokerConnection, broker_answers, ensure_topics
from schemas.event import MAX_VALUE_BYTES
from schemas.topics import Topic

log = logging.getLogger(__name__)

PATIENCE: Final = timedelta(seconds=60)
"""How long the broker may acknowledge nothing before a publisher gives up."""
STOP_SECONDS: Final = 2.0


class Publishable(Protocol):
    """What goes to the broker."""

    @property
    def topic(self) -> Topic: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes: ...


E = TypeVar("E", bound=Publishable)


class NotAcknowledged(Unavailable):
    """The broker has acknowledged nothing for too long. `first` is the first event that it has not."""

    def __init__(self, message: str, first: Publishable) -> None:
        super().__init__(message)
        self.first = first


class Publisher:
    """Use as a context: entering waits for the broker and makes missing topics.

    Entering raises Unavailable when the broker does not answer for `patience`, Misconfigured when it never will.
    """

    def __init__(self, connection: BrokerConnection, *, prefix: str, patience: timedelta = PATIENCE) -> None:
        self._connection = connection
        self._prefix = prefix
        self._patience = patience

    async def __aenter__(self) -> Self:
        await broker_answers(self._connection, patience=self._patience)
        await ensure_topics(self._connection, prefix=self._prefix)
        self._producer = AIOKafkaProducer(
            **self._connection.aiokafka_options(),
            acks="all",
            compression_type="lz4",
            linger_ms=5,
            max_batch_size=256 << 10,
            max_request_size=2 * MAX_VALUE_BYTES,
            request_timeout_ms=min(20_000, max(1_000, round(self._patience.total_seconds() * 250))),
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            await self._producer.stop()
            raise Unavailable(f"the broker does not answer: {error!r}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        # What is not acknowledged by now was not counted: no need to insist when the broker is away.
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._producer.stop()

    async def publish(self, events: Sequence[E], acknowledged: Callable[[E], None]) -> list[E]:
        """Tell `acknowledged` of each event; return those too large for this broker once all others are there.

        Raises NotAcknowledged when none is for `patience`, Misconfigured when we may not write to a topic.
        """
        deadline = time.monotonic() + self._patience.total_seconds()
        pause = 0.2
        too_large: list[E] = []
        while events:
            failed, error = await self._attempt(events, acknowledged, too_large)
            if not failed:
                break
            if len(failed) < len(events):
                deadline = time.monotonic() + self._patience.total_seconds()
            if time.monotonic() + pause > deadline:
                seconds = f"{self._patience.total_seconds():.0f} s"
                raise NotAcknowledged(
                    f"the broker has acknowledged nothing for {seconds} ({error!r})", failed[0]
                ) from error
            log.warning("%d events not acknowledged (%r); sending them again", len(failed), error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            with suppress(Unavailable):  # a broker started anew may have lost its topics
                await ensure_topics(self._connection, prefix=self._prefix, patience=timedelta(seconds=5))
            events = failed
        return too_large

    async def _attempt(
        self, events: Sequence[E], acknowledged: Callable[[E], None], too_large: list[E]
    ) -> tuple[list[E], BaseException | None]:
        """Send each once. Returns those that should be sent again, and one of the reasons."""
        results: list[asyncio.Future[Any]] = []
        for event in events:
            try:
                results.append(await self._producer.send(self._prefix + event.topic, event.value, event.key))
            except KafkaError as refusal:
                results.append(_failed(refusal))
        failed: list[E] = []
        error: BaseException | None = None
        for event, outcome in zip(
            events, await asyncio.gather(*results, return_exceptions=True), strict=True
        ):
            if not isinstance(outcome, BaseException):
                acknowledged(event)
            elif isinstance(outcome, MessageSizeTooLargeError | RecordTooLargeError):
                too_large.append(event)
            elif isinstance(outcome, TopicAuthorizationFailedError):
                topic = self._prefix + event.topic
                raise Misconfigured(f"the broker does not let us write to topic {topic}") from outcome
            elif isinstance(outcome, KafkaError):
                failed.append(event)
                error = outcome
            else:
                raise outcome
        return failed, error


def _failed(error: KafkaError) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future


async def until(stop: asyncio.Event | None, work: Coroutine[Any, Any, None]) -> None:
    """Return when the work is done, or has been cancelled because of `stop`. Raises what the work raises.

    Cancelled rather than asked: it may be waiting for a broker that does not come back.
    """
    working = asyncio.create_task(work)
    waiting = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
