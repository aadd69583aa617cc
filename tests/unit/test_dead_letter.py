"""Dead letters: what is kept of an event that was refused, for every reason there is."""

from __future__ import annotations

import hashlib

import pytest

from pipeline.dead_letter import dead_letter, headers
from pipeline.decode import MalformedEvent, decode
from schemas.dead_letter import MAX_KEPT_BYTES, DeadLetter, Reason
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, FakeRecord, event

MALFORMED: dict[Reason, bytes | None] = {
    Reason.EMPTY: None,
    Reason.TOO_LARGE: b" " * 1_000_001,
    Reason.INVALID_JSON: b'{"event_id": \xff}',
    Reason.TOO_DEEP: event()[:-1] + b',"x":' + b"[" * 99 + b"]" * 99 + b"}",
    Reason.DUPLICATE_KEY: event()[:-1] + b',"bot_id":"other"}',
    Reason.NOT_AN_OBJECT: b"[]",
    Reason.MISSING_FIELD: b"{}",
    Reason.WRONG_TYPE: event(bot_id=1),
    Reason.INVALID_LENGTH: event(bot_id=""),
    Reason.INVALID_VALUE: event(bot_id="a/b"),
    Reason.OUT_OF_RANGE: event(Topic.TOKEN_USAGES, input_tokens=-1),
    Reason.INVALID_TIME: event(event_time="yesterday"),
    Reason.TOO_EARLY: event(event_time="1999-12-31T23:59:59.999Z"),
    Reason.IN_THE_FUTURE: event(event_time=NOW_MS + 5 * 60_000 + 1),
}


def refused(value: bytes | None, *, key: bytes | None = b"k") -> DeadLetter:
    record = FakeRecord(offset=70, value=value, key=key)
    topic = Topic.TOKEN_USAGES if value and b"input_tokens" in value else Topic.BOT_REQUESTS
    with pytest.raises(MalformedEvent) as refusal:
        decode(topic, value, record.timestamp)
    return dead_letter(record, refusal.value, topic=f"p.{topic}", epoch=EPOCH, partition=3)


def test_every_reason_has_its_example() -> None:
    assert set(MALFORMED) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_dead_letter_says_why_and_keeps_the_original(reason: Reason) -> None:
    value = MALFORMED[reason] or b""
    letter = refused(MALFORMED[reason])
    assert letter.reason is reason
    assert (letter.epoch, letter.partition, letter.offset, letter.record_ms) == (EPOCH, 3, 70, NOW_MS)
    assert letter.key == b"k"
    assert letter.value == value[:MAX_KEPT_BYTES]
    assert (letter.value_bytes, letter.value_sha256) == (len(value), hashlib.sha256(value).hexdigest())


def test_a_value_too_large_for_the_topic_is_cut_and_says_so() -> None:
    letter = refused(b"{" * 3_000_000)
    assert (len(letter.value), letter.value_bytes) == (MAX_KEPT_BYTES, 3_000_000)


def test_headers_say_where_it_came_from_and_why() -> None:
    assert dict(headers(refused(event(bot_id="a/b")))) == {
        "footfall-reason": b"invalid_value",
        "footfall-field": b"bot_id",
        "footfall-topic": b"p.bot_requests",
        "footfall-epoch": EPOCH.encode(),
        "footfall-partition": b"3",
        "footfall-offset": b"70",
        "footfall-record-time": str(NOW_MS).encode(),
        "footfall-value-bytes": str(len(event(bot_id="a/b"))).encode(),
        "footfall-value-sha256": hashlib.sha256(event(bot_id="a/b")).hexdigest().encode(),
    }


def test_headers_fit_whatever_the_field_was_called() -> None:
    letter = refused(event(bot_id=1))
    assert sum(len(name) + len(value) for name, value in headers(letter)) < 1_000


def test_a_dead_letter_fits_its_topic_whatever_the_size_of_key_and_value() -> None:
    record = FakeRecord(offset=1, timestamp=NOW_MS, key=b"k" * 150_000, value=b"v" * 880_000)
    letter = dead_letter(
        record, MalformedEvent(Reason.INVALID_JSON), topic="bot_requests", epoch=EPOCH, partition=0
    )
    size = len(letter.key or b"") + len(letter.value) + sum(len(n) + len(v) for n, v in headers(letter))
    assert size < 990_000
    assert letter.value_bytes == 880_000
