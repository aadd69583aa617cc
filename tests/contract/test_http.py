"""Every rule of the HTTP contract, kept and broken once."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from pipeline.web.answers import (
    Answer,
    BotRow,
    KnownBot,
    Published,
    RequestBucket,
    RequestDetails,
    RequestRow,
    Rows,
    Series,
    Summary,
    TokenBucket,
    TokenDetails,
    TokenRow,
    TopEntry,
    TopTokensEntry,
    UniqueBucket,
    ValueEntry,
)
from schemas.topics import Topic
from tests.api import Api, Json, bot_path, request, usage, vote
from tests.builders import event
from tests.records import everything_in

BOT = "contract"
T0 = 1_767_225_600_000  # 2026-01-01T00:00:00Z
HOUR = 3_600_000
WHOLE = {"from": "2026-01-01", "to": "2026-01-03"}

CARDS = "total_requests unique_ips unique_conversations last_request input_tokens output_tokens total_tokens"
CARDS += " positive_feedbacks negative_feedbacks"
REQUEST_COLUMNS = (
    "time endpoint ip country region city browser timezone page_url chat_id client_class event_id"
)
TOKEN_COLUMNS = "time source input_tokens output_tokens total_tokens model event_id"
REQUEST_FILTERS = ["endpoint", "country", "region", "city", "browser", "client_class", "ip"]
TOKEN_FILTERS = ["source", "model"]

OF_REQUESTS = (
    *("requests/timeseries", "uniques/timeseries", "requests/top", "requests/values"),
    *("requests", "requests/export"),
)
OF_TOKENS = ("tokens/timeseries", "token-usages/top", "token-usages", "token-usages/export")
OF_A_BOT = ("range", "summary", *OF_REQUESTS, *OF_TOKENS)
NEEDED: dict[str, Json] = {
    "requests/top": {"by": "country"},
    "requests/values": {"by": "ip"},
    "requests/export": {"format": "json"},
    "token-usages/top": {"by": "source"},
    "token-usages/export": {"format": "json"},
}
# Of one row each, which is there.
ROW_OF: dict[str, Json] = {
    "requests/row": {"time": "2026-01-01T00:00:00Z", "event_id": "r1"},
    "token-usages/row": {"time": "2026-01-01T00:00:00.005Z", "event_id": "t1"},
}
ALL = ("/bots", *(bot_path(BOT, path) for path in OF_A_BOT))


@pytest.fixture(scope="module")
def api(api: Api) -> Api:
    """With one bot that has something of everything."""
    full = {
        "chat_id": "c1",
        "ip": "192.0.2.1",
        "country": "DE",
        "region": "Bavaria",
        "city": "Munich",
        "browser": "Firefox",
        "client_class": "person",
        "timezone": "Europe/Berlin",
        "page_url": 'https://example.com/?a="1",\n2',
    }
    api.put(
        Topic.BOT_REQUESTS,
        request(BOT, T0, "r1", **full),
        request(BOT, T0 + HOUR, "r2", **{**full, "ip": "2001:db8::1", "chat_id": "c2", "country": "US"}),
        request(BOT, T0 + HOUR, "r10", endpoint="=1+1", page_url="@x", chat_id="c2", country="US"),
        request(BOT, T0 + 2 * HOUR, "r3", endpoint="widget", ip="192.0.2.1"),
        request(BOT, T0 + 30 * HOUR, "r4", endpoint="widget", country="DE"),
    )
    api.put(
        Topic.TOKEN_USAGES,
        usage(BOT, T0 + 5, "t1", input_tokens=10, output_tokens=1, model="m"),
        usage(BOT, T0 + HOUR, "t2", source="-fs", input_tokens=20, output_tokens=2),
    )
    api.put(
        Topic.BOT_FEEDBACK,
        vote(BOT, T0 + 1, "f1", "positive", chat_id="c1", message_id="m1"),
        vote(BOT, T0 + 2, "f2", "negative", chat_id="c1", message_id="m1"),
        vote(BOT, T0 + 3, "f3", "positive", chat_id="c1", message_id="m2"),
        vote(BOT, T0 + 60 * HOUR, "f4", "none", chat_id="c1", message_id="m2"),
        vote(BOT, T0 + 4, "f5", "positive"),
        vote(BOT, T0 + 4, "f6", "positive"),
    )
    api.seal(Topic.BOT_REQUESTS)
    api.seal(Topic.TOKEN_USAGES)
    return api


def ask(api: Api, path: str, **parameters: Any) -> httpx.Response:
    """An answer about the bot, with what the path cannot do without."""
    return api.ask(bot_path(BOT, path), **{**NEEDED.get(path, {}), **parameters})


def data(api: Api, path: str, **parameters: Any) -> Any:
    answer = ask(api, path, **{**WHOLE, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def problem(answer: httpx.Response, status: int, kind: str) -> Json:
    """What RFC 9457 asks for."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: Json = answer.json()
    assert body["type"] == kind
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def refused(answer: httpx.Response, parameter: str) -> None:
    """400, naming the parameter."""
    body = problem(answer, 400, "bad-parameter")
    assert body["parameter"] == parameter
    assert parameter in body["detail"]


# --- what every path has in common


@pytest.mark.parametrize("path", ALL)
def test_an_unknown_parameter_is_refused_by_name(api: Api, path: str) -> None:
    refused(api.ask(path, **NEEDED.get(path.removeprefix(f"/bots/{BOT}/"), {}), nope="1"), "nope")


@pytest.mark.parametrize("path", OF_TOKENS)
@pytest.mark.parametrize("name", REQUEST_FILTERS)
def test_a_filter_of_requests_is_no_parameter_of_tokens(api: Api, path: str, name: str) -> None:
    refused(ask(api, path, **{name: "192.0.2.1"}), name)


@pytest.mark.parametrize("path", OF_REQUESTS)
@pytest.mark.parametrize("name", TOKEN_FILTERS)
def test_a_filter_of_tokens_is_no_parameter_of_requests(api: Api, path: str, name: str) -> None:
    refused(ask(api, path, **{name: "x"}), name)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("summary", "range", "8d"),
        ("summary", "range", ""),
        ("summary", "from", "yesterday"),
        ("summary", "tz", "Berlin"),
        ("summary", "tz", ""),
        ("summary", "ip", "192.0.2"),
        ("summary", "ip", "192.0.2.0/24"),
        ("requests", "ip", "192.0.2.01"),
        ("requests", "limit", "0"),
        ("requests", "limit", "1001"),
        ("requests", "limit", "-1"),
        ("requests", "limit", "ten"),
        ("requests", "limit", ""),
        ("requests", "cursor", "x"),
        ("requests", "cursor", "ä"),
        ("requests", "cursor", "bnVsbA"),
        ("token-usages", "limit", "1001"),
        ("token-usages", "cursor", "W10"),
        ("requests/timeseries", "interval", "5m"),
        ("tokens/timeseries", "interval", ""),
    ],
)
def test_a_bad_value_is_refused_by_name(api: Api, path: str, name: str, value: str) -> None:
    refused(ask(api, path, **{name: value}), name)


@pytest.mark.parametrize(
    ("path", "given", "name"),
    [
        ("requests/top", {}, "by"),
        ("requests/top", {"by": "ip"}, "by"),
        ("requests/top", {"by": "event_id"}, "by"),
        ("requests/top", {"by": "country", "limit": "0"}, "limit"),
        ("requests/top", {"by": "country", "limit": "1001"}, "limit"),
        ("requests/values", {}, "by"),
        ("requests/values", {"by": "chat_id"}, "by"),
        ("requests/values", {"by": "ip", "limit": "1001"}, "limit"),
        ("requests/values", {"by": "ip", "contains": "x" * 129}, "contains"),
        ("token-usages/top", {}, "by"),
        ("token-usages/top", {"by": "country"}, "by"),
        ("token-usages/top", {"by": "model", "limit": "0"}, "limit"),
        ("requests/export", {}, "format"),
        ("requests/export", {"format": "xlsx"}, "format"),
        ("requests/export", {"format": "csv", "limit": "1"}, "limit"),
        ("token-usages/export", {"format": "CSV"}, "format"),
    ],
)
def test_what_a_path_cannot_do_without_is_asked_for_by_name(
    api: Api, path: str, given: Json, name: str
) -> None:
    refused(api.ask(bot_path(BOT, path), **given), name)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"to": "2026-01-01"}, "to"),
        ({"from": "2026-01-01", "to": "2026-01-01"}, "from"),
        ({"from": "2026-01-02", "to": "2026-01-01"}, "from"),
        ({"from": "2100-01-01"}, "from"),
        ({"range": "7d", "from": "2026-01-01"}, "range"),
        ({"range": "7d", "to": "2026-01-01"}, "range"),
    ],
)
@pytest.mark.parametrize("path", OF_A_BOT)
def test_a_contradictory_range_is_refused_by_name(api: Api, path: str, given: Json, name: str) -> None:
    refused(ask(api, path, **given), name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *((path, name) for path in OF_A_BOT for name in ("range", "from", "to", "tz")),
        ("requests", "limit"),
        ("requests", "cursor"),
        ("requests/top", "by"),
        ("requests/export", "format"),
        ("requests/timeseries", "interval"),
    ],
)
def test_a_parameter_of_one_value_is_refused_when_it_has_two(api: Api, path: str, name: str) -> None:
    one = NEEDED.get(path, {}).get(name, "1")
    refused(api.ask(bot_path(BOT, path), **{**NEEDED.get(path, {}), name: [one, one]}), name)


@pytest.mark.parametrize("path", OF_A_BOT)
@pytest.mark.parametrize(
    "bot", ["nobody", "a b", "ä", "%2e", "' OR 1=1 --", "{bot:String}", "\\", "a\tb", "\0"]
)
def test_an_unknown_bot_is_404_on_every_path(api: Api, path: str, bot: str) -> None:
    problem(api.ask(bot_path(bot, path), **NEEDED.get(path, {})), 404, "unknown-bot")


@pytest.mark.parametrize("path", OF_A_BOT)
@pytest.mark.parametrize("topic", Topic)
def test_a_bot_is_known_by_one_event_of_any_topic(api: Api, path: str, topic: Topic) -> None:
    bot = f"only in {topic}"
    api.put(topic, {"bot_id": bot, "event_ms": T0, "event_id": "e", "endpoint": "a", "source": "s"})
    assert api.ask(bot_path(bot, path), **NEEDED.get(path, {}), **WHOLE).status_code == 200


@pytest.mark.parametrize(
    "bot", ["a b", "ä/b".replace("/", "|"), "100%", "?&#+;=", "'\"\\", "{x:String}", "..a", "😀"]
)
def test_a_bot_may_have_any_name_without_a_slash(api: Api, bot: str) -> None:
    api.put(Topic.BOT_REQUESTS, request(bot, T0, "e", endpoint=bot))
    assert api.data(bot_path(bot, "summary"), **WHOLE, endpoint=bot)["total_requests"] == 1
    assert [row["endpoint"] for row in api.data(bot_path(bot, "requests"), **WHOLE)["rows"]] == [bot]


def test_what_is_nowhere_is_404_and_what_may_not_be_done_405(api: Api) -> None:
    problem(api.ask("/nope"), 404, "not-found")
    problem(api.ask(bot_path(BOT, "nope")), 404, "not-found")
    assert "/bots takes GET" in problem(api.http.post("/bots"), 405, "method-not-allowed")["detail"]
    refused = problem(api.ask("/events/bot_requests"), 405, "method-not-allowed")
    assert refused["detail"].endswith("/events/bot_requests takes POST, not GET.")


@pytest.mark.parametrize("path", OF_A_BOT)
def test_an_answer_is_never_kept_by_a_browser_or_proxy(api: Api, path: str) -> None:
    assert ask(api, path, **WHOLE).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["nope", "bots?limit=x", bot_path("nobody", "summary").removeprefix("/")])
def test_a_problem_is_never_kept_by_a_browser_or_proxy(api: Api, path: str) -> None:
    answer = httpx.get(f"{api.url}/api/v1/{path}")
    assert answer.status_code >= 400
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/static/page.js", "/livez", "/metrics", "/api/v1/openapi.json", "/api/v1/nope"),
        *(f"/api/v1{bot_path(BOT, path)}" for path in ("summary", "requests/export?format=csv")),
    ],
)
def test_head_says_what_get_would_without_the_body(api: Api, path: str) -> None:
    got, head = httpx.get(api.url + path), httpx.head(api.url + path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "cache-control", "etag", "footfall-row-count", "content-security-policy"):
        assert head.headers.get(name) == got.headers.get(name), name


@pytest.mark.parametrize("path", ["/bots/a%26b%20c", "/bots/a%26b%20c/", "/bots/a%26b%20c/analytics/"])
def test_an_address_near_the_page_leads_to_it(api: Api, path: str) -> None:
    assert httpx.get(api.url + "/bots?a=b").headers["location"] == "/?a=b"
    answer = httpx.get(f"{api.url}{path}?range=24h&country=a%26b")
    assert answer.status_code == 307
    assert answer.headers["location"] == "/bots/a%26b%20c/analytics?range=24h&country=a%26b"


@pytest.mark.parametrize("path", [path for path in OF_A_BOT if not path.endswith("export")])
def test_an_answer_is_range_data_and_freshness(api: Api, path: str) -> None:
    body = ask(api, path, **WHOLE, tz="Asia/Kathmandu").json()
    assert list(body) == ["range", "data", "freshness"]
    assert body["range"] == {
        "from": "2026-01-01T00:00:00.000+05:45",
        "to": "2026-01-03T00:00:00.000+05:45",
        "tz": "Asia/Kathmandu",
    }
    assert {"data_as_of", "provisional_from", "consumer_lag_records"} <= body["freshness"].keys()


@pytest.mark.parametrize("path", OF_A_BOT)
def test_data_depends_on_parameters_and_events_alone(api: Api, path: str) -> None:
    first, second = (ask(api, path, **WHOLE) for _ in range(2))
    if path.endswith("export"):
        assert first.content == second.content
    else:
        assert first.json()["data"] == second.json()["data"]


def test_every_time_is_rfc_3339_with_milliseconds_in_the_zone(api: Api) -> None:
    said = json.dumps([ask(api, path, **WHOLE, tz="America/New_York").json() for path in OF_A_BOT])
    times = re.findall(r'"(\d{4}-\d\d-\d\d[^"]*)"', said)
    assert len(times) > 30
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}-0[45]:00", at) for at in times), times


@pytest.mark.parametrize(
    "start", ["0001-01-01", "1000-06-01T00:00:00+14:00", "2299-12-31", "9999-12-30T23:59:59-12:00"]
)
@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize("path", OF_A_BOT)
def test_any_range_of_the_calendar_has_an_answer(api: Api, path: str, start: str, tz: str) -> None:
    end = "9999-12-31T23:59:59.999Z" if start > "9" else "2300-01-01"
    if path.endswith("timeseries") and start < "1":
        end = "0002-01-01"  # an answer, but with thousands of buckets
    answer = ask(api, path, **{"from": start, "to": end, "tz": tz})
    assert answer.status_code == 200, answer.text


# --- the range


def test_the_ends_of_a_range_are_those_that_every_other_path_takes(api: Api) -> None:
    said = ask(api, "range", range="last_month", tz="America/New_York").json()
    assert said["data"] == {"bot_id": BOT}
    assert said["range"] == ask(api, "summary", range="last_month", tz="America/New_York").json()["range"]
    ends = ask(api, "range", range="7d", tz="Asia/Kathmandu").json()["range"]
    for path in OF_A_BOT:
        if not path.endswith("export"):
            assert ask(api, path, **ends).json()["range"] == ends


# --- the cards


def test_the_cards_are_all_there_and_right(api: Api) -> None:
    found = data(api, "summary")
    assert list(found) == [*CARDS.split(), "exact", "unfiltered"]
    assert found == {
        "total_requests": 5,
        "unique_ips": 2,
        "unique_conversations": 2,
        "last_request": "2026-01-02T06:00:00.000+00:00",
        "input_tokens": 30,
        "output_tokens": 3,
        "total_tokens": 33,
        "positive_feedbacks": 2,
        "negative_feedbacks": 1,
        "exact": {"unique_ips": True, "unique_conversations": True},
        "unfiltered": [],
    }


def test_an_empty_range_has_zeros_and_no_last_request(api: Api) -> None:
    found = data(api, "summary", **{"from": "2025-01-01", "to": "2025-02-01"})
    assert found["last_request"] is None
    assert all(found[card] == 0 for card in CARDS.split() if card != "last_request")


def test_the_end_of_a_range_is_not_in_it(api: Api) -> None:
    at, after = "2026-01-01T01:00:00.000Z", "2026-01-01T01:00:00.001Z"
    assert data(api, "summary", **{"from": "2026-01-01T00:00:00.001Z", "to": at})["total_requests"] == 0
    assert data(api, "summary", **{"from": at, "to": after})["total_requests"] == 2


def test_a_vote_that_was_changed_after_the_range_counts_nowhere_in_it(api: Api) -> None:
    assert data(api, "summary")["positive_feedbacks"] == 2  # f5 and f6: m2's was withdrawn later
    only_first = {"from": "2026-01-01T00:00:00.001Z", "to": "2026-01-01T00:00:00.002Z"}
    assert data(api, "summary", **only_first)["positive_feedbacks"] == 0


def test_cards_without_a_given_filter_stay_as_they_are_and_are_named(api: Api) -> None:
    cards = CARDS.split()
    found = data(api, "summary", endpoint="widget")
    assert (found["total_requests"], found["input_tokens"], found["positive_feedbacks"]) == (2, 30, 2)
    assert found["unfiltered"] == cards[4:]
    found = data(api, "summary", source="chat")
    assert (found["total_requests"], found["input_tokens"], found["positive_feedbacks"]) == (5, 10, 2)
    assert found["unfiltered"] == [*cards[:4], *cards[7:]]
    found = data(api, "summary", source="chat", endpoint="widget")
    assert (found["total_requests"], found["input_tokens"], found["positive_feedbacks"]) == (2, 10, 2)
    assert found["unfiltered"] == cards[7:]


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        ({"endpoint": "widget"}, 2),
        ({"endpoint": ["widget", "=1+1"]}, 3),
        ({"endpoint": "widget", "country": "DE"}, 1),
        ({"country": ""}, 1),
        ({"country": ["", "DE"]}, 3),
        ({"region": "Bavaria", "city": "Munich", "browser": "Firefox", "client_class": "person"}, 2),
        ({"ip": "192.0.2.1"}, 2),
        ({"ip": "::ffff:192.0.2.1"}, 2),
        ({"ip": "2001:0DB8:0:0:0:0:0:1"}, 1),
        ({"ip": ["192.0.2.1", ""]}, 4),
        ({"country": "de"}, 0),
        ({"endpoint": "' OR '1'='1"}, 0),
    ],
)
def test_values_of_one_filter_are_alternatives_and_filters_add_up(
    api: Api, filters: Json, requests: int
) -> None:
    assert data(api, "summary", **filters)["total_requests"] == requests
    assert len(data(api, "requests", **filters)["rows"]) == requests
    assert (
        sum(bucket["requests"] for bucket in data(api, "requests/timeseries", **filters)["buckets"])
        == requests
    )
    assert sum(entry["requests"] for entry in data(api, "requests/top", **filters)) == requests
    assert ask(api, "requests/export", **WHOLE, **filters).json()["row_count"] == requests


@pytest.mark.parametrize(
    ("filters", "tokens"),
    [({"source": "chat"}, 11), ({"model": ""}, 22), ({"source": ["chat", "-fs"]}, 33), ({"source": "x"}, 0)],
)
def test_token_filters_do_the_same(api: Api, filters: Json, tokens: int) -> None:
    assert data(api, "summary", **filters)["total_tokens"] == tokens
    assert sum(row["total_tokens"] for row in data(api, "token-usages", **filters)["rows"]) == tokens
    buckets = data(api, "tokens/timeseries", **filters)["buckets"]
    assert sum(bucket["input_tokens"] + bucket["output_tokens"] for bucket in buckets) == tokens
    rows = ask(api, "token-usages/export", **WHOLE, **filters).json()["rows"]
    assert sum(row["total_tokens"] for row in rows) == tokens


# --- charts


def test_a_chart_is_zero_filled_to_its_end(api: Api) -> None:
    found = data(api, "requests/timeseries", interval="1h")
    assert found["interval"] == "1h"
    assert len(found["buckets"]) == 48
    counted = {at: bucket["requests"] for at, bucket in enumerate(found["buckets"]) if bucket["requests"]}
    assert counted == {0: 1, 1: 2, 2: 1, 30: 1}
    assert found["buckets"][1] == {"start": "2026-01-01T01:00:00.000+00:00", "requests": 2}


def test_a_first_bucket_may_start_before_the_range_but_counts_only_what_is_in_it(api: Api) -> None:
    cut = {"from": "2026-01-01T00:00:00.001Z", "to": "2026-01-01T01:00:00.001Z", "interval": "1h"}
    assert data(api, "requests/timeseries", **cut)["buckets"] == [
        {"start": "2026-01-01T00:00:00.000+00:00", "requests": 0},
        {"start": "2026-01-01T01:00:00.000+00:00", "requests": 2},
    ]


def test_the_interval_is_chosen_where_none_is_asked_for(api: Api) -> None:
    assert data(api, "requests/timeseries")["interval"] == "1h"
    assert data(api, "tokens/timeseries", to="2026-01-01T06:00:00Z")["interval"] == "15m"


def test_more_than_2000_buckets_may_not_be_asked_for(api: Api) -> None:
    for path in ("requests/timeseries", "tokens/timeseries"):
        most = {"from": "2026-01-01", "to": "2026-01-21T20:00:00Z", "interval": "15m"}
        assert len(data(api, path, **most)["buckets"]) == 2000
        refused(ask(api, path, **{**most, "to": "2026-01-21T20:00:00.001Z"}), "interval")


def test_a_chart_of_tokens_has_input_and_output(api: Api) -> None:
    assert data(api, "tokens/timeseries", interval="1d")["buckets"] == [
        {"start": "2026-01-01T00:00:00.000+00:00", "input_tokens": 30, "output_tokens": 3},
        {"start": "2026-01-02T00:00:00.000+00:00", "input_tokens": 0, "output_tokens": 0},
    ]


def test_uniques_of_buckets_may_add_up_to_more_than_the_range_has(api: Api) -> None:
    assert data(api, "uniques/timeseries", interval="1h")["buckets"][:3] == [
        {"start": "2026-01-01T00:00:00.000+00:00", "unique_ips": 1, "unique_conversations": 1},
        {"start": "2026-01-01T01:00:00.000+00:00", "unique_ips": 1, "unique_conversations": 1},
        {"start": "2026-01-01T02:00:00.000+00:00", "unique_ips": 1, "unique_conversations": 0},
    ]  # the first and the third are the same address
    for filters in ({}, {"endpoint": ["api", "widget", "=1+1"]}):
        [day, _] = data(api, "uniques/timeseries", interval="1d", **filters)["buckets"]
        assert (day["unique_ips"], day["unique_conversations"]) == (2, 2)


def test_top_is_by_requests_then_value_then_other_then_unknown(api: Api) -> None:
    assert data(api, "requests/top", limit=1) == [
        {"kind": "value", "value": "DE", "requests": 2, "share": 0.4},
        {"kind": "other", "value": None, "requests": 2, "share": 0.4},
        {"kind": "unknown", "value": None, "requests": 1, "share": 0.2},
    ]
    assert [entry["value"] for entry in data(api, "requests/top")] == ["DE", "US", None]


def test_top_of_nothing_is_empty(api: Api) -> None:
    assert data(api, "requests/top", endpoint="x") == []
    assert data(api, "requests/top", **{"from": "2025-01-01", "to": "2025-01-02"}) == []


@pytest.mark.parametrize(
    "by", ["endpoint", "country", "region", "city", "browser", "page_url", "client_class"]
)
def test_top_knows_every_dimension_and_shares_sum_to_one(api: Api, by: str) -> None:
    for filters in ({}, {"endpoint": ["api", "widget", "=1+1"]}):
        answer = api.data(bot_path(BOT, "requests/top"), **WHOLE, by=by, **filters)
        assert sum(entry["share"] for entry in answer) == pytest.approx(1, abs=1e-12)
        assert sum(entry["requests"] for entry in answer) == 5


def test_values_are_those_that_exist_and_hold_the_text(api: Api) -> None:
    assert data(api, "requests/values") == [
        {"value": None, "requests": 2},
        {"value": "192.0.2.1", "requests": 2},
        {"value": "2001:db8::1", "requests": 1},
    ]
    assert data(api, "requests/values", contains="DB8") == [{"value": "2001:db8::1", "requests": 1}]
    assert data(api, "requests/values", contains="192", country="US") == []
    assert data(api, "requests/values", by="endpoint", contains="W", country="DE", limit=1) == [
        {"value": "widget", "requests": 1}
    ]
    assert data(api, "requests/values", by="endpoint", contains="%") == []


def test_top_of_tokens_is_by_tokens_then_other_then_unknown(api: Api) -> None:
    assert data(api, "token-usages/top", limit=1) == [
        {
            "kind": "value",
            "value": "-fs",
            "usages": 1,
            "input_tokens": 20,
            "output_tokens": 2,
            "share": 22 / 33,
        },
        {
            "kind": "other",
            "value": None,
            "usages": 1,
            "input_tokens": 10,
            "output_tokens": 1,
            "share": 11 / 33,
        },
    ]
    found = data(api, "token-usages/top", by="model")
    assert [(entry["kind"], entry["value"], entry["usages"]) for entry in found] == [
        ("value", "m", 1),
        ("unknown", None, 1),
    ]
    assert data(api, "token-usages/top", source="x") == []


# --- lists


def test_rows_have_their_columns_newest_first_and_of_one_time_the_greater_id_first(api: Api) -> None:
    rows = data(api, "requests")["rows"]
    assert [row["event_id"] for row in rows] == ["r4", "r3", "r2", "r10", "r1"]
    assert all(list(row) == REQUEST_COLUMNS.split() for row in rows)
    assert rows[1] == {
        "time": "2026-01-01T02:00:00.000+00:00",
        "endpoint": "widget",
        "ip": "192.0.2.1",
        **dict.fromkeys(
            ["country", "region", "city", "browser", "timezone", "page_url", "chat_id", "client_class"]
        ),
        "event_id": "r3",
    }
    assert data(api, "token-usages")["rows"] == [
        dict(
            zip(
                TOKEN_COLUMNS.split(),
                ["2026-01-01T01:00:00.000+00:00", "-fs", 20, 2, 22, None, "t2"],
                strict=True,
            )
        ),
        dict(
            zip(
                TOKEN_COLUMNS.split(),
                ["2026-01-01T00:00:00.005+00:00", "chat", 10, 1, 11, "m", "t1"],
                strict=True,
            )
        ),
    ]


def pages(api: Api, path: str, **parameters: Any) -> Iterator[Json]:
    found = api.data(path, **parameters)
    yield found
    while found["next"]:
        found = api.data(path, **parameters, cursor=found["next"])
        yield found


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_pages_follow_one_another_without_gap_or_repeat(api: Api, limit: int) -> None:
    found = list(pages(api, bot_path(BOT, "requests"), **WHOLE, limit=limit))
    rows = [row for page in found for row in page["rows"]]
    assert rows == data(api, "requests")["rows"]
    assert [len(page["rows"]) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert len(found) == -(-5 // limit)


def test_a_cursor_is_valid_with_its_own_parameters_alone(api: Api) -> None:
    def refused_with(path: str, **changed: Any) -> None:
        given = {**WHOLE, "limit": 1, "endpoint": ["api", "widget"], "cursor": cursor, **changed}
        refused(api.ask(path, **given), "cursor")

    requests = bot_path(BOT, "requests")
    first = api.data(requests, **WHOLE, limit=1, endpoint=["api", "widget"])
    cursor = first["next"]
    api.put(Topic.BOT_REQUESTS, request("another", T0, "e"))
    assert api.data(requests, **WHOLE, limit=1, endpoint=["widget", "api"], cursor=cursor)["rows"]
    refused_with(requests, limit=2)
    refused_with(requests, endpoint="api")
    refused_with(requests, tz="Europe/Berlin")
    refused_with(requests, to="2026-01-04")
    refused_with(bot_path("another", "requests"))
    refused_with(requests, cursor=cursor[:-4])
    refused_with(requests, cursor="")
    refused_with(requests, cursor=cursor + "=")


def test_a_cursor_keeps_the_range_of_its_first_page(api: Api) -> None:
    now = time.time_ns() // 1_000_000
    bot = "pinned range"
    api.put(Topic.BOT_REQUESTS, *(request(bot, now - HOUR + at, f"e{at}") for at in range(3)))
    path = bot_path(bot, "requests")
    first = api.get(path, range="24h", limit=1)
    time.sleep(0.01)
    second = api.get(path, range="24h", limit=1, cursor=first["data"]["next"])
    assert second["range"] == first["range"]
    assert api.get(path, range="24h", limit=1)["range"] != first["range"]


def test_rows_that_arrive_between_pages_are_neither_repeated_nor_push_others_out(api: Api) -> None:
    bot = "arrivals"
    path, ranged = bot_path(bot, "requests"), {**WHOLE, "limit": 2}
    api.put(Topic.BOT_REQUESTS, *(request(bot, T0 + 10 * at, f"e{at}") for at in range(6)))
    seen: list[str] = []
    cursor: Json = {}
    for arrival in range(3):
        page = api.data(path, **ranged, **cursor)
        seen += [row["event_id"] for row in page["rows"]]
        # One that is newer than all, a copy of one that was seen, and a copy of one that is still to come.
        api.put(
            Topic.BOT_REQUESTS,
            request(bot, T0 + 1000 + arrival, f"new{arrival}"),
            request(bot, T0 + 50, "e5"),
            request(bot, T0, "e0"),
        )
        cursor = {"cursor": page["next"]}
    assert seen == ["e5", "e4", "e3", "e2", "e1", "e0"]


def test_a_row_is_found_by_its_time_and_id_with_all_that_is_known_of_it(api: Api) -> None:
    bot, before = "details", time.time_ns() // 1_000_000
    origin = {"source_partition": 3, "source_offset": 12, "record_ms": T0 + 250}
    api.put(
        Topic.BOT_REQUESTS,
        request(bot, T0, "same id", ip="192.0.2.1", user_agent="curl/8", geo_build_seconds=86_400, **origin),
        request(bot, T0 + 1, "same id", endpoint="widget"),
    )
    api.put(
        Topic.TOKEN_USAGES,
        usage(bot, T0, "+&/", input_tokens=9, provider="p", chat_id="c", cached_input_tokens=0, **origin),
    )
    at = {"time": "2026-01-01T05:45:00.000+05:45", "tz": "Asia/Kathmandu"}
    said = api.get(bot_path(bot, "requests/row"), **at, event_id="same id")
    assert said["range"] == {
        "from": "2026-01-01T05:45:00.000+05:45",
        "to": "2026-01-01T05:45:00.001+05:45",
        "tz": "Asia/Kathmandu",
    }
    ingested = datetime.fromisoformat(said["data"].pop("ingested_at"))
    assert before - 1000 < ingested.timestamp() * 1000 < time.time_ns() // 1_000_000 + 1000
    listed = api.data(bot_path(bot, "requests"), **WHOLE, tz="Asia/Kathmandu")["rows"]
    assert said["data"] == listed[1] | {
        "user_agent": "curl/8",
        "geo_built_at": "1970-01-02T05:30:00.000+05:30",
        "record_time": "2026-01-01T05:45:00.250+05:45",
        "source_topic": "bot_requests",
        "source_partition": 3,
        "source_offset": 12,
    }
    other = api.data(bot_path(bot, "requests/row"), time="2026-01-01T00:00:00.001Z", event_id="same id")
    assert (other["endpoint"], other["user_agent"], other["geo_built_at"]) == ("widget", None, None)
    found = api.data(bot_path(bot, "token-usages/row"), **at, event_id="+&/")
    del found["ingested_at"]
    assert found == api.data(bot_path(bot, "token-usages"), **WHOLE, tz="Asia/Kathmandu")["rows"][0] | {
        "provider": "p",
        "chat_id": "c",
        "cached_input_tokens": 0,
        "reasoning_output_tokens": None,
        "record_time": "2026-01-01T05:45:00.250+05:45",
        "source_topic": "token_usages",
        "source_partition": 3,
        "source_offset": 12,
    }


@pytest.mark.parametrize("path", ROW_OF)
def test_a_row_that_is_not_there_is_404_and_one_that_cannot_be_is_400(api: Api, path: str) -> None:
    given = {"time": "2026-01-01T00:00:00Z", "event_id": "r1"}
    assert api.ask(bot_path(BOT, "requests/row"), **given).status_code == 200
    problem(api.ask(bot_path(BOT, path), **{**given, "event_id": "nope"}), 404, "unknown-row")
    problem(api.ask(bot_path(BOT, path), **{**given, "time": "2026-01-01T00:00:00.001Z"}), 404, "unknown-row")
    problem(api.ask(bot_path("nobody", path), **given), 404, "unknown-bot")
    for name, value in (("time", "noon"), ("tz", "Berlin"), ("range", "7d"), ("event_id", ["r1", "r1"])):
        refused(api.ask(bot_path(BOT, path), **{**given, name: value}), name)
    for name in given:
        refused(api.ask(bot_path(BOT, path), **{n: value for n, value in given.items() if n != name}), name)


def test_bots_are_listed_by_id_page_by_page(api: Api) -> None:
    now = time.time_ns() // 1_000_000
    api.put(Topic.BOT_REQUESTS, *(request("listed 1", now - age * HOUR, f"e{age}") for age in (1, 2, 24 * 8)))
    api.put(Topic.BOT_FEEDBACK, vote("listed 2", now, "e", "positive"))
    api.put(Topic.TOKEN_USAGES, usage("listed 3", now, "e"))
    api.seal(Topic.BOT_REQUESTS)
    api.seal(Topic.TOKEN_USAGES)
    rows = [row for page in pages(api, "/bots", limit=2) for row in page["rows"]]
    assert [row["bot_id"] for row in rows] == sorted(row["bot_id"] for row in rows)
    assert all(list(row) == ["bot_id", "last_request", "requests_7d"] for row in rows)
    found = {row["bot_id"]: (row["last_request"], row["requests_7d"]) for row in rows}
    assert found["listed 1"][1] == 2
    assert found["listed 2"] == found["listed 3"] == (None, 0)
    assert found[BOT] == ("2026-01-02T06:00:00.000+00:00", 0)
    refused(api.ask("/bots", cursor="x"), "cursor")
    refused(api.ask("/bots", range="7d"), "range")


# --- exports


def test_csv_is_rfc_4180_and_safe_in_a_spreadsheet(api: Api) -> None:
    answer = api.ask(bot_path(BOT, "requests/export"), **WHOLE, format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "charset=utf-8" in answer.headers["content-type"]
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.content.endswith(b"\r\n")
    header, *rows = csv.reader(io.StringIO(answer.text, newline=""), strict=True)
    assert header == REQUEST_COLUMNS.split()
    assert answer.headers["footfall-row-count"] == str(len(rows)) == "5"
    assert [row[-1] for row in rows] == ["r4", "r3", "r2", "r10", "r1"]
    assert rows[3][1] == "'=1+1"
    assert rows[3][8] == "'@x"
    assert rows[3][2] == ""
    assert rows[4] == [
        *("2026-01-01T00:00:00.000+00:00", "api", "192.0.2.1", "DE", "Bavaria", "Munich", "Firefox"),
        *("Europe/Berlin", 'https://example.com/?a="1",\n2', "c1", "person", "r1"),
    ]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_that_a_spreadsheet_would_run_is_neutralised_in_csv_alone(api: Api, first: str) -> None:
    bot, value = f"cell {ord(first)}", f"{first}cmd"
    api.put(Topic.BOT_REQUESTS, request(bot, T0, value, endpoint=value, chat_id=value, page_url=value))
    api.put(Topic.TOKEN_USAGES, usage(bot, T0, value, source=value, model=value))
    for path, times in (("requests/export", 4), ("token-usages/export", 3)):
        [_, row] = csv.reader(
            io.StringIO(api.ask(bot_path(bot, path), **WHOLE, format="csv").text, newline="")
        )
        assert row.count(f"'{value}") == times
        [said] = api.ask(bot_path(bot, path), **WHOLE, format="json").json()["rows"]
        assert list(said.values()).count(value) == times


@pytest.mark.parametrize("form", ["csv", "ndjson", "json"])
def test_an_export_is_compressed_for_who_asks_for_it(api: Api, form: str) -> None:
    path, asked = bot_path(BOT, "requests/export"), {**WHOLE, "format": form}
    answers = [
        api.http.get(path, params=asked, headers={"accept-encoding": accepted})
        for accepted in ("identity", "gzip", "br, *;q=0.1", "gzip;q=0", "")
    ]
    encodings = [answer.headers.get("content-encoding") for answer in answers]
    assert encodings == [None, "gzip", "gzip", None, None]
    assert len({answer.content for answer in answers}) == 1
    for answer in answers:
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["footfall-row-count"] == "5"


def test_ndjson_is_rows_only(api: Api) -> None:
    answer = api.ask(bot_path(BOT, "requests/export"), **WHOLE, format="ndjson")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["footfall-row-count"] == "5"
    assert [json.loads(line) for line in answer.text.splitlines()] == data(api, "requests")["rows"]


def test_json_is_rows_and_their_number_last(api: Api) -> None:
    answer = api.ask(bot_path(BOT, "token-usages/export"), **WHOLE, format="json")
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["rows", "row_count"]
    assert answer.json() == {"rows": data(api, "token-usages")["rows"], "row_count": 2}


@pytest.mark.parametrize("path", ["requests/export", "token-usages/export"])
def test_an_export_of_nothing_is_complete(api: Api, path: str) -> None:
    empty = {"from": "2025-01-01", "to": "2025-02-01"}
    files = {name: api.ask(bot_path(BOT, path), **empty, format=name) for name in ("csv", "ndjson", "json")}
    assert all(answer.headers["footfall-row-count"] == "0" for answer in files.values())
    columns = REQUEST_COLUMNS if path.startswith("requests") else TOKEN_COLUMNS
    assert files["csv"].text == columns.replace(" ", ",") + "\r\n"
    assert files["ndjson"].text == ""
    assert files["json"].json() == {"rows": [], "row_count": 0}


def test_times_of_an_export_follow_the_clock_over_its_changes(api: Api) -> None:
    bot, tz = "clock changes", "America/New_York"
    spring, autumn = 1_772_953_200_000, 1_793_512_800_000  # 2026-03-08T07:00Z, 2026-11-01T06:00Z
    times = [spring - 1, spring, autumn - 1, autumn]
    api.put(Topic.BOT_REQUESTS, *(request(bot, at, f"e{at}") for at in times))
    ranged = {"from": "2026-01-01", "to": "2027-01-01", "tz": tz}
    rows = api.ask(bot_path(bot, "requests/export"), **ranged, format="json").json()["rows"]
    assert rows == api.data(bot_path(bot, "requests"), **ranged)["rows"]
    assert [row["time"] for row in rows] == [
        "2026-11-01T01:00:00.000-05:00",
        "2026-11-01T01:59:59.999-04:00",
        "2026-03-08T03:00:00.000-04:00",
        "2026-03-08T01:59:59.999-05:00",
    ]


# --- the collector

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
GZIP = {"content-encoding": "gzip"}


def post(api: Api, body: bytes, headers: Json = JSON, topic: str = "bot_requests") -> httpx.Response:
    return api.http.post(f"/events/{topic}", content=body, headers=headers)


def mine(name: str, number: int = 0, topic: Topic = Topic.BOT_REQUESTS, **fields: Any) -> bytes:
    return event(
        topic, **{"bot_id": f"collected {name}", "event_id": f"e{number}", "event_time": T0, **fields}
    )


def published(
    api: Api, name: str, topic: Topic = Topic.BOT_REQUESTS
) -> list[tuple[bytes | None, bytes | None]]:
    """(key, value) of the records of this test's bot."""
    return [
        (record.key, record.value)
        for record in everything_in(api.bootstrap, topic)
        if name.encode() in (record.value or b"")
    ]


@pytest.mark.parametrize("topic", Topic)
def test_an_event_is_published_as_its_own_bytes_under_its_bot(api: Api, topic: Topic) -> None:
    said = b" " + mine("spaced", topic=topic).replace(b",", b" ,\n") + b"\n"
    assert post(api, said, topic=topic).status_code == 202
    assert published(api, "collected spaced", topic) == [(b"collected spaced", said)]


@pytest.mark.parametrize(
    ("name", "body", "headers"),
    [
        ("array", b"[ " + b" , ".join(mine("array", n) for n in range(3)) + b" ]", JSON),
        ("lines", b"\n".join(mine("lines", n) for n in range(3)) + b"\n", LINES),
        ("crlf", b"\r\n\r\n".join(mine("crlf", n) for n in range(3)), LINES),
        (
            "gzipped",
            gzip.compress(b"[" + b",".join(mine("gzipped", n) for n in range(3)) + b"]", mtime=0),
            {**JSON, **GZIP},
        ),
        (
            "members",
            b"".join(gzip.compress(mine("members", n) + b"\n", mtime=0) for n in range(3)),
            {**LINES, **GZIP},
        ),
        (
            "typed",
            b"[" + b",".join(mine("typed", n) for n in range(3)) + b"]",
            {"content-type": "Application/JSON; charset=utf-8"},
        ),
    ],
)
def test_many_events_come_as_array_or_lines(api: Api, name: str, body: bytes, headers: Json) -> None:
    answer = post(api, body, headers)
    assert answer.status_code == 202, answer.text
    assert sorted(value or b"" for _, value in published(api, f"collected {name}")) == [
        mine(name, n) for n in range(3)
    ]


def test_an_event_of_one_megabyte_is_taken(api: Api) -> None:
    said = mine("large")
    said = mine("large", page_url="x" * (1_000_000 - len(said) - len(',"page_url":""')))
    assert len(said) == 1_000_000
    assert post(api, said).status_code == 202
    assert [value for _, value in published(api, "collected large")] == [said]


def test_no_event_is_no_mistake(api: Api) -> None:
    assert post(api, b"[]").status_code == 202
    assert post(api, b"", LINES).status_code == 202


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"endpoint": None}, "endpoint", "missing_field"),
        ({"endpoint": 1}, "endpoint", "wrong_type"),
        ({"endpoint": ""}, "endpoint", "invalid_length"),
        ({"bot_id": "a/b"}, "bot_id", "invalid_value"),
        ({"event_time": "yesterday"}, "event_time", "invalid_time"),
        ({"event_time": 0}, "event_time", "too_early"),
        ({"event_time": 4_102_444_800_000}, "event_time", "in_the_future"),
        ({"user_agent": "x" * 1_000_001}, "", "too_large"),
    ],
)
def test_one_malformed_event_refuses_all(api: Api, fields: Json, field: str, reason: str) -> None:
    name = f"refused {field} {reason}"
    body = b"[" + mine(name, 0) + b"," + event(**{"event_id": name, **fields}) + b"," + mine(name, 2) + b"]"
    problem_ = problem(post(api, body), 400, "malformed-events")
    assert problem_["errors"] == [{"index": 1, "field": field, "reason": reason}]
    said = "Every event of bot_requests needs event_id, bot_id, event_time, endpoint." in problem_["detail"]
    assert said == (reason == "missing_field")
    assert published(api, name) == []


def test_every_malformed_event_is_named(api: Api) -> None:
    body = b"\n".join([b"{", mine("some"), b"5", b'{"a":1}', b'{"a":' * 100_000])
    errors = problem(post(api, body, LINES), 400, "malformed-events")["errors"]
    assert [(error["index"], error["reason"]) for error in errors] == [
        (0, "invalid_json"),
        (2, "not_an_object"),
        (3, "missing_field"),
        (4, "too_deep"),
    ]


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"", JSON, "empty"),
        (b"{", JSON, "invalid_json"),
        (b"[{}", JSON, "invalid_json"),
        (b"[{},]", JSON, "invalid_json"),
        (b"[NaN]", JSON, "invalid_json"),
        (b"\xff", JSON, "invalid_json"),
        (b"null", JSON, "not_an_object"),
        (b"[" * 1_000_000, JSON, "too_deep"),
        (b'{"a":' * 200_000, JSON, "too_deep"),
        (b"not gzip", {**JSON, **GZIP}, "invalid_json"),
        (gzip.compress(b"[]", mtime=0)[:-1], {**JSON, **GZIP}, "invalid_json"),
        (gzip.compress(b"[]", mtime=0) + b"x", {**JSON, **GZIP}, "invalid_json"),
    ],
)
def test_a_body_that_is_no_events_is_refused(api: Api, body: bytes, headers: Json, reason: str) -> None:
    errors = problem(post(api, body, headers), 400, "malformed-events")["errors"]
    assert [error["reason"] for error in errors] == [reason]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b'["' + b'\\"' * 400_000 + b"," * 1_200_000, JSON, id="a string without an end"),
        pytest.param(b'["' + b'\\"' * 400_000 + b"," * 1_200_000 + b"\\", JSON, id="a last backslash"),
        pytest.param(gzip.compress(b"", mtime=0) * 52_000, {**JSON, **GZIP}, id="members of nothing"),
    ],
)
def test_a_body_made_to_take_long_is_refused_soon(api: Api, body: bytes, headers: Json) -> None:
    def seconds() -> float:
        begun = time.monotonic()
        problem(post(api, body, headers), 400, "malformed-events")
        return time.monotonic() - begun

    assert any(seconds() < 2 for _ in range(3))  # the machine may be busy with other things


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {**JSON, "content-encoding": "br"},
        {**JSON, "content-encoding": "gzip, gzip"},
    ],
)
def test_other_types_and_encodings_are_415(api: Api, headers: Json) -> None:
    problem(post(api, mine("typed wrongly"), headers), 415, "unsupported-body")


def test_10_000_events_are_taken_and_one_more_is_413(api: Api) -> None:
    for separator, around, headers in ((b",", (b"[", b"]"), JSON), (b"\n", (b"", b""), LINES)):
        most = [mine("many", n) for n in range(10_000)]
        assert post(api, around[0] + separator.join(most) + around[1], headers).status_code == 202
        body = around[0] + separator.join([*most, mine("many", 10_000)]) + around[1]
        problem(post(api, body, headers), 413, "too-large")


@pytest.mark.parametrize("nested", [b"{}", b"0", b'"a,b,c"'])
def test_millions_of_elements_are_413(api: Api, nested: bytes) -> None:
    problem(
        post(api, b"[" + b",".join([nested] * (15_000_000 // (len(nested) + 1))) + b"]"), 413, "too-large"
    )


def test_16_mib_are_taken_and_one_byte_more_is_413(api: Api) -> None:
    assert post(api, b"[" + b" " * (16 * 1024 * 1024 - 2) + b"]").status_code == 202
    problem(post(api, b"[" + b" " * (16 * 1024 * 1024 - 1) + b"]"), 413, "too-large")
    problem(post(api, b" " * (40 * 1024 * 1024)), 413, "too-large")


def test_16_mib_is_what_a_compressed_body_may_hold(api: Api) -> None:
    assert (
        post(api, gzip.compress(b"[" + b" " * (16 * 1024 * 1024 - 2) + b"]"), {**JSON, **GZIP}).status_code
        == 202
    )
    bomb = gzip.compress(b" " * (16 * 1024 * 1024 + 1))
    problem(post(api, bomb, {**JSON, **GZIP}), 413, "too-large")


def test_a_topic_that_is_none_is_404(api: Api) -> None:
    problem(post(api, mine("lost"), topic="bot_requests_dead_letter"), 404, "unknown-topic")


def test_the_collector_knows_no_parameter(api: Api) -> None:
    answer = api.http.post("/events/bot_requests", params={"x": "1"}, content=mine("with"), headers=JSON)
    refused(answer, "x")


# --- what is beside the API


def test_health_needs_no_parameters_and_says_what_is_well(api: Api) -> None:
    assert httpx.get(f"{api.url}/livez").status_code == 200
    ready = httpx.get(f"{api.url}/readyz")
    assert ready.status_code == 200
    assert (ready.json()["store"], ready.json()["broker"]) == ("ok", "ok")


def test_metrics_count_by_template_and_never_by_bot(api: Api) -> None:
    data(api, "summary")
    post(api, mine("metrics"))
    said = httpx.get(f"{api.url}/metrics").text
    assert (
        'footfall_http_requests_total{method="GET",route="/api/v1/bots/{bot}/summary",status="200"}' in said
    )
    assert 'footfall_http_request_seconds_count{method="GET",route="/api/v1/bots/{bot}/summary"}' in said
    assert 'footfall_collector_events_total{outcome="published",topic="bot_requests"}' in said
    assert BOT not in said
    assert "collected metrics" not in said


@pytest.mark.parametrize("path", ["/", f"/bots/{BOT}/analytics", "/bots/nobody/analytics?range=24h&any=1"])
def test_the_page_is_where_it_should_be(api: Api, path: str) -> None:
    answer = httpx.get(api.url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Footfall" in answer.text


def test_the_page_and_its_parts_are_not_sent_twice(api: Api) -> None:
    for path in ("/", "/static/page.js"):
        first = httpx.get(api.url + path)
        assert first.headers["cache-control"] == "no-cache"
        again = httpx.get(api.url + path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_what_the_page_names_with_its_version_may_be_kept_for_ever(api: Api) -> None:
    parts = re.findall(r"""(?:src|href)="(/static/[^"]+)""", httpx.get(api.url + "/").text)
    assert any(part.endswith("/page.css") for part in parts)
    for part in parts:
        answer = httpx.get(api.url + part)
        assert (answer.status_code, answer.headers["cache-control"]) == (
            200,
            "public, max-age=31536000, immutable",
        )
        assert answer.content == httpx.get(f"{api.url}/static/{part.rpartition('/')[2]}").content
        assert not re.search(rb"""["'(]/static/""", answer.content), "it would name an unversioned one"


@pytest.mark.parametrize("path", ["nope.js", "", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "%00"])
def test_nothing_else_is_served_as_a_part_of_the_page(api: Api, path: str) -> None:
    problem(httpx.get(f"{api.url}/static/{path}"), 404, "not-found")


@pytest.mark.parametrize(
    "path", ["/", "/static/page.js", "/api/v1/bots", "/api/v1/nope", "/api/v1/docs", "/readyz"]
)
def test_every_answer_lets_nothing_foreign_in(api: Api, path: str) -> None:
    headers = httpx.get(api.url + path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_openapi_describes_every_path_and_parameter(api: Api) -> None:
    described = api.ask("/openapi.json").json()["paths"]
    prefix = "/api/v1/bots/{bot}/"
    assert set(described) == {
        "/api/v1/bots",
        "/api/v1/events/{topic}",
        *(prefix + path for path in (*OF_A_BOT, *ROW_OF)),
    }
    named = {
        path: {parameter["name"] for parameter in methods["get"].get("parameters", [])}
        for path, methods in described.items()
        if "get" in methods
    }
    ranged = {"range", "from", "to", "tz", "bot"}
    assert named[prefix + "range"] == ranged
    assert named[prefix + "summary"] == {*ranged, *REQUEST_FILTERS, *TOKEN_FILTERS}
    assert named[prefix + "requests"] == {*ranged, *REQUEST_FILTERS, "limit", "cursor"}
    assert named[prefix + "tokens/timeseries"] == {*ranged, *TOKEN_FILTERS, "interval"}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("range", Answer[KnownBot]),
        ("summary", Answer[Summary]),
        ("requests/timeseries", Answer[Series[RequestBucket]]),
        ("tokens/timeseries", Answer[Series[TokenBucket]]),
        ("uniques/timeseries", Answer[Series[UniqueBucket]]),
        ("requests/top", Answer[list[TopEntry]]),
        ("token-usages/top", Answer[list[TopTokensEntry]]),
        ("requests/values", Answer[list[ValueEntry]]),
        ("requests", Answer[Rows[RequestRow]]),
        ("token-usages", Answer[Rows[TokenRow]]),
        ("requests/row", Answer[RequestDetails]),
        ("token-usages/row", Answer[TokenDetails]),
    ],
)
def test_answers_look_as_openapi_says(api: Api, path: str, model: type[BaseModel]) -> None:
    given = ROW_OF.get(path, WHOLE)
    assert model.model_validate_json(ask(api, path, **given).content)
    described = api.ask("/openapi.json").json()["paths"][f"/api/v1/bots/{{bot}}/{path}"]["get"]["responses"]
    reference = described["200"]["content"]["application/json"]["schema"]["$ref"]
    assert reference.rpartition("/")[2] == model.__name__.translate(str.maketrans("[]", "__"))
    assert Answer[Rows[BotRow]].model_validate_json(api.ask("/bots").content)
    assert Published.model_validate_json(post(api, b"[]").content)


def test_documentation_loads_nothing_from_elsewhere(api: Api) -> None:
    page = api.ask("/docs")
    assert "/api/v1/openapi.json" in page.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
    assert not re.search(r"<script>|<style|\son\w+=|style=", page.text), (
        "nothing inline, which the policy forbids"
    )
    assert "unsafe" not in page.headers["content-security-policy"]
    parts = re.findall(r"""(?:src|href)="(/api/v1/docs/[^"]+)""", page.text)
    assert len(parts) == 3
    for part in parts:
        answer = httpx.get(api.url + part)
        assert answer.status_code == 200
        again = httpx.get(api.url + part, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    problem(api.ask("/docs/nope.js"), 404, "not-found")
