"""Start: from the command to readiness, and to a page that shows data, for `footfall up` and `footfall up --demo`.

Each start has a data directory of its own. Times are from the moment the command is called. The page is a real one:
Chromium, already running, opens it as soon as the command says that it is ready and one event was posted (`up`), or the
API lists a bot that has requests (`--demo`); the page's total of requests has to be more than 0.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from benchmarks import harness
from benchmarks.harness import Report, say, spread
from tests.footfall import Footfall
from tests.kafka import free_port

BOT: Final = "first-bot"
LIMIT_SECONDS: Final = 90
READER_WAITS_SECONDS: Final = 3
CHROMIUM: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
SHOWS_REQUESTS: Final = """() => {
    const value = document.querySelector("[data-card=total_requests] .card-value:not(.skeleton)");
    return value !== null && /[1-9]/.test(value.textContent);
}"""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds from the command on."""

    readyz: float
    said_ready: float
    page: float


def started(directory: Path, browser: Browser, *, demo: bool) -> Start:
    """Start it, open the page, stop it."""
    ports = {name: free_port() for name in ("port", "broker_port", "store_port", "metrics_port")}
    flags = [word for name, port in ports.items() for word in ("--" + name.replace("_", "-"), str(port))]
    words = ["--demo"] if demo else []
    url = f"http://127.0.0.1:{ports['port']}"
    page = browser.new_page()
    began = time.monotonic()
    with Footfall(directory, "up", *words, "--data-dir", directory / "data", *flags) as up:
        up.answers(f"{url}/readyz", within=LIMIT_SECONDS)
        readyz = time.monotonic() - began
        up.says("Footfall is ready", within=LIMIT_SECONDS)
        said_ready = time.monotonic() - began
        if demo:
            bot = _first_bot(url)
        else:
            bot = BOT
            event = {
                "bot_id": BOT,
                "event_id": "1",
                "event_time": int(time.time() * 1000),
                "endpoint": "api",
            }
            httpx.post(f"{url}/api/v1/events/bot_requests", json=event, timeout=30).raise_for_status()
        page.goto(f"{url}/bots/{bot}/analytics")
        harness.wait_until(
            lambda: _shows(page), seconds=LIMIT_SECONDS, pause=0, what="the page shows nothing"
        )
        shown = time.monotonic() - began
        page.close()
        up.stop(within=60)
    return Start(readyz=readyz, said_ready=said_ready, page=shown)


def _shows(page: Page) -> bool:
    """Whether the page shows a number soon; if not, its reader reloads it."""
    try:
        page.wait_for_function(SHOWS_REQUESTS, timeout=READER_WAITS_SECONDS * 1000)
    except TimeoutError:
        page.reload()
        return False
    return True


def _first_bot(url: str) -> str:
    """The first that has requests."""
    found: list[str] = []

    def is_there() -> bool:
        answer = httpx.get(f"{url}/api/v1/bots", timeout=30)
        rows = answer.json()["data"]["rows"] if answer.is_success else []
        found.extend(row["bot_id"] for row in rows if row["requests_7d"])
        return bool(found)

    harness.wait_until(is_there, seconds=LIMIT_SECONDS, pause=0.1, what="the demo has no bots")
    return found[0]


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="start", runs=3, demo_runs=3)
    chromium = os.environ.get("FOOTFALL_TEST_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on PATH: install it, or name it in FOOTFALL_TEST_CHROMIUM")
    starts: dict[str, list[Start]] = {}
    with sync_playwright() as playwright, harness.place() as directory:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM])
        browser.new_page().close()
        for command, demo, runs in (
            ("footfall up", False, given.runs),
            ("footfall up --demo", True, given.demo_runs),
        ):
            for run in range(runs):
                start = started(directory / f"{demo}-{run}", browser, demo=demo)
                starts.setdefault(command, []).append(start)
                say(f"{command}: ready after {start.said_ready:.1f} s, page after {start.page:.1f} s")
        browser.close()
    report = Report(
        name="start", title="Start", method=f"{__doc__.strip()} Median of the runs (least–greatest)."
    )
    report.table(
        ["command", "runs", "`/readyz` is 200, s", "says it is ready, s", "page shows data, s"],
        [
            [
                f"`{command}`",
                len(found),
                spread([start.readyz for start in found]),
                spread([start.said_ready for start in found]),
                spread([start.page for start in found]),
            ]
            for command, found in starts.items()
        ],
    )
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
