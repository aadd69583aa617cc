"""Migrations against the embedded store, and `footfall migrate` as it is called."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from clickhouse.client import Settings, Store, StoreAddress, StoreError, connect
from clickhouse.migrate import Migration, MigrationRefused, migrate, migrations, pending
from tests.footfall import Footfall, footfall
from tests.kafka import free_port
from tests.stack import eventually

pytestmark = pytest.mark.embedded

T = TypeVar("T")


class Embedded:
    """An embedded store in a process of its own."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._words = ("store", "--data-dir", directory / "data", "--store-port", str(port))
        self._directory = directory
        self.process: Footfall | None = None

    def start(self) -> None:
        self.process = Footfall(self._directory, *self._words)

    def wait(self) -> None:
        assert self.process is not None
        self.process.says("The store is ready")

    def do(self, act: Callable[[Store], Awaitable[T]]) -> T:
        """Run `act` with a connection."""

        async def connected() -> T:
            async with connect(StoreAddress(url=self.url)) as store:
                return await act(store)

        return asyncio.run(connected())

    def tables(self) -> set[str]:
        async def act(store: Store) -> set[str]:
            rows = await store.rows(
                "SELECT database || '.' || name FROM system.tables WHERE startsWith(database, 'footfall')"
            )
            return {name for (name,) in rows}

        return self.do(act)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.do(lambda store: store.rows(query))

    def run(self, statement: str) -> None:
        self.do(lambda store: store.command(statement))

    def migrate(self, known: list[Migration] | None = None) -> list[str]:
        return [migration.label for migration in self.do(lambda store: migrate(store, known))]

    def pending(self, known: list[Migration] | None = None) -> list[str]:
        return [migration.label for migration in self.do(lambda store: pending(store, known))]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    store = Embedded(tmp_path_factory.mktemp("store"), free_port())
    store.start()
    assert store.process is not None
    with store.process:
        store.wait()
        yield store


@pytest.fixture
def store(running: Embedded) -> Embedded:
    """A store without a database of ours."""
    running.run("DROP DATABASE IF EXISTS footfall SYNC")
    running.run("DROP DATABASE IF EXISTS footfall_v1 SYNC")
    return running


def migration(version: int, text: str, name: str = "test") -> Migration:
    return Migration(version=version, name=name, text=text)


ONE = migration(1, "CREATE TABLE IF NOT EXISTS footfall.a (x Int64) ENGINE = MergeTree ORDER BY x;")
TWO = migration(
    2,
    "CREATE TABLE IF NOT EXISTS footfall.b (x String DEFAULT 'a;b') ENGINE = MergeTree ORDER BY x;\n"
    "CREATE TABLE IF NOT EXISTS footfall.c (x Int64) ENGINE = MergeTree ORDER BY x;",
)
FAILING = migration(2, TWO.text.replace("footfall.c", "nowhere.c"))


def test_a_fresh_database_gets_all_of_it_and_a_second_time_nothing(store: Embedded) -> None:
    assert store.migrate() == [migration.label for migration in migrations()]
    tables = store.tables()
    assert {"footfall.bot_requests", "footfall.ledger", "footfall_v1.bot_requests_15m"} <= tables
    assert store.migrate() == []
    assert store.pending() == []
    assert store.tables() == tables


def test_a_month_that_nothing_is_written_to_becomes_one_part(store: Embedded) -> None:
    store.migrate()
    tables = store.rows(
        """SELECT name FROM system.tables WHERE database = 'footfall'
        AND engine_full LIKE '%min_age_to_force_merge_on_partition_only = 1%' ORDER BY name"""
    )
    assert [name for (name,) in tables] == [
        "bot_feedback",
        "bot_requests",
        "bot_requests_15m",
        "token_usages",
        "token_usages_15m",
    ]
    # In place of days.
    store.run("ALTER TABLE footfall.bot_requests MODIFY SETTING min_age_to_force_merge_seconds = 1")
    for _ in range(3):
        store.run(
            """INSERT INTO footfall.bot_requests (bot_id, event_ms, event_id)
            VALUES ('b', 1600000000000, toString(generateUUIDv4()))"""
        )
    parts = "SELECT count(), sum(rows) FROM system.parts WHERE active AND table = 'bot_requests'"
    eventually(lambda: store.rows(parts) == [(1, 3)], 30)


# From 128 on a state's size takes two bytes, and large ones are kept in parts.
SIZES = (0, 1, 127, 128, 300_000)


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_sets_that_were_states_are_lists_of_the_same_hashes(store: Embedded, is_cut_off: bool) -> None:
    """Also where the version before goes on to write while only the columns are there."""

    def seal(tier: str, size: int) -> None:
        store.run(
            f"""
            INSERT INTO footfall.bot_requests_{tier} (bot_id, requests, ips, chats, version)
            WITH arrayMap(number -> sipHash64(toString(number)), range({size})) AS members
            SELECT '{size}', 1, arrayReduce('uniqExactState', members),
                   arrayReduce('uniqExactState', arraySlice(members, 1, 2)), 1
            """
        )

    def flush(ip: str) -> None:
        store.run(
            f"""
            INSERT INTO footfall.bot_requests_cells
                (bot_id, interval_ms, epoch, partition, snapshot, ips_in, chats_in)
            SELECT 'b', toUnixTimestamp(today()) * 1000, toUUID('00000000-0000-0000-0000-000000000000'), 0,
                   (1, 1, 1, '{{}}', 0), ['of both', '{ip}'], []
            """
        )

    known = migrations()
    store.migrate([migration for migration in known if migration.version <= 12])
    for size in SIZES[::2]:
        seal("15m", size)
        seal("1d", size)
    flush("1")
    if is_cut_off:

        async def cut_off(connected: Store) -> None:
            with pytest.raises(StoreError):
                await migrate(DiesAfter(connected, 2 + 3))  # type: ignore[arg-type]

        store.do(cut_off)
    for size in SIZES[1::2]:
        seal("15m", size)
        seal("1d", size)
    flush("2")
    for table in ("cells", "15m", "1d"):
        store.run(f"OPTIMIZE TABLE footfall.bot_requests_{table} FINAL")

    assert store.migrate() == [migration.label for migration in known if migration.version > 12]

    flush("3")
    for tier in ("15m", "1d"):
        found = store.rows(
            f"""
            SELECT length(ip_hashes), length(chat_hashes),
                   arraySort(ip_hashes) = arraySort(arrayMap(n -> sipHash64(toString(n)), range(toUInt32(bot_id))))
            FROM footfall.bot_requests_{tier} ORDER BY toUInt32(bot_id)
            """  # noqa: S608
        )
        assert found == [(size, min(size, 2), 1) for size in SIZES]
    [(ips, expected, chats)] = store.rows(
        """
        SELECT arraySort(groupUniqArrayArray(ip_hashes)),
               arraySort(arrayMap(ip -> sipHash64(ip), ['1', '2', '3', 'of both'])),
               groupUniqArrayArray(chat_hashes)
        FROM footfall.bot_requests_cells
        """
    )
    assert (ips, chats) == (expected, [])


def test_asking_what_is_pending_changes_nothing(store: Embedded) -> None:
    assert store.pending() == [migration.label for migration in migrations()]
    assert store.tables() == set()


def test_only_what_is_new_is_applied(store: Embedded) -> None:
    assert store.migrate([ONE]) == ["0001_test"]
    assert store.pending([ONE, TWO]) == ["0002_test"]
    assert store.migrate([ONE, TWO]) == ["0002_test"]
    assert store.tables() == {"footfall.migrations", "footfall.a", "footfall.b", "footfall.c"}


def test_a_migration_that_changed_after_it_was_applied_is_refused(store: Embedded) -> None:
    store.migrate([ONE])
    changed = migration(1, ONE.text + " -- now better")
    with pytest.raises(MigrationRefused, match="0001_test is not the one that was applied here"):
        store.migrate([changed, TWO])
    assert store.tables() == {"footfall.migrations", "footfall.a"}


def test_a_database_newer_than_the_code_is_refused(store: Embedded) -> None:
    store.migrate([ONE, TWO])
    with pytest.raises(MigrationRefused, match=r"newer than this Footfall.*0002_test.*Upgrade"):
        store.migrate([ONE])


def test_a_migration_put_before_an_applied_one_is_refused(store: Embedded) -> None:
    store.migrate([TWO])
    with pytest.raises(MigrationRefused, match="0001_test was never applied"):
        store.migrate([ONE, TWO])


def test_a_rejected_statement_is_named_and_the_migration_finished_once_its_cause_is_gone(
    store: Embedded,
) -> None:
    with pytest.raises(MigrationRefused, match=r"statement 2 of migration 0002_test.*UNKNOWN_DATABASE"):
        store.migrate([ONE, FAILING])
    assert store.pending([ONE, FAILING]) == ["0002_test"]
    store.run("CREATE DATABASE nowhere")
    try:
        assert store.migrate([ONE, FAILING]) == ["0002_test"]
        assert store.pending([ONE, FAILING]) == []
    finally:
        store.run("DROP DATABASE nowhere SYNC")


def materialized(default: str) -> Migration:
    return migration(
        2,
        f"ALTER TABLE footfall.a ADD COLUMN IF NOT EXISTS y UInt8 DEFAULT {default};\n"
        "ALTER TABLE footfall.a MATERIALIZE COLUMN y;",
    )


def test_what_is_written_anew_is_waited_for(store: Embedded) -> None:
    store.migrate([ONE])
    store.run("INSERT INTO footfall.a VALUES (1), (2), (3)")
    store.migrate([ONE, materialized("sleepEachRow(0.4)")])
    assert store.rows("SELECT is_done FROM system.mutations WHERE database = 'footfall'") == [(1,)]


def test_what_cannot_be_written_anew_is_named(store: Embedded) -> None:
    store.migrate([ONE])
    store.run("INSERT INTO footfall.a VALUES (1)")
    failing = materialized("throwIf(x = 1, 'out of order')")
    with pytest.raises(MigrationRefused, match=r"statement 2 of migration 0002_test.*out of order"):
        store.migrate([ONE, failing])
    assert store.pending([ONE, failing]) == ["0002_test"]


def test_a_migration_begun_with_other_statements_is_refused(store: Embedded) -> None:
    with pytest.raises(MigrationRefused):
        store.migrate([ONE, FAILING])
    with pytest.raises(MigrationRefused, match=r"begun here with other statements and cut off half-way"):
        store.migrate([ONE, TWO])
    assert "footfall.c" not in store.tables()


class DiesAfter:
    """A store that goes away after so many commands."""

    def __init__(self, store: Store, commands: int) -> None:
        self._store, self._left = store, commands
        self.rows, self.insert = store.rows, store.insert

    async def command(self, statement: str, settings: Settings | None = None) -> None:
        if self._left == 0:
            raise StoreError("connection lost")
        self._left -= 1
        await self._store.command(statement, settings=settings)


def test_a_run_cut_off_anywhere_is_finished_by_the_next(store: Embedded) -> None:
    statements = 2 + sum(len(migration.statements) for migration in migrations())
    for survived in range(0, statements, 3):
        store.run("DROP DATABASE IF EXISTS footfall SYNC")
        store.run("DROP DATABASE IF EXISTS footfall_v1 SYNC")

        async def cut_off(connected: Store, commands: int = survived) -> None:
            with pytest.raises(StoreError):
                await migrate(DiesAfter(connected, commands))  # type: ignore[arg-type]

        store.do(cut_off)
        assert store.migrate()
        assert store.pending() == []


class Overtaken:
    """A store on which another run does all there is to do just before one of our statements."""

    def __init__(self, store: Store, statement: str) -> None:
        self._store, self._statement = store, statement
        self.rows, self.insert = store.rows, store.insert

    async def command(self, statement: str, settings: Settings | None = None) -> None:
        if self._statement in statement:
            await migrate(self._store)
        await self._store.command(statement, settings=settings)


@pytest.mark.parametrize(
    "at", ["ADD COLUMN IF NOT EXISTS ip_hashes", "MATERIALIZE", "DEFAULT []", "DROP COLUMN"]
)
def test_a_run_that_another_one_overtakes_goes_on_behind_it(store: Embedded, at: str) -> None:
    async def overtaken(connected: Store) -> None:
        await migrate(Overtaken(connected, at))  # type: ignore[arg-type]

    store.do(overtaken)
    assert store.pending() == []
    assert not store.rows("SELECT table FROM system.columns WHERE database = 'footfall' AND name = 'ips'")


def test_two_runs_at_once_do_no_harm(store: Embedded) -> None:
    async def at_once(connected: Store) -> None:
        await asyncio.gather(*(migrate(connected) for _ in range(3)))

    store.do(at_once)
    assert store.pending() == []


def test_migrate_prints_what_it_would_do_and_what_it_has_done(store: Embedded) -> None:
    words = ("migrate", "--clickhouse", store.url)
    would = footfall(*words, "--dry-run")
    assert would.returncode == 0
    assert re.findall(r"^-- (0\w+)$", would.stdout, re.MULTILINE) == [m.label for m in migrations()]
    assert "CREATE TABLE IF NOT EXISTS footfall.bot_requests" in would.stdout
    assert store.tables() == set()
    done = footfall(*words)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"applied {migration.label}" for migration in migrations()]
    again = footfall(*words)
    assert (again.returncode, again.stdout) == (0, "nothing to do: the database is at this version\n")


def test_a_refusal_exits_1_with_one_line_that_says_what_to_do(store: Embedded) -> None:
    store.migrate([ONE])
    refused = footfall("migrate", "--clickhouse", store.url)
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "0001_databases" in line
    assert "install the version" in line
    assert refused.stdout == ""


def test_migrate_waits_for_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    store = Embedded(tmp_path, free_port())
    with Footfall(tmp_path, "migrate", "--clickhouse", store.url) as run:
        deadline = time.monotonic() + 20
        while "waiting for the store" not in run.log and time.monotonic() < deadline:
            time.sleep(0.05)
        store.start()
        assert store.process is not None
        with store.process:
            assert run.process.wait(30) == 0, run.log
            assert "applied 0001_databases" in run.out
