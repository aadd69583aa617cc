"""What all benchmarks share: a place to run in, processes watched from outside, a report."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx

from pipeline.embedded.child import dies_with_parent
from pipeline.embedded.kafka import jars
from pipeline.errors import Misconfigured
from tests.footfall import clean_environment
from tests.kafka import Kafka
from tests.stack import Stack, Worker

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("footfall", "faust-streaming", "aiokafka", "clickhouse-connect", "chdb", "confluent-kafka")


# --- processes, as the kernel sees them ------------------------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_resident_mb(pid: int) -> float:
    """The most memory that a process has had resident."""
    [line] = [line for line in _lines(f"/proc/{pid}/status") if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


def wait_until(holds: Callable[[], bool], *, seconds: float, pause: float, what: str) -> None:
    """Ask every `pause` seconds; a benchmark that takes longer than `seconds` has failed."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s: {what}")
        time.sleep(pause)


def python(*words: str | Path) -> subprocess.Popen[str]:
    """A Python process of our own, which ends with this one; its output is read by the caller."""
    return subprocess.Popen(
        dies_with_parent([sys.executable, *map(str, words)]),
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def output_of(process: subprocess.Popen[str], *, seconds: float) -> str:
    """What a process has printed when it has come to a good end."""
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return printed


# --- places to run in ------------------------------------------------------------------------------------


@contextmanager
def place() -> Iterator[Path]:
    """A directory that is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="footfall-benchmark-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def kept(directory: Path | None) -> Iterator[Path]:
    """A directory that stays, or where none is given one that is gone afterwards."""
    if directory is not None:
        yield directory
    else:
        with place() as temporary:
            yield temporary


@contextmanager
def kafka(directory: Path) -> Iterator[str]:
    """A real Apache Kafka of its own; its `host:port`."""
    with Kafka(directory / "kafka") as broker:
        yield broker.bootstrap


@contextmanager
def stored(directory: Path, bootstrap: str, *, name: str, geo: Path | None = None) -> Iterator[Stack]:
    """A store with its tables, and no worker yet, for topics whose names begin with `name.`"""
    stack = Stack(directory, bootstrap, name=name, geoip_database=geo)
    try:
        stack.start_store()
        stack.run("migrate")
        yield stack
        for worker in stack.workers:
            worker.stop()  # in order: one that is killed stays in its consumer group for a while
    finally:
        stack.__exit__()


def consumed(worker: Worker, topic: str = "bot_requests") -> int:
    """How many records of the topic this worker has made durable; 0 while it does not answer."""
    try:
        return int(worker.metric("footfall_records_total", topic=topic))
    except httpx.TransportError:
        return 0


# --- the report ------------------------------------------------------------------------------------------


def arguments(description: str, *, name: str, has_data: bool = False, **sizes: int) -> argparse.Namespace:
    """Sizes by name with their defaults, `--write`, and if it has data to keep `--data`."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    for size, default in sizes.items():
        parser.add_argument(
            "--" + size.replace("_", "-"), type=int, default=default, help=f"default {default:,}"
        )
    if has_data:
        parser.add_argument("--data", type=Path, help="keep what is generated here, and find it again")
    parser.add_argument(
        "--write", action="store_true", help=f"put the report into benchmarks/results/{name}.md"
    )
    return parser.parse_args()


@dataclass(kw_only=True)
class Report:
    """A title, what was measured on what, tables; printed as Markdown."""

    name: str
    title: str
    method: str
    parts: list[str] = field(default_factory=list)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; what is a number stands to the right."""
        texts = [[str(cell) for cell in row] for row in rows]
        is_number = [all(row[n][:1].isdigit() for row in texts) for n in range(len(head))]
        lines = [_row(head), _row(["--:" if number else "---" for number in is_number])]
        self.parts.append("\n".join([*lines, *map(_row, texts)]))

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(text)

    def finish(self, *, write: bool) -> None:
        """Print it; with `write` put it beside the results of earlier runs too."""
        text = "\n\n".join([f"# {self.title}", self.method, *self.parts, where_and_when()]) + "\n"
        print(text, flush=True)
        if write:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{self.name}.md").write_text(text, encoding="utf-8")


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    """Median, least and greatest."""
    if not values:
        return "–"
    shown = form.format(statistics.median(values))
    return shown if len(values) == 1 else f"{shown} ({form.format(min(values))}–{form.format(max(values))})"


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that this share of all does not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def where_and_when() -> str:
    """Machine, versions, commit, date."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    memory_kb = int(_lines("/proc/meminfo")[0].split()[1])
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    try:
        versions.append("Apache " + next(jars().glob("kafka_2*.jar")).stem.replace("kafka_2.13-", "Kafka "))
    except Misconfigured:
        versions.append("no Apache Kafka")
    return "\n".join(
        [
            "## Where and when",
            "",
            f"- Machine: {cpu}, {os.cpu_count()} cores, {memory_kb / 1e6:.0f} GB, {platform.system()};"
            " broker, store, workers and load share it.",
            f"- Versions: Python {platform.python_version()}, {', '.join(versions)}.",
            f"- Commit: {_commit()}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC;"
            f" load average at the end {os.getloadavg()[0]:.1f}.",
        ]
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        " with changes" if git("status", "--porcelain", "-uno") else ""
    )
