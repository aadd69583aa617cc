"""What the broker has accepted and the store does not hold yet."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from clickhouse import ledger
from clickhouse.client import StoreAddress, StoreError, connect
from pipeline.errors import FootfallError
from pipeline.topics import BrokerConnection, broker_client, topic_epochs
from schemas.topics import Topic


async def undurable(connection: BrokerConnection, address: StoreAddress, *, prefix: str) -> int | None:
    """How many records of the three topics the ledger does not account for; None when nobody can say."""
    try:
        return await _undurable(connection, address, [prefix + topic for topic in Topic])
    except (FootfallError, KafkaError, StoreError):
        return None


async def _undurable(connection: BrokerConnection, address: StoreAddress, sources: list[str]) -> int:
    async with broker_client(connection) as client:
        epochs = await topic_epochs(client, sources)
    consumer = AIOKafkaConsumer(*sources, **connection.aiokafka_options(), enable_auto_commit=False)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()
    left = 0
    async with connect(address) as store:
        for source in sources:
            wanted = {tp.partition: end for tp, end in ends.items() if tp.topic == source}
            durable = await ledger.positions(
                store, topic=source, epoch=str(epochs[source]), partitions=wanted
            )
            left += sum(max(end - durable.get(partition, 0), 0) for partition, end in wanted.items())
    return left
