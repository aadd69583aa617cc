"""Simulate: what the demo's bots are up to, published as it happens. `docs/simulate.md` says what they do.

The past that a run tells of is the same for every run of a seed, and so are the identities of its events: telling
it again counts nothing twice. What happens from the start of a run on belongs to that run alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from pipeline.errors import Misconfigured, Unavailable
from pipeline.population import Publication, past, present
from pipeline.topics import BrokerConnection, broker_answers, ensure_topics
from schemas.topics import Topic

if TYPE_CHECKING:
    from pipeline.config import Settings

log = logging.getLogger(__name__)

MAX_BACKFILL: Final = timedelta(days=400)
PATIENCE: Final = timedelta(seconds=60)
"""How long the broker may acknowledge nothing before a simulation gives up."""
STOP_SECONDS: Final = 2.0
CHUNK_EVENTS: Final = 2_000
TICK_SECONDS: Final = 0.05
"""At high rates, events are published as often as this."""
FIRST_PROGRESS_SECONDS: Final = 5.0
LONGEST_PROGRESS_SECONDS: Final = 600.0


@dataclass(kw_only=True)
class SimulationSummary:
    """What a simulation has published, and the broker has acknowledged."""

    topics: Counter[Topic] = field(default_factory=Counter)
    malformed: int = 0
    backfilled: int = 0
    """Of the events: those of the time before the start."""
    seconds: float = 0.0

    @property
    def events(self) -> int:
        return self.topics.total()

    def add(self, publication: Publication) -> None:
        """Count what is acknowledged."""
        self.topics[publication.topic] += 1
        self.malformed += publication.event_ms is None

    def __str__(self) -> str:
        by_topic = ", ".join(f"{topic} {self.topics[topic]:,}" for topic in Topic)
        past = f"{self.backfilled:,} of them from before the start, " if self.backfilled else ""
        return (
            f"published {self.events:,} events in {self.seconds:.1f} s ({by_topic}); "
            f"{past}{self.malformed:,} malformed on purpose"
        )


async def simulate(
    settings: Settings,
    *,
    rate: float,
    duration: timedelta | None = None,
    backfill: timedelta = timedelta(0),
    seed: int,
    stop: asyncio.Event | None = None,
    patience: timedelta = PATIENCE,
) -> SimulationSummary:
    """Publish the past of `backfill`, then `rate` events a second for `duration` (None: until `stop`).

    A limited duration ends with exactly `rate` times as many events, however long the broker takes for them.

    Raises Misconfigured for a rate or duration that is none, Unavailable when the broker acknowledges nothing for
    `patience`.
    """
    _check(rate, duration, backfill)
    summary = SimulationSummary()
    began = time.monotonic()

    async def publish_all() -> None:
        connection = settings.broker_connection()
        await broker_answers(connection, patience=patience)
        async with _Publisher(connection, settings.topic_prefix, patience) as publisher:
            await _publish_past(publisher, summary, backfill=backfill, seed=seed)
            await _publish_present(publisher, summary, rate=rate, duration=duration, seed=seed)

    # Cancelled rather than asked: it may be waiting for a broker that does not come back.
    working = asyncio.create_task(publish_all())
    stopping = asyncio.create_task((stop or asyncio.Event()).wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    summary.seconds = time.monotonic() - began
    return summary


def _check(rate: float, duration: timedelta | None, backfill: timedelta) -> None:
    if not 0 < rate < float("inf"):
        raise Misconfigured(f"--rate should be a number of events a second above 0, but is {rate}")
    if duration is not None and duration <= timedelta(0):
        raise Misconfigured(f"--duration should be longer than nothing, but is {duration}")
    if not timedelta(0) <= backfill <= MAX_BACKFILL:
        raise Misconfigured(f"--backfill should be at most {MAX_BACKFILL.days} days, but is {backfill}")


async def _publish_past(
    publisher: _Publisher, summary: SimulationSummary, *, backfill: timedelta, seed: int
) -> None:
    if not backfill:
        return
    began, to_ms = time.monotonic(), _now_ms()
    events = past(seed, from_ms=to_ms - backfill // timedelta(milliseconds=1), to_ms=to_ms)
    while chunk := list(islice(events, CHUNK_EVENTS)):
        await publisher.publish(chunk, summary)
        summary.backfilled = summary.events
    seconds = time.monotonic() - began
    log.info("published %d events of the last %s, in %.1f s", summary.events, _words(backfill), seconds)


async def _publish_present(
    publisher: _Publisher, summary: SimulationSummary, *, rate: float, duration: timedelta | None, seed: int
) -> None:
    traffic, began = present(seed, started=datetime.now(UTC)), time.monotonic()
    total = None if duration is None else round(rate * duration.total_seconds())
    published = 0
    while published != total:
        elapsed, now_ms = time.monotonic() - began, _now_ms()
        due = int(elapsed * rate) if total is None else min(int(elapsed * rate), total)
        chunk = range(published, min(due, published + CHUNK_EVENTS))
        if not chunk:
            await asyncio.sleep(max(TICK_SECONDS, (published + 1) / rate - elapsed))
            continue
        # Each at the time at which it was due, reckoned back from now: a machine that was asleep is not behind.
        times = [now_ms - int((elapsed - number / rate) * 1000) for number in chunk]
        await publisher.publish([traffic.next(ms) for ms in times], summary)
        published = chunk.stop


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _words(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


class _Publisher:
    """Sends until acknowledged; sending something twice is harmless, as it is the same event. Tells of progress."""

    def __init__(self, connection: BrokerConnection, prefix: str, patience: timedelta) -> None:
        self._connection = connection
        self._prefix = prefix
        self._patience = patience
        self._pause_seconds = FIRST_PROGRESS_SECONDS
        self._next_progress = time.monotonic() + self._pause_seconds

    async def __aenter__(self) -> Self:
        await ensure_topics(self._connection, prefix=self._prefix)
        self._producer = AIOKafkaProducer(
            **self._connection.aiokafka_options(),
            acks="all",
            compression_type="lz4",
            linger_ms=5,
            max_batch_size=256 << 10,
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

    async def publish(self, events: list[Publication], summary: SimulationSummary) -> None:
        """Return when all are acknowledged; the summary counts them.

        Raises Unavailable when none is for the time of patience, Misconfigured when we may not write to a topic.
        """
        deadline = time.monotonic() + self._patience.total_seconds()
        pause = 0.2
        while failed := await self._attempt(events, summary):
            if len(failed) < len(events):
                deadline = time.monotonic() + self._patience.total_seconds()
            if time.monotonic() + pause > deadline:
                raise Unavailable(
                    f"the broker has acknowledged nothing for {self._patience.total_seconds():.0f} s; "
                    f"{summary.events:,} events are published"
                )
            log.warning("%d events not acknowledged; sending them again", len(failed))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
            with suppress(Unavailable):  # a broker started anew may have lost its topics
                await ensure_topics(self._connection, prefix=self._prefix, patience=timedelta(seconds=5))
            events = failed
        if time.monotonic() >= self._next_progress:
            log.info("published %d events so far", summary.events)
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PROGRESS_SECONDS)
            self._next_progress = time.monotonic() + self._pause_seconds

    async def _attempt(self, events: list[Publication], summary: SimulationSummary) -> list[Publication]:
        """Send each once. Returns those that should be sent again."""
        sent: list[tuple[Publication, asyncio.Future[Any]]] = []
        failed: list[Publication] = []
        for event in events:
            try:
                sent.append(
                    (event, await self._producer.send(self._prefix + event.topic, event.value, event.key))
                )
            except KafkaError as error:
                _refuse_unless_passing(error)
                failed.append(event)
        outcomes = await asyncio.gather(*[future for _, future in sent], return_exceptions=True)
        for (event, _), outcome in zip(sent, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                summary.add(event)
                continue
            _refuse_unless_passing(outcome)
            failed.append(event)
        return failed


def _refuse_unless_passing(error: BaseException) -> None:
    """Raise what sending again does not cure."""
    if isinstance(error, TopicAuthorizationFailedError):
        raise Misconfigured(f"the broker does not let us write: {error}") from error
    if not isinstance(error, KafkaError):
        raise error
