"""The gate before the packaged broker: who passes when, and that nobody is told of what came too late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pipeline.embedded.broker import PackagedBroker
from pipeline.embedded.gate import Gate
from pipeline.topics import BrokerConnection, broker_client, ensure_topics
from schemas.topics import Topic

pytestmark = pytest.mark.embedded

TOPIC = Topic.BOT_REQUESTS.value


class Gated:
    """A broker with topics behind a gate that is still shut."""

    def __init__(self, broker: PackagedBroker, gate: Gate) -> None:
        self.broker, self.gate = broker, gate
        self.anybody = BrokerConnection(bootstrap=broker.bootstrap)
        self.us = replace(self.anybody, client_id=gate.client_id)

    @asynccontextmanager
    async def producer(self, client_id: str = "anybody") -> AsyncIterator[AIOKafkaProducer]:
        options = replace(self.anybody, client_id=client_id).aiokafka_options()
        async with AIOKafkaProducer(**options, acks="all") as producer:
            yield producer

    async def values(self) -> list[bytes | None]:
        """All that is in the log, in no order."""
        async with AIOKafkaConsumer(
            TOPIC, **self.anybody.aiokafka_options(), auto_offset_reset="earliest"
        ) as consumer:
            left = sum((await consumer.end_offsets(consumer.assignment())).values())
            found: list[bytes | None] = []
            while len(found) < left:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [record.value for record in records]
            return found


@asynccontextmanager
async def gated(port: int, directory: Path) -> AsyncIterator[Gated]:
    broker = PackagedBroker(port=0, log_file=directory / "broker.log", advertised_port=port)
    gate = Gate(port=port, broker_port=lambda: broker.port)
    await gate.start()
    try:
        await broker.start()
        both = Gated(broker, gate)
        await ensure_topics(both.us)
        yield both
    finally:
        await gate.stop()
        await broker.stop()


async def is_waiting(work: asyncio.Task[Any]) -> bool:
    """Whether it is not done within a time in which it would be."""
    return not (await asyncio.wait({work}, timeout=0.5))[0]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def asks(connection: BrokerConnection) -> None:
    async with broker_client(connection):
        return


def test_while_it_is_shut_everybody_but_us_waits(free_port: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with gated(free_port, tmp_path) as broker:
            await asks(broker.us)
            other = asyncio.create_task(asks(broker.anybody))
            assert await is_waiting(other)
            await broker.gate.open()
            await other

    run(test())


def test_while_it_holds_whoever_produces_waits_but_the_one_and_all_else_passes(
    free_port: int, tmp_path: Path
) -> None:
    async def test() -> None:
        async with gated(free_port, tmp_path) as broker:
            await broker.gate.open()
            async with broker.producer() as anybody, broker.producer("the one") as one:
                await anybody.send_and_wait(TOPIC, b"before")
                await broker.gate.hold(but=lambda: "the one")
                sent = asyncio.create_task(anybody.send_and_wait(TOPIC, b"held"))
                await one.send_and_wait(TOPIC, b"passed")
                assert await is_waiting(sent)
                assert sorted(filter(None, await broker.values())) == [b"before", b"passed"]
                await broker.gate.open()
                await sent
                assert sorted(filter(None, await broker.values())) == [b"before", b"held", b"passed"]

    run(test())


def test_what_is_acknowledged_while_it_shuts_is_in_the_log_that_we_see_then(
    free_port: int, tmp_path: Path
) -> None:
    acknowledged: set[bytes] = set()

    async def produce(broker: Gated, name: int) -> None:
        async with broker.producer() as producer:
            for number in range(10**6):
                value = b"%d-%d" % (name, number)
                await producer.send_and_wait(TOPIC, value)
                acknowledged.add(value)

    async def test() -> None:
        async with gated(free_port, tmp_path) as broker:
            for _ in range(5):
                await broker.gate.open()
                before = len(acknowledged)
                producers = [asyncio.create_task(produce(broker, name)) for name in range(4)]
                while len(acknowledged) < before + 100:  # noqa: ASYNC110 - at any moment
                    await asyncio.sleep(0)
                await broker.gate.shut()
                seen_then = set(acknowledged)
                await asyncio.sleep(0.1)
                assert acknowledged == seen_then
                for producer in producers:
                    producer.cancel()
                await broker.gate.open()  # they send what they have before they end
                await asyncio.gather(*producers, return_exceptions=True)
            assert acknowledged <= set(await broker.values())

    run(test())


def test_a_client_whose_connection_was_cut_goes_on_with_the_next_broker(
    free_port: int, tmp_path: Path
) -> None:
    async def test() -> None:
        async with gated(free_port, tmp_path) as broker:
            await broker.gate.open()
            async with broker.producer() as producer:
                await producer.send_and_wait(TOPIC, b"to the first")
                await broker.gate.shut()
                await broker.broker.stop()
                sent = asyncio.create_task(producer.send_and_wait(TOPIC, b"to the second"))
                await broker.broker.start()
                assert await is_waiting(sent)
                await ensure_topics(broker.us)
                await broker.gate.open()
                await sent
            assert await broker.values() == [b"to the second"]

    run(test())


def test_requests_of_many_megabytes_pass_whole(free_port: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with gated(free_port, tmp_path) as broker:
            await broker.gate.open()
            options = broker.anybody.aiokafka_options()
            async with AIOKafkaProducer(
                **options, acks="all", max_request_size=4_000_000, max_batch_size=4_000_000
            ) as producer:
                large = [bytes([number]) * 3_000_000 for number in range(4)]
                for value in large:
                    await producer.send_and_wait(TOPIC, value)
            async with AIOKafkaConsumer(TOPIC, **options, auto_offset_reset="earliest") as consumer:
                found: list[bytes] = []
                while len(found) < len(large):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += [record.value or b"" for record in records]
            assert sorted(found) == large

    run(test())


def test_what_is_no_request_ends_its_own_connection_alone(free_port: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with gated(free_port, tmp_path) as broker:
            await broker.gate.open()
            for nonsense in (b"", b"\x00", b"\xff" * 14, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
                writer.write(nonsense)
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()
            await asks(broker.anybody)

    run(test())
