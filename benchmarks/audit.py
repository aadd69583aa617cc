"""Audit: how long `footfall audit` takes over a hundred million requests, and what memory it and the store need for it.

The store makes the rows and the ledger itself, and the product's sealer seals them; it is started anew before the
audit. No broker runs: the audit compares the ledger with rows, and rows with rollups, and has no log to compare the
ledger's end with.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import msgspec

from benchmarks import harness, history
from benchmarks.harness import Report, say
from pipeline.embedded.child import dies_with_parent
from tests.footfall import COMMAND, clean_environment
from tests.kafka import free_port


def audited(url: str, log: Path) -> tuple[dict[str, object], float, float]:
    """What the command says, how many seconds it took, and the most memory it had resident, in MB."""
    words = ["audit", "--json", "--clickhouse", url, "--broker", f"127.0.0.1:{free_port()}"]
    began = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            dies_with_parent([*COMMAND, *words]),
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    said = process.stdout.read()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # it has been waited for
    return msgspec.json.decode(said), time.monotonic() - began, used.ru_maxrss * 1024 / 1e6


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="audit", has_data=True, rows=100_000_000)
    with harness.kept(given.data) as place:
        directory = place / f"{given.rows}"
        with history.held(directory, given.rows):
            say("everything is there")
        with history.held(directory, given.rows) as held:
            idle = harness.resident_mb(held.store.pid)
            said, seconds, most = audited(held.url, directory / "audit.err")
            peak = harness.peak_resident_mb(held.store.pid)
    report = Report(name="audit", title="Audit", method=f"{__doc__.strip()}\n\n{history.DESCRIPTION}")
    report.table(
        [
            "requests", "offsets", "rows", "intervals", "days",
            "seconds", "audit, MB", "store before, MB", "store at most, MB",
        ],
        [
            [
                f"{given.rows:,}", *(f"{said[name]:,}" for name in ("offsets", "rows", "intervals", "days")),
                f"{seconds:.0f}", f"{most:.0f}", f"{idle:,.0f}", f"{peak:,.0f}",
            ]
        ],
    )  # fmt: skip
    report.say(f"{said['verdict']}")
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
