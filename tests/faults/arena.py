"""Where faults strike: Kafka, store, web and workers as processes, a link before each worker's broker and store.

It is also the supervisor of the workers: one that ends with 70 is started again, any other end that no fault has
brought about fails the run.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Self

from pipeline.topics import BrokerConnection, ensure_topics
from tests.faults.link import Link, StoreLink
from tests.faults.traffic import Traffic
from tests.geo import DOCUMENTATION_NETWORKS, record, write_geo_database
from tests.kafka import Kafka, free_port
from tests.stack import Stack, Worker, tail

SLOTS = 3
SESSION_SECONDS = 3.0
SETTINGS = {
    "FOOTFALL_BROKER_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
    "FOOTFALL_BROKER_REBALANCE_TIMEOUT_SECONDS": "5",
    "FOOTFALL_FLUSH_INTERVAL_SECONDS": "0.2",
}
PLACES = (
    DOCUMENTATION_NETWORKS,
    {
        **DOCUMENTATION_NETWORKS,
        "198.51.100.0/24": record(country="NP", region="Gandaki Province"),
        "203.0.113.0/24": record(country="GB", city="Leeds"),
        "2001:db8::/33": record(country="JP", region="Shiga"),
        "2001:db8:8000::/33": record(country="LK"),
    },
)
"""Geo databases that take turns; see `MOVING_NETWORKS`."""
RESTART = 70
TERM_SECONDS = 30.0
"""A worker that is told to stop has ended by then."""
WORKS_AGAIN_SECONDS = 25.0
"""So long faults stay away from a worker that has not written yet since the last one."""


class Slot:
    """A place for a worker: its links, its clock, and the worker that is there now."""

    def __init__(self, number: int, store_link: StoreLink, broker_link: Link, clock: Path) -> None:
        self.number = number
        self.store_link, self.broker_link = store_link, broker_link
        self.lock = asyncio.Lock()
        """Held by the fault that is about this worker, until it works again."""
        self.worker: Worker | None = None
        self.is_wanted = False
        self.expected: set[int] = set()
        """How the worker may end, besides asking for a restart."""
        self._clock = clock
        self.set_clock(0)

    def set_clock(self, ahead_seconds: float) -> None:
        """Let the worker's clock go wrong by so much."""
        with self._clock.open("r+b" if self._clock.exists() else "wb") as clock:
            clock.write(struct.pack("d", ahead_seconds))

    @property
    def environment(self) -> dict[str, str]:
        """What its worker is started with."""
        return SETTINGS | {
            "FOOTFALL_BROKER": f"127.0.0.1:{self.broker_link.port}",
            "FOOTFALL_CLICKHOUSE": f"http://127.0.0.1:{self.store_link.port}",
            "PYTHONPATH": str(Path(__file__).parent / "clock"),
            "TEST_CLOCK": str(self._clock),
        }

    @property
    def is_running(self) -> bool:
        """Whether there is a worker that nobody has told to stop."""
        return self.is_wanted and self.worker is not None and self.worker.process.process.poll() is None

    def signal(self, how: signal.Signals, *, expected: Iterable[int] = ()) -> None:
        """Send its worker a signal, after which it may end like this."""
        assert self.worker is not None
        self.expected |= set(expected)
        self.worker.process.process.send_signal(how)

    async def works_again(self) -> None:
        """Return when the worker has written something from now on, or after a while."""
        before = self.store_link.flushes
        deadline = time.monotonic() + WORKS_AGAIN_SECONDS
        while self.is_wanted and self.store_link.flushes == before and time.monotonic() < deadline:
            await asyncio.sleep(0.05)


class Arena:
    """Everything that faults are about. Leaving the context ends it all."""

    def __init__(self, directory: Path, *, seed: str, rate: float, say: Callable[[str], None]) -> None:
        self.say = say
        self.restarts: list[str] = []
        """Why workers have asked for a restart."""
        self.store_lock, self.broker_lock = asyncio.Lock(), asyncio.Lock()
        self.slots: list[Slot] = []
        self.has_copy = False
        """Whether there is an older state of the store that can be brought back without loss."""
        self._geo_databases = 0
        self._directory = directory
        self._seed, self._rate = seed, rate
        self._leaving = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BaseException:
            await self._leaving.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leaving.aclose()

    async def _enter(self) -> None:
        directory = self._directory
        broker_ports = {free_port(): free_port() for _ in range(SLOTS)}
        self.kafka = self._leaving.enter_context(Kafka(directory / "kafka", proxies=broker_ports))
        places = write_geo_database(directory / "places.mmdb")
        self.stack = Stack(directory, self.kafka.bootstrap, name="faults", geoip_database=places)
        self._leaving.callback(self.stack.__exit__)
        self.stack.start_store()
        self.stack.run("migrate")
        store_port = int(self.stack.environment["FOOTFALL_STORE_PORT"])
        for number, (port, proxy) in enumerate(broker_ports.items(), start=1):
            store_link = await self._leaving.enter_async_context(StoreLink(free_port(), store_port))
            broker_link = await self._leaving.enter_async_context(Link(proxy, port))
            self.slots.append(Slot(number, store_link, broker_link, directory / f"clock-{number}"))
        connection = BrokerConnection(bootstrap=self.kafka.bootstrap)
        await ensure_topics(connection, prefix=self.stack.prefix)
        self.traffic = await self._leaving.enter_async_context(
            Traffic(
                self.kafka.bootstrap,
                self.stack.prefix,
                seed=self._seed,
                bots=[f"{self._seed} {bot}" for bot in ("a", "b", "c")],
                rate=self._rate,
            )
        )
        for slot in self.slots[:2]:
            self.start_worker(slot)
        await asyncio.to_thread(self.stack.start_web)

    # --- workers

    def start_worker(self, slot: Slot) -> None:
        """Let a worker run there, now and whenever it ends."""
        slot.is_wanted = True
        slot.expected.clear()
        slot.worker = self.stack.start_worker(f"worker-{slot.number}", **slot.environment)

    async def supervise(self) -> None:
        """Start workers again that have ended. Raises AssertionError where one ended as it should not."""
        while True:
            for slot in self.slots:
                if slot.worker is not None:
                    code = slot.worker.process.process.poll()
                    if code is not None:
                        self._take_end(slot, slot.worker, code)
            for part, lock in ((self.stack.store, self.store_lock), (self.stack.web, None)):
                is_alive = part.process.poll() is None or (lock is not None and lock.locked())
                assert is_alive, f"a process ended: {tail(part)}"
            await asyncio.sleep(0.02)

    def _take_end(self, slot: Slot, worker: Worker, code: int) -> None:
        if code == RESTART:
            self.restarts.append(last_words(worker))
            self.say(f"worker {slot.number} asks for a restart: {self.restarts[-1]}")
        elif code not in slot.expected:
            raise AssertionError(f"worker {slot.number} ended with {code}: {tail(worker.process)}")
        slot.worker = None
        if slot.is_wanted:
            self.start_worker(slot)

    async def ended(self, slot: Slot, worker: Worker | None = None) -> None:
        """Return when the worker that is there now, or the one given, has ended. Raises AssertionError."""
        worker = worker or slot.worker
        deadline = time.monotonic() + TERM_SECONDS
        while worker is not None and slot.worker is worker:
            assert time.monotonic() < deadline, f"a worker does not end: {tail(worker.process)}"
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def some_worker(self, random: Random, *, of_at_least: int = 1) -> AsyncIterator[Slot]:
        """One of the workers that no other fault is about; it is this one's as long as the context lasts."""
        for slot in self.slots:
            if sum(slot.is_wanted for slot in self.slots) < of_at_least and not slot.is_wanted:
                self.start_worker(slot)
        async with self._one(random, lambda slot: slot.is_running) as slot:
            yield slot

    @asynccontextmanager
    async def no_worker(self, random: Random) -> AsyncIterator[Slot]:
        """A slot that has no worker and is this one's as long as the context lasts."""
        if all(slot.is_wanted for slot in self.slots):
            async with self.some_worker(random) as slot:
                await self.stop_worker(slot)
        async with self._one(random, lambda slot: not slot.is_wanted and slot.worker is None) as slot:
            yield slot

    @asynccontextmanager
    async def _one(self, random: Random, fits: Callable[[Slot], bool]) -> AsyncIterator[Slot]:
        while not (free := [slot for slot in self.slots if fits(slot) and not slot.lock.locked()]):
            await asyncio.sleep(0.05)
        slot = random.choice(free)
        async with slot.lock:
            yield slot

    async def stop_worker(self, slot: Slot) -> None:
        """SIGTERM, and no worker there from then on."""
        slot.is_wanted = False
        slot.signal(signal.SIGTERM, expected={0})
        await self.ended(slot)

    def links(self) -> Sequence[StoreLink]:
        """The links that a flush may be on."""
        return [slot.store_link for slot in self.slots]

    # --- store

    async def start_store(self) -> None:
        """Start it on the data that is there."""
        await asyncio.to_thread(self.stack.start_store)

    def copy_store(self) -> None:
        """Keep a copy of its data, while nothing writes to it."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.stack.data, self._copy, symlinks=True)
        self.has_copy = True

    def restore_store(self) -> None:
        """Put the copy in the place of its data, while nothing reads it."""
        shutil.rmtree(self.stack.data)
        shutil.copytree(self._copy, self.stack.data, symlinks=True)

    @property
    def _copy(self) -> Path:
        return self._directory / "copy"

    # --- geography

    def replace_geo_database(self, random: Random) -> None:
        """Put the next of `PLACES` there, by rename or in place."""
        self._geo_databases += 1
        target = self._directory / "places.mmdb"
        new = random.choice((target, target.with_suffix(".new")))
        networks = PLACES[self._geo_databases % len(PLACES)]
        write_geo_database(new, networks, build_epoch=1_700_000_000 + self._geo_databases)
        new.replace(target)

    # --- how far it is

    async def lag(self) -> int:
        """Records that the broker has acknowledged and the ledger does not have."""
        return self.traffic.lag(await asyncio.to_thread(self.ledger))

    def ledger(self) -> dict[tuple[str, int], int]:
        """Where the ledger stands, by (epoch, partition)."""
        rows = self.stack.sql(
            "SELECT epoch, partition, max(next_offset) AS position FROM footfall.ledger GROUP BY epoch, partition"
        )
        return {(row["epoch"], row["partition"]): row["position"] for row in rows}


def last_words(worker: Worker) -> str:
    """Why a worker asked for a restart, as it said itself."""
    said = [line for line in worker.process.log.splitlines() if line.strip()]
    return re.sub(r"\x1b\[[0-9;]*m", "", said[-1]) if said else "nothing"
