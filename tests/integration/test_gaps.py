"""Offsets that are not there to be read, on a real Kafka: recorded with their reason, counted, and in the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from prometheus_client import REGISTRY

from clickhouse.client import Store, StoreAddress, connect
from pipeline import app
from pipeline.audit import Auditor
from schemas.gap import GapReason
from schemas.topics import Topic
from tests.builders import event
from tests.fake_store import FakeStore
from tests.group import Group, eventually, stages
from tests.kafka import Kafka
from tests.records import Outgoing, everything_in, publish

pytestmark = pytest.mark.kafka

REQUESTS, USAGES, FEEDBACK = Topic
COMPACTED = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "min.cleanable.dirty.ratio": "0",
    "segment.ms": "50",
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def admin(group: Group) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=group.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def append(group: Group, topic: Topic, ids: str) -> None:
    """One event for each letter, to the same partition, with the same key."""
    values = [event(topic, event_id=name, event_time=now_ms()) for name in ids]
    records = [Outgoing(topic=group.topic(topic), value=value, key=b"k", partition=0) for value in values]
    await asyncio.to_thread(publish, group.bootstrap, records)


async def consume(group: Group, store: Store, **ends: int) -> None:
    """Let a worker run until the ledger has come to these ends of partition 0."""

    async def has_come() -> bool:
        rows = await store.rows(
            "SELECT topic, max(next_offset) FROM footfall.ledger WHERE partition = 0 GROUP BY topic"
        )
        reached = dict(rows)
        return all(reached.get(group.topic(topic), 0) >= end for topic, end in ends.items())

    async with group.worker(stages, store, now_ms=now_ms):
        await eventually(has_come, f"the ledger at {ends}")


async def lose_to_retention(group: Group, *, before: int) -> None:
    async with admin(group) as client:
        at = TopicPartition(group.topic(REQUESTS), 0)
        await client.delete_records({at: RecordsToDelete(before_offset=before)})


async def lose_to_compaction(group: Group) -> None:
    """Append until the broker has compacted what came before; it leaves the segment that is written to alone."""

    async def is_compacted() -> bool:
        await append(group, USAGES, "z")
        held = await asyncio.to_thread(everything_in, group.bootstrap, group.topic(USAGES))
        return len(held) < held[-1].offset + 1 and held[0].offset > 0

    await eventually(is_compacted, "the broker compacts", 40)


async def append_in_transactions(group: Group, **is_kept: bool) -> None:
    async with AIOKafkaProducer(bootstrap_servers=group.bootstrap, transactional_id=group.name) as producer:
        for name, keeps in is_kept.items():
            await producer.begin_transaction()
            value = event(FEEDBACK, event_id=name, event_time=now_ms())
            await producer.send_and_wait(group.topic(FEEDBACK), value, partition=0)
            await (producer.commit_transaction() if keeps else producer.abort_transaction())


def missing(reason: GapReason) -> float:
    return sum(
        REGISTRY.get_sample_value("footfall_missing_offsets_total", {"topic": topic, "reason": reason}) or 0.0
        for topic in Topic
    )


async def gaps(store: Store, group: Group, topic: Topic) -> list[tuple[int, int, str]]:
    """First offset, offset after the last, and reason of every gap in the ledger."""
    return await store.rows(
        "SELECT gap.1 AS first, gap.2, gap.3 FROM footfall.ledger ARRAY JOIN gaps AS gap"
        " WHERE topic = {topic:String} ORDER BY first",
        {"topic": group.topic(topic)},
    )


async def records(store: Store, group: Group, topic: Topic) -> int:
    """How many were consumed, by the ledger."""
    [(consumed,)] = await store.rows(
        "SELECT sum(records) FROM footfall.ledger WHERE topic = {topic:String}", {"topic": group.topic(topic)}
    )
    return int(consumed)


async def ids(store: Store, topic: Topic) -> Sequence[str]:
    rows = await store.rows(
        "SELECT event_id FROM footfall.{raw:Identifier} FINAL ORDER BY event_id", {"raw": topic}
    )
    return [event_id for (event_id,) in rows]


@pytest.mark.embedded
def test_what_retention_compaction_and_transactions_took_is_said_with_its_reason_and_the_rest_is_counted(
    kafka: Kafka, store_address: StoreAddress
) -> None:
    group = Group(kafka)

    async def run() -> None:
        async with admin(group) as client:
            await client.create_topics([NewTopic(group.topic(USAGES), 1, 1, topic_configs=COMPACTED)])
        await group.ensure_topics()
        for topic in Topic:
            await append(group, topic, "a")
        before = {reason: missing(reason) for reason in GapReason}
        async with connect(store_address) as store:
            await consume(group, store, **dict.fromkeys(Topic, 1))
            await append(group, REQUESTS, "bcdef")
            await lose_to_retention(group, before=4)
            await append(group, USAGES, "bcd")
            await lose_to_compaction(group)
            await append_in_transactions(group, b=True, c=False)
            end = (await group.ends(USAGES))[0]
            await consume(group, store, bot_requests=6, token_usages=end, bot_feedback=2)
            await append(group, FEEDBACK, "d")
            await consume(group, store, bot_feedback=6)

            assert await gaps(store, group, REQUESTS) == [(1, 4, "retention")]
            compacted = await gaps(store, group, USAGES)
            assert {reason for _, _, reason in compacted} == {"compaction"}
            lost = sum(after - first for first, after, _ in compacted)
            assert 0 < lost == end - await records(store, group, USAGES)
            # Offset 1 is b, 2 the end of its transaction, 3 and 4 the one that was aborted.
            assert await gaps(store, group, FEEDBACK) == [(2, 5, "transactions")]
            grown = {reason: missing(reason) - before[reason] for reason in GapReason}
            expected = {GapReason.RETENTION: 3, GapReason.COMPACTION: lost, GapReason.TRANSACTIONS: 3}
            assert {reason: count for reason, count in grown.items() if count} == expected

            assert await ids(store, REQUESTS) == ["a", "e", "f"]
            assert await ids(store, FEEDBACK) == ["a", "b", "d"]
            report = await Auditor(store, group.settings.broker_connection()).run()
            assert report.findings == []
            said = {topic: dict(sums.gaps) for topic, sums in report.topics.items()}
            assert said == {
                REQUESTS: {"retention": 3},
                USAGES: {"compaction": lost},
                FEEDBACK: {"transactions": 3},
            }

    asyncio.run(run())


def test_partitions_that_are_added_under_a_live_worker_are_read_from_their_beginning(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "METADATA_MAX_AGE_MS", 500)
    group = Group(kafka)

    async def run() -> None:
        store = FakeStore()
        async with group.worker(stages, store) as worker:
            await group.publish(8)
            await eventually(lambda: len(store.raw(REQUESTS)) == 8, "the first events")
            async with admin(group) as client:
                await client.create_partitions({group.topic(REQUESTS): NewPartitions(10)})
            await group.publish(20, partitions=range(10))
            await eventually(lambda: len(store.raw(REQUESTS)) == 28, "those of new partitions too", 30)
            reached = store.positions(group.topic(REQUESTS), worker.app.flows[REQUESTS].epoch, range(10))
            assert reached == {partition: 3 if partition < 8 else 2 for partition in range(10)}
            assert len(store.tables["footfall.bot_requests"]) == 28, "each was written once"

    asyncio.run(run())
