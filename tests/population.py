"""Events and files for tests that compare answers with an oracle: all that the contract allows, and nothing malformed.

Everything comes from a seed and from `now_ms`, so that a failure can be looked at again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from schemas.topics import Topic
from tests.records import Outgoing

Event = dict[str, Any]

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
PARTITIONS = 8

ENDPOINTS = (
    *("api", "widget", "fs_chat", "slack", "e-mail"),
    *("=SUM(A1)", "+1", "-1", "@home", "\ttab", 'say "hi"', "a,b", "two\nlines", "chät 😀"),
)
ADDRESSES = (
    *(f"192.0.2.{n}" for n in (1, 2, 3, 120, 127, 128, 200, 255)),
    *(f"198.51.100.{n}" for n in range(5)),
    *("203.0.113.9", "203.0.113.10"),  # a network whose country is not known
    *("::ffff:192.0.2.1", "::FFFF:198.51.100.3"),  # two that are above already
    *("2001:db8::1", "2001:0DB8:0:0::1", "2001:db8:8000::5", "2001:DB8:8000:0:0:0:0:5"),  # two, each twice
    *("10.1.2.3", "2001:4860::8888"),  # in no database
    *("not an address", "192.0.2.01", "192.0.2.1:80", "fe80::1%eth0", "", None),  # absent
)
USER_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.2 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.4.0",
    "python-requests/2.31.0",
    "something that nobody knows",
    "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0 " + "é" * 600,
    "",
    None,
)
PAGES = (
    "https://example.com/",
    "https://example.com/a?b=c,d",
    "=cmd",
    "https://example.com/" + "ü" * 1500,
    "",
    None,
)
SOURCES = ("chat", "fs_chat", "responses", "ticket_summary", "brand new")
MODELS = ("small", "large", "@largest", None)
CLOCKS = ("America/New_York", "Australia/Lord_Howe", "America/St_Johns")
"""Zones around whose changes of the clock events lie close together."""


def population(
    seed: str, now_ms: int, *, requests: int, usages: int, votes: int, bots: Sequence[str], topic_prefix: str
) -> list[Outgoing]:
    """Records in the order in which to write them: keyed and unkeyed, with copies and late ones.

    Of the events half happen in the 40 minutes before now, one after another, 3 % late by up to 60 days, the rest
    in the 60 days before. 2 % have a copy, about a third of them through another partition: only of events whose
    interval is over, since of open ones such a copy may count until they are sealed.
    """
    random = Random(seed)
    written: list[Outgoing] = []
    makers = {Topic.BOT_REQUESTS: _request, Topic.TOKEN_USAGES: _usage, Topic.BOT_FEEDBACK: _vote}
    amounts = {Topic.BOT_REQUESTS: requests, Topic.TOKEN_USAGES: usages, Topic.BOT_FEEDBACK: votes}
    plan = [(topic, n / amount) for topic, amount in amounts.items() for n in range(amount)]
    for number, (topic, progress) in enumerate(sorted(plan, key=lambda step: step[1])):
        event_ms = _event_ms(random, now_ms, progress)
        event = {
            "event_id": f"{seed}-{number}",
            "bot_id": random.choice(bots),
            "event_time": _written_time(random, event_ms),
            **makers[topic](random),
        }
        record = _record(random, topic_prefix + topic, event)
        written.append(record)
        if random.random() < 0.02:
            copy = _copy(random, topic, record, event, may_move=event_ms < now_ms - 20 * MINUTE)
            written.insert(random.randint(max(0, len(written) - 3000), len(written)), copy)
    return written


def over_many_months(seed: str, now_ms: int, *, bot: str, topic_prefix: str) -> list[Outgoing]:
    """Requests in 130 different months, for one batch."""
    random = Random(seed)
    return [
        _record(
            random,
            topic_prefix + Topic.BOT_REQUESTS,
            {
                "event_id": f"{seed}-{month}",
                "bot_id": bot,
                "event_time": now_ms - month * 31 * DAY - random.randrange(DAY),
                **_request(random),
            },
            partition=3,
        )
        for month in range(130)
    ]


def around_clock_changes(seed: str, now_ms: int, *, bot: str, topic_prefix: str) -> list[Outgoing]:
    """Requests and token usages within a day and a half of the last two changes of the clock of each of `CLOCKS`."""
    random = Random(seed)
    records = []
    for zone in CLOCKS:
        for change in last_clock_changes(zone, now_ms):
            for number in range(120):
                spread = 2 * HOUR if number % 2 else 36 * HOUR
                event = {
                    "event_id": f"{seed}-{zone}-{change}-{number}",
                    "bot_id": bot,
                    "event_time": change + random.randint(-spread, spread),
                }
                topic, make = random.choice([(Topic.BOT_REQUESTS, _request), (Topic.TOKEN_USAGES, _usage)])
                records.append(_record(random, topic_prefix + topic, event | make(random)))
    return records


def last_clock_changes(zone: str, now_ms: int) -> list[int]:
    """The last two moments before now at which a zone's offset changed: one forward, one back."""

    def offset(ms: int) -> timedelta | None:
        return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).utcoffset()

    step = 30 * MINUTE
    moment = now_ms - now_ms % step - 2 * DAY
    changes: list[int] = []
    while len(changes) < 2:
        if offset(moment) != offset(moment - step):
            changes.append(moment)
        moment -= step
    return changes


# --- events --------------------------------------------------------------------------------------------


def _event_ms(random: Random, now_ms: int, progress: float) -> int:
    kind = random.random()
    if kind < 0.5:
        return int(now_ms - 40 * MINUTE * (1 - progress)) + random.randrange(4 * MINUTE)
    if kind < 0.53:
        return now_ms - random.randrange(60 * DAY)
    return now_ms - int((1 - progress) * 60 * DAY) - random.randrange(3 * HOUR)


def _written_time(random: Random, ms: int) -> int | str:
    """The same instant in one of the forms that the contract allows."""
    if random.random() < 0.5:
        return ms
    minutes = random.choice((0, 0, 345, -210, 630, -300))
    moment = datetime.fromtimestamp(ms // 1000, UTC).astimezone(timezone(timedelta(minutes=minutes)))
    beyond = random.choice(("", "0", "999", "9999999"))
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}{beyond}{moment:%z}"
    text = f"{text[:-2]}:{text[-2:]}"
    return text.replace("+00:00", "Z") if random.random() < 0.5 else text


def _request(random: Random) -> Event:
    return {
        "endpoint": ENDPOINTS[min(int(random.expovariate(0.5)), len(ENDPOINTS) - 1)],
        **_some(random, chat_id=f"chat-{random.randrange(300)}", ip=random.choice(ADDRESSES)),
        **_some(random, user_agent=random.choice(USER_AGENTS), page_url=random.choice(PAGES)),
        **_some(random, timezone=random.choice(("Asia/Kathmandu", "Europe/Berlin", "-03:00"))),
        **_unknown(random),
    }


def _usage(random: Random) -> Event:
    return {
        "source": random.choice(SOURCES),
        "input_tokens": random.choice(
            (0, 1, random.randrange(8000), 2**53 - 1 if random.random() < 0.01 else 7)
        ),
        "output_tokens": random.randrange(2000),
        **_some(
            random, model=random.choice(MODELS), provider="some", chat_id=f"chat-{random.randrange(300)}"
        ),
        # As producers do break it down: also to more than the whole.
        **_some(
            random, cached_input_tokens=random.randrange(9000), reasoning_output_tokens=random.randrange(3000)
        ),
        **_unknown(random),
    }


def _vote(random: Random) -> Event:
    return {
        "rating": random.choice(("positive", "positive", "negative", "none")),
        **_some(random, chat_id=f"chat-{random.randrange(20)}", endpoint="widget"),
        **_some(random, message_id=f"message-{random.randrange(6)}"),
    }


def _some(random: Random, **fields: object) -> Event:
    """Of optional fields most; those left out are absent or null."""
    kept: Event = {}
    for name, value in fields.items():
        kind = random.random()
        if kind < 0.85:
            kept[name] = value
        elif kind < 0.93:
            kept[name] = None
    return kept


def _unknown(random: Random) -> Event:
    return {"not in the contract": {"a": [1, {"a": None}]}} if random.random() < 0.05 else {}


def _record(random: Random, topic: str, event: Event, *, partition: int | None = None) -> Outgoing:
    kind = random.random()
    key = event["bot_id"] if kind < 0.6 else event["event_id"] if kind < 0.8 else None
    if partition is None and key is None:
        partition = random.randrange(PARTITIONS)
    return Outgoing(
        topic=topic, value=_encoded(event), key=None if key is None else key.encode(), partition=partition
    )


def _copy(random: Random, topic: Topic, record: Outgoing, event: Event, *, may_move: bool) -> Outgoing:
    """A second record of the same event. Some say something else of it, so that it shows which one was taken."""
    field = {Topic.BOT_REQUESTS: "endpoint", Topic.TOKEN_USAGES: "source", Topic.BOT_FEEDBACK: "chat_id"}[
        topic
    ]
    value = _encoded(event | {field: "copy"}) if random.random() < 0.5 else record.value
    partition = record.partition
    if may_move and random.random() < 2 / 3:
        partition = random.randrange(PARTITIONS)
    return Outgoing(topic=record.topic, value=value, key=record.key, partition=partition)


def _encoded(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


# --- files ---------------------------------------------------------------------------------------------


def write_access_log(path: Path, *, lines: int = 2000) -> Path:
    """A log in Apache's combined format: four days of May 2015, one line a request."""
    random = Random(str(path.name))
    with path.open("w", encoding="utf-8") as log:
        for number in range(lines):
            moment = datetime(2015, 5, 17, 10, 5, tzinfo=UTC) + timedelta(
                seconds=number * 160 + random.randrange(90)
            )
            agent = random.choice([agent for agent in USER_AGENTS if agent]).replace("é", "e")
            referer = random.choice(("-", "http://semicomplete.com/", "http://www.google.com/search?q=a+b"))
            path_asked = random.choice(
                ("/", "/favicon.ico", "/blog/tags/puppet?flav=rss20", "/images/web/1.png")
            )
            address = random.choice([ip for ip in ADDRESSES[:15] if ip])
            log.write(
                f'{address} - - [{moment:%d}/May/2015:{moment:%H:%M:%S} +0000] "GET {path_asked} HTTP/1.1" 200'
                f' {random.randrange(90_000)} "{referer}" "{agent}"\n'
            )
    return path


def write_token_trace(path: Path, *, lines: int = 3000) -> Path:
    """A trace of model calls: an hour of November 2023, seven fractional digits and no zone."""
    random = Random(str(path.name))
    with path.open("w", encoding="utf-8") as trace:
        trace.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for number in range(lines):
            moment = datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC) + timedelta(seconds=number * 1.2)
            trace.write(
                f"{moment:%Y-%m-%d %H:%M:%S}.{random.randrange(10**7):07},"
                f"{random.randrange(4000)},{random.randrange(1, 800)}\n"
            )
    return path
