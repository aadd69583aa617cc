"""What is produced while faults strike, without end, and what the broker held of it, life by life of each topic."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Self
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.topics import BrokerConnection, broker_client, topic_epochs
from schemas.dead_letter import Reason
from schemas.topics import Topic
from tests.oracle import event_ms
from tests.population import MINUTE, PARTITIONS, population
from tests.records import Outgoing, Record, records_after
from tests.unit.test_decode import REFUSED

CHUNK = 2000
"""So many events are made at once, half of them of the 40 minutes before; copies lie within a chunk."""
MALFORMED = 0.015
TO_NEW_PARTITIONS = 0.25
"""Share of the events that have no copy which goes to partitions that were added."""
PACE_SECONDS = 0.05
FAR_FUTURE_MS = 7_258_118_400_000
MOVING_NETWORKS = ("203.0.113.", "2001:DB8:8000:", "2001:db8:8000:")
"""Addresses whose country depends on the geo database in use. Only events older than this have them: cells of open
intervals keep what they have counted."""
MOVING_MS = 45 * MINUTE


def malformed() -> dict[tuple[Topic, bytes], tuple[Reason, str]]:
    """Values that are refused, with reason and field."""
    found: dict[tuple[Topic, bytes], tuple[Reason, str]] = {}
    for _, topic, value, reason, name in REFUSED:
        if reason is Reason.IN_THE_FUTURE and isinstance(value, dict):
            value = {**value, "event_time": FAR_FUTURE_MS}
        raw = json.dumps(value).encode() if isinstance(value, dict) else value or b""
        if len(raw) < 20_000:
            found[topic, raw] = reason, name
    return found


@dataclass
class Life:
    """A topic from when it was made to when it was deleted."""

    epoch: str
    records: list[Record] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    """Position after the last record that was read back, by partition."""


class Traffic:
    """Produces at a pace for as long as the context lasts, whatever the broker does."""

    def __init__(self, bootstrap: str, prefix: str, *, seed: str, bots: Sequence[str], rate: float) -> None:
        """`rate` is in events per second."""
        self.rate = rate
        self.sent = 0
        self.bots = bots
        self.lives: dict[Topic, list[Life]] = {topic: [] for topic in Topic}
        self.acknowledged: dict[Topic, dict[int, int]] = {topic: {} for topic in Topic}
        """Position after the last record that the broker has acknowledged in the present life, by partition."""
        self.partitions = dict.fromkeys(Topic, PARTITIONS)
        self.expected_letters = malformed()
        self._letters: dict[Topic, list[bytes]] = defaultdict(list)
        for topic, value in self.expected_letters:
            self._letters[topic].append(value)
        self._bootstrap, self._prefix = bootstrap, prefix
        self._seed = seed
        self._random = Random(f"{seed} traffic")
        self._chunks = 0
        self._left: list[Outgoing] = []
        self._again: list[Outgoing] = []
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._is_over = False
        self._sending = asyncio.Lock()

    async def __aenter__(self) -> Self:
        for topic in Topic:
            await self.begin_life(topic)
        self._producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all", linger_ms=5)
        await self._producer.start()
        self._task = asyncio.create_task(self._run(), name="traffic")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._producer.stop()

    # --- producing

    def _chunk(self) -> list[Outgoing]:
        self._chunks += 1
        now_ms = int(time.time() * 1000)
        records = population(
            f"{self._seed}-{self._chunks}",
            now_ms,
            requests=CHUNK * 4 // 7,
            usages=CHUNK * 2 // 7,
            votes=CHUNK // 7,
            bots=self.bots,
            topic_prefix=self._prefix,
        )
        events = [json.loads(record.value or b"") for record in records]
        copies = Counter(event["event_id"] for event in events)
        made: list[Outgoing] = []
        for record, event in zip(records, events, strict=True):
            if (event.get("ip") or "").startswith(MOVING_NETWORKS) and event_ms(
                event["event_time"]
            ) > now_ms - MOVING_MS:
                record = replace(record, value=json.dumps({**event, "ip": None}).encode())
            made.append(replace(record, partition=self._partition(record, copies[event["event_id"]] == 1)))
            if self._random.random() < MALFORMED:
                topic = self._random.choice(list(Topic))
                value = self._random.choice(self._letters[topic])
                partition = self._random.randrange(self.partitions[topic])
                made.append(Outgoing(topic=self._prefix + topic, value=value, partition=partition))
        return made[::-1]

    def _partition(self, record: Outgoing, is_alone: bool) -> int:
        partitions = self.partitions[self._topic(record)]
        if is_alone and partitions > PARTITIONS and self._random.random() < TO_NEW_PARTITIONS:
            return self._random.randrange(PARTITIONS, partitions)
        # The key's, however many there are by now: a copy goes where the first one went.
        return crc32(record.key or b"") % PARTITIONS if record.partition is None else record.partition

    def _topic(self, record: Outgoing) -> Topic:
        return Topic(record.topic.removeprefix(self._prefix))

    async def _run(self) -> None:
        due, before = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(PACE_SECONDS)
            await self._may_send.wait()
            now = time.monotonic()
            due, before = min(due + self.rate * (now - before), 2 * self.rate), now
            await self._send(int(due))
            due -= int(due)

    async def _send(self, events: int) -> None:
        async with self._sending:
            for _ in range(events):
                if self._again:
                    record = self._again.pop()
                else:
                    self._left = self._left or self._chunk()
                    record = self._left.pop()
                    self.sent += 1
                await self._send_one(record)

    async def _send_one(self, record: Outgoing) -> None:
        topic = self._topic(record)
        life = len(self.lives[topic])

        def done(sent: asyncio.Future) -> None:  # type: ignore[type-arg]
            if sent.cancelled() or sent.exception():
                self._again.append(record)
            elif life == len(self.lives[topic]):
                at = sent.result()
                ends = self.acknowledged[topic]
                ends[at.partition] = max(ends.get(at.partition, 0), at.offset + 1)

        try:
            sent = await self._producer.send(
                record.topic, record.value, key=record.key, partition=record.partition
            )
        except KafkaError:
            self._again.append(record)
        else:
            sent.add_done_callback(done)

    async def pause(self) -> None:
        """Return when nothing is on its way any more."""
        self._may_send.clear()
        async with self._sending:
            await self._producer.flush()

    def go_on(self) -> None:
        """End a pause."""
        self._may_send.set()

    async def finish(self, events: int) -> None:
        """Produce what is missing to so many events as fast as it goes, and end."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while self.sent < events:
            await self._send(min(CHUNK, events - self.sent))
        while True:
            await self._producer.flush()
            if not self._again:
                return
            await self._send(len(self._again))

    # --- topics that change

    async def begin_life(self, topic: Topic) -> None:
        """Take in that the topic was made, or made anew, with `PARTITIONS` partitions."""
        connection = BrokerConnection(bootstrap=self._bootstrap)
        async with broker_client(connection) as client:
            epoch = (await topic_epochs(client, [self._prefix + topic]))[self._prefix + topic]
        self.lives[topic].append(Life(str(epoch)))
        self.acknowledged[topic] = {}
        self.partitions[topic] = PARTITIONS
        # A copy in another life would count in an open interval until that is sealed.
        self._left = [record for record in self._left if self._topic(record) is not topic]

    async def add_partitions(self, topic: Topic, partitions: int) -> None:
        """Take in that the topic has so many partitions now."""
        while len(await self._producer.partitions_for(self._prefix + topic)) < partitions:
            await self._producer.client.force_metadata_update()
            await asyncio.sleep(0.05)
        self.partitions[topic] = partitions

    # --- reading back

    async def read_back(self, topic: Topic) -> None:
        """Take in what the broker holds of the topic's present life."""
        life = self.lives[topic][-1]
        new = await records_after(self._bootstrap, self._prefix + topic, life.ends)
        life.records += new
        for record in new:
            life.ends[record.partition] = record.offset + 1

    def lag(self, positions: Mapping[tuple[str, int], int]) -> int:
        """Records acknowledged and not in the ledger, which stands at these positions, by (epoch, partition)."""
        return sum(
            max(0, end - positions.get((self.lives[topic][-1].epoch, partition), 0))
            for topic in Topic
            for partition, end in self.acknowledged[topic].items()
        )
