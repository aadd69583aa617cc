"""`footfall up` from its first line to its last: counted, drained, watched, and gone when it is."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from pipeline.embedded.broker import PackagedBroker
from pipeline.publish import Publisher
from pipeline.topics import BrokerConnection
from schemas.topics import Topic
from tests.footfall import Footfall, footfall
from tests.kafka import free_port

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]
pytest.importorskip("chdb")

PARTS = {"broker", "store", "worker", "web"}


class Up:
    """`footfall up` on ports and a data directory of its own, started and stopped as often as a test likes."""

    def __init__(self, directory: Path, *more: str) -> None:
        self.directory, self.data_dir = directory, directory / "data"
        self.port, self.store_port, self.broker_port = free_port(), free_port(), free_port()
        self._words = ["--data-dir", str(self.data_dir), "--port", str(self.port)]
        self._words += ["--broker-port", str(self.broker_port), "--store-port", str(self.store_port)]
        self._words += ["--metrics-port", "0", "--log-format", "console", *more]
        self.run: Footfall | None = None
        self._events = 0

    def __enter__(self) -> Up:
        self.start()
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self.run is not None:
            self.run.__exit__(None, None, None)

    def start(self) -> Footfall:
        self.run = Footfall(self.directory, "up", *self._words)
        return self.run

    def again(self) -> tuple[int, str]:
        """Exit code and standard error of a second `up` with the same settings."""
        done = footfall("up", *self._words)
        assert done.stdout == ""
        return done.returncode, done.stderr

    @property
    def running(self) -> Footfall:
        assert self.run is not None
        return self.run

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        assert self.running.says("ready", within=90) == f"Footfall is ready: {self.url}/"

    def post(self, count: int = 1) -> None:
        """Tell the collector of so many requests, one event each, none like any before."""
        begin, self._events = self._events, self._events + count
        events = [
            {
                "bot_id": "bot",
                "event_id": f"{os.getpid()}-{number}",
                "event_time": int(time.time() * 1000),
                "endpoint": "api",
            }
            for number in range(begin, begin + count)
        ]
        answer = httpx.post(f"{self.url}/api/v1/events/bot_requests", json=events, timeout=30)
        assert answer.status_code == 202, answer.text

    def total(self, bot: str = "bot") -> int:
        """Requests of the bot as the API says; -1 while it does not."""
        try:
            answer = httpx.get(f"{self.url}/api/v1/bots/{bot}/summary", timeout=10)
        except httpx.TransportError:
            return -1
        if answer.status_code != 200:
            return -1
        total: int = answer.json()["data"]["total_requests"]
        return total

    def counts(self, expected: int, *, bot: str = "bot") -> None:
        """Return once the API's total is what it should be; it must never be more."""

        def is_counted() -> bool:
            total = self.total(bot)
            assert total <= expected
            return total == expected

        self.eventually(is_counted)

    def sql(self, statement: str) -> list[list[Any]]:
        answer = httpx.post(
            f"http://127.0.0.1:{self.store_port}/",
            content=statement,
            params={"default_format": "JSONCompact", "output_format_json_quote_64bit_integers": "0"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        rows: list[list[Any]] = answer.json()["data"]
        return rows

    def is_ready(self) -> bool:
        return self.running.get(f"{self.url}/readyz") == 200

    def eventually(self, holds: Callable[[], bool], within: float = 60) -> None:
        deadline = time.monotonic() + within
        while not holds():
            assert time.monotonic() < deadline, self.running.log[-6000:]
            time.sleep(0.05)

    def kill(self, part: str) -> int:
        """kill -9; the process id that was."""
        pid = self.running.children()[part]
        os.kill(pid, signal.SIGKILL)
        return pid

    def is_replaced(self, part: str, old: int) -> None:
        self.eventually(lambda: self.running.children().get(part, old) != old)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("up")) as up:
        yield up


@pytest.fixture
def up(running: Up) -> Up:
    """One that is ready, with a request counted."""
    running.eventually(running.is_ready)
    before = max(running.total(), 0)
    running.post()
    running.counts(before + 1)
    return running


# --- one that runs


def test_it_says_that_it_is_ready_on_stdout_and_the_limits_of_its_broker_on_stderr(up: Up) -> None:
    assert up.running.out == f"Footfall is ready: {up.url}/\n"
    assert set(up.running.children()) == PARTS
    first = up.running.log.splitlines()[0]
    for limit in ("for trying out", "keeps nothing when it stops", "grows with", "--broker host:port"):
        assert limit in first


def test_a_second_one_on_the_same_data_directory_exits_2(up: Up) -> None:
    code, error = up.again()
    assert code == 2
    assert str(up.data_dir) in error
    assert str(up.running.pid) in error
    assert "--data-dir" in error


def test_taken_ports_are_all_named_with_their_flags_and_exit_2(up: Up, tmp_path: Path) -> None:
    done = footfall(
        *("up", "--data-dir", tmp_path / "other", "--port", str(up.port), "--store-port", str(up.store_port)),
        *("--broker-port", str(free_port()), "--metrics-port", "0"),
    )
    code, error = done.returncode, done.stderr
    assert code == 2
    assert f"--port: port {up.port} of 127.0.0.1 is taken" in error
    assert f"--store-port: port {up.store_port} of 127.0.0.1 is taken" in error
    assert "--broker-port" not in error


@pytest.mark.parametrize("part", ["store", "worker", "web"])
def test_a_part_that_is_killed_comes_back_and_nothing_is_lost(up: Up, part: str) -> None:
    before = up.total()
    old = up.kill(part)
    up.is_replaced(part, old)
    up.eventually(up.is_ready)
    up.counts(before)
    up.post()
    up.counts(before + 1)
    assert f"the {part} ended with signal 9" in up.running.log
    assert set(up.running.children()) == PARTS


def test_readiness_goes_while_the_store_is_away_and_comes_back(up: Up) -> None:
    store = up.running.children()["store"]
    os.kill(store, signal.SIGSTOP)
    try:
        up.eventually(lambda: not up.is_ready())
        assert up.running.get(f"{up.url}/livez") == 200
    finally:
        os.kill(store, signal.SIGCONT)
    up.eventually(up.is_ready)


def test_a_broker_that_dies_is_replaced_by_an_empty_one_and_that_is_said(up: Up) -> None:
    before = up.total()
    epochs = up.sql("SELECT uniqExact(source_epoch) FROM footfall.bot_requests")[0][0]
    worker = up.running.children()["worker"]
    old = up.kill("broker")
    up.is_replaced("broker", old)
    up.is_replaced("worker", worker)
    up.eventually(up.is_ready)

    def accepts() -> bool:
        try:
            up.post()
        except AssertionError:
            return False
        return True

    up.eventually(accepts)
    up.eventually(lambda: up.total() > before)
    assert up.sql("SELECT uniqExact(source_epoch) FROM footfall.bot_requests")[0][0] == epochs + 1
    assert "what it had accepted and the worker had not stored yet" in " ".join(up.running.log.split())


# --- a broker with a limit


class Traffic:
    """Requests of 2 kB that do not compress, posted or produced until they are accepted."""

    def __init__(self, up: Up) -> None:
        self._up = up
        self._stop = threading.Event()
        self.posted: list[list[dict[str, Any]]] = []
        """What was answered with 202, a list per answer."""
        self.produced = self.malformed = 0
        self.refusals: list[httpx.Response] = []
        self._threads = [threading.Thread(target=self._post), threading.Thread(target=self._produce)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _event(self, bot: str, number: int) -> dict[str, Any]:
        return {
            "bot_id": bot,
            "event_id": f"{number}",
            "event_time": int(time.time() * 1000),
            "endpoint": "api",
            "page_url": f"https://a.example/{random.randbytes(950).hex()}",
        }

    def _post(self) -> None:
        with httpx.Client(base_url=self._up.url, timeout=30) as client:
            while not self._stop.is_set():
                events = [self._event("posted", 100 * len(self.posted) + number) for number in range(100)]
                while (answer := client.post("/api/v1/events/bot_requests", json=events)).status_code != 202:
                    assert answer.status_code == 503, answer.text
                    self.refusals.append(answer)
                    assert client.get("/api/v1/bots").status_code == 200
                    time.sleep(0.2)
                self.posted.append(events)
                time.sleep(0.01)

    def _produce(self) -> None:
        async def produce() -> None:
            connection = BrokerConnection(bootstrap=f"127.0.0.1:{self._up.broker_port}")
            async with Publisher(connection, prefix="") as publisher:
                while not self._stop.is_set():
                    event = self._event("produced", self.produced)
                    records = [Record(msgspec.json.encode(event))]
                    if self.produced % 100 == 0:
                        records.append(Record(b"no event %d" % self.malformed))
                        self.malformed += 1
                    await publisher.publish(records, lambda _: None)
                    self.produced += 1

        asyncio.run(produce())


@dataclass(frozen=True)
class Record:
    """A bot request as it is published; all with one key."""

    value: bytes
    topic: Topic = Topic.BOT_REQUESTS
    key: bytes = b"bot"


def test_a_full_broker_is_replaced_under_traffic_and_everything_counts_once(tmp_path: Path) -> None:
    with Up(tmp_path, "--broker-memory-limit-mib", "32") as up:
        first_line = up.running.log.splitlines()[0]
        assert "At 32 MiB (--broker-memory-limit-mib)" in first_line
        sizes: dict[int, int] = {}
        with Traffic(up) as traffic:

            def is_replaced_twice() -> bool:
                pid = up.running.children().get("broker")
                if pid is not None:
                    sizes[pid] = max(sizes.get(pid, 0), resident_bytes(pid))
                time.sleep(0.2)
                return len(sizes) > 2

            up.eventually(is_replaced_twice, within=120)
            up.eventually(lambda: "after" in up.running.log.rpartition("taken the packaged")[2])
        assert max(sizes.values()) < 64 * 2**20
        up.eventually(up.is_ready)

        posted = sum(map(len, traffic.posted))
        assert posted > 0
        assert traffic.produced > 0
        up.counts(posted, bot="posted")
        up.counts(traffic.produced, bot="produced")
        assert up.sql("SELECT uniqExact(value) FROM footfall.dead_letters") == [[traffic.malformed]]
        assert up.sql("SELECT uniqExact(source_epoch) FROM footfall.bot_requests")[0][0] >= 3

        # Refused as RFC 9457 has it, and with the reason.
        refused = [answer for answer in traffic.refusals if "is full" in answer.text]
        assert len(refused) >= 2
        for answer in refused:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "unavailable"
            assert int(answer.headers["retry-after"]) > 0

        # What the first broker took is known to the third, before any interval is sealed.
        again = httpx.post(f"{up.url}/api/v1/events/bot_requests", json=traffic.posted[0], timeout=30)
        assert again.status_code == 202
        up.post()
        up.counts(1)
        intervals = "SELECT sum(requests) FROM footfall_v1.bot_requests_15m WHERE bot_id = 'posted'"
        assert up.sql(intervals) == [[posted]]
        assert up.running.stop() == 0


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# --- from start to stop


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_counted_though_it_is_stopped_at_once(
    tmp_path: Path, how: signal.Signals
) -> None:
    with Up(tmp_path) as up:
        up.post()
        up.counts(1)
        children = up.running.children()
        up.post(2000)
        begun = time.monotonic()
        assert up.running.stop(how) == 0, up.running.log[-6000:]
        assert time.monotonic() - begun < 30
        assert not any(is_alive(pid) for pid in children.values())
        up.start()
        up.wait()
        up.counts(2001)
        up.post()
        up.counts(2002)
        assert up.sql("SELECT uniqExact(source_epoch) FROM footfall.bot_requests") == [[2]]


def test_killing_it_leaves_no_child_and_loses_nothing_that_was_counted(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        up.post(10)
        up.counts(10)
        children = up.running.children()
        assert set(children) == PARTS
        up.running.stop(signal.SIGKILL)
        # Started at once: what is left of its predecessor's children may still be going.
        up.start()
        up.eventually(lambda: not any(is_alive(pid) for pid in children.values()), within=5)
        up.wait()
        up.counts(10)


def test_it_stops_within_30_s_though_its_store_hangs(tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        children = up.running.children()
        os.kill(children["store"], signal.SIGSTOP)
        up.post()
        begun = time.monotonic()
        assert up.running.stop(within=35) == 0
        assert time.monotonic() - begun < 30
        up.eventually(lambda: not any(is_alive(pid) for pid in children.values()), within=5)
        assert "1 accepted events did not get into the store" in " ".join(
            up.running.log.split()
        ) or "perhaps some accepted events did not get" in " ".join(up.running.log.split())


def test_it_stops_at_once_while_it_is_still_starting(tmp_path: Path) -> None:
    up = Up(tmp_path)
    with up.start() as run:
        up.eventually(lambda: set(run.children()) == PARTS)
        begun = time.monotonic()
        assert run.stop() == 0
        assert time.monotonic() - begun < 12
        assert run.out == ""


def test_a_part_that_cannot_run_ends_all_of_it_with_2(tmp_path: Path) -> None:
    done = footfall("up", "--data-dir", tmp_path / "what?", *_free_ports())
    assert (done.returncode, done.stdout) == (2, "")
    *said, ended = done.stderr.splitlines()
    assert any("what?" in line for line in said)
    assert ended == "footfall: the store cannot run like this; its own lines above say why"


def test_a_data_directory_that_a_store_holds_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    with Footfall(tmp_path, "store", "--data-dir", taken, "--store-port", str(free_port())) as store:
        store.says("ready")
        done = footfall("up", "--data-dir", taken, *_free_ports())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"in use by another Footfall (process {store.pid})" in done.stderr


def test_a_broker_and_a_store_of_ones_own_are_used_and_left_alone(tmp_path: Path) -> None:
    up = Up(tmp_path)
    store = Footfall(tmp_path, "store", "--data-dir", tmp_path / "own", "--store-port", str(up.store_port))
    broker = PackagedBroker(port=free_port(), log_file=tmp_path / "broker.log")

    async def run() -> None:
        await broker.start()
        try:
            await asyncio.to_thread(use)
            assert is_alive(broker.pid)
        finally:
            await broker.stop()

    def use() -> None:
        store.says("ready")
        own = Up(tmp_path, "--broker", broker.bootstrap, "--clickhouse", f"http://127.0.0.1:{up.store_port}")
        with own:
            assert set(own.running.children()) == {"worker", "web"}
            assert "for trying out" not in own.running.log
            own.post()
            own.counts(1)
            assert own.running.stop() == 0
        assert store.process.poll() is None

    with store:
        asyncio.run(run())


# --- with a Kafka of its own


@pytest.mark.kafka
def test_with_kafka_nothing_is_lost_by_a_stop_and_the_topics_stay_the_same(
    tmp_path: Path, kafka_installed: None
) -> None:
    with Up(tmp_path, "--broker", "kafka") as up:
        assert set(up.running.children()) == PARTS
        assert "for trying out" not in up.running.log
        up.post(2000)
        assert up.running.stop() == 0
        up.start()
        up.wait()
        up.counts(2000)

        old = up.kill("broker")
        up.is_replaced("broker", old)
        up.eventually(up.is_ready)
        up.post()
        up.counts(2001)
        assert up.sql("SELECT uniqExact(source_epoch) FROM footfall.bot_requests") == [[1]]

        children = up.running.children()
        assert set(children) == PARTS
        up.running.stop(signal.SIGKILL)
        up.eventually(lambda: not any(is_alive(pid) for pid in children.values()), within=5)


def test_without_kafkas_jars_it_exits_2_and_says_where_they_come_from(tmp_path: Path) -> None:
    words = ("up", "--broker", "kafka", "--data-dir", tmp_path / "data", *_free_ports())
    done = footfall(*words, environment={"KAFKA_HOME": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no jars of Apache Kafka in {tmp_path}/libs" in done.stderr


def _free_ports() -> list[str]:
    words = ["--metrics-port", "0"]
    for name in ("--port", "--broker-port", "--store-port"):
        words += [name, str(free_port())]
    return words
