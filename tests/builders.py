"""Builders: events, records, batches and rows of which a test names only what matters to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.batches import Batch, Record
from schemas.topics import Topic

NOW_MS = int(datetime(2026, 1, 5, 12, 7, tzinfo=UTC).timestamp()) * 1000
"""A moment well inside an interval."""
EPOCH = "00000000-0000-4000-8000-000000000001"

_REQUIRED: Mapping[Topic, Mapping[str, Any]] = {
    Topic.BOT_REQUESTS: {"endpoint": "api"},
    Topic.TOKEN_USAGES: {"source": "chat", "input_tokens": 1, "output_tokens": 1},
    Topic.BOT_FEEDBACK: {"rating": "positive"},
}
# Encoding keeps the order of keys, so equal events are equal bytes.
_encode = msgspec.json.encode


def event(topic: Topic = Topic.BOT_REQUESTS, **fields: Any) -> bytes:
    """The bytes of a valid event."""
    shared = {"event_id": "e", "bot_id": "bot", "event_time": NOW_MS}
    return _encode({**shared, **_REQUIRED[topic], **fields})


@dataclass(kw_only=True)
class FakeRecord:
    """What Kafka delivers, as far as it is used."""

    offset: int
    value: bytes | None
    timestamp: int = NOW_MS
    key: bytes | None = None


class FakeAssignment:
    """Whether batches are current, and what they acknowledged."""

    def __init__(self) -> None:
        self.is_current = True
        self.acknowledged: list[dict[int, int]] = []

    def batch(self, partitions: Mapping[int, Sequence[Record]], *, topic: str = "bot_requests") -> Batch:
        """A batch that belongs to this assignment."""

        def acknowledge() -> None:
            if self.is_current:
                self.acknowledged.append({p: records[-1].offset + 1 for p, records in partitions.items()})

        return Batch(
            topic=topic,
            partitions=partitions,
            is_current=lambda: self.is_current,
            acknowledge=acknowledge,
        )


def records(values: Iterable[bytes | None], *, first_offset: int = 0) -> list[FakeRecord]:
    """Records with these values at successive offsets, each appended a millisecond after the one before."""
    return [
        FakeRecord(offset=offset, value=value, timestamp=NOW_MS + offset)
        for offset, value in enumerate(values, first_offset)
    ]


def row(
    columns: Sequence[str], default: Callable[[str], Any] = lambda _: "", **values: Any
) -> tuple[Any, ...]:
    """A row of a table with these columns, by name."""
    shared = {
        "bot_id": "bot",
        "event_ms": NOW_MS,
        "event_id": "e",
        "source_topic": "bot_requests",
        "source_epoch": EPOCH,
        "source_partition": 0,
        "source_offset": 0,
        "record_ms": NOW_MS,
        "geo_build_seconds": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "cached_input_tokens": None,
        "reasoning_output_tokens": None,
        "rating": "positive",
    }
    given = {**shared, **values}
    return tuple(given.get(name, default(name)) for name in columns)
