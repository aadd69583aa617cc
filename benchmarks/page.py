"""The page: how long its questions take over 90 days, of a typical bot and of the biggest, alone and all at once.

The store makes the rows itself, and the product's sealer seals them. Then the API is asked over HTTP, on a range that
no interval fits at either end: each question of the page alone, then all of them together as a browser asks them, until
the last is answered; then the same with filters, which only raw rows can answer; then by 50 readers at once. No worker
and no broker run.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from benchmarks import harness, history
from benchmarks.harness import Report, percentile, say
from clickhouse.client import Store, StoreAddress, connect
from clickhouse.migrate import migrate
from pipeline.seal import seal
from schemas.topics import Topic
from tests.footfall import Footfall
from tests.kafka import free_port

BOTS: Final = {"typical": history.bot(history.BOTS // 2), "biggest": history.bot(0)}
READERS: Final = 50
Question = tuple[str, Mapping[str, str]]

QUESTIONS: Final[Sequence[Question]] = (
    ("summary", {}),
    ("requests/timeseries", {}),
    ("tokens/timeseries", {}),
    ("requests/top", {"by": "endpoint"}),
    ("requests/top", {"by": "country"}),
    ("requests", {}),
    ("token-usages", {}),
)
FILTERED: Final[Sequence[Question]] = (
    ("summary", {"country": "AA", "source": "chat"}),
    ("requests/timeseries", {"country": "AA"}),
    ("tokens/timeseries", {"source": "chat"}),
    ("requests/top", {"by": "endpoint", "country": "AA"}),
    ("requests/top", {"by": "country", "endpoint": "api"}),
    ("requests", {"country": "AA"}),
    ("token-usages", {"source": "chat"}),
)

SIZES: Final = """
SELECT table, sum(rows), sum(bytes_on_disk), count()
FROM system.parts WHERE active AND database = 'footfall' AND rows > 0
GROUP BY table ORDER BY table
"""


class Reader:
    """Asks about one range, each of its threads over a connection of its own."""

    def __init__(self, port: int, end_ms: int) -> None:
        self._port = port
        self._own = threading.local()
        start_ms = end_ms - history.DAYS * history.DAY_MS
        self._range = {
            "from": _text(start_ms + 431_123),
            "to": _text(end_ms - 197_877),
            "tz": "Europe/Berlin",
        }

    def seconds(self, bot: str, question: Question) -> float:
        """From the question to the last byte of its answer, which has to be 200."""
        path, parameters = question
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("GET", f"/api/v1/bots/{bot}/{path}?{urlencode({**self._range, **parameters})}")
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200, body
        return time.perf_counter() - began


def _text(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


def together(reader: Reader, bot: str, questions: Sequence[Question], threads: ThreadPoolExecutor) -> float:
    """All at once: seconds until the last is answered."""
    began = time.perf_counter()
    list(threads.map(lambda question: reader.seconds(bot, question), questions))
    return time.perf_counter() - began


def _shown(seconds: Sequence[float]) -> list[str]:
    return [f"{percentile(seconds, share) * 1000:.0f}" for share in (0.5, 0.95)]


async def prepared(store: Store, rows: int, end_ms: int) -> tuple[float, list[tuple[str, int, int, int]]]:
    """Write and seal; how long the first pass of the sealer took, and what every table takes on disk."""
    await migrate(store)
    async for day in history.write(store, rows=rows, end_ms=end_ms):
        if day % 10 == 0:
            say(f"{day} of {history.DAYS} days are written")
    began = time.monotonic()
    for topic in Topic:
        await seal(store, topic, partitions=1)
        say(f"{topic} is sealed")
    return time.monotonic() - began, [(*row,) for row in await store.rows(SIZES)]


def measured(reader: Reader, runs: int) -> list[list[object]]:
    """A row of the report for each bot and question, and for all of them together."""
    rows: list[list[object]] = []
    with ThreadPoolExecutor(len(QUESTIONS)) as threads:
        for kind, bot in BOTS.items():
            for name, questions in (("no filter", QUESTIONS), ("filtered", FILTERED)):
                for question in questions:
                    reader.seconds(bot, question)  # once before it counts
                    alone = [reader.seconds(bot, question) for _ in range(runs)]
                    words = " ".join([question[0], *question[1].get("by", "").split()])
                    rows.append([kind, name, words, *_shown(alone)])
                whole = [together(reader, bot, questions, threads) for _ in range(runs)]
                rows.append([kind, name, "**all at once**", *_shown(whole)])
                say(f"{kind}, {name}: {percentile(whole, 0.95) * 1000:.0f} ms")
    return rows


def crowd(reader: Reader, runs: int) -> tuple[list[float], list[float]]:
    """Seconds of each question of one reader, and of many at once, who ask about bots of all sizes."""
    asked = [
        (history.bot(number * 7 % history.BOTS), QUESTIONS[number % len(QUESTIONS)])
        for number in range(READERS * runs)
    ]
    one = [reader.seconds(*question) for question in asked[: READERS * 2]]
    with ThreadPoolExecutor(READERS) as threads:
        many = list(threads.map(lambda question: reader.seconds(*question), asked))
    return one, many


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="page", rows=100_000_000, runs=20)
    end_ms = int(time.time() * 1000) // history.DAY_MS * history.DAY_MS
    store_port, port = free_port(), free_port()
    url = f"http://127.0.0.1:{store_port}"
    with harness.place() as directory:
        settings = ("--data-dir", directory / "data", "--store-port", str(store_port))
        to_servers = ("--clickhouse", url, "--broker", f"127.0.0.1:{free_port()}")  # no broker is there
        with Footfall(directory, "store", *settings) as store:
            store.says("ready")

            async def prepare() -> tuple[float, list[tuple[str, int, int, int]]]:
                async with connect(StoreAddress(url=url, request_timeout_seconds=3600)) as client:
                    return await prepared(client, given.rows, end_ms)

            sealing, sizes = asyncio.run(prepare())
            with Footfall(Path(directory), "web", "--port", str(port), *to_servers) as web:
                web.answers(f"http://127.0.0.1:{port}/api/v1/bots")
                reader = Reader(port, end_ms)
                rows = measured(reader, given.runs)
                one, many = crowd(reader, given.runs)
    report = Report(name="page", title="Page", method=f"{__doc__.strip()}\n\n{history.DESCRIPTION}")
    report.say(
        f"{given.rows:,} requests; the sealer's first pass over everything took {sealing:.0f} s."
        f" {given.runs} runs of each:"
    )
    report.table(["bot", "", "question", "p50, ms", "p95, ms"], rows)
    report.table(
        ["readers", "questions", "p50, ms", "p95, ms"],
        [["1", len(one), *_shown(one)], [str(READERS), len(many), *_shown(many)]],
    )
    report.table(
        ["table", "rows", "MB", "bytes a row", "bytes a request"],
        [
            [table, f"{n:,}", f"{size / 1e6:.1f}", f"{size / n:.1f}", f"{size / given.rows:.1f}"]
            for table, n, size, _ in sizes
        ],
    )
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
