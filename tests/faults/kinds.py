"""The kinds of faults. Each strikes while a flush is in flight, then undoes what it did."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from random import Random

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from pipeline.topics import BrokerConnection, ensure_topics
from schemas.topics import Topic
from tests.faults.arena import SESSION_SECONDS, Arena, Slot
from tests.faults.link import Effect, Insert, Link, Moment, StoreLink, caught
from tests.kafka import Kafka
from tests.records import commit, end_offsets

CATCH_SECONDS = 25.0
"""How long a fault waits for its moment."""
EFFECTS = (Effect.DEAD_LETTERS, Effect.ROWS, Effect.ROWS, Effect.CELLS, Effect.LEDGER)
HELD = (Moment.BEFORE, Moment.AFTER)
ANY = (*HELD, Moment.DURING)
KILLED = -signal.SIGKILL

LinkOf = Callable[[Slot], Link]
OffsetsOf = Callable[[str, str], int | dict[int, int]]
"""(bootstrap, topic) → the offset of all its partitions, or of each."""


class Missed(Exception):
    """The moment did not come, and nothing was done."""


class Fault:
    """One fault: its kind, its own randomness, and what came of it."""

    def __init__(self, arena: Arena, kind: str, seed: str) -> None:
        self.kind = kind
        self.random = Random(seed)
        self.has_struck = asyncio.Event()
        self.is_counted = False
        """Whether there was lag at its moment."""
        self._arena = arena

    async def run(self) -> None:
        """Wait for the moment, strike, and return when it is undone. Raises Missed."""
        try:
            await KINDS[self.kind](self, self._arena)
        finally:
            self.has_struck.set()

    @asynccontextmanager
    async def struck(
        self, links: Sequence[StoreLink], *, moments: Sequence[Moment] = ANY, said: str = ""
    ) -> AsyncIterator[Insert]:
        """The moment: an insert of a flush is on its way over one of these links while the fault does its work."""
        effect, moment = self.random.choice(EFFECTS), self.random.choice(moments)
        async with AsyncExitStack() as held:
            try:
                insert = await held.enter_async_context(caught(links, {effect}, moment, within=CATCH_SECONDS))
            except TimeoutError as error:
                raise Missed(f"{self.kind}: no {effect} {moment} within {CATCH_SECONDS:.0f} s") from error
            lag = await self._arena.lag()
            self.is_counted = lag > 0
            where = self._arena.links().index(insert.link) + 1
            self._arena.say(f"{self.kind}{said}: {effect} of worker {where} {moment}, lag {lag}")
            yield insert
        self.has_struck.set()


# --- workers -------------------------------------------------------------------------------------------


async def kill_worker(fault: Fault, arena: Arena) -> None:
    async with arena.some_worker(fault.random) as slot:
        async with fault.struck([slot.store_link]):
            slot.signal(signal.SIGKILL, expected={KILLED})
        await slot.works_again()


async def tell_worker_to_stop(fault: Fault, arena: Arena) -> None:
    async with arena.some_worker(fault.random) as slot:
        async with fault.struck([slot.store_link]):
            worker = slot.worker
            slot.signal(signal.SIGTERM, expected={0})
        await arena.ended(slot, worker)
        await slot.works_again()


async def make_zombie(fault: Fault, arena: Arena) -> None:
    async with arena.some_worker(fault.random, of_at_least=2) as slot:
        async with fault.struck([slot.store_link], moments=HELD):
            slot.signal(signal.SIGSTOP)
            fault.has_struck.set()
            await asyncio.sleep(SESSION_SECONDS + fault.random.uniform(1, 3))
        slot.signal(signal.SIGCONT)
        await slot.works_again()


async def add_worker(fault: Fault, arena: Arena) -> None:
    async with arena.no_worker(fault.random) as slot:
        async with fault.struck(arena.links()):
            arena.start_worker(slot)
        await slot.works_again()


async def remove_worker(fault: Fault, arena: Arena) -> None:
    async with (
        arena.some_worker(fault.random, of_at_least=2) as slot,
        fault.struck([slot.store_link]) as insert,
    ):
        insert.release()
        await arena.stop_worker(slot)


async def skew_clock(fault: Fault, arena: Arena) -> None:
    async with arena.some_worker(fault.random) as slot:
        ahead = fault.random.choice((-1, 1)) * fault.random.choice((30, 900, 86_400, 400 * 86_400))
        async with fault.struck([slot.store_link], said=f" by {ahead} s"):
            slot.set_clock(ahead)
        await asyncio.sleep(fault.random.uniform(1, 4))
        slot.set_clock(0)


# --- store ---------------------------------------------------------------------------------------------


async def kill_store(fault: Fault, arena: Arena) -> None:
    async with arena.store_lock:
        async with fault.struck(arena.links()):
            arena.stack.store.stop(signal.SIGKILL)
        if fault.random.random() < 0.5:
            await asyncio.to_thread(arena.copy_store)
        await asyncio.sleep(fault.random.uniform(0, 2))
        await arena.start_store()


async def hang_store(fault: Fault, arena: Arena) -> None:
    async with arena.store_lock:
        async with fault.struck(arena.links()):
            arena.stack.store.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(fault.random.uniform(0.5, 4))
        arena.stack.store.process.send_signal(signal.SIGCONT)


async def restore_older_store(fault: Fault, arena: Arena) -> None:
    async with arena.store_lock:
        if not arena.has_copy:
            arena.stack.store.stop(signal.SIGKILL)
            await asyncio.to_thread(arena.copy_store)
            await arena.start_store()
            await asyncio.sleep(2)
        async with fault.struck(arena.links()):
            arena.stack.store.stop(signal.SIGKILL)
        await asyncio.to_thread(arena.restore_store)
        await arena.start_store()


async def drop_reply(fault: Fault, arena: Arena) -> None:
    async with fault.struck(arena.links(), moments=(Moment.AFTER,)) as insert:
        insert.drop()


# --- links ---------------------------------------------------------------------------------------------


async def delay_link(fault: Fault, arena: Arena, link_of: LinkOf) -> None:
    """Let everything on the link take longer, for a while."""
    async with arena.some_worker(fault.random) as slot:
        seconds, lasting = fault.random.uniform(0.05, 0.6), fault.random.uniform(1, 4)
        with ExitStack() as undone:
            async with fault.struck([slot.store_link], said=f" by {seconds:.2f} s for {lasting:.1f} s"):
                undone.enter_context(link_of(slot).delayed(seconds))
            await asyncio.sleep(lasting)


async def cut_link(fault: Fault, arena: Arena, link_of: LinkOf) -> None:
    """Let nothing pass for a while, now and then longer than the worker's session lasts."""
    async with arena.some_worker(fault.random) as slot:
        link = link_of(slot)
        how = fault.random.choice((link.cut, link.silent))
        lasting = fault.random.uniform(0.5, SESSION_SECONDS + 2)
        with ExitStack() as undone:
            async with fault.struck([slot.store_link], said=f" ({how.__name__}) for {lasting:.1f} s"):
                undone.enter_context(how())
            await asyncio.sleep(lasting)
        await slot.works_again()


# --- broker --------------------------------------------------------------------------------------------


async def end_broker(fault: Fault, arena: Arena, how: Callable[[Kafka], None]) -> None:
    """End it in one way or another, and start it again on the same data."""
    async with arena.broker_lock:
        async with fault.struck(arena.links()):
            await asyncio.to_thread(how, arena.kafka)
        await asyncio.to_thread(arena.kafka.start)


async def reset_offsets(fault: Fault, arena: Arena, to: OffsetsOf) -> None:
    """Kill all workers, which nobody may do without, and commit other offsets in the name of their group."""
    async with AsyncExitStack() as ours:
        await ours.enter_async_context(arena.broker_lock)
        for slot in arena.slots:
            await ours.enter_async_context(slot.lock)
        running = [slot for slot in arena.slots if slot.is_running]
        async with fault.struck([slot.store_link for slot in running]):
            workers = [(slot, slot.worker) for slot in running]
            for slot in running:
                slot.is_wanted = False
                slot.signal(signal.SIGKILL, expected={KILLED})
        for slot, worker in workers:
            await arena.ended(slot, worker)
        for topic in Topic:
            await until_committed(arena, arena.stack.topic(topic), to)
        for slot in running:
            arena.start_worker(slot)
        await running[0].works_again()


async def until_committed(arena: Arena, topic: str, to: OffsetsOf) -> None:
    """Commit as soon as the broker knows that the group has no members."""
    bootstrap = arena.kafka.bootstrap
    while True:
        try:
            return await asyncio.to_thread(
                lambda: commit(bootstrap, arena.stack.group, topic, to(bootstrap, topic))
            )
        except KafkaError:
            await asyncio.sleep(0.2)


async def make_topic_anew(fault: Fault, arena: Arena) -> None:
    topic = fault.random.choice(list(Topic))
    async with arena.broker_lock, admin(arena) as client:
        await arena.traffic.read_back(topic)
        async with fault.struck(arena.links(), said=f" ({topic})"):
            await arena.traffic.pause()
            await arena.traffic.read_back(topic)
            await client.delete_topics([arena.stack.topic(topic)])
        while arena.stack.topic(topic) in await client.list_topics():
            await asyncio.sleep(0.05)
        await ensure_topics(BrokerConnection(bootstrap=arena.kafka.bootstrap), prefix=arena.stack.prefix)
        await arena.traffic.begin_life(topic)
        arena.traffic.go_on()
        # What only the old life held cannot be filled up again.
        arena.has_copy = False


async def add_partitions(fault: Fault, arena: Arena) -> None:
    topic = fault.random.choice(list(Topic))
    async with arena.broker_lock, admin(arena) as client:
        partitions = arena.traffic.partitions[topic] + fault.random.randint(1, 3)
        async with fault.struck(arena.links(), said=f" ({topic}: {partitions})"):
            await client.create_partitions({arena.stack.topic(topic): NewPartitions(partitions)})
        await arena.traffic.add_partitions(topic, partitions)


@asynccontextmanager
async def admin(arena: Arena) -> AsyncIterator[AIOKafkaAdminClient]:
    """An administrator's client."""
    client = AIOKafkaAdminClient(bootstrap_servers=arena.kafka.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


# --- geography -----------------------------------------------------------------------------------------


async def replace_geo_database(fault: Fault, arena: Arena) -> None:
    async with fault.struck(arena.links()):
        arena.replace_geo_database(fault.random)


# --- all of them ---------------------------------------------------------------------------------------

KINDS: Mapping[str, Callable[[Fault, Arena], Awaitable[None]]] = {
    "worker killed": kill_worker,
    "worker told to stop": tell_worker_to_stop,
    "worker becomes a zombie": make_zombie,
    "worker added": add_worker,
    "worker removed": remove_worker,
    "worker's clock skewed": skew_clock,
    "store killed": kill_store,
    "store hung": hang_store,
    "older copy of the store restored": restore_older_store,
    "reply to an insert dropped": drop_reply,
    "link to the store delayed": partial(delay_link, link_of=lambda slot: slot.store_link),
    "link to the store cut": partial(cut_link, link_of=lambda slot: slot.store_link),
    "link to the broker delayed": partial(delay_link, link_of=lambda slot: slot.broker_link),
    "link to the broker cut": partial(cut_link, link_of=lambda slot: slot.broker_link),
    "broker restarted": partial(end_broker, how=Kafka.stop),
    "broker killed": partial(end_broker, how=Kafka.kill),
    "offsets reset back": partial(reset_offsets, to=lambda bootstrap, topic: 0),
    "offsets reset forward": partial(reset_offsets, to=end_offsets),
    "topic made anew": make_topic_anew,
    "partitions added": add_partitions,
    "geo database replaced": replace_geo_database,
}
