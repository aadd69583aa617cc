"""Why an event is refused, and what is kept of it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec


class Reason(StrEnum):
    """The closed set of reasons. Each has a counter and a test; none is ever reused for something else."""

    EMPTY = "empty"
    """The record has no value (a tombstone included)."""
    TOO_LARGE = "too_large"
    """The value is over 1 MB."""
    INVALID_JSON = "invalid_json"
    """Not JSON, or not UTF-8; NaN and Infinity are not JSON."""
    TOO_DEEP = "too_deep"
    """Nested deeper than any event needs."""
    DUPLICATE_KEY = "duplicate_key"
    """An object names a key twice."""
    NOT_AN_OBJECT = "not_an_object"
    """JSON, but no object at the top."""
    MISSING_FIELD = "missing_field"
    """A required field is absent or null."""
    WRONG_TYPE = "wrong_type"
    """A known field holds another JSON type than it should."""
    INVALID_LENGTH = "invalid_length"
    """A string is shorter or longer than its limits."""
    INVALID_VALUE = "invalid_value"
    """A value outside a field's closed set, or characters that the field does not allow."""
    OUT_OF_RANGE = "out_of_range"
    """An integer below 0 or over 2^53 - 1."""
    INVALID_TIME = "invalid_time"
    """`event_time` is neither RFC 3339 with offset nor milliseconds since the epoch."""
    TOO_EARLY = "too_early"
    """`event_time` before 2000-01-01."""
    IN_THE_FUTURE = "in_the_future"
    """`event_time` more than 5 minutes ahead of the record's own timestamp."""


class Address(NamedTuple):
    """Where a refused event came from, which no two of them share."""

    topic: str
    """The origin topic, prefix included."""
    epoch: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A refused event: where it came from, why, and its bytes as far as they fit."""

    topic: str
    """The origin topic, prefix included."""
    epoch: str
    partition: int
    offset: int
    record_ms: int
    reason: Reason
    field: str
    """The field at fault, empty where the whole value is."""
    key: bytes | None
    """The original key, cut to `MAX_KEPT_KEY_BYTES`."""
    value: bytes
    """The original bytes, cut to `MAX_KEPT_BYTES`."""
    value_bytes: int
    """Length of the original."""
    value_sha256: str
    """Lower-case hexadecimal hash of the original."""


MAX_KEPT_BYTES = 900_000
MAX_KEPT_KEY_BYTES = 50_000
"""Together with the headers these fit a producer's default limit of 1,000,000 bytes."""
