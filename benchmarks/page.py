"""The page: how long its questions take over 90 days, of a typical bot and of the biggest, alone and all at once.

The store makes the rows itself, the product's sealer seals them, and months that are over are merged, as the store
does once nothing was written to them for three days. Then the API is asked over HTTP, on a range that no interval
fits at either end, over connections that are kept and at most six of them at once, as a browser does. "The whole
page" is all that the page asks when it is opened: which ends its range has, and when that is answered each of the
questions at once, until the last answer is there. Each time the range is a few milliseconds another, so that no
answer is had from one that the API has kept. Then the same with filters, which only raw rows can answer. The same
again with a tenth of the rows. No worker and no broker run.

At last one reader, who opens the page of one bot after another, and then 50 at once: each opens the page of some bot,
looks at it for 10 s, 5 to 15, and opens another one.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from benchmarks import harness, history
from benchmarks.harness import Report, percentile, say
from clickhouse.client import StoreAddress, connect
from schemas.rollup import DAY_MS
from tests.footfall import Footfall
from tests.kafka import free_port

BOTS: Final = {"typical": history.bot(history.BOTS // 2), "biggest": history.bot(0)}
CONNECTIONS: Final = 6
READERS: Final = 50
READERS_SECONDS: Final = 60
LOOKS_SECONDS: Final = (5, 15)
PAGES_BEFORE: Final = 3
WHOLE_PAGE: Final = "**the whole page**"
Parameters = Mapping[str, str]
Question = tuple[str, Parameters]

RANGE: Final[Question] = ("range", {})
REQUESTS: Final[Sequence[Question]] = (
    ("requests/timeseries", {}),
    ("requests/top", {"by": "endpoint"}),
    ("requests/top", {"by": "country"}),
    ("requests/top", {"by": "client_class"}),
    ("requests", {"limit": "50"}),
)
TOKENS: Final[Sequence[Question]] = (
    ("tokens/timeseries", {}),
    ("token-usages", {"limit": "50"}),
)
QUESTIONS: Final[Sequence[Question]] = (("summary", {}), *REQUESTS, *TOKENS)
FILTERED: Final[Sequence[Question]] = (
    ("summary", {"country": "AA", "source": "chat"}),
    *((path, {**parameters, "country": "AA"}) for path, parameters in REQUESTS),
    *((path, {**parameters, "source": "chat"}) for path, parameters in TOKENS),
)
ASKED: Final = {"no filter": QUESTIONS, "filtered": FILTERED}

SIZES: Final = """
SELECT table, sum(rows), sum(bytes_on_disk)
FROM system.parts WHERE active AND database = 'footfall' AND rows > 0
GROUP BY table ORDER BY table
"""
RAW: Final = ("bot_requests", "token_usages", "bot_feedback")
BOOKS: Final = ("ledger", "seal_queue")
ROLLUPS: Final = ("bot_requests_15m", "bot_requests_1d", "token_usages_15m", "token_usages_1d")


class Reader:
    """Asks about one range after another, each of its threads over a connection of its own that it keeps."""

    def __init__(self, port: int, end_ms: int) -> None:
        self._port = port
        self._own = threading.local()
        self._end_ms = end_ms
        self._numbers = itertools.count()

    def next_range(self) -> Parameters:
        """A range that was not asked about yet."""
        number = next(self._numbers)
        return {
            "from": _text(self._end_ms - history.DAYS * DAY_MS + 431_123 + number),
            "to": _text(self._end_ms - 197_877 - number),
            "tz": "Europe/Berlin",
        }

    def seconds(self, bot: str, question: Question, of: Parameters) -> float:
        """From the question about a range to the last byte of its answer, which has to be 200."""
        path, parameters = question
        url = f"/api/v1/bots/{bot}/{path}?{urlencode({**of, **parameters})}"
        began = time.perf_counter()
        try:
            status, body = self._answer(url)
        except (http.client.RemoteDisconnected, ConnectionError):
            self._own.connection.close()  # it was idle for too long: a browser opens another one as well
            status, body = self._answer(url)
        assert status == 200, body
        return time.perf_counter() - began

    def _answer(self, url: str) -> tuple[int, bytes]:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        self._own.connection.request("GET", url)
        answer = self._own.connection.getresponse()
        return answer.status, answer.read()


def _text(ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + f".{ms % 1000:03}Z"


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of each run."""

    bot: str
    filter: str
    question: str
    seconds: Sequence[float]

    def ms(self, share: float) -> float:
        """The percentile in milliseconds."""
        return percentile(self.seconds, share) * 1000


@contextmanager
def api(directory: Path, held: history.Held) -> Iterator[tuple[Reader, Footfall]]:
    """The query layer over a store."""
    port = free_port()
    to_servers = ("--clickhouse", held.url, "--broker", f"127.0.0.1:{free_port()}")  # no broker is there
    with Footfall(directory, "web", "--port", str(port), *to_servers) as web:
        web.answers(f"http://127.0.0.1:{port}/api/v1/bots")
        yield Reader(port, held.past.end_ms), web


def whole_page(reader: Reader, bot: str, questions: Sequence[Question], threads: ThreadPoolExecutor) -> float:
    """Seconds until the last question is answered."""
    of, began = reader.next_range(), time.perf_counter()
    list(threads.map(lambda question: reader.seconds(bot, question, of), [RANGE]))
    list(threads.map(lambda question: reader.seconds(bot, question, of), questions))
    return time.perf_counter() - began


def measured(reader: Reader, runs: int) -> list[Times]:
    """Of each bot and question, and of the whole page."""
    times: list[Times] = []
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for kind, bot in BOTS.items():
            for name, questions in ASKED.items():
                for question in questions:
                    alone = [reader.seconds(bot, question, reader.next_range()) for _ in range(1 + runs // 2)]
                    words = " ".join([question[0], *question[1].get("by", "").split()])
                    times.append(Times(bot=kind, filter=name, question=words, seconds=alone[1:]))
                whole = [whole_page(reader, bot, questions, threads) for _ in range(PAGES_BEFORE + runs)]
                times.append(Times(bot=kind, filter=name, question=WHOLE_PAGE, seconds=whole[PAGES_BEFORE:]))
                say(f"{kind}, {name}: {percentile(whole, 0.5) * 1000:.0f} ms")
    return times


def crowd(reader: Reader, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of each page of one reader, and of all those that many readers open in so many seconds."""

    def opened(number: int, until: float) -> list[float]:
        chance = random.Random(number)
        pages = []
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            if number:
                time.sleep(chance.uniform(0, LOOKS_SECONDS[1]))
            while time.monotonic() < until:
                bot = history.bot(chance.randrange(history.BOTS))
                pages.append(whole_page(reader, bot, QUESTIONS, threads))
                if number:
                    time.sleep(chance.uniform(*LOOKS_SECONDS))
        return pages

    one = opened(0, time.monotonic() + seconds / 4)
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(READERS) as readers:
        many = readers.map(lambda number: opened(number, until), range(1, READERS + 1))
    return one, [page for pages in many for page in pages]


def _shown(seconds: Sequence[float]) -> list[str]:
    return [f"{percentile(seconds, share) * 1000:.0f}" for share in (0.5, 0.95)]


async def _sizes(url: str) -> dict[str, tuple[int, int]]:
    """(rows, bytes) of each table."""
    async with connect(StoreAddress(url=url)) as store:
        return {table: (rows, size) for table, rows, size in await store.rows(SIZES)}


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="page", has_data=True, rows=100_000_000, runs=40)
    with harness.kept(given.data) as place:
        tenth = place / f"{given.rows // 10}"
        with history.held(tenth, given.rows // 10) as held, api(tenth, held) as (reader, _):
            before = measured(reader, given.runs)
        whole = place / f"{given.rows}"
        with history.held(whole, given.rows) as held, api(whole, held) as (reader, web):
            times = measured(reader, given.runs)
            one, many = crowd(reader, READERS_SECONDS)
            sizes = asyncio.run(_sizes(held.url))
            peaks = harness.peak_resident_mb(held.store.pid), harness.peak_resident_mb(web.pid)
    report = Report(name="page", title="Page", method=f"{__doc__.strip()}\n\n{history.DESCRIPTION}")
    passes = ", ".join(
        f"{seconds:.0f} s for {topic}"
        for topic, seconds in held.past.first_pass_seconds.items()
        if seconds > 1
    )
    report.say(
        f"{given.rows:,} requests, and {given.rows // 10:,}. The sealer's first pass over everything took {passes}."
        f" {given.runs} runs of the whole page, {given.runs // 2} of each question alone. At their peak the store had"
        f" {peaks[0]:,.0f} MB resident and the API {peaks[1]:,.0f} MB."
    )
    report.table(
        ["bot", "", "question", "p50, ms", "p95, ms", "p50 of a tenth", "p95 of a tenth", "times"],
        [
            [
                now.bot, now.filter, now.question,
                f"{now.ms(0.5):.0f}", f"{now.ms(0.95):.0f}", f"{then.ms(0.5):.0f}", f"{then.ms(0.95):.0f}",
                f"{now.ms(0.5) / then.ms(0.5):.2f}",
            ]
            for now, then in zip(times, before, strict=True)
        ],
    )  # fmt: skip
    report.table(
        ["readers", "pages", "p50, ms", "p95, ms"],
        [["1", len(one), *_shown(one)], [str(READERS), len(many), *_shown(many)]],
    )
    report.table(
        ["table", "rows", "MB", "bytes a row"],
        [[table, f"{n:,}", f"{size / 1e6:.1f}", f"{size / n:.1f}"] for table, (n, size) in sizes.items()],
    )
    events = sum(sizes[table][0] for table in RAW)
    shares = [sum(sizes[table][1] for table in tables) / events for tables in (RAW, ROLLUPS, BOOKS)]
    report.say(
        f"Bytes per event, of the {events:,} of all three topics: {shares[0]:.1f} as raw rows,"
        f" {shares[1]:.1f} in rollups, {shares[2]:.1f} in the ledger and the sealer's queue."
    )
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
