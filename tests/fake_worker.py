"""A worker without Faust and without Kafka: a flow, an assignment, and an agent's way through the stages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from clickhouse.client import Store
from pipeline.batches import Batch, Record
from pipeline.flow import Decoded, Flow
from pipeline.geography import Geography
from pipeline.sink import Sink
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, FakeAssignment

Log = Mapping[int, Sequence[Record]]


class FakeGeography:
    """Knows no address."""

    build_seconds = 0

    def lookup(self, ip: str) -> tuple[str, str, str]:
        return "", "", ""

    def refresh(self, now: float) -> None:
        pass


async def _refuse_nothing(decoded: Decoded) -> None:
    pass


class Worker:
    """A flow and the agent's way through its stages."""

    def __init__(
        self,
        store: Any,
        topic: Topic = Topic.BOT_REQUESTS,
        *,
        source: str | None = None,
        now_ms: Callable[[], float] = lambda: NOW_MS,
        refuse: Callable[[Decoded], Awaitable[None]] = _refuse_nothing,
    ) -> None:
        self.assignment = FakeAssignment()
        self.flow = Flow(
            topic,
            source=source or topic.value,
            store=cast(Store, store),
            sink=Sink(cast(Store, store)),
            geography=cast(Geography, FakeGeography()),
            worker="w",
            now_ms=now_ms,
        )
        self._refuse = refuse

    async def resume(self, *partitions: int, epoch: str = EPOCH) -> dict[int, int]:
        assignment = self.assignment
        return await self.flow.resume(epoch, partitions or (0,), lambda: assignment.is_current)

    def batch(self, partitions: Log) -> Batch:
        return self.assignment.batch(partitions, topic=self.flow.source)

    async def consume(self, partitions: Log) -> None:
        decoded = self.flow.decode(self.batch(partitions))
        await self._refuse(decoded)
        rows = self.flow.enrich(decoded)
        cells = self.flow.window(decoded, rows)
        await self.flow.flush(decoded, rows, cells)
