"""A Footfall with something to look at: store and web as processes, rows put in as a worker would leave them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import httpx

from clickhouse import ledger
from clickhouse.client import Store, StoreAddress, connect
from pipeline.seal import seal
from schemas import bot_feedback, bot_request, token_usage
from schemas.topics import Topic
from tests.footfall import Footfall, footfall
from tests.kafka import free_port

BUSY = "support"
QUIET = "quiet bot"
EPOCH = "00000000-0000-4000-8000-000000000001"
GEO_BUILD_SECONDS = 1_790_000_000  # 2026-09-21
HOUR_MS = 3_600_000
SETTLED_MS = 40 * 60_000
"""Older than this an interval is sealed: rows put in without a worker show through rollups alone."""

PLACES = [
    ("DE", "Berlin", "Berlin"),
    ("DE", "Bavaria", "Munich"),
    ("US", "New York", "New York"),
    ("GB", "England", "London"),
    ("FR", "Île-de-France", "Paris"),
    ("NP", "Bagmati", "Kathmandu"),
    ("", "", ""),
]
CLIENT_CLASSES = ["person", "person", "crawler", "api_client", ""]
SOURCES = ["chat", "fs_chat", "responses", "ticket_summary", "voice"]
MODELS = ["large-1", "small-1", ""]
BUSY_HOURS = [1, 2, 26, 27, 51, 75, 76, 100, 130, 155]
"""Hours ago at which the busy bot was; there are gaps between."""


def request(bot: str, event_ms: int, event_id: str, **fields: Any) -> dict[str, Any]:
    """A request that names only what matters."""
    return {"bot_id": bot, "event_ms": event_ms, "event_id": event_id, "endpoint": "api", **fields}


def rows(topic: Topic, columns: Sequence[str], events: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of a raw table; what an event does not name is empty."""
    empty = dict.fromkeys(columns, "") | dict.fromkeys(NUMBERS, 0)
    found = []
    for offset, event in enumerate(events):
        origin = {
            "source_topic": topic,
            "source_epoch": EPOCH,
            "source_offset": offset,
            "record_ms": event["event_ms"],
        }
        found.append(tuple({**empty, **origin, **event}[column] for column in columns))
    return found


NUMBERS = {
    *("geo_build_seconds", "source_partition", "input_tokens", "output_tokens"),
    *("cached_input_tokens", "reasoning_output_tokens"),
}


def busy_requests(now_ms: int, chance: random.Random) -> list[dict[str, Any]]:
    """Three pages in the last seven days, more endpoints than a ranking has places, and an older tail."""
    ages = [chance.choice(BUSY_HOURS) * HOUR_MS + chance.randrange(HOUR_MS) for _ in range(130)]
    ages += [chance.randrange(8 * 24, 300 * 24) * HOUR_MS for _ in range(30)]
    found = []
    for number, age in enumerate(ages):
        country, region, city = chance.choice(PLACES)
        found.append(
            request(
                BUSY,
                now_ms - age,
                f"request-{number:03}",
                endpoint="widget" if number % 2 else f"surface-{number % 24:02}",
                chat_id=f"chat-{number % 40}",
                ip=f"203.0.113.{chance.randrange(60)}" if number % 9 else "",
                country=country,
                region=region,
                city=city,
                browser=chance.choice(["Chrome", "Firefox", ""]),
                client_class=CLIENT_CLASSES[number % len(CLIENT_CLASSES)],
                user_agent=f"Agent/{number}",
                geo_build_seconds=GEO_BUILD_SECONDS if country else 0,
                # What a reader of CSV may stumble over.
                page_url=f'https://example.com/?q="{number},\n{number}"',
            )
        )
    return found


def busy_tokens(now_ms: int, chance: random.Random) -> list[dict[str, Any]]:
    """Two pages in the last seven days."""
    return [
        {
            "bot_id": BUSY,
            "event_ms": now_ms - chance.choice(BUSY_HOURS) * HOUR_MS - chance.randrange(HOUR_MS),
            "event_id": f"usage-{number:03}",
            "source": SOURCES[number % len(SOURCES)],
            "model": MODELS[number % len(MODELS)],
            "input_tokens": chance.randrange(50, 9000),
            "output_tokens": chance.randrange(10, 900),
        }
        for number in range(80)
    ]


def busy_feedback(now_ms: int) -> list[dict[str, Any]]:
    """Five votes, one of which was changed."""
    votes = [("a", "positive"), ("b", "positive"), ("c", "negative"), ("d", "positive"), ("d", "negative")]
    return [
        {
            "bot_id": BUSY,
            "event_ms": now_ms - 50 * HOUR_MS + number,
            "event_id": f"vote-{number}",
            "rating": rating,
            "chat_id": "chat-1",
            "message_id": message,
        }
        for number, (message, rating) in enumerate(votes)
    ]


class Site:
    """Store and web. `url` is where the page is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._store_port, self._web_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._web_port}"
        self.store_url = f"http://127.0.0.1:{self._store_port}"
        self._running = ExitStack()
        self._api = self._running.enter_context(httpx.Client(base_url=f"{self.url}/api/v1"))

    def __enter__(self) -> Self:
        with ExitStack() as running:
            running.push(self._running)
            data = ("--data-dir", self._directory / "data", "--store-port", str(self._store_port))
            store = self._running.enter_context(Footfall(self._directory, "store", *data))
            store.says("ready", within=120)
            done = footfall("migrate", "--clickhouse", self.store_url)
            assert done.returncode == 0, done.stderr
            # There is no broker, and no worker: the page and what it asks do not need them.
            settings = ("--clickhouse", self.store_url, "--broker", f"127.0.0.1:{free_port()}")
            words = ("web", "--port", str(self._web_port), *settings)
            self._web = self._running.enter_context(Footfall(self._directory, *words))
            now_ms, chance = time.time_ns() // 1_000_000, random.Random(1)
            quiet = [request(QUIET, now_ms - 60 * 24 * HOUR_MS + n * 1000, f"quiet-{n}") for n in range(3)]
            self.requests, self.tokens = busy_requests(now_ms, chance), busy_tokens(now_ms, chance)
            """What is known of the busy bot, whatever the store makes of it."""
            self._put(requests=[*self.requests, *quiet], tokens=self.tokens, feedback=busy_feedback(now_ms))
            self._wait()
            running.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                if self._api.get("/bots").status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it has not begun to listen
            assert time.monotonic() < deadline, self._web.log
            time.sleep(0.1)

    def _put(
        self,
        *,
        requests: Sequence[dict[str, Any]] = (),
        tokens: Sequence[dict[str, Any]] = (),
        feedback: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Put events into the store, and seal what they touch."""

        async def put(store: Store) -> None:
            for topic, columns, events in (
                (Topic.BOT_REQUESTS, bot_request.COLUMNS, requests),
                (Topic.TOKEN_USAGES, token_usage.COLUMNS, tokens),
                (Topic.BOT_FEEDBACK, bot_feedback.COLUMNS, feedback),
            ):
                if events:
                    await ledger.write_rows(store, topic, rows(topic, columns, events), origin="test")
                await ledger.write_progress(store, [(topic, EPOCH, 0, time.time_ns() // 1_000_000, 0, 0)])
                await seal(store, topic, partitions=1)

        self._with_store(put)

    def _with_store(self, work: Any) -> None:
        async def run() -> None:
            async with connect(StoreAddress(url=self.store_url)) as store:
                await work(store)

        _elsewhere(run())

    # --- what tests ask

    def get(self, path: str, parameters: dict[str, Any]) -> Any:
        """The API's answer."""
        answer = self._api.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def row_count(self, path: str, parameters: dict[str, Any]) -> int:
        """How many rows an export announces."""
        return int(self._api.get(path, params=parameters).headers["Footfall-Row-Count"])

    def today(self, zone: str) -> date:
        """The date in a zone."""
        return datetime.now(ZoneInfo(zone)).date()

    def add_request(self, bot: str) -> None:
        """One request of this bot, lately."""
        now_ms = time.time_ns() // 1_000_000
        self._put(requests=[request(bot, now_ms - SETTLED_MS, f"first of {bot}")])


def _elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a thread of its own: the browser's driver has this thread's event loop."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, work).result()
