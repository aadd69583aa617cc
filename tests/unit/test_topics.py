"""How settings become what aiokafka is told, and what becomes of a broker's answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    LeaderNotAvailableError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.admin import CreateTopicsRequest, CreateTopicsResponse_v3
from aiokafka.protocol.metadata import MetadataRequest, MetadataResponse_v5

from pipeline import topics
from pipeline.errors import Misconfigured, Unavailable
from pipeline.topics import BrokerConnection, broker_answers, ensure_topics, topic_epochs
from tests.kafka import free_port


def test_without_security_only_the_address_is_told() -> None:
    assert BrokerConnection(bootstrap="a:1,b:2").aiokafka_options() == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_sasl_mechanism_brings_user_and_password(mechanism: str) -> None:
    options = BrokerConnection(
        bootstrap="a:1",
        sasl_mechanism=mechanism,  # type: ignore[arg-type]
        user="u",
        password="p",
    ).aiokafka_options()

    assert options == {
        "bootstrap_servers": "a:1",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "u",
        "sasl_plain_password": "p",
    }


@pytest.mark.parametrize(
    ("mechanism", "user", "protocol"), [("", "", "SSL"), ("SCRAM-SHA-512", "u", "SASL_SSL")]
)
def test_tls_verifies_the_broker_and_its_name(mechanism: str, user: str, protocol: str) -> None:
    options = BrokerConnection(
        bootstrap="a:1",
        tls=True,
        sasl_mechanism=mechanism,  # type: ignore[arg-type]
        user=user,
        password=user,
    ).aiokafka_options()

    assert options["security_protocol"] == protocol
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert options["ssl_context"].check_hostname


@pytest.mark.parametrize(
    ("connection", "problem"),
    [
        (BrokerConnection(bootstrap="a:1", sasl_mechanism="PLAIN", user="u"), "needs a user and a password"),
        (BrokerConnection(bootstrap="a:1", sasl_mechanism="PLAIN", password="p"), "needs a user"),
        (BrokerConnection(bootstrap="a:1", user="u", password="p"), "no SASL mechanism"),
        (BrokerConnection(bootstrap="a:1", ca_file=Path("ca.pem")), "TLS is off"),
        (BrokerConnection(bootstrap="a:1", tls=True, ca_file=Path("/nowhere/ca.pem")), "/nowhere/ca.pem"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(connection: BrokerConnection, problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        connection.aiokafka_options()


def test_a_ca_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")

    with pytest.raises(Misconfigured, match=r"ca\.pem"):
        BrokerConnection(bootstrap="a:1", tls=True, ca_file=tmp_path / "ca.pem").aiokafka_options()


def test_a_password_does_not_show() -> None:
    assert "hunter2" not in repr(BrokerConnection(bootstrap="a:1", password="hunter2"))


def test_an_absent_broker_is_unavailable() -> None:
    nobody = BrokerConnection(bootstrap=f"127.0.0.1:{free_port()}")

    with pytest.raises(Unavailable, match=nobody.bootstrap):
        asyncio.run(ensure_topics(nobody))
    with pytest.raises(Unavailable, match=nobody.bootstrap):
        asyncio.run(broker_answers(nobody, patience=timedelta(seconds=0.3)))


def test_an_absent_broker_is_warned_of_once_it_cannot_be_starting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = BrokerConnection(bootstrap=f"127.0.0.1:{free_port()}")

    def warnings(*, within: float) -> list[str]:
        with pytest.raises(Unavailable):
            asyncio.run(broker_answers(nobody, patience=timedelta(seconds=within)))
        return [record.message for record in caplog.records if record.name == "pipeline.topics"]

    assert warnings(within=0.4) == []
    monkeypatch.setattr(topics, "WARNED_PAUSE_SECONDS", 0.2)
    assert warnings(within=4)[0].endswith("; asking again in 0.2 s")


class FakeClient:
    """Answers as a broker would that refuses each creation, or whose topics get their leaders later."""

    def __init__(self, *, creation: type[Any] = NoError, metadata_version: int = 5) -> None:
        self.cluster = ClusterMetadata()
        self._creation = creation
        self._metadata_version = metadata_version
        self._described = [UnknownTopicOrPartitionError, LeaderNotAvailableError, NoError]

    def get_random_node(self) -> int:
        return 1

    async def send(self, node_id: int, request: Any, *, group: ConnectionGroup) -> Any:
        struct = request.prepare({3: (0, self._metadata_version), 19: (2, 3)})
        if isinstance(request, CreateTopicsRequest):
            refused = [(topic[0], self._creation.errno, "because") for topic in struct.create_topic_requests]
            return CreateTopicsResponse_v3(0, refused)
        assert isinstance(request, MetadataRequest)
        error = self._described.pop(0)
        return MetadataResponse_v5(
            0, [], None, 1, [(error.errno, topic, False, []) for topic in struct.topics]
        )


def given(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> BrokerConnection:
    """A connection that leads to this client."""

    @asynccontextmanager
    async def broker_client(connection: BrokerConnection) -> AsyncIterator[FakeClient]:
        yield client

    monkeypatch.setattr(topics, "broker_client", broker_client)
    return BrokerConnection(bootstrap="a:1")


@pytest.mark.parametrize("creation", [NoError, TopicAlreadyExistsError])
def test_topics_are_waited_for_whoever_creates_them(
    creation: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(ensure_topics(given(FakeClient(creation=creation), monkeypatch)))


def test_patience_with_topics_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="without a leader: bot_feedback, "):
        asyncio.run(ensure_topics(given(FakeClient(), monkeypatch), patience=timedelta(0)))


@pytest.mark.parametrize("refusal", [ClusterAuthorizationFailedError, PolicyViolationError])
def test_a_creation_that_is_refused_says_what_to_do(
    refusal: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        Misconfigured, match=rf"bot_requests: {refusal.__name__} \(because\)\. Grant the right"
    ):
        asyncio.run(ensure_topics(given(FakeClient(creation=refusal), monkeypatch)))


def test_a_cluster_that_is_still_starting_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = FakeClient(creation=InvalidReplicationFactorError)

    with pytest.raises(Unavailable, match="InvalidReplicationFactorError"):
        asyncio.run(ensure_topics(given(starting, monkeypatch)))


def test_a_broker_without_topic_ids_is_refused() -> None:
    with pytest.raises(Misconfigured, match="topic ids"):
        asyncio.run(topic_epochs(FakeClient(metadata_version=9), ["bot_requests"]))  # type: ignore[arg-type]
