"""The demo's population: its shape, its faults, and that it is the same whenever it is told."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.browser import client
from pipeline.decode import MalformedEvent, decode
from pipeline.demo_geography import PLACES, write_demo_geography
from pipeline.geography import Geography
from pipeline.population import (
    DAY_MS,
    EVENTS_PER_HOUR,
    HOUR_MS,
    PERIOD_MS,
    Bot,
    Publication,
    bots,
    hour,
    past,
    present,
    spikes,
)
from schemas.dead_letter import Reason
from schemas.topics import Topic

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MONDAY_MS = int(MONDAY.timestamp() * 1000)
FIRST_HOUR = MONDAY_MS // HOUR_MS
WEEK = range(FIRST_HOUR, FIRST_HOUR + 7 * 24)


@cache
def week() -> list[tuple[int, Publication]]:
    """All that is published in a week: when, and what."""
    return [told for number in WEEK for told in hour(1, number)]


@cache
def events() -> list[dict[str, Any]]:
    """The fields of the week's events, with when they were published, and the topic."""
    return [
        json.loads(event.value) | {"at": ms, "topic": event.topic, "event_ms": event.event_ms}
        for ms, event in week()
    ]


def of(topic: Topic) -> list[dict[str, Any]]:
    return [event for event in events() if event["topic"] == topic]


def bot(name: str) -> Bot:
    return next(bot for bot in bots() if bot.name == name)


def identities(publications: Iterable[Publication]) -> list[tuple[Topic, str, str, int | None]]:
    fields = [(event, json.loads(event.value)) for event in publications]
    return [
        (event.topic, content["bot_id"], content["event_id"], event.event_ms) for event, content in fields
    ]


def live(count: int, *, seed: int = 1, started: datetime = MONDAY, rate: float = 50) -> list[Publication]:
    traffic = present(seed, started=started)
    started_ms = int(started.timestamp() * 1000)
    return [traffic.next(started_ms + int(n * 1000 / rate)) for n in range(count)]


# --- the past is one story


@settings(max_examples=10)
@given(
    first=st.integers(0, 20 * HOUR_MS),
    cuts=st.lists(st.integers(0, 4 * HOUR_MS), min_size=1, max_size=3).map(sorted),
)
def test_the_past_is_the_same_in_whatever_pieces_it_is_told(first: int, cuts: list[int]) -> None:
    start = MONDAY_MS + first
    ends = [start + cut for cut in cuts]
    whole = list(past(1, from_ms=start, to_ms=ends[-1]))
    pieces = [past(1, from_ms=begin, to_ms=end) for begin, end in pairwise([start, *ends])]
    assert [event for piece in pieces for event in piece] == whole


def test_a_week_has_as_many_events_as_it_should_and_no_two_different_ones_of_one_identity() -> None:
    assert 0.9 < len(week()) / (EVENTS_PER_HOUR * 24 * 7) < 1.3
    contents = defaultdict(set)
    for identity, (_, event) in zip(identities(event for _, event in week()), week(), strict=True):
        contents[identity].add(event.value)
    assert {len(values) for values in contents.values()} == {1}


def test_events_are_told_in_the_order_of_their_publication_within_their_hour() -> None:
    for number in WEEK[:5]:
        times = [ms for ms, _ in hour(1, number)]
        assert times == sorted(times)
        assert number * HOUR_MS <= times[0]
        assert times[-1] < (number + 1) * HOUR_MS


def test_another_seed_is_another_past() -> None:
    one, other = (list(past(seed, from_ms=MONDAY_MS, to_ms=MONDAY_MS + HOUR_MS)) for seed in (1, 2))
    assert not set(identities(one)) & set(identities(other))


# --- the present belongs to its run


def test_runs_of_one_seed_look_alike_and_share_no_event() -> None:
    one = live(3000)
    other = live(3000, started=MONDAY.replace(microsecond=1))
    assert [(event.topic, event.key) for event in one] == [(event.topic, event.key) for event in other]
    identified = [
        {event["event_id"] for event in map(json.loads, (event.value for event in run if event.event_ms))}
        for run in (one, other)
    ]
    assert not identified[0] & identified[1]


def test_another_seed_is_another_present() -> None:
    assert [event.key for event in live(200)] != [event.key for event in live(200, seed=2)]


def test_all_three_topics_are_there_from_the_first_events_on() -> None:
    topics = Counter(event.topic for event in live(300))
    assert set(topics) == set(Topic)
    assert topics[Topic.BOT_REQUESTS] > topics[Topic.TOKEN_USAGES] > topics[Topic.BOT_FEEDBACK]


# --- the shape


def test_there_are_forty_bots_whose_sizes_follow_zipf_s_law() -> None:
    sizes = [bot.size for bot in bots()]
    assert len({bot.name for bot in bots()}) == 40
    assert all(bot.name.startswith("demo-") for bot in bots())
    assert sum(sizes) == pytest.approx(1)
    assert all(
        bigger / smaller == pytest.approx(((rank + 1) / rank) ** 1.1)
        for rank, (bigger, smaller) in enumerate(pairwise(sizes), 1)
    )
    seen = Counter(event["bot_id"] for event in events())
    assert len(seen) == 40
    assert seen["demo-support"] > 0.12 * len(events())
    assert seen["demo-kathmandu-guide"] < 0.01 * len(events())


def test_nights_are_quiet_and_so_are_a_team_s_weekends() -> None:
    desk = bot("demo-it-desk")
    by_hour = [desk.activity(MONDAY_MS + number * HOUR_MS) for number in range(7 * 24)]
    day, night = by_hour[10], by_hour[22]  # 11:00 and 23:00 in Berlin, on Monday
    assert day > 8 * night
    saturday = by_hour[5 * 24 + 10]
    assert saturday == pytest.approx(day * 0.1)


def test_a_shop_sells_more_on_saturdays() -> None:
    shop = bot("demo-shop")
    evening = MONDAY_MS + 19 * HOUR_MS
    assert shop.activity(evening + 5 * DAY_MS) == pytest.approx(1.5 * shop.activity(evening))


def test_what_is_published_follows_day_and_night() -> None:
    # Of bots that are never in a spike, and of the hours that are theirs by their own clock.
    quiet = {bot.name: bot for bot in bots()[10:]}
    hours = Counter(
        datetime.fromtimestamp(event["at"] / 1000, quiet[event["bot_id"]].zone).hour
        - quiet[event["bot_id"]].profile.peak_hour
        for event in events()
        if event["bot_id"] in quiet
    )
    around_peak = sum(count for since, count in hours.items() if abs(since) <= 2)
    around_night = sum(count for since, count in hours.items() if 10 <= abs(since) <= 14)
    assert around_peak > 4 * around_night


def test_every_day_has_a_spike_of_hours_that_stands_out() -> None:
    for day in range(FIRST_HOUR // 24, FIRST_HOUR // 24 + 6):
        long = max(spikes(1, day), key=lambda spike: spike.end_ms - spike.start_ms)
        assert long.end_ms - long.start_ms >= 1.5 * HOUR_MS
        name = bots()[long.bot].name
        times = [event["at"] for event in of(Topic.BOT_REQUESTS) if event["bot_id"] == name]
        hours = (long.end_ms - long.start_ms) / HOUR_MS
        in_spike = sum(long.start_ms <= at < long.end_ms for at in times) / hours
        assert in_spike > 2.5 * len(times) / (7 * 24)


def test_a_scraped_bot_uses_no_more_tokens_and_shows_one_country() -> None:
    spike = next(
        spike
        for day in range(FIRST_HOUR // 24, FIRST_HOUR // 24 + 6)
        for spike in spikes(1, day)
        if spike.kind == "scrape" and spike.end_ms - spike.start_ms > HOUR_MS
    )
    name = bots()[spike.bot].name
    during = [
        event
        for event in events()
        if event["bot_id"] == name and spike.start_ms <= event["at"] < spike.end_ms
    ]
    requests = [event for event in during if event["topic"] == Topic.BOT_REQUESTS]
    usages = [event for event in during if event["topic"] == Topic.TOKEN_USAGES]
    assert len(requests) > 2 * len(usages)
    [(address, count), *_] = Counter(
        event["ip"] for event in requests if event["chat_id"] is None
    ).most_common()
    assert count > 0.1 * len(requests), address


def test_the_present_has_the_spike_of_minutes_that_each_hour_has() -> None:
    short = [spike for spike in spikes(1, MONDAY_MS // DAY_MS) if spike.end_ms - spike.start_ms < HOUR_MS / 4]
    assert {spike.start_ms // HOUR_MS - FIRST_HOUR for spike in short} == set(range(24))
    longest = max(short, key=lambda spike: spike.end_ms - spike.start_ms)
    # Shares are those of whole periods, at whose middle the spike has to be on.
    periods = range(MONDAY_MS, MONDAY_MS + DAY_MS, PERIOD_MS)
    begins = next(ms for ms in periods if longest.start_ms <= ms + PERIOD_MS // 2 < longest.end_ms)
    shares = []
    for ms in (begins - HOUR_MS // 2, begins):
        traffic = present(1, started=MONDAY)
        keys = Counter(traffic.next(ms + n).key for n in range(4000))
        shares.append(keys[bots()[longest.bot].key] / keys.total())
    assert shares[1] > 2 * shares[0]


def test_people_crawlers_and_programs_call_from_many_countries() -> None:
    classes = Counter(client(event["user_agent"] or "")[1] for event in of(Topic.BOT_REQUESTS))
    assert set(classes) == {"person", "crawler", "api_client", ""}
    assert classes["person"] > 0.4 * classes.total()
    assert classes["crawler"] > 0.005 * classes.total()
    browsers = {client(event["user_agent"] or "")[0] for event in of(Topic.BOT_REQUESTS)}
    assert {"Chrome", "Firefox", "Mobile Safari", "Edge", "Googlebot", "Python Requests"} <= browsers
    assert len({event["endpoint"] for event in of(Topic.BOT_REQUESTS)}) >= 7
    assert len({event["timezone"] for event in of(Topic.BOT_REQUESTS)}) >= 30


def test_addresses_are_documentation_s_and_people_come_back() -> None:
    own = [ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
    seen = {event["ip"] for event in of(Topic.BOT_REQUESTS)} - {None}
    assert all(any(ip_address(ip) in network for network in own) for ip in seen)
    assert len(seen) > 2000
    of_one = [event for event in of(Topic.BOT_REQUESTS) if event["bot_id"] == "demo-support" and event["ip"]]
    days = defaultdict(set)
    for event in of_one:
        days[event["ip"]].add(event["at"] // DAY_MS)
    assert sum(len(seen_on) > 1 for seen_on in days.values()) > 0.2 * len(days)
    assert len(days) > 500


def test_the_geo_database_knows_all_but_a_few_of_the_addresses(tmp_path: Path) -> None:
    database = tmp_path / "demo.mmdb"
    write_demo_geography(database)
    geography = Geography(database)
    places = Counter(geography.lookup(event["ip"]) for event in of(Topic.BOT_REQUESTS) if event["ip"])
    unknown = sum(count for (country, _, _), count in places.items() if not country)
    assert 0.005 < unknown / places.total() < 0.05
    assert len({country for country, _, _ in places}) == len({place.country for place in PLACES})


def test_conversations_have_several_requests_and_tokens_and_votes_belong_to_them() -> None:
    requests = {event["event_id"]: event for event in of(Topic.BOT_REQUESTS)}
    turns = Counter(event["chat_id"] for event in requests.values() if event["chat_id"])
    assert 1.5 < turns.total() / len(turns) < 4
    assert max(turns.values()) > 5
    known = {(event["bot_id"], event["chat_id"]) for event in requests.values()}
    assert {(event["bot_id"], event["chat_id"]) for event in of(Topic.TOKEN_USAGES)} <= known
    for vote in of(Topic.BOT_FEEDBACK):
        request = requests[vote["message_id"]]
        assert (request["bot_id"], request["chat_id"]) == (vote["bot_id"], vote["chat_id"])


def test_tokens_have_sources_and_models() -> None:
    sources = {event["source"] for event in of(Topic.TOKEN_USAGES)}
    assert sources == {"chat", "fs_chat", "responses", "ticket_summary"}
    models = {(event["model"], event["provider"]) for event in of(Topic.TOKEN_USAGES)}
    assert (None, None) in models
    assert len(models) >= 6


def test_some_votes_change_and_some_are_withdrawn() -> None:
    votes = defaultdict(dict)
    for event in of(Topic.BOT_FEEDBACK):
        votes[event["bot_id"], event["message_id"]][event["event_id"]] = event["rating"]
    changed = [ratings for ratings in votes.values() if len(ratings) > 1]
    assert 0.1 < len(changed) / len(votes) < 0.3
    ratings = Counter(event["rating"] for event in of(Topic.BOT_FEEDBACK))
    assert ratings["positive"] > 2 * ratings["negative"] > 2 * ratings["none"] > 0


def test_times_are_written_both_ways() -> None:
    kinds = Counter(type(event["event_time"]) for event in events())
    assert set(kinds) == {int, str}


# --- the faults


def test_of_the_past_all_decodes_and_tells_the_time_that_is_said_of_it() -> None:
    for ms, publication in week():
        event, event_ms = decode(publication.topic, publication.value, ms)
        assert event_ms == publication.event_ms
        assert publication.key in (None, event.bot_id.encode())


def test_two_percent_come_twice_and_a_third_of_those_copies_without_a_key() -> None:
    seen = Counter(identities(event for _, event in week()))
    copies = len(week()) - len(seen)
    assert 0.015 < copies / len(week()) < 0.025
    without_key = sum(event.key is None for _, event in week())
    assert 0.25 < without_key / copies < 0.42


def test_three_percent_come_late_by_up_to_26_hours() -> None:
    lateness = [ms - (event.event_ms or 0) for ms, event in week()]
    late = [by for by in lateness if by > 170_000]
    assert 0.02 < len(late) / len(lateness) < 0.04
    assert max(late) <= 26 * HOUR_MS
    assert sum(by > 12 * HOUR_MS for by in late) > 30
    assert all(by >= 0 for by in lateness)


def test_a_few_of_the_live_events_are_malformed_for_many_reasons_and_all_others_decode() -> None:
    run = live(20_000)
    now_ms = MONDAY_MS + 20_000 * 1000 // 50
    reasons: Counter[Reason] = Counter()
    for publication in run:
        if publication.event_ms is not None:
            assert decode(publication.topic, publication.value, now_ms)[1] == publication.event_ms
            continue
        with pytest.raises(MalformedEvent) as refused:
            decode(publication.topic, publication.value, now_ms)
        reasons[refused.value.reason] += 1
    assert 0.003 < reasons.total() / len(run) < 0.007
    assert len(reasons) >= 7
