"""Ranges of time, and the buckets of a chart, by the wall clock of a time zone. Pure.

Instants are integer milliseconds since the epoch: they have no calendar that could end. Wall-clock time is
counted likewise, from 1970-01-01 00:00 on that clock.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Final, Literal, cast
from zoneinfo import ZoneInfo, available_timezones

from pipeline.decode import MalformedEvent, rfc_3339_ms
from pipeline.web.problems import BadParameter

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

Preset = Literal["1h", "24h", "7d", "30d", "90d", "12mo", "today", "yesterday", "this_month", "last_month"]
Interval = Literal["15m", "1h", "4h", "1d", "1w", "1mo"]

MAX_BUCKETS: Final = 2_000
"""More may come of an interval chosen here, but may not be asked for."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """`[start_ms, end_ms)`, seen in a time zone."""

    start_ms: int
    end_ms: int
    tz: ZoneInfo


# --- zones


@cache
def _zones() -> frozenset[str]:
    # Two names that a system may have beside those of IANA.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def zone(name: str) -> ZoneInfo:
    """The time zone with this IANA name. Raises BadParameter."""
    if name not in _zones():
        raise BadParameter("tz", "should be an IANA time zone such as Europe/Berlin")
    return ZoneInfo(name)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST_MS: Final = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST_MS: Final = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH) // _MILLISECOND


def _utc(ms: int) -> datetime:
    """The moment, or the nearest one that every zone's calendar has."""
    return _EPOCH + timedelta(milliseconds=min(max(ms, _FIRST_MS), _LAST_MS))


def offset_at(ms: int, tz: ZoneInfo) -> int:
    """How far the wall clock is ahead of UTC at an instant, in milliseconds."""
    return _milliseconds(_utc(ms).astimezone(tz).utcoffset())


def wall_at(ms: int, tz: ZoneInfo) -> int:
    """What the wall clock reads at an instant."""
    return ms + offset_at(ms, tz)


def first_instant(wall: int, tz: ZoneInfo) -> int:
    """The first instant at which the wall clock reads `wall` or later.

    Of a time that comes twice the first; for one that is skipped the moment at which it is skipped.
    """
    naive = _utc(wall).replace(tzinfo=tz)
    instant = wall - _milliseconds(naive.utcoffset())
    if wall_at(instant, tz) == wall:
        return instant
    # By PEP 495 a skipped time has the offset from before with fold=0, and the one from after with fold=1.
    return _change_of_offset(wall - _milliseconds(naive.replace(fold=1).utcoffset()), instant, tz)


def _change_of_offset(before: int, after: int, tz: ZoneInfo) -> int:
    """The instant in `(before, after]` from which on the offset is that of `after`."""
    offset = offset_at(after, tz)
    while after - before > 1:
        middle = (before + after) // 2
        if offset_at(middle, tz) == offset:
            after = middle
        else:
            before = middle
    return after


def _milliseconds(offset: timedelta | None) -> int:
    return cast(timedelta, offset) // _MILLISECOND  # a zone of IANA always has one


def text(ms: int, tz: ZoneInfo) -> str:
    """RFC 3339 with milliseconds and the offset of `tz`.

    In UTC where the calendar has no such day in `tz` (before year 1, after 9999).
    """
    ms = min(max(ms, _FIRST_TEXT_MS), _LAST_TEXT_MS)
    offset = shown_offset_at(ms, tz)
    try:
        local = _EPOCH + timedelta(milliseconds=ms + offset)
    except OverflowError:
        return text(ms, _UTC)
    return local.replace(tzinfo=None).isoformat(timespec="milliseconds") + offset_text(offset)


def shown_offset_at(ms: int, tz: ZoneInfo) -> int:
    """The offset that times are shown with: none where it has seconds, as in the 19th century; RFC 3339 has no such."""
    offset = offset_at(ms, tz)
    return 0 if offset % MINUTE else offset


def offset_text(offset: int) -> str:
    """As RFC 3339 has it."""
    hours, minutes = divmod(abs(offset) // MINUTE, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"


def changes_of_offset(start: int, end: int, tz: ZoneInfo) -> Iterator[tuple[int, int]]:
    """(since when, the offset that times are shown with) for all of `[start, end)`, ascending."""
    offset = shown_offset_at(start, tz)
    yield start, offset
    for day in range(start, end, DAY):  # no zone changes twice in a day
        following = min(day + DAY, end)
        if shown_offset_at(following, tz) != offset:
            offset = shown_offset_at(following, tz)
            yield _change_of_offset(day, following, tz), offset


_UTC: Final = ZoneInfo("UTC")
_FIRST_TEXT_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST_TEXT_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


# --- ranges


def resolve(*, preset: Preset | None, start: str | None, end: str | None, tz: ZoneInfo, now_ms: int) -> Range:
    """The range that the parameters `range`, `from` and `to` mean at `now_ms`. Raises BadParameter."""
    if start is None and end is None:
        start_ms, end_ms = _preset(preset or "7d", tz, now_ms)
        return Range(start_ms=start_ms, end_ms=end_ms, tz=tz)
    if preset is not None:
        raise BadParameter("range", "cannot be combined with from or to")
    if start is None:
        raise BadParameter("to", "needs from")
    start_ms = instant("from", start, tz)
    end_ms = now_ms if end is None else instant("to", end, tz)
    if start_ms >= end_ms:
        raise BadParameter("from", f"should be before {'now' if end is None else 'to'}")
    return Range(start_ms=start_ms, end_ms=end_ms, tz=tz)


def _preset(preset: Preset, tz: ZoneInfo, now_ms: int) -> tuple[int, int]:
    wall = wall_at(now_ms, tz)
    today = _floored(wall, DAY)
    month = _month(wall)
    match preset:
        case "1h" | "24h":
            return now_ms - int(preset[:-1]) * HOUR, now_ms
        case "7d" | "30d" | "90d":
            return first_instant(wall - int(preset[:-1]) * DAY, tz), now_ms
        case "12mo":
            return first_instant(_months_later(wall, -12), tz), now_ms
        case "today":
            return first_instant(today, tz), first_instant(today + DAY, tz)
        case "yesterday":
            return first_instant(today - DAY, tz), first_instant(today, tz)
        case "this_month":
            return first_instant(month, tz), first_instant(_months_later(month, 1), tz)
        case "last_month":
            return first_instant(_months_later(month, -1), tz), first_instant(month, tz)


def instant(parameter: str, value: str, tz: ZoneInfo) -> int:
    """The moment that the value of a parameter names: RFC 3339, or a date in `tz`. Raises BadParameter."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return first_instant(_wall(date.fromisoformat(value)), tz)
        return rfc_3339_ms(value)
    except (ValueError, MalformedEvent):
        raise BadParameter(
            parameter,
            "should be a date such as 2026-01-31 or a time such as 2026-01-31T23:59:59Z or "
            "2026-01-31T23:59:59.999+01:00 (in an address + is written %2B)",
        ) from None


# --- buckets


def choose_interval(range_: Range) -> Interval:
    """The interval for a chart of this range. Hours are elapsed ones, days and years the wall clock's."""
    elapsed = range_.end_ms - range_.start_ms
    start, end = wall_at(range_.start_ms, range_.tz), wall_at(range_.end_ms, range_.tz)
    if elapsed <= 6 * HOUR:
        return "15m"
    if elapsed <= 48 * HOUR:
        return "1h"
    if end <= start + 10 * DAY:
        return "4h"
    if end <= start + 92 * DAY:
        return "1d"
    if end <= _months_later(start, 24):
        return "1w"
    return "1mo"


def bucket_starts(range_: Range, interval: Interval | None) -> tuple[Interval, list[int]]:
    """The interval, unless asked for the one chosen here, and the starts of its buckets, ascending.

    Each bucket ends where the next one starts, the last one at or after the range's end; the first may start
    before the range.

    - `15m` and `1h`: a bucket is the time during which the wall clock, rounded down to the interval, and its
      offset stay the same. A repeated hour is two buckets, a repeated half hour one of its own.
    - `4h` and longer: a bucket begins when the wall clock first reads its start or later. Over a change of the clock it
      is shorter or longer; one that is skipped as a whole is none.

    Raises BadParameter when more than MAX_BUCKETS are asked for.
    """
    chosen = interval or choose_interval(range_)
    starts = (
        _clock_starts(range_, _STEPS[chosen]) if chosen in ("15m", "1h") else _calendar_starts(range_, chosen)
    )
    if interval is None:
        return chosen, list(starts)
    asked = list(islice(starts, MAX_BUCKETS + 1))
    if len(asked) > MAX_BUCKETS:
        raise BadParameter("interval", f"{interval} makes more than {MAX_BUCKETS:,} buckets of this range")
    return chosen, asked


_STEPS: Final = {"15m": 15 * MINUTE, "1h": HOUR, "4h": 4 * HOUR, "1d": DAY, "1w": 7 * DAY}
_MONDAY: Final = 4 * DAY  # 1970-01-05


def _clock_starts(range_: Range, step: int) -> Iterator[int]:
    tz = range_.tz
    offset = offset_at(range_.start_ms, tz)
    start = range_.start_ms - (range_.start_ms + offset) % step
    if offset_at(start, tz) != offset:
        start = _change_of_offset(start, range_.start_ms, tz)
    while start < range_.end_ms:
        yield start
        following = start + step - (start + offset) % step
        if offset_at(following, tz) == offset:
            start = following
        else:
            start = _change_of_offset(start, following, tz)
            offset = offset_at(start, tz)


def _calendar_starts(range_: Range, interval: Interval) -> Iterator[int]:
    wall = wall_at(range_.start_ms, range_.tz)
    current: int | None = None
    for boundary in _months(wall) if interval == "1mo" else _steps(wall, _STEPS[interval]):
        following = first_instant(boundary, range_.tz)
        # Where the clock goes back over a boundary, what comes after is still in the bucket that began there.
        if current is not None and following > max(current, range_.start_ms):
            yield current
        if following >= range_.end_ms:
            return
        current = following
    if current is not None:
        yield current


def _steps(wall: int, step: int) -> Iterator[int]:
    boundary = _floored(wall, step, _MONDAY if step == _STEPS["1w"] else 0)
    while True:
        yield boundary
        boundary += step


def _months(wall: int) -> Iterator[int]:
    first = _utc(wall)
    for month in range(first.year * 12 + first.month - 1, 10_000 * 12):
        yield _wall(date(month // 12, month % 12 + 1, 1))


# --- wall-clock arithmetic


def _floored(wall: int, step: int, origin: int = 0) -> int:
    return wall - (wall - origin) % step


def _wall(day: date) -> int:
    """Midnight."""
    return (day.toordinal() - _EPOCH.toordinal()) * DAY


def _month(wall: int) -> int:
    """Midnight of the month's first day."""
    return _wall(_utc(wall).date().replace(day=1))


def _months_later(wall: int, months: int) -> int:
    """The same day and time of another month, or that month's last day where it has no such day."""
    day = _utc(wall).date()
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    year = min(max(year, 1), 9999)
    last = calendar.monthrange(year, month + 1)[1]
    return _wall(date(year, month + 1, min(day.day, last))) + wall % DAY
