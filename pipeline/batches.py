"""Batches: what one delivery of Faust carries, all records of a topic that one poll brought.

Faust costs over a millisecond per delivered event, so the transport delivers one event per poll and topic, whose
value is a `Batch`, instead of one per record.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.decode import Event


class Record(Protocol):
    """What is used of aiokafka's records."""

    offset: int
    timestamp: int
    """The record's own time, milliseconds since the epoch."""
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records of one topic, by partition, in the order of their offsets."""

    topic: str
    """Kafka's name, prefix included."""
    partitions: Mapping[int, Sequence[Record]]
    is_current: Callable[[], bool]
    """Whether this worker still holds the assignment under which it fetched them."""
    acknowledge: Callable[[], None]
    """Let the positions after the last records be committed. Does nothing once the batch is not current."""


Arrival = tuple[Event, int, int, int, int]
"""A valid event, its time in ms, and where it came from: partition, offset, the record's time in ms."""


async def batches(stream: Any) -> AsyncIterator[Batch]:
    """The batches of a Faust stream, each released to Faust when the next is asked for.

    A batch is acknowledged by itself, never by Faust: an exception on the way must not acknowledge anything.
    """
    async for event in stream.noack().events():
        yield event.value
        event.ack()
