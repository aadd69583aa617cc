"""Export: rows and bytes a second of the API, beside the store's own `SELECT … FORMAT CSV` over HTTP, in turn.

The rows are put into the table by the store itself; no broker and no worker run. All answers hold the same columns of
the same deduplicated rows in the same order; the API's have times with their zone, and its CSV cells that are safe in a
spreadsheet. Bytes are as they were sent. What the API's process grows by is its greatest resident memory over what it
had before the first export.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from benchmarks import harness
from benchmarks.harness import Report, say, spread
from tests.footfall import Footfall, footfall
from tests.kafka import free_port
from tests.stack import eventually

BOT = "export"
PIECE_BYTES = 1 << 20
LIMIT_SECONDS = 300

FILL = """
INSERT INTO footfall.bot_requests
    (bot_id, event_ms, event_id, endpoint, chat_id, ip, country, region, city, browser, client_class, timezone,
     page_url, user_agent, geo_build_seconds, source_topic, source_epoch, source_partition, source_offset, record_ms)
SELECT
    {bot:String},
    toUnixTimestamp64Milli(now64(3)) - number * 20 AS ms,
    lower(hex(MD5(toString(number)))),
    ['api', 'widget', 'fs_chat', 'slack'][number % 4 + 1],
    concat('chat-', toString(intDiv(number, 4))),
    concat('10.', toString(number % 5), '.', toString(intDiv(number, 7) % 256), '.', toString(number % 251)),
    ['DE', 'US', 'NP', 'BR', ''][number % 5 + 1],
    concat('Region ', toString(number % 700)),
    concat('City ', toString(number % 6000)),
    ['Chrome', 'Firefox', 'Safari', 'Edge', ''][number % 5 + 1],
    'person',
    'Europe/Berlin',
    concat('https://example.com/help/articles/', toString(number % 1000)),
    'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    0,
    'bot_requests',
    '00000000-0000-4000-8000-000000000001',
    number % 8,
    number,
    ms
FROM numbers({rows:UInt64})
"""

FORMS: Final[Mapping[str, tuple[str, str, int | None]]] = {
    "the API, CSV": ("csv", "identity", 1),
    "the API, JSON": ("json", "identity", 2),
    "the API, NDJSON": ("ndjson", "identity", 0),
    "the API, CSV with gzip": ("csv", "gzip", None),
}
"""What the API is asked for: `format`, the encoding, and how many lines there are beside the rows; None: unseen."""
STORE: Final = "the store, CSV"

SELECT = """
SELECT
    event_time AS time, endpoint, ip, country, region, city, browser, timezone, page_url, chat_id, client_class,
    event_id
FROM footfall.bot_requests FINAL
WHERE bot_id = {bot:String}
ORDER BY event_time DESC, event_id DESC
SETTINGS do_not_merge_across_partitions_select_final = 1
FORMAT CSV
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer, and how long it took from the request to its last byte."""

    announced: str | None
    """How many rows, before the first of them."""
    lines: int
    megabytes: float
    seconds: float
    first_byte_seconds: float


def asked(
    method: str,
    url: str,
    parameters: Mapping[str, str],
    body: str | None = None,
    *,
    encoding: str = "identity",
) -> Answer:
    """Ask, read all of the answer, and keep nothing of it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_SECONDS)
    lines = size = 0
    began = time.monotonic()
    path = f"{urlsplit(url).path or '/'}?{urlencode(parameters)}"
    connection.request(method, path, body, {"Accept-Encoding": encoding})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert answer.headers.get("Content-Encoding", "identity") == encoding
    piece = answer.read1(PIECE_BYTES)
    first = time.monotonic() - began
    while piece:
        lines += piece.count(b"\n")
        size += len(piece)
        piece = answer.read1(PIECE_BYTES)
    seconds = time.monotonic() - began
    connection.close()
    return Answer(
        announced=answer.headers.get("Footfall-Row-Count"),
        lines=lines,
        megabytes=size / 1e6,
        seconds=seconds,
        first_byte_seconds=first,
    )


def measured(directory: Path, rows: int, runs: int) -> tuple[Mapping[str, Sequence[Answer]], float, float]:
    """Answers of so many rows by what was asked for; the API's memory before, in MB, and what it grew by."""
    answers: dict[str, list[Answer]] = {name: [] for name in (*FORMS, STORE)}
    store_port, port = free_port(), free_port()
    store_url, url = f"http://127.0.0.1:{store_port}", f"http://127.0.0.1:{port}"
    settings = ("--data-dir", directory / "data", "--store-port", str(store_port))
    to_servers = ("--clickhouse", store_url, "--broker", f"127.0.0.1:{free_port()}")  # no broker is there
    bound = {"param_bot": BOT, "param_rows": str(rows)}
    with Footfall(directory, "store", *settings) as store:
        store.says("ready")
        done = footfall("migrate", "--clickhouse", store_url)
        assert done.returncode == 0, done.stderr
        asked("POST", store_url, bound, FILL)
        with Footfall(directory, "web", "--port", str(port), *to_servers) as web:
            export = f"{url}/api/v1/bots/{BOT}/requests/export"
            eventually(lambda: web.get(f"{url}/api/v1/bots/{BOT}/requests") == 200, 60)
            before = harness.resident_mb(web.pid)
            for _ in range(runs):
                for name, (form, encoding, others) in FORMS.items():
                    answer = asked("GET", export, {"format": form, "range": "30d"}, encoding=encoding)
                    assert answer.announced == str(rows)
                    assert others is None or answer.lines - others == rows
                    answers[name].append(answer)
                answer = asked("POST", store_url, bound, SELECT)
                assert answer.lines == rows
                answers[STORE].append(answer)
                say(", ".join(f"{name} {some[-1].seconds:.1f} s" for name, some in answers.items()))
            growth = harness.peak_resident_mb(web.pid) - before
    return answers, before, growth


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="export", rows=5_000_000, runs=3)
    say(f"{given.rows:,} rows")
    with harness.place() as directory:
        answers, before, growth = measured(directory, given.rows, given.runs)
    report = Report(
        name="export", title="Export", method=f"{__doc__.strip()} Median of the runs (least–greatest)."
    )
    report.table(
        ["", "rows", "runs", "MB", "seconds", "rows/s", "first byte, s"],
        [
            [
                name,
                f"{given.rows:,}",
                len(some),
                f"{some[0].megabytes:,.0f}",
                spread([answer.seconds for answer in some], "{:.2f}"),
                spread([given.rows / answer.seconds for answer in some], "{:,.0f}"),
                spread([answer.first_byte_seconds for answer in some], "{:.2f}"),
            ]
            for name, some in answers.items()
        ],
    )
    pairs = zip(answers["the API, CSV"], answers[STORE], strict=True)
    ratios = [store.seconds / our.seconds for our, store in pairs]
    report.say(f"The API's process had {before:.0f} MB resident, and {growth:.1f} MB more at its peak.")
    report.say(
        f"The rows a second of the API's CSV over the store's, run by run: {spread(ratios, '{:.2f}')}."
    )
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
