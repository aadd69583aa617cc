"""The API over a real store: how it reads intervals, what it does when store or broker are away, and long exports."""

from __future__ import annotations

import csv
import io
import itertools
import json
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from random import Random
from threading import Event
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from clickhouse import ledger
from clickhouse.client import Store
from schemas.rollup import INTERVAL_MS
from schemas.topics import Topic
from tests.agreement import Agreement, random_filters, random_range
from tests.api import Api, Json, bot_path, request, usage
from tests.builders import EPOCH, event
from tests.oracle import REQUEST_FILTERS, TOKEN_FILTERS, Oracle, Request, Usage, Vote, text
from tests.records import everything_in
from tests.stack import eventually

HOUR, DAY = 3_600_000, 86_400_000
# A midnight lately: the store forgets cells after a week.
T0 = time.time_ns() // 1_000_000 // DAY * DAY - 3 * DAY
WHOLE = {"from": text(T0, "UTC"), "to": text(T0 + 2 * DAY, "UTC")}
MONTH = {"from": text(T0, "UTC"), "to": text(T0 + 30 * DAY, "UTC")}


# --- how intervals are read


def cards(api: Api, bot: str, **parameters: Any) -> tuple[int, int, int, str | None]:
    found = api.data(bot_path(bot, "summary"), **{**WHOLE, **parameters})
    return tuple(
        found[card] for card in ("total_requests", "unique_ips", "unique_conversations", "last_request")
    )


def test_an_interval_that_is_not_sealed_is_the_sum_of_its_cells(api: Api) -> None:
    bot = "cells"
    one = [request(bot, T0 + 1, "a", ip="192.0.2.1", chat_id="c"), request(bot, T0 + 2, "b", ip="192.0.2.2")]
    two = [request(bot, T0 + 3, "c", ip="192.0.2.1", country="DE", endpoint="widget")]
    api.put(Topic.BOT_REQUESTS, *one, *two)
    api.put_cell(T0, one[:1], partition=0, last_offset=1)
    api.put_cell(T0, one, partition=0, last_offset=2)
    api.put_cell(T0, two, partition=1, last_offset=9)
    api.put_cell(T0, one[:1], partition=0, last_offset=1)  # written again, late
    assert cards(api, bot) == (3, 2, 1, text(T0 + 3, "UTC"))
    [first, *_] = api.data(bot_path(bot, "requests/timeseries"), **WHOLE, interval="15m")["buckets"]
    assert first["requests"] == 3
    top = api.data(bot_path(bot, "requests/top"), **WHOLE, by="endpoint")
    assert [(entry["value"], entry["requests"]) for entry in top] == [("api", 2), ("widget", 1)]
    top = api.data(bot_path(bot, "requests/top"), **WHOLE, by="country")
    assert [(entry["kind"], entry["requests"]) for entry in top] == [("value", 1), ("unknown", 2)]


def test_an_open_interval_counts_whatever_a_value_is_made_of(api: Api) -> None:
    bot, values = "odd", ['"', "\\", "\n\t", "\x00", "é😀\u2028", '{"a": 1}', "by_endpoint"]
    events = [request(bot, T0, str(number), endpoint=value) for number, value in enumerate(values)]
    api.put(Topic.BOT_REQUESTS, *events)
    api.put_cell(T0, events, partition=7)
    top = api.data(bot_path(bot, "requests/top"), **WHOLE, by="endpoint")
    assert sorted(entry["value"] for entry in top) == sorted(values)
    taken_over = api.with_store(
        lambda store: ledger.open_cells(
            store, Topic.BOT_REQUESTS, epoch=EPOCH, partitions=[7], first_open_ms=T0
        )
    )
    by_endpoint = dict.fromkeys(values, 1)
    assert taken_over == [(7, bot, T0, (1, len(values), T0, by_endpoint, {"": 7}, {"": 7}, {"": 7}, 0))]


def test_a_sealed_interval_is_its_sealed_row_and_nothing_else(api: Api) -> None:
    bot = "sealed"
    events = [request(bot, T0 + 1, "a", ip="192.0.2.1"), request(bot, T0 + 1, "a", ip="192.0.2.2")]
    api.put(Topic.BOT_REQUESTS, *events)
    api.put_cell(T0, events, partition=0)  # which took the copy for another event
    assert cards(api, bot) == (2, 2, 0, text(T0 + 1, "UTC"))
    api.seal(Topic.BOT_REQUESTS)
    assert cards(api, bot) == (1, 1, 0, text(T0 + 1, "UTC"))


def test_an_interval_that_the_range_cuts_is_counted_from_raw_rows(api: Api) -> None:
    bot = "cut"
    copies = [request(bot, T0 + 5, "a", ip=f"192.0.2.{copy}") for copy in range(3)]
    api.put(Topic.BOT_REQUESTS, *copies, request(bot, T0 + 6, "b"))
    api.put_cell(T0, copies, partition=0)
    to = {"to": text(T0 + 6, "UTC")}
    assert cards(api, bot, **to) == (1, 1, 0, text(T0 + 5, "UTC"))
    [entry] = api.data(bot_path(bot, "requests/top"), **{**WHOLE, **to}, by="endpoint")
    assert entry["requests"] == 1
    start = {"from": text(T0 + 6, "UTC")}
    assert cards(api, bot, **start)[0] == 1


def test_of_copies_the_earliest_record_is_the_event(api: Api) -> None:
    bot = "copies"
    api.put(
        Topic.BOT_REQUESTS,
        request(bot, T0, "a", endpoint="late", record_ms=T0 + 9),
        request(bot, T0, "a", endpoint="early", record_ms=T0 + 8),
        request(bot, T0, "a", endpoint="later", record_ms=T0 + 8),
    )
    assert [row["endpoint"] for row in api.data(bot_path(bot, "requests"), **WHOLE)["rows"]] == ["early"]
    assert cards(api, bot, endpoint="early")[0] == 1
    assert cards(api, bot, endpoint=["late", "later"])[0] == 0
    [row] = api.ask(bot_path(bot, "requests/export"), **WHOLE, format="json").json()["rows"]
    assert row["endpoint"] == "early"


def population(random: Random, bot: str) -> Oracle:
    """Three days of events, many at boundaries of intervals."""

    def moment() -> int:
        at = T0 + random.randrange(3 * DAY)
        return at if random.random() < 0.7 else at // INTERVAL_MS * INTERVAL_MS + random.choice((0, -1))

    def one_of(*values: str) -> str:
        return random.choice(values)

    return Oracle(
        requests=[
            Request(
                bot_id=bot,
                event_ms=moment(),
                event_id=f"r{number}",
                endpoint=one_of("api", "widget", "=x", "é"),
                chat_id=one_of("", *(f"c{n}" for n in range(50))),
                ip=one_of("", *(f"192.0.2.{n}" for n in range(40))),
                country=one_of("", "DE", "US", "NP"),
                region=one_of("", "Bavaria", "Île-de-France"),
                city=one_of("", "Munich", "Paris", "St. John's"),
                browser=one_of("", "Firefox", "Chrome"),
                client_class=one_of("person", "crawler", "api_client"),
                timezone=one_of("", "Europe/Berlin"),
                page_url=one_of("", "https://example.com/?a=1,2", '"quoted"\n'),
            )
            for number in range(600)
        ],
        usages=[
            Usage(
                bot_id=bot,
                event_ms=moment(),
                event_id=f"u{number}",
                source=one_of("chat", "fs_chat", "-new"),
                model=one_of("", "small", "large"),
                input_tokens=random.randrange(10**9),
                output_tokens=random.randrange(1000),
            )
            for number in range(300)
        ],
        votes=[
            Vote(
                bot_id=bot,
                event_ms=T0 + number * HOUR,
                event_id=f"v{number}",
                rating=one_of("positive", "negative", "none"),
                chat_id="c",
                message_id=f"m{number}",
            )
            for number in range(60)
        ],
    )


def test_every_answer_is_the_oracles_whatever_is_sealed_and_what_is_not(api: Api) -> None:
    random, bot = Random("sealed until"), "population"
    oracle = population(random, bot)
    for topic, events in (
        (Topic.BOT_REQUESTS, oracle.requests),
        (Topic.TOKEN_USAGES, oracle.usages),
        (Topic.BOT_FEEDBACK, oracle.votes),
    ):
        api.put(topic, *map(asdict, events))
    sealed_until = T0 + 2 * DAY
    api.seal(Topic.BOT_REQUESTS, before_ms=sealed_until)
    api.seal(Topic.TOKEN_USAGES)
    open_cells = defaultdict[tuple[int, int], list[Json]](list)
    for number, one in enumerate(oracle.requests):
        if one.event_ms >= sealed_until:
            open_cells[one.event_ms // INTERVAL_MS * INTERVAL_MS, number % 3].append(asdict(one))
    for (interval_ms, partition), events in open_cells.items():
        api.put_cell(interval_ms, events, partition=partition)
    agreement = Agreement(SimpleNamespace(get=api.get, api=api.http), oracle)  # type: ignore[arg-type]
    for _ in range(12):
        asked = random_range(random, oracle, bot)
        of_requests = random_filters(random, oracle.requests, REQUEST_FILTERS)
        of_usages = random_filters(random, oracle.usages, TOKEN_FILTERS)
        for filters in ({}, of_requests):
            agreement.summary(asked, filters)
            agreement.request_series(asked, filters)
            agreement.unique_series(asked, filters)
            agreement.top(asked, random.choice(("endpoint", "country", "city", "page_url")), 2, filters)
            for by, contains in random.sample(
                (
                    ("ip", "2.3"),
                    ("ip", ""),
                    ("region", "ÎLE"),
                    ("city", "o"),
                    ("browser", "x"),
                ),
                2,
            ):
                agreement.values(asked, by, contains, random.choice((1, 3, 1000)), filters)
        agreement.token_series(asked, random.choice(({}, of_usages)))
        agreement.summary(asked, {**of_requests, **of_usages})
        agreement.lists(asked, random.choice(({}, of_requests)), random.choice(({}, of_usages)))
        agreement.exports(asked, random.choice(({}, of_requests)), random.choice(({}, of_usages)))


def test_pages_of_a_sparse_bot_are_the_oracles_whatever_the_week_that_is_looked_at_first_holds(
    api: Api,
) -> None:
    """Rows follow each other at one time, a millisecond or a day apart, or just within, on or beyond a week."""
    random, bot, week = Random("sparse"), "sparse", 7 * DAY
    at, events = T0, []
    for number in range(24):
        events.append(request(bot, at, f"e{random.randrange(100):02}-{number}", endpoint=random.choice("ab")))
        at -= random.choice((0, 0, 0, 1, DAY, week - 1, week, week, week + 1, 40 * DAY))
    api.put(Topic.BOT_REQUESTS, *events, *events[::5])
    api.put(Topic.TOKEN_USAGES, *(usage(bot, one["event_ms"], one["event_id"]) for one in events))
    expected = sorted(events, key=lambda one: (one["event_ms"], one["event_id"]), reverse=True)
    for limit, end in ((1, T0 + week), (2, T0 + week + 1), (3, T0 + week), (5, T0 + 1), (24, T0 + week)):
        for path, endpoints in (("requests", "ab"), ("requests", "a"), ("token-usages", "ab")):
            asked: Json = {"from": text(at, "UTC"), "to": text(end, "UTC"), "limit": limit}
            if endpoints == "a":
                asked["endpoint"] = endpoints
            left = [one for one in expected if one["endpoint"] in endpoints]
            while left:
                found = api.data(bot_path(bot, path), **asked)
                page, left = left[:limit], left[limit:]
                assert [(row["time"], row["event_id"]) for row in found["rows"]] == [
                    (text(one["event_ms"], "UTC"), one["event_id"]) for one in page
                ]
                assert (found["next"] is None) == (not left)
                asked["cursor"] = found["next"]


def test_buckets_that_no_interval_fits_are_counted_from_raw_rows(api: Api) -> None:
    # Until 2011 clocks in St. John's changed at one minute past midnight: at 02:31 UTC the hour 23 came again.
    bot, change = "st johns", 1_289_097_060_000
    api.put(
        Topic.BOT_REQUESTS,
        request(bot, change - 1, "a"),
        request(bot, change, "b"),
        request(bot, change + 1, "c"),
    )
    api.seal(Topic.BOT_REQUESTS)
    ranged = {"from": "2010-11-07T02:00:00Z", "to": "2010-11-07T04:00:00Z", "tz": "America/St_Johns"}
    found = api.data(bot_path(bot, "requests/timeseries"), **ranged, interval="1h")["buckets"]
    assert {bucket["start"]: bucket["requests"] for bucket in found if bucket["requests"]} == {
        "2010-11-07T00:00:00.000-02:30": 1,
        "2010-11-06T23:01:00.000-03:30": 2,
    }


def test_freshness_is_that_of_the_topics_concerned(api: Api) -> None:
    bot = "freshness"
    api.put(Topic.BOT_REQUESTS, request(bot, T0, "a"))
    columns = ("topic", "version", "provisional_from", "data_as_of")
    as_of = {Topic.BOT_REQUESTS: "2026-01-01 00:00:01.5", Topic.TOKEN_USAGES: "2026-01-01 00:00:00.5"}

    async def write(store: Store) -> None:
        passes = [(topic, 1, "2026-01-01 00:00:00", at) for topic, at in as_of.items()]
        await store.insert("footfall.seal_passes", columns, passes, origin="test")
        progress = [
            # Of an epoch that has ended nothing waits.
            (Topic.BOT_REQUESTS, "00000000-0000-4000-8000-000000000001", 0, 100, "2026-01-01 00:00:00"),
            (Topic.BOT_REQUESTS, "00000000-0000-4000-8000-000000000002", 0, 3, "2026-01-01 00:00:01"),
            (Topic.BOT_REQUESTS, "00000000-0000-4000-8000-000000000002", 1, 4, "2026-01-01 00:00:01"),
        ]
        names = ("topic", "epoch", "partition", "lag", "written_at")
        await store.insert("footfall.progress", names, progress, origin="test")

    api.with_store(write)

    def of_requests() -> Json:
        found: Json = api.get(bot_path(bot, "requests"), **WHOLE, tz="Asia/Kathmandu")["freshness"]
        return found

    # Requests of half a second share what they say of it.
    eventually(lambda: of_requests()["data_as_of"] == "2026-01-01T05:45:01.500+05:45", 5)
    assert of_requests()["provisional_from"] == "2026-01-01T05:45:00.000+05:45"
    assert of_requests()["consumer_lag_records"] == 7
    of_tokens = api.get(bot_path(bot, "token-usages"), **WHOLE)["freshness"]
    assert of_tokens["data_as_of"] == "2026-01-01T00:00:00.500+00:00"
    assert (
        api.get(bot_path(bot, "summary"), **WHOLE)["freshness"]["data_as_of"] is None
    )  # of feedback it is not known


# --- many rows


def put_many(api: Api, bot: str, count: int) -> None:
    """Requests from T0 on, ten a second, with something in every column; each of an address of its own."""
    api.with_store(
        lambda store: store.command(
            """INSERT INTO footfall.bot_requests (bot_id, event_ms, event_id, endpoint, chat_id, ip, country, region,
                city, browser, client_class, timezone, page_url, source_topic, source_offset, record_ms)
            SELECT {bot:String}, {start:Int64} + 100 * number, concat('e', toString(number)), 'widget',
                toString(number % 1000), IPv4NumToString(toUInt32(167772160 + number)), 'DE', 'Bavaria', 'Munich',
                'Firefox', 'person', 'Europe/Berlin',
                concat('https://example.com/', toString(number)), 'bot_requests', number, {start:Int64}
            FROM numbers({count:UInt64})""",
            {"bot": bot, "start": T0, "count": count},
        )
    )


def test_a_unique_count_of_very_many_is_exact_whatever_it_is_read_from(api: Api) -> None:
    bot, count = "unique", 300_000
    put_many(api, bot, count)
    api.seal(Topic.BOT_REQUESTS)
    exact = {"unique_ips": True, "unique_conversations": True}
    ends = [(0, count), (1, count), (7, count - 12_345), (123_456, 123_457 + 9_000)]
    for first, last in ends:  # days, intervals and rows; from the first of them to the last
        ranged = {"from": text(T0 + 100 * first, "UTC"), "to": text(T0 + 100 * last, "UTC")}
        for filters in ({}, {"country": "DE"}):
            found = api.data(bot_path(bot, "summary"), **ranged, **filters)
            assert found["exact"] == exact
            assert found["total_requests"] == found["unique_ips"] == last - first
            assert found["unique_conversations"] == 1000


# --- pages and exports


def test_pages_hold_each_row_once_and_in_order_whatever_arrives_between_them(api: Api) -> None:
    bot, there = "paged", range(10, 70)
    api.put(Topic.BOT_REQUESTS, *(request(bot, T0 + 1000 * number, f"e{number}") for number in there))
    data = api.data(bot_path(bot, "requests"), **WHOLE, limit=7)
    found = [row["event_id"] for row in data["rows"]]
    to_come = {f"e{number}" for number in there}
    for page in itertools.count():
        last = min(int(one[1:]) for one in found if one.startswith("e"))  # of those that were there
        at = T0 + 1000 * last
        newer = [request(bot, at + 5_500, f"n{page}"), request(bot, at, f"f{page}")]  # ids descend as well
        older = [request(bot, at - 1, f"o{page}"), request(bot, at, f"d{page}")]
        copies = [request(bot, at + 1000 * n, f"e{last + n}") for n in (-1, 0, 1) if last + n in there]
        api.put(Topic.BOT_REQUESTS, *newer, *older, *copies)
        if not data["next"]:
            break
        to_come |= {f"o{page}", f"d{page}"}
        data = api.data(bot_path(bot, "requests"), **WHOLE, limit=7, cursor=data["next"])
        found += [row["event_id"] for row in data["rows"]]
    assert len(found) == len(to_come)
    assert {*found} == to_come
    everything = api.data(bot_path(bot, "requests"), **WHOLE, limit=1000)["rows"]
    assert found == [row["event_id"] for row in everything if row["event_id"] in to_come]


def test_an_export_holds_as_many_rows_as_it_said_whatever_arrives_meanwhile(api: Api) -> None:
    bot = "moving"
    put_many(api, bot, 20_000)
    done = Event()

    def arrive() -> None:
        number = 0
        while not done.is_set():
            number += 1
            copies = [request(bot, T0 + 100 * n, f"e{n}", record_ms=T0 - number) for n in range(50)]
            new = [request(bot, T0 + 50 * number + n, f"new {number} {n}") for n in range(50)]
            api.put(Topic.BOT_REQUESTS, *copies, *new)

    counts = set()
    with ThreadPoolExecutor(1) as threads:
        arriving = threads.submit(arrive)
        try:
            for _ in range(15):
                answer = api.ask(bot_path(bot, "requests/export"), **WHOLE, format="csv")
                rows = list(csv.reader(io.StringIO(answer.text, newline="")))[1:]
                assert len(rows) == int(answer.headers["footfall-row-count"])
                assert len({row[-1] for row in rows}) == len(rows)
                assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
                counts.add(len(rows))
        finally:
            done.set()
        arriving.result()
    assert len(counts) > 1, "nothing arrived meanwhile"


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the system does not say how much memory is used"
)
def test_a_long_export_takes_no_memory_of_the_web_process(api: Api) -> None:
    bot, count = "long", 5_000_000
    put_many(api, bot, count)
    ranged = {**MONTH, "format": "csv"}
    plain = {"Accept-Encoding": "identity"}
    before = most = resident_bytes(api.web.pid)
    with api.http.stream("GET", bot_path(bot, "requests/export"), params=ranged, headers=plain) as answer:
        assert answer.headers["footfall-row-count"] == str(count)
        rows = -1  # the header
        for piece in answer.iter_raw(1 << 20):
            rows += piece.count(b"\n")
            most = max(most, resident_bytes(api.web.pid))
    assert rows == count
    assert most - before < 50_000_000


def running(api: Api, like: str) -> int:
    """Statements like this that the store works on."""

    async def count(store: Store) -> int:
        [(running,)] = await store.rows(
            "SELECT count() FROM system.processes WHERE query LIKE {like:String} AND query NOT LIKE '%processes%'",
            {"like": like},
        )
        return int(running)

    return api.with_store(count)


def test_the_store_stops_when_the_client_of_an_export_goes_away(api: Api) -> None:
    bot, exports = "abandoned", "%rowNumber%"
    put_many(api, bot, 1_000_000)
    ranged = {**MONTH, "format": "csv"}
    with api.http.stream("GET", bot_path(bot, "requests/export"), params=ranged) as answer:
        pieces = answer.iter_raw()
        assert next(pieces)
        assert running(api, exports) == 1
    eventually(lambda: running(api, exports) == 0, 10, lambda: "the store still works for nobody")


# --- a question that takes long


QUESTIONS = "%footfall.token_usages FINAL%"
SLOW = "sleepEachRow(2.9) + sleepEachRow(2.8) + sleepEachRow(2.7) + sleepEachRow(2.6)"
LARGE = "length(range(toUInt64(400000000 + input_tokens)))"  # 3.2 GB


@pytest.fixture(scope="module")
def slow_bot(api: Api) -> Iterator[str]:
    """A bot with one model call, of January 2020, whose model the store needs 11 s to read."""
    bot = "slow"
    api.put(Topic.TOKEN_USAGES, usage(bot, 1_577_836_800_000, "only", model="m"))
    compute_model(api, SLOW)
    alter(api, "CLEAR COLUMN model IN PARTITION 202001")  # from now on it is computed whenever it is read
    yield bot
    alter(api, "MODIFY COLUMN model REMOVE DEFAULT")


def compute_model(api: Api, how: str) -> None:
    """What a model is that no row has."""
    alter(api, f"MODIFY COLUMN model DEFAULT toString({how})")


def alter(api: Api, how: str) -> None:
    statement = f"ALTER TABLE footfall.token_usages {how} SETTINGS mutations_sync = 2"
    api.with_store(lambda store: store.command(statement))


@pytest.mark.parametrize("path", ["token-usages?", "tokens/timeseries?model=m&", "summary?model=m&"])
def test_the_store_stops_when_the_client_of_a_question_goes_away(api: Api, slow_bot: str, path: str) -> None:
    target = f"/api/v1{bot_path(slow_bot, path)}from=2020-01-01&to=2020-02-01"
    with socket.create_connection(("127.0.0.1", httpx.URL(api.url).port)) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        eventually(lambda: running(api, QUESTIONS) == 1, 5, lambda: "nothing was asked of the store")
    eventually(lambda: running(api, QUESTIONS) == 0, 3, lambda: "the store still works for nobody")


@pytest.mark.parametrize(("model", "limit"), [(SLOW, "time"), (LARGE, "memory")], ids=["time", "memory"])
def test_a_question_that_takes_too_much_is_given_up_with_advice(
    api: Api, slow_bot: str, model: str, limit: str
) -> None:
    compute_model(api, model)
    try:
        answer = api.ask(bot_path(slow_bot, "token-usages"), **{"from": "2020-01-01", "to": "2020-02-01"})
    finally:
        compute_model(api, SLOW)
    assert (answer.status_code, answer.json().get("type")) == (503, "unavailable"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    assert f"more {limit} than one question may. Ask about a shorter range" in answer.json()["detail"]
    eventually(lambda: running(api, QUESTIONS) == 0, 3, lambda: "the store still works for nobody")


# --- when something is away


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Api]:
    """Processes of one's own, to be stopped."""
    pytest.importorskip("chdb")
    with Api(tmp_path) as api:
        yield api


def status(api: Api, path: str) -> int:
    return httpx.get(api.url + path, timeout=30).status_code


def post(api: Api, number: int) -> httpx.Response:
    said = event(bot_id="b", event_id=f"e{number}", event_time=T0)
    return api.http.post("/events/bot_requests", content=said, headers={"content-type": "application/json"})


def test_it_serves_again_when_the_store_is_back(own: Api) -> None:
    own.put(Topic.BOT_REQUESTS, request("b", T0, "a"))
    assert own.ask(bot_path("b", "summary"), **WHOLE).status_code == 200
    own.store.stop()
    answer = own.ask(bot_path("b", "summary"), **WHOLE)
    assert answer.status_code == 503
    assert answer.json()["type"] == "unavailable"
    assert int(answer.headers["retry-after"]) > 0
    ready = httpx.get(f"{own.url}/readyz", timeout=30)
    assert (ready.status_code, ready.json()["broker"]) == (503, "ok")
    assert "store" in ready.json()["store"] or "connect" in ready.json()["store"].lower()
    assert status(own, "/livez") == status(own, "/") == status(own, "/metrics") == 200
    assert post(own, 1).status_code == 202, "the collector needs no store"
    own.start_store()
    eventually(lambda: own.is_ready, 20, lambda: own.log)
    assert own.ask(bot_path("b", "summary"), **WHOLE).status_code == 200


def test_a_store_that_hangs_does_not_make_it_hang(own: Api) -> None:
    own.store.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    ready = httpx.get(f"{own.url}/readyz", timeout=30)
    assert time.monotonic() - started < 10
    assert (ready.status_code, ready.json()["store"]) == (503, "the store does not answer in time")
    assert status(own, "/livez") == 200
    started = time.monotonic()
    answer = own.ask(bot_path("b", "summary"), **WHOLE)
    assert time.monotonic() - started < 10
    assert (answer.status_code, answer.json()["type"]) == (503, "unavailable")
    own.store.process.send_signal(signal.SIGCONT)
    eventually(lambda: own.is_ready, 20, lambda: own.log)


def test_it_stops_in_time_with_store_and_broker_away(own: Api) -> None:
    assert post(own, 1).status_code == 202
    own.store.stop()
    own.stop_broker()
    assert post(own, 2).status_code == 503
    assert own.web is not None
    assert own.web.stop(within=30) == 0


def test_it_takes_events_again_when_the_broker_is_back(own: Api) -> None:
    own.put(Topic.BOT_REQUESTS, request("b", T0, "a"))
    assert post(own, 1).status_code == 202
    own.stop_broker()
    started = time.monotonic()
    answer = post(own, 2)
    assert time.monotonic() - started < 20
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    ready = httpx.get(f"{own.url}/readyz", timeout=30)
    assert (ready.status_code, ready.json()["store"]) == (503, "ok")
    assert ready.json()["broker"] != "ok"
    assert status(own, "/livez") == 200
    assert own.ask(bot_path("b", "summary"), **WHOLE).status_code == 200, "the query layer needs no broker"
    own.start_broker()
    eventually(lambda: own.is_ready, 30, lambda: own.log)
    eventually(lambda: post(own, 3).status_code == 202, 30, lambda: own.log)
    values = [
        json.loads(record.value or b"")["event_id"] for record in everything_in(own.bootstrap, "bot_requests")
    ]
    assert "e3" in values


def test_it_starts_before_store_and_broker_do(own: Api) -> None:
    own.put(Topic.BOT_REQUESTS, request("b", T0, "a"))
    for process in (own.web, own.store):
        process.stop()
    own.stop_broker()
    own.start_web()
    eventually(lambda: own.web.get(f"{own.url}/livez") == 200, 30, lambda: own.log)
    assert own.ask("/bots").status_code == post(own, 1).status_code == status(own, "/readyz") == 503
    own.start_store()
    own.start_broker()
    eventually(lambda: own.is_ready, 30, lambda: own.log)
    assert own.ask("/bots").status_code == 200
    assert post(own, 1).status_code == 202


def test_a_store_without_tables_is_not_ready(own: Api) -> None:
    own.with_store(lambda store: store.command("DROP DATABASE footfall"))
    ready = httpx.get(f"{own.url}/readyz", timeout=30)
    assert ready.status_code == 503
    assert "footfall migrate" in ready.json()["store"]
    assert own.ask("/bots").status_code == 503


def test_an_export_that_breaks_off_has_no_clean_end(own: Api) -> None:
    put_many(own, "b", 1_500_000)
    ranged = {**MONTH, "format": "csv"}
    with own.http.stream("GET", bot_path("b", "requests/export"), params=ranged) as answer:
        assert answer.headers["footfall-row-count"] == "1500000"
        pieces = answer.iter_raw()
        next(pieces)
        own.store.process.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass
    assert "cut off" in own.log
    assert "Traceback" not in own.log
