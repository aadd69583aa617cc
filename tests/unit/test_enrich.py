"""Rows: what of an event is stored, under which column."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pipeline.decode import decode
from pipeline.enrich import BUILD_ROW
from pipeline.geography import Geography
from pipeline.metrics import INVALID_ADDRESSES
from schemas import bot_feedback, bot_request, token_usage
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, event

COLUMNS = {
    Topic.BOT_REQUESTS: bot_request.COLUMNS,
    Topic.TOKEN_USAGES: token_usage.COLUMNS,
    Topic.BOT_FEEDBACK: bot_feedback.COLUMNS,
}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


class FakeGeography:
    """Knows one address."""

    build_seconds = 1_700_000_000

    def lookup(self, ip: str) -> tuple[str, str, str]:
        assert ip, "an absent address is not looked up"
        return ("NP", "Bagmati", "Kathmandu") if ip == "192.0.2.1" else ("", "", "")


def row(topic: Topic = Topic.BOT_REQUESTS, **fields: Any) -> dict[str, Any]:
    """The row of an event with these fields, by column."""
    decoded, event_ms = decode(topic, event(topic, **fields), NOW_MS)
    values = BUILD_ROW[topic](
        (decoded, event_ms, 3, 70, NOW_MS + 9), f"p.{topic}", EPOCH, cast(Geography, FakeGeography())
    )
    return dict(zip(COLUMNS[topic], values, strict=True))


SOURCE = {"source_epoch": EPOCH, "source_partition": 3, "source_offset": 70, "record_ms": NOW_MS + 9}


def test_a_request_fills_every_column_in_the_order_of_its_table() -> None:
    assert row(
        event_id="e1",
        bot_id="b1",
        event_time="2026-01-05T13:07:00.250+01:00",
        endpoint="widget",
        chat_id="c1",
        ip="::ffff:192.0.2.1",
        user_agent=FIREFOX,
        page_url="https://example.org/",
        timezone="Asia/Kathmandu",
    ) == {
        "bot_id": "b1",
        "event_ms": NOW_MS + 250,
        "event_id": "e1",
        "endpoint": "widget",
        "chat_id": "c1",
        "ip": "192.0.2.1",
        "country": "NP",
        "region": "Bagmati",
        "city": "Kathmandu",
        "browser": "Firefox",
        "client_class": "person",
        "timezone": "Asia/Kathmandu",
        "page_url": "https://example.org/",
        "user_agent": FIREFOX,
        "geo_build_seconds": 1_700_000_000,
        "source_topic": "p.bot_requests",
        **SOURCE,
    }


def test_a_usage_fills_every_column_in_the_order_of_its_table() -> None:
    assert row(
        Topic.TOKEN_USAGES,
        source="responses",
        input_tokens=2**53 - 1,
        output_tokens=0,
        model="m",
        provider="p",
        chat_id="c",
        cached_input_tokens=5,
        reasoning_output_tokens=0,
    ) == {
        "bot_id": "bot",
        "event_ms": NOW_MS,
        "event_id": "e",
        "source": "responses",
        "input_tokens": 2**53 - 1,
        "output_tokens": 0,
        "model": "m",
        "provider": "p",
        "chat_id": "c",
        "cached_input_tokens": 5,
        "reasoning_output_tokens": 0,
        "source_topic": "p.token_usages",
        **SOURCE,
    }


def test_a_vote_fills_every_column_in_the_order_of_its_table() -> None:
    assert row(Topic.BOT_FEEDBACK, rating="none", chat_id="c", message_id="m", endpoint="api") == {
        "bot_id": "bot",
        "event_ms": NOW_MS,
        "event_id": "e",
        "rating": "none",
        "chat_id": "c",
        "message_id": "m",
        "endpoint": "api",
        "source_topic": "p.bot_feedback",
        **SOURCE,
    }


@pytest.mark.parametrize("absent", [{}, {"all": None}, {"all": ""}], ids=["absent", "null", "empty"])
@pytest.mark.parametrize(
    ("topic", "optional"),
    [
        (Topic.BOT_REQUESTS, ["chat_id", "ip", "user_agent", "page_url", "timezone"]),
        (Topic.TOKEN_USAGES, ["model", "provider", "chat_id"]),
        (Topic.BOT_FEEDBACK, ["chat_id", "message_id", "endpoint"]),
    ],
)
def test_absent_null_and_empty_are_stored_alike(
    topic: Topic, optional: list[str], absent: dict[str, Any]
) -> None:
    stored = row(topic, **dict.fromkeys(optional if absent else [], absent.get("all")))
    assert {name: stored[name] for name in optional} == dict.fromkeys(optional, "")


def test_unknown_places_and_browsers_are_empty() -> None:
    stored = row(ip="198.51.100.1", user_agent="?")
    assert [stored[name] for name in ("ip", "country", "region", "city", "browser")] == [
        "198.51.100.1",
        "",
        "",
        "",
        "",
    ]


@pytest.mark.parametrize("ip", ["localhost", "192.0.2.1:443", " 192.0.2.1", "1" * 5_000])
def test_an_address_that_is_none_becomes_absent_and_is_counted(ip: str) -> None:
    before = INVALID_ADDRESSES._value.get()
    assert row(ip=ip)["ip"] == ""
    assert INVALID_ADDRESSES._value.get() == before + 1


@pytest.mark.parametrize("ip", [None, "", "192.0.2.1", "::1"])
def test_absent_and_valid_addresses_are_not_counted_as_invalid(ip: str | None) -> None:
    before = INVALID_ADDRESSES._value.get()
    row(ip=ip)
    assert INVALID_ADDRESSES._value.get() == before


@pytest.mark.parametrize(("field", "limit"), [("user_agent", 1_000), ("page_url", 2_000)])
def test_long_texts_are_cut_at_a_code_point(field: str, limit: int) -> None:
    assert row(Topic.BOT_REQUESTS, **{field: "a" * limit})[field] == "a" * limit
    assert row(Topic.BOT_REQUESTS, **{field: "a" * (limit + 1)})[field] == "a" * limit
    assert row(Topic.BOT_REQUESTS, **{field: "a" + "é" * limit})[field] == "a" + "é" * (limit // 2 - 1)


def test_the_browser_is_that_of_the_user_agent_as_stored() -> None:
    assert row(user_agent=" " * 1_000 + FIREFOX)["browser"] == ""
