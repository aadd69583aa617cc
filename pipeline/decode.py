"""Decode: a record's bytes become an event, or are refused with a reason from a closed set.

Pure. The decision depends on the value and on the record's own timestamp alone, never on our clock, so that
a replay decides alike.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from pipeline.errors import Malformed
from schemas.bot_feedback import BotFeedback
from schemas.bot_request import BotRequest
from schemas.dead_letter import Reason
from schemas.event import MAX_EVENT_MS, MAX_FUTURE_MS, MAX_VALUE_BYTES, MIN_EVENT_MS
from schemas.token_usage import TokenUsage
from schemas.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable

Event = BotRequest | TokenUsage | BotFeedback

MAX_DEPTH = 32
"""Deeper nesting than this is refused; a limit of our own, so that every interpreter decides alike."""


class MalformedEvent(Malformed):
    """This event can never be counted: dead-letter it."""

    def __init__(self, reason: Reason, field: str = "") -> None:
        super().__init__(f"{reason.value}: {field}" if field else reason.value)
        self.reason = reason
        self.field = field


_EVENTS: dict[Topic, type[Event]] = {
    Topic.BOT_REQUESTS: BotRequest,
    Topic.TOKEN_USAGES: TokenUsage,
    Topic.BOT_FEEDBACK: BotFeedback,
}
_decoders: dict[Topic, Callable[[bytes], Event]] = {
    topic: msgspec.json.Decoder(event).decode for topic, event in _EVENTS.items()
}


def required_fields(topic: Topic) -> list[str]:
    """Without any of these an event of the topic is refused."""
    return [field.name for field in msgspec.structs.fields(_EVENTS[topic]) if field.required]


def decode(topic: Topic, value: bytes | None, record_ms: int) -> tuple[Event, int]:
    """The event in `value` and its `event_time` in milliseconds since the epoch, UTC.

    `record_ms` is the record's own timestamp. Raises MalformedEvent.
    """
    if not value:
        raise MalformedEvent(Reason.EMPTY)
    if len(value) > MAX_VALUE_BYTES:
        raise MalformedEvent(Reason.TOO_LARGE)
    try:
        event = _decoders[topic](value)
        if not value.isascii():
            value.decode()  # the decoder does not look into fields that it skips
    except msgspec.ValidationError as error:
        raise _classified(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedEvent(Reason.INVALID_JSON) from None
    except RecursionError:
        raise MalformedEvent(Reason.TOO_DEEP) from None
    if not _is_plain(value, event):
        _refuse_depth_and_duplicates(value)
    if not is_bot_id(event.bot_id):
        raise MalformedEvent(Reason.INVALID_VALUE, "bot_id")
    return event, _event_ms(event.event_time, record_ms)


@lru_cache(maxsize=1 << 16)
def is_bot_id(text: str) -> bool:
    """Whether `text` can stand as one segment of a path: no `/`, no control character, not `.` or `..`."""
    return text not in (".", "..") and not re.search(r"[/\x00-\x1f\x7f-\x9f]", text)


def cut(text: str, limit: int) -> str:
    """`text` cut to at most `limit` bytes of UTF-8, never inside a code point."""
    if len(text) * 4 <= limit:
        return text
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore")


# --- time

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)


def _event_ms(event_time: str | int, record_ms: int) -> int:
    ms = event_time if isinstance(event_time, int) else rfc_3339_ms(event_time)
    if ms < MIN_EVENT_MS:
        raise MalformedEvent(Reason.TOO_EARLY, "event_time")
    if ms > record_ms + MAX_FUTURE_MS or ms > MAX_EVENT_MS:
        raise MalformedEvent(Reason.IN_THE_FUTURE, "event_time")
    return ms


def rfc_3339_ms(text: str) -> int:
    """Milliseconds since the epoch of a date-time by RFC 3339, section 5.6; fractions below 1 ms are cut.

    A leap second counts as the first second of the next minute, as POSIX clocks have it.
    Raises MalformedEvent.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise MalformedEvent(Reason.INVALID_TIME, "event_time")
    year, month, day, hour, minute, second, fraction, _, sign, offset_hours, offset_minutes = match.groups()
    offset = 0
    if sign:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise MalformedEvent(Reason.INVALID_TIME, "event_time")
        offset = (int(offset_hours) * 60 + int(offset_minutes)) * (60 if sign == "+" else -60)
    if int(second) > 60:
        raise MalformedEvent(Reason.INVALID_TIME, "event_time")
    try:
        minute_start = datetime(int(year), int(month), int(day), int(hour), int(minute), tzinfo=UTC)
    except ValueError:
        raise MalformedEvent(Reason.INVALID_TIME, "event_time") from None
    milliseconds = int(f"{fraction or ''}000"[:3])
    return (int(minute_start.timestamp()) + int(second) - offset) * 1000 + milliseconds


# --- what the decoder does not say by itself

_FIELD = re.compile(r"(?:field `|at `\$\.)(\w+)`?")


def _classified(error: msgspec.ValidationError) -> MalformedEvent:
    """The reason behind a decoder's message."""
    message = str(error)
    match = _FIELD.search(message)
    if match is None:
        return MalformedEvent(Reason.NOT_AN_OBJECT)
    field = match[1]
    if "missing required field" in message or "got `null`" in message:
        return MalformedEvent(Reason.MISSING_FIELD, field)
    if "of length" in message:
        return MalformedEvent(Reason.INVALID_LENGTH, field)
    if "Invalid enum value" in message:
        return MalformedEvent(Reason.INVALID_VALUE, field)
    if "` >= " in message or "` <= " in message:
        return MalformedEvent(Reason.OUT_OF_RANGE, field)
    return MalformedEvent(Reason.WRONG_TYPE, field)


def _is_plain(value: bytes, event: Event) -> bool:
    """Whether `value` holds the known fields of `event`, each once, and nothing else.

    Each key and each string takes two quotes; whatever else an object may hold takes more.
    """
    fields = msgspec.structs.astuple(event)
    present = len(fields) - fields.count(None)
    integers = int(event.event_time.__class__ is int)
    if event.__class__ is TokenUsage:
        integers += 4 - (event.cached_input_tokens is None) - (event.reasoning_output_tokens is None)
    return value.count(b'"') == 2 * (present + present - integers)


def _refuse_depth_and_duplicates(value: bytes) -> None:
    """Look into fields that the decoder skips. Raises MalformedEvent."""
    if _depth(value) > MAX_DEPTH:
        raise MalformedEvent(Reason.TOO_DEEP)
    # Numbers stay text: Python refuses to read very long ones.
    json.loads(value, object_pairs_hook=_refuse_duplicates, parse_int=str, parse_float=str)


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _depth(value: bytes) -> int:
    """How deep objects and arrays nest."""
    depth = deepest = 0
    for byte in re.sub(rb"[^{}\[\]]", b"", _STRING.sub(b"", value)):
        depth += 1 if byte in b"{[" else -1
        deepest = max(deepest, depth)
    return deepest


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise MalformedEvent(Reason.DUPLICATE_KEY)
