"""A consumer group on a real Kafka whose workers run in this process: Faust, the transport and flows, on any store."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from clickhouse.client import Store
from pipeline import transport
from pipeline.app import App
from pipeline.batches import Batch, batches
from pipeline.config import Settings
from pipeline.geography import Geography
from pipeline.topics import ensure_topics
from schemas.topics import Topic
from tests.builders import NOW_MS, event
from tests.fake_store import FakeStore
from tests.fake_worker import FakeGeography
from tests.kafka import Kafka
from tests.records import Outgoing, committed, end_offsets, publish

PARTITIONS = 8
numbers = itertools.count()


class Group:
    """Topics and a consumer group of their own, and the workers that a test starts in it."""

    def __init__(self, kafka: Kafka, **settings: Any) -> None:
        self.bootstrap = kafka.bootstrap
        self.name = f"group{os.getpid()}-{next(numbers)}"
        self.settings = Settings(
            broker=kafka.bootstrap,
            topic_prefix=f"{self.name}.",
            consumer_group=self.name,
            broker_session_timeout_seconds=6,
            **settings,
        )

    def topic(self, topic: Topic | str) -> str:
        return f"{self.name}.{topic}"

    async def ensure_topics(self) -> None:
        await ensure_topics(self.settings.broker_connection(), prefix=self.settings.topic_prefix)

    async def publish(
        self,
        count: int,
        *,
        topic: Topic = Topic.BOT_REQUESTS,
        partitions: Sequence[int] = range(PARTITIONS),
        event_time: int = NOW_MS,
    ) -> None:
        """Append so many events, in turn to each of the partitions."""
        turns = itertools.cycle(partitions)
        values = [event(topic, event_id=str(next(numbers)), event_time=event_time) for _ in range(count)]
        records = [Outgoing(topic=self.topic(topic), value=value, partition=next(turns)) for value in values]
        await asyncio.to_thread(publish, self.bootstrap, records)

    async def committed(self, topic: Topic = Topic.BOT_REQUESTS) -> dict[int, int | None]:
        return await asyncio.to_thread(committed, self.bootstrap, self.name, self.topic(topic))

    async def has_committed_zero(self) -> bool:
        return set((await self.committed()).values()) == {0}

    async def ends(self, topic: Topic = Topic.BOT_REQUESTS) -> dict[int, int]:
        return await asyncio.to_thread(end_offsets, self.bootstrap, self.topic(topic))

    @asynccontextmanager
    async def worker(
        self,
        on_batch: Callable[[Running, Batch], Awaitable[None]] | None = None,
        store: FakeStore | Store | None = None,
        now_ms: Callable[[], float] = lambda: NOW_MS,
    ) -> AsyncIterator[Running]:
        """A Faust app whose agents hand each batch to `on_batch`; without one they acknowledge it."""
        await self.ensure_topics()
        store = store or FakeStore()
        app = App(
            self.settings,
            store=cast(Store, store),
            geography=cast(Geography, FakeGeography()),
            worker=f"{self.name}-{next(numbers)}",
            now_ms=now_ms,
        )
        running = Running(app, store)

        def listen(topic: Topic) -> None:
            @app.agent(app.source(topic), concurrency=1, name=topic.value)
            async def agent(stream: Any) -> None:
                async for batch in batches(stream):
                    running.batches.append(batch)
                    if on_batch is None:
                        batch.acknowledge()
                    else:
                        await on_batch(running, batch)

        for topic in Topic:
            listen(topic)
        app.finalize()
        await app.start()
        try:
            yield running
        finally:
            await asyncio.wait_for(app.stop(), 30)


class Running:
    """A started app and the batches that its agents were given."""

    def __init__(self, app: App, store: FakeStore | Store) -> None:
        self.app = app
        self.store = store
        self.batches: list[Batch] = []

    @property
    def consumer(self) -> transport.Consumer:
        return self.app.batch_consumer

    def of(self, topic: Topic) -> list[Batch]:
        return [batch for batch in self.batches if batch.topic.endswith(f".{topic}")]

    def offsets(self, topic: Topic = Topic.BOT_REQUESTS) -> dict[int, list[int]]:
        """Offsets in the order of their delivery, by partition."""
        offsets: dict[int, list[int]] = {}
        for batch in self.of(topic):
            for partition, records in batch.partitions.items():
                offsets.setdefault(partition, []).extend(record.offset for record in records)
        return offsets

    def delivered(self, topic: Topic = Topic.BOT_REQUESTS) -> int:
        return sum(map(len, self.offsets(topic).values()))


async def stages(running: Running, batch: Batch) -> None:
    """An agent's whole way with a batch."""
    flow = next(flow for flow in running.app.flows.values() if flow.source == batch.topic)
    decoded = flow.decode(batch)
    await running.app.refuse(decoded)
    rows = flow.enrich(decoded)
    await flow.flush(decoded, rows, flow.window(decoded, rows))


async def eventually(holds: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Return when it holds; it may be a coroutine. Fails, saying what does not, after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = holds()
        if await answer if asyncio.iscoroutine(answer) else answer:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        await asyncio.sleep(0.05)
