"""Simulate: what the demo's bots are up to, published as it happens. `docs/simulate.md` says what they do.

The past that a run tells of is the same for every run of a seed, and so are the identities of its events: telling
it again counts nothing twice. What happens from the start of a run on belongs to that run alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from pipeline.errors import Misconfigured, Unavailable
from pipeline.population import Publication, past, present
from pipeline.publish import PATIENCE, NotAcknowledged, Publisher, until
from schemas.topics import Topic

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.config import Settings

log = logging.getLogger(__name__)

MAX_BACKFILL: Final = timedelta(days=400)
CHUNK_EVENTS: Final = 2_000
TICK_SECONDS: Final = 0.05
"""At high rates, events are published as often as this."""
BEHIND_SECONDS: Final = 1.0
"""What is late by less is on time."""
FIRST_PROGRESS_SECONDS: Final = 5.0
LONGEST_PROGRESS_SECONDS: Final = 600.0


@dataclass(kw_only=True)
class SimulationSummary:
    """What a simulation has published, and the broker has acknowledged."""

    topics: Counter[Topic] = field(default_factory=Counter)
    malformed: int = 0
    backfilled: int = 0
    """Of the events: those of the time before the start."""
    seconds: float = 0.0

    @property
    def events(self) -> int:
        return self.topics.total()

    def add(self, publication: Publication) -> None:
        """Count what is acknowledged."""
        self.topics[publication.topic] += 1
        self.malformed += publication.event_ms is None

    def __str__(self) -> str:
        by_topic = ", ".join(f"{topic} {self.topics[topic]:,}" for topic in Topic)
        past = f"{self.backfilled:,} of them from before the start, " if self.backfilled else ""
        return (
            f"published {self.events:,} events in {self.seconds:.1f} s ({by_topic}); "
            f"{past}{self.malformed:,} malformed on purpose"
        )


async def simulate(
    settings: Settings,
    *,
    rate: float,
    duration: timedelta | None = None,
    backfill: timedelta = timedelta(0),
    seed: int,
    backfilled_file: Path | None = None,
    stop: asyncio.Event | None = None,
    patience: timedelta = PATIENCE,
) -> SimulationSummary:
    """Publish the past of `backfill`, then `rate` events a second for `duration` (None: until `stop`).

    A limited duration ends with exactly `rate` times as many events, however long the broker takes for them. Once the
    past is acknowledged, `backfilled_file` says how many events it was, and when: see `backfilled`.

    Raises Misconfigured for a rate or duration that is none, Unavailable when the broker acknowledges nothing for
    `patience`.
    """
    _check(rate, duration, backfill)
    summary = SimulationSummary()
    began = time.monotonic()

    async def publish_all() -> None:
        connection, prefix = settings.broker_connection(), settings.topic_prefix
        async with Publisher(connection, prefix=prefix, patience=patience) as publisher:
            output = _Output(publisher, summary)
            await _publish_past(output, backfill=backfill, seed=seed)
            if backfilled_file is not None:
                _write_backfilled(backfilled_file, summary.events)
            await _publish_present(output, rate=rate, duration=duration, seed=seed)

    await until(stop, publish_all())
    summary.seconds = time.monotonic() - began
    return summary


def _write_backfilled(file: Path, events: int) -> None:
    file.write_text(f"{events} {_now_ms()}", encoding="utf-8")


def backfilled(file: Path) -> tuple[int, int] | None:
    """What a simulation says there: how many events of the past are published, and since when, in ms.

    None as long as they are not.
    """
    with suppress(FileNotFoundError):
        if text := file.read_text(encoding="utf-8"):  # it may be there and not written yet
            events, ms = map(int, text.split())
            return events, ms
    return None


def _check(rate: float, duration: timedelta | None, backfill: timedelta) -> None:
    if not 0 < rate < float("inf"):
        raise Misconfigured(f"--rate should be a number of events a second above 0, but is {rate}")
    if duration is not None and duration <= timedelta(0):
        raise Misconfigured(
            f"--duration should be longer than nothing, but is {duration.total_seconds():g} s"
        )
    if not timedelta(0) <= backfill <= MAX_BACKFILL:
        seconds = f"{backfill.total_seconds():g} s"
        raise Misconfigured(
            f"--backfill should be from nothing to {MAX_BACKFILL.days} days, but is {seconds}"
        )


async def _publish_past(output: _Output, *, backfill: timedelta, seed: int) -> None:
    if not backfill:
        return
    summary, began, to_ms = output.summary, time.monotonic(), _now_ms()
    events = past(seed, from_ms=to_ms - backfill // timedelta(milliseconds=1), to_ms=to_ms)
    while chunk := list(islice(events, CHUNK_EVENTS)):
        await output.publish(chunk)
        summary.backfilled = summary.events
    seconds = time.monotonic() - began
    log.info("published %d events of the last %s, in %.1f s", summary.events, _words(backfill), seconds)


async def _publish_present(output: _Output, *, rate: float, duration: timedelta | None, seed: int) -> None:
    traffic, began = present(seed, started=datetime.now(UTC)), time.monotonic()
    total = None if duration is None else round(rate * duration.total_seconds())
    published = 0
    while published != total:
        elapsed, now_ms = time.monotonic() - began, _now_ms()
        due = int(elapsed * rate) if total is None else min(int(elapsed * rate), total)
        chunk = range(published, min(due, published + CHUNK_EVENTS))
        if not chunk:
            await asyncio.sleep(max(TICK_SECONDS, (published + 1) / rate - elapsed))
            continue
        # Each at the time at which it was due, reckoned back from now: a machine that was asleep is not behind.
        times = [now_ms - int((elapsed - number / rate) * 1000) for number in chunk]
        await output.publish([traffic.next(ms) for ms in times], behind_seconds=elapsed - published / rate)
        published = chunk.stop


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _words(span: timedelta) -> str:
    hours = span / timedelta(hours=1)
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


class _Output:
    """Where events go: to the broker, into the summary, and ever more rarely a word of progress onto the log."""

    def __init__(self, publisher: Publisher, summary: SimulationSummary) -> None:
        self._publisher = publisher
        self.summary = summary
        self._pause_seconds = FIRST_PROGRESS_SECONDS
        self._next_progress = time.monotonic() + self._pause_seconds

    async def publish(self, events: list[Publication], *, behind_seconds: float = 0.0) -> None:
        """Return when all are acknowledged; the summary counts them. The first was due so long ago.

        Raises Unavailable when none is for the time of patience, Misconfigured when we may not write to a topic.
        """
        try:
            await self._publisher.publish(events, self.summary.add)
        except NotAcknowledged as error:
            raise Unavailable(f"{error}; {self.summary.events:,} events are published") from error
        if time.monotonic() >= self._next_progress:
            behind = f", {behind_seconds:.0f} s behind" if behind_seconds >= BEHIND_SECONDS else ""
            log.info("published %d events so far%s", self.summary.events, behind)
            self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PROGRESS_SECONDS)
            self._next_progress = time.monotonic() + self._pause_seconds
