"""What the broker has accepted and the store does not hold yet."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from clickhouse import ledger
from clickhouse.client import StoreError, connect
from pipeline.config import Settings
from pipeline.errors import FootfallError
from pipeline.topics import broker_client, topic_epochs
from schemas.topics import Topic


async def undurable(settings: Settings) -> int | None:
    """How many records of the three topics the ledger does not account for; None when nobody can say."""
    try:
        return await _undurable(settings)
    except (FootfallError, KafkaError, StoreError):
        return None


async def _undurable(settings: Settings) -> int:
    connection, sources = settings.broker_connection(), [settings.topic_prefix + topic for topic in Topic]
    async with broker_client(connection) as client:
        epochs = await topic_epochs(client, sources)
    consumer = AIOKafkaConsumer(*sources, **connection.aiokafka_options(), enable_auto_commit=False)
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()
    left = 0
    async with connect(settings.store_address()) as store:
        for source in sources:
            wanted = {tp.partition: end for tp, end in ends.items() if tp.topic == source}
            durable = await ledger.positions(
                store, topic=source, epoch=str(epochs[source]), partitions=wanted
            )
            left += sum(max(end - durable.get(partition, 0), 0) for partition, end in wanted.items())
    return left
