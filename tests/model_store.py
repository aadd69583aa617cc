"""A store in memory that follows the rules of our tables, each named by the migration or query that it mirrors.

`tests/faults/test_model_store.py` holds it to the real one. Of what the sealer writes it knows the rollups of requests.
"""

from __future__ import annotations

from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from clickhouse.client import sql
from schemas.topics import Topic

Row = dict[str, Any]
Parameters = Mapping[str, Any]
EventKey = tuple[str, int, str]
"""Bot, event time, event id: the order of the raw tables."""
CellKey = tuple[str, int, str, int]
"""Bot, interval start, epoch, partition: the order of the tables of cells."""
RollupKey = tuple[str, int]
"""Bot, start: the order of the tables of rollups."""

INTERVAL_MS = 900_000
DAY_MS = 86_400_000
DIMENSIONS = ("endpoint", "country", "browser", "client_class")
MAPS = tuple(f"by_{name}" for name in DIMENSIONS)


@dataclass(slots=True, kw_only=True)
class Request:
    """A write asked of the store, which a test may delay, refuse, or do and not answer."""

    what: str
    """The table that is written."""
    asked_us: int
    rows: Sequence[Row]
    apply: Callable[[int], None]
    """Do it; takes the moment at which rows are stamped, in microseconds since the epoch."""


class ModelStore:
    """Stands in for `clickhouse.client.Store`.

    Parts are merged when `merge` says so, which a real store does at any time. An INSERT … SELECT reads at once and
    writes when it is served: what comes between is the longest time that a real one may take.
    """

    def __init__(self, now_us: Callable[[], int] = lambda: 0) -> None:
        self.now_us = now_us
        self.tables: dict[str, list[Row]] = {}
        self.unread: list[tuple[Any, ...]] = []
        """(epoch, partition, position, end) of earlier lives of a topic, as `unread_of_other_epochs` finds them."""
        self.remembers_tokens = True
        """Whether deduplication tokens help; they do for the last 1,000 blocks of a table."""
        self._tokens: set[tuple[str, str]] = set()
        self._copy: tuple[dict[str, list[Row]], set[tuple[str, str]]] | None = None
        self._answers: dict[str, Callable[[Parameters], list[tuple[Any, ...]]]] = {
            sql("ledger_positions"): self._ledger_positions,
            sql("unread_of_other_epochs"): lambda _: self.unread,
            sql("cut_off"): lambda _: [],
            sql("recent_identities"): self._recent_identities,
            sql("identities_of_other_epochs"): self._identities_of_other_epochs,
            sql("open_cells_bot_requests"): lambda given: self._open_cells(Topic.BOT_REQUESTS, given),
            sql("open_cells_token_usages"): lambda given: self._open_cells(Topic.TOKEN_USAGES, given),
            sql("store_now"): lambda _: [(self.now_us(),)],
            sql("last_seal_pass"): self._last_seal_pass,
            sql("progress_of_topic"): lambda _: [(0,)],
            sql("seal_queued"): self._seal_queued,
        }
        self._selects: dict[str, tuple[str, Callable[[Parameters], list[Row]]]] = {
            sql("seal_find"): ("seal_queue", self._seal_find),
            sql("seal_15m_bot_requests"): ("bot_requests_15m", self._seal_15m),
            sql("seal_1d_bot_requests"): ("bot_requests_1d", self._seal_1d),
            sql("seal_complete"): ("seal_passes", self._seal_complete),
        }

    async def serve(self, request: Request) -> None:
        """Write what is to be written. Tests override it to let things go wrong."""
        request.apply(request.asked_us)

    async def ask(self) -> None:
        """Comes before every answer. Tests override it to let things go wrong."""

    # --- what the pipeline calls

    async def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, origin: str
    ) -> None:
        block = msgspec.json.encode(rows)
        decoded = [dict(zip(columns, row, strict=True)) for row in msgspec.json.decode(block)]
        # Numbers that are no UInt64 are refused for ever.
        assert "snapshot" not in columns or all(row["snapshot"][0] >= 0 for row in decoded)
        token = table, f"{origin}:{blake2b(block).hexdigest()}" if self.remembers_tokens else ""

        def apply(stamp_us: int) -> None:
            if token not in self._tokens:
                self.append(table, decoded, stamp_us=stamp_us)
            if self.remembers_tokens:
                self._tokens.add(token)

        await self.serve(Request(what=table, asked_us=self.now_us(), rows=decoded, apply=apply))

    async def rows(
        self, query: str, parameters: Parameters | None = None, settings: Parameters | None = None
    ) -> list[tuple[Any, ...]]:
        await self.ask()
        return self._answers[query](parameters or {})

    async def command(
        self, statement: str, parameters: Parameters | None = None, settings: Parameters | None = None
    ) -> None:
        table, select = self._selects[statement]
        rows = select(parameters or {})
        await self.serve(
            Request(
                what=f"footfall.{table}",
                asked_us=0,
                rows=rows,
                apply=lambda _: self.append(f"footfall.{table}", rows, stamp_us=0),
            )
        )

    # --- tables

    def table(self, name: str) -> list[Row]:
        """Rows of a table as they were inserted, as far as they are not merged."""
        return self.tables.get(f"footfall.{name}", [])

    def append(self, table: str, rows: Iterable[Row], *, stamp_us: int) -> None:
        """Take new rows, with their defaults (migrations 0002 to 0007)."""
        stored = self.tables.setdefault(table, [])
        for row in rows:
            if "record_ms" in row and "bot_id" in row:
                # 0002: the greatest is the earliest copy.
                milliseconds = min(max(row["record_ms"] + 1, 0), 17_592_186_044_415)
                row["version"] = (-milliseconds, -row["source_partition"], -row["source_offset"])
                row["ingested_ms"] = stamp_us // 1000
            elif "next_offset" in row:
                row["written_ms"] = stamp_us // 1000
            stored.append(row)

    def merge(self) -> None:
        """Merge all parts of raw rows, cells and rollups into one each."""
        for topic in (Topic.BOT_REQUESTS, Topic.TOKEN_USAGES):
            self.tables[f"footfall.{topic}"] = list(self.raw(topic).values())
            self.tables[f"footfall.{topic}_cells"] = [
                {
                    **dict(zip(("bot_id", "interval_ms", "epoch", "partition"), key, strict=True)),
                    "snapshot": snapshot,
                    "ips_in": ips,
                    "chats_in": chats,
                }
                for key, (snapshot, (ips, chats)) in self.merged_cells(topic).items()
            ]
        for tier in ("15m", "1d"):
            self.tables[f"footfall.bot_requests_{tier}"] = list(self.rollups(tier).values())

    @property
    def has_copy(self) -> bool:
        """Whether there is an earlier state to go back to."""
        return self._copy is not None

    def keep_copy(self) -> None:
        """Remember the state that it is in."""
        self._copy = {name: [*rows] for name, rows in self.tables.items()}, {*self._tokens}

    def go_back_to_copy(self) -> None:
        """As when a backup is restored; without a copy, an empty one."""
        tables, tokens = self._copy or ({}, set())
        self.tables, self._tokens = {name: [*rows] for name, rows in tables.items()}, {*tokens}

    # --- what holds, of what is there

    def positions(self, topic: str, epoch: str, partitions: Sequence[int]) -> dict[int, int]:
        """Where each partition resumes (queries/ledger_positions.sql)."""
        held: dict[int, int] = {}
        for row in self.table("ledger"):
            if (row["topic"], row["epoch"]) == (topic, epoch) and row["partition"] in partitions:
                held[row["partition"]] = max(held.get(row["partition"], 0), row["next_offset"])
        return held

    def ledger(self) -> list[Row]:
        """Ledger rows, one per flush and partition (0007: the latest of those with one key)."""
        keys = ("topic", "epoch", "partition", "next_offset", "position")
        return list({tuple(row[key] for key in keys): row for row in self.table("ledger")}.values())

    def raw(self, topic: Topic) -> dict[EventKey, Row]:
        """The rows that are events: of each the greatest version, of equal ones the last inserted (0002, FINAL)."""
        events: dict[EventKey, Row] = {}
        for row in self.table(topic):
            key = row["bot_id"], row["event_ms"], row["event_id"]
            held = events.get(key)
            if held is None or row["version"] >= held["version"]:
                events[key] = row
        return events

    def merged_cells(self, topic: Topic) -> dict[CellKey, tuple[list[Any], tuple[set[str], ...]]]:
        """The newest snapshot of each cell, its sets united (0005)."""
        cells: dict[CellKey, tuple[list[Any], tuple[set[str], ...]]] = {}
        for row in self.table(f"{topic}_cells"):
            key = row["bot_id"], row["interval_ms"], row["epoch"], row["partition"]
            members = set(row.get("ips_in", ())), set(row.get("chats_in", ()))
            held = cells.get(key)
            if held is None:
                cells[key] = row["snapshot"], members
            else:
                snapshot = self.newest(held[0], row["snapshot"])
                cells[key] = snapshot, tuple(one | other for one, other in zip(held[1], members, strict=True))
        return cells

    def newest(self, held: list[Any], other: list[Any]) -> list[Any]:
        """Of two snapshots of a cell the one that holds: that of the greatest offset, then of the most counted."""
        return max(held, other, key=lambda snapshot: snapshot[:3])

    def cells(
        self, topic: Topic, epoch: str | None = None
    ) -> dict[tuple[str, int, int], tuple[list[Any], tuple[set[str], ...]]]:
        """Cells of a topic's life, or of the only one, by bot, interval and partition."""
        return {
            (bot, start, partition): ([*numbers, msgspec.json.decode(dimensions), is_closed], members)
            for (bot, start, life, partition), cell in self.merged_cells(topic).items()
            for (*numbers, dimensions, is_closed), members in [cell]
            if epoch in (None, life)
        }

    def rollups(self, tier: str) -> dict[RollupKey, Row]:
        """Of each bot and interval (`15m`) or day (`1d`) the sealed row that holds: the greatest version (0005)."""
        sealed: dict[RollupKey, Row] = {}
        for row in self.table(f"bot_requests_{tier}"):
            key = row["bot_id"], row["start"]
            held = sealed.get(key)
            if held is None or self.supersedes(row, held):
                sealed[key] = row
        return sealed

    def supersedes(self, row: Row, held: Row) -> bool:
        """Whether a rollup that was written later takes the place of another."""
        return bool(row["version"] >= held["version"])

    def dead_letters(self) -> dict[tuple[int, int], tuple[str, bytes]]:
        """Reason and bytes by partition and offset (0007: where it came from is its identity)."""
        return {
            (row["partition"], row["offset"]): (row["reason"], b64decode(row["value_base64"]))
            for row in self.table("dead_letters")
        }

    def visible(self) -> dict[RollupKey, Row]:
        """What readers see of each interval: its sealed row, else the sum of its cells (queries/request_totals.sql)."""
        seen = dict(self.rollups("15m"))
        sums: dict[RollupKey, list[Row]] = defaultdict(list)
        for (bot, start, _, _), (snapshot, (ips, chats)) in self.merged_cells(Topic.BOT_REQUESTS).items():
            if (bot, start) not in seen:
                _, requests, last_request_ms, dimensions, _ = snapshot
                counted = {"requests": requests, "last_request_ms": last_request_ms}
                maps = msgspec.json.decode(dimensions)
                sums[bot, start].append({**counted, **maps, "ips": ips, "chats": chats})
        return seen | {key: added(parts) for key, parts in sums.items()}

    # --- questions

    def _ledger_positions(self, given: Parameters) -> list[tuple[Any, ...]]:
        return list(self.positions(given["topic"], given["epoch"], given["partitions"]).items())

    def _open_cells(self, topic: Topic, given: Parameters) -> list[tuple[Any, ...]]:
        """queries/open_cells_*.sql"""
        found = [
            (partition, bot, start, None, *snapshot)
            for (bot, start, epoch, partition), (snapshot, _) in self.merged_cells(topic).items()
            if start >= given["first_open_ms"]
            and epoch == given["epoch"]
            and partition in given["partitions"]
        ]
        return sorted(found, key=lambda row: row[:3])

    def _recent_identities(self, given: Parameters) -> list[tuple[Any, ...]]:
        """queries/recent_identities.sql"""
        found = [
            (row["source_offset"], row["bot_id"], row["event_id"], row["event_ms"])
            for row in self.table(given["raw"])
            if row["source_partition"] == given["partition"]
            and given["from_offset"] <= row["source_offset"] < given["before_offset"]
            and row["event_ms"] >= given["first_open_ms"]
            and row["ingested_ms"] >= given["since_ms"]
            and row["source_epoch"] == given["epoch"]
            and row["source_topic"] == given["topic"]
        ]
        return [(bot, event_id, ms, offset) for offset, bot, event_id, ms in sorted(found)]

    def _identities_of_other_epochs(self, given: Parameters) -> list[tuple[Any, ...]]:
        """queries/identities_of_other_epochs.sql"""
        position: dict[tuple[str, int], int] = {}
        for row in self.table("ledger"):
            if (
                row["topic"] == given["topic"]
                and row["epoch"] != given["epoch"]
                and row["partition"] in given["partitions"]
                and row["written_ms"] >= given["since_ms"]
            ):
                life = row["epoch"], row["partition"]
                position[life] = max(position.get(life, 0), row["next_offset"])
        if not position:
            return []
        found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
        for row in self.table(given["raw"]):
            if (
                row["source_offset"] < position.get((row["source_epoch"], row["source_partition"]), 0)
                and row["source_topic"] == given["topic"]
                and row["event_ms"] >= given["first_open_ms"]
                and row["ingested_ms"] >= given["since_ms"]
            ):
                identity = row["bot_id"], row["event_id"], row["event_ms"]
                found[row["source_partition"]].append((row["ingested_ms"], row["source_offset"], identity))
        return [
            (partition, *identity)
            for partition, rows in sorted(found.items())
            for _, _, identity in sorted(rows, reverse=True)[: given["span"]]
        ]

    def _last_seal_pass(self, given: Parameters) -> list[tuple[Any, ...]]:
        passes = [row for row in self.table("seal_passes") if row["topic"] == given["topic"]]
        last = max(passes, key=lambda row: row["version"], default=None)
        return [(last["version"], last["provisional_from_ms"])] if last else []

    def _seal_queued(self, given: Parameters) -> list[tuple[Any, ...]]:
        return [(len(self._queued(given["topic"], given["version"])),)]

    def _queued(self, topic: str, version: int) -> list[RollupKey]:
        return [
            (row["bot_id"], row["start"])
            for row in self.table("seal_queue")
            if row["version"] == version and row["topic"] == topic
        ]

    # --- what the sealer has the store do

    def _seal_find(self, given: Parameters) -> list[Row]:
        """queries/seal_find.sql"""
        began, due_before = given["began"], given["due_before_ms"]
        candidates: dict[RollupKey, int] = {}
        for row in self.table(given["raw"]):
            key = row["bot_id"], row["event_ms"] - row["event_ms"] % INTERVAL_MS
            touched_at = row["ingested_ms"] * 1000
            if row["ingested_ms"] >= given["touched_from_ms"] and touched_at <= began:
                candidates[key] = max(candidates.get(key, 0), touched_at)
            elif given["due_from_ms"] <= row["event_ms"] < due_before:
                candidates.setdefault(key, 0)
        closed = {
            (row["bot_id"], row["interval_ms"])
            for row in self.table(given["cells"])
            if row["interval_ms"] >= due_before and row["snapshot"][-1]
        }
        for key in closed:
            candidates.setdefault(key, 0)
        sealed: dict[RollupKey, int] = {}
        for row in self.table(given["rollup"]):
            key = row["bot_id"], row["start"]
            sealed[key] = max(sealed.get(key, 0), row["version"])
        found = []
        for key, touched_at in candidates.items():
            start, sealed_at = key[1], sealed.get(key, 0)
            guard_ends = touched_at + given["guard_us"]
            if (
                (start < due_before or start > given["open_until_ms"] or sealed_at > 0 or key in closed)
                and sealed_at < began
                and (
                    sealed_at <= touched_at + given["settled_us"]
                    or sealed_at < guard_ends <= began
                    or sealed_at == 0
                )
            ):
                found.append(key)
        return [
            {"topic": given["topic"], "version": began, "bot_id": bot, "start": start}
            for bot, start in [("", due_before), *found]
        ]

    def _seal_15m(self, given: Parameters) -> list[Row]:
        """queries/seal_15m_bot_requests.sql"""
        first, end = given["offset"], given["offset"] + given["limit"]
        queued = sorted(self._queued(Topic.BOT_REQUESTS, given["version"]))
        groups: dict[RollupKey, list[Row]] = {key: [] for key in queued[first:end]}
        if groups:
            for row in self.raw(Topic.BOT_REQUESTS).values():
                key = row["bot_id"], row["event_ms"] - row["event_ms"] % INTERVAL_MS
                if key in groups:
                    groups[key].append(row)
        return [
            {
                "bot_id": bot,
                "start": start,
                "version": given["version"],
                "requests": len(rows),
                "last_request_ms": max(row["event_ms"] for row in rows),
                **{f"by_{name}": summed({row[name]: 1} for row in rows) for name in DIMENSIONS},
                "ips": {row["ip"] for row in rows if row["ip"]},
                "chats": {row["chat_id"] for row in rows if row["chat_id"]},
            }
            for (bot, start), rows in groups.items()
            if rows
        ]

    def _seal_1d(self, given: Parameters) -> list[Row]:
        """queries/seal_1d_bot_requests.sql"""
        due_before = given["due_before_ms"]
        last_due_day = given["last_due_before_ms"] - given["last_due_before_ms"] % DAY_MS
        due_day = due_before - due_before % DAY_MS
        days = {
            (row["bot_id"], row["start"] - row["start"] % DAY_MS)
            for row in self.table("seal_queue")
            if row["topic"] == Topic.BOT_REQUESTS
            and given["last_version"] < row["version"] <= given["version"]
            and row["start"] - row["start"] % DAY_MS + DAY_MS <= due_before
        } | {
            (row["bot_id"], row["start"] - row["start"] % DAY_MS)
            for row in self.table("bot_requests_15m")
            if last_due_day <= row["start"] < due_day
        }
        if not days:
            return []
        parts: dict[RollupKey, list[Row]] = defaultdict(list)
        for (bot, start), row in self.rollups("15m").items():
            if (bot, start - start % DAY_MS) in days:
                parts[bot, start - start % DAY_MS].append(row)
        return [
            {"bot_id": bot, "start": start, "version": given["version"], **added(rows)}
            for (bot, start), rows in parts.items()
        ]

    def _seal_complete(self, given: Parameters) -> list[Row]:
        """queries/seal_complete.sql"""
        if given["has_queued"] and not self._queued(given["topic"], given["version"]):
            return []
        return [
            {
                "topic": given["topic"],
                "version": given["version"],
                "provisional_from_ms": given["due_before_ms"],
                "data_as_of_ms": given["data_as_of_ms"],
            }
        ]


def summed(maps: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """One map of the sums by key."""
    sums: dict[str, int] = {}
    for one in maps:
        for name, number in one.items():
            sums[name] = sums.get(name, 0) + number
    return sums


def added(parts: Sequence[Row]) -> Row:
    """Rollups or cells as one: numbers and maps summed, sets united."""
    return {
        "requests": sum(part["requests"] for part in parts),
        "last_request_ms": max(part["last_request_ms"] for part in parts),
        **{name: summed(part[name] for part in parts) for name in MAPS},
        "ips": set[str]().union(*(part["ips"] for part in parts)),
        "chats": set[str]().union(*(part["chats"] for part in parts)),
    }
