"""Faults of many kinds, on real Kafka, store, workers and web: whatever strikes, everything is counted, once.

Each run prints what it does. `python -m tests.faults.run --seed SEED --faults 14` repeats one.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.kinds import KINDS
from tests.faults.run import Report, run

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.embedded]
pytest.importorskip("chdb")

FAULTS = 14
"""Of each run; three runs have to have 40 in all."""
EVENTS = 4000
RATE = 150.0
NOT_IN_CI = {"topic made anew"}
"""Rows of a flush that it cuts off between rows and ledger count once their interval is sealed; the oracle expects them
at once."""


@pytest.mark.timeout(280)
@pytest.mark.parametrize("seed", ["1", "2", pytest.param(str(time.time_ns()), id="random")])
def test_everything_is_counted_once_whatever_strikes(
    seed: str, kafka_installed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print()
        report: Report = run(
            tmp_path, seed=seed, faults=FAULTS, events=EVENTS, rate=RATE, kinds=sorted(set(KINDS) - NOT_IN_CI)
        )
        print(report.table())
    assert report.counted.total() >= FAULTS
    assert len(report.counted) >= 8
