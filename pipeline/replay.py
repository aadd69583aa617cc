"""Replay: a file of what has happened before becomes events on a topic. `docs/replay.md` says what becomes what.

Each line's event_id is a hash of the file up to that line and of the shift of its times. So the same replay
again publishes the same events, which count once, and a log that has grown adds what it has grown by.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pipeline.decode import MalformedEvent, decode, is_bot_id
from pipeline.errors import Misconfigured, Unavailable
from pipeline.publish import PATIENCE, NotAcknowledged, Publisher, until
from pipeline.replay_formats import (
    TOKEN_TRACE_HEADER,
    Format,
    Line,
    Skipped,
    SkipReason,
    access_log_line,
    is_token_trace_header,
    ndjson_line,
    repeats_a_key,
    text_of,
    token_trace_line,
)
from schemas.dead_letter import Reason
from schemas.event import MAX_EVENT_MS, MAX_VALUE_BYTES, MIN_EVENT_MS
from schemas.topics import Topic

if TYPE_CHECKING:
    from pipeline.config import Settings

log = logging.getLogger(__name__)

CHUNK_EVENTS: Final = 5_000
CHUNK_BYTES: Final = 4 << 20
SLACK_SECONDS: Final = 0.05
"""How far ahead of its time an event may be published, so that not each one is sent alone."""
LINES_SHOWN: Final = 5
LINES_PER_TURN: Final = 1_000
LOOK_SECONDS: Final = 0.2
PROGRESS_SECONDS: Final = 5.0


# --- what came of it -----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Tally:
    """How many lines, and the first of them."""

    count: int = 0
    first_lines: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.count += 1
        if len(self.first_lines) < LINES_SHOWN:
            self.first_lines.append(number)

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.first_lines) else ""
        return f"{self.count:,} (line {', '.join(map(str, self.first_lines))}{more})"


@dataclass(kw_only=True)
class ReplaySummary:
    """What a replay did. Every line is an event, or skipped for a reason; a header is neither."""

    file: Path
    topic: str
    lines: int = 0
    events: int = 0
    """Published and acknowledged."""
    skipped: dict[SkipReason, Tally] = field(default_factory=dict)
    cut: Tally = field(default_factory=Tally)
    """Of the events: those whose line ended early."""
    refused: dict[Reason, Tally] = field(default_factory=dict)
    """Of the events: those that the workers will put among the dead letters."""
    shift: timedelta = timedelta(0)
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    seconds: float = 0.0
    is_complete: bool = False
    """Whether it came to the end of the file."""

    def add(self, event_ms: int | None) -> None:
        """Count an event that is acknowledged."""
        self.events += 1
        if event_ms is not None and MIN_EVENT_MS <= event_ms <= MAX_EVENT_MS:
            first, last = self.first_event_ms, self.last_event_ms
            self.first_event_ms = event_ms if first is None else min(first, event_ms)
            self.last_event_ms = event_ms if last is None else max(last, event_ms)

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def advice(self) -> str:
        """What running the same command again would do."""
        if self.shift:
            return "another run moves times by more, so its events would count beside these"
        return "run the same command again: nothing counts twice"

    def __str__(self) -> str:
        rows = [("file", str(self.file)), ("topic", self.topic), ("lines read", f"{self.lines:,}")]
        rows.append(("events published", f"{self.events:,}"))
        if self.cut.count:
            rows.append(("  of a line cut off", str(self.cut)))
        rows += [(f"  malformed: {reason}", str(tally)) for reason, tally in sorted(self.refused.items())]
        rows.append(("lines skipped", f"{sum(tally.count for tally in self.skipped.values()):,}"))
        rows += [(f"  {reason}", str(tally)) for reason, tally in sorted(self.skipped.items())]
        if self.shift:
            rows.append(("times shifted by", f"{self.shift.total_seconds():+.0f} s"))
        rows.append(("first event", _rfc_3339(self.first_event_ms)))
        rows.append(("last event", _rfc_3339(self.last_event_ms)))
        if not self.is_complete:
            rows.append(("stopped before the end", self.advice))
        rows.append(("took", f"{self.seconds:.1f} s, {self.events_per_second:,.0f} events/s"))
        return "\n".join(f"{name:22} {value}" for name, value in rows)


def _rfc_3339(ms: int | None) -> str:
    if ms is None:
        return "none"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- the replay ----------------------------------------------------------------------------------------


async def replay(
    settings: Settings,
    *,
    file: Path,
    format: Format,
    topic: str | None = None,
    bot: str | None = None,
    speed: float | None = None,
    shift_to_now: bool = False,
    stop: asyncio.Event | None = None,
    patience: timedelta = PATIENCE,
) -> ReplaySummary:
    """Publish the events of a file, and return when the broker has acknowledged all of them, or at `stop`.

    `topic` is one of the three, without prefix; None: the one that the format is for. `speed` is how many times
    as fast as it happened, None: as fast as the broker takes it. `shift_to_now` moves all times by the same
    number of seconds, so that the last event is now. Takes constant memory; reads the file twice to move times.

    Raises Misconfigured for what has to be said otherwise (a file that cannot be read or holds no event at all,
    an unknown topic, no bot), and Unavailable when the broker acknowledges nothing for `patience`.
    """
    rules = _Rules.checked(format, topic, bot)
    if speed is not None and not 0 < speed < float("inf"):
        raise Misconfigured(f"the speed should be max, or a number above 0, but is {speed}")
    source = _Source.checked(file)
    summary = ReplaySummary(file=file, topic=settings.topic_prefix + rules.topic)

    async def publish_all() -> None:
        shift_ms = await _shift(source, rules) if shift_to_now else 0
        summary.shift = timedelta(milliseconds=shift_ms)
        publisher = Publisher(settings.broker_connection(), prefix=settings.topic_prefix, patience=patience)
        async with publisher, aclosing(_events(source, rules, shift_ms, summary)) as events:
            async for chunk in _chunks(events, speed):
                await _publish(publisher, chunk, summary)
        summary.is_complete = True

    started = time.monotonic()
    await until(stop, publish_all())
    summary.seconds = time.monotonic() - started
    if summary.is_complete and summary.lines and not summary.events:
        raise Misconfigured(f"{file} holds no event to publish; is it --as {format}?\n{summary}")
    return summary


async def _publish(publisher: Publisher, events: list[_Event], summary: ReplaySummary) -> None:
    """Return when all are acknowledged; the summary counts them, and those too large for this broker."""
    try:
        too_large = await publisher.publish(events, lambda event: summary.add(event.event_ms))
    except NotAcknowledged as error:
        first = cast(_Event, error.first)
        raise Unavailable(
            f"{error}; {summary.events} events are published, up to line {first.number - 1} without a gap; "
            + summary.advice
        ) from error
    for event in too_large:
        summary.skipped.setdefault(SkipReason.TOO_LONG, Tally()).add(event.number)


async def _shift(source: _Source, rules: _Rules) -> int:
    """What to add to every time so that the greatest becomes the present second: whole seconds, in ms.

    0 where no line has a time that an event may have.
    """
    now_ms, newest = _now_ms(), None
    async for number, line in source.lines("looking for the last event"):
        if number == 1 and rules.is_header(line):
            continue
        with suppress(Skipped):
            event_ms = rules.line(line).event_ms
            if event_ms is not None and MIN_EVENT_MS <= event_ms <= MAX_EVENT_MS:
                newest = event_ms if newest is None else max(newest, event_ms)
    return 0 if newest is None else (now_ms - newest) // 1000 * 1000


async def _events(
    source: _Source, rules: _Rules, shift_ms: int, summary: ReplaySummary
) -> AsyncGenerator[_Event, None]:
    """The events of the file in its order; the summary counts what is read, and what is skipped or odd."""
    so_far = hashlib.blake2b(f"{rules.format} {shift_ms}\n".encode(), digest_size=16)
    async with aclosing(source.lines("publishing")) as lines:
        async for number, line in lines:
            so_far.update(line + b"\n")
            if number == 1 and rules.is_header(line):
                continue
            summary.lines += 1
            try:
                parsed = rules.line(line)
                event = rules.event(line, parsed, number, so_far.hexdigest(), shift_ms)
                _check(event, rules, summary)
            except Skipped as skipped:
                summary.skipped.setdefault(skipped.reason, Tally()).add(number)
                continue
            if parsed.is_cut:
                summary.cut.add(number)
            yield event


def _check(event: _Event, rules: _Rules, summary: ReplaySummary) -> None:
    """Ask the workers' own stage what will become of the event, and count it. Raises Skipped."""
    try:
        decode(rules.topic, event.value, _now_ms())
    except MalformedEvent as malformed:
        if rules.format != "ndjson":
            raise Skipped(SkipReason.NOT_AN_EVENT) from None
        summary.refused.setdefault(malformed.reason, Tally()).add(event.number)


async def _chunks(events: AsyncIterator[_Event], speed: float | None) -> AsyncIterator[list[_Event]]:
    """The events in lists of bounded size, each as soon as its last event is due."""
    chunk: list[_Event] = []
    chunk_bytes = 0
    pace = _Pace(speed)
    async for event in events:
        if pace.seconds_until(event.event_ms) > SLACK_SECONDS:
            if chunk:
                yield chunk
                chunk, chunk_bytes = [], 0
            await asyncio.sleep(pace.seconds_until(event.event_ms))
        chunk.append(event)
        chunk_bytes += len(event.value)
        if len(chunk) >= CHUNK_EVENTS or chunk_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, chunk_bytes = [], 0
    if chunk:
        yield chunk


class _Pace:
    """When an event is due: as long after the first one as it happened after it, divided by the speed."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: tuple[int, float] | None = None

    def seconds_until(self, event_ms: int | None) -> float:
        """At most 0 for what is due: an event without a time or from before the first one always is."""
        if self._speed is None or event_ms is None:
            return 0.0
        if self._first is None:
            self._first = (event_ms, time.monotonic())
        first_ms, started = self._first
        return started + (event_ms - first_ms) / 1000 / self._speed - time.monotonic()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- what the lines are --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Event:
    """What goes to the broker for one line."""

    number: int
    topic: Topic
    key: bytes | None
    value: bytes
    event_ms: int | None


_TOPICS: Final[dict[Format, Topic]] = {
    "access-log": Topic.BOT_REQUESTS,
    "token-trace": Topic.TOKEN_USAGES,
}
_PARSERS: Final[dict[Format, Callable[[bytes], Line]]] = {
    "access-log": access_log_line,
    "token-trace": token_trace_line,
    "ndjson": ndjson_line,
}


@dataclass(frozen=True, kw_only=True)
class _Rules:
    """What the lines are, and where their events go."""

    format: Format
    topic: Topic
    bot: str | None

    @classmethod
    def checked(cls, format: Format, topic: str | None, bot: str | None) -> _Rules:
        """Raises Misconfigured where the three do not fit together."""
        fitting = _TOPICS.get(format)
        names = ", ".join(Topic)
        if topic is not None and topic not in list(Topic):
            raise Misconfigured(f"unknown topic {topic!r}: --topic is one of {names}")
        if topic is None and fitting is None:
            raise Misconfigured(f"say which topic the events belong to: --topic is one of {names}")
        if topic is not None and fitting is not None and topic != fitting:
            raise Misconfigured(f"an {format} becomes events of {fitting}, not of {topic}: leave --topic out")
        if bot is None and format != "ndjson":
            raise Misconfigured(f"say whose events the lines of an {format} are: --bot NAME")
        if bot is not None and not (1 <= len(bot) <= 128 and is_bot_id(bot)):
            raise Misconfigured(
                f"no bot can be called {bot!r}: a name has 1 to 128 characters, no / and no control character"
            )
        return cls(format=format, topic=Topic(topic or cast(Topic, fitting)), bot=bot)

    def line(self, line: bytes) -> Line:
        """What the line says. Raises Skipped."""
        if len(line) > MAX_VALUE_BYTES:
            raise Skipped(SkipReason.TOO_LONG)
        if not line.strip():
            raise Skipped(SkipReason.BLANK)
        return _PARSERS[self.format](line)

    def is_header(self, line: bytes) -> bool:
        """Whether the first line is one that holds no event. Raises Misconfigured where it has to be and is not."""
        if self.format != "token-trace":
            return False
        if is_token_trace_header(line):
            return True
        raise Misconfigured(f"no token trace: its first line should be {TOKEN_TRACE_HEADER}")

    def event(self, line: bytes, parsed: Line, number: int, event_id: str, shift_ms: int) -> _Event:
        """The event of a line, complete."""
        fields = parsed.fields
        event_ms = None if parsed.event_ms is None else parsed.event_ms + shift_ms
        if self.format != "ndjson":
            identity = {"event_id": event_id, "bot_id": self.bot, "event_time": event_ms}
            value = msgspec.json.encode(identity | {name: v for name, v in fields.items() if v is not None})
            key = (self.bot or "").encode()
            return _Event(number=number, topic=self.topic, key=key, value=value, event_ms=event_ms)
        added: dict[str, Any] = {} if "event_id" in fields else {"event_id": event_id}
        if self.bot is not None and "bot_id" not in fields:
            added["bot_id"] = self.bot
        if shift_ms and event_ms is not None:
            added["event_time"] = event_ms
        # What repeats a key is malformed, and would no longer be seen to be if it were written anew.
        if added and not repeats_a_key(line):
            line = msgspec.json.encode(fields | added)
        bot = text_of(fields.get("bot_id")) or self.bot
        bot_key = None if bot is None else bot.encode(errors="replace")
        return _Event(number=number, topic=self.topic, key=bot_key, value=line, event_ms=event_ms)


# --- the file ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A file of lines, packed with gzip where its name ends in .gz."""

    file: Path
    size: int

    @classmethod
    def checked(cls, file: Path) -> _Source:
        """Raises Misconfigured where there is no such file."""
        try:
            if not file.is_file():
                file.stat()
                raise Misconfigured(f"cannot replay {file}: it is not a regular file")
            with file.open("rb"):
                return cls(file=file, size=file.stat().st_size)
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            raise Misconfigured(f"cannot read {file}: {error}") from error

    async def lines(self, what: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Every line with its number from 1 on, without its end; of one over 1 MB the beginning.

        Shows progress. Raises Misconfigured where the file cannot be read to its end.
        """
        number, next_look = 0, 0.0
        with _progress(what, self.size) as show:
            try:
                with self.file.open("rb") as raw, self._unpacked(raw) as source:
                    for number, line in enumerate(_bounded_lines(source), 1):
                        if number % LINES_PER_TURN == 0:
                            await asyncio.sleep(0)  # let others run, and a signal through
                        if time.monotonic() >= next_look:
                            next_look = time.monotonic() + LOOK_SECONDS
                            show(raw.tell(), number)
                        yield number, line
            except (OSError, EOFError, zlib.error) as error:
                raise Misconfigured(f"cannot read {self.file} beyond line {number}: {error}") from error

    def _unpacked(self, raw: BinaryIO) -> BinaryIO:
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if self.file.suffix == ".gz" else raw


def _bounded_lines(source: BinaryIO) -> Iterator[bytes]:
    limit = MAX_VALUE_BYTES + 2  # a line of the greatest length, and \r\n
    while line := source.readline(limit):
        beginning = line
        while not line.endswith(b"\n") and len(line) == limit:
            line = source.readline(limit)
        yield beginning.rstrip(b"\r\n")


@contextmanager
def _progress(what: str, size: int) -> Iterator[Callable[[int, int], None]]:
    """How to show how far we are, in bytes and lines: a bar on a terminal, else a log line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LoggedProgress(what, size)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=size)
        yield lambda position, lines: progress.update(
            task, completed=position, description=f"{what}: {lines:,} lines"
        )


class _LoggedProgress:
    def __init__(self, what: str, size: int) -> None:
        self._what, self._size = what, size
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, position: int, lines: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            log.info("%s: %d lines, %d %%", self._what, lines, 100 * position // max(self._size, 1))
