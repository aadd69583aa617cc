"""The batch transport on a real Kafka: what it overrides in Faust does what the worker relies on."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from faust.types import TP

from clickhouse.client import Store
from pipeline import insist, transport
from pipeline.batches import Batch
from pipeline.errors import RestartNeeded
from pipeline.topics import topic_epochs
from pipeline.worker import Health, StoreClock, Watcher
from schemas.topics import Topic
from tests.builders import event
from tests.fake_store import FakeStore
from tests.group import PARTITIONS, Group, Running, eventually, stages
from tests.kafka import Kafka
from tests.records import Outgoing, everything_in, publish

pytestmark = pytest.mark.kafka

REQUESTS, FEEDBACK = Topic.BOT_REQUESTS, Topic.BOT_FEEDBACK


class FakeLedger(FakeStore):
    """A store whose ledger says what it is told to, whatever the epoch."""

    def __init__(self, **positions: Mapping[int, int]) -> None:
        super().__init__()
        self._given = positions

    def positions(self, topic: str, epoch: str, partitions: Sequence[int]) -> dict[int, int]:
        given = self._given.get(topic.rpartition(".")[2], {})
        return {partition: given[partition] for partition in partitions if partition in given}


@pytest.fixture
def group(kafka: Kafka) -> Group:
    return Group(kafka)


# --- deliveries


def test_a_poll_is_one_delivery_per_topic_with_the_records_of_all_partitions(group: Group) -> None:
    async def run() -> None:
        await group.ensure_topics()
        for topic in Topic:
            await group.publish(800, topic=topic)
        async with group.worker() as worker:
            for topic in Topic:

                def has_all(topic: Topic = topic) -> bool:
                    return worker.delivered(topic) >= 800

                await eventually(has_all, f"all of {topic}")
        for topic in Topic:
            assert worker.offsets(topic) == {partition: list(range(100)) for partition in range(PARTITIONS)}
            assert len(worker.of(topic)) <= 10
            assert all(batch.topic == group.topic(topic) for batch in worker.of(topic))
        assert max(len(batch.partitions) for batch in worker.batches) > 1

    asyncio.run(run())


def test_what_comes_in_between_two_polls_is_gathered(group: Group) -> None:
    async def run() -> None:
        async with group.worker() as worker:
            await eventually(lambda: worker.consumer.is_resumed, "the assignment")
            for _ in range(10):
                await group.publish(8)
            await eventually(lambda: worker.delivered() >= 80, "all of it")
        assert worker.offsets() == {partition: list(range(10)) for partition in range(PARTITIONS)}
        assert len(worker.batches) <= 10

    asyncio.run(run())


def test_a_record_keeps_its_key_value_and_time(group: Group) -> None:
    async def run() -> None:
        await group.ensure_topics()
        name = group.topic(REQUESTS)
        sent = [
            Outgoing(topic=name, value=b"\xff\x00", key=b"k", partition=0),
            Outgoing(topic=name, value=None, key=b"k", partition=0),
            Outgoing(topic=name, value=b"", key=None, partition=0),
        ]
        await asyncio.to_thread(publish, group.bootstrap, sent)
        async with group.worker() as worker:
            await eventually(lambda: worker.delivered() >= 3, "the records")
        records = [record for batch in worker.batches for record in batch.partitions[0]]
        assert [(record.key, record.value) for record in records] == [
            (b"k", b"\xff\x00"),
            (b"k", None),
            (None, b""),
        ]
        assert not any(isinstance(record, ConsumerRecord) for record in records), "none was copied"
        stored = await asyncio.to_thread(everything_in, group.bootstrap, name)
        assert [record.timestamp for record in records] == [record.timestamp_ms for record in stored]

    asyncio.run(run())


def test_a_batch_is_gone_when_the_next_one_is_delivered_without_the_cyclic_collector(group: Group) -> None:
    delivered: list[weakref.ref[Batch]] = []

    async def note(worker: Running, batch: Batch) -> None:
        worker.batches.clear()
        delivered.append(weakref.ref(batch))
        batch.acknowledge()

    async def run() -> None:
        async with group.worker(note) as worker:
            await eventually(lambda: worker.consumer.is_resumed, "the assignment")
            for count in (1, 2, 3):
                await group.publish(8)
                await eventually(lambda count=count: len(delivered) >= count, "a batch")  # type: ignore[misc]
            assert delivered[0]() is None

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_while_nothing_arrives_the_broker_answers_soon_what_else_is_asked(group: Group) -> None:
    """It answers a client's requests in turn, so a fetch that it may hold for long would stand before each."""

    async def run() -> None:
        async with group.worker() as worker:
            await eventually(lambda: worker.consumer.is_resumed, "the assignment")
            async with asyncio.timeout(4):
                for _ in range(5):
                    await worker.consumer.end_offsets()

    asyncio.run(run())


# --- committing


def test_what_is_committed_is_what_was_acknowledged(group: Group) -> None:
    async def run() -> None:
        is_open = False

        async def acknowledge_when_open(_: Running, batch: Batch) -> None:
            if is_open:
                batch.acknowledge()

        await group.ensure_topics()
        await group.publish(80)
        async with group.worker(acknowledge_when_open) as worker:
            await eventually(lambda: worker.delivered() == 80, "the first records")
            await eventually(group.has_committed_zero, "where it began is committed")
            await asyncio.sleep(1.5)
            assert await group.has_committed_zero(), "and nothing that was not acknowledged"
            is_open = True
            await group.publish(80)
            await eventually(lambda: worker.delivered() == 160, "the others")

            async def is_committed() -> bool:
                return await group.committed() == await group.ends()

            await eventually(is_committed, "the end is committed")

    asyncio.run(run())


def test_each_partition_goes_on_where_the_ledger_says_and_that_is_committed(group: Group) -> None:
    async def run() -> None:
        await group.ensure_topics()
        await group.publish(80)
        held = {0: 10, 1: 3, 2: 9}

        async def nothing(_: Running, batch: Batch) -> None:
            pass

        async with group.worker(nothing, FakeLedger(bot_requests=held)) as worker:
            await eventually(lambda: worker.delivered() >= 0 + 7 + 1 + 50, "what lies beyond")

            async def is_committed() -> bool:
                expected = {partition: held.get(partition, 0) for partition in range(PARTITIONS)}
                return await group.committed() == expected

            await eventually(is_committed, "the ledger's positions")
        assert worker.offsets() == {
            1: list(range(3, 10)),
            2: [9],
            **{partition: list(range(10)) for partition in range(3, PARTITIONS)},
        }

    asyncio.run(run())


def test_what_kafka_has_committed_does_not_matter(group: Group) -> None:
    async def run() -> None:
        await group.ensure_topics()
        await group.publish(80)
        async with group.worker() as worker:
            await eventually(lambda: worker.delivered() == 80, "all")

            async def is_committed() -> bool:
                return await group.committed() == await group.ends()

            await eventually(is_committed, "the end")
        async with group.worker(store=FakeLedger(bot_requests={0: 4})) as again:
            await eventually(lambda: again.delivered() == 76, "all but four, again")
        assert again.offsets()[0] == list(range(4, 10))

    asyncio.run(run())


def test_offsets_that_the_broker_has_no_more_are_passed_over(group: Group) -> None:
    async def run() -> None:
        await group.ensure_topics()
        await group.publish(20, partitions=[0, 1])
        admin = AIOKafkaAdminClient(bootstrap_servers=group.bootstrap)
        await admin.start()
        partitions = [TopicPartition(group.topic(REQUESTS), partition) for partition in (0, 1)]
        await admin.delete_records({tp: RecordsToDelete(before_offset=6) for tp in partitions})
        await admin.close()
        async with group.worker(store=FakeLedger(bot_requests={0: 2})) as worker:
            await eventually(lambda: worker.delivered() == 8, "what is left")
            states = worker.app.flows[REQUESTS].partitions
            assert [(states[p].position, states[p].beginning) for p in (0, 1, 2)] == [
                (2, 6),
                (-1, 6),
                (-1, 0),
            ]
        assert worker.offsets() == {0: [6, 7, 8, 9], 1: [6, 7, 8, 9]}

    asyncio.run(run())


def test_a_log_that_ends_before_what_the_ledger_holds_asks_for_a_restart_and_delivers_nothing(
    group: Group,
) -> None:
    async def run() -> None:
        await group.ensure_topics()
        await group.publish(20, partitions=[0, 1])
        async with group.worker(store=FakeLedger(bot_requests={0: 11})) as worker:
            await eventually(lambda: worker.app.failure is not None, "the failure")
            assert isinstance(worker.app.failure, RestartNeeded)
            assert "end before what the ledger holds" in str(worker.app.failure)
            await asyncio.sleep(1)
            assert worker.batches == []

    asyncio.run(run())


def test_nothing_is_delivered_before_the_ledger_has_answered(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insist, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(insist, "LONGEST_PAUSE_SECONDS", 0.01)

    async def run() -> None:
        await group.ensure_topics()
        await group.publish(8)
        store = FakeLedger()
        store.queries_failing = 10**6
        async with group.worker(store=store) as worker:
            await eventually(lambda: store.queries_failing < 10**6, "the question")
            await asyncio.sleep(1)
            assert (worker.batches, worker.consumer.is_resumed) == ([], False)
            store.queries_failing = 0
            await eventually(lambda: worker.delivered() == 8, "the records")

    asyncio.run(run())


# --- assignments


def test_batches_of_an_old_assignment_are_not_current_and_acknowledge_nothing(group: Group) -> None:
    async def run() -> None:
        async def nothing(_: Running, batch: Batch) -> None:
            pass

        await group.ensure_topics()
        await group.publish(80)
        async with group.worker(nothing) as first:
            await eventually(lambda: first.delivered() == 80, "the records")
            old = list(first.batches)
            assert all(batch.is_current() for batch in old)
            async with group.worker(nothing) as second:
                await eventually(
                    lambda: second.consumer.is_resumed and first.consumer.is_resumed, "both have their share"
                )
                await eventually(lambda: second.delivered() > 0, "the second one's share")
                assert not any(batch.is_current() for batch in old)
                for batch in old:
                    batch.acknowledge()
                await asyncio.sleep(1.5)
                await eventually(group.has_committed_zero, "where it began, and nothing else, is committed")
                shares = [set(worker.app.flows[REQUESTS].partitions) for worker in (first, second)]
                assert shares[0] | shares[1] == set(range(PARTITIONS))
                assert not shares[0] & shares[1]

            def has_all() -> bool:
                return first.consumer.is_resumed and len(first.app.flows[REQUESTS].partitions) == PARTITIONS

            await eventually(has_all, "the first has all of them back")

    asyncio.run(run())


def test_no_record_of_a_topic_made_anew_is_taken_for_one_of_the_old(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offsets may go on where those of the old one ended before anybody looks."""
    is_made_anew = False

    async def epochs(
        client: AIOKafkaClient, topics: Collection[str], group: ConnectionGroup
    ) -> dict[str, UUID]:
        found = await topic_epochs(client, topics, group)
        return dict.fromkeys(found, UUID(int=1)) if is_made_anew else found

    monkeypatch.setattr(transport, "topic_epochs", epochs)

    async def run() -> None:
        nonlocal is_made_anew
        async with group.worker() as worker:
            await group.publish(8)
            await eventually(lambda: worker.delivered() == 8, "the old one's")
            is_made_anew = True
            await group.publish(8)
            await asyncio.sleep(1)
            assert worker.delivered() == 8
            is_made_anew = False  # as a broker may say that has not heard of it
            await group.publish(8)
            await asyncio.sleep(1)
            assert worker.delivered() == 8, "nothing is passed over"
            watcher = Watcher(worker.app, cast(Store, worker.store), Health(), StoreClock())
            with pytest.raises(RestartNeeded, match=r"made anew, so offsets begin again: .*\.bot_requests"):
                await watcher.observe()

    asyncio.run(run())


# --- failures


def test_after_an_agents_failure_nothing_is_acknowledged_and_the_worker_ends(group: Group) -> None:
    """Faust starts the agent again, and it takes the batches that wait: the failed one must not be passed over."""

    async def run() -> None:
        async def fail_first(running: Running, batch: Batch) -> None:
            if len(running.batches) == 1:
                await asyncio.sleep(1.5)  # more batches wait by now
                raise RuntimeError("a fault of ours")
            current.append(batch.is_current())
            batch.acknowledge()

        current: list[bool] = []
        async with group.worker(fail_first) as worker:
            await eventually(lambda: worker.consumer.is_resumed, "the assignment")
            for _ in range(4):
                await group.publish(8)
                await asyncio.sleep(0.3)
            await eventually(lambda: worker.app.failure is not None, "the failure")
            await group.publish(8)
            await asyncio.sleep(2)
            assert not any(current)
            assert set((await group.committed()).values()) == {0}
            watcher = Watcher(worker.app, cast(Store, worker.store), Health(), StoreClock())
            with pytest.raises(RestartNeeded, match="a fault of ours"):
                await watcher.observe()

    asyncio.run(run())


def test_an_end_of_a_transaction_is_no_lag_and_what_was_aborted_is_not_delivered(group: Group) -> None:
    async def run() -> None:
        async with group.worker() as worker:
            await eventually(lambda: worker.consumer.is_resumed, "the assignment")
            name = group.topic(REQUESTS)
            async with AIOKafkaProducer(
                bootstrap_servers=group.bootstrap, transactional_id=group.name
            ) as producer:
                for is_kept in (True, False, True, False):
                    await producer.begin_transaction()
                    await producer.send_and_wait(name, event(event_id=str(is_kept)), partition=0)
                    await (producer.commit_transaction() if is_kept else producer.abort_transaction())
            await eventually(lambda: worker.delivered() == 2, "what was committed")
            tp = TP(name, 0)

            async def has_no_lag() -> bool:
                ends = await worker.consumer.end_offsets()
                assert ends[tp] == 8
                return worker.consumer.reached({tp: 5})[tp] == 8

            await eventually(has_no_lag, "nothing is left to be read")
            assert worker.consumer.reached({tp: 4}) == {tp: 4}, "what is not durable yet lags"
        assert worker.offsets() == {0: [0, 4]}

    asyncio.run(run())


# --- dead letters and the whole way


def test_an_agents_whole_way_leaves_everything_once_over_workers_that_end(group: Group) -> None:
    async def run() -> None:
        await group.ensure_topics()
        store, total = FakeStore(), 0
        for _ in range(3):
            await group.publish(200)
            await group.publish(40, topic=FEEDBACK)
            malformed = Outgoing(topic=group.topic(REQUESTS), value=b"{" * 3, key=b"k", partition=3)
            await asyncio.to_thread(publish, group.bootstrap, [malformed])
            total += 200
            async with group.worker(stages, store) as worker:

                def has_all(worker: Running = worker, expected: int = total) -> bool:
                    rows, letters = len(store.raw(REQUESTS)), len(store.dead_letters())
                    return (rows, letters) == (expected, expected // 200) and worker.app.failure is None

                await eventually(has_all, "all rows and dead letters")
        assert len(store.raw(FEEDBACK)) == 120
        assert sum(snapshot[1] for snapshot, _ in store.cells(REQUESTS).values()) == total
        assert len(store.tables["footfall.bot_requests"]) == total, "each was written once"
        letters = await asyncio.to_thread(everything_in, group.bootstrap, group.topic(REQUESTS.dead_letter))
        assert [(letter.key, letter.value) for letter in letters] == [(b"k", b"{{{")] * 3
        assert {letter.headers["footfall-reason"] for letter in letters} == {"invalid_json"}
        assert {letter.headers["footfall-partition"] for letter in letters} == {"3"}

    asyncio.run(run())


# --- ports


def listening_ports() -> set[int]:
    """Ports of TCP that this process listens on."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = descriptor.readlink().name
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs Linux's /proc")
def test_faust_listens_on_no_port_and_leaves_nothing_where_it_runs(
    group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def run() -> None:
        before = listening_ports()
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1")
        [port] = listening_ports() - before
        assert port == server.sockets[0].getsockname()[1], "one that listens is found"
        server.close()
        await server.wait_closed()
        async with group.worker() as worker:
            await eventually(lambda: worker.consumer.is_resumed, "the assignment")
            assert listening_ports() <= before

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []
