"""What a power cut leaves of a store: files that were not brought to the disk yet are there, and empty.

The store is killed, what it has written since a moment is emptied, and it is started again. A real cut may take less.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from clickhouse import ledger
from clickhouse.client import Store
from pipeline.audit_report import Kind, summary
from schemas.topics import Topic
from tests.integration.test_audit import TABLES, Deployment, found, undisturbed
from tests.integration.test_migrate import Embedded
from tests.kafka import free_port

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")


class Machine:
    """A store with its tables, whose power can be cut."""

    def __init__(self, directory: Path) -> None:
        self._store = Embedded(directory, free_port())
        self._store.start()
        self._store.wait()
        self._store.migrate()
        self._now_ms = int(self._store.do(ledger.now_ms))
        self._ends: dict[Topic, dict[int, int]] = {}

    def do(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[Deployment], Awaitable[None]]) -> None:
        """Do something with the store as it is now."""

        async def with_store(store: Store) -> None:
            deployment = Deployment(store, self._now_ms, ends=self._ends)
            undisturbed(deployment, monkeypatch)
            await act(deployment)

        self._store.do(with_store)

    def cut(self, *tables: str, since: float) -> None:
        """Cut its power: of these tables nothing that was written since then is on the disk. Then start it again."""
        places = self._store.do(lambda store: _places(store, tables))
        self.stop(signal.SIGKILL)
        emptied = 0
        for place in places:
            for part in place.iterdir():
                # The engine sets mtime, nobody sets ctime.
                if re.search(r"_\d+$", part.name) and part.stat().st_ctime >= since:
                    for file in filter(Path.is_file, part.rglob("*")):
                        os.truncate(file, 0)
                    emptied += 1
        assert emptied, "nothing was lost"
        self._store.start()
        self._store.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self._store.process is not None
        self._store.process.stop(how)


async def _places(store: Store, tables: tuple[str, ...]) -> list[Path]:
    rows = await store.rows("SELECT name, data_paths FROM system.tables WHERE database = 'footfall'")
    return [Path(path) for name, paths in rows if name in tables for path in paths]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


async def is_whole(deployment: Deployment) -> None:
    """Everything that was consumed is there, and an audit finds nothing."""
    report = await deployment.audit()
    assert report.findings == [], summary(report)
    for topic, sums in report.topics.items():
        assert (sums.rows, sums.duplicates, sums.dead_letters) == (108, 11, 6), topic


def test_what_a_merge_had_in_memory_is_still_there_in_the_parts_that_it_merged(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.do(monkeypatch, Deployment.consume_all)
    time.sleep(0.1)
    merging = time.time()

    async def merge(deployment: Deployment) -> None:
        # Long after the system has written what it holds in memory.
        [(kept,)] = await deployment.store.rows(
            "SELECT toUInt32(value) FROM system.merge_tree_settings WHERE name = 'old_parts_lifetime'"
        )
        assert kept == 120
        for table in TABLES:
            await deployment.sql(f"OPTIMIZE TABLE footfall.{table} FINAL")

    machine.do(monkeypatch, merge)
    machine.cut(*TABLES, since=merging)
    machine.do(monkeypatch, is_whole)


def test_rows_that_a_power_cut_took_are_found_and_consumed_again_though_the_ledger_had_passed_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def consume_some(deployment: Deployment) -> None:
        for topic in Topic:
            await deployment.consume(topic, *deployment.batches(topic)[:1])
        await deployment.seal()

    machine.do(monkeypatch, consume_some)
    time.sleep(0.1)
    since = time.time()
    machine.do(monkeypatch, Deployment.consume_all)
    machine.cut(*Topic, "bot_requests_15m", "token_usages_1d", "dead_letters", since=since)

    async def mend(deployment: Deployment) -> None:
        kinds = {kind for kind, _ in found(await deployment.audit())}
        assert {Kind.LOST_ROW, Kind.LOST_DEAD_LETTER} <= kinds
        repairer = await deployment.mend()
        assert repairer.is_waiting
        await deployment.consume_all()
        await deployment.mend()  # rollups are left alone until rows are there again
        await is_whole(deployment)

    machine.do(monkeypatch, mend)
