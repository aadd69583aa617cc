"""What every answer should be, counted in plain Python from the records that were produced, and from nothing else.

Shares no code with the pipeline, except the names that it gives browsers, which have tests of their own.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pipeline.browser import client
from tests.geo import DOCUMENTATION_NETWORKS
from tests.records import Record

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INTERVAL = 15 * MINUTE

Filters = Mapping[str, Sequence[str]]
"""Field → values; '' stands for unknown."""
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request; '' is what is not known."""

    bot_id: str
    event_ms: int
    event_id: str
    endpoint: str
    chat_id: str
    ip: str
    country: str
    region: str
    city: str
    browser: str
    client_class: str
    timezone: str
    page_url: str


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One model call."""

    bot_id: str
    event_ms: int
    event_id: str
    source: str
    model: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One vote."""

    bot_id: str
    event_ms: int
    event_id: str
    rating: str
    chat_id: str
    message_id: str


T = TypeVar("T", Request, Usage, Vote)


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The events that hold, of all that was produced."""

    requests: Sequence[Request] = field(default_factory=list)
    usages: Sequence[Usage] = field(default_factory=list)
    votes: Sequence[Vote] = field(default_factory=list)
    """By message the last one alone."""

    @classmethod
    def of(
        cls,
        requests: Iterable[Record],
        usages: Iterable[Record],
        votes: Iterable[Record],
        *,
        bots: Collection[str],
    ) -> Oracle:
        """What these records say of some bots, about which all of them are well-formed."""
        return cls(
            requests=_earliest(requests, bots, _request),
            usages=_earliest(usages, bots, _usage),
            votes=last_votes(_earliest(votes, bots, _vote)),
        )

    def bots(self) -> list[str]:
        """All bots, in the order of their bytes."""
        return sorted(
            {event.bot_id for events in (self.requests, self.usages, self.votes) for event in events}
        )

    def moments(self, bot: str) -> list[int]:
        """When anything happened to a bot, ascending."""
        return sorted(
            event.event_ms
            for events in (self.requests, self.usages, self.votes)
            for event in events
            if event.bot_id == bot
        )

    # --- the answers, each as the API's `data`

    def summary(self, bot: str, start: int, end: int, tz: str, filters: Filters) -> Json:
        requests = _within(self.requests, bot, start, end, _of(filters, REQUEST_FILTERS))
        usages = _within(self.usages, bot, start, end, _of(filters, TOKEN_FILTERS))
        ratings = Counter(vote.rating for vote in _within(self.votes, bot, start, end, {}))
        input_tokens = sum(usage.input_tokens for usage in usages)
        output_tokens = sum(usage.output_tokens for usage in usages)
        last = max((request.event_ms for request in requests), default=None)
        return {
            "total_requests": len(requests),
            "unique_ips": len({request.ip for request in requests} - {""}),
            "unique_conversations": len({request.chat_id for request in requests} - {""}),
            "last_request": None if last is None else text(last, tz),
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "positive_feedbacks": ratings["positive"],
            "negative_feedbacks": ratings["negative"],
            "exact": {"unique_ips": True, "unique_conversations": True},
        }

    def request_series(
        self, bot: str, start: int, end: int, tz: str, interval: str, filters: Filters
    ) -> list[Json]:
        starts = bucket_starts(start, end, tz, interval)
        counts = Counter(
            _bucket(starts, request.event_ms) for request in _within(self.requests, bot, start, end, filters)
        )
        return [{"start": text(at, tz), "requests": counts[at]} for at in starts]

    def unique_series(
        self, bot: str, start: int, end: int, tz: str, interval: str, filters: Filters
    ) -> list[Json]:
        starts = bucket_starts(start, end, tz, interval)
        ips: dict[int, set[str]] = {at: set() for at in starts}
        chats: dict[int, set[str]] = {at: set() for at in starts}
        for request in _within(self.requests, bot, start, end, filters):
            at = _bucket(starts, request.event_ms)
            ips[at].add(request.ip)
            chats[at].add(request.chat_id)
        return [
            {
                "start": text(at, tz),
                "unique_ips": len(ips[at] - {""}),
                "unique_conversations": len(chats[at] - {""}),
            }
            for at in starts
        ]

    def token_series(
        self, bot: str, start: int, end: int, tz: str, interval: str, filters: Filters
    ) -> list[Json]:
        starts = bucket_starts(start, end, tz, interval)
        inputs, outputs = Counter[int](), Counter[int]()
        for usage in _within(self.usages, bot, start, end, filters):
            at = _bucket(starts, usage.event_ms)
            inputs[at] += usage.input_tokens
            outputs[at] += usage.output_tokens
        return [
            {"start": text(at, tz), "input_tokens": inputs[at], "output_tokens": outputs[at]} for at in starts
        ]

    def top(self, bot: str, start: int, end: int, by: str, limit: int, filters: Filters) -> list[Json]:
        counts = Counter(
            str(getattr(request, by)) for request in _within(self.requests, bot, start, end, filters)
        )
        total, unknown = counts.total(), counts.pop("", 0)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        rows: list[tuple[str, str | None, int]] = [("value", value, n) for value, n in ranked[:limit]]
        rows.append(("other", None, sum(n for _, n in ranked[limit:])))
        rows.append(("unknown", None, unknown))
        return [
            {"kind": kind, "value": value, "requests": n, "share": n / total} for kind, value, n in rows if n
        ]

    def values(
        self, bot: str, start: int, end: int, by: str, contains: str, limit: int, filters: Filters
    ) -> list[Json]:
        counts = Counter(
            str(getattr(request, by)) for request in _within(self.requests, bot, start, end, filters)
        )
        found = [(value, n) for value, n in counts.items() if contains.lower() in value.lower()]
        found.sort(key=lambda item: (-item[1], item[0].encode()))
        return [{"value": value or None, "requests": n} for value, n in found[:limit]]

    def top_tokens(self, bot: str, start: int, end: int, by: str, limit: int, filters: Filters) -> list[Json]:
        used: dict[str, list[Usage]] = {}
        for usage in _within(self.usages, bot, start, end, filters):
            used.setdefault(str(getattr(usage, by)), []).append(usage)
        tokens = {value: sum(u.input_tokens + u.output_tokens for u in some) for value, some in used.items()}
        ranked = sorted(used.keys() - {""}, key=lambda value: (-tokens[value], value))
        groups: list[tuple[str, str | None, list[Usage]]] = [("value", v, used[v]) for v in ranked[:limit]]
        groups.append(("other", None, [usage for value in ranked[limit:] for usage in used[value]]))
        groups.append(("unknown", None, used.get("", [])))
        return [
            {
                "kind": kind,
                "value": value,
                "usages": len(some),
                "input_tokens": sum(usage.input_tokens for usage in some),
                "output_tokens": sum(usage.output_tokens for usage in some),
                "share": sum(u.input_tokens + u.output_tokens for u in some) / (sum(tokens.values()) or 1),
            }
            for kind, value, some in groups
            if some
        ]

    def request_rows(self, bot: str, start: int, end: int, tz: str, filters: Filters) -> list[Json]:
        columns = (
            "endpoint",
            "ip",
            "country",
            "region",
            "city",
            "browser",
            "timezone",
            "page_url",
            "chat_id",
        )
        return [
            {
                "time": text(request.event_ms, tz),
                **{name: getattr(request, name) or None for name in (*columns, "client_class", "event_id")},
            }
            for request in _newest_first(_within(self.requests, bot, start, end, filters))
        ]

    def usage_rows(self, bot: str, start: int, end: int, tz: str, filters: Filters) -> list[Json]:
        return [
            {
                "time": text(usage.event_ms, tz),
                "source": usage.source,
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.input_tokens + usage.output_tokens,
                "model": usage.model or None,
                "event_id": usage.event_id,
            }
            for usage in _newest_first(_within(self.usages, bot, start, end, filters))
        ]


REQUEST_FILTERS = ("endpoint", "country", "region", "city", "browser", "client_class", "ip")
TOKEN_FILTERS = ("source", "model")


# --- which events hold ---------------------------------------------------------------------------------


def _earliest(records: Iterable[Record], bots: Collection[str], event: Callable[[Json], T]) -> list[T]:
    """Of the copies of each event the one with the smallest (record timestamp, partition, offset)."""
    found: dict[tuple[str, str, int], T] = {}
    for record in sorted(records, key=lambda record: (record.timestamp_ms, record.partition, record.offset)):
        said = _said(record.value)
        if said.get("bot_id") not in bots:
            continue
        one = event(said)
        found.setdefault((one.bot_id, one.event_id, one.event_ms), one)
    return list(found.values())


def _said(value: bytes | None) -> Json:
    """What an event says; nothing, if it is none."""
    try:
        said = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    return (
        {name: field for name, field in said.items() if field is not None} if isinstance(said, dict) else {}
    )


def last_votes(votes: Iterable[Vote]) -> list[Vote]:
    """Of the votes on one message the greatest (event_time, event_id); one on no message stands for itself."""
    last: dict[object, Vote] = {}
    for vote in sorted(votes, key=lambda vote: (vote.event_ms, vote.event_id)):
        message = (vote.chat_id, vote.message_id) if vote.message_id else (vote.event_ms, vote.event_id, "")
        last[vote.bot_id, message] = vote
    return list(last.values())


def _request(said: Json) -> Request:
    ip = _address(said.get("ip", ""))
    country, region, city = place(ip)
    browser, client_class = client(_cut(said.get("user_agent", ""), 1000))
    return Request(
        **_identity(said),
        endpoint=said["endpoint"],
        chat_id=said.get("chat_id", ""),
        ip=ip,
        country=country,
        region=region,
        city=city,
        browser=browser,
        client_class=client_class,
        timezone=said.get("timezone", ""),
        page_url=_cut(said.get("page_url", ""), 2000),
    )


def _usage(said: Json) -> Usage:
    return Usage(
        **_identity(said),
        source=said["source"],
        model=said.get("model", ""),
        input_tokens=said["input_tokens"],
        output_tokens=said["output_tokens"],
    )


def _vote(said: Json) -> Vote:
    return Vote(
        **_identity(said),
        rating=said["rating"],
        chat_id=said.get("chat_id", ""),
        message_id=said.get("message_id", ""),
    )


def _identity(said: Json) -> Json:
    return {"bot_id": said["bot_id"], "event_id": said["event_id"], "event_ms": event_ms(said["event_time"])}


def event_ms(time: int | str) -> int:
    """Milliseconds since the epoch of an `event_time`."""
    if isinstance(time, int):
        return time
    return (datetime.fromisoformat(time) - EPOCH) // timedelta(milliseconds=1)


def _cut(said: str, limit: int) -> str:
    """As many of the first characters as fit into `limit` bytes."""
    while len(said.encode()) > limit:
        said = said[:-1]
    return said


def _address(said: str) -> str:
    if "%" in said:
        return ""
    try:
        address = ip_address(said)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def place(ip: str, networks: Mapping[str, Json] = DOCUMENTATION_NETWORKS) -> tuple[str, str, str]:
    """Country, region, city by a test database."""
    if ip:
        for network, record in networks.items():
            if ip_address(ip) in ip_network(network):
                return (
                    record.get("country", {}).get("iso_code", ""),
                    record.get("subdivisions", [{"names": {"en": ""}}])[0]["names"]["en"],
                    record.get("city", {"names": {"en": ""}})["names"]["en"],
                )
    return "", "", ""


# --- which of them are asked for -----------------------------------------------------------------------


def _within(events: Sequence[T], bot: str, start: int, end: int, filters: Filters) -> list[T]:
    return [
        event
        for event in events
        if start <= event.event_ms < end
        and event.bot_id == bot
        and all(getattr(event, name) in values for name, values in filters.items())
    ]


def _of(filters: Filters, names: Sequence[str]) -> Filters:
    return {name: values for name, values in filters.items() if name in names}


def _newest_first(events: Sequence[T]) -> list[T]:
    return sorted(events, key=lambda event: (event.event_ms, event.event_id), reverse=True)


# --- wall clocks ---------------------------------------------------------------------------------------


def wall(ms: int, tz: str) -> datetime:
    """What a clock in `tz` shows."""
    return (EPOCH + timedelta(milliseconds=ms)).astimezone(ZoneInfo(tz))


def text(ms: int, tz: str) -> str:
    """RFC 3339 with milliseconds in `tz`."""
    return wall(ms, tz).isoformat(timespec="milliseconds")


def instant(year: int, month: int, day: int, hour: int, tz: str) -> int:
    """The first moment at which a clock in `tz` shows this hour; for one that is skipped, when it is skipped."""
    there = datetime(year, month, day, hour, tzinfo=ZoneInfo(tz))
    return (there.astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)


def chosen_interval(start: int, end: int, tz: str) -> str | None:
    """The interval of a chart of this range; None where that hangs on an hour or a leap day."""
    for limit, interval, margin in (
        (6 * HOUR, "15m", 0),
        (48 * HOUR, "1h", 0),
        (10 * DAY, "4h", 2 * HOUR),
        (92 * DAY, "1d", 2 * HOUR),
        (731 * DAY, "1w", 2 * DAY),
    ):
        if margin and abs(end - start - limit) <= margin:
            return None
        if end - start <= limit:
            return interval
    return "1mo"


def bucket_starts(start: int, end: int, tz: str, interval: str) -> list[int]:
    """Where the buckets of `[start, end)` begin, by what the clock shows."""
    boundaries = (
        _by_elapsed(start, end, tz, interval)
        if interval in ("15m", "1h")
        else _by_calendar(start, end, tz, interval)
    )
    first = max(at for at in boundaries if at <= start)
    return sorted({at for at in boundaries if first <= at < end})


def _by_elapsed(start: int, end: int, tz: str, interval: str) -> list[int]:
    """Minute by minute: a bucket begins where the clock, rounded down, or its offset changes."""
    minutes = {"15m": 15, "1h": 60}[interval]
    boundaries: list[int] = []
    before: object = None
    for ms in range((start - 3 * HOUR) // MINUTE * MINUTE, end + MINUTE, MINUTE):
        shown = wall(ms, tz)
        now = shown.date(), (shown.hour * 60 + shown.minute) // minutes, shown.utcoffset()
        if before not in (None, now):
            boundaries.append(ms)
        before = now
    return boundaries


def _by_calendar(start: int, end: int, tz: str, interval: str) -> list[int]:
    """Day by day: a bucket begins when the clock first shows its start."""
    day, last = wall(start, tz).date() - timedelta(days=40), wall(end, tz).date() + timedelta(days=2)
    boundaries: list[int] = []
    while day <= last:
        if (
            interval in ("4h", "1d")
            or (interval == "1w" and day.weekday() == 0)
            or (interval == "1mo" and day.day == 1)
        ):
            hours = range(0, 24, 4) if interval == "4h" else (0,)
            boundaries += [instant(day.year, day.month, day.day, hour, tz) for hour in hours]
        day += timedelta(days=1)
    return boundaries


def _bucket(starts: Sequence[int], ms: int) -> int:
    return starts[bisect_right(starts, ms) - 1]
