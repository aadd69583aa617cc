"""A replay against the packaged broker: what reaches the topic, twice, and over an outage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from pipeline.config import Settings
from pipeline.embedded.broker import PackagedBroker
from pipeline.errors import Unavailable
from pipeline.replay import replay
from tests.kafka import Kafka


@asynccontextmanager
async def running(tmp_path: Path, port: int) -> AsyncIterator[PackagedBroker]:
    broker = PackagedBroker(port=port, log_file=tmp_path / "broker.log")
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def published(bootstrap: str, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Every record of the topic: key and value, in order within a partition."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        records: list[tuple[bytes | None, bytes | None]] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                records += [(record.key, record.value) for record in batch]
        return records
    finally:
        await consumer.stop()


def access_log(path: Path, *, lines: int) -> Path:
    path.write_text(
        "".join(
            f"192.0.2.{n % 250} - - [17/May/2015:10:{n // 60 % 60:02}:{n % 60:02} +0000]"
            f' "GET /{("api", "widget")[n % 2]}/{n} HTTP/1.1" 200 {n} "-" "curl/8.4.0"\n'
            for n in range(lines)
        )
        + "a line that is none\n"
    )
    return path


@pytest.mark.embedded
def test_the_same_replay_again_publishes_the_same_events(tmp_path: Path, free_port: int) -> None:
    log = access_log(tmp_path / "access.log", lines=6000)

    async def twice() -> tuple[
        list[tuple[bytes | None, bytes | None]], list[tuple[bytes | None, bytes | None]]
    ]:
        async with running(tmp_path, free_port) as broker:
            settings = Settings(broker=broker.bootstrap, topic_prefix="try.")
            for _ in range(2):
                summary = await replay(settings, file=log, format="access-log", bot="my-bot")
                assert (summary.lines, summary.events) == (6001, 6000)
            records = await published(broker.bootstrap, "try.bot_requests")
            return records[:6000], records[6000:]

    first, again = asyncio.run(twice())
    assert first == again
    assert len(set(first)) == 6000
    assert {key for key, _ in first} == {b"my-bot"}
    assert json.loads(first[1][1] or b"") | {"event_id": ""} == {
        "event_id": "",
        "bot_id": "my-bot",
        "event_time": 1431856801000,
        "endpoint": "widget",
        "ip": "192.0.2.1",
        "user_agent": "curl/8.4.0",
    }


@pytest.mark.kafka
def test_a_replay_outlives_a_kill_of_the_broker(kafka_installed: None, tmp_path: Path) -> None:
    # Apache Kafka: the packaged broker acknowledges, and drops, what is sent to a topic that it has forgotten.
    log = access_log(tmp_path / "access.log", lines=90)

    async def over_a_kill(kafka: Kafka) -> tuple[int, set[tuple[bytes | None, bytes | None]]]:
        settings = Settings(broker=kafka.bootstrap)
        # 89 seconds of traffic in about three.
        going_on = asyncio.create_task(
            replay(settings, file=log, format="access-log", bot="my-bot", speed=30)
        )
        await asyncio.sleep(2)
        kafka.kill()
        kafka.start()
        assert not going_on.done()
        summary = await going_on
        return summary.events, set(await published(kafka.bootstrap, "bot_requests"))

    with Kafka(tmp_path / "kafka") as kafka:
        events, records = asyncio.run(over_a_kill(kafka))
    assert (events, len(records)) == (90, 90)


@pytest.mark.embedded
def test_a_replay_whose_broker_stays_away_says_how_far_it_came(tmp_path: Path, free_port: int) -> None:
    log = access_log(tmp_path / "access.log", lines=90)

    async def into_an_outage() -> None:
        async with running(tmp_path, free_port) as broker:
            settings = Settings(broker=broker.bootstrap)
            going_on = asyncio.create_task(
                replay(
                    settings,
                    file=log,
                    format="access-log",
                    bot="my-bot",
                    speed=30,
                    patience=timedelta(seconds=3),
                )
            )
            await asyncio.sleep(1)
            await broker.stop()
            with pytest.raises(Unavailable, match=r"up to line \d\d without a gap"):
                await going_on

    asyncio.run(into_an_outage())
