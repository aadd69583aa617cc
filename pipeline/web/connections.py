"""The store and the broker, as the web process holds them: it starts without them, waits, and recovers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import Request

from clickhouse import analytics
from clickhouse.analytics import DayCounts, Filters, Freshness, Span, Top
from clickhouse.client import Store, StoreError, connect
from clickhouse.migrate import MigrationRefused, pending
from pipeline.config import Settings
from pipeline.errors import FootfallError, Misconfigured, Unavailable
from pipeline.topics import broker_client, ensure_topics, outage_level
from pipeline.web.problems import UnknownBot
from pipeline.web.recent import Recent
from schemas.topics import Topic

log = logging.getLogger(__name__)

PRODUCE_TIMEOUT: Final = timedelta(seconds=10)
"""How long the broker may take to acknowledge what the collector publishes."""
_STORE_SECONDS: Final = 60.0
"""Longer than any question may take, which `analytics` limits. Of an export each piece may."""
_ANSWER_SECONDS: Final = 3.0
"""How long readiness waits for either side."""
_LONGEST_PAUSE_SECONDS: Final = 2.0
_FRESHNESS_KEPT: Final = timedelta(milliseconds=500)
_DAY_COUNTS_KEPT: Final = timedelta(seconds=10)
"""Asked anew every few seconds, not with each question: a day of the ledger is much to read."""
_RANKINGS_KEPT: Final = 50
"""As many at most: each may hold thousands of values."""
_KNOWN_KEPT: Final = timedelta(minutes=10)
"""A bot that was heard of stays known."""


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """How fresh an answer is, by the topics that it is about."""

    look: int
    """Which look at the store this is: whatever was asked after one with this number is as fresh as it says."""
    by_topic: Mapping[Topic, Freshness]
    day_counts: Sequence[DayCounts]

    def sealed_until_ms(self, topic: Topic) -> int:
        """Before this moment every interval and day of the topic is sealed."""
        return self.by_topic[topic].provisional_from_ms or 0


class _Ranked(NamedTuple):
    """What rankings are asked for; equal questions share an answer."""

    span: Span
    filters: frozenset[tuple[str, frozenset[str]]]
    sealed_until_ms: int
    look: int


class Connections:
    """One of each for the process, for concurrent use within its event loop."""

    def __init__(self, settings: Settings) -> None:
        self.topic_prefix: Final = settings.topic_prefix
        self._store_address = replace(settings.store_address(), request_timeout_seconds=_STORE_SECONDS)
        self._broker = settings.broker_connection()
        self._closed_file = settings.collector_closed_file
        self._freshness = Recent(self._asked_freshness, kept_for=_FRESHNESS_KEPT)
        self._day_counts = Recent(self._asked_day_counts, kept_for=_DAY_COUNTS_KEPT)
        self._looks = count()
        self._rankings = Recent(self._asked_rankings, kept_for=_FRESHNESS_KEPT, at_most=_RANKINGS_KEPT)
        self._known = Recent(self._asked_known, kept_for=_KNOWN_KEPT)
        self._store: Store | None = None
        self._producer: AIOKafkaProducer | None = None
        self.gave_up: Final = asyncio.Event()
        self.misconfigured: Misconfigured | None = None
        """Why one of them can never be had like this: set once `gave_up` is."""

    @property
    def store(self) -> Store:
        """Raises Unavailable until the store has answered for the first time."""
        if self._store is None:
            raise Unavailable("The store does not answer yet. Nothing is lost; ask again in a moment.")
        return self._store

    @property
    def producer(self) -> AIOKafkaProducer:
        """Raises Unavailable until the broker has answered for the first time, and while the collector is closed."""
        if self._closed_file is not None and self._closed_file.exists():
            raise Unavailable(
                self._closed_file.read_text(encoding="utf-8").strip() or "The collector is closed."
            )
        if self._producer is None:
            raise Unavailable(
                "The broker does not answer yet. Send everything again in a moment: that is safe."
            )
        return self._producer

    async def known(self, bot: str) -> Store:
        """The store, which knows the bot. Raises UnknownBot, Unavailable, StoreError."""
        return await self._known.get(bot)

    async def freshness(self, *topics: Topic) -> Fresh:
        """How fresh at least an answer is that is asked for after this. Raises Unavailable, StoreError."""
        (look, by_topic), counts = await asyncio.gather(self._freshness.get(None), self._day_counts.get(None))
        return Fresh(
            look=look,
            by_topic={topic: by_topic[topic] for topic in topics},
            day_counts=[counts[self.topic_prefix + topic] for topic in topics],
        )

    async def _asked_known(self, bot: str) -> Store:
        if not await analytics.is_known_bot(self.store, bot):
            raise UnknownBot(bot)
        return self.store

    async def rankings(self, span: Span, filters: Filters, fresh: Fresh) -> Mapping[str, Top]:
        """The most frequent values by dimension, at least as fresh as that. Raises Unavailable, StoreError."""
        chosen = frozenset((column, frozenset(values)) for column, values in filters.items())
        sealed_until_ms = fresh.sealed_until_ms(Topic.BOT_REQUESTS)
        return await self._rankings.get(_Ranked(span, chosen, sealed_until_ms, fresh.look))

    async def _asked_freshness(self, _: None) -> tuple[int, Mapping[Topic, Freshness]]:
        return next(self._looks), await analytics.freshness(self.store)

    async def _asked_rankings(self, asked: _Ranked) -> Mapping[str, Top]:
        filters = {column: sorted(values) for column, values in asked.filters}
        return await analytics.rankings(
            self.store, asked.span, filters, sealed_until_ms=asked.sealed_until_ms
        )

    async def _asked_day_counts(self, _: None) -> Mapping[str, DayCounts]:
        return await analytics.day_counts(self.store, [self.topic_prefix + topic for topic in Topic])

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Connect in the background for as long as it takes, unless it is in vain; disconnect on leaving."""
        async with AsyncExitStack() as stack:
            tasks = [
                asyncio.create_task(self._connect("store", lambda: self._connect_store(stack))),
                asyncio.create_task(self._connect("broker", lambda: self._connect_broker(stack))),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def store_problem(self) -> str | None:
        """Why the store cannot serve right now; None when it can."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                missing = await pending(self.store)
        except TimeoutError:
            return "the store does not answer in time"
        except (StoreError, Unavailable, MigrationRefused) as error:
            return str(error)
        return f"migrations are pending: run `footfall migrate` ({len(missing)})" if missing else None

    async def broker_problem(self) -> str | None:
        """Why the broker cannot take events right now; None when it can."""
        try:
            async with (
                asyncio.timeout(_ANSWER_SECONDS),
                broker_client(self._broker, request_timeout=timedelta(seconds=_ANSWER_SECONDS)),
            ):
                _ = self.producer
        except TimeoutError:
            return "the broker does not answer in time"
        except (KafkaError, FootfallError) as error:
            return str(error)
        return None

    async def _connect(self, what: str, connect_once: Callable[[], Awaitable[None]]) -> None:
        try:
            await _until_done(what, connect_once)
        except Misconfigured as error:
            self.misconfigured = error
            self.gave_up.set()

    async def _connect_store(self, stack: AsyncExitStack) -> None:
        self._store = await stack.enter_async_context(connect(self._store_address))

    async def _connect_broker(self, stack: AsyncExitStack) -> None:
        await ensure_topics(self._broker, prefix=self.topic_prefix)
        producer = AIOKafkaProducer(
            **self._broker.aiokafka_options(),
            acks="all",
            # Not idempotent: the packaged broker cannot do that, and a copy that a retry makes is a duplicate like
            # any other, dropped by its identity.
            request_timeout_ms=round(PRODUCE_TIMEOUT.total_seconds() * 1000),
            max_request_size=2_000_000,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        stack.push_async_callback(producer.stop)
        self._producer = producer


async def _until_done(what: str, connect_once: Callable[[], Awaitable[None]]) -> None:
    pause = 0.1
    while True:
        try:
            await connect_once()
        except Misconfigured:
            raise
        except (StoreError, KafkaError, FootfallError, OSError) as error:
            log.log(
                outage_level(pause), "the %s does not answer: %s; asking again in %.1f s", what, error, pause
            )
        else:
            log.info("connected to the %s", what)
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def connections(request: Request) -> Connections:  # async: FastAPI sends others through a thread
    """Those of the application that serves this request."""
    kept: Connections = request.app.state.connections
    return kept
