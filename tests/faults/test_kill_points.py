"""The flush and the sealer die before and after each of their effects, on the embedded store, and others go on."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest

from clickhouse import sealing
from clickhouse.client import Store, StoreAddress, connect, sql
from pipeline import seal as sealer
from pipeline.flow import Decoded
from pipeline.sink import Sink
from schemas.topics import Topic
from tests.builders import FakeRecord
from tests.fake_store import Crash
from tests.fake_worker import Worker
from tests.faults.simulation import DAY, HOUR, INTERVAL, Copy, Oracle

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")

TIMES = 20
REQUESTS = Topic.BOT_REQUESTS
SECOND_US = 1_000_000
FLUSH = ["dead-letter topic", "dead_letters", "bot_requests", "bot_requests", "bot_requests_cells", "ledger"]
"""Effects of a flush that has something of each kind, and rows of two months."""
PASS = [
    "seal_find",
    "seal_15m_bot_requests",
    "seal_15m_bot_requests",
    "seal_1d_bot_requests",
    "seal_complete",
]
"""Effects of a pass that seals in two slices."""
STATEMENTS = {sql(name): name for name in PASS}


@dataclass
class Clock:
    """The store's clock, as far as the sealer and raw rows know."""

    now_us: int

    async def asked(self, store: Any) -> int:
        self.now_us += 1  # no two passes begin at once
        return self.now_us


@dataclass
class KilledStore:
    """A store whose client dies at one of its effects: before it is sent, or before its reply is seen."""

    store: Store
    clock: Clock | None = None
    """By which raw rows are stamped; None: by the store itself."""
    at: int = field(default=-1, init=False)
    is_applied: bool = field(default=False, init=False)
    effects: list[str] = field(default_factory=list, init=False)

    def dies(self, at: int, *, is_applied: bool) -> None:
        """The effect at which it dies from now on: 0 is the next."""
        self.at, self.is_applied = at, is_applied
        self.effects.clear()

    async def effect(self, what: str, act: Callable[[], Awaitable[None]]) -> None:
        dies = len(self.effects) == self.at
        self.effects.append(what)
        if dies and not self.is_applied:
            raise Crash
        await act()
        if dies:
            raise Crash

    async def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, origin: str
    ) -> None:
        if self.clock is not None and table == "footfall.bot_requests":
            stamp = self.clock.now_us / 1_000_000
            columns, rows = [*columns, "ingested_at"], [[*row, stamp] for row in rows]
        await self.effect(
            table.removeprefix("footfall."), lambda: self.store.insert(table, columns, rows, origin=origin)
        )

    async def command(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        await self.effect(STATEMENTS[statement], lambda: self.store.command(statement, parameters))

    async def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return await self.store.rows(query, parameters)


class Log:
    """The records of one run, with a topic and bots of its own, and the worker that consumes them."""

    def __init__(self, name: str, now_ms: int) -> None:
        self.name = name
        self.epoch = str(uuid.uuid4())
        self.now_ms = now_ms
        self.oracle = Oracle()
        self.records: dict[int, list[FakeRecord]] = {0: [], 1: []}
        self._numbers = itertools.count()
        self._worker: Worker
        self._positions: dict[int, int]

    @property
    def source(self) -> str:
        return f"{self.name}.{REQUESTS}"

    def append(self, partition: int, age_ms: int, *, event_id: str = "", bot: str = "a") -> None:
        """An event so long before now; a copy of an earlier one where its id is given again."""
        records, number = self.records[partition], next(self._numbers)
        copy = Copy(
            bot=f"{self.name}-{bot}",
            event_ms=self.now_ms - age_ms,
            event_id=event_id or f"e{number}",
            endpoint=("api", "widget")[number % 2],
            ip=f"192.0.2.{number % 3}",
            chat=("", "c")[number % 2],
            partition=partition,
            offset=len(records),
            record_ms=self.now_ms + number,
        )
        self.oracle.copies.append(copy)
        records.append(FakeRecord(offset=copy.offset, value=copy.value, timestamp=copy.record_ms))

    def append_malformed(self, partition: int) -> None:
        records = self.records[partition]
        self.oracle.malformed.add((partition, len(records)))
        records.append(FakeRecord(offset=len(records), value=b"{", timestamp=self.now_ms))

    async def take_over(self, store: KilledStore) -> None:
        """A new worker gets the partitions. It may die at its dead-letter topic too."""

        async def refuse(decoded: Decoded) -> None:
            if decoded.dead_letters:
                await store.effect("dead-letter topic", _nothing)

        self._worker = Worker(store, source=self.source, now_ms=lambda: self.now_ms, refuse=refuse)
        self._positions = await self._worker.resume(*self.records, epoch=self.epoch)

    async def consume(self) -> None:
        """Who has the partitions consumes them to their ends."""
        unread = {
            partition: left
            for partition, records in self.records.items()
            if (left := records[max(self._positions[partition], 0) :])
        }
        await self._worker.consume(unread)
        self._positions = {partition: len(records) for partition, records in self.records.items()}


async def _nothing() -> None:
    pass


def on(address: StoreAddress, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        async with connect(address) as store:
            await scenario(store)

    asyncio.run(run())


async def died(steps: Awaitable[None]) -> None:
    with pytest.raises(Crash):
        await steps


# --- what there is to die at


def test_every_declared_effect_of_a_flush_is_one_to_die_at() -> None:
    declared = re.findall(r"^ +# (\d)\. ", inspect.getsource(Sink.flush), re.MULTILINE)
    assert declared == ["1", "2", "3", "4"]
    assert len(set(FLUSH) - {"dead-letter topic"}) == len(declared)


def test_every_statement_of_the_sealer_that_writes_is_one_to_die_at() -> None:
    written = re.findall(r"store\.command\(\s*sql\(f?\"(\w+)", inspect.getsource(sealing))
    assert written == ["seal_find", "seal_15m_", "seal_1d_", "seal_complete"]
    assert [name.removesuffix(REQUESTS) for name in dict.fromkeys(PASS)] == written


# --- the flush


def begin(log: Log) -> None:
    """A few events of the open interval."""
    for partition in (0, 1):
        log.append(partition, 0)
        log.append(partition, 1_000, bot="b")


def extend(log: Log) -> None:
    """Something of every kind."""
    for partition in (0, 1):
        earlier = next(copy for copy in log.oracle.copies if copy.partition == partition)
        log.append(partition, 0, event_id=earlier.event_id)
        log.append(partition, 2_000)
        log.append_malformed(partition)
        log.append(partition, 40 * DAY)
        log.append(partition, 500, bot="b")


@pytest.mark.timeout(900)
def test_a_flush_that_dies_at_any_effect_is_finished_by_whoever_goes_on(store_address: StoreAddress) -> None:
    points = [(at, is_applied) for at in range(len(FLUSH)) for is_applied in (False, True)]

    async def scenario(store: Store) -> None:
        now_ms = (await sealing.clock_us(store)) // 1000 // INTERVAL * INTERVAL + 300_000
        logs = []
        for number in range(TIMES):
            log = Log(f"flush{number}", now_ms)
            logs.append(log)
            begin(log)
            held = KilledStore(store)
            await log.take_over(held)
            await log.consume()
            for at, is_applied in points:
                extend(log)
                held.dies(at, is_applied=is_applied)
                await died(log.consume())
                assert held.effects == FLUSH[: at + 1]
                held = KilledStore(store)
                await log.take_over(held)
                await log.consume()
        await check_rows(store, logs)
        await check_cells(store, logs)

    on(store_address, scenario)


async def check_rows(store: Store, logs: Sequence[Log]) -> None:
    """Raw rows, dead letters and the ledger."""
    found = await store.rows(
        "SELECT bot_id, toUnixTimestamp64Milli(event_time), event_id, source_partition, source_offset, endpoint "
        "FROM footfall.bot_requests FINAL WHERE startsWith(bot_id, 'flush')"
    )
    assert sorted(found) == sorted(
        (*identity, copy.partition, copy.offset, copy.endpoint)
        for log in logs
        for identity, copy in log.oracle.events().items()
    )
    letters = await store.rows("SELECT topic, partition, offset FROM footfall.dead_letters FINAL")
    assert sorted(letters) == sorted((log.source, *origin) for log in logs for origin in log.oracle.malformed)
    ledger = await store.rows(
        "SELECT topic, partition, max(next_offset), sum(records), sum(events + duplicates), sum(dead_letters), "
        "sum(next_offset - position) FROM footfall.ledger FINAL WHERE startsWith(topic, 'flush') "
        "GROUP BY topic, partition"
    )
    assert sorted(ledger) == sorted(
        (log.source, partition, len(records), len(records), len(records) - refused, refused, len(records))
        for log in logs
        for partition, records in log.records.items()
        for refused in [sum(1 for where, _ in log.oracle.malformed if where == partition)]
    )


async def check_cells(store: Store, logs: Sequence[Log]) -> None:
    """What cells say of the interval that is open."""
    found = await store.rows(
        """
        SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start, sum(cell.requests), max(cell.last_request_ms),
               sumMap(JSONExtract(cell.dimensions, 'by_endpoint', 'Map(String, UInt64)')),
               uniqExactArray(ip_hashes), uniqExactArray(chat_hashes)
        FROM
        (
            SELECT bot_id, interval_start, max(snapshot) AS cell, groupUniqArrayArray(ip_hashes) AS ip_hashes,
                   groupUniqArrayArray(chat_hashes) AS chat_hashes
            FROM footfall.bot_requests_cells WHERE startsWith(bot_id, 'flush')
            GROUP BY bot_id, interval_start, epoch, partition
        )
        GROUP BY bot_id, start
        """
    )
    opened = logs[0].now_ms // INTERVAL * INTERVAL
    assert {(bot, start): said for bot, start, *said in found} == {
        (bot, start): said_of(counts)
        for log in logs
        for (bot, start), counts in log.oracle.provisional().items()
        if start >= opened
    }


def said_of(counts: Mapping[str, Any]) -> list[Any]:
    """A rollup as a row."""
    return [
        *(counts["requests"], counts["last_request_ms"], counts["by_endpoint"]),
        *(len(counts["ips"]), len(counts["chats"])),
    ]


# --- the sealer


@pytest.mark.timeout(900)
def test_a_pass_that_dies_at_any_effect_is_made_good_by_the_next(
    store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [(at, is_applied) for at in range(len(PASS)) for is_applied in (False, True)]
    monkeypatch.setattr(sealer, "MAX_INTERVALS", 2)

    async def scenario(store: Store) -> None:
        clock = Clock(await sealing.clock_us(store))
        monkeypatch.setattr(sealing, "clock_us", clock.asked)
        clock.now_us += 7_200 * SECOND_US
        await sealer.seal(store, REQUESTS, partitions=2)  # what other tests left
        logs = []
        for number in range(TIMES):
            log = Log(f"pass{number}", clock.now_us // 1000)
            logs.append(log)
            await log.take_over(KilledStore(store, clock=clock))
            for at, is_applied in [(len(PASS), False), *points]:  # first one that lives
                # The same intervals each time: a pass that dies seals anew what is sealed already.
                for age_ms in (HOUR, HOUR + INTERVAL, 2 * DAY):
                    log.append(0, age_ms + at)
                clock.now_us += 2 * SECOND_US
                await log.consume()
                killed = KilledStore(store)
                killed.dies(at, is_applied=is_applied)
                with nullcontext() if at == len(PASS) else pytest.raises(Crash):
                    await sealer.seal(killed, REQUESTS, partitions=2)  # type: ignore[arg-type]
                assert killed.effects == PASS[: at + 1]
                clock.now_us += 2 * SECOND_US
                await sealer.seal(store, REQUESTS, partitions=2)
            clock.now_us += 200 * SECOND_US  # so that the next time begins with nothing to do
            await sealer.seal(store, REQUESTS, partitions=2)
        await check_rollups(store, logs, (clock.now_us // 1000 - 120_000) // INTERVAL * INTERVAL)

    on(store_address, scenario)


async def check_rollups(store: Store, logs: Sequence[Log], passed_ms: int) -> None:
    """Intervals and days that are over."""
    for tier, length in (("15m", INTERVAL), ("1d", DAY)):
        found = await store.rows(
            "SELECT bot_id, toUnixTimestamp64Milli(interval_start), requests, toUnixTimestamp64Milli(last_request), "  # noqa: S608
            "CAST(by_endpoint, 'Map(String, UInt64)'), length(ip_hashes), length(chat_hashes) "
            f"FROM footfall.bot_requests_{tier} FINAL WHERE startsWith(bot_id, 'pass')"
        )
        expected = {
            key: said_of(counts)
            for log in logs
            for key, counts in log.oracle.sealed(length).items()
            if tier == "15m" or key[1] + DAY <= passed_ms
        }
        assert {(bot, start): said for bot, start, *said in found} == expected
