"""Dead letters: what was refused goes, with its reason, to a topic and to a table."""

from __future__ import annotations

import hashlib

from pipeline.batches import Record
from pipeline.decode import MalformedEvent
from schemas.dead_letter import MAX_KEPT_BYTES, MAX_KEPT_KEY_BYTES, DeadLetter


def dead_letter(
    record: Record, error: MalformedEvent, *, topic: str, epoch: str, partition: int
) -> DeadLetter:
    """The dead letter of a record that `decode` refused."""
    value = record.value or b""
    return DeadLetter(
        topic=topic,
        epoch=epoch,
        partition=partition,
        offset=record.offset,
        record_ms=record.timestamp,
        reason=error.reason,
        field=error.field,
        key=record.key and record.key[:MAX_KEPT_KEY_BYTES],
        value=value[:MAX_KEPT_BYTES],
        value_bytes=len(value),
        value_sha256=hashlib.sha256(value).hexdigest(),
    )


def headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """What the record on the dead-letter topic says beside the original key and bytes."""
    named = {
        "footfall-reason": letter.reason.value,
        "footfall-field": letter.field,
        "footfall-topic": letter.topic,
        "footfall-epoch": letter.epoch,
        "footfall-partition": str(letter.partition),
        "footfall-offset": str(letter.offset),
        "footfall-record-time": str(letter.record_ms),
        "footfall-value-bytes": str(letter.value_bytes),
        "footfall-value-sha256": letter.value_sha256,
    }
    return [(name, value.encode()) for name, value in named.items()]
