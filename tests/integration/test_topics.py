"""Topics on a real Kafka: made once, left alone afterwards, and told from their predecessors."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from pipeline.errors import Misconfigured, Unavailable
from pipeline.topics import BrokerConnection, broker_answers, broker_client, ensure_topics, topic_epochs
from schemas.topics import Topic
from tests.kafka import Kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.kafka


@pytest.fixture
def connection(kafka: Kafka) -> BrokerConnection:
    return BrokerConnection(bootstrap=kafka.bootstrap)


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid4()}."


@asynccontextmanager
async def admin(connection: BrokerConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**connection.aiokafka_options())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def partition_counts(connection: BrokerConnection, prefix: str) -> dict[str, int]:
    async with admin(connection) as client:
        topics = await client.describe_topics()
    return {
        topic["topic"].removeprefix(prefix): len(topic["partitions"])
        for topic in topics
        if topic["topic"].startswith(prefix)
    }


async def setting(connection: BrokerConnection, topic: str, name: str) -> Any:
    async with admin(connection) as client:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={name: None})
        [answer] = await client.describe_configs([resource])
    [entry] = answer.to_object()["resources"][0]["config_entries"]
    return entry["config_value"]


async def epoch(connection: BrokerConnection, topic: str) -> Any:
    async with broker_client(connection) as client:
        return (await topic_epochs(client, [topic]))[topic]


ALL_SIX = {
    "bot_requests": 8,
    "token_usages": 8,
    "bot_feedback": 8,
    "bot_requests_dead_letter": 1,
    "token_usages_dead_letter": 1,
    "bot_feedback_dead_letter": 1,
}


def test_missing_topics_are_created_with_their_dead_letter_topics(
    connection: BrokerConnection, prefix: str
) -> None:
    asyncio.run(ensure_topics(connection, prefix=prefix))

    assert asyncio.run(partition_counts(connection, prefix)) == ALL_SIX


@pytest.mark.parametrize("topic", Topic)
def test_a_created_topic_keeps_the_brokers_time_and_is_never_compacted(
    connection: BrokerConnection, prefix: str, topic: Topic
) -> None:
    asyncio.run(ensure_topics(connection, prefix=prefix))

    assert asyncio.run(setting(connection, prefix + topic, "message.timestamp.type")) == "LogAppendTime"
    assert asyncio.run(setting(connection, prefix + topic, "cleanup.policy")) == "delete"


def test_dead_letters_are_kept_for_thirty_days(connection: BrokerConnection, prefix: str) -> None:
    asyncio.run(ensure_topics(connection, prefix=prefix))

    kept = asyncio.run(setting(connection, prefix + Topic.BOT_REQUESTS.dead_letter, "retention.ms"))
    assert timedelta(milliseconds=int(kept)) == timedelta(days=30)


def test_an_existing_topic_keeps_its_partition_count(connection: BrokerConnection, prefix: str) -> None:
    async def create_first() -> None:
        async with admin(connection) as client:
            await client.create_topics([NewTopic(prefix + "bot_requests", 3, 1)])
        await ensure_topics(connection, prefix=prefix)

    asyncio.run(create_first())

    assert asyncio.run(partition_counts(connection, prefix)) == ALL_SIX | {"bot_requests": 3}


def test_processes_that_start_together_create_topics_together(
    connection: BrokerConnection, prefix: str
) -> None:
    async def together() -> None:
        await asyncio.gather(*(ensure_topics(connection, prefix=prefix) for _ in range(8)))

    asyncio.run(together())

    assert asyncio.run(partition_counts(connection, prefix)) == ALL_SIX


def test_making_sure_again_changes_nothing(connection: BrokerConnection, prefix: str) -> None:
    asyncio.run(ensure_topics(connection, prefix=prefix))
    before = asyncio.run(epoch(connection, prefix + "bot_requests"))

    asyncio.run(ensure_topics(connection, prefix=prefix))

    assert asyncio.run(epoch(connection, prefix + "bot_requests")) == before


def test_a_topic_name_that_kafka_refuses_says_so(connection: BrokerConnection) -> None:
    with pytest.raises(Misconfigured, match=r"'a prefix with spaces \w+' is no name for a topic"):
        asyncio.run(ensure_topics(connection, prefix="a prefix with spaces "))


def test_each_topic_has_an_epoch_of_its_own(connection: BrokerConnection, prefix: str) -> None:
    async def epochs() -> set[Any]:
        await ensure_topics(connection, prefix=prefix)
        async with broker_client(connection) as client:
            return set((await topic_epochs(client, [prefix + topic for topic in Topic])).values())

    assert len(asyncio.run(epochs())) == 3


def test_a_topic_made_anew_has_another_epoch(connection: BrokerConnection, prefix: str) -> None:
    topic = prefix + "bot_requests"

    async def two_lives() -> tuple[Any, Any]:
        await ensure_topics(connection, prefix=prefix)
        first = await epoch(connection, topic)
        async with admin(connection) as client:
            await client.delete_topics([topic])
            while topic in await client.list_topics():  # noqa: ASYNC110 - it says it is done a moment before it is
                await asyncio.sleep(0.05)
        await ensure_topics(connection, prefix=prefix)
        return first, await epoch(connection, topic)

    first, second = asyncio.run(two_lives())

    assert first != second


def test_an_epoch_survives_a_restart_and_a_kill_of_the_broker(kafka_installed: None, tmp_path: Path) -> None:
    with Kafka(tmp_path) as kafka:
        connection = BrokerConnection(bootstrap=kafka.bootstrap)
        asyncio.run(ensure_topics(connection))
        first = asyncio.run(epoch(connection, "bot_requests"))

        kafka.restart()
        asyncio.run(broker_answers(connection, patience=timedelta(seconds=20)))
        after_restart = asyncio.run(epoch(connection, "bot_requests"))
        kafka.kill()
        with pytest.raises(Unavailable):
            asyncio.run(epoch(connection, "bot_requests"))
        kafka.start()
        asyncio.run(ensure_topics(connection))

        assert first == after_restart == asyncio.run(epoch(connection, "bot_requests"))


def test_the_epoch_of_an_absent_topic_is_unavailable(connection: BrokerConnection, prefix: str) -> None:
    with pytest.raises(Unavailable, match="UnknownTopicOrPartitionError"):
        asyncio.run(epoch(connection, prefix + "bot_requests"))


@pytest.fixture
def guarded(kafka_installed: None, tmp_path: Path) -> Iterator[tuple[Kafka, Path]]:
    """A Kafka that wants TLS and the password of `footfall`, and the CA file for it."""
    keytool = shutil.which("keytool")
    assert keytool is not None, "Java comes with keytool"
    store, ca_file = tmp_path / "broker.p12", tmp_path / "ca.pem"
    common = ["-keystore", str(store), "-storepass", "secret-of-store", "-alias", "broker"]
    made = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-ext", "SAN=IP:127.0.0.1"]
    subprocess.run([keytool, *made, *common], check=True, capture_output=True)
    exported = ["-exportcert", "-rfc", "-file", str(ca_file)]
    subprocess.run([keytool, *exported, *common], check=True, capture_output=True)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = 'username="footfall" password="right" user_footfall="right"'
    properties = {
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "secret-of-store",
        "ssl.truststore.location": str(store),
        "ssl.truststore.password": "secret-of-store",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{login} {users};",
    }
    with Kafka(tmp_path / "kafka", protocol="SASL_SSL", properties=properties) as kafka:
        yield kafka, ca_file


def test_a_broker_behind_tls_and_a_password_is_spoken_to(guarded: tuple[Kafka, Path]) -> None:
    kafka, ca_file = guarded

    def connection(password: str, ca_file: Path | None = ca_file) -> BrokerConnection:
        return BrokerConnection(
            bootstrap=kafka.bootstrap,
            tls=True,
            ca_file=ca_file,
            sasl_mechanism="PLAIN",
            user="footfall",
            password=password,
        )

    asyncio.run(ensure_topics(connection("right")))

    assert asyncio.run(epoch(connection("right"), "bot_requests")).int != 0
    with pytest.raises(Unavailable):
        asyncio.run(epoch(connection("wrong"), "bot_requests"))
    with pytest.raises(Unavailable):
        asyncio.run(epoch(connection("right", ca_file=None), "bot_requests"))
