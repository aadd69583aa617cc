"""One run: faults strike a whole Footfall while events arrive, then everything it says is held against the oracle.

`python -m tests.faults.run --seed SEED` repeats the faults of a run in their order, with their own randomness. Their
moments are the machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.arena import Arena
from tests.faults.kinds import KINDS, Fault, Missed
from tests.faults.verify import verify

DRAINED_SECONDS = 60.0
"""After the last fault everything is in the ledger by then."""
MISSES = 3
"""So many times a fault may miss its moment."""


@dataclass(kw_only=True)
class Report:
    """What struck, and what was found to be right afterwards."""

    seed: str
    counted: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)
    """Struck while there was no lag."""
    restarts: int = 0
    """Workers that asked to be started again."""
    events: int = 0
    seconds: float = 0.0
    drained_seconds: float = 0.0
    """After the last fault."""

    def table(self) -> str:
        """How many of each kind."""
        return "\n".join(f"{count:5}  {kind}" for kind, count in sorted(self.counted.items()))


def run(
    directory: Path, *, seed: str, faults: int, events: int, rate: float, kinds: Sequence[str] = ()
) -> Report:
    """Raises AssertionError where anything is not as it should be."""
    return asyncio.run(_run(directory, seed, faults, events, rate, kinds or list(KINDS)))


def planned(seed: str, faults: int, kinds: Sequence[str]) -> list[str]:
    """Kinds in random order, none of them much more often than another."""
    random = Random(seed)
    plan: list[str] = []
    while len(plan) < faults:
        plan += random.sample(kinds, len(kinds))
    return plan[:faults]


async def _run(
    directory: Path, seed: str, faults: int, events: int, rate: float, kinds: Sequence[str]
) -> Report:
    began = time.monotonic()
    report = Report(seed=seed)

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {what}", flush=True)

    print(f"seed {seed}: {faults} faults, {events} events", flush=True)
    async with Arena(directory, seed=seed, rate=rate, say=say) as arena:
        say("begins")
        supervision = asyncio.create_task(arena.supervise(), name="supervision")
        try:
            await _one_of(supervision, _strike(arena, report, planned(seed, faults, kinds)))
            struck = time.monotonic()
            await _one_of(supervision, arena.traffic.finish(events))
            for topic in arena.traffic.lives:
                await arena.traffic.read_back(topic)
            await _one_of(supervision, _drained(arena, struck + DRAINED_SECONDS))
            report.drained_seconds = time.monotonic() - struck
            say(f"drained {report.drained_seconds:.1f} s after the last fault, {arena.traffic.sent} events")
            await _one_of(supervision, asyncio.to_thread(verify, arena))
        except BaseException:
            print(arena.stack.logs())
            raise
        finally:
            supervision.cancel()
        report.restarts, report.events = len(arena.restarts), arena.traffic.sent
    report.seconds = time.monotonic() - began
    say(f"all is right: {report.counted.total()} faults of {len(report.counted)} kinds counted")
    return report


async def _one_of(supervision: asyncio.Task[None], work: object) -> None:
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    await asyncio.wait({supervision, task}, return_when=asyncio.FIRST_COMPLETED)
    if supervision.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        supervision.result()
    await task


async def _strike(arena: Arena, report: Report, plan: Sequence[str]) -> None:
    """Let faults strike one after another, each as soon as the last one has struck; return when all are undone."""
    left = deque((kind, 1) for kind in plan)
    number = 0

    async def strike(fault: Fault, attempt: int) -> None:
        try:
            await fault.run()
        except Missed as missed:
            arena.say(f"missed: {missed}")
            assert attempt < MISSES, f"{missed}, {attempt} times"
            left.append((fault.kind, attempt + 1))
        else:
            (report.counted if fault.is_counted else report.uncounted)[fault.kind] += 1
            if not fault.is_counted:
                left.append((fault.kind, attempt))

    async with asyncio.TaskGroup() as faults:
        while left:
            while arena.store_lock.locked() or arena.broker_lock.locked():
                await asyncio.sleep(0.02)
            number += 1
            kind, attempt = left.popleft()
            fault = Fault(arena, kind, f"{report.seed} {number} {kind}")
            faults.create_task(strike(fault, attempt))
            await fault.has_struck.wait()
            # One that has missed is in the queue again once its task has gone on from here.
            await asyncio.sleep(fault.random.uniform(0.01, 0.5))


async def _drained(arena: Arena, deadline: float) -> None:
    while lag := arena.traffic.lag(await asyncio.to_thread(arena.ledger)):
        assert time.monotonic() < deadline, (
            f"{DRAINED_SECONDS:.0f} s after the last fault {lag} records are left"
        )
        await asyncio.sleep(0.1)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description=__doc__)
    parser.add_argument("--seed", default=str(time.time_ns()))
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=150.0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), metavar="KIND")
    parser.add_argument("--keep", type=Path, help="a new directory, for data and logs that stay")
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="footfall-faults-") as directory:
        report = run(
            given.keep or Path(directory), seed=given.seed, faults=given.faults, events=given.events, rate=given.rate,
            kinds=given.kinds,
        )  # fmt: skip
    print(report.table())


if __name__ == "__main__":
    main()
