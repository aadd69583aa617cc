"""A store that refuses, and a worker that hangs: what a worker does about it, on a real Kafka and a real store."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import aiohttp
import pytest
from aiohttp import AddrInfoType, web
from faust.types import TP
from prometheus_client import REGISTRY

from clickhouse import client
from clickhouse.client import Store, StoreAddress, connect
from pipeline import insist, worker
from pipeline.batches import Batch
from pipeline.errors import RestartNeeded
from pipeline.worker import Health, StoreClock, Watcher
from schemas.topics import Topic
from tests.group import Group, Running, eventually, stages
from tests.kafka import Kafka, free_port

pytestmark = [pytest.mark.kafka, pytest.mark.embedded]

WATCHDOG_SECONDS = 1.0
"""How long the watchdog waits in the tests that are about it."""
AT_ONCE = 50
"""Records of one flush."""
BACKLOG = 1000
HELD = 3 * AT_ONCE
"""What a worker holds of a topic at most: a batch in the agent, one in its stream, one that waits to get there."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How a store does not do as asked: as an answer of its own, or by what makes the real one refuse."""

    code: str
    """As metrics call it."""
    says: str
    """Part of what an operator reads."""
    status: int = 500
    exception: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    """Given to the real store with every insert."""
    alter: str = ""
    """Done to the real store's table; `heal` undoes it."""
    heal: str = ""


REFUSALS = [
    Refusal(code="http_401", status=401, says="check --clickhouse-user"),
    Refusal(code="http_403", status=403, says="check --clickhouse-user"),
    Refusal(code="516", status=403, exception=516, says="check --clickhouse-user"),
    Refusal(code="http_429", status=429, says="HTTP status 429"),
    Refusal(code="http_500", status=500, says="HTTP status 500"),
    Refusal(code="http_503", status=503, says="HTTP status 503"),
    Refusal(
        code="241",
        settings={"max_memory_usage": "1", "max_untracked_memory": "0"},
        says="MEMORY_LIMIT_EXCEEDED",
    ),
    Refusal(
        code="243",
        settings={"min_free_disk_bytes_to_perform_insert": str(1 << 60)},
        says="NOT_ENOUGH_SPACE",
    ),
    Refusal(
        code="252",
        alter="ALTER TABLE footfall.ledger MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1",
        heal="ALTER TABLE footfall.ledger RESET SETTING parts_to_throw_insert, parts_to_delay_insert",
        says="TOO_MANY_PARTS",
    ),
]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Front:
    """What a worker takes for its store: the real one, with refusals when a test wants them."""

    def __init__(self, real: str) -> None:
        self._real = real
        self._refusal: Refusal | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[StoreAddress]:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner, port = web.AppRunner(app), free_port()
        async with aiohttp.ClientSession(self._real, auto_decompress=False) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            try:
                yield StoreAddress(url=f"http://127.0.0.1:{port}")
            finally:
                await runner.cleanup()

    @asynccontextmanager
    async def refusing(self, refusal: Refusal) -> AsyncIterator[None]:
        self._refusal = refusal
        await self._do(refusal.alter)
        try:
            yield
        finally:
            self._refusal = None
            await self._do(refusal.heal)

    async def _do(self, statement: str) -> None:
        if statement:
            async with self._session.post("/", data=statement) as answer:
                assert answer.status == 200, await answer.text()

    async def _answer(self, request: web.Request) -> web.Response:
        body, refusal = await request.read(), self._refusal
        if refusal and not refusal.settings and not refusal.alter:
            code = {"X-ClickHouse-Exception-Code": str(refusal.exception)} if refusal.exception else {}
            return web.Response(status=refusal.status, headers=code, text="not now")
        is_insert = request.query.get("query", "").startswith("INSERT")
        settings = refusal.settings if refusal and is_insert else {}
        kept = {
            name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")
        }
        async with self._session.request(
            request.method, request.path, params={**request.query, **settings}, data=body, headers=kept
        ) as answer:
            of_body = ("Content-Length", "Transfer-Encoding")
            headers = {name: value for name, value in answer.headers.items() if name not in of_body}
            return web.Response(status=answer.status, headers=headers, body=await answer.read())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insist, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(insist, "LONGEST_PAUSE_SECONDS", 0.2)


class Watched:
    """A worker's health, as its watcher sees it each time that somebody looks."""

    def __init__(self, running: Running) -> None:
        self.health = Health()
        self._watcher = Watcher(running.app, cast(Store, running.store), self.health, StoreClock())

    async def look(self) -> dict[str, str]:
        """What it waits for. Raises RestartNeeded."""
        self.health.note("start", None)
        await self._watcher.observe()
        return self.health.waiting_for

    async def is_ready(self) -> bool:
        return not await self.look()


async def impatiently_watched(running: Running, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """From when it is ready on: how long that takes is the machine's."""
    await eventually(Watched(running).is_ready, "ready")
    monkeypatch.setattr(worker, "WATCHDOG_SECONDS", WATCHDOG_SECONDS)
    return Watched(running)


def errors(code: str) -> float:
    return REGISTRY.get_sample_value("footfall_store_errors_total", {"code": code}) or 0.0


def test_a_store_that_refuses_is_waited_for_whatever_it_says_and_nothing_is_lost_or_doubled(
    kafka: Kafka, store_address: StoreAddress
) -> None:
    group = Group(kafka, flush_max_records=AT_ONCE, flush_interval_seconds=0.05)
    source = group.topic(Topic.BOT_REQUESTS)

    async def run() -> None:
        front, published = Front(store_address.url), 0
        async with (
            front.open() as address,
            connect(address) as store,
            connect(store_address) as real,
            group.worker(stages, store, now_ms=now_ms) as running,
        ):
            watched = Watched(running)

            async def durable() -> int:
                [(offsets,)] = await real.rows(
                    "SELECT sum(reached) FROM (SELECT max(next_offset) AS reached FROM footfall.ledger"
                    " WHERE topic = {topic:String} GROUP BY partition)",
                    {"topic": source},
                )
                return int(offsets)

            async def taken() -> int:
                """How many records have been taken from the broker's client."""
                assigned = [tp for tp in running.consumer.assignment() if tp.topic == source]
                positions: Mapping[TP, int] = await running.consumer._thread.positions(assigned)
                return sum(positions.values())

            await eventually(watched.is_ready, "ready")
            assignment = running.consumer._assignment_number
            for refusal in REFUSALS:
                before = errors(refusal.code)
                async with front.refusing(refusal):
                    await group.publish(BACKLOG, event_time=now_ms())
                    published += BACKLOG

                    async def says(refusal: Refusal = refusal) -> bool:
                        return refusal.says in (await watched.look()).get("store", "")

                    await eventually(says, f"{refusal.code}: why it is not ready")
                    await asyncio.sleep(0.5)  # it goes on trying, and takes no more
                    assert errors(refusal.code) > before
                    assert await taken() - await durable() <= HELD, refusal.code
                    assert await durable() < published

                async def has_all(expected: int = published) -> bool:
                    return await durable() == expected and await watched.is_ready()

                await eventually(has_all, f"{refusal.code}: everything, once the store does as asked")
            assert running.consumer._assignment_number == assignment, "it stayed in its group"
            in_raw = "SELECT count(), uniqExact(event_id) FROM footfall.bot_requests WHERE source_topic = {t:String}"
            assert await real.rows(in_raw, {"t": source}) == [(published, published)]
            in_cells = (
                "SELECT sum(snapshot.2) FROM footfall.bot_requests_cells FINAL WHERE epoch = {epoch:UUID}"
            )
            epoch = running.app.flows[Topic.BOT_REQUESTS].epoch
            assert await real.rows(in_cells, {"epoch": epoch}) == [(published,)]
            assert not await real.rows(
                "SELECT 1 FROM footfall.dead_letters WHERE topic = {t:String}", {"t": source}
            )

    asyncio.run(run())


def test_a_worker_that_hangs_while_broker_and_store_answer_asks_for_a_restart(
    kafka: Kafka, store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(kafka)

    async def run() -> None:
        async def hang(running: Running, batch: Batch) -> None:
            if batch.topic == group.topic(Topic.TOKEN_USAGES):
                await asyncio.Event().wait()
            await stages(running, batch)

        async with connect(store_address) as store, group.worker(hang, store) as running:
            watched = await impatiently_watched(running, monkeypatch)
            await asyncio.sleep(2 * WATCHDOG_SECONDS)
            assert await watched.is_ready(), "without lag nothing hangs"
            await group.publish(8, topic=Topic.TOKEN_USAGES)

            async def never() -> bool:
                await group.publish(1)  # others move
                return not await watched.is_ready()

            named = f"broker and store answer, but for 1 s .*nothing was written of {group.topic(Topic.TOKEN_USAGES)}"
            with pytest.raises(RestartNeeded, match=named):
                await eventually(never, "the watchdog")

    asyncio.run(run())


def test_while_the_store_is_away_nothing_hangs(
    kafka: Kafka, store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(kafka)

    async def run() -> None:
        front = Front(store_address.url)
        async with (
            front.open() as address,
            connect(address) as store,
            group.worker(stages, store) as running,
        ):
            watched = await impatiently_watched(running, monkeypatch)
            async with front.refusing(REFUSALS[-1]):
                await group.publish(8)
                until = time.monotonic() + 3 * WATCHDOG_SECONDS
                while time.monotonic() < until:
                    waiting_for = await watched.look()
                    await asyncio.sleep(0.1)
                assert REFUSALS[-1].says in waiting_for["store"]

    asyncio.run(run())


def test_every_connection_to_the_store_notices_that_the_other_side_is_gone(
    store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []

    def lasting_socket(address: AddrInfoType) -> socket.socket:
        made.append(lasting(address))
        return made[-1]

    lasting = client.lasting_socket
    monkeypatch.setattr(client, "lasting_socket", lasting_socket)

    async def run() -> None:
        async with connect(store_address) as store:
            await asyncio.gather(*(store.rows("SELECT sleep(0.1)") for _ in range(4)))
            assert len(made) == 4

    asyncio.run(run())
