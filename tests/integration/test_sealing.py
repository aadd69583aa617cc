"""The sealer on the embedded store: what is sealed when, and that it equals raw rows counted by other means.

The sealer's clock is set by the tests, ahead of the store's or behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from clickhouse import ledger, sealing
from clickhouse.client import Store, StoreAddress, StoreError, connect, sql
from pipeline import seal as seal_module
from pipeline.seal import GUARD_MS, SETTLED_MS, seal
from pipeline.window import AHEAD_MS, GRACE_MS, interval_start
from schemas import bot_request
from schemas.rollup import INTERVAL_MS
from schemas.topics import Topic
from tests.builders import EPOCH, row

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")

REQUESTS, USAGES = Topic.BOT_REQUESTS, Topic.TOKEN_USAGES
DAY_MS = 86_400_000
TABLES = [
    *(f"{topic}{kind}" for topic in (REQUESTS, USAGES) for kind in ("", "_cells", "_15m", "_1d")),
    *("progress", "seal_passes", "seal_queue"),
]
Row = tuple[Any, ...]
Scenario = Callable[["Sealer"], Awaitable[None]]


@dataclass
class Sealer:
    """A store, the clock by which it is sealed and stamped, and what was written."""

    store: Store
    now_ms: int
    topic: Topic = REQUESTS

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self.written: list[Row] = []

    @property
    def start(self) -> int:
        """Start of the present interval."""
        return interval_start(self.now_ms)

    def row(self, event_ms: int, **values: Any) -> Row:
        """A row of the topic, at an offset of its own unless told."""
        number = next(self._numbers)
        shared = {"event_id": f"e{number}", "source_offset": number, "record_ms": event_ms, "endpoint": "api"}
        columns = ledger.RAW_COLUMNS[self.topic]
        return row(columns, event_ms=event_ms, **{**shared, **values})

    async def write(self, *rows: Row, ingested_ms: int | None = None) -> None:
        """Insert raw rows as if the store's clock were ours."""
        self.written += rows
        columns = *ledger.RAW_COLUMNS[self.topic], "ingested_at"
        at = f"{(self.now_ms if ingested_ms is None else ingested_ms) / 1000:.3f}"
        months = defaultdict(list)
        for one in rows:
            months[month(one[1])].append((*one, float(at)))
        for block in months.values():
            origin = f"test {next(self._numbers)} {self.now_ms}"
            await self.store.insert(f"footfall.{self.topic}", columns, block, origin=origin)

    async def write_cell(self, event_ms: int, *, bot: str = "bot", is_closed: bool = False) -> None:
        """Insert the cell of an interval."""
        snapshot: Row = (next(self._numbers), 1, event_ms, {}, {}, {}, {}, int(is_closed))
        cell: Row = bot, interval_start(event_ms), EPOCH, 0, snapshot, [], []
        await ledger.write_cells(self.store, REQUESTS, [cell], origin=f"{self.now_ms}")

    async def seal(self, *, after_ms: int = 0) -> None:
        """A pass, so much later."""
        self.now_ms += after_ms
        await seal(self.store, self.topic, partitions=1)

    async def sealed(self, tier: str = "15m") -> dict[tuple[str, int], Any]:
        """What rollups say, by bot and start."""
        return await rollups(self.store, self.topic, tier)

    async def starts(self) -> list[int]:
        """Starts of the sealed intervals, against the present one, in intervals."""
        return sorted((start - self.start) // INTERVAL_MS for _, start in await self.sealed())

    async def requests(self, tier: str = "15m") -> dict[int, int]:
        """Requests of rollups, by start."""
        return {start: counts["requests"] for (_, start), counts in (await self.sealed(tier)).items()}

    async def queued(self) -> int:
        """How many intervals were found since the beginning."""
        return int(
            (await self.store.rows("SELECT count() FROM footfall.seal_queue WHERE bot_id != ''"))[0][0]
        )

    async def assert_equals_raw(self) -> None:
        """Every interval that has rows is sealed and says what they say."""
        assert await self.sealed() == aggregate(self.topic, self.written, interval_start)


def month(event_ms: int) -> str:
    return f"{datetime.fromtimestamp(event_ms / 1000, UTC):%Y%m}"


async def rollups(store: Store, topic: Topic, tier: str) -> dict[tuple[str, int], Any]:
    names = {
        REQUESTS: "requests, toUnixTimestamp64Milli(last_request) AS last_request_ms, by_endpoint, by_country, "
        "by_browser, by_client_class, length(ip_hashes) AS ips, length(chat_hashes) AS chats",
        USAGES: "usages, input_tokens, output_tokens, usages_by_source, input_by_source, output_by_source, "
        "usages_by_model, input_by_model, output_by_model",
    }[topic]
    query = (
        f"SELECT bot_id, toUnixTimestamp64Milli(interval_start), {names} FROM footfall.{topic}_{tier} FINAL"  # noqa: S608
    )
    labels = [name.split()[-1] for name in names.split(", ")]
    return {
        (bot, start): dict(zip(labels, map(without_zeros, values), strict=True))
        for bot, start, *values in await store.rows(query)
    }


def without_zeros(value: Any) -> Any:
    """Sums of maps leave keys out whose sum is 0."""
    return {name: number for name, number in value.items() if number} if isinstance(value, dict) else value


def aggregate(
    topic: Topic, rows: Sequence[Row], start_of: Callable[[int], int]
) -> dict[tuple[str, int], dict[str, Any]]:
    """What rollups have to say, from the earliest copy of each event."""
    columns = ledger.RAW_COLUMNS[topic]
    events: dict[tuple[Any, ...], dict[str, Any]] = {}
    by_age = ("record_ms", "source_partition", "source_offset")
    for one in sorted(
        (dict(zip(columns, values, strict=True)) for values in rows), key=lambda e: [e[n] for n in by_age]
    ):
        events.setdefault((one["bot_id"], one["event_ms"], one["event_id"]), one)
    groups = defaultdict(list)
    for one in events.values():
        groups[one["bot_id"], start_of(one["event_ms"])].append(one)

    def counts(group: list[dict[str, Any]], by: str, of: str | None = None) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for one in group:
            sums[one[by]] += one[of] if of else 1
        return {name: number for name, number in sums.items() if number}

    def requests(group: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "requests": len(group),
            "last_request_ms": max(one["event_ms"] for one in group),
            **{
                f"by_{name}": counts(group, name)
                for name in ("endpoint", "country", "browser", "client_class")
            },
            "ips": len({one["ip"] for one in group} - {""}),
            "chats": len({one["chat_id"] for one in group} - {""}),
        }

    def usages(group: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "usages": len(group),
            "input_tokens": sum(one["input_tokens"] for one in group),
            "output_tokens": sum(one["output_tokens"] for one in group),
            **{
                f"{what}_by_{name}": counts(group, name, of)
                for name in ("source", "model")
                for what, of in (("usages", None), ("input", "input_tokens"), ("output", "output_tokens"))
            },
        }

    build = requests if topic == REQUESTS else usages
    return {key: build(group) for key, group in groups.items()}


def day_start(event_ms: int) -> int:
    return event_ms - event_ms % DAY_MS


@pytest.fixture
def sealing_at(store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a scenario on an empty store, with the sealer's clock under its control."""

    def run(scenario: Scenario, *, topic: Topic = REQUESTS, now_ms: int | None = None) -> None:
        async def run_it() -> None:
            async with connect(store_address) as store:
                for table in TABLES:
                    await store.command(f"TRUNCATE TABLE footfall.{table}")
                # Ten minutes into an interval, so that the one before is due.
                real_us = await sealing.clock_us(store)
                now = interval_start(real_us // 1000) + 10 * 60_000 if now_ms is None else now_ms
                sealer = Sealer(store, now, topic)
                ticks = itertools.count(real_us % 1000)

                async def clock_us(_: Store) -> int:
                    return sealer.now_ms * 1000 + next(ticks)  # no two passes begin in the same microsecond

                monkeypatch.setattr(sealing, "clock_us", clock_us)
                await scenario(sealer)

        with monkeypatch.context():
            asyncio.run(run_it())

    return run


# --- what is due


def test_an_interval_is_sealed_two_minutes_after_its_end(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        start = sealer.start
        await sealer.write(sealer.row(start), sealer.row(start - 1), sealer.row(start - INTERVAL_MS))
        sealer.now_ms = start + GRACE_MS - 1
        await sealer.seal()
        assert await sealer.requests() == {}
        await sealer.seal(after_ms=1)
        assert await sealer.requests() == {start - INTERVAL_MS: 2}
        sealer.now_ms = start + INTERVAL_MS + GRACE_MS - 1
        await sealer.seal()
        assert await sealer.requests() == {start - INTERVAL_MS: 2}
        await sealer.seal(after_ms=1)
        assert await sealer.requests() == {start - INTERVAL_MS: 2, start: 1}

    sealing_at(scenario)


def test_a_pass_on_the_stores_own_clock_seals_what_workers_wrote(store_address: StoreAddress) -> None:
    async def run() -> None:
        async with connect(store_address) as store:
            for table in TABLES:
                await store.command(f"TRUNCATE TABLE footfall.{table}")
            sealer = Sealer(store, int(await ledger.now_ms(store)))
            past = sealer.start - 8 * INTERVAL_MS
            rows = [sealer.row(past + number, ip=f"192.0.2.{number % 3}") for number in range(9)]
            await ledger.write_rows(
                store, REQUESTS, [*rows, sealer.row(sealer.now_ms)], origin=f"{sealer.now_ms}"
            )
            await seal(store, REQUESTS, partitions=1)
            assert await sealer.sealed() == aggregate(REQUESTS, rows, interval_start)
            late = sealer.row(past + 77, endpoint="widget")
            await ledger.write_rows(store, REQUESTS, [late], origin=f"{sealer.now_ms} late")
            await seal(store, REQUESTS, partitions=1)
            assert await sealer.sealed() == aggregate(REQUESTS, [*rows, late], interval_start)

    asyncio.run(run())


def test_a_late_row_is_in_the_rollup_after_the_next_pass(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - 100 * INTERVAL_MS
        await sealer.write(sealer.row(past))
        await sealer.seal()
        for _ in range(3):
            sealer.now_ms += 40 * 60_000
            await sealer.seal()
            await sealer.write(sealer.row(past))
            await sealer.seal(after_ms=2_000)
            await sealer.assert_equals_raw()

    sealing_at(scenario)


@pytest.mark.parametrize("age_ms", [1, SETTLED_MS - 500], ids=["just now", "half a second ago"])
def test_a_row_that_became_readable_a_little_after_its_stamp_is_in_the_next_pass(
    sealing_at: Callable[..., None], age_ms: int
) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - 9 * INTERVAL_MS
        await sealer.write(sealer.row(past))
        await sealer.seal()
        await sealer.write(sealer.row(past), ingested_ms=sealer.now_ms - age_ms)
        await sealer.seal(after_ms=2_000)
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_a_row_that_became_readable_long_after_its_stamp_is_sealed_when_the_guard_has_passed(
    sealing_at: Callable[..., None],
) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - 9 * INTERVAL_MS
        await sealer.write(sealer.row(past))
        await sealer.seal()
        stamped = sealer.now_ms - 20_000
        await sealer.write(sealer.row(past), ingested_ms=stamped)
        while sealer.now_ms - stamped < GUARD_MS:
            await sealer.seal(after_ms=5_000)
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_a_late_row_is_in_the_rollup_within_a_minute_whenever_it_became_readable(
    sealing_at: Callable[..., None],
) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = [sealer.start - (20 + number) * INTERVAL_MS for number in range(11)]
        await sealer.write(*map(sealer.row, past))
        await sealer.seal(after_ms=GUARD_MS)
        stamped = sealer.now_ms + 700
        for event_ms in past:
            await sealer.seal(after_ms=4_000)
            await sealer.write(sealer.row(event_ms), ingested_ms=stamped)
        await sealer.seal(after_ms=4_000)
        assert sealer.now_ms - stamped < 60_000
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_nothing_is_missed_while_no_sealer_ran(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.seal()
        for minutes in (1, 3, 20, 200):
            sealer.now_ms += minutes * 60_000
            await sealer.write(sealer.row(sealer.now_ms), sealer.row(sealer.start - 50 * INTERVAL_MS))
        await sealer.seal(after_ms=6 * 3_600_000)
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_with_nothing_to_do_nothing_is_written(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write(sealer.row(sealer.start - 9 * INTERVAL_MS))
        for _ in range(5):
            await sealer.seal(after_ms=GUARD_MS)
        queued = await sealer.queued()
        versions = await sealer.store.rows("SELECT max(version), count() FROM footfall.bot_requests_15m")
        for _ in range(5):
            await sealer.seal(after_ms=2_000)
        assert await sealer.queued() == queued
        assert (
            await sealer.store.rows("SELECT max(version), count() FROM footfall.bot_requests_15m") == versions
        )

    sealing_at(scenario)


def test_an_interval_touched_once_is_sealed_a_few_times_and_then_no_more(
    sealing_at: Callable[..., None],
) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write(sealer.row(sealer.start - 9 * INTERVAL_MS))
        for seconds in (0, 2, 2, 2, 2, 30, 10, 2, 2, 50, 50):
            await sealer.seal(after_ms=seconds * 1_000)
        assert 2 <= await sealer.queued() <= 4

    sealing_at(scenario)


# --- what is sealed before it is due


def test_an_interval_outside_what_workers_hold_open_is_sealed_at_once(
    sealing_at: Callable[..., None],
) -> None:
    async def scenario(sealer: Sealer) -> None:
        ahead = interval_start(sealer.now_ms + AHEAD_MS)
        await sealer.write(*(sealer.row(ahead + number * INTERVAL_MS) for number in (-1, 0, 1, 40_000)))
        await sealer.seal()
        assert sorted(await sealer.requests()) == [ahead + INTERVAL_MS, ahead + 40_000 * INTERVAL_MS]

    sealing_at(scenario)


def test_an_interval_sealed_early_is_sealed_at_every_touch(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        ahead = interval_start(sealer.now_ms + AHEAD_MS) + INTERVAL_MS
        await sealer.write(sealer.row(ahead))
        await sealer.seal()
        for _ in range(3):
            sealer.now_ms = max(sealer.now_ms, ahead - 60_000)
            await sealer.write(sealer.row(ahead))
            await sealer.write_cell(ahead)
            await sealer.seal(after_ms=60_000)
            await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_a_row_far_ahead_that_no_pass_saw_in_time_is_sealed_when_due(sealing_at: Callable[..., None]) -> None:
    """It has no cell, and is no longer outside what workers hold open when a pass comes."""

    async def scenario(sealer: Sealer) -> None:
        await sealer.seal()
        ahead = interval_start(sealer.now_ms + AHEAD_MS) + INTERVAL_MS
        await sealer.write(sealer.row(ahead))
        sealer.now_ms = ahead - AHEAD_MS + 60_000
        for _ in range(5):
            await sealer.seal(after_ms=4 * 60_000)
        assert await sealer.requests() == {}
        for _ in range(4):
            await sealer.seal(after_ms=4 * 60_000)
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_rows_whose_cell_was_never_written_are_sealed_when_due(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write(sealer.row(sealer.now_ms))
        for _ in range(5):
            await sealer.seal(after_ms=4 * 60_000)
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_a_closed_cell_has_its_interval_sealed_at_every_touch(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write(sealer.row(sealer.now_ms), sealer.row(sealer.now_ms, bot_id="open"))
        await sealer.write_cell(sealer.now_ms, bot="open")
        await sealer.write_cell(sealer.now_ms)
        await sealer.seal(after_ms=100)
        assert await sealer.sealed() == {}
        await sealer.write(sealer.row(sealer.now_ms))
        await sealer.write_cell(sealer.now_ms, is_closed=True)
        await sealer.seal(after_ms=100)
        assert {bot: counts["requests"] for (bot, _), counts in (await sealer.sealed()).items()} == {"bot": 2}
        await sealer.write(sealer.row(sealer.now_ms))
        await sealer.seal(after_ms=100)
        assert {bot: counts["requests"] for (bot, _), counts in (await sealer.sealed()).items()} == {"bot": 3}

    sealing_at(scenario)


def test_a_cell_closed_long_after_its_row_came_has_its_interval_sealed(
    sealing_at: Callable[..., None],
) -> None:
    async def scenario(sealer: Sealer) -> None:
        event_ms = sealer.now_ms
        await sealer.write(sealer.row(event_ms))
        for _ in range(3):
            await sealer.seal(after_ms=60_000)
        assert await sealer.sealed() == {}
        await sealer.write_cell(event_ms, is_closed=True)
        for _ in range(3):
            await sealer.seal(after_ms=10_000)
            await sealer.assert_equals_raw()
        assert event_ms >= sealer.start, "it is still open"
        assert await sealer.queued() == 1, "once is enough"

    sealing_at(scenario)


def test_cells_without_rows_leave_nothing(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write_cell(sealer.start - INTERVAL_MS)
        await sealer.seal()
        assert await sealer.sealed() == {}

    sealing_at(scenario)


# --- days


def midnight(days: int = 0) -> int:
    """The next midnight of UTC by this machine's clock, and so many days later."""
    return day_start(int(datetime.now(UTC).timestamp() * 1000)) + (1 + days) * DAY_MS


def test_days_are_the_sum_of_their_intervals_once_they_are_over(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        over = midnight()
        for hours in (1, 9, 23):
            rows = [
                sealer.row(
                    over - hours * 3_600_000 + number * 60_000,
                    ip=f"192.0.2.{number % 4}",
                    chat_id=f"{number % 5}",
                    endpoint=("api", "widget")[number % 2],
                    country=("", "NP")[number % 2],
                )
                for number in range(40)
            ]
            await sealer.write(*rows)
        sealer.now_ms = over + GRACE_MS - 1
        await sealer.seal()
        assert await sealer.sealed("1d") == {}
        await sealer.seal(after_ms=1)
        assert await sealer.sealed("1d") == aggregate(REQUESTS, sealer.written, day_start)

    sealing_at(scenario, now_ms=midnight() - 60_000)


def test_a_day_whose_last_hours_were_quiet_is_sealed_too(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write(sealer.row(sealer.start - INTERVAL_MS))
        while sealer.now_ms < midnight() + GRACE_MS:
            await sealer.seal(after_ms=3_600_000)
        assert await sealer.requests("1d") == {midnight() - DAY_MS: 1}

    sealing_at(scenario, now_ms=midnight() - 10 * 3_600_000)


def test_a_late_row_is_in_its_day_after_the_next_pass(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - 3 * DAY_MS
        await sealer.write(sealer.row(past), sealer.row(past - DAY_MS), sealer.row(past, bot_id="other"))
        await sealer.seal()
        await sealer.write(sealer.row(past + 3 * INTERVAL_MS, ip="192.0.2.1"))
        await sealer.seal(after_ms=2_000)
        assert await sealer.sealed("1d") == aggregate(REQUESTS, sealer.written, day_start)

    sealing_at(scenario)


# --- two at once, and half a pass


def test_two_sealers_at_once_end_in_the_same(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        for turn in range(4):
            days = [sealer.start - number * 7 * INTERVAL_MS - DAY_MS for number in range(1, 30)]
            await sealer.write(*(sealer.row(start + turn, ip=f"192.0.2.{turn}") for start in days))
            sealer.now_ms += 2_000
            await asyncio.gather(*(seal(sealer.store, REQUESTS, partitions=1) for _ in range(3)))
            await sealer.assert_equals_raw()
        assert await sealer.sealed("1d") == {
            key: counts
            for key, counts in aggregate(REQUESTS, sealer.written, day_start).items()
            if key[1] + DAY_MS <= interval_start(sealer.now_ms - GRACE_MS)
        }

    sealing_at(scenario)


@pytest.mark.parametrize("step", ["find", "seal_intervals", "seal_days", "complete"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_pass_that_dies_half_way_is_completed_by_the_next(
    sealing_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch, step: str, is_done: bool
) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - 2 * DAY_MS
        await sealer.write(sealer.row(past), sealer.row(past + INTERVAL_MS), sealer.row(past - DAY_MS))
        await sealer.seal()
        await sealer.write(sealer.row(past), sealer.row(past - 5 * INTERVAL_MS))
        real = getattr(sealing, step)

        async def dies(*given: Any, **named: Any) -> Any:
            if is_done:
                await real(*given, **named)
            raise StoreError("the store is away")

        with monkeypatch.context() as patch:
            patch.setattr(sealing, step, dies)
            with pytest.raises(StoreError):
                await sealer.seal(after_ms=2_000)
        await sealer.seal(after_ms=10 * 60_000)
        await sealer.assert_equals_raw()
        assert await sealer.sealed("1d") == aggregate(REQUESTS, sealer.written, day_start)

    sealing_at(scenario)


@pytest.mark.parametrize("step", ["seal_find", "seal_15m_bot_requests", "seal_1d_bot_requests"])
def test_a_pass_during_which_the_store_was_put_back_is_not_complete(
    sealing_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def scenario(sealer: Sealer) -> None:
        await sealer.write(sealer.row(sealer.now_ms))
        await sealer.seal(after_ms=4 * 60_000)
        real = Store.command

        async def is_put_back(store: Store, statement: str, *given: Any) -> None:
            await real(store, statement, *given)
            if statement == sql(step):
                for table in ("seal_queue", "bot_requests_15m", "bot_requests_1d"):
                    await real(store, f"TRUNCATE TABLE footfall.{table}")

        with monkeypatch.context() as patch:
            patch.setattr(Store, "command", is_put_back)
            await sealer.seal(after_ms=4 * 60_000)
        assert await sealer.sealed() == {}
        await sealer.seal(after_ms=10 * 60_000)
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_a_pass_that_found_more_than_it_may_seal_at_once_goes_on(
    sealing_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal_module, "MAX_INTERVALS", 3)

    async def scenario(sealer: Sealer) -> None:
        await sealer.write(*(sealer.row(sealer.start - number * INTERVAL_MS) for number in range(1, 12)))
        await asyncio.wait_for(sealer.seal(), 10)
        await sealer.assert_equals_raw()
        assert await sealer.queued() == 11, "each once"

    sealing_at(scenario)


# --- what rollups say


def test_copies_of_an_event_count_once_and_the_earliest_is_the_event(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - INTERVAL_MS
        copy = {"event_id": "e", "source_offset": 9}
        await sealer.write(sealer.row(past, **copy, record_ms=past + 2, source_partition=1, endpoint="last"))
        await sealer.seal()
        await sealer.write(
            sealer.row(past, **copy, record_ms=past + 1, source_partition=2, endpoint="second"),
            sealer.row(past, **copy, record_ms=past + 1, source_partition=1, endpoint="first"),
        )
        await sealer.seal(after_ms=2_000)
        [counts] = (await sealer.sealed()).values()
        assert counts["by_endpoint"] == {"first": 1}
        await sealer.assert_equals_raw()

    sealing_at(scenario)


def test_tokens_are_summed_by_source_and_model(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        past = sealer.start - DAY_MS
        rng = random.Random(1)
        rows = [
            sealer.row(
                past + rng.randrange(40) * INTERVAL_MS // 2,
                bot_id=rng.choice("ab"),
                source=rng.choice(["chat", "responses", "x"]),
                model=rng.choice(["", "m", "n"]),
                input_tokens=rng.choice([0, 1, 5_000, 2**53 - 1]),
                output_tokens=rng.choice([0, 1, 700]),
                cached_input_tokens=rng.choice([None, 4]),
            )
            for _ in range(200)
        ]
        await sealer.write(*rows)
        await sealer.seal(after_ms=DAY_MS)
        await sealer.assert_equals_raw()
        assert await sealer.sealed("1d") == {
            key: counts
            for key, counts in aggregate(USAGES, sealer.written, day_start).items()
            if key[1] + DAY_MS <= sealer.now_ms - GRACE_MS
        }

    sealing_at(scenario, topic=USAGES)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_written_when_every_rollup_equals_raw_in_the_end(
    sealing_at: Callable[..., None], seed: int
) -> None:
    """Rows in time, late, ahead, copied elsewhere, stamped early; passes at any time, some of which die."""
    rng = random.Random(seed)

    async def scenario(sealer: Sealer) -> None:
        begin = sealer.now_ms
        while sealer.now_ms < begin + 9 * 3_600_000:
            sealer.now_ms += rng.choice([1_000, 2_000, 50_000, 1_200_000, 5_400_000])
            rows = [
                sealer.row(
                    sealer.now_ms - rng.choice([0, 0, 1_000, 3_600_000, 9 * DAY_MS, -600_000, -1_300_000]),
                    bot_id=rng.choice("abc"),
                    ip=rng.choice(["", "192.0.2.1", "192.0.2.2"]),
                    chat_id=rng.choice(["", "x", "y"]),
                    browser=rng.choice(["", "Firefox"]),
                )
                for _ in range(rng.randrange(6))
            ]
            if sealer.written and rng.random() < 0.5:
                copied = list(rng.choice(sealer.written))
                copied[bot_request.COLUMNS.index("source_partition")] = rng.randrange(3)
                rows.append(tuple(copied))
            if rows:
                await sealer.write(*rows, ingested_ms=sealer.now_ms - rng.choice([0, 0, 2_000, 15_000]))
            if rng.random() < 0.7:
                await sealer.seal()
        await sealer.seal(after_ms=GUARD_MS)
        await sealer.seal(after_ms=2 * 3_600_000)
        await sealer.assert_equals_raw()
        assert await sealer.sealed("1d") == {
            key: counts
            for key, counts in aggregate(REQUESTS, sealer.written, day_start).items()
            if key[1] + DAY_MS <= interval_start(sealer.now_ms - GRACE_MS)
        }

    sealing_at(scenario)


# --- what a pass says


async def said(sealer: Sealer) -> tuple[int, int, int]:
    """Version, provisional from, data as of, of the last complete pass."""
    [row] = await sealer.store.rows(
        "SELECT version, toUnixTimestamp64Milli(provisional_from), toUnixTimestamp64Milli(data_as_of) "
        "FROM footfall.seal_passes FINAL WHERE topic = {topic:String}",
        {"topic": sealer.topic.value},
    )
    return row[0], row[1], row[2]


@pytest.mark.parametrize("topic", list(Topic))
def test_a_pass_says_through_when_everything_is_visible(
    sealing_at: Callable[..., None], topic: Topic
) -> None:
    async def scenario(sealer: Sealer) -> None:
        async def seal_two() -> int:
            sealer.now_ms += 1_000
            await seal(sealer.store, topic, partitions=2)
            version, provisional_from, data_as_of = await said(sealer)
            assert version // 1000 == sealer.now_ms
            assert provisional_from == interval_start(sealer.now_ms - GRACE_MS)
            return data_as_of

        def progress(partition: int, caught_up_ms: int) -> tuple[str, str, int, int, int, int]:
            return topic.value, EPOCH, partition, caught_up_ms, 0, 0

        assert await seal_two() == 0
        await ledger.write_progress(sealer.store, [progress(0, 5_000)])
        assert await seal_two() == 0, "nothing is known of the other partition"
        await ledger.write_progress(sealer.store, [progress(1, 3_000)])
        assert await seal_two() == 3_000
        await ledger.write_progress(sealer.store, [progress(0, 9_000), progress(1, 8_000)])
        assert await seal_two() == 8_000

    sealing_at(scenario, topic=topic)


def test_progress_of_an_earlier_life_of_a_topic_does_not_count(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        other = "00000000-0000-4000-8000-000000000009"
        await ledger.write_progress(sealer.store, [(REQUESTS.value, EPOCH, 0, 9_000, 0, 0)])
        await asyncio.sleep(0.01)  # rows are told apart by when they were written
        await ledger.write_progress(sealer.store, [(REQUESTS.value, other, 0, 4_000, 0, 0)])
        await sealer.seal()
        assert (await said(sealer))[2] == 4_000

    sealing_at(scenario)


# --- last, since emptying a table of many partitions takes a while


def test_intervals_of_many_years_are_sealed_in_one_pass(sealing_at: Callable[..., None]) -> None:
    async def scenario(sealer: Sealer) -> None:
        begin = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1000)
        past = [begin + number * 31 * DAY_MS for number in range(124)]
        future = [int(datetime(year, 7, 1, tzinfo=UTC).timestamp() * 1000) for year in (2106, 2150, 2299)]
        await sealer.write(*(sealer.row(event_ms) for event_ms in [*past, *future]))
        assert len({month(event_ms) for event_ms in past}) > 120, "an insert may touch 100"
        await sealer.seal()
        await sealer.assert_equals_raw()
        days = {start for _, start in await sealer.sealed("1d")}
        assert days == {day_start(event_ms) for event_ms in past}, "the others are not over"

    sealing_at(scenario)
