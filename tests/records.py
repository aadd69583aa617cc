"""Records of a topic, written and read back with plain clients: what happened, told by nobody but the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

PACE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record as the broker holds it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """The record's own time."""
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A record to be written."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    """None: the key's, or any."""


async def _send(producer: AIOKafkaProducer, records: Iterable[Outgoing]) -> None:
    sent = [
        await producer.send(record.topic, record.value, key=record.key, partition=record.partition)
        for record in records
    ]
    await asyncio.gather(*sent)


def publish(bootstrap: str, records: Iterable[Outgoing]) -> None:
    """Write the records in this order, and return when the broker has acknowledged all."""

    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=10) as producer:
            await _send(producer, records)

    asyncio.run(run())


def publish_as_one_batch(bootstrap: str, records: Sequence[Outgoing]) -> None:
    """Write records of one partition so that they are delivered together, or none of them."""

    async def run() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", max_batch_size=1 << 20
        ) as producer:
            batch = producer.create_batch()
            for record in records:
                assert batch.append(key=record.key, value=record.value, timestamp=None), (
                    "too much for one batch"
                )
            await (await producer.send_batch(batch, records[0].topic, partition=records[0].partition))

    asyncio.run(run())


class Publishing:
    """Writes records at an even pace, in a thread, while the context lasts; the rest at once when it is left."""

    def __init__(self, bootstrap: str, records: Sequence[Outgoing], *, seconds: float) -> None:
        """`seconds` is how long all of them would take."""
        self._bootstrap = bootstrap
        self._records = records
        self._seconds = seconds
        self._error: BaseException | None = None
        self._is_left = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    @property
    def is_going_on(self) -> bool:
        """Whether there are records still to be written."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._publish())
        except BaseException as error:
            self._error = error

    async def _publish(self) -> None:
        size = max(1, round(len(self._records) * PACE_SECONDS / self._seconds))
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", linger_ms=5) as producer:
            for start in range(0, len(self._records), size):
                await _send(producer, self._records[start : start + size])
                if not self._is_left.is_set():
                    await asyncio.sleep(PACE_SECONDS)


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """The position after the last record of each partition."""

    async def run() -> dict[int, int]:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            ends = await consumer.end_offsets(await _partitions(consumer, topic))
        return {partition.partition: end for partition, end in ends.items()}

    return asyncio.run(run())


def everything_in(bootstrap: str, topic: str) -> list[Record]:
    """All records that the topic holds, partition by partition."""
    return asyncio.run(records_after(bootstrap, topic, {}))


async def records_after(bootstrap: str, topic: str, positions: Mapping[int, int]) -> list[Record]:
    """The topic's records from these positions on, or from the first one held, to its end as it is now."""
    found: list[Record] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20
    ) as consumer:
        partitions = await _partitions(consumer, topic)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        for partition in partitions:
            if partition.partition in positions:
                consumer.seek(partition, positions[partition.partition])
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            delivered = await consumer.getmany(timeout_ms=1000)
            found += [_record(record) for records in delivered.values() for record in records]
    return sorted(found, key=lambda record: (record.partition, record.offset))


def commit(bootstrap: str, group: str, topic: str, offset: int | Mapping[int, int]) -> None:
    """Commit `offset` for every partition of the topic, on behalf of a group that has no members now."""

    async def run() -> None:
        async with AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
        ) as consumer:
            partitions = await _partitions(consumer, topic)
            consumer.assign(partitions)
            await consumer.commit(
                dict.fromkeys(partitions, offset)
                if isinstance(offset, int)
                else {partition: offset[partition.partition] for partition in partitions}
            )

    asyncio.run(run())


def committed(bootstrap: str, group: str, topic: str) -> dict[int, int | None]:
    """What a group has committed, by partition."""

    async def run() -> dict[int, int | None]:
        async with AIOKafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
        ) as consumer:
            partitions = await _partitions(consumer, topic)
            consumer.assign(partitions)
            return {partition.partition: await consumer.committed(partition) for partition in partitions}

    return asyncio.run(run())


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    await consumer._client.set_topics([topic])
    numbers = consumer.partitions_for_topic(topic)
    assert numbers, f"the broker has no topic {topic}"
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def _record(record: Any) -> Record:
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers={name: value.decode() for name, value in record.headers},
    )
