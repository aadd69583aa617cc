"""What `footfall dead-letters` asks of the store. Every function raises `StoreError`."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clickhouse.client import Store, sql
from schemas.dead_letter import Address
from schemas.topics import Topic

AT_ONCE: Final = 100
"""As many dead letters, or events, are named by one statement."""
PAGE: Final = 10_000

EventKey = tuple[str, int, str]
"""Bot, event time in milliseconds since the epoch, event id."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which dead letters are meant: those that match everything that is given. An empty list matches all."""

    topics: Sequence[str]
    """Origin topics, prefix included; here an empty list matches none."""
    reasons: Sequence[str] = ()
    partitions: Sequence[int] = ()
    bots: Sequence[str] = ()
    """Named by the bytes; no bot is known of what is no JSON, or cut."""
    since_ms: int | None = None
    """By the records' own time; half-open."""
    until_ms: int | None = None
    addresses: Sequence[Address] = ()
    """At most `AT_ONCE`."""

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        return {
            "topics": list(self.topics),
            "reasons": list(self.reasons),
            "partitions": list(self.partitions),
            "bots": list(self.bots),
            "addresses": [tuple(address) for address in self.addresses],
            "since_ms": -_EVER_MS if self.since_ms is None else self.since_ms,
            "until_ms": _EVER_MS if self.until_ms is None else self.until_ms,
        }


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter without its bytes."""

    address: Address
    record_ms: int
    reason: str
    field: str
    value_bytes: int
    """Length of the original."""
    value_sha256: str
    """Of the original, lower-case hexadecimal."""
    alike: int
    """How many dead letters it stands for: those selected that have the same bytes, where others are left out."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is kept of the record itself."""

    key: bytes | None
    value: bytes
    bot: str
    """Empty where it is not known."""
    ingested_ms: int


_EVER_MS: Final = 1 << 62


async def count(store: Store, selection: Selection) -> dict[str, int]:
    """How many there are, by reason, most first."""
    return dict(await store.rows(sql("dead_letters_by_reason"), selection.parameters()))


async def find(
    store: Store, selection: Selection, *, limit: int | None = None, only_different: bool = False
) -> AsyncIterator[list[Letter]]:
    """Pages of dead letters, newest first; with `only_different` one of those with the same bytes on the same topic.

    What is newer than the first of them is not among them, so what comes in meanwhile is not.
    """
    before: tuple[Any, ...] = (_EVER_MS, "", _NIL, 0, 0)
    parameters = selection.parameters()
    query = sql("dead_letters_different" if only_different else "dead_letters")
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        rows = await store.rows(query, {**parameters, "before": before, "limit": size})
        if rows:
            yield [_letter(row) for row in rows]
        if len(rows) < size:
            return
        if before[0] == _EVER_MS:
            parameters["until_ms"] = rows[0][4] + 1
        last = rows[-1]
        before = (last[4], *last[:4])
        limit = None if limit is None else limit - size


async def contents(store: Store, addresses: Sequence[Address]) -> dict[Address, Contents]:
    """Key and bytes of at most `AT_ONCE` dead letters."""
    rows = await store.rows(sql("dead_letter_contents"), {"addresses": [tuple(one) for one in addresses]})
    return {
        Address(*address): Contents(
            key=None if key is None else b64decode(key), value=b64decode(value), bot=bot, ingested_ms=ms
        )
        for *address, key, value, bot, ms in rows
    }


async def stored(store: Store, topic: Topic, events: Sequence[EventKey]) -> set[EventKey]:
    """Which of at most `AT_ONCE` events have a row."""
    return set(await store.rows(sql("stored_events"), {"raw": topic.value, "events": list(events)}))


_NIL: Final = "00000000-0000-0000-0000-000000000000"


def _letter(row: tuple[Any, ...]) -> Letter:
    *address, record_ms, reason, field, value_bytes, value_sha256, alike = row
    return Letter(
        address=Address(*address),
        record_ms=record_ms,
        reason=reason,
        field=field,
        value_bytes=value_bytes,
        value_sha256=value_sha256,
        alike=alike,
    )
