"""The long run: round after round of faults, each on a Footfall of its own and with a seed of its own.

`make soak` starts it; `FAULTS`, `EVENTS`, `SEED` and `MINUTES` are its settings. After each round the table in
docs/faults.md is written, so that whatever ends it, what was done stands there. It ends at the first round in which
anything is not as it should be.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.faults.kinds import KINDS
from tests.faults.run import Report, run
from tests.kafka import jars

FAULTS = 100
"""Of a round."""
SECONDS_BETWEEN = 2.5
"""About how long a fault takes: events are spread over that."""
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- written by `make soak` -->\n", "<!-- until here -->\n"


def soak(*, seed: str, faults: int, events: int, minutes: float, page: Path) -> None:
    """Rounds until so many faults have been counted, or no time is left for another."""
    began, commit = time.monotonic(), said_by_git("rev-parse", "--short=12", "HEAD")
    assert not said_by_git("status", "--porcelain"), "commit first: the table names the commit"
    reports: list[Report] = []
    while (counted := sum(report.counted.total() for report in reports)) < faults:
        longest = max((report.seconds for report in reports), default=0.0)
        if time.monotonic() - began + longest > minutes * 60:
            print(f"no time for another round: {counted} of {faults} faults")
            break
        size = min(FAULTS, faults - counted)
        with tempfile.TemporaryDirectory(prefix="footfall-soak-") as directory:
            report = run(
                Path(directory),
                seed=f"{seed}.{len(reports) + 1}",
                faults=size,
                events=events * size // faults,
                rate=events / faults / SECONDS_BETWEEN,
            )
        reports.append(report)
        write(page, reports, commit=commit, seconds=time.monotonic() - began)
        print(
            f"round {len(reports)}: {sum(report.counted.total() for report in reports)} of {faults} faults,"
            f" {sum(report.events for report in reports)} of {events} events,"
            f" {(time.monotonic() - began) / 60:.0f} minutes",
            flush=True,
        )


def write(page: Path, reports: Sequence[Report], *, commit: str, seconds: float) -> None:
    """Put the table of these rounds into the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(before + BEGIN + table(reports, commit=commit, seconds=seconds) + END + after)


def table(reports: Sequence[Report], *, commit: str, seconds: float) -> str:
    """What was counted, by kind, and where, when and with what seeds."""
    counted = sum((report.counted for report in reports), Counter[str]())
    lines = ["| kind | faults |", "|---|---|"]
    lines += [f"| {kind} | {counted[kind]} |" for kind in KINDS]
    lines += [f"| **all** | **{counted.total()}** |", ""]
    lines += [
        "| seed | faults | events | workers that asked for a restart | drained after, s |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{report.seed}` | {report.counted.total()} | {report.events:,} | {report.restarts} |"
        f" {report.drained_seconds:.1f} |"
        for report in reports
    ]
    events, restarts = sum(report.events for report in reports), sum(report.restarts for report in reports)
    slowest = max(report.drained_seconds for report in reports)
    lines += [
        f"| **all** | **{counted.total()}** | **{events:,}** | **{restarts}** | **{slowest:.1f}** at most |",
        "",
    ]
    kafka = re.sub(r".*-", "", next(jars().glob("kafka_2*.jar")).stem)
    lines += [
        f"Commit {commit}, {datetime.now(UTC):%Y-%m-%d}, {seconds / 60:.0f} minutes on {os.cpu_count()} cores:"
        f" Apache Kafka {kafka}, chDB {version('chdb')}, Python {platform.python_version()}.",
        "",
    ]
    return "\n".join(lines)


def said_by_git(*words: str) -> str:
    """What git answers."""
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument(
        "--minutes", type=float, default=240.0, help="no round begins that would not end in time"
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    soak(seed=given.seed, faults=given.faults, events=given.events, minutes=given.minutes, page=given.page)


if __name__ == "__main__":
    main()
