"""The topics on the broker: how to reach it, that they exist, and which life of a topic this is.

aiokafka alone, no Faust: whatever needs a topic before or beside the worker uses this too.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal, cast
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    IncompatibleBrokerVersion,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidTopicError,
    KafkaError,
    LeaderNotAvailableError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from pipeline.errors import Misconfigured, Unavailable
from schemas.topics import Topic

log = logging.getLogger(__name__)

EVENT_PARTITIONS: Final = 8
WARNED_PAUSE_SECONDS: Final = 2.0
"""Pauses between attempts grow to this within 3 s: whatever is only being started is there by then, or soon."""
DEAD_LETTER_RETENTION: Final = timedelta(days=30)

SaslMechanism = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, kw_only=True)
class BrokerConnection:
    """Where the broker is and how to be let in."""

    bootstrap: str
    """host:port[,host:port]"""
    tls: bool = False
    ca_file: Path | None = None
    """PEM bundle for the broker's certificate; None: the system's."""
    sasl_mechanism: SaslMechanism = ""
    """Empty: no SASL, and neither user nor password."""
    user: str = ""
    password: str = field(default="", repr=False)
    client_id: str = ""
    """What clients call themselves; empty: as aiokafka has it."""

    def aiokafka_options(self) -> dict[str, Any]:
        """Keyword arguments that every client, producer, consumer and admin client of aiokafka takes.

        Raises Misconfigured where they contradict each other or the CA file cannot be read.
        """
        protocol = f"SASL_{self._transport}" if self.sasl_mechanism else self._transport
        options: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": protocol}
        if self.client_id:
            options["client_id"] = self.client_id
        if self.tls:
            options["ssl_context"] = self._ssl_context()
        elif self.ca_file is not None:
            raise Misconfigured("a CA file for the broker, but TLS is off")
        if self.sasl_mechanism:
            if not self.user or not self.password:
                raise Misconfigured(f"{self.sasl_mechanism} needs a user and a password for the broker")
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        elif self.user or self.password:
            # Not sending them in silence would look like a login that works.
            raise Misconfigured("a user or password for the broker, but no SASL mechanism")
        return options

    @property
    def _transport(self) -> str:
        return "SSL" if self.tls else "PLAINTEXT"

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise Misconfigured(f"cannot use the broker CA file {self.ca_file}: {error}") from error


def worker_client_id(process: int) -> str:
    """What the worker that is this process calls itself to the broker, and in the ledger."""
    return f"{socket.gethostname()}-{process}"


@asynccontextmanager
async def broker_client(
    connection: BrokerConnection, *, request_timeout: timedelta = timedelta(seconds=20)
) -> AsyncIterator[AIOKafkaClient]:
    """A connected client, closed at the end. Raises Unavailable where no broker answers."""
    client = AIOKafkaClient(
        **connection.aiokafka_options(), request_timeout_ms=round(request_timeout.total_seconds() * 1000)
    )
    try:
        try:
            await client.bootstrap()
        except KafkaError as error:
            raise Unavailable(f"no broker answers at {connection.bootstrap}: {error}") from error
        yield client
    finally:
        await client.close()


def outage_level(pause: float) -> int:
    """Of what is said before asking again after this pause: a warning once it can hardly be a start."""
    return logging.WARNING if pause >= WARNED_PAUSE_SECONDS else logging.DEBUG


async def broker_answers(connection: BrokerConnection, *, patience: timedelta | None = None) -> None:
    """Return once a broker answers; ask again with growing pauses (0.1 s to 5 s), for ever unless told.

    Raises Unavailable when `patience` is over, Misconfigured at once.
    """
    deadline = None if patience is None else time.monotonic() + patience.total_seconds()
    pause = 0.1
    while True:
        try:
            async with broker_client(connection, request_timeout=timedelta(seconds=5)):
                return
        except Unavailable as error:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise
            log.log(outage_level(pause), "%s; asking again in %.1f s", error, pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)


# --- topics that exist ---------------------------------------------------------------------------------


async def ensure_topics(
    connection: BrokerConnection, *, prefix: str = "", patience: timedelta = timedelta(seconds=30)
) -> None:
    """Return when all six topics exist and every partition has a leader; create what is missing.

    An existing topic is left exactly as it is, whatever its partition count. It does not matter who creates a
    topic first when several processes try at once.

    Raises Unavailable when that takes longer than `patience` or the broker goes away, Misconfigured when the
    broker refuses to create a topic.
    """
    partitions = {prefix + topic: EVENT_PARTITIONS for topic in Topic}
    partitions |= {prefix + topic.dead_letter: 1 for topic in Topic}
    deadline = time.monotonic() + patience.total_seconds()
    async with broker_client(connection) as client:
        while True:
            missing, leaderless = await _not_ready(client, list(partitions))
            if not missing and not leaderless:
                return
            if missing:
                await _create(client, {topic: partitions[topic] for topic in missing})
            if time.monotonic() > deadline:
                raise Unavailable(f"still without a leader: {', '.join(sorted(missing + leaderless))}")
            await asyncio.sleep(0.1)


async def _not_ready(client: AIOKafkaClient, topics: list[str]) -> tuple[list[str], list[str]]:
    """Which of the topics do not exist, and which do but lack the leader of a partition."""
    answer = await _ask(client, MetadataRequest(topics, allow_auto_topic_creation=False))
    missing, leaderless = [], []
    for topic in answer.to_object()["topics"]:
        error = for_code(topic["error_code"])
        if error is UnknownTopicOrPartitionError:
            missing.append(topic["topic"])
        elif error is LeaderNotAvailableError or any(p["leader"] < 0 for p in topic["partitions"]):
            leaderless.append(topic["topic"])
        else:
            _check(topic["topic"], error)
    return missing, leaderless


async def _create(client: AIOKafkaClient, topics: dict[str, int]) -> None:
    """Create the topics with these partition counts. One that somebody else has just created is no error."""
    request = CreateTopicsRequest(
        create_topic_requests=[
            # Replication -1: the broker's own default, the one number that fits one broker and thirty.
            (topic, partitions, -1, [], list(_topic_settings(topic).items()))  # type: ignore[misc]
            for topic, partitions in topics.items()
        ],
        timeout=10_000,
        validate_only=False,
    )
    controller = client.cluster.controller
    answer = await _ask(client, request, None if controller is None else controller.nodeId)
    for topic in answer.to_object()["topic_errors"]:
        error = for_code(topic["error_code"])
        if issubclass(error, _REFUSALS):
            raise Misconfigured(
                f"the broker refuses to create topic {topic['topic']}: {error.__name__} "
                f"({topic.get('error_message')}). Grant the right, or create the topic yourself."
            )
        if error is not TopicAlreadyExistsError:
            _check(topic["topic"], error)


def _topic_settings(topic: str) -> dict[str, str]:
    # Event times are checked against the record's own time, so that has to be the broker's, not a producer's.
    # Compaction, should it be the cluster's default, would drop all events of a bot but the last.
    settings = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    if topic.endswith(tuple(known.dead_letter for known in Topic)):
        settings["retention.ms"] = str(round(DEAD_LETTER_RETENTION.total_seconds() * 1000))
    return settings


# What asking again does not cure: somebody has to change a setting or grant a right. Too few brokers for the
# replication factor is not among them: that is a cluster still starting.
_REFUSALS = (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    InvalidPartitionsError,
    InvalidConfigurationError,
    PolicyViolationError,
)


def _check(topic: str, error: type[KafkaError]) -> None:
    if error is InvalidTopicError:
        raise Misconfigured(
            f"{topic!r} is no name for a topic: letters, digits, dot, dash, underscore, up to 249"
        )
    if error is not NoError:
        raise Unavailable(f"the broker says {error.__name__} of topic {topic}")


_TOPIC_RESOURCE: Final = 2


async def compacted(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, bool]:
    """Of each topic whether the broker keeps only the last record of a key. Raises Unavailable."""
    wanted = [(_TOPIC_RESOURCE, topic, ["cleanup.policy"]) for topic in topics]
    answer = await _ask(client, DescribeConfigsRequest(wanted))
    policies: dict[str, bool] = {}
    for resource in answer.to_object()["resources"]:
        _check(resource["resource_name"], for_code(resource["error_code"]))
        [policy] = resource["config_entries"]
        policies[resource["resource_name"]] = "compact" in policy["config_value"]
    return policies


# --- the epoch of a topic ------------------------------------------------------------------------------


_NO_TOPIC_IDS = "the broker has no topic ids; Footfall needs a broker that does: Apache Kafka 2.8 or later"


async def topic_epochs(
    client: AIOKafkaClient, topics: Collection[str], group: ConnectionGroup = ConnectionGroup.DEFAULT
) -> dict[str, UUID]:
    """The topic id of each topic: made anew with the topic, so offsets of two lives never mix.

    Raises Unavailable when the broker or one of the topics is away, Misconfigured when the broker has no
    topic ids: without them the events of a topic made anew would look like those already stored.
    """
    epochs: dict[str, UUID] = {}
    for topic in await _described(client, topics, group):
        _check(topic["topic"], for_code(topic["error_code"]))
        epochs[topic["topic"]] = _epoch(topic)
    return epochs


async def _described(
    client: AIOKafkaClient, topics: Collection[str], group: ConnectionGroup = ConnectionGroup.DEFAULT
) -> list[dict[str, Any]]:
    """What metadata says of each topic, its id included."""
    try:
        answer = await _ask(client, _TopicIdsRequest(topics), group=group)
    except (IncompatibleBrokerVersion, NotImplementedError) as error:
        raise Misconfigured(_NO_TOPIC_IDS) from error
    return cast(list[dict[str, Any]], answer.to_object()["topics"])


def _epoch(topic: Mapping[str, Any]) -> UUID:
    epoch: UUID = topic["topic_id"]
    if epoch.int == 0:
        raise Misconfigured(_NO_TOPIC_IDS)
    return epoch


@dataclass(frozen=True, kw_only=True)
class TopicLog:
    """What the broker holds of a topic."""

    epoch: str
    ranges: dict[int, tuple[int, int]]
    """Of each partition its first offset, and the one that the next record will get."""


async def topic_logs(connection: BrokerConnection, topics: Collection[str]) -> dict[str, TopicLog]:
    """Of those topics that exist what the broker holds. Raises Unavailable."""
    logs: dict[str, TopicLog] = {}
    try:
        async with (
            broker_client(connection) as client,
            AIOKafkaConsumer(**connection.aiokafka_options(), enable_auto_commit=False) as consumer,
        ):
            for topic in await _described(client, topics):
                error = for_code(topic["error_code"])
                if error is UnknownTopicOrPartitionError:
                    continue
                _check(topic["topic"], error)
                partitions = [TopicPartition(topic["topic"], one["partition"]) for one in topic["partitions"]]
                beginnings = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
                logs[topic["topic"]] = TopicLog(
                    epoch=str(_epoch(topic)),
                    ranges={tp.partition: (beginnings[tp], ends[tp]) for tp in partitions},
                )
    except (KafkaError, OSError) as error:
        raise Unavailable(f"the broker does not answer: {error!r}") from error
    return logs


class _Uuid(AbstractType[UUID]):
    """A UUID on Kafka's wire: its 16 bytes, most significant first."""

    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _MetadataResponse_v10(Response):  # noqa: N801 - named as aiokafka names its own
    """https://kafka.apache.org/protocol#The_Messages_Metadata, version 10: the first with topic ids."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequest_v10(RequestStruct):  # noqa: N801
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse_v10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdsRequest(Request[_MetadataRequest_v10]):
    """aiokafka's own requests stop at version 5; its connection takes any that is described like them."""

    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest_v10]) -> _MetadataRequest_v10:
        no_id, no_tags = UUID(int=0), dict[int, bytes]()
        topics = [(no_id, topic, no_tags) for topic in self._topics]
        return request_struct_class(topics, False, False, False, no_tags)


async def _ask(
    client: AIOKafkaClient,
    request: Request[Any],
    node_id: int | None = None,
    *,
    group: ConnectionGroup = ConnectionGroup.DEFAULT,
) -> Response:
    """Send to this node, or to any. Raises Unavailable where no answer comes."""
    if node_id is None:
        node_id = client.get_random_node()
    if node_id is None:
        raise Unavailable("the broker names no node to ask")
    try:
        answer: Response = await client.send(node_id, request, group=group)
    except IncompatibleBrokerVersion:
        raise
    except (KafkaError, OSError) as error:
        raise Unavailable(f"the broker does not answer: {error!r}") from error
    return answer
