"""A simulation against the packaged broker, and the demo from its first line on."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from pipeline.config import Settings
from pipeline.embedded.broker import PackagedBroker
from pipeline.errors import Unavailable
from pipeline.simulate import simulate
from schemas.topics import Topic
from tests.footfall import Footfall
from tests.kafka import free_port

pytestmark = pytest.mark.embedded


@asynccontextmanager
async def running(tmp_path: Path, port: int) -> AsyncIterator[PackagedBroker]:
    broker = PackagedBroker(port=port, log_file=tmp_path / "broker.log")
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def published(bootstrap: str) -> list[tuple[str, bytes | None, bytes | None]]:
    """Every record of the three topics: topic, key, value."""
    consumer = AIOKafkaConsumer(*Topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        records: list[tuple[str, bytes | None, bytes | None]] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                records += [(record.topic, record.key, record.value) for record in batch]
        return records
    finally:
        await consumer.stop()


def test_two_seconds_at_500_a_second_are_1000_records_of_all_topics(tmp_path: Path, free_port: int) -> None:
    async def two_seconds() -> tuple[float, list[tuple[str, bytes | None, bytes | None]]]:
        async with running(tmp_path, free_port) as broker:
            summary = await simulate(
                Settings(broker=broker.bootstrap), rate=500, duration=timedelta(seconds=2), seed=1
            )
            assert summary.events == 1000
            assert summary.backfilled == 0
            return summary.seconds, await published(broker.bootstrap)

    seconds, records = asyncio.run(two_seconds())
    assert seconds >= 2
    assert len(records) == 1000
    assert {topic for topic, _, _ in records} == set(Topic)
    assert len({key for _, key, _ in records}) > 10


def test_the_past_told_by_two_runs_is_the_same_events(tmp_path: Path, free_port: int) -> None:
    async def told_twice() -> list[set[tuple[str, bytes | None, bytes | None]]]:
        async with running(tmp_path, free_port) as broker:
            runs = []
            for _ in range(2):
                summary = await simulate(
                    Settings(broker=broker.bootstrap),
                    rate=1,
                    duration=timedelta(seconds=1),
                    backfill=timedelta(hours=5),
                    seed=1,
                )
                assert summary.backfilled == summary.events - 1
                runs.append(set(await published(broker.bootstrap)))
            return runs

    before, after = asyncio.run(told_twice())
    assert len(before) > 1000
    # Each has its one live event, and the second what the bots did while it was on.
    assert len(after - before) < 40


def test_a_simulation_goes_on_when_its_broker_comes_back(tmp_path: Path, free_port: int) -> None:
    async def over_an_outage() -> int:
        async with running(tmp_path, free_port) as broker:
            going_on = asyncio.create_task(
                simulate(Settings(broker=broker.bootstrap), rate=100, duration=timedelta(seconds=4), seed=1)
            )
            await asyncio.sleep(1.5)
            await broker.stop()
            await asyncio.sleep(1)
            await broker.start()
            return (await going_on).events

    assert asyncio.run(over_an_outage()) == 400


def test_a_simulation_whose_broker_stays_away_says_so(tmp_path: Path, free_port: int) -> None:
    async def into_an_outage() -> None:
        async with running(tmp_path, free_port) as broker:
            going_on = asyncio.create_task(
                simulate(Settings(broker=broker.bootstrap), rate=100, seed=1, patience=timedelta(seconds=3))
            )
            await asyncio.sleep(1)
            await broker.stop()
            with pytest.raises(Unavailable, match="acknowledged nothing for 3 s"):
                await going_on

    asyncio.run(into_an_outage())


def test_a_simulation_can_be_stopped_while_its_broker_is_away(tmp_path: Path, free_port: int) -> None:
    async def stopped() -> float:
        async with running(tmp_path, free_port) as broker:
            stop = asyncio.Event()
            going_on = asyncio.create_task(
                simulate(Settings(broker=broker.bootstrap), rate=100, seed=1, stop=stop)
            )
            await asyncio.sleep(2)
            await broker.stop()
            await asyncio.sleep(1)
            stop.set()
            began = time.monotonic()
            assert (await going_on).events > 0
            return time.monotonic() - began

    assert asyncio.run(stopped()) < 8


def test_the_command_says_in_one_line_what_it_did_also_when_it_is_stopped(
    tmp_path: Path, free_port: int
) -> None:
    async def stopped() -> tuple[int, str]:
        async with running(tmp_path, free_port) as broker:
            words = ["--rate", "100", "--broker", broker.bootstrap, "--backfill", "2h"]
            with Footfall(tmp_path, "simulate", *words) as run:
                while "of the last 2 hours" not in run.log:
                    assert run.process.poll() is None, run.log
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.5)
                return await asyncio.to_thread(run.stop, signal.SIGINT), run.out

    code, out = asyncio.run(stopped())
    assert code == 0
    [line] = out.splitlines()
    assert line.startswith("published ")
    assert "of them from before the start" in line


# --- the demo


class Demo:
    """`footfall up --demo` in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._port = free_port()
        self._words = ["--port", str(self._port), "--broker-port", str(free_port())]
        self._words += ["--store-port", str(free_port()), "--metrics-port", "0"]
        self._seen = 0

    def start(self) -> Footfall:
        return Footfall(
            self.directory,
            "up",
            "--demo",
            *self._words,
            environment={"FOOTFALL_DATA_DIR": str(self.directory / "data")},
        )

    def answer(self, path: str) -> Any:
        """What the API answers; None while it does not, or knows no such bot."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/api/v1{path}", timeout=30)
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def when(self, path: str, holds: Callable[[Any], bool], *, within: float = 60) -> Any:
        """The data that the API answers, once that holds of the answer."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            answer = self.answer(path)
            if answer is not None and holds(answer):
                return answer["data"]
            time.sleep(0.1)
        raise AssertionError(f"{path} is {self.answer(path)} after {within:.0f} s")

    def is_told(self, run: Footfall) -> None:
        """Return when all of the past that this run tells is counted."""
        deadline = time.monotonic() + 60
        while TOLD not in run.log[self._seen :]:
            assert time.monotonic() < deadline, run.log[-2000:]
            time.sleep(0.1)
        self._seen = len(run.log)
        now = datetime.now(UTC)
        self.when(f"{SUPPORT}/summary", lambda answer: as_of(answer) > now)


SUPPORT = "/bots/demo-support"
TOLD = "events of the last 7 days"


def as_of(answer: Any) -> datetime:
    """Through when all that was published is in the answer."""
    text = answer["freshness"]["data_as_of"]
    return datetime.fromisoformat(text or "1970-01-01T00:00:00Z")


def is_a_week(answer: Any) -> bool:
    """Whether none but a bar or two of the last seven days is missing."""
    return sum(bar["requests"] > 0 for bar in answer["data"]["buckets"]) >= 41


def requests(data: Any) -> int:
    return sum(row["requests_7d"] for row in data["rows"])


def test_the_demo_shows_a_week_within_seconds_goes_on_and_counts_it_once(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    began = datetime.now(UTC)
    past = (began - timedelta(days=6)).isoformat(), (began - timedelta(days=2)).isoformat()
    summary_of_past = f"{SUPPORT}/summary?" + urlencode({"from": past[0], "to": past[1]})
    with demo.start() as run:
        run.says("Footfall is ready", within=60)
        print(f"ready after {datetime.now(UTC) - began}")
        # All of the past is counted, and the answers know it: who opens the page now finds nothing missing.
        listed = demo.answer("/bots?limit=100")
        assert as_of(listed) > began
        assert re.search(r"counting the last 7 days: [\d,]+ of [\d,]+", run.log)
        assert is_a_week(demo.answer(f"{SUPPORT}/requests/timeseries"))
        demo.is_told(run)

        bots = listed["data"]
        assert len(bots["rows"]) == 40
        assert all(bot["bot_id"].startswith("demo-") for bot in bots["rows"])
        assert requests(bots) > 30_000
        countries = demo.answer(f"{SUPPORT}/requests/top?by=country")["data"]
        assert countries[0]["value"] == "US"
        assert {row["kind"] for row in countries} >= {"value", "unknown"}
        first = demo.answer(summary_of_past)["data"]
        assert first["unique_ips"] > 300
        assert first["total_tokens"] > 1_000_000
        assert first["positive_feedbacks"] > first["negative_feedbacks"] > 0
        demo.when("/bots?limit=100", lambda answer: requests(answer["data"]) > requests(bots) + 3)
        assert run.stop() == 0

    with demo.start() as run:
        demo.is_told(run)
        assert demo.answer(summary_of_past)["data"] == first
        assert run.stop() == 0
