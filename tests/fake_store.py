"""A store in memory: what ClickHouse makes of the worker's writes, and failures where a test wants them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from clickhouse.client import StoreError, sql
from schemas.topics import Topic

Row = Mapping[str, Any]


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Fault:
    """What goes wrong with one write: nothing is done, or it is done and the reply is lost."""

    error: BaseException = field(default_factory=lambda: StoreError("the store is away"))
    is_applied: bool = False


class FakeStore:
    """Stands in for `clickhouse.client.Store` towards the pipeline, which asks a few questions only.

    Raw rows are never merged, which a real store may do at any time and need not.
    """

    def __init__(self) -> None:
        self.writes: list[tuple[str, Sequence[Row]]] = []
        """(table, rows) of every insert that was asked for, refused and repeated ones included."""
        self.faults: dict[int, Fault] = {}
        """Faults by the number of the write, which begins at 0."""
        self.queries_failing: int = 0
        """How many questions fail from now on."""
        self._tokens: set[tuple[str, str]] = set()
        self.tables: dict[str, list[Row]] = {}

    async def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, origin: str
    ) -> None:
        block = msgspec.json.encode(rows)
        # Numbers that are no UInt64 are refused for ever.
        assert "cells" not in table or all(row[columns.index("snapshot")][0] >= 0 for row in rows)
        decoded = [dict(zip(columns, row, strict=True)) for row in msgspec.json.decode(block)]
        fault = self.faults.get(len(self.writes))
        self.writes.append((table, decoded))
        if fault is None or fault.is_applied:
            token = table, f"{origin}:{blake2b(block).hexdigest()}"
            if token not in self._tokens:
                self._tokens.add(token)
                self.tables.setdefault(table, []).extend(decoded)
        if fault is not None:
            raise fault.error

    async def rows(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> list[tuple[Any, ...]]:
        if self.queries_failing:
            self.queries_failing -= 1
            raise StoreError("the store is away")
        given = parameters or {}
        if query == sql("ledger_positions"):
            return list(self.positions(given["topic"], given["epoch"], given["partitions"]).items())
        for topic in (Topic.BOT_REQUESTS, Topic.TOKEN_USAGES):
            if query == sql("identities_of_other_epochs") and given["raw"] == topic:
                return [
                    (row["source_partition"], row["bot_id"], row["event_id"], row["event_ms"])
                    for row in reversed(self.tables.get(f"footfall.{topic}", []))
                    if row["source_epoch"] != given["epoch"]
                    and row["source_partition"] in given["partitions"]
                    and row["source_offset"] < self._reached(row)
                    and row["event_ms"] >= given["first_open_ms"]
                ]
            if query == sql(f"open_cells_{topic}"):
                return [
                    (partition, bot, start, None, *snapshot)
                    for (bot, start, partition), (snapshot, _) in self.cells(topic).items()
                    if start >= given["first_open_ms"] and partition in given["partitions"]
                ]
            if query == sql("recent_identities") and given["raw"] == topic:
                found = {
                    (row["source_offset"], row["bot_id"], row["event_id"], row["event_ms"])
                    for row in self.tables.get(f"footfall.{topic}", [])
                    if row["source_partition"] == given["partition"]
                    and given["from_offset"] <= row["source_offset"] < given["before_offset"]
                    and row["event_ms"] >= given["first_open_ms"]
                }
                return [(bot, event_id, ms, offset) for offset, bot, event_id, ms in sorted(found)]
        raise AssertionError(f"no answer to: {query}")

    def _reached(self, row: Row) -> int:
        """Where the ledger of a raw row's partition stands."""
        partition = row["source_partition"]
        return self.positions(row["source_topic"], row["source_epoch"], [partition]).get(partition, 0)

    # --- what readers see

    def positions(self, topic: str, epoch: str, partitions: Sequence[int]) -> dict[int, int]:
        """Where each partition resumes."""
        held: dict[int, int] = {}
        for entry in self.tables.get("footfall.ledger", []):
            if (entry["topic"], entry["epoch"]) == (topic, epoch) and entry["partition"] in partitions:
                held[entry["partition"]] = max(held.get(entry["partition"], 0), entry["next_offset"])
        return held

    def ledger(self) -> list[Row]:
        """Ledger rows, one per flush and partition."""
        keys = ("topic", "epoch", "partition", "next_offset", "position")
        return list(
            {tuple(row[key] for key in keys): row for row in self.tables.get("footfall.ledger", [])}.values()
        )

    def raw(self, topic: Topic) -> dict[tuple[str, int, str], Row]:
        """Deduplicated rows: the earliest copy of each event."""
        earliest: dict[tuple[str, int, str], Row] = {}
        for row in self.tables.get(f"footfall.{topic}", []):
            key = row["bot_id"], row["event_ms"], row["event_id"]
            if key not in earliest or _appended(row) < _appended(earliest[key]):
                earliest[key] = row
        return earliest

    def cells(self, topic: Topic) -> dict[tuple[str, int, int], tuple[Sequence[Any], tuple[set[str], ...]]]:
        """By bot, interval and partition: the newest snapshot, the sets united."""
        cells: dict[tuple[str, int, int], tuple[Sequence[Any], tuple[set[str], ...]]] = {}
        for row in self.tables.get(f"footfall.{topic}_cells", []):
            key = row["bot_id"], row["interval_ms"], row["partition"]
            members = tuple(set(row.get(name, ())) for name in ("ips_in", "chats_in"))
            snapshot, held = cells.get(key, ([-1], (set(), set())))
            cells[key] = (
                max(snapshot, row["snapshot"], key=lambda one: one[0]),
                tuple(one | other for one, other in zip(held, members, strict=True)),
            )
        return cells

    def dead_letters(self) -> dict[tuple[int, int], tuple[str, bytes]]:
        """Reason and bytes by partition and offset."""
        return {
            (row["partition"], row["offset"]): (row["reason"], b64decode(row["value_base64"]))
            for row in self.tables.get("footfall.dead_letters", [])
        }


def _appended(row: Row) -> tuple[int, int, int]:
    return row["record_ms"], row["source_partition"], row["source_offset"]
