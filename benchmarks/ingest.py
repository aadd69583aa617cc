"""Ingest from a real Kafka: CPU per event of worker and store, events per second, the share of each stage.

Each run writes a topic of its own, and reads it with one worker, with two, and with what one would write instead, in
turn. A worker's store is new each time. CPU is user and system time of the whole process, by the kernel, between the
first flush that the worker reports and the last; `events` are records, duplicates included.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import harness, population
from benchmarks.harness import Report, say, spread
from benchmarks.peers.work import WARM_UP_EVENTS
from pipeline.topics import BrokerConnection, ensure_topics
from tests.stack import Stack, Worker

SLOWEST_EVENTS_A_SECOND = 2_000
"""On this or any slower machine a run is given up."""

WATCHED_EVENTS = 500_000
"""So many tell where a worker's time goes."""

STAGES = {
    "decode": ("decode (pipeline/flow.py",),
    "enrich": ("enrich (pipeline/flow.py",),
    "deduplicate": ("(pipeline/deduplicate.py",),
    "window": ("window (pipeline/flow.py",),
    "flush: encode, compress, send": (
        "flush (pipeline/flow.py",
        "clickhouse_connect/",
        "(clickhouse/",
        "aiohttp/",
    ),
    "fetch and deliver: Kafka, Faust": ("aiokafka/", "faust/", "mode/", "(pipeline/transport.py"),
}
"""A sample belongs to the first stage one of whose marks its call stack contains, innermost call first."""

WAITING = ("EpollSelector.select (selectors.py", "_worker (concurrent/futures/thread.py")
"""Innermost calls that the sampler takes for work now and then."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run took."""

    events: int
    seconds: float
    cpu_seconds: float
    store_cpu_seconds: float = 0.0
    late_share: float = 0.0

    @property
    def micros(self) -> float:
        """CPU of workers, µs per event."""
        return self.cpu_seconds / self.events * 1e6

    @property
    def store_micros(self) -> float:
        """CPU of the store, µs per event."""
        return self.store_cpu_seconds / self.events * 1e6

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds


class Bench:
    """A broker, a geo database, and a topic for each run."""

    def __init__(self, directory: Path, bootstrap: str, events: int) -> None:
        self._directory = directory
        self._bootstrap = bootstrap
        self._events = events
        self._geo = population.write_geo_database(directory / "places.mmdb")
        self._stores = 0

    def write_topic(self, run: int) -> str:
        """Write the run's events; the prefix of its topics."""
        prefix = f"ingest-{run}"
        asyncio.run(ensure_topics(BrokerConnection(bootstrap=self._bootstrap), prefix=f"{prefix}."))
        words = (self._bootstrap, f"{prefix}.bot_requests", "--events", str(self._events), "--seed", str(run))
        writer = harness.python("-m", "benchmarks.population", *words)
        harness.output_of(writer, seconds=60 + self._events / SLOWEST_EVENTS_A_SECOND)
        return prefix

    def footfall(self, prefix: str, *, workers: int, watch: Path | None = None) -> Cost:
        """Consume the topic; with `watch` a part of it, with the worker's call stacks sampled into that file."""
        self._stores += 1
        directory = self._directory / f"store-{self._stores}"
        with harness.stored(directory, self._bootstrap, name=prefix, geo=self._geo) as stack:
            started = [stack.start_worker() for _ in range(workers)]
            return self._measured(stack, started, watch)

    def _measured(self, stack: Stack, workers: Sequence[Worker], watch: Path | None) -> Cost:
        def progress() -> list[int]:
            return [harness.consumed(worker) for worker in workers]

        def clock() -> tuple[float, float, float]:
            cpu = sum(harness.cpu_seconds(worker.process.pid) for worker in workers)
            return time.monotonic(), cpu, harness.cpu_seconds(stack.store.pid)

        limit = 60 + self._events / SLOWEST_EVENTS_A_SECOND
        harness.wait_until(
            lambda: all(progress()) or sum(progress()) >= self._events,
            seconds=limit, pause=0.05, what="no worker has consumed anything",
        )  # fmt: skip
        first, before = progress(), clock()
        if sum(first) >= self._events:
            raise ValueError("too few events: they were consumed before every worker had its part")
        wanted = self._events if watch is None else min(self._events, WATCHED_EVENTS)
        sampler = None if watch is None else _sampler(workers[0].process.pid, watch)
        harness.wait_until(
            lambda: sum(progress()) >= wanted, seconds=limit, pause=0.25, what="not all was consumed"
        )
        after = clock()
        if sampler is not None:
            sampler.send_signal(signal.SIGINT)  # it writes its file
            sampler.wait(60)
        late = sum(worker.metric("footfall_late_events_total") for worker in workers)
        done = sum(progress())
        seconds, cpu, store = (end - begin for begin, end in zip(before, after, strict=True))
        return Cost(
            events=done - sum(first),
            seconds=seconds,
            cpu_seconds=cpu,
            store_cpu_seconds=store,
            late_share=late / done,
        )

    def peer(self, program: str, prefix: str, events: int, *words: str) -> Cost:
        """Let a program of `peers/` consume so many events of the topic after those that warm it up."""
        topic = f"{prefix}.bot_requests"
        process = harness.python(
            "-m", f"benchmarks.peers.{program}", self._bootstrap, topic, str(events), self._geo, *words
        )
        return Cost(**json.loads(harness.output_of(process, seconds=120 + events / 500)))


def _sampler(pid: int, file: Path) -> subprocess.Popen[bytes]:
    command = Path(sys.executable).with_name("py-spy")
    words = ["record", "--pid", str(pid), "--rate", "200", "--format", "raw", "--output", str(file)]
    return subprocess.Popen(
        [command, *words, "--duration", "unlimited"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def shares(file: Path) -> Counter[str]:
    """Samples by stage."""
    counted: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        calls = stack.split(";")
        if not calls[-1].startswith(WAITING):
            counted[_stage(calls)] += int(count)
    return counted


def _stage(calls: Sequence[str]) -> str:
    for call in reversed(calls):
        for stage, marks in STAGES.items():
            if any(mark in call for mark in marks):
                return stage
    return "other: progress, sealing, metrics"


def main() -> None:
    """The command line."""
    given = harness.arguments(
        __doc__.splitlines()[0], name="ingest",
        events=2_000_000, runs=5, two_worker_runs=1, peer_events=300_000, faust_events=30_000,
    )  # fmt: skip
    most = given.events - WARM_UP_EVENTS
    if most <= 0:
        raise SystemExit(f"--events has to be more than the {WARM_UP_EVENTS:,} that warm the peers up")
    one: list[Cost] = []
    two: list[Cost] = []
    bare: list[Cost] = []
    tuned: list[Cost] = []
    stock: list[Cost] = []
    with harness.place() as directory, harness.kafka(directory) as bootstrap:
        bench = Bench(directory, bootstrap, given.events)
        for run in range(1, given.runs + 1):
            say(f"run {run} of {given.runs}: writing {given.events:,} events")
            prefix = bench.write_topic(run)
            one.append(bench.footfall(prefix, workers=1))
            say(
                f"one worker: {one[-1].micros:.1f} µs, store {one[-1].store_micros:.1f} µs, {one[-1].rate:,.0f}/s"
            )
            if run <= given.two_worker_runs:
                two.append(bench.footfall(prefix, workers=2))
                say(f"two workers: {two[-1].micros:.1f} µs, {two[-1].rate:,.0f}/s")
            bare.append(bench.peer("bare_loop", prefix, min(given.peer_events, most), "default"))
            tuned.append(bench.peer("bare_loop", prefix, min(given.peer_events, most), "tuned"))
            stock.append(bench.peer("faust_agent", prefix, min(given.faust_events, most)))
            say(
                f"bare loop {bare[-1].micros:.1f} µs, tuned {tuned[-1].micros:.1f} µs, Faust {stock[-1].micros:.1f} µs"
            )
        say("where a worker's time goes")
        bench.footfall(prefix, workers=1, watch=directory / "stacks.txt")
        stages = shares(directory / "stacks.txt")
    _report(one, two, bare, tuned, stock, stages).finish(write=given.write)


def _report(
    one: list[Cost],
    two: list[Cost],
    bare: list[Cost],
    tuned: list[Cost],
    stock: list[Cost],
    stages: Counter[str],
) -> Report:
    report = Report(
        name="ingest",
        title="Ingest",
        method=f"{(__doc__ or '').strip()}\n\n{population.DESCRIPTION}\n\nThe programs of `peers/` run the pipeline's"
        " own decode, enrich and window, know no duplicates and store nothing; they read the topic's first part, and"
        f" are timed once {WARM_UP_EVENTS:,} events have filled their caches."
        " Median of the runs (least–greatest).",
    )
    programs = {
        "Footfall, one worker": one,
        "Footfall, two workers": two,
        "bare confluent-kafka loop": bare,
        "the same, collector tuned as Footfall's": tuned,
        "stock Faust agent": stock,
    }
    report.table(
        ["", "events a run", "runs", "CPU µs/event", "store CPU µs/event", "events/s"],
        [
            [
                name,
                f"{costs[0].events:,}",
                len(costs),
                spread([cost.micros for cost in costs]),
                spread([cost.store_micros for cost in costs]) if costs[0].store_cpu_seconds else "–",
                spread([cost.rate for cost in costs], "{:,.0f}"),
            ]
            for name, costs in programs.items()
            if costs
        ],
    )
    ratios = {
        name: spread([ours.micros / theirs.micros for ours, theirs in zip(one, costs, strict=True)], "{:.2f}")
        for name, costs in list(programs.items())[2:]
    }
    report.say("One worker's CPU against each, run by run:")
    report.table(["of the", "times"], [*ratios.items()])
    report.say(f"{one[-1].late_share:.1%} of the events went past the windows, because they were late.")
    total = sum(stages.values()) or 1
    report.say(
        "Share of each stage in one worker's time on the CPU, by sampling, in a run that is not counted above:"
    )
    report.table(["stage", "share"], [[stage, f"{n / total:.1%}"] for stage, n in stages.most_common()])
    return report


if __name__ == "__main__":
    main()
