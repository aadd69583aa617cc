"""Every rule of an event, broken once; and what must be accepted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode import MalformedEvent, cut, decode, required_fields, rfc_3339_ms
from schemas.dead_letter import Reason
from schemas.topics import Topic

NOW = 1_700_000_000_000
REQUEST = {"event_id": "e1", "bot_id": "b1", "event_time": NOW, "endpoint": "api"}
USAGE = {
    "event_id": "e1",
    "bot_id": "b1",
    "event_time": NOW,
    "source": "chat",
    "input_tokens": 1,
    "output_tokens": 2,
}
FEEDBACK = {"event_id": "e1", "bot_id": "b1", "event_time": NOW, "rating": "positive"}


def refusal(
    topic: Topic, value: bytes | dict[str, object] | None, record_ms: int = NOW
) -> tuple[Reason, str]:
    raw = json.dumps(value).encode() if isinstance(value, dict) else value
    with pytest.raises(MalformedEvent) as caught:
        decode(topic, raw, record_ms)
    return caught.value.reason, caught.value.field


REFUSED: list[tuple[str, Topic, bytes | dict[str, object] | None, Reason, str]] = [
    ("tombstone", Topic.BOT_REQUESTS, None, Reason.EMPTY, ""),
    ("empty", Topic.BOT_REQUESTS, b"", Reason.EMPTY, ""),
    ("blank", Topic.BOT_REQUESTS, b" \n", Reason.INVALID_JSON, ""),
    ("cut off", Topic.BOT_REQUESTS, b'{"event_id":', Reason.INVALID_JSON, ""),
    ("trailing", Topic.BOT_REQUESTS, json.dumps(REQUEST).encode() + b"x", Reason.INVALID_JSON, ""),
    ("NaN", Topic.BOT_REQUESTS, b'{"event_id":"e","x":NaN}', Reason.INVALID_JSON, ""),
    ("not UTF-8", Topic.BOT_REQUESTS, b'{"event_id":"\xff"}', Reason.INVALID_JSON, ""),
    (
        "not UTF-8 in an unknown field",
        Topic.BOT_REQUESTS,
        json.dumps(REQUEST).encode()[:-1] + b',"x":"\xff"}',
        Reason.INVALID_JSON,
        "",
    ),
    (
        "half a surrogate pair",
        Topic.BOT_REQUESTS,
        b'{"event_id":"\\ud800","bot_id":"b","event_time":1,"endpoint":"x"}',
        Reason.INVALID_JSON,
        "",
    ),
    ("array", Topic.BOT_REQUESTS, b"[]", Reason.NOT_AN_OBJECT, ""),
    ("null", Topic.BOT_REQUESTS, b"null", Reason.NOT_AN_OBJECT, ""),
    ("string", Topic.BOT_REQUESTS, b'"x"', Reason.NOT_AN_OBJECT, ""),
    ("too large", Topic.BOT_REQUESTS, REQUEST | {"x": "y" * 1_000_000}, Reason.TOO_LARGE, ""),
    (
        "too deep",
        Topic.BOT_REQUESTS,
        json.dumps(REQUEST).encode()[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        Reason.TOO_DEEP,
        "",
    ),
    (
        "duplicate key",
        Topic.BOT_REQUESTS,
        json.dumps(REQUEST).encode()[:-1] + b',"endpoint":"api"}',
        Reason.DUPLICATE_KEY,
        "",
    ),
    (
        "duplicate unknown key",
        Topic.BOT_REQUESTS,
        json.dumps(REQUEST).encode()[:-1] + b',"x":1,"x" : 1}',
        Reason.DUPLICATE_KEY,
        "",
    ),
    (
        "duplicate key behind an escape",
        Topic.BOT_REQUESTS,
        json.dumps(REQUEST).encode()[:-1] + b',"e\\u006edpoint":"api"}',
        Reason.DUPLICATE_KEY,
        "",
    ),
    (
        "duplicate key inside",
        Topic.BOT_REQUESTS,
        json.dumps(REQUEST).encode()[:-1] + b',"x":{"a":1,"a":2}}',
        Reason.DUPLICATE_KEY,
        "",
    ),
    ("rating", Topic.BOT_FEEDBACK, FEEDBACK | {"rating": "great"}, Reason.INVALID_VALUE, "rating"),
    ("slash", Topic.BOT_REQUESTS, REQUEST | {"bot_id": "a/b"}, Reason.INVALID_VALUE, "bot_id"),
    ("control", Topic.BOT_REQUESTS, REQUEST | {"bot_id": "a\x00"}, Reason.INVALID_VALUE, "bot_id"),
    ("C1 control", Topic.BOT_REQUESTS, REQUEST | {"bot_id": "a\x85"}, Reason.INVALID_VALUE, "bot_id"),
    ("dot", Topic.BOT_REQUESTS, REQUEST | {"bot_id": "."}, Reason.INVALID_VALUE, "bot_id"),
    ("dots", Topic.BOT_REQUESTS, REQUEST | {"bot_id": ".."}, Reason.INVALID_VALUE, "bot_id"),
    ("negative", Topic.TOKEN_USAGES, USAGE | {"input_tokens": -1}, Reason.OUT_OF_RANGE, "input_tokens"),
    ("2^53", Topic.TOKEN_USAGES, USAGE | {"output_tokens": 2**53}, Reason.OUT_OF_RANGE, "output_tokens"),
    (
        "huge",
        Topic.TOKEN_USAGES,
        USAGE | {"cached_input_tokens": 10**40},
        Reason.OUT_OF_RANGE,
        "cached_input_tokens",
    ),
    ("fraction", Topic.TOKEN_USAGES, USAGE | {"input_tokens": 1.5}, Reason.WRONG_TYPE, "input_tokens"),
    ("text for number", Topic.TOKEN_USAGES, USAGE | {"input_tokens": "1"}, Reason.WRONG_TYPE, "input_tokens"),
    (
        "local time",
        Topic.BOT_REQUESTS,
        REQUEST | {"event_time": "2023-11-14T22:13:20"},
        Reason.INVALID_TIME,
        "event_time",
    ),
    ("date", Topic.BOT_REQUESTS, REQUEST | {"event_time": "2023-11-14"}, Reason.INVALID_TIME, "event_time"),
    (
        "no such day",
        Topic.BOT_REQUESTS,
        REQUEST | {"event_time": "2023-02-30T00:00:00Z"},
        Reason.INVALID_TIME,
        "event_time",
    ),
    ("Boolean time", Topic.BOT_REQUESTS, REQUEST | {"event_time": True}, Reason.WRONG_TYPE, "event_time"),
    ("1999", Topic.BOT_REQUESTS, REQUEST | {"event_time": 946_684_799_999}, Reason.TOO_EARLY, "event_time"),
    (
        "5 min and 1 ms ahead",
        Topic.BOT_REQUESTS,
        REQUEST | {"event_time": NOW + 300_001},
        Reason.IN_THE_FUTURE,
        "event_time",
    ),
    *[
        (f"{state} {field}", topic, {**event, field: value}, reason, field)
        for topic, event, fields in [
            (Topic.BOT_REQUESTS, REQUEST, ("event_id", "bot_id", "endpoint")),
            (Topic.TOKEN_USAGES, USAGE, ("event_id", "bot_id", "source")),
            (Topic.BOT_FEEDBACK, FEEDBACK, ("event_id", "bot_id")),
        ]
        for field in fields
        for state, value, reason in [
            ("null", None, Reason.MISSING_FIELD),
            ("empty", "", Reason.INVALID_LENGTH),
            ("129 code points of", "é" * 129, Reason.INVALID_LENGTH),
            ("number for", 7, Reason.WRONG_TYPE),
        ]
    ],
    *[
        (f"{state} {field}", topic, {**event, field: value}, reason, field)
        for topic, event, fields in [
            (Topic.BOT_REQUESTS, REQUEST, ("chat_id", "timezone")),
            (Topic.TOKEN_USAGES, USAGE, ("model", "provider", "chat_id")),
            (Topic.BOT_FEEDBACK, FEEDBACK, ("chat_id", "message_id", "endpoint")),
        ]
        for field in fields
        for state, value, reason in [
            ("129 code points of", "x" * 129, Reason.INVALID_LENGTH),
            ("list for", [], Reason.WRONG_TYPE),
        ]
    ],
    *[
        (
            f"absent {field}",
            topic,
            {key: value for key, value in event.items() if key != field},
            Reason.MISSING_FIELD,
            field,
        )
        for topic, event in [
            (Topic.BOT_REQUESTS, REQUEST),
            (Topic.TOKEN_USAGES, USAGE),
            (Topic.BOT_FEEDBACK, FEEDBACK),
        ]
        for field in event
    ],
    *[
        (f"object for {field}", Topic.BOT_REQUESTS, REQUEST | {field: {}}, Reason.WRONG_TYPE, field)
        for field in ("ip", "user_agent", "page_url")
    ],
]


@pytest.mark.parametrize(
    ("topic", "value", "reason", "field"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_broken_rule_is_refused_with_its_reason(
    topic: Topic, value: bytes | dict[str, object] | None, reason: Reason, field: str
) -> None:
    assert refusal(topic, value) == (reason, field)


@pytest.mark.parametrize(
    ("topic", "event"),
    [(Topic.BOT_REQUESTS, REQUEST), (Topic.TOKEN_USAGES, USAGE), (Topic.BOT_FEEDBACK, FEEDBACK)],
)
def test_required_fields_are_those_without_which_an_event_is_refused(
    topic: Topic, event: dict[str, object]
) -> None:
    assert set(required_fields(topic)) == set(event)
    for name in event:
        without = {key: value for key, value in event.items() if key != name}
        assert refusal(topic, without) == (Reason.MISSING_FIELD, name)


def test_every_reason_has_a_case() -> None:
    assert {case[3] for case in REFUSED} == set(Reason)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"chat_id": None, "ip": None, "user_agent": None, "page_url": None, "timezone": None},
        {"unknown": {"nested": [1, {"a": 1}, {"a": 2}]}},
        {"ip": "not an address"},
        {"endpoint": "é" * 128},
        {"bot_id": "😀 bot.name"},
        {"event_time": NOW + 300_000},
        {"event_time": 946_684_800_000},
        {"user_agent": 'say "hi"\\'},
    ],
)
def test_what_the_contract_allows_is_accepted(extra: dict[str, object]) -> None:
    event, _ = decode(Topic.BOT_REQUESTS, json.dumps(REQUEST | extra).encode(), NOW)
    assert event.event_id == "e1"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" * 5000, b"0." + b"1" * 5000])
def test_a_number_that_no_double_holds_in_an_unknown_field_disturbs_nobody(number: bytes) -> None:
    raw = json.dumps(REQUEST).encode()[:-1] + b',"x":' + number + b"}"
    assert decode(Topic.BOT_REQUESTS, raw, NOW)[0].event_id == "e1"
    assert refusal(Topic.BOT_REQUESTS, raw[:-1] + b',"x":1}')[0] is Reason.DUPLICATE_KEY


def test_the_same_value_decides_by_its_records_time_not_by_our_clock() -> None:
    future = REQUEST | {"event_time": NOW + 400_000}
    assert refusal(Topic.BOT_REQUESTS, future)[0] is Reason.IN_THE_FUTURE
    assert decode(Topic.BOT_REQUESTS, json.dumps(future).encode(), NOW + 100_000)[1] == NOW + 400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14t22:13:20.9999999z", NOW + 999),
        ("2023-11-14 23:13:20.5+01:00", NOW + 500),
        ("2023-11-15T03:58:20.12345+05:45", NOW + 123),
        ("2023-11-14T22:13:20-00:00", NOW),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
    ],
)
def test_rfc_3339_is_read_to_the_millisecond_and_cut_below(text: str, ms: int) -> None:
    assert rfc_3339_ms(text) == ms


@given(
    moment=st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),  # noqa: DTZ001
    offset=st.integers(-23 * 60, 23 * 60),
)
def test_rfc_3339_agrees_with_the_standard_library(moment: datetime, offset: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    if expected < 0:
        expected = (
            (aware.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        ) + (aware.microsecond // 1000)
    assert rfc_3339_ms(aware.isoformat()) == expected


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(value: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(Topic.BOT_REQUESTS, value, NOW)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_unknown_field_crashes_or_disturbs(value: object) -> None:
    raw = json.dumps(REQUEST | {"unknown": value})
    if "NaN" in raw or "Infinity" in raw:
        return
    try:
        assert decode(Topic.BOT_REQUESTS, raw.encode(), NOW)[0].bot_id == "b1"
    except MalformedEvent as error:
        assert error.reason is Reason.INVALID_JSON  # half a surrogate pair  # noqa: PT017


@given(st.text(), st.integers(0, 40))
def test_cutting_never_splits_a_code_point_nor_exceeds_the_limit(text: str, limit: int) -> None:
    kept = cut(text, limit)
    assert text.startswith(kept)
    assert len(kept.encode()) <= limit
    assert len(text.encode()) <= limit or len(kept.encode()) > limit - 4


FIELDS = st.sampled_from(["event_id", "bot_id", "endpoint", "chat_id", "ip", "x", 'q"uote', "é", ""])
VALUES = st.sampled_from(["null", "1", '"a"', '"\\""', '"{["', "[]", '{"a":1}', "1.5e3", '"é"', "true"])


@given(
    st.lists(st.tuples(FIELDS, VALUES), max_size=4),
    st.sampled_from([",", ", ", " ,\n"]),
    st.sampled_from([":", " : "]),
)
def test_a_duplicate_key_is_found_wherever_it_is_and_nowhere_else(
    extra: list[tuple[str, str]], comma: str, colon: str
) -> None:
    pairs = [(key, json.dumps(value)) for key, value in REQUEST.items()] + extra
    raw = "{" + comma.join(json.dumps(key) + colon + value for key, value in pairs) + "}"
    keys = [key for key, _ in pairs]
    try:
        decode(Topic.BOT_REQUESTS, raw.encode(), NOW)
        found = None
    except MalformedEvent as error:
        found = error.reason
    if len(set(keys)) < len(keys):
        assert found in (Reason.DUPLICATE_KEY, Reason.WRONG_TYPE, Reason.MISSING_FIELD)
    else:
        assert found in (None, Reason.WRONG_TYPE)
