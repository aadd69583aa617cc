"""The Faust app: topics, agents' streams, and the settings that make it a transport for batches."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import ProducerSendError
from faust.types import TP

from clickhouse.client import Store
from pipeline.config import Settings
from pipeline.dead_letter import headers
from pipeline.errors import Unavailable
from pipeline.flow import Decoded, Flow
from pipeline.geography import Geography
from pipeline.insist import Abandoned, Insistence
from pipeline.sink import Sink
from pipeline.topics import BrokerConnection, broker_client, compacted, topic_epochs
from pipeline.transport import Consumer, NoTables
from schemas.topics import Topic

log = logging.getLogger(__name__)


METADATA_MAX_AGE_MS = 10_000
"""How long a partition that was added to a topic may go unnoticed."""
EXPLAIN_SECONDS = 5.0
"""How long the broker is asked about a gap before it counts as not explained."""


class App(faust.App):
    """Faust, with one `Flow` per topic."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        geography: Geography,
        worker: str,
        now_ms: Callable[[], float],
    ) -> None:
        connection = settings.broker_connection()
        tls = connection.aiokafka_options().get("ssl_context")
        super().__init__(
            settings.consumer_group,
            broker=";".join(f"footfall://{address}" for address in settings.broker.split(",")),
            broker_credentials=_credentials(connection, tls),
            broker_check_crcs=True,
            broker_client_id=worker,
            broker_commit_interval=1.0,
            broker_heartbeat_interval=settings.broker_session_timeout_seconds / 6,
            broker_max_poll_interval=86_400.0,  # a store outage must not make the worker leave its group
            broker_max_poll_records=settings.flush_max_records,
            broker_rebalance_timeout=settings.broker_rebalance_timeout_seconds,
            broker_request_timeout=20.0,
            broker_session_timeout=settings.broker_session_timeout_seconds,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=4 * 1024 * 1024,
            consumer_metadata_max_age_ms=METADATA_MAX_AGE_MS,
            key_serializer="raw",
            producer_acks=-1,
            producer_request_timeout=20.0,  # Faust's is 20 minutes; what was not acknowledged is sent again
            store="memory://",
            table_standby_replicas=0,  # no tables: Kafka's own round-robin assignor will do
            stream_buffer_maxsize=1,  # batches
            stream_wait_empty=False,  # can hang a rebalance
            topic_allow_declare=False,
            topic_disable_leader=True,
            value_serializer="raw",
            web_enabled=False,
            TableManager=NoTables,
        )
        self.flush_interval_seconds = settings.flush_interval_seconds
        self.connection = connection
        self.insist = Insistence("broker")
        self.flows = {
            topic: Flow(
                topic,
                source=settings.topic_prefix + topic.value,
                store=store,
                sink=Sink(store),
                geography=geography,
                worker=worker,
                now_ms=now_ms,
            )
            for topic in Topic
        }
        self._by_source = {flow.source: flow for flow in self.flows.values()}
        self._dead_letter_topics = {
            topic: self.topic(
                settings.topic_prefix + topic.dead_letter, value_serializer="raw", key_serializer="raw"
            )
            for topic in Topic
        }
        self.failure: BaseException | None = None
        """What an agent ended with; nothing may go on after it."""

    @property
    def batch_consumer(self) -> Consumer:
        """Faust's consumer, which is the transport's."""
        return cast(Consumer, self.consumer)

    def source(self, topic: Topic) -> Any:
        """The Faust topic whose events are batches."""
        return self.topic(self.flows[topic].source, value_serializer="raw", key_serializer="raw")

    async def resume(self, assigned: Iterable[TP], is_current: Callable[[], bool]) -> Mapping[TP, int]:
        """Take partitions over: where each goes on by the ledger; -1 where nothing is written yet.

        Asks broker and store as often as it takes. Raises Abandoned once the assignment is not current.
        """
        partitions: dict[str, list[int]] = {source: [] for source in self._by_source}
        for tp in assigned:
            partitions[tp.topic].append(tp.partition)
        epochs = await self.insist(self._epochs, is_current)
        positions: dict[TP, int] = {}
        for flow in self.flows.values():
            resumed = await flow.resume(epochs[flow.source], partitions[flow.source], is_current)
            positions |= {TP(flow.source, partition): position for partition, position in resumed.items()}
        return positions

    def note_beginnings(self, beginnings: Mapping[TP, int]) -> None:
        """Take in the earliest offsets that the broker still has."""
        for tp, offset in beginnings.items():
            self._by_source[tp.topic].partitions[tp.partition].beginning = offset

    async def explain_gaps(self, topics: Iterable[str]) -> None:
        """Learn what offsets that were not delivered may mean in these topics, as far as the broker says it."""
        try:
            async with asyncio.timeout(EXPLAIN_SECONDS), broker_client(self.connection) as client:
                for topic, is_compacted in (await compacted(client, list(topics))).items():
                    self._by_source[topic].is_compacted = is_compacted
        except (Unavailable, TimeoutError) as error:
            log.warning("the broker does not say whether a topic is compacted: %r", error)

    async def _epochs(self) -> dict[str, str]:
        async with broker_client(self.connection) as client:
            epochs = await topic_epochs(client, list(self._by_source))
        return {topic: str(epoch) for topic, epoch in epochs.items()}

    async def refuse(self, decoded: Decoded) -> None:
        """Send a batch's dead letters to their topic; done when the broker has them all, or the batch is not ours."""
        if decoded.dead_letters:
            with suppress(Abandoned):
                await self.insist(lambda: self._send_dead_letters(decoded), decoded.batch.is_current)

    async def _send_dead_letters(self, decoded: Decoded) -> None:
        topic = self._dead_letter_topics[decoded.topic]
        try:
            sent = [
                await topic.send(key=letter.key, value=letter.value, headers=headers(letter), force=True)
                for letter in decoded.dead_letters
            ]
            await asyncio.gather(*sent)
        except (KafkaError, ProducerSendError) as error:
            raise Unavailable(f"dead letters were not taken: {error!r}") from error

    def _create_directories(self) -> None:
        """Faust's hook. There are no tables to keep: nothing is written where the worker happens to run."""

    async def _on_agent_error(self, agent: Any, error: BaseException) -> None:
        """Faust's hook. Faust would commit and restart the agent, which then swallows events: the worker stops."""
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Let nothing go on; the worker ends with this error."""
        self.failure = self.failure or error


def _credentials(connection: BrokerConnection, tls: ssl.SSLContext | None) -> Any:
    if connection.sasl_mechanism:
        return faust.SASLCredentials(
            username=connection.user,
            password=connection.password,
            ssl_context=tls,
            mechanism=connection.sasl_mechanism,
        )
    return faust.SSLCredentials(context=tls) if tls else None


_app: App | None = None


def configure(app: App) -> None:
    """Make `app` the one that agents register with. Once per process, before they are imported."""
    global _app
    _app = app


def the_app() -> App:
    """The process's app."""
    if _app is None:
        raise RuntimeError("configure() comes before the agents are imported")
    return _app
