"""Export: rows and bytes a second of the API's CSV, beside the store's own `SELECT … FORMAT CSV` over HTTP, in turn.

The rows are put into the table by the store itself; no broker and no worker run. Both answers hold the same columns of
the same deduplicated rows in the same order; the API's has times with their zone, and cells that are safe in a
spreadsheet. What the API's process grows by is its greatest resident memory over what it had before the first export.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
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

    rows: int
    megabytes: float
    seconds: float
    first_byte_seconds: float


def asked(method: str, url: str, parameters: Mapping[str, str], body: str | None = None) -> Answer:
    """Ask, read all of the answer, and keep nothing of it."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_SECONDS)
    rows = size = 0
    began = time.monotonic()
    connection.request(method, f"{urlsplit(url).path or '/'}?{urlencode(parameters)}", body)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    piece = answer.read1(PIECE_BYTES)
    first = time.monotonic() - began
    while piece:
        rows += piece.count(b"\n")
        size += len(piece)
        piece = answer.read1(PIECE_BYTES)
    seconds = time.monotonic() - began
    connection.close()
    return Answer(rows=rows, megabytes=size / 1e6, seconds=seconds, first_byte_seconds=first)


def measured(directory: Path, rows: int, runs: int) -> tuple[list[Answer], list[Answer], float, float]:
    """The API's answers and the store's, of so many rows; the API's memory before, in MB, and what it grew by."""
    ours: list[Answer] = []
    stores: list[Answer] = []
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
            eventually(lambda: web.get(f"{url}/api/v1/bots/{BOT}/requests") == 200, 60)
            before = harness.resident_mb(web.pid)
            for _ in range(runs):
                export = asked(
                    "GET", f"{url}/api/v1/bots/{BOT}/requests/export", {"format": "csv", "range": "30d"}
                )
                ours.append(export)
                stores.append(asked("POST", store_url, bound, SELECT))
                assert export.rows - 1 == stores[-1].rows == rows  # ours has a header
                say(f"the API {export.seconds:.1f} s, the store {stores[-1].seconds:.1f} s")
            growth = harness.peak_resident_mb(web.pid) - before
    return ours, stores, before, growth


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="export", rows=5_000_000, runs=3)
    say(f"{given.rows:,} rows")
    with harness.place() as directory:
        ours, stores, before, growth = measured(directory, given.rows, given.runs)
    report = Report(
        name="export", title="Export", method=f"{__doc__.strip()} Median of the runs (least–greatest)."
    )
    report.table(
        ["", "rows", "runs", "seconds", "rows/s", "MB/s", "first byte, s"],
        [
            [
                name,
                f"{given.rows:,}",
                len(answers),
                spread([answer.seconds for answer in answers], "{:.2f}"),
                spread([given.rows / answer.seconds for answer in answers], "{:,.0f}"),
                spread([answer.megabytes / answer.seconds for answer in answers]),
                spread([answer.first_byte_seconds for answer in answers], "{:.2f}"),
            ]
            for name, answers in (("the API", ours), ("the store", stores))
        ],
    )
    ratios = [store.seconds / our.seconds for our, store in zip(ours, stores, strict=True)]
    report.say(f"The API's process had {before:.0f} MB resident, and {growth:.1f} MB more at its peak.")
    report.say(f"The API's rows a second over the store's, run by run: {spread(ratios, '{:.2f}')}.")
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
