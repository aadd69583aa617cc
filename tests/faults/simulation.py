"""One random schedule of everything that may go wrong, over the pipeline's own code and a store in memory.

Flow, sink, windows, memory of identities, ledger and sealer are the real ones. What is not real is the store (the
model) and what lies around: who holds which partition, which records come next, the clock, and when the store does
what it was asked for. A seed decides all of that, so a schedule that fails can be run again and read:

    python -m tests.faults.simulation SEED
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from time import monotonic
from types import coroutine
from typing import Any, cast

from clickhouse.client import Store, StoreError
from pipeline import flow, insist, sink
from pipeline import seal as sealer
from pipeline.errors import RestartNeeded
from pipeline.insist import Abandoned
from pipeline.window import Budget
from schemas.topics import Topic
from tests.builders import FakeAssignment, FakeRecord, event
from tests.fake_worker import Worker
from tests.model_store import ModelStore, Request

REQUESTS = Topic.BOT_REQUESTS
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
INTERVAL = 15 * MINUTE
GRACE = 2 * MINUTE
MAX_FUTURE = 5 * MINUTE
AHEAD = 15 * MINUTE
GUARD = 45 * SECOND
"""A row becomes readable within this of being stamped, or it may not be sealed: what the pipeline promises."""
SLOWEST_INSERT = 40 * SECOND
PUT_BACK = SECOND // 2
"""How long it takes to put a store back to an older state, at the least."""
PAUSED = 3 * SECOND
"""How long a process has been paused, at the least, that has not noticed it."""
PAUSES = tuple(int(1000 * seconds) for seconds in (0.7, 3, 3, 20, 20, 50, 240, 1020))
BEGIN_MS = int(datetime(2026, 1, 5, 23, 20, tzinfo=UTC).timestamp()) * 1000

WEIGHTS = (
    dict.fromkeys(("rebalance", "crash", "land", "merge"), 4)
    | {"work": 50, "wake": 10, "seal": 6, "append": 10, "pass time": 7},
    dict.fromkeys(("crash", "land", "kill sealer", "wake", "merge"), 2)
    | {"work": 35, "seal": 30, "append": 12, "pass time": 13},
    dict.fromkeys(("crash", "rebalance", "wake"), 2)
    | {"work": 46, "append": 18, "copy": 5, "restore": 7, "seal": 10, "pass time": 6},
)
"""How often what happens: to workers for the most part, to sealers, or to the store."""
ACTIONS = tuple([action for action, weight in weights.items() for _ in range(weight)] for weights in WEIGHTS)

Key = tuple[str, int]
"""Bot, start of the interval."""
Identity = tuple[str, int, str]
"""Bot, event time, event id."""
Rollup = dict[str, Any]
ROLLUP_FIELDS = ("requests", "last_request_ms", "by_endpoint", "ips", "chats")
"""What is compared of a rollup."""


class Discrepancy(AssertionError):
    """What is stored is not what the records say."""


# --- what the records say


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One record of a valid event."""

    bot: str
    event_ms: int
    event_id: str
    endpoint: str
    ip: str
    chat: str
    partition: int
    offset: int
    record_ms: int

    @property
    def identity(self) -> Identity:
        return self.bot, self.event_ms, self.event_id

    @property
    def value(self) -> bytes:
        return event(
            bot_id=self.bot,
            event_time=self.event_ms,
            event_id=self.event_id,
            endpoint=self.endpoint,
            ip=self.ip,
            chat_id=self.chat,
        )

    @property
    def interval(self) -> Key:
        return self.bot, self.event_ms - self.event_ms % INTERVAL


def rollups(copies: Iterable[Copy], length: int) -> dict[Key, Rollup]:
    """What is to be said of these events, by bot and interval of this length."""
    said: dict[Key, Rollup] = {}
    for copy in copies:
        key = copy.bot, copy.event_ms - copy.event_ms % length
        one = said.get(key)
        if one is None:
            one = said[key] = {
                "requests": 0, "last_request_ms": 0, "by_endpoint": {}, "ips": set(), "chats": set()
            }  # fmt: skip
        one["requests"] += 1
        one["last_request_ms"] = max(one["last_request_ms"], copy.event_ms)
        one["by_endpoint"][copy.endpoint] = one["by_endpoint"].get(copy.endpoint, 0) + 1
        one["ips"] |= {copy.ip} - {""}
        one["chats"] |= {copy.chat} - {""}
    return said


class Oracle:
    """The records, and what follows from them alone."""

    def __init__(self) -> None:
        self.copies: list[Copy] = []
        self.malformed: set[tuple[int, int]] = set()

    def events(self) -> dict[Identity, Copy]:
        """Of each event the copy that is the event: the smallest (record time, partition, offset)."""
        return {
            copy.identity: copy
            for copy in sorted(
                self.copies, key=lambda one: (one.record_ms, one.partition, one.offset), reverse=True
            )
        }

    def sealed(self, length: int = INTERVAL) -> dict[Key, Rollup]:
        """What sealed rollups say, of intervals or of days."""
        return rollups(self.events().values(), length)

    def provisional(self) -> dict[Key, Rollup]:
        """What the cells of intervals say: of each partition its events once, the first copy it held."""
        return rollups(self._firsts(), INTERVAL)

    def overtaken(self) -> set[Key]:
        """Intervals of events of which some partition's first copy is not the earliest of all.

        Once merged away it is unknown to a worker that takes the partition over, which may count another copy.
        """
        events = self.events()
        return {copy.interval for copy in self._firsts() if events[copy.identity] is not copy}

    def _firsts(self) -> Iterable[Copy]:
        firsts: dict[tuple[int, Identity], Copy] = {}
        for copy in self.copies:  # in the order of offsets
            firsts.setdefault((copy.partition, copy.identity), copy)
        return firsts.values()


# --- who does what


@coroutine
def _turn(request: Request) -> Generator[Request, None, None]:
    yield request


QUESTION = Request(what="question", asked_us=0, rows=(), apply=lambda _: None)


class SimulatedStore(ModelStore):
    """What is asked of it waits for the schedule; of mere questions a few do, which is cheaper."""

    questions = 0

    async def ask(self) -> None:
        self.questions += 1
        if self.questions % 4 == 0:
            await _turn(QUESTION)

    async def serve(self, request: Request) -> None:
        await _turn(request)


@dataclass(kw_only=True)
class Task:
    """Something on its way through the store."""

    name: str
    steps: Coroutine[Any, None, Any]
    request: Request | None = None
    """What it waits for."""
    is_applied: bool = False
    """Whether the store has done that already, and only the reply is on its way."""
    is_cut_off: bool = False
    """Whether no reply will come."""
    began_us: int
    has_failed: bool = False
    """Whether something that it asked for was not done."""
    result: Any = None


@dataclass(kw_only=True)
class Process:
    """A worker process."""

    name: str
    worker: Worker
    task: Task | None = None
    given: tuple[int, ...] = ()
    """Partitions that it was assigned and has not taken over yet."""
    cursors: dict[int, int] = field(default_factory=dict)
    """Where it reads each partition that it holds."""
    stalled: int = 0
    """For how many turns it does nothing."""


class Schedule:
    """What happens under one seed."""

    def __init__(self, seed: int, *, store: type[SimulatedStore] = SimulatedStore) -> None:
        random = self.random = Random(seed)
        self.chance = random.random
        self.trace: list[tuple[Any, ...]] | None = None
        self.happened: Counter[str] = Counter()
        self._now_us = (BEGIN_MS + random.randrange(2 * INTERVAL)) * 1000
        self.store = store(self.now_us)
        self.store.remembers_tokens = self.chance() < 0.5
        self.actions = random.choice(ACTIONS)
        self.merges = self.chance() < 0.3
        self.room = {} if self.chance() < 0.8 else {"cells": 1, "values": 6}
        """What windows may hold, where it is little."""
        self.log: dict[int, list[FakeRecord]] = {p: [] for p in range(random.choice((1, 1, 2, 2, 3)))}
        self.oracle = Oracle()
        self.ahead: set[Key] = set()
        """Intervals with an event that came before any worker held them open."""
        self._names = 0
        self.processes = [self._started(), self._started()]
        self.zombies: list[Process] = []
        """Processes whose partitions others hold, and which do not know it."""
        self.passes: list[Task] = []
        self.copied_us = 0
        self.in_flight: list[Request] = []
        """Requests whose client is gone, or has given up, and which the store may yet do."""

    # --- the clock

    def now_us(self) -> int:
        """The store's clock; never the same twice."""
        self._now_us += 1
        return self._now_us

    @property
    def now_ms(self) -> int:
        return self._now_us // 1000

    def pass_time(self, milliseconds: int) -> None:
        self.note("time passes", milliseconds)
        self._now_us += milliseconds * 1000

    def note(self, *what: Any) -> None:
        self.happened[what[0]] += 1
        if self.trace is not None:
            self.trace.append((self.now_ms - BEGIN_MS, *what))

    # --- records

    def append(self) -> None:
        """A producer sends something, in any order of event times."""
        random, chance = self.random, self.chance()
        partition = random.randrange(len(self.log))
        offset = len(self.log[partition])
        record_ms = self.now_ms - random.choice((0, 0, 0, 500, 40 * SECOND))
        if chance < 0.08:
            value = random.choice((b"", b"{", b'{"bot_id": "a"}'))
            self.oracle.malformed.add((partition, offset))
            self.note("malformed", partition, offset)
        else:
            if chance < 0.45 and self.oracle.copies:
                earlier = random.choice(self.oracle.copies)
                bot, event_ms, event_id = earlier.identity
                if self.chance() < 0.6 and record_ms + MAX_FUTURE >= event_ms:
                    partition = earlier.partition
                    offset = len(self.log[partition])
                kind = "duplicate" if partition == earlier.partition else "duplicate elsewhere"
            else:
                bot, event_id = random.choice("aab"), f"e{len(self.oracle.copies)}"
                if chance < 0.65 and self.oracle.copies:
                    kind = "beside another"
                    neighbour = random.choice(self.oracle.copies)
                    bot, event_ms = neighbour.bot, min(neighbour.event_ms + 1, record_ms)
                elif chance > 0.97:
                    kind = "far ahead"
                    record_ms += 40 * MINUTE
                    event_ms = record_ms
                elif chance > 0.77:
                    kind = "late"
                    event_ms = record_ms - random.choice((16 * MINUTE, HOUR, HOUR, HOUR, DAY, 40 * DAY))
                else:
                    kind = "event"
                    event_ms = record_ms - random.choice((0, 1, SECOND, 5 * MINUTE, 14 * MINUTE, -4 * MINUTE))
            copy = Copy(
                bot=bot,
                event_ms=event_ms,
                event_id=event_id,
                endpoint=random.choice(("api", "widget")),
                ip=random.choice(("", "192.0.2.1", "192.0.2.2")),
                chat=random.choice(("", "c", f"c{offset}")),
                partition=partition,
                offset=offset,
                record_ms=record_ms,
            )
            value = copy.value
            if event_ms > record_ms + MAX_FUTURE:
                kind = "malformed"
                self.oracle.malformed.add((partition, offset))
            else:
                self.oracle.copies.append(copy)
                if copy.interval[1] > self.now_ms - 2 * SECOND + AHEAD:
                    self.ahead.add(copy.interval)
            self.note(kind, copy)
        self.log[partition].append(FakeRecord(offset=offset, value=value, timestamp=record_ms))

    # --- processes

    def _started(self) -> Process:
        self._names += 1
        behind_ms = self.random.randrange(2 * SECOND)
        return Process(
            name=f"worker {self._names}",
            worker=Worker(self.store, now_ms=lambda: self._now_us / 1000 - behind_ms),
        )

    def rebalance(self) -> None:
        """The group gives the partitions out anew. Who had some hears of it, or does not yet."""
        for number, process in enumerate(self.processes):
            held = process.task is not None or process.cursors
            if held and len(self.zombies) < 2 and self.chance() < 0.4:
                self.note("zombie", process.name)
                self.zombies.append(process)
                self.processes[number] = self._started()
        given: dict[int, list[int]] = {0: [], 1: []}
        alone = self.chance() < 0.4
        for partition in self.log:
            given[0 if alone else self.random.randrange(2)].append(partition)
        for number, process in enumerate(self.processes):
            self._assign(process, given[number])

    def _assign(self, process: Process, partitions: list[int]) -> None:
        self.note("assigned", process.name, partitions)
        process.worker.assignment.is_current = False
        process.worker.assignment = FakeAssignment()
        process.given = tuple(partitions)
        process.cursors = {}

    def crash(self, number: int) -> None:
        """A process ends; another one takes its place, and waits for partitions."""
        process = self.processes[number]
        self.note("crash", process.name)
        if process.task is not None:
            self._leave(process.task)
        self.processes[number] = self._started()

    def _leave(self, task: Task) -> None:
        """Nobody waits for it any more; what it asked of the store may have been done, may yet be, or never will."""
        if task.request not in (None, QUESTION) and not (task.is_applied or task.is_cut_off):
            chance = self.chance()
            if chance < 0.3:
                self._apply(task.request)
            elif chance < 0.8:
                self.note("left in flight", task.name, task.request.what)
                self.in_flight.append(task.request)
        task.steps.close()

    def work(self, process: Process) -> bool:
        """Take one step: begin something, or go on with it. False: it has nothing to do."""
        if process.stalled:
            process.stalled -= 1
            return True
        if process.task is not None:
            self._go_on_with(process)
            return True
        if process.given:
            self.note("takes over", process.name, process.given)
            partitions, process.given = process.given, ()
            self._begin(process, "resume", process.worker.resume(*partitions))
            return True
        batch: dict[int, list[FakeRecord]] = {}
        most = self.random.choice((1, 2, 4, 9)) if self.is_faulty else 9
        for partition, cursor in process.cursors.items():
            if records := self.log[partition][cursor : cursor + most]:
                batch[partition] = records
                process.cursors[partition] = cursor + len(records)
        if not batch:
            return False
        self.note(
            "batch",
            process.name,
            {partition: (records[0].offset, records[-1].offset) for partition, records in batch.items()},
        )
        self._begin(process, "consume", process.worker.consume(batch))
        return True

    def _begin(self, process: Process, what: str, steps: Coroutine[Any, None, Any]) -> None:
        process.task = Task(name=f"{process.name} {what}", steps=steps, began_us=self._now_us)
        self._go_on_with(process)

    def _go_on_with(self, process: Process) -> None:
        task = cast(Task, process.task)
        try:
            if not self._step(task):
                if self.is_faulty and self.chance() < 0.15:
                    self.note("stalls", process.name)
                    process.stalled = self.random.randrange(8)
                return
        except Abandoned:
            process.task = None
            return
        except RestartNeeded as error:
            self.note("restart", process.name, error)
            process.task = None
            self._replace(process)
            return
        except Exception as error:
            raise Discrepancy(f"{process.name} fails: {error!r}") from error
        process.task = None
        if task.result is not None and not process.given:
            process.cursors = {partition: max(position, 0) for partition, position in task.result.items()}
            if self.chance() < 0.25:
                self.replay(process)

    def replay(self, process: Process) -> None:
        """The broker gives out again what it gave out before."""
        for partition, cursor in process.cursors.items():
            process.cursors[partition] = self.random.randrange(cursor + 1)
        self.note("replay", process.name, dict(process.cursors))

    def _replace(self, process: Process) -> None:
        if process in self.zombies:
            self.zombies.remove(process)
        else:
            self.processes[self.processes.index(process)] = self._started()

    # --- requests to the store

    def _apply(self, request: Request) -> None:
        self.note("done", request.what, request.rows)
        late = self._now_us - request.asked_us > SLOWEST_INSERT * 1000
        request.apply(self.now_us() if late else request.asked_us)

    def _step(self, task: Task) -> bool:
        """Let the store do what the task waits for, or not, and let the task go on. True: it has ended."""
        request, error = task.request, None
        if task.is_cut_off:
            task.is_cut_off, error = False, StoreError("away")
        elif request is not None:
            chance = self.chance()
            if chance > 0.85 and self.is_faulty:
                if chance < 0.92:
                    if not task.is_applied:
                        self._apply(request)
                        task.is_applied = True
                    return False
                error = StoreError("away")
                if chance < 0.95:
                    self.note("refused", task.name, request.what)
                elif chance < 0.975:
                    self.note("reply lost", task.name, request.what)
                    if not task.is_applied:
                        self._apply(request)
                elif not task.is_applied:
                    self.note("timed out", task.name, request.what)
                    self.in_flight.append(request)
            elif not task.is_applied:
                self._apply(request)
        task.is_applied = False
        task.has_failed |= error is not None
        try:
            task.request = task.steps.send(None) if error is None else task.steps.throw(error)
        except StopIteration as end:
            task.result = end.value
            return True
        return False

    def restore(self) -> None:
        """Put the store back to what it was when it was copied.

        Connections break: nothing lands any more that was asked of the later one. Of its replies some are read, where
        they had arrived and the process was paused since; but not in a flush that has failed or taken long already:
        it writes everything again once, not twice. Nor in a pass of the sealer that began before the copy was made: the
        copy holds what it queued, and perhaps not what it sealed.
        """
        self.note("store restored")
        self.store.go_back_to_copy()
        before_us, was_paused = self._now_us, self.chance() < 0.5
        self.pass_time(PAUSED if was_paused else PUT_BACK)
        self.in_flight.clear()
        tasks = [process.task for process in (*self.processes, *self.zombies) if process.task]
        for task in (*tasks, *self.passes):
            if task.request is not None:
                is_straight = not task.has_failed and before_us - task.began_us < SECOND * 1000
                is_straight &= task not in self.passes or task.began_us > self.copied_us
                has_reply = task.request is not QUESTION and (task.is_applied or self.chance() < 0.5)
                task.is_applied = was_paused and is_straight and has_reply
                task.is_cut_off = not task.is_applied

    # --- the sealer

    def seal(self, number: int) -> None:
        """Begin a pass, or go on with one."""
        if number >= len(self.passes):
            self.note("seal")
            steps = sealer.seal(cast(Store, self.store), REQUESTS, partitions=len(self.log))
            self.passes.append(Task(name="sealer", steps=steps, began_us=self._now_us))
            number = -1
        task = self.passes[number]
        turns = self.random.choice((1, 1, 20))
        try:
            while not (has_ended := self._step(task)) and turns:
                turns -= 1
                if task.request is not QUESTION and self.chance() < 0.05 * len(task.request.rows):
                    self.note("pass given up", task.request.what)
                    self.in_flight.append(task.request)
                    task.steps.close()
                    has_ended = True
                    break
        except StoreError:
            has_ended = True
        if has_ended:
            self.note("sealed")
            self.passes.remove(task)

    # --- the whole of it

    is_faulty = True

    def run(self) -> None:
        """All of it. Raises Discrepancy."""
        random = self.random
        flow.Budget = partial(Budget, **self.room)
        sink.monotonic = lambda: self._now_us / 1e6
        for _ in range(random.randrange(1, 4)):
            self.append()
        self.rebalance()
        for _ in range(random.choice((5, 10, 20, 40))):
            self._act()
        self._settle()

    def _act(self) -> None:
        random, action = self.random, self.random.choice(self.actions)
        if action == "work":
            self.work(random.choice(self.processes))
        elif action == "seal":
            self.seal(random.randrange(2))
        elif action == "append":
            self.append()
        elif action == "pass time":
            self.pass_time(random.choice(PAUSES))
        elif action == "rebalance":
            self.rebalance()
        elif action == "crash":
            self.crash(random.randrange(2))
            self.rebalance()
        elif action == "kill sealer" and self.passes:
            self.note("sealer dies")
            self._leave(self.passes.pop())
        elif action == "wake" and self.zombies:
            zombie = random.choice(self.zombies)
            if self.chance() < 0.1:
                zombie.worker.assignment.is_current = False
            elif not self.work(zombie) or not zombie.worker.assignment.is_current:
                self._bury(zombie)
        elif action == "land" and self.in_flight:
            self._apply(self.in_flight.pop(random.randrange(len(self.in_flight))))
        elif action == "merge" and self.merges:
            self.note("merge")
            self.store.merge()
        elif action == "copy":
            self.note("store copied")
            self.store.keep_copy()
            self.copied_us = self._now_us
        elif action == "restore" and self.store.has_copy:
            self.restore()

    def _bury(self, zombie: Process) -> None:
        if zombie in self.zombies and zombie.task is None:
            self.zombies.remove(zombie)

    def _settle(self) -> None:
        """Everything ends, or is let end; then what is stored has to be what the records say."""
        for task in self.passes:
            self._leave(task)
        for process in [*self.zombies, *self.processes]:
            if process.task is not None:
                self._leave(process.task)
        self._land(0.5)
        self.is_faulty = False
        self._drain()
        if self.chance() < 0.3:
            self.pass_time(GUARD)
            self._sealed_anew()
        self._land(1)
        self._check_rows()
        self._check_ledger()
        self.sealed, self.provisional = self.oracle.sealed(), self.oracle.provisional()
        self.lax = self.ahead | self.oracle.overtaken() if self.merges else self.ahead
        # Until a moment ago rows may have come that were stamped a while before.
        self.pass_time(GUARD + SECOND)
        self._check_rollups("soon")
        if self.chance() < 0.5:
            self.pass_time(2 * INTERVAL + self.random.randrange(30) * MINUTE)
            self._check_rollups("once all is due")
            if self.chance() < 0.2:
                self.pass_time(DAY)
                self._check_rollups("a day later")
                self._check_days()

    def _land(self, share: float) -> None:
        """So much of what is in flight is done by the store, or is lost."""
        for request in self.random.sample(self.in_flight, int(len(self.in_flight) * share)):
            self.in_flight.remove(request)
            if self.chance() < 0.7:
                self._apply(request)

    def _drain(self) -> None:
        """One process takes everything over and consumes to the end."""
        for _ in range(10):
            process = self._started()
            self.processes = [process]
            self._assign(process, list(self.log))
            while process in self.processes and (process.task or process.given or self.work(process)):
                if process.task or process.given:
                    self.work(process)
            if process in self.processes:
                return
        raise Discrepancy("never came to the end")

    # --- what has to hold

    def _expect(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            raise Discrepancy(f"{what}: found {found}, expected {expected}")

    def _check_rows(self) -> None:
        """Raw rows are the earliest copies, dead letters the malformed."""
        found = {
            key: (row["record_ms"], row["source_partition"], row["source_offset"], row["endpoint"], row["ip"])
            for key, row in self.store.raw(REQUESTS).items()
        }
        expected = {
            identity: (copy.record_ms, copy.partition, copy.offset, copy.endpoint, copy.ip)
            for identity, copy in self.oracle.events().items()
        }
        self._expect("raw rows", found, expected)
        self._expect("dead letters", self.store.dead_letters().keys(), self.oracle.malformed)

    def _check_ledger(self) -> None:
        """From where it ends, rows lead back to the beginning, each record in one of them."""
        rows = self.store.ledger()
        for partition, log in self.log.items():
            by_end = {row["next_offset"]: row for row in rows if row["partition"] == partition}
            self._expect(f"end of the ledger of {partition}", max(by_end, default=0), len(log))
            end = len(log)
            while end:
                row = by_end.get(end)
                if row is None:
                    raise Discrepancy(f"no row of the ledger of {partition} ends at {end}: {by_end}")
                malformed = sum(
                    (partition, at) in self.oracle.malformed for at in range(row["position"], end)
                )
                self._expect(f"records of {row}", row["records"], end - row["position"])
                self._expect(f"dead letters of {row}", row["dead_letters"], malformed)
                self._expect(f"sum of {row}", row["events"] + row["duplicates"], row["records"] - malformed)
                end = row["position"]

    def _sealed_anew(self) -> int:
        """A pass that nothing disturbs; before when intervals were due."""
        due_before = (self.now_ms - GRACE) // INTERVAL * INTERVAL
        steps = sealer.seal(cast(Store, self.store), REQUESTS, partitions=len(self.log))
        task = Task(name="sealer", steps=steps, began_us=self._now_us)
        while not self._step(task):
            pass
        return due_before

    def _check_rollups(self, when: str) -> None:
        """Intervals that are due, or were sealed before, say what rows say; others what their partitions hold."""
        due_before = self._sealed_anew()
        found, sealed_keys = self.store.visible(), self.store.rollups("15m")
        for key in self.sealed.keys() | found.keys():
            is_sealed = key in sealed_keys
            if key[1] < due_before and not is_sealed:
                raise Discrepancy(f"{when}: {key} is due and not sealed")
            if not is_sealed and key in self.lax:
                continue
            expected = (self.sealed if is_sealed else self.provisional)[key]
            if key not in found:
                raise Discrepancy(f"{when}: nothing of {key}, expected {expected}")
            seen = {name: found[key][name] for name in expected}
            self._expect(f"{when}: {'sealed' if is_sealed else 'provisional'} {key}", seen, expected)

    def _check_days(self) -> None:
        over = (self.now_ms - GRACE) // DAY * DAY
        expected = {key: day for key, day in self.oracle.sealed(DAY).items() if key[1] < over}
        found = {
            key: {name: row[name] for name in ROLLUP_FIELDS} for key, row in self.store.rollups("1d").items()
        }
        self._expect("days", found, expected)


@contextmanager
def simulated() -> Iterator[None]:
    """Nothing pauses, nothing is logged, and a statement seals few intervals in here."""
    pause, most = insist.FIRST_PAUSE_SECONDS, sealer.MAX_INTERVALS
    insist.FIRST_PAUSE_SECONDS, sealer.MAX_INTERVALS = 0, 2
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        insist.FIRST_PAUSE_SECONDS, sealer.MAX_INTERVALS = pause, most
        flow.Budget, sink.monotonic = Budget, monotonic
        logging.disable(logging.NOTSET)


def first_failure(
    seeds: Iterable[int], *, store: type[SimulatedStore] = SimulatedStore
) -> tuple[Discrepancy | None, Counter[str]]:
    """Run schedules until one fails; why, and what happened in all of them, `schedules` among it."""
    happened: Counter[str] = Counter()
    with simulated():
        for seed in seeds:
            schedule = Schedule(seed, store=store)
            try:
                schedule.run()
            except Discrepancy as why:
                return Discrepancy(
                    f"{why}\nAgain, step by step: python -m tests.faults.simulation {seed}"
                ), happened
            finally:
                happened["schedules"] += 1
                happened.update(schedule.happened)
    return None, happened


def main(seed: int) -> int:
    """Run one schedule and print what happens in it."""
    with simulated():
        schedule = Schedule(seed)
        schedule.trace = []
        try:
            schedule.run()
        except Discrepancy as why:
            verdict = str(why)
        else:
            verdict = ""
        for at, what, *details in schedule.trace:
            print(f"{at / 1000:12.3f} s  {what}", *details)
        print(verdict or "All that is stored is what the records say.")
    return 1 if verdict else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
