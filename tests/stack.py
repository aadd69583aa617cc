"""A whole Footfall for tests: store, workers and web, each a process of its own, on a broker that is given."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx

from schemas.topics import Topic
from tests.footfall import Footfall, footfall
from tests.kafka import free_port
from tests.records import end_offsets

Json = dict[str, Any]


class Worker:
    """A worker of a stack."""

    def __init__(self, process: Footfall, port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"

    @property
    def is_ready(self) -> bool:
        """Whether it says that it has everything it needs."""
        return answers(f"{self._url}/readyz")

    def wait(self, seconds: float = 60) -> None:
        """Return when it is ready."""

        def holds() -> bool:
            assert self.process.process.poll() is None, f"the worker has ended: {tail(self.process)}"
            return self.is_ready

        eventually(holds, seconds, lambda: f"the worker is not ready: {tail(self.process)}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the series with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in httpx.get(f"{self._url}/metrics", timeout=10).text.splitlines()
            if line.partition(" ")[0].partition("{")[0] == name and all(label in line for label in wanted)
        )

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self.process.stop(within=40)

    def kill(self) -> None:
        """kill -9."""
        self.process.stop(signal.SIGKILL)


class Stack:
    """Store, workers and web over topics and a consumer group of their own. Leaving the context ends them all.

    Entering it returns when the API is ready and one worker has its partitions.
    """

    def __init__(
        self, directory: Path, bootstrap: str, *, name: str, geoip_database: Path | None = None
    ) -> None:
        self.bootstrap = bootstrap
        self.prefix, self.group = f"{name}.", name
        self.workers: list[Worker] = []
        self._directory = directory
        self._store_url = f"http://127.0.0.1:{free_port()}"
        self._web_url = f"http://127.0.0.1:{free_port()}"
        self.environment = {
            "FOOTFALL_BROKER": bootstrap,
            "FOOTFALL_CLICKHOUSE": self._store_url,
            "FOOTFALL_CONSUMER_GROUP": name,
            "FOOTFALL_DATA_DIR": str(directory / "data"),
            "FOOTFALL_GEOIP_DATABASE": str(geoip_database or ""),
            "FOOTFALL_LOG_FORMAT": "console",
            "FOOTFALL_PORT": self._web_url.rsplit(":", 1)[1],
            "FOOTFALL_STORE_PORT": self._store_url.rsplit(":", 1)[1],
            "FOOTFALL_TOPIC_PREFIX": self.prefix,
        }
        self._processes: list[Footfall] = []
        self.api = httpx.Client(base_url=f"{self._web_url}/api/v1", timeout=60)
        self._sql = httpx.Client(base_url=self._store_url, timeout=60)

    def topic(self, topic: Topic) -> str:
        """Kafka's name of the topic."""
        return self.prefix + topic

    def __enter__(self) -> Self:
        try:
            self.start_store()
            self.run("migrate")
            self.start_worker().wait()
            self.start_web()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.api.close()
        self._sql.close()
        for process in reversed(self._processes):
            process.__exit__(None, None, None)

    @property
    def data(self) -> Path:
        """What the store keeps; move it only while that is stopped."""
        return Path(self.environment["FOOTFALL_DATA_DIR"])

    # --- its processes

    def _start(self, command: str, directory: str = "", **environment: str) -> Footfall:
        process = Footfall(
            self._directory / directory, command, environment={**self.environment, **environment}
        )
        self._processes.append(process)
        return process

    def start_store(self) -> None:
        """Start the store, on the data that it had."""
        self.store = self._start("store")
        self.store.says("ready")

    def start_web(self) -> None:
        """Start page and API."""
        web = self.web = self._start("web")

        def holds() -> bool:
            assert web.process.poll() is None, f"the web has ended: {tail(web)}"
            return self.is_ready

        eventually(holds, 45, lambda: f"the web is not ready: {tail(web)}")

    def start_worker(self, directory: str | None = None, **environment: str) -> Worker:
        """One more worker, which may not be ready yet."""
        port = free_port()
        directory = directory or f"worker-{len(self.workers) + 1}"
        environment["FOOTFALL_METRICS_PORT"] = str(port)
        worker = Worker(self._start("worker", directory, **environment), port)
        self.workers.append(worker)
        return worker

    @property
    def is_ready(self) -> bool:
        """Whether the API says that it has everything it needs."""
        return answers(f"{self._web_url}/readyz")

    def run(self, *words: str) -> str:
        """Run a command to its end, which has to be a good one; its output."""
        done = footfall(*words, environment=self.environment, timeout=120)
        assert done.returncode == 0, f"{words} ends with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """The ends of the logs of all its processes."""
        return "".join(tail(process) for process in self._processes)

    # --- what it says

    def get(self, path: str, **parameters: Any) -> Json:
        """The API's answer to `path` below /api/v1, which has to be 200."""
        answer = self.api.get(path, params=parameters)
        assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text}{self.logs()}"
        body: Json = answer.json()
        return body

    def sql(self, statement: str, **parameters: str) -> list[Json]:
        """The store's answer to a SELECT, an object per row; `{name:Type}` is bound by the server."""
        settings = {"default_format": "JSONEachRow", "output_format_json_quote_64bit_integers": "0"}
        answer = self._sql.post(
            "/",
            content=statement,
            params=settings | {f"param_{name}": value for name, value in parameters.items()},
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.split("\n") if line]

    def command(self, statement: str) -> None:
        """Run a statement that answers nothing."""
        answer = self._sql.post("/", content=statement)
        assert answer.status_code == 200, answer.text

    def positions(self, topic: Topic) -> dict[int, int]:
        """Where the ledger lets each partition go on; those never written to are absent."""
        rows = self.sql(
            "SELECT partition, max(next_offset) AS position FROM footfall.ledger"
            " WHERE topic = {topic:String} GROUP BY partition",
            topic=self.topic(topic),
        )
        return {row["partition"]: row["position"] for row in rows}

    # --- waiting for it

    def wait_until_durable(self, seconds: float = 90) -> None:
        """Return when the ledger has reached the end of every partition as it is now."""
        ends = {topic: end_offsets(self.bootstrap, self.topic(topic)) for topic in Topic}

        def has_arrived() -> bool:
            positions = {topic: self.positions(topic) for topic in Topic}
            return all(
                positions[topic].get(partition, 0) >= end
                for topic in Topic
                for partition, end in ends[topic].items()
            )

        eventually(has_arrived, seconds, lambda: f"not everything was consumed: {ends}")

    def wait_until_visible(self, bot: str, seconds: float = 90) -> None:
        """Return when the API says that answers about `bot` show every record appended before now."""
        now = time.time()
        self.wait_until_durable(seconds)

        def is_visible() -> bool:
            as_of = self.get(bot_path(bot, "summary"))["freshness"]["data_as_of"]
            return as_of is not None and timestamp(as_of) >= now

        eventually(is_visible, seconds, lambda: f"data_as_of stays before {now}")


def bot_path(bot: str, path: str) -> str:
    """The path of something about a bot."""
    return f"/bots/{quote(bot, safe='')}/{path}"


def answers(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def tail(process: Footfall) -> str:
    """The end of a process's log."""
    return f"\n--- log of pid {process.pid}\n{process.log[-3000:]}"


def timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def eventually(
    holds: Callable[[], bool],
    seconds: float,
    otherwise: Callable[[], str] = lambda: "it does not hold",
    *,
    pause: float = 0.1,
) -> None:
    """Return once `holds()`; fail with a message after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s {otherwise()}"
        time.sleep(pause)
