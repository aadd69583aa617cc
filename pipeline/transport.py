"""Faust's transport, delivering one event per poll and topic instead of one per record.

Registered under Faust's entry point `faust.transports` as `footfall://`. Overrides methods of faust-streaming 0.15
that are not public; `tests/integration/test_transport.py` holds it to what they have to do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import UUID

from aiokafka.client import ConnectionGroup
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AIOKafkaTransport
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from pipeline.batches import Batch
from pipeline.errors import RestartNeeded, Unavailable
from pipeline.insist import Abandoned
from pipeline.topics import topic_epochs

if TYPE_CHECKING:
    from pipeline.app import App

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
READING_SECONDS = 1.0
FETCH_WAIT_MS = 250
"""How long the broker may hold a fetch that finds nothing. It answers in turn: what else is asked waits as long."""
EXPLAINED_SECONDS = 60.0
"""For so long a topic is taken to be compacted, or not, as the broker said."""
CUT_BACK = (
    "Was the broker restored to an older state? New records would take offsets that count as consumed: "
    "make the topic anew, or bring its log back."
)


class Consumer(AIOKafkaConsumer):
    """Polls, gathers, delivers batches; starts each assignment where the ledger says."""

    app: App
    _thread: _ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._assignment_number = 0
        self._resumed_number = -1
        self._acknowledged: dict[TP, int] = {}
        self._next_poll = 0.0
        self._delivered: dict[TP, int] = {}
        """Position after the last record delivered in this assignment."""
        self._read_to: Mapping[TP, int] = {}
        """Where the consumer itself stood when all it had read was delivered: past markers of transactions too."""
        self._next_reading = 0.0
        self._ended: list[str] = []
        """Topics that were found to be made anew in this assignment, of which nothing more is delivered."""
        self._next_explanation: dict[str, float] = {}

    # --- which assignment this is

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._assignment_number += 1
        self._acknowledged.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._assignment_number += 1
        await super().on_partitions_assigned(assigned, generation_id)

    @property
    def is_resumed(self) -> bool:
        """Whether the present assignment has been read from the ledger."""
        return self._resumed_number == self._assignment_number

    def _is_current(self, number: int) -> bool:
        # After an agent's failure nothing may go on: the next batch would look as if the failed one were a gap.
        return number == self._assignment_number and self.app.failure is None

    async def _resume(self) -> None:
        """Seek every assigned partition to where the ledger says, and commit that position."""
        number = self._assignment_number
        self._ended = []
        try:
            positions: Mapping[TP, int] = await self.app.resume(
                self.assignment(), lambda: self._is_current(number)
            )
            beginnings = await self._thread.earliest_offsets(*positions) if positions else {}
            ends = await self._thread.end_offsets(positions) if positions else {}
            # An offset that the broker has no more would make it choose for itself.
            starts = {tp: max(position, beginnings[tp]) for tp, position in positions.items()}
            await self._thread.seek_wait(starts)
            if await self.made_anew({tp.topic for tp in positions}):
                return  # what was asked is of two lives
        except Abandoned:
            return
        except (KafkaError, TimeoutError, Unavailable) as error:
            log.warning("cannot take the partitions over yet, trying again: %r", error)
            await self.sleep(RETRY_SECONDS)
            return
        if number != self._assignment_number:
            return
        cut_back = {tp: ends[tp] for tp, position in positions.items() if position > ends[tp]}
        if cut_back:
            self.app.fail(
                RestartNeeded(f"the broker's logs end before what the ledger holds: {cut_back}. {CUT_BACK}")
            )
            return
        self.app.note_beginnings(beginnings)
        self._acknowledged.update(starts)
        self._delivered, self._read_to = dict(starts), {}
        self._resumed_number = number

    async def made_anew(self, topics: Collection[str]) -> list[str]:
        """Those of these topics that are not the ones any more that were resumed. Raises Unavailable.

        Whatever was read of the others before this was asked is theirs.
        """
        if self._ended:
            return self._ended
        number = self._assignment_number
        resumed = {flow.source: flow.epoch for flow in self.app.flows.values()}
        epochs = await self._thread.epochs(topics)
        if number != self._assignment_number:
            return []
        return [topic for topic, epoch in epochs.items() if str(epoch) != resumed[topic]]

    async def end_offsets(self) -> Mapping[TP, int]:
        """The position after the last record that may be read, of each assigned partition."""
        assigned = self.assignment()
        return await self._thread.end_offsets(assigned) if assigned else {}

    def reached(self, durable: Mapping[TP, int]) -> dict[TP, int]:
        """Where each partition has been read and made durable to, given the positions after its last durable record.

        The two differ where nothing follows a record but what no consumer is given, as the end of a transaction.
        """
        return {
            tp: max(position, self._read_to.get(tp, 0))
            if position >= self._delivered.get(tp, 0)
            else position
            for tp, position in durable.items()
        }

    # --- delivering

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One message per topic that the next poll has records of; its value is a `Batch`."""
        if self.flow_active and not self.is_resumed:
            await self._resume()
        # What comes in meanwhile is fetched in the background and gathered by the next poll.
        await self.sleep(max(0.0, self._next_poll - time.monotonic()))
        number = self._assignment_number
        polled, _ = await self._wait_next_records(timeout)
        records = polled or {}
        if not self._goes_on(number) or (records and not await self._are_of_one_life(records, number)):
            return
        if time.monotonic() >= self._next_reading:
            self._next_reading = time.monotonic() + READING_SECONDS
            read_to = await self._thread.positions(self._delivered)
        else:
            read_to = self._read_to
        if number != self._assignment_number:
            return
        self._read_to = read_to
        if with_gaps := [tp for tp, delivered in records.items() if self._has_gap(tp, delivered)]:
            await self._explain(with_gaps)
            if number != self._assignment_number:
                return
        self._delivered |= {tp: delivered[-1].offset + 1 for tp, delivered in records.items() if delivered}
        interval, most = self.app.flush_interval_seconds, self.app.conf.broker_max_poll_records
        if records and sum(map(len, records.values())) < most // 2:
            self._next_poll = time.monotonic() + interval
        for tp, message in self._messages(records, number):
            yield tp, message

    def _goes_on(self, number: int) -> bool:
        return not self.should_stop and self.flow_active and number == self._resumed_number

    async def _are_of_one_life(self, records: Mapping[TP, list[Any]], number: int) -> bool:
        """Whether records are of the topics that were resumed, and none of these was made anew meanwhile.

        Offsets do not say it: those of a new topic may go on where the old one ended. If not, nothing is delivered any
        more until the watcher asks for a restart, so that what is on its way can be finished.
        """
        topics = {tp.topic for tp in records}
        try:
            # Once it has said so it stays so: what was dropped here must be read again.
            self._ended = await self.app.insist(lambda: self.made_anew(topics), lambda: self._goes_on(number))
        except Abandoned:
            return False
        return not self._ended and self._goes_on(number)

    def _has_gap(self, tp: TP, records: list[Any]) -> bool:
        if not records:
            return False
        expected = self._delivered.get(tp, records[0].offset)
        return bool(records[-1].offset + 1 - expected > len(records))

    async def _explain(self, partitions: list[TP]) -> None:
        """Learn, before records are delivered that have gaps between them, what these may come from."""
        now = time.monotonic()
        asked_about = {tp.topic for tp in partitions if now >= self._next_explanation.get(tp.topic, 0.0)}
        if asked_about:
            self._next_explanation |= dict.fromkeys(asked_about, now + EXPLAINED_SECONDS)
            await self.app.explain_gaps(asked_about)
        try:
            beginnings = await self._thread.earliest_offsets(*partitions)
        except (KafkaError, TimeoutError) as error:
            log.warning("the broker does not say where its logs begin: %r", error)
        else:
            self.app.note_beginnings(beginnings)

    def _messages(self, records: Mapping[TP, list[Any]], number: int) -> Iterator[tuple[TP, ConsumerMessage]]:
        by_topic: MutableMapping[str, dict[int, list[Any]]] = defaultdict(dict)
        for tp, partition_records in records.items():
            if partition_records:
                by_topic[tp.topic][tp.partition] = partition_records
        for topic, partitions in by_topic.items():
            batch = self._batch(topic, partitions, number)
            partition, delivered = next(iter(partitions.items()))
            tp = TP(topic, partition)
            # Faust drops what it takes for old by this; which records are new is for the ledger to say.
            self._read_offset[tp] = None
            yield (
                tp,
                ConsumerMessage(
                    topic=topic,
                    partition=partition,
                    offset=delivered[-1].offset,
                    timestamp=0.0,
                    timestamp_type=0,
                    headers=[],
                    key=None,
                    value=cast(Any, batch),
                    checksum=None,
                    tp=tp,
                    generation_id=self.app.consumer_generation_id,
                ),
            )

    def _batch(self, topic: str, partitions: Mapping[int, list[Any]], number: int) -> Batch:
        # Nothing that the batch holds may hold the batch: its records would stay until the cyclic collector comes by.
        positions = {
            TP(topic, partition): records[-1].offset + 1 for partition, records in partitions.items()
        }

        def is_current() -> bool:
            return self._is_current(number)

        def acknowledge() -> None:
            if is_current():
                self._acknowledged.update(positions)

        return Batch(topic=topic, partitions=partitions, is_current=is_current, acknowledge=acknowledge)

    # --- committing: a hint for others; the ledger is what counts

    def ack(self, message: Any) -> bool:
        """Forget the message. What is committed is what batches acknowledge."""
        self._unacked_messages.discard(message)
        return True

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit every position acknowledged since the last time."""
        acknowledged, self._acknowledged = self._acknowledged, {}
        held = self.assignment()
        positions = {tp: offset for tp, offset in acknowledged.items() if tp in held}
        if not positions:
            return False
        if not await self._commit(positions):
            still_held = self.assignment()
            earlier = {tp: offset for tp, offset in positions.items() if tp in still_held}
            self._acknowledged = earlier | self._acknowledged
            return False
        return True

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


def _as_parsed(value: bytes) -> bytes:
    """The deserializer of values by which our consumer is known."""
    return value


class _LeanRecords(fetcher.PartitionRecords):
    """Gives our consumer the records that aiokafka's parser made; aiokafka would copy each, field by field."""

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        if self._value_deserializer is _as_parsed:
            return record
        return super()._consumer_record(tp, record)  # type: ignore[no-untyped-call]


fetcher.PartitionRecords = _LeanRecords  # type: ignore[misc]


class _ConsumerThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: AIOKafkaTransport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._value_deserializer = _as_parsed
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # Faust's 1500 cannot be set
        # Faust asks for it only when it keeps transactions of its own; producers may keep theirs.
        consumer._isolation_level = "read_committed"
        return consumer

    async def epochs(self, topics: Collection[str]) -> Mapping[str, UUID]:
        """The present epoch of each topic. Raises Unavailable."""
        # Not on the connection that fetches: the broker answers it in turn, and may hold a fetch.
        epochs: Mapping[str, UUID] = await self.call_thread(
            topic_epochs, self._ensure_consumer()._client, topics, ConnectionGroup.COORDINATION
        )
        return epochs

    async def positions(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        """The offset that the consumer would give out next, of each partition; nothing while that is not known."""
        consumer, wanted = self._ensure_consumer(), list(partitions)

        async def read() -> Mapping[TP, int]:
            try:
                async with asyncio.timeout(READING_SECONDS):
                    return {tp: await consumer.position(tp) for tp in wanted}
            except (KafkaError, TimeoutError):  # revoked meanwhile, or to be looked up on the broker first
                return {}

        positions: Mapping[TP, int] = await self.call_thread(read)
        return positions

    async def end_offsets(self, partitions: Iterable[TP]) -> Mapping[TP, int]:
        """The position after the last record of each partition that a consumer may read."""
        ends: Mapping[TP, int] = await self.call_thread(self._ensure_consumer().end_offsets, list(partitions))
        return ends


class NoTables(TableManager):
    """Faust waits for a second for tables to register. We have none, and a start is an outage for its partitions."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class Transport(AIOKafkaTransport):
    """`footfall://host:port`"""

    Consumer: ClassVar[type[Consumer]] = Consumer
    driver_version = f"footfall over {AIOKafkaTransport.driver_version}"
