"""`footfall audit` on the embedded store: what workers and sealer leave is clean, and whatever else is found and named.

Records go through the stages of a worker into the store and are sealed there; then something is done to it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from clickhouse import analytics, dead_letters, ledger, sealing
from clickhouse.client import Store, StoreAddress, connect
from pipeline import audit, flow, repair
from pipeline.audit import Auditor
from pipeline.audit_report import Kind, Report, as_json, summary, verdict
from pipeline.config import Settings
from pipeline.dead_letters import Judge, Outlook, selection
from pipeline.decode import Event, MalformedEvent, decode
from pipeline.errors import Unavailable
from pipeline.flow import Flow
from pipeline.geography import Geography
from pipeline.repair import MANY, Repairer
from pipeline.seal import seal
from pipeline.sink import Sink
from pipeline.topics import BrokerConnection, TopicLog
from schemas.dead_letter import Reason
from schemas.gap import GapReason
from schemas.topics import Topic
from tests.builders import EPOCH, FakeAssignment, FakeRecord, event

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")

REQUESTS, USAGES, FEEDBACK = Topic.BOT_REQUESTS, Topic.TOKEN_USAGES, Topic.BOT_FEEDBACK
LATER_EPOCH = "00000000-0000-4000-8000-000000000002"
DAY_MS = 86_400_000
TABLES = [
    *Topic,
    *(f"{topic}{kind}" for topic in (REQUESTS, USAGES) for kind in ("_cells", "_15m", "_1d")),
    *("dead_letters", "ledger", "progress", "seal_passes", "seal_queue"),
]
Log = Mapping[int, Sequence[FakeRecord]]


class FakeGeography:
    build_seconds = 0

    def lookup(self, ip: str) -> tuple[str, str, str]:
        return ("DE", "", "") if ip.endswith("1") else ("", "", "")

    def refresh(self, now: float) -> None:
        pass


@dataclass
class Deployment:
    """A store, what was consumed into it, and what the broker would say of its topics."""

    store: Store
    now_ms: int
    ends: dict[Topic, dict[int, int]] = field(default_factory=dict)
    beginnings: dict[Topic, int] = field(default_factory=dict)
    epoch: str = EPOCH
    is_broker_there: bool = True

    async def consume(self, topic: Topic, *batches: Log, epoch: str = EPOCH) -> None:
        """Take these batches through the stages of a worker of its own."""
        flow = self.flow(topic)
        assignment = FakeAssignment()
        partitions = {partition for batch in batches for partition in batch}
        await flow.resume(epoch, partitions, lambda: True)
        for batch in batches:
            decoded = flow.decode(assignment.batch(batch, topic=topic))
            rows = flow.enrich(decoded)
            await flow.flush(decoded, rows, flow.window(decoded, rows))
            for partition, records in batch.items():
                self.ends.setdefault(topic, {})[partition] = records[-1].offset + 1

    def flow(self, topic: Topic) -> Flow:
        """The stages, as a new worker has them."""
        flow = Flow(
            topic,
            source=topic.value,
            store=self.store,
            sink=Sink(self.store),
            geography=cast(Geography, FakeGeography()),
            worker="w",
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        flow.is_compacted = False
        return flow

    async def seal(self) -> None:
        for topic in Topic:
            await seal(self.store, topic, partitions=3)

    async def fill(self) -> None:
        """Two months of requests, usages and votes, with copies, malformed ones and ends of transactions; sealed."""
        for topic in Topic:
            self.ends[topic] = {0: 62, 1: 62, 2: 5}
        await asyncio.gather(*(self._restore(table) for table in TABLES))

    async def _restore(self, table: str) -> None:
        # Copies too, as a worker's flush leaves them.
        await self.store.command(
            f"INSERT INTO footfall.{table} SELECT * FROM filled.{table}",  # noqa: S608
            settings={"optimize_on_insert": 0},
        )

    async def keep(self) -> None:
        """Let what is there be what `fill` brings back."""
        await self.store.command("CREATE DATABASE filled")
        for table in TABLES:
            await self.store.command(
                f"CREATE TABLE filled.{table} ENGINE = MergeTree ORDER BY () AS SELECT * FROM footfall.{table}"  # noqa: S608
            )

    def batches(self, topic: Topic) -> list[Log]:
        """Three batches of two partitions, 20 records each, and a third partition of copies."""
        logs = [
            {partition: self._records(topic, partition, number) for partition in (0, 1)}
            for number in range(3)
        ]
        # Copies that come another way, later: rows that are there have come earlier.
        copies = [record.value for record in logs[0][0][:5]]
        logs[2][2] = [
            FakeRecord(offset=offset, value=value, timestamp=self.now_ms - 1000 + offset)
            for offset, value in enumerate(copies)
        ]
        return list(logs)

    def _records(self, topic: Topic, partition: int, batch: int) -> list[FakeRecord]:
        records = []
        for number in range(20):
            offset = batch * 21 + number  # the last offset of each 21 ends a transaction
            name = f"{partition}-{offset}"
            times = itertools.cycle((0, 3 * 3_600_000, DAY_MS, 40 * DAY_MS))
            ago = next(itertools.islice(times, offset, None)) + 4 * 3_600_000
            more: dict[str, Any] = {
                REQUESTS: {"ip": f"192.0.2.{offset % 5}", "chat_id": f"c{offset % 3}"},
                USAGES: {"input_tokens": offset, "output_tokens": 0, "model": f"m{offset % 2}"},
                FEEDBACK: {},
            }[topic]
            value = event(
                topic, event_id=name, bot_id=f"bot {offset % 2}", event_time=self.now_ms - ago, **more
            )
            if number == 7:
                value = b"{"
            if number == 9 and records:
                value = records[-1].value  # type: ignore[assignment]  # a retry
            records.append(FakeRecord(offset=offset, value=value, timestamp=self.now_ms - 90_000 + offset))
        return records

    async def audit(self, *, since_ms: int = 0) -> Report:
        return await Auditor(self.store, BrokerConnection(bootstrap="fake:1"), since_ms=since_ms).run()

    async def mend(self) -> Repairer:
        """Audit, and mend what can be mended."""
        report = await Auditor(self.store, BrokerConnection(bootstrap="fake:1"), few=MANY).run()
        repairer = Repairer(self.store, report)
        await repairer.run()
        return repairer

    async def consume_all(self) -> None:
        """What workers do that find the ledger put back: whatever it does not hold, once more."""
        for topic in Topic:
            await self.consume(topic, *self.batches(topic))
        await self.seal()

    async def sql(self, statement: str) -> None:
        """Do something to the store, and wait until it is done."""
        await self.store.command(statement, settings={"mutations_sync": 2})


Scenario = Callable[[Deployment], Awaitable[None]]


async def emptied(store: Store) -> None:
    await asyncio.gather(*(store.command(f"TRUNCATE TABLE footfall.{table}") for table in TABLES))


@pytest.fixture(scope="module")
def filled_at(store_address: StoreAddress) -> int:
    """When the store was filled for all tests of this file, by its clock: each has what was there then."""

    async def fill() -> int:
        async with connect(store_address) as store:
            await emptied(store)
            deployment = Deployment(store, int(await ledger.now_ms(store)))
            await deployment.sql("SYSTEM STOP MERGES")  # or copies are gone sooner or later
            await deployment.consume_all()
            await deployment.keep()
            await deployment.sql("SYSTEM START MERGES")
            return deployment.now_ms

    return asyncio.run(fill())


def undisturbed(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the broker be the deployment's, and nothing be under way."""

    async def topic_logs(_: BrokerConnection, topics: Sequence[str]) -> dict[str, TopicLog]:
        if not deployment.is_broker_there:
            raise Unavailable("no broker")
        return {
            topic: TopicLog(
                epoch=deployment.epoch,
                ranges={p: (deployment.beginnings.get(topic, 0), end) for p, end in ends.items()},
            )
            for topic, ends in deployment.ends.items()
        }

    monkeypatch.setattr(audit, "topic_logs", topic_logs)
    monkeypatch.setattr(audit, "TOUCHED_MS", -DAY_MS)
    monkeypatch.setattr(audit, "FLUSH_PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(audit, "PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(audit, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(repair, "SETTLE_SECONDS", 0)


@pytest.fixture
def deployed(
    store_address: StoreAddress, filled_at: int, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Scenario], None]:
    """Run a scenario on an empty store. Nothing is under way unless it says so."""

    def run(scenario: Scenario) -> None:
        async def run_it() -> None:
            async with connect(store_address) as store:
                await emptied(store)
                deployment = Deployment(store, filled_at)

                undisturbed(deployment, monkeypatch)
                await scenario(deployment)

        with monkeypatch.context():
            asyncio.run(run_it())

    return run


def found(report: Report) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.where) for finding in report.findings]


# --- what is right


def test_what_workers_and_sealer_leave_is_clean_and_adds_up(deployed: Callable[[Scenario], None]) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        report = await deployment.audit()
        assert report.findings == []
        assert report.is_clean
        for topic, sums in report.topics.items():
            # Of each partition three batches of 20 records and two ends of transactions between them.
            assert sums.offsets == 2 * 62 + 5, topic
            assert sums.dead_letters == 6
            assert sums.gaps == {GapReason.TRANSACTIONS: 4}
            assert sums.duplicates == 6 + 5
            assert sums.rows == 2 * 60 - 6 - 6
            assert sums.waiting == 0
        # The offsets of one bot and time are each fourth one.
        assert report.intervals == 2 * 4
        assert report.days >= 2 * 2

    deployed(scenario)


def test_what_is_compared_in_parts_comes_to_the_same(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        await deployment.sql("ALTER TABLE footfall.bot_requests DELETE WHERE event_id = '1-31'")
        at_once = await deployment.audit()
        monkeypatch.setattr(audit, "OFFSETS_AT_ONCE", 17)
        monkeypatch.setattr(audit, "ROWS_AT_ONCE", 10)
        monkeypatch.setattr(audit, "INTERVALS_AT_ONCE", 3)
        in_parts = await deployment.audit()
        assert (in_parts.topics, in_parts.intervals, in_parts.days) == (
            at_once.topics,
            at_once.intervals,
            at_once.days,
        )
        assert set(found(in_parts)) == set(found(at_once))

    deployed(scenario)


def test_an_empty_store_is_not_clean(deployed: Callable[[Scenario], None]) -> None:
    async def scenario(deployment: Deployment) -> None:
        report = await deployment.audit()
        assert not report.is_clean
        assert verdict(report).startswith("Nothing to compare")

    deployed(scenario)


def test_a_write_that_another_worker_wrote_too_is_no_contradiction(
    deployed: Callable[[Scenario], None],
) -> None:
    """Two workers may both write the ledger from one position on, and not get equally far."""

    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        await deployment.sql(
            """INSERT INTO footfall.ledger (topic, epoch, partition, next_offset, position, first_offset, last_offset,
                   records, events, duplicates, dead_letters, late, worker, offsets, identities, gaps)
               SELECT topic, epoch, partition, 5, position, first_offset, 4, 5, 5, 0, 0, 0, 'zombie',
                      arraySlice(offsets, 1, 5), arraySlice(identities, 1, 5), []
               FROM footfall.ledger WHERE topic = 'bot_requests' AND partition = 0 AND position = 0"""
        )
        report = await deployment.audit()
        assert report.findings == []
        assert report.topics[REQUESTS].offsets == 2 * 62 + 5

    deployed(scenario)


def test_records_that_wait_and_a_log_that_is_cut_are_no_fault(deployed: Callable[[Scenario], None]) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        deployment.ends[USAGES][1] += 11
        report = await deployment.audit()
        assert report.findings == []
        assert report.topics[USAGES].waiting == 11
        assert "11 records wait in Kafka" in summary(report)

    deployed(scenario)


def test_what_retention_took_is_explained_and_said(deployed: Callable[[Scenario], None]) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        flow, assignment = deployment.flow(REQUESTS), FakeAssignment()
        await flow.resume(EPOCH, [0], lambda: True)
        flow.partitions[0].beginning = 500
        record = FakeRecord(
            offset=500, value=event(event_time=deployment.now_ms), timestamp=deployment.now_ms
        )
        decoded = flow.decode(assignment.batch({0: [record]}, topic=REQUESTS))
        rows = flow.enrich(decoded)
        await flow.flush(decoded, rows, flow.window(decoded, rows))
        deployment.ends[REQUESTS][0] = 501
        report = await deployment.audit()
        assert report.findings == []
        assert report.topics[REQUESTS].gaps[GapReason.RETENTION] == 438
        assert "438 offsets were not there to be read (retention): events there are lost." in summary(report)

    deployed(scenario)


@pytest.mark.parametrize("lag", [2, 0], ids=["unread", "read, but the store was restored to before that"])
def test_what_a_deleted_topic_held_is_explained_and_rows_of_a_cut_off_write_are_said(
    deployed: Callable[[Scenario], None], lag: int
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        # The last that was seen of it: two records more, of which one was written, and no ledger row.
        await ledger.write_progress(deployment.store, [(REQUESTS.value, EPOCH, 0, 0, lag, 64)])
        await _write_row_alone(deployment, REQUESTS, offset=62)
        # And one more, that came after that.
        await _write_row_alone(deployment, REQUESTS, offset=64)
        await asyncio.sleep(0.01)
        await deployment.consume(REQUESTS, *deployment.batches(REQUESTS), epoch=LATER_EPOCH)
        deployment.epoch = LATER_EPOCH
        await deployment.seal()
        report = await deployment.audit()
        assert report.findings == []
        assert report.topics[REQUESTS].gaps[GapReason.RECREATED] == 2
        assert report.cut_off == 1

    deployed(scenario)


@pytest.mark.parametrize("topic", [REQUESTS, USAGES])
def test_rows_of_a_write_that_its_topics_deletion_cut_off_count_at_once(
    deployed: Callable[[Scenario], None], topic: Topic
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await _write_row_alone(deployment, topic, offset=1, ago_ms=0)
        await deployment.flow(topic).resume(LATER_EPOCH, [0, 1], lambda: True)
        await deployment.seal()
        (sealed,) = await deployment.store.rows(f"SELECT count() FROM footfall.{topic}_15m")  # noqa: S608
        assert sealed == (1,)

    deployed(scenario)


@pytest.mark.parametrize(
    ("ago_ms", "put_back_to"), [(0, 0), (3 * 3_600_000, 1)], ids=["open, all again", "sealed, from there on"]
)
def test_a_dead_letter_that_was_replayed_and_whose_offset_a_newer_version_consumes_again_counts_once(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch, ago_ms: int, put_back_to: int
) -> None:
    def older(topic: Topic, value: bytes | None, record_ms: int) -> tuple[Event, int]:
        decoded = decode(topic, value, record_ms)
        if decoded[0].event_id == "new":
            raise MalformedEvent(Reason.WRONG_TYPE, "event_id")
        return decoded

    async def scenario(deployment: Deployment) -> None:
        store = deployment.store
        now_ms = int(await ledger.now_ms(store))
        values = [event(event_id=name, event_time=now_ms - ago_ms) for name in ("before", "new", "after")]
        records = [FakeRecord(offset=n, value=value, timestamp=now_ms) for n, value in enumerate(values)]
        span = analytics.Span(bot_id="bot", start_ms=now_ms - DAY_MS, end_ms=now_ms + 1)

        async def counted() -> int:
            """What an answer says."""
            await deployment.seal()
            sealed_until = (await analytics.freshness(store))[REQUESTS].provisional_from_ms
            totals = await analytics.request_totals(store, span, {}, sealed_until_ms=sealed_until or 0)
            return totals.requests

        monkeypatch.setattr(flow, "decode", older)
        for record in records:
            await deployment.consume(REQUESTS, {0: [record]})
        assert await counted() == 2
        monkeypatch.setattr(flow, "decode", decode)
        [[letter]] = [page async for page in dead_letters.find(store, selection(Settings(broker="fake:1")))]
        [accepted] = await Judge(store, prefix="").judged([letter])
        assert accepted.outlook is Outlook.ACCEPTED
        records.append(FakeRecord(offset=3, value=accepted.contents.value, timestamp=now_ms + 1000))
        await deployment.consume(REQUESTS, {0: records[3:]})
        assert await counted() == 3
        assert (await deployment.audit()).findings == []

        await deployment.sql(f"ALTER TABLE footfall.ledger DELETE WHERE next_offset > {put_back_to}")
        await deployment.consume(REQUESTS, {0: records})
        assert await counted() == 3
        report = await deployment.audit()
        assert report.findings == []
        sums = report.topics[REQUESTS]
        assert (sums.offsets, sums.rows, sums.duplicates, sums.dead_letters) == (4, 3, 1, 0)
        assert "1 of the events were dead letters to another version" in summary(report)
        [judged] = await Judge(store, prefix="").judged([letter])
        assert judged.outlook is Outlook.COUNTED

    deployed(scenario)


async def _write_row_alone(
    deployment: Deployment, topic: Topic, *, offset: int, ago_ms: int = 3 * 3_600_000
) -> None:
    """What a worker leaves that dies between the rows and the ledger."""
    flow, assignment = deployment.flow(topic), FakeAssignment()
    await flow.resume(EPOCH, [0], lambda: True)
    value = event(topic, event_id=f"alone {offset}", event_time=deployment.now_ms - ago_ms)
    decoded = flow.decode(
        assignment.batch(
            {0: [FakeRecord(offset=offset, value=value, timestamp=deployment.now_ms)]}, topic=topic
        )
    )
    await ledger.write_rows(deployment.store, topic, flow.enrich(decoded), origin=f"alone {offset}")


# --- what is under way


def test_rows_of_a_flush_under_way_are_no_fault(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        monkeypatch.setattr(audit, "FLUSH_PATIENCE_SECONDS", 20)
        record = FakeRecord(
            offset=62,
            value=event(event_id="alone 62", event_time=deployment.now_ms - 3 * 3_600_000),
            timestamp=deployment.now_ms,
        )
        await _write_row_alone(deployment, REQUESTS, offset=62)
        await deployment.seal()
        deployment.ends[REQUESTS][0] = 63
        auditing = asyncio.create_task(deployment.audit())
        await asyncio.sleep(0.5)
        await deployment.consume(REQUESTS, {0: [record]})
        assert (await auditing).findings == []

    deployed(scenario)


def test_flushes_of_all_partitions_are_waited_for_together(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        began = time.monotonic()
        await deployment.audit()
        alone = time.monotonic() - began
        monkeypatch.setattr(audit, "FLUSH_PATIENCE_SECONDS", 8.0)
        # Of the last flush of three partitions there is no ledger row; of one it comes while the first is waited for.
        await deployment.sql(
            "ALTER TABLE footfall.ledger DELETE WHERE topic = 'bot_feedback' AND next_offset IN (5, 62)"
        )
        began = time.monotonic()
        auditing = asyncio.create_task(deployment.audit())
        await asyncio.sleep(1)
        await deployment.sql(
            """INSERT INTO footfall.ledger SELECT * FROM filled.ledger
            WHERE topic = 'bot_feedback' AND partition = 1 AND next_offset = 62"""
        )
        report = await auditing
        assert found(report) == [(Kind.BEYOND_LEDGER, f"bot_feedback/{p} of life {EPOCH}") for p in (0, 2)]
        assert time.monotonic() - began < alone + 1.5 * 8  # one after another: at least twice 8

    deployed(scenario)


def test_rows_of_a_flush_that_was_cut_off_are_named_until_a_worker_has_finished_it(
    deployed: Callable[[Scenario], None],
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        await _write_row_alone(deployment, REQUESTS, offset=62)
        await deployment.seal()
        deployment.ends[REQUESTS][0] = 63
        report = await deployment.audit()
        assert found(report) == [(Kind.BEYOND_LEDGER, f"bot_requests/0 of life {EPOCH}")]
        assert "a worker that runs finishes it: alone 62 of bot at 62" in report.findings[0].detail
        deployment.is_broker_there = False
        assert [kind for kind, _ in found(await deployment.audit())] == [Kind.BEYOND_LEDGER]

    deployed(scenario)


def test_a_late_row_whose_interval_is_sealed_anew_a_moment_later_is_no_fault(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        monkeypatch.setattr(audit, "TOUCHED_MS", 60_000)
        monkeypatch.setattr(audit, "PATIENCE_SECONDS", 20)
        value = event(event_id="late", bot_id="bot 0", event_time=deployment.now_ms - 4 * 3_600_000)
        await deployment.consume(
            REQUESTS, {0: [FakeRecord(offset=62, value=value, timestamp=deployment.now_ms)]}
        )
        auditing = asyncio.create_task(deployment.audit())
        await asyncio.sleep(0.5)
        await deployment.seal()
        report = await auditing
        assert (report.findings, report.under_way) == ([], 0)

    deployed(scenario)


def test_an_interval_for_which_rows_still_come_in_is_said_to_be_left_out(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        monkeypatch.setattr(audit, "TOUCHED_MS", 60_000)
        monkeypatch.setattr(audit, "PATIENCE_SECONDS", 0.2)
        value = event(event_id="late", bot_id="bot 0", event_time=deployment.now_ms - 4 * 3_600_000)
        await deployment.consume(
            REQUESTS, {0: [FakeRecord(offset=62, value=value, timestamp=deployment.now_ms)]}
        )
        report = await deployment.audit()
        assert report.findings == []
        assert report.under_way >= 1
        assert "were not compared: rows still come in" in summary(report)

    deployed(scenario)


def test_what_no_sealer_has_sealed_for_long_is_named(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        for topic in Topic:
            await deployment.consume(topic, *deployment.batches(topic))
        report = await deployment.audit()
        assert {kind for kind, _ in found(report)} == {Kind.UNSEALED}

    deployed(scenario)


# --- what is wrong

HERE = "source_topic = '{topic}' AND source_partition = 1 AND source_offset = 31"
NEWER = "version + 1"


def drop_of_ledger(topic: Topic, partition: int, position: int) -> str:
    of = f"topic = '{topic}' AND partition = {partition} AND position = {position}"
    return f"ALTER TABLE footfall.ledger DELETE WHERE {of}"


def stranger(topic: Topic, **values: str) -> str:
    """A raw row that is like another but for its id and these values."""
    said = ", ".join(f"{value} AS {name}" for name, value in {"event_id": "'stranger'", **values}.items())
    # The row is looked for first: a condition beside REPLACE would read what was put in its place.
    row = f"SELECT * FROM footfall.{topic} WHERE {HERE} LIMIT 1"  # noqa: S608
    return f"INSERT INTO footfall.{topic} (*) SELECT * REPLACE ({said}) FROM ({row})"  # noqa: S608


def doubled_rollup(table: str, *, version: str) -> str:
    """Twice the requests of one rollup."""
    return f"""INSERT INTO footfall.{table} SELECT * REPLACE (requests * 2 AS requests, {version} AS version)
               FROM footfall.{table} FINAL ORDER BY interval_start LIMIT 1"""  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """What is done to a store, and what an audit has to say of it."""

    name: str
    statements: Sequence[str]
    kinds: set[Kind]
    names: str
    """What stands in the findings."""
    can_be_mended: bool = True
    perhaps: frozenset[Kind] = frozenset()
    """What chance decides."""

    def __str__(self) -> str:
        return self.name


SABOTAGE = [
    Sabotage(
        name="a raw row of a request is deleted",
        statements=["ALTER TABLE footfall.bot_requests DELETE WHERE event_id = '1-31'"],
        kinds={Kind.LOST_ROW, Kind.WRONG_ROLLUP},
        names="lost_row in bot_requests/1: 1: events of the ledger have neither a row nor an earlier copy: offsets 31",
    ),
    Sabotage(
        name="a raw row of a vote is deleted",
        statements=["ALTER TABLE footfall.bot_feedback DELETE WHERE event_id = '0-44'"],
        kinds={Kind.LOST_ROW},
        names="lost_row in bot_feedback/0: 1: events of the ledger have neither a row nor an earlier copy: offsets 44",
    ),
    Sabotage(
        name="a raw row is deleted of which a copy had come",
        statements=[
            "OPTIMIZE TABLE footfall.token_usages FINAL",
            "ALTER TABLE footfall.token_usages DELETE WHERE event_id = '0-2'",
        ],
        kinds={Kind.LOST_ROW, Kind.WRONG_ROLLUP},
        names="lost_row in token_usages/2: 1: events of the ledger have neither a row nor an earlier copy: offsets 2",
    ),
    Sabotage(
        name="a month is cut from raw rows",
        statements=["ALTER TABLE footfall.bot_requests DROP PARTITION '{month}'"],
        kinds={Kind.LOST_ROW, Kind.FOREIGN_ROLLUP},
        names="rollup_without_rows in bot_requests 15m {month_name}",
    ),
    Sabotage(
        name="a month is cut from rollups",
        statements=["ALTER TABLE footfall.token_usages_15m DROP PARTITION '{month}'"],
        kinds={Kind.UNSEALED},
        names="unsealed in token_usages 15m {month_name}: 1: bot 1, ",
    ),
    Sabotage(
        name="a day row is deleted",
        statements=["ALTER TABLE footfall.token_usages_1d DELETE WHERE toYYYYMM(interval_start) = {month}"],
        kinds={Kind.UNSEALED},
        names="unsealed in token_usages 1d {month_name}: 1: bot 1, ",
    ),
    Sabotage(
        name="a rollup is doubled",
        statements=[doubled_rollup("bot_requests_15m", version=NEWER)],
        kinds={Kind.WRONG_ROLLUP},
        names="Z: in all 52 and not 26",
    ),
    Sabotage(
        name="a day row is doubled",
        statements=[doubled_rollup("bot_requests_1d", version=NEWER)],
        kinds={Kind.WRONG_ROLLUP},
        names="wrong_rollup in bot_requests 1d {month_name}",
    ),
    Sabotage(
        name="there are two rollups of one version",
        statements=[
            "OPTIMIZE TABLE footfall.bot_requests_15m FINAL",
            "SYSTEM STOP MERGES footfall.bot_requests_15m",
            doubled_rollup("bot_requests_15m", version="version"),
        ],
        kinds={Kind.DOUBLED_ROLLUP},
        names="doubled_rollup in bot_requests 15m {month_name}: 1: two rollups of one version: bot 1, ",
        perhaps=frozenset({Kind.WRONG_ROLLUP}),
    ),
    Sabotage(
        name="a rollup is of a bot that does not exist",
        statements=[
            "INSERT INTO footfall.bot_requests_15m SELECT * REPLACE ('ghost' AS bot_id) "
            "FROM footfall.bot_requests_15m FINAL LIMIT 1"
        ],
        kinds={Kind.FOREIGN_ROLLUP},
        names=": 1: ghost, ",
    ),
    Sabotage(
        name="an address in a raw row is another",
        statements=[f"ALTER TABLE footfall.bot_requests UPDATE ip = '198.51.100.7' WHERE {HERE}"],
        kinds={Kind.WRONG_ROLLUP},
        names="ips 5 and not 6",
    ),
    Sabotage(
        name="all of one address are another",
        statements=["ALTER TABLE footfall.bot_requests UPDATE ip = '198.51.100.7' WHERE ip = '192.0.2.3'"],
        kinds={Kind.WRONG_ROLLUP},
        names="ips 5 and not 6",
    ),
    Sabotage(
        name="the country of a raw row is another",
        statements=[f"ALTER TABLE footfall.bot_requests UPDATE country = 'XX' WHERE {HERE}"],
        kinds={Kind.WRONG_ROLLUP},
        names="country 'XX' 0 and not 1",
    ),
    Sabotage(
        name="the tokens of a raw row are others",
        statements=[f"ALTER TABLE footfall.token_usages UPDATE input_tokens = 1 WHERE {HERE}"],
        kinds={Kind.WRONG_ROLLUP},
        names="wrong_rollup in token_usages 15m",
    ),
    Sabotage(
        name="a ledger row in the middle is dropped",
        statements=[drop_of_ledger(REQUESTS, 1, 20)],
        kinds={Kind.HOLE},
        names="hole_in_ledger in bot_requests/1: 21: no ledger row covers offsets 20 to 40",
    ),
    Sabotage(
        name="a first ledger row is dropped",
        statements=[drop_of_ledger(REQUESTS, 1, 0)],
        kinds={Kind.HOLE},
        names="hole_in_ledger in bot_requests/1: 20: the ledger begins at 20",
    ),
    Sabotage(
        name="a last ledger row is dropped",
        statements=[drop_of_ledger(REQUESTS, 1, 41)],
        kinds={Kind.BEYOND_LEDGER},
        names="row_beyond_ledger in bot_requests/1",
    ),
    Sabotage(
        name="a partition is dropped from the ledger",
        statements=["ALTER TABLE footfall.ledger DELETE WHERE topic = 'token_usages' AND partition = 2"],
        kinds={Kind.BEYOND_LEDGER},
        names="row_beyond_ledger in token_usages/2",
    ),
    Sabotage(
        name="the sums of a ledger row are others",
        statements=[
            "ALTER TABLE footfall.ledger UPDATE events = 3 "
            "WHERE topic = 'bot_requests' AND partition = 1 AND position = 20"
        ],
        kinds={Kind.CONTRADICTION},
        names="contradiction in bot_requests/1: 1: ledger rows do not add up: those at positions 20",
    ),
    Sabotage(
        name="a foreign row stands where an event was",
        statements=[stranger(REQUESTS)],
        kinds={Kind.FOREIGN_ROW, Kind.WRONG_ROLLUP},
        names="foreign_row in bot_requests/1: 1: rows of other events than the ledger has at their offsets: 31",
    ),
    Sabotage(
        name="a foreign row stands where a dead letter was",
        statements=[stranger(FEEDBACK, source_offset="28")],
        kinds={Kind.FOREIGN_ROW},
        names="foreign_row in bot_feedback/1: 1: rows at offsets where the ledger has no event: 28",
    ),
    Sabotage(
        name="a foreign row has an offset that the broker has not given out",
        statements=[stranger(FEEDBACK, source_offset="62")],
        kinds={Kind.FOREIGN_ROW},
        names="rows of offsets that the broker has not given out (its log ends at 62): stranger of bot 1 at 62",
    ),
    Sabotage(
        name="a foreign row is of a life of the topic that never was",
        statements=[
            stranger(
                FEEDBACK,
                source_epoch="toUUID('00000000-0000-4000-8000-00000000000f')",
                ingested_at="now64(3)",
            )
        ],
        kinds={Kind.UNKNOWN_ROW},
        names="rows of a life of the topic that neither broker nor ledger knows: stranger of bot 1 at 31",
        can_be_mended=False,
    ),
    Sabotage(
        name="a dead letter is deleted",
        statements=[
            "ALTER TABLE footfall.dead_letters DELETE "
            "WHERE topic = 'token_usages' AND partition = 0 AND offset = 28"
        ],
        kinds={Kind.LOST_DEAD_LETTER},
        names="lost_dead_letter in token_usages/0: 1: offsets are neither event nor dead letter nor gap: 28",
    ),
    Sabotage(
        name="a cell has no rows behind it",
        statements=[
            "INSERT INTO footfall.bot_requests_cells (bot_id, interval_start, epoch, partition, snapshot) "
            "SELECT 'ghost', toStartOfInterval(now64(3, 'UTC') - INTERVAL 1 DAY, INTERVAL 900000 MILLISECOND), "
            "epoch, 0, (1, 7, 0, '[]', 0) FROM footfall.ledger LIMIT 1"
        ],
        kinds={Kind.STALE_CELL},
        names="stale_cell in bot_requests: 1: cells that no row stands behind: ghost, ",
    ),
]


async def sabotaged(deployment: Deployment, sabotage: Sabotage) -> dict[str, str]:
    """Do it; what the findings name."""
    earliest = datetime.fromtimestamp((deployment.now_ms - 40 * DAY_MS - 4 * 3_600_000) / 1000, UTC)
    known = {"month": f"{earliest:%Y%m}", "month_name": f"{earliest:%Y-%m}", "topic": "bot_requests"}
    for statement in sabotage.statements:
        topic = next(topic for topic in Topic if f".{topic}" in statement or f"'{topic}'" in statement)
        await deployment.sql(statement.format(**{**known, "topic": topic}))
    return known


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=str)
def test_whatever_is_done_to_a_store_is_found_and_named_and_mended(
    deployed: Callable[[Scenario], None], sabotage: Sabotage
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        known = await sabotaged(deployment, sabotage)
        report = await deployment.audit()
        assert {kind for kind, _ in found(report)} - sabotage.perhaps == sabotage.kinds, summary(report)
        assert sabotage.names.format(**known) in summary(report)
        assert not report.is_clean
        assert verdict(report).startswith("Not clean: ")
        await deployment.sql("SYSTEM START MERGES")  # what is stopped deletes nothing
        repairer = Repairer(deployment.store, report)
        await repairer.run()
        if repairer.is_waiting or Kind.BEYOND_LEDGER in sabotage.kinds:
            await deployment.consume_all()
            await deployment.mend()  # rollups are left alone until rows are there again
        report = await deployment.audit()
        if sabotage.can_be_mended:
            assert report.findings == [], repairer.done
            for topic, sums in report.topics.items():
                assert (sums.rows, sums.duplicates, sums.dead_letters) == (108, 11, 6), topic
        else:
            assert {kind for kind, _ in found(report)} == sabotage.kinds

    deployed(scenario)


def test_what_kafka_has_no_more_is_said_and_the_rollups_that_remember_it_are_left(
    deployed: Callable[[Scenario], None],
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        await deployment.sql("ALTER TABLE footfall.bot_requests DELETE WHERE event_id IN ('1-10', '1-50')")
        deployment.beginnings[REQUESTS] = 30
        repairer = await deployment.mend()
        assert repairer.is_waiting
        assert repairer.done == [
            "Not mended: bot_requests/1 at 10 to 51. Kafka has nothing before 30.",  # 51 is a copy of 50
            "Put back: bot_requests/1 to 41. Workers notice, end with 70, and consume it again from there; "
            "audit again when they have.",
            "Not mended: rollups of bot_requests, as long as rows are missing that they may have counted.",
        ]
        report = await deployment.audit()
        assert {kind for kind, _ in found(report)} == {Kind.LOST_ROW, Kind.BEYOND_LEDGER, Kind.WRONG_ROLLUP}
        await deployment.consume_all()
        # What was consumed again has touched the interval of the lost row: it is sealed anew, as raw is.
        report = await deployment.audit()
        assert {kind for kind, _ in found(report)} == {Kind.LOST_ROW}
        assert "offsets 10, the last 10" in report.findings[0].detail

    deployed(scenario)


def test_without_a_broker_what_is_missing_stays_as_it_is(deployed: Callable[[Scenario], None]) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        await deployment.sql(drop_of_ledger(REQUESTS, 1, 20))
        deployment.is_broker_there = False
        repairer = await deployment.mend()
        assert not repairer.is_waiting
        assert repairer.done == [
            "Not mended: bot_requests/1 at 20 to 40. The broker has to answer for it to be consumed again."
        ]

    deployed(scenario)


def test_many_intervals_are_sealed_anew_as_all_of_their_month(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        before = (await deployment.audit()).topics
        for tier in ("15m", "1d"):
            await deployment.sql(f"TRUNCATE TABLE footfall.token_usages_{tier}")
        monkeypatch.setitem(globals(), "MANY", 1)
        monkeypatch.setattr(repair, "MAX_INTERVALS", 2)
        await deployment.mend()
        report = await deployment.audit()
        assert (report.findings, report.topics) == ([], before)

    deployed(scenario)


def test_a_day_that_a_worker_computes_before_its_interval_is_mended_is_mended_after_it(
    deployed: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        # So that a pass does not seal the interval itself.
        await deployment.sql(
            "ALTER TABLE footfall.bot_requests UPDATE ingested_at = ingested_at - INTERVAL 10 MINUTE WHERE 1"
        )
        await deployment.sql(doubled_rollup("bot_requests_15m", version="version + 1"))
        days = "SELECT version FROM footfall.bot_requests_1d ORDER BY version DESC LIMIT 1"
        [(before,)] = await deployment.store.rows(days)
        seal_intervals = sealing.seal_intervals

        async def seal_intervals_after_a_pass(store: Store, topic: Topic, **what: int) -> None:
            monkeypatch.setattr(sealing, "seal_intervals", seal_intervals)
            await deployment.seal()
            [(during,)] = await store.rows(days)
            assert during > before
            await seal_intervals(store, topic, **what)

        monkeypatch.setattr(sealing, "seal_intervals", seal_intervals_after_a_pass)
        await deployment.mend()
        assert (await deployment.audit()).findings == []

    deployed(scenario)


# --- how it says it


def test_since_leaves_out_what_is_older(deployed: Callable[[Scenario], None]) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        await deployment.sql("ALTER TABLE footfall.bot_requests DELETE WHERE event_id = '1-31'")
        await deployment.sql("ALTER TABLE footfall.bot_requests_15m DELETE WHERE 1")
        since_ms = int(await ledger.now_ms(deployment.store)) + 1
        nothing = await deployment.audit(since_ms=since_ms)
        assert (nothing.offsets, nothing.intervals, nothing.findings) == (0, 0, [])
        assert verdict(nothing) == "Nothing to compare: the ledger has no offsets since then."
        await asyncio.sleep(0.01)
        value = event(event_id="new", event_time=deployment.now_ms)
        await deployment.consume(
            REQUESTS, {1: [FakeRecord(offset=62, value=value, timestamp=deployment.now_ms)]}
        )
        new = await deployment.audit(since_ms=since_ms)
        assert (new.offsets, new.findings, new.is_clean) == (1, [], True)
        assert new.topics[REQUESTS].rows == 1

    deployed(scenario)


def test_the_report_is_a_table_for_people_and_an_object_for_programs(
    deployed: Callable[[Scenario], None],
) -> None:
    async def scenario(deployment: Deployment) -> None:
        await deployment.fill()
        clean = await deployment.audit()
        lines = summary(clean).splitlines()
        assert lines[0].split() == ["offsets", "rows", "duplicates", "dead", "letters", "gaps"]
        assert lines[1].split() == ["bot_requests", "129", "108", "11", "6", "4"]
        assert lines[4].startswith("Compared 387 offsets with rows, and 8 intervals and ")
        assert lines[-1] == "Clean: every offset is accounted for, and every rollup says what its rows say."
        said = json.loads(as_json(clean))
        assert (said["clean"], said["offsets"], said["rows"], said["findings"]) == (True, 387, 324, [])
        assert said["topics"]["bot_requests"]["gaps"] == {"transactions": 4}
        await deployment.sql(drop_of_ledger(REQUESTS, 1, 20))
        said = json.loads(as_json(await deployment.audit()))
        assert not said["clean"]
        [finding] = said["findings"]
        assert finding == {
            "kind": "hole_in_ledger",
            "where": "bot_requests/1",
            "count": 21,
            "detail": "no ledger row covers offsets 20 to 40",
        }

    deployed(scenario)


def test_a_months_bounds_are_its_own() -> None:
    assert [_bounds(month) for month in (202512, 202602, 229912)] == [
        ("2025-12-01", "2026-01-01"),
        ("2026-02-01", "2026-03-01"),
        ("2299-12-01", "2300-01-01"),
    ]


def _bounds(month: int) -> tuple[str, ...]:
    return tuple(f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}" for ms in audit.bounds_ms(month))
