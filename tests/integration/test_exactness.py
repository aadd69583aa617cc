"""Every answer in any zone, for any range, is the oracle's.

Over days that the clock makes 23, 23½, 24½ or 25 hours long, offsets of quarters of an hour, edges on any millisecond;
of rows that the sealer has sealed, days included, and of some that are open yet.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clickhouse.client import Store
from pipeline.seal import seal
from pipeline.window import GRACE_MS
from schemas.rollup import INTERVAL_MS
from schemas.topics import Topic
from tests.agreement import DIMENSIONS, Agreement, Range, random_filters
from tests.api import Api, Json
from tests.oracle import (
    DAY,
    HOUR,
    MINUTE,
    REQUEST_FILTERS,
    TOKEN_FILTERS,
    Oracle,
    Request,
    Usage,
    Vote,
    instant,
    last_votes,
)
from tests.stack import timestamp

BOT = "exact"
CHANGES = {
    # When clocks change, and a zone where they do not.
    "America/New_York": [(2024, 3, 10), (2024, 11, 3)],
    "America/St_Johns": [(2024, 3, 10), (2024, 11, 3)],
    "Australia/Lord_Howe": [(2024, 4, 7), (2024, 10, 6)],
    "Africa/Casablanca": [(2024, 3, 10), (2024, 4, 14)],
    "Pacific/Chatham": [(2024, 4, 7), (2024, 9, 29)],
    "Asia/Kathmandu": [(2024, 1, 1)],
    "UTC": [(2024, 2, 29)],
}
MOMENTS = sorted(instant(*day, 0, tz) for tz, days in CHANGES.items() for day in days)
INTERVALS = {"15m": 15 * MINUTE, "1h": HOUR, "4h": 4 * HOUR, "1d": DAY, "1w": 7 * DAY, "1mo": 28 * DAY}


def moment(random: Random) -> int:
    """Within two days of a change, often at the edge of an interval, now and then a month away."""
    at = random.choice(MOMENTS) + random.randint(-2 * DAY, 2 * DAY) + random.choice((0, 0, 0, 30 * DAY))
    return at if random.random() < 0.6 else at // INTERVAL_MS * INTERVAL_MS + random.choice((-1, 0))


def population(random: Random, *, open_from: int) -> Oracle:
    """Events around the changes of clocks, and a few of the present that no sealer has seen. Votes are all that were
    cast, those that were changed later too."""

    def moments(count: int, open_ones: int = 0) -> Iterator[int]:
        yield from (moment(random) for _ in range(count))
        yield from (open_from + random.randrange(INTERVAL_MS) for _ in range(open_ones))

    return Oracle(
        requests=[
            Request(
                bot_id=BOT,
                event_ms=at,
                event_id=f"r{number}",
                endpoint=random.choice(("api", "widget", "slack")),
                chat_id=random.choice(("", *(f"c{n}" for n in range(300)))),
                ip=random.choice(("", *(f"192.0.2.{n}" for n in range(200)))),
                country=random.choice(("", "DE", "US", "NP")),
                region=random.choice(("", "Bavaria")),
                city=random.choice(("", "Munich", "St. John's")),
                browser=random.choice(("", "Firefox", "Chrome")),
                client_class=random.choice(("person", "crawler", "api_client")),
                timezone="",
                page_url=random.choice(("", "https://example.com/")),
            )
            for number, at in enumerate(moments(2500, 20))
        ],
        usages=[
            Usage(
                bot_id=BOT,
                event_ms=at,
                event_id=f"u{number}",
                source=random.choice(("chat", "fs_chat")),
                model=random.choice(("", "small", "large")),
                input_tokens=random.randrange(10**9),
                output_tokens=random.randrange(1000),
            )
            for number, at in enumerate(moments(1000))
        ],
        votes=[
            Vote(
                bot_id=BOT,
                event_ms=at,
                event_id=f"v{number}",
                rating=random.choice(("positive", "negative")),
                chat_id="c",
                message_id=random.choice(("", *(f"m{n}" for n in range(40)))),
            )
            for number, at in enumerate(moments(100))
        ],
    )


@dataclass
class Asked:
    """An API whose rows are sealed as far as they are due."""

    agreement: Agreement
    oracle: Oracle


@pytest.fixture(scope="module")
def asked(api: Api) -> Asked:
    random = Random("exactness")
    now = time.time_ns() // 1_000_000
    open_from = (now - GRACE_MS) // INTERVAL_MS * INTERVAL_MS
    produced = population(random, open_from=open_from)
    oracle = replace(produced, votes=last_votes(produced.votes))
    assert len(oracle.votes) < 0.7 * len(produced.votes), "few votes were changed"
    for topic, events in (
        (Topic.BOT_REQUESTS, oracle.requests),
        (Topic.TOKEN_USAGES, oracle.usages),
        (Topic.BOT_FEEDBACK, produced.votes),
    ):
        api.put(topic, *map(asdict, events))
    cells = defaultdict[int, list[Json]](list)
    for number, one in enumerate(oracle.requests):
        if one.event_ms >= open_from:
            cells[number % 3].append(asdict(one))
    for partition, events in cells.items():
        api.put_cell(open_from, events, partition=partition)

    async def seal_all(store: Store) -> None:
        for topic in Topic:
            await seal(store, topic, partitions=1)

    api.with_store(seal_all)
    stack = SimpleNamespace(get=api.get, api=api.http)
    return Asked(agreement=Agreement(stack, oracle), oracle=oracle)  # type: ignore[arg-type]


@st.composite
def ranges(draw: st.DrawFn, *, longest: int = 800 * DAY) -> Range:
    """Of any length up to a few years, on or off boundaries; most near a change of some clock."""
    tz = draw(st.sampled_from(sorted(CHANGES)))
    start = draw(st.sampled_from(MOMENTS)) + draw(
        st.one_of(st.integers(-3 * DAY, 3 * DAY), st.sampled_from((-DAY, 0, DAY)))
    )
    length = draw(
        st.one_of(st.integers(1, 3 * DAY), st.integers(1, longest), st.sampled_from((DAY, 7 * DAY, 90 * DAY)))
    )
    end = start + min(length, longest)
    # To the millisecond, to the interval, or to the UTC day.
    start, end = (at - at % draw(st.sampled_from((1, 1, INTERVAL_MS, DAY))) for at in (start, end))
    return Range(bot=BOT, start=start, end=max(end, start + 1), tz=tz)


def property_of(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


@property_of(40)
@given(range_=ranges(), seed=st.integers(0, 2**32))
def test_cards_rankings_and_chosen_charts_are_the_oracles_in_any_zone(
    asked: Asked, range_: Range, seed: int
) -> None:
    random, agreement = Random(seed), asked.agreement
    of_requests = random_filters(random, asked.oracle.requests, REQUEST_FILTERS)
    of_usages = random_filters(random, asked.oracle.usages, TOKEN_FILTERS)
    for filters in ({}, {**of_requests, **of_usages}):
        agreement.summary(range_, filters)
    for filters in ({}, of_requests):
        agreement.top(range_, random.choice(DIMENSIONS), random.choice((1, 3, 1000)), filters)
        agreement.request_series(range_, filters)
    for filters in ({}, of_usages):
        agreement.top_tokens(range_, random.choice(TOKEN_FILTERS), random.choice((1, 1000)), filters)
    agreement.token_series(range_, random.choice(({}, of_usages)))


@property_of(60)
@given(
    range_=ranges(longest=100 * DAY), interval=st.sampled_from(sorted(INTERVALS)), seed=st.integers(0, 2**32)
)
def test_buckets_of_any_length_are_the_oracles_in_any_zone(
    asked: Asked, range_: Range, interval: str, seed: int
) -> None:
    random = Random(seed)
    range_ = replace(range_, end=min(range_.end, range_.start + 1_000 * INTERVALS[interval]))
    of_requests = random_filters(random, asked.oracle.requests, REQUEST_FILTERS)
    of_usages = random_filters(random, asked.oracle.usages, TOKEN_FILTERS)
    asked.agreement.request_series(range_, random.choice(({}, of_requests)), interval)
    asked.agreement.unique_series(range_, random.choice(({}, of_requests)), interval)
    asked.agreement.token_series(range_, random.choice(({}, of_usages)), interval)


@pytest.mark.parametrize(
    ("tz", "day", "hours"),
    [
        ("America/New_York", (2024, 3, 10), 23),
        ("America/New_York", (2024, 11, 3), 25),
        ("Australia/Lord_Howe", (2024, 10, 6), 23.5),
        ("Australia/Lord_Howe", (2024, 4, 7), 24.5),
        ("Pacific/Chatham", (2024, 9, 29), 23),
        ("Africa/Casablanca", (2024, 4, 14), 23),
    ],
)
def test_a_day_has_as_many_hours_as_its_clock_shows(
    asked: Asked, tz: str, day: tuple[int, int, int], hours: float
) -> None:
    start = instant(*day, 0, tz)
    whole = Range(bot=BOT, start=start, end=start + int(hours * HOUR), tz=tz)
    assert instant(day[0], day[1], day[2] + 1, 0, tz) == whole.end
    for interval in ("15m", "1h", "4h", "1d"):
        asked.agreement.request_series(whole, {}, interval)
        asked.agreement.token_series(whole, {}, interval)
    asked.agreement.summary(whole, {})


def test_answers_reach_over_days_intervals_open_cells_and_cut_rows(asked: Asked) -> None:
    moments = asked.oracle.moments(BOT)
    whole = Range(bot=BOT, start=moments[0], end=moments[-1] + 1, tz="Asia/Kathmandu")
    for filters in ({}, {"country": ["DE"], "source": ["chat"]}):
        asked.agreement.summary(whole, filters)
    for by in DIMENSIONS:
        asked.agreement.top(whole, by, 2, {})
    asked.agreement.request_series(whole, {}, "1mo")
    asked.agreement.unique_series(whole, {}, "1mo")
    asked.agreement.token_series(whole, {}, "1mo")
    asked.agreement.lists(whole, {}, {})
    asked.agreement.exports(whole, {}, {})


def test_days_have_rows_and_the_open_interval_none(api: Api, asked: Asked) -> None:
    # Or what is said above would not be said of them.
    async def counts(store: Store) -> list[int]:
        return [
            (await store.rows("SELECT count() FROM footfall.{table:Identifier}", {"table": table}))[0][0]
            for table in ("bot_requests_1d", "token_usages_1d", "bot_requests_cells")
        ]

    days, token_days, cells = api.with_store(counts)
    assert min(days, token_days) > 50
    assert cells == 3
    [open_one] = {
        one.event_ms // INTERVAL_MS for one in asked.oracle.requests if one.event_ms > MOMENTS[-1] + 60 * DAY
    }
    fresh = api.get("/bots/exact/summary", tz="UTC")["freshness"]
    assert timestamp(fresh["provisional_from"]) * 1000 >= open_one * INTERVAL_MS
