"""The store in memory that simulations run on decides as the real one does."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from clickhouse import ledger, sealing
from clickhouse.client import Store, StoreAddress, connect
from pipeline import seal as sealer
from schemas import bot_request
from schemas.topics import Topic
from tests.builders import EPOCH, row
from tests.faults.simulation import DAY, HOUR, INTERVAL, MINUTE, SECOND
from tests.model_store import MAPS, ModelStore

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")

REQUESTS = Topic.BOT_REQUESTS
OTHER_EPOCH = "00000000-0000-4000-8000-000000000002"
ROUNDS = 60
TABLES = ("bot_requests", "bot_requests_cells", "bot_requests_15m", "bot_requests_1d")
STAMPS = {"footfall.bot_requests": "ingested_at", "footfall.ledger": "written_at"}


class Both:
    """Asks two stores the same, and lets neither answer otherwise. Time is the test's."""

    def __init__(self, real: Store, now_ms: int) -> None:
        self.now_ms = now_ms
        self._real = real
        self.model = ModelStore(now_us=lambda: self.now_ms * 1000)
        self.compared = 0

    async def insert(self, table: str, columns: Any, rows: Any, *, origin: str) -> None:
        await self.model.insert(table, columns, rows, origin=origin)
        if stamp := STAMPS.get(table):
            columns, rows = [*columns, stamp], [[*one, self.now_ms / 1000] for one in rows]
        await self._real.insert(table, columns, rows, origin=origin)

    async def command(self, statement: str, parameters: Any = None) -> None:
        await self.model.command(statement, parameters)
        await self._real.command(statement, parameters)

    async def rows(self, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        real = await self._real.rows(query, parameters)
        model = await self.model.rows(query, parameters)
        if model and model[0][3:4] == (None,):  # the tuple that the query names, beside its elements
            real = [(*one[:3], None, *one[4:]) for one in real]
        assert sorted(map(plain, real)) == sorted(map(plain, model))
        self.compared += 1
        return real

    async def optimise(self) -> None:
        """Merge all parts."""
        self.model.merge()
        for name in TABLES:
            await self._real.command(f"SYSTEM START MERGES footfall.{name}")
            await self._real.command(f"OPTIMIZE TABLE footfall.{name} FINAL")
            await self._real.command(f"SYSTEM STOP MERGES footfall.{name}")

    async def assert_same_rollups(self) -> None:
        for tier in ("15m", "1d"):
            real = await self._real.rows(
                "SELECT bot_id, toUnixTimestamp64Milli(interval_start), version, requests, "  # noqa: S608
                f"toUnixTimestamp64Milli(last_request), {', '.join(MAPS)}, length(ip_hashes), "
                f"length(chat_hashes) FROM footfall.bot_requests_{tier} FINAL"
            )
            model = [
                (
                    *key,
                    *(one["version"], one["requests"], one["last_request_ms"]),
                    *(one[name] for name in MAPS),
                    *(len(one["ips"]), len(one["chats"])),
                )
                for key, one in self.model.rollups(tier).items()
            ]
            assert sorted(map(plain, real)) == sorted(map(plain, model))
            self.compared += len(real)


def plain(one: Any) -> str:
    """A row that can be compared and sorted, whatever the order in its maps."""
    return repr([sorted(part.items()) if isinstance(part, dict) else str(part) for part in one])


def request(rng: random.Random, now_ms: int) -> tuple[Any, ...]:
    event_ms = now_ms - rng.choice((0, MINUTE, 14 * MINUTE, HOUR, DAY, -20 * MINUTE)) // MINUTE * MINUTE
    return row(
        bot_request.COLUMNS,
        bot_id=rng.choice("ab"),
        event_ms=event_ms // MINUTE * MINUTE,
        event_id=rng.choice("xyz"),
        endpoint=rng.choice(("api", "widget")),
        ip=rng.choice(("", "192.0.2.1", "192.0.2.2")),
        chat_id=rng.choice(("", "c")),
        source_epoch=rng.choice((EPOCH, EPOCH, OTHER_EPOCH)),
        source_partition=rng.randrange(2),
        source_offset=rng.randrange(9),
        record_ms=now_ms - rng.randrange(3),
    )


def cell(rng: random.Random, now_ms: int) -> tuple[Any, ...]:
    requests = rng.randrange(1, 5)
    counts = [{rng.choice(("", "x")): requests} for _ in MAPS]
    snapshot = rng.randrange(9), requests, now_ms - rng.randrange(3), *counts, int(rng.random() < 0.1)
    start = (now_ms - rng.choice((0, INTERVAL))) // INTERVAL * INTERVAL
    members = [member for member in ("192.0.2.1", "192.0.2.2") if rng.random() < 0.5]
    return rng.choice("ab"), start, EPOCH, rng.randrange(2), snapshot, members, []


def entry(rng: random.Random) -> ledger.LedgerEntry:
    end = rng.randrange(1, 9)
    return ledger.LedgerEntry(
        topic="bot_requests",
        epoch=rng.choice((EPOCH, OTHER_EPOCH)),
        partition=rng.randrange(2),
        next_offset=end,
        position=end - 1,
        first_offset=end - 1,
        last_offset=end - 1,
        worker="w",
    )


async def ask(both: Both, rng: random.Random) -> None:
    """Everything that a worker asks when it takes partitions over."""
    store: Any = both
    first_open_ms = (both.now_ms - 3 * MINUTE) // INTERVAL * INTERVAL
    await ledger.positions(store, topic="bot_requests", epoch=EPOCH, partitions=[0, 1])
    await ledger.open_cells(store, REQUESTS, epoch=EPOCH, partitions=[0, 1], first_open_ms=first_open_ms)
    await ledger.recent_identities(
        store,
        REQUESTS,
        source="bot_requests",
        epoch=EPOCH,
        partition=rng.randrange(2),
        from_offset=rng.randrange(3),
        before_offset=rng.randrange(4, 10),
        first_open_ms=first_open_ms,
    )
    await ledger.identities_of_other_epochs(
        store,
        REQUESTS,
        source="bot_requests",
        epoch=EPOCH,
        partitions=[0, 1],
        span=100,
        first_open_ms=first_open_ms,
    )


def test_the_model_answers_and_seals_as_the_store_does(
    store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = 1
    rng = random.Random(seed)
    monkeypatch.setattr(sealer, "MAX_INTERVALS", 3)

    async def run() -> None:
        async with connect(store_address) as real:
            begin = await ledger.now_ms(real)
            both = Both(real, int(begin) // INTERVAL * INTERVAL + 5 * MINUTE)
            store: Any = both

            async def clock_us(_: Any) -> int:
                both.now_ms += 1
                return both.now_ms * 1000

            monkeypatch.setattr(sealing, "clock_us", clock_us)
            for name in TABLES:
                await real.command(f"SYSTEM STOP MERGES footfall.{name}")
            for number in range(ROUNDS):
                origin = f"round {number}"
                rows: dict[int, list[Any]] = {}
                for _ in range(rng.randrange(5)):
                    one = request(rng, both.now_ms)
                    rows.setdefault(one[1] // (31 * DAY), []).append(one)
                for part in rows.values():
                    await ledger.write_rows(store, REQUESTS, part, origin=origin)
                cells = [cell(rng, both.now_ms) for _ in range(rng.randrange(3))]
                if cells:
                    await ledger.write_cells(store, REQUESTS, cells, origin=origin)
                await ledger.write_entries(store, [entry(rng)], origin=origin)
                both.now_ms += rng.choice((1, SECOND, 20 * SECOND, 50 * SECOND, 6 * MINUTE))
                await ask(both, rng)
                if rng.random() < 0.5:
                    await sealer.seal(store, REQUESTS, partitions=2)
                    await both.assert_same_rollups()
                if rng.random() < 0.1:
                    await both.optimise()
            assert both.compared > 5 * ROUNDS

    asyncio.run(run())
