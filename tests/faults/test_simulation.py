"""The pipeline's own code under random schedules: crashes, replays, zombies, restored stores, late and repeated events.

Then again with one defence taken away at a time: each has to be missed within so many schedules.
"""

from __future__ import annotations
import __future__

import inspect
import multiprocessing
import os
import random
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest

from pipeline import seal
from pipeline.deduplicate import IdentityMemory
from pipeline.flow import Flow
from pipeline.sink import Sink
from pipeline.window import Window
from schemas.topics import Topic
from tests.faults.simulation import SimulatedStore, first_failure
from tests.model_store import Row

SCHEDULES = 100_000
FOUND_WITHIN = 30_000
"""Schedules until a missing defence has to be noticed."""
USUAL = (
    *("crash", "replay", "zombie", "duplicate", "duplicate elsewhere", "late", "beside another", "malformed"),
    *("refused", "reply lost", "timed out", "left in flight", "stalls", "restart", "merge", "sealer dies"),
    "store restored",
)


@pytest.mark.timeout(900)
def test_whatever_happens_in_whatever_order_the_stored_is_what_the_records_say() -> None:
    first = random.SystemRandom().randrange(10**9)
    print(f"seeds {first} to {first + SCHEDULES - 1}")
    parts = os.cpu_count() or 1
    with ProcessPoolExecutor(parts, mp_context=multiprocessing.get_context("spawn")) as pool:
        spans = [range(first + part, first + SCHEDULES, parts) for part in range(parts)]
        outcomes = list(pool.map(first_failure, spans))
    happened: Counter[str] = Counter()
    for failure, counts in outcomes:
        assert failure is None, failure
        happened += counts
    assert happened["schedules"] == SCHEDULES
    assert {what: happened[what] for what in USUAL if happened[what] < SCHEDULES / 5_000} == {}


# --- without a defence


@contextmanager
def edited(function: Callable[..., Any], edits: Mapping[str, str]) -> Iterator[None]:
    """Have `function` run with these parts of its source replaced."""
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in edits.items():
        assert source.count(old) == 1, f"where is this defence now? {old}"
        source = source.replace(old, new)
    namespace = dict(function.__globals__)
    exec(compile(source, "<edited>", "exec", flags=__future__.annotations.compiler_flag), namespace)  # noqa: S102
    code = function.__code__
    function.__code__ = namespace[function.__name__].__code__  # type: ignore[attr-defined]
    try:
        yield
    finally:
        function.__code__ = code  # type: ignore[attr-defined]


class LastSnapshotHolds(SimulatedStore):
    """0005 without `max` over snapshots."""

    def newest(self, held: list[Any], other: list[Any]) -> list[Any]:
        return other


class LastRollupHolds(SimulatedStore):
    """0005 without the version of rollups."""

    def supersedes(self, row: Row, held: Row) -> bool:
        return True


class RollupsNamedWhenWritten(SimulatedStore):
    """Versions of rollups from after raw was read."""

    def append(self, table: str, rows: Iterable[Row], *, stamp_us: int) -> None:
        if table == "footfall.bot_requests_15m":
            rows = [{**row, "version": self.now_us()} for row in rows]
        super().append(table, rows, stamp_us=stamp_us)


class LastCopyHolds(SimulatedStore):
    """0002 without the version of raw rows."""

    def append(self, table: str, rows: Iterable[Row], *, stamp_us: int) -> None:
        super().append(table, rows, stamp_us=stamp_us)
        for row in self.table(Topic.BOT_REQUESTS):
            row["version"] = ()


LEDGER_WRITTEN = "await ledger.write_entries(store, flush.entries, origin=origin)\n    "


def without(name: str, function: Callable[..., Any], edits: Mapping[str, str]) -> Any:
    return pytest.param(partial(edited, function, edits), SimulatedStore, id=name)


@pytest.mark.parametrize(
    ("edit", "store"),
    [
        without("ledger skip", Flow.decode, {"if record.offset >= state.position": ""}),
        without("offset fence", Window.add, {"offset <= cell.last_offset": "False"}),
        without(
            "identity memory",
            IdentityMemory.is_duplicate,
            {"return first < offset": "return False"},
        ),
        without(
            "identity memory of who came before",
            IdentityMemory.load,
            {"self.is_duplicate(identity, offset)": "pass"},
        ),
        without("sets gain again", Window.add, {"cell.add_members(row)": "pass"}),
        without("ledger last", Sink.flush, {"# 1. ": f"{LEDGER_WRITTEN}# "}),
        without("effects again after a failure", Sink.flush, {"self.insist.failures != failures": "False"}),
        without("effects again after a pause", Sink.flush, {"monotonic() - began > QUICK_SECONDS": "False"}),
        without("look back", seal._seal_due, {"// 1000 - LOOK_BACK_MS": "// 1000"}),
        pytest.param(nullcontext, LastSnapshotHolds, id="newest snapshot"),
        pytest.param(nullcontext, LastRollupHolds, id="greatest version of a rollup"),
        pytest.param(nullcontext, RollupsNamedWhenWritten, id="version from before raw was read"),
        pytest.param(nullcontext, LastCopyHolds, id="earliest copy"),
    ],
)
def test_without_this_defence_schedules_fail(
    edit: Callable[[], AbstractContextManager[None]], store: type[SimulatedStore]
) -> None:
    with edit():
        failure, happened = first_failure(range(FOUND_WITHIN), store=store)
    assert failure is not None, "nothing depends on it"
    print(f"found after {happened['schedules']} schedules: {failure}")
