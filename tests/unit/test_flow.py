"""One topic's way from records to the store, over crashes, gaps and assignments that change in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from pipeline import insist
from pipeline.errors import RestartNeeded
from pipeline.insist import Abandoned
from pipeline.window import interval_start
from schemas.gap import GapReason
from schemas.rollup import INTERVAL_MS
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, FakeAssignment, FakeRecord, event, records
from tests.fake_store import Crash, FakeStore, Fault
from tests.fake_worker import Log, Worker

START = interval_start(NOW_MS)
REQUESTS = Topic.BOT_REQUESTS
COUNTS = ("records", "events", "duplicates", "dead_letters", "late")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insist, "FIRST_PAUSE_SECONDS", 0)


def consumed(
    *batches: Log | Sequence[bytes], topic: Topic = REQUESTS, store: FakeStore | None = None
) -> tuple[FakeStore, Worker]:
    """Store and worker after a new worker has taken these batches; values alone are those of partition 0."""
    store = store or FakeStore()
    worker = Worker(store, topic)

    async def consume() -> None:
        offset = 0
        for batch in batches:
            log = batch if isinstance(batch, Mapping) else {0: records(batch, first_offset=offset)}
            offset += len(batch)
            await worker.consume(log)

    async def run() -> None:
        partitions = {partition for batch in batches if isinstance(batch, Mapping) for partition in batch}
        await worker.resume(*(partitions or {0}))
        await consume()

    asyncio.run(run())
    return store, worker


def counted(store: FakeStore, topic: Topic = REQUESTS) -> dict[tuple[str, int, int], int]:
    """What cells have counted."""
    return {key: snapshot[1] for key, (snapshot, _) in store.cells(topic).items()}


def totals(store: FakeStore) -> dict[int, tuple[int, ...]]:
    """Sums of the ledger's counts, by partition."""
    sums: dict[int, tuple[int, ...]] = {}
    for entry in store.ledger():
        numbers = tuple(entry[name] for name in COUNTS)
        sums[entry["partition"]] = tuple(
            map(sum, zip(numbers, sums.get(entry["partition"], (0,) * len(COUNTS)), strict=True))
        )
    return sums


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def grown(name: str, act: Callable[[], object], **labels: str) -> float:
    before = metric(name, **labels)
    act()
    return metric(name, **labels) - before


# --- what becomes of records


def test_every_record_is_an_event_a_duplicate_or_a_dead_letter() -> None:
    late = event(event_id="late", event_time=START - 2 * INTERVAL_MS)
    store, worker = consumed([event(event_id="1"), event(event_id="2"), b"{", event(event_id="1"), late])
    assert totals(store) == {0: (5, 3, 1, 1, 1)}
    assert counted(store) == {("bot", START, 0): 2}
    assert store.dead_letters() == {(0, 2): ("invalid_json", b"{")}
    assert worker.assignment.acknowledged == [{0: 5}]


def test_duplicates_go_to_raw_too_for_the_sealer_to_decide() -> None:
    store, _ = consumed([event()], [event()])
    assert [row["source_offset"] for row in store.tables["footfall.bot_requests"]] == [0, 1]
    assert counted(store) == {("bot", START, 0): 1}


def test_a_copy_in_another_partition_is_left_to_the_sealer() -> None:
    store, _ = consumed({0: records([event()]), 1: records([event()])})
    assert counted(store) == {("bot", START, 0): 1, ("bot", START, 1): 1}
    assert len(store.raw(REQUESTS)) == 1


@pytest.mark.parametrize(
    "event_time", [START - 2 * INTERVAL_MS, START + 2 * INTERVAL_MS], ids=["behind", "far ahead"]
)
def test_an_event_whose_interval_is_not_open_goes_to_raw_alone(event_time: int) -> None:
    record = FakeRecord(offset=0, value=event(event_time=event_time), timestamp=event_time)
    store, _ = consumed({0: [record]})
    assert counted(store) == {}
    assert len(store.raw(REQUESTS)) == 1
    assert totals(store) == {0: (1, 1, 0, 0, 1)}


def test_dead_letters_are_tallied_with_their_own_partition() -> None:
    store, _ = consumed(
        {0: records([b"{", event()]), 1: records([b"", b"[]", event()]), 2: records([event()])}
    )
    assert totals(store) == {0: (2, 1, 0, 1, 0), 1: (3, 1, 0, 2, 0), 2: (1, 1, 0, 0, 0)}


def test_a_batch_of_nothing_but_dead_letters_moves_the_ledger() -> None:
    store, worker = consumed([b"", b"{"])
    assert store.positions(REQUESTS, EPOCH, [0]) == {0: 2}
    assert worker.flow.partitions[0].position == 2


def test_tokens_are_summed_in_cells() -> None:
    usages = [event(Topic.TOKEN_USAGES, event_id=str(n), input_tokens=n, output_tokens=2) for n in range(4)]
    store, _ = consumed(usages, topic=Topic.TOKEN_USAGES)
    [(snapshot, _)] = store.cells(Topic.TOKEN_USAGES).values()
    assert snapshot[:4] == [3, 4, 6, 8]


def test_feedback_has_rows_and_no_cells() -> None:
    votes = [event(Topic.BOT_FEEDBACK, event_id=number) for number in "12"]
    store, _ = consumed(votes, topic=Topic.BOT_FEEDBACK)
    assert list(store.tables) == ["footfall.bot_feedback", "footfall.ledger"]
    assert totals(store) == {0: (2, 2, 0, 0, 0)}


# --- what the broker delivers again, or not at all


def test_records_below_the_ledgers_position_are_skipped_and_counted() -> None:
    store, _ = consumed([event(event_id="1"), event(event_id="2")])
    again = records([event(event_id=str(number)) for number in (1, 2, 3)])
    skipped = grown(
        "footfall_skipped_records_total", lambda: consumed({0: again}, store=store), topic="bot_requests"
    )
    assert skipped == 2
    assert totals(store) == {0: (3, 3, 0, 0, 0)}
    assert counted(store) == {("bot", START, 0): 3}


def test_a_batch_that_was_flushed_before_is_acknowledged_and_leaves_nothing() -> None:
    store, _ = consumed([event()])
    writes = len(store.writes)
    _, worker = consumed([event()], store=store)
    assert len(store.writes) == writes
    assert worker.assignment.acknowledged == [{0: 1}]


def missing(act: Callable[[], object]) -> dict[GapReason, float]:
    """How many offsets were counted as missing, by reason."""
    name = "footfall_missing_offsets_total"
    before = {reason: metric(name, topic="bot_requests", reason=reason) for reason in GapReason}
    act()
    grown = {
        reason: metric(name, topic="bot_requests", reason=reason) - before[reason] for reason in GapReason
    }
    return {reason: count for reason, count in grown.items() if count}


@pytest.mark.parametrize(
    ("is_compacted", "reason"),
    [(True, GapReason.COMPACTION), (False, GapReason.TRANSACTIONS), (None, GapReason.UNKNOWN)],
)
def test_offsets_that_were_not_delivered_are_in_the_ledger_with_a_reason_and_counted(
    is_compacted: bool | None, reason: GapReason
) -> None:
    store, worker = consumed([event(event_id="0")])
    worker.flow.is_compacted = is_compacted
    log = [FakeRecord(offset=offset, value=event(event_id=str(offset))) for offset in (3, 4, 7)]
    assert missing(lambda: asyncio.run(worker.consume({0: log}))) == {reason: 4}
    entry = store.ledger()[-1]
    names = ("position", "first_offset", "last_offset", "next_offset", "records", "gaps")
    assert [entry[name] for name in names] == [1, 3, 7, 8, 3, [[1, 3, reason], [5, 7, reason]]]


def test_what_the_broker_had_deleted_before_it_was_read_is_lost_to_retention() -> None:
    store, worker = consumed([event(event_id="0")])
    worker.flow.is_compacted = False
    worker.flow.partitions[0].beginning = 5
    log = [FakeRecord(offset=6, value=event(event_id="6"))]
    assert missing(lambda: asyncio.run(worker.consume({0: log}))) == {
        GapReason.RETENTION: 4,
        GapReason.TRANSACTIONS: 1,
    }
    assert store.ledger()[-1]["gaps"] == [[1, 5, "retention"], [5, 6, "transactions"]]


@pytest.mark.parametrize("reason", GapReason)
def test_an_error_is_logged_when_events_may_be_lost_and_no_other_time(
    reason: GapReason, caplog: pytest.LogCaptureFixture
) -> None:
    store, worker = consumed([event(event_id="0")])
    worker.flow.is_compacted = {GapReason.COMPACTION: True, GapReason.TRANSACTIONS: False}.get(reason)
    worker.flow.partitions[0].beginning = 9 if reason == GapReason.RETENTION else 0
    if reason == GapReason.RECREATED:
        store.unread = [(EPOCH, 0, 1, 9)]
        asyncio.run(worker.resume(epoch="00000000-0000-4000-8000-000000000002"))
    else:
        asyncio.run(worker.consume({0: [FakeRecord(offset=9, value=event(event_id="9"))]}))
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    lost = f"bot_requests/0: 8 offsets from 1 on were not there to be read ({reason}): events are lost"
    assert said == ([lost] if reason.is_loss else [])


def test_the_beginning_of_a_log_is_no_gap() -> None:
    log = {0: records([event()], first_offset=700)}
    assert missing(lambda: consumed(log)) == {}


def test_what_an_earlier_life_of_a_topic_held_and_nobody_read_is_in_its_ledger() -> None:
    store, worker = consumed([event()])
    store.unread = [(EPOCH, 0, 1, 9), (EPOCH, 3, 0, 2)]
    assert missing(lambda: asyncio.run(worker.resume(epoch="00000000-0000-4000-8000-000000000002"))) == {
        GapReason.RECREATED: 10
    }
    assert store.positions("bot_requests", EPOCH, [0, 3]) == {0: 9, 3: 2}
    assert [entry["gaps"] for entry in store.ledger()[1:]] == [[[1, 9, "recreated"]], [[0, 2, "recreated"]]]


def test_the_ledger_says_of_every_event_where_it_was_and_which_it_is() -> None:
    log = {
        0: records([event(event_id="a"), b"{", event(event_id="a"), event(event_id="b", bot_id="other")]),
        4: records([event(event_id="c", event_time=NOW_MS - 5)], first_offset=7),
    }
    store, _ = consumed(log)
    proof = {
        entry["partition"]: [entry[name] for name in ("offsets", "bots_in", "times_in", "ids_in")]
        for entry in store.ledger()
    }
    assert proof == {
        0: [[0, 2, 3], ["bot", "bot", "other"], [NOW_MS] * 3, ["a", "a", "b"]],
        4: [[7], ["bot"], [NOW_MS - 5], ["c"]],
    }


# --- assignments


def test_a_worker_resumes_where_the_ledger_says() -> None:
    store, _ = consumed({0: records([event()]), 1: records([event(), event()], first_offset=4)})

    async def resume() -> dict[int, int]:
        return await Worker(store).resume(0, 1, 2)

    assert asyncio.run(resume()) == {0: 1, 1: 6, 2: -1}


def test_another_life_of_a_topic_begins_at_its_beginning() -> None:
    store, _ = consumed([event()])

    async def resume() -> dict[int, int]:
        return await Worker(store).resume(0, epoch="00000000-0000-4000-8000-000000000002")

    assert asyncio.run(resume()) == {0: -1}


def test_another_life_of_a_topic_knows_what_was_flushed_in_the_lives_before() -> None:
    store, _ = consumed([event(event_id="1"), event(event_id="2")])
    never_flushed = {**store.tables["footfall.bot_requests"][0], "event_id": "3", "source_offset": 2}
    store.tables["footfall.bot_requests"].append(never_flushed)  # its writer crashed before the cells

    async def consume() -> None:
        worker = Worker(store)
        await worker.resume(0, 1, epoch="00000000-0000-4000-8000-000000000002")
        repeated = [event(event_id=name) for name in ("2", "3", "1", "4")]
        await worker.consume({0: records(repeated), 1: records([event(event_id="1")])})

    asyncio.run(consume())
    again = {row["partition"]: (row["events"], row["duplicates"]) for row in store.ledger()[1:]}
    assert again == {0: (2, 2), 1: (1, 0)}


def test_a_resume_asks_the_store_until_it_answers() -> None:
    store = FakeStore()
    store.queries_failing = 20
    asyncio.run(Worker(store).resume(0))
    assert store.queries_failing == 0


def test_a_resume_ends_when_the_assignment_is_gone() -> None:
    store, worker = FakeStore(), Worker(FakeStore())
    worker.assignment.is_current = False
    store.queries_failing = 10**6
    with pytest.raises(Abandoned):
        asyncio.run(worker.resume(0))


def test_a_worker_that_takes_over_knows_the_duplicates_of_what_was_flushed() -> None:
    store, _ = consumed([event(event_id="1"), event(event_id="2")])
    consumed({0: records([event(event_id="2"), event(event_id="3")], first_offset=2)}, store=store)
    assert counted(store) == {("bot", START, 0): 3}
    assert totals(store) == {0: (4, 3, 1, 0, 0)}


def test_a_duplicate_of_what_no_cell_has_counted_does_no_harm() -> None:
    """An event far ahead goes to raw alone; when it is repeated after a restart its interval is open."""
    ahead = START + 2 * INTERVAL_MS
    log = [FakeRecord(offset=offset, value=event(event_time=ahead), timestamp=ahead) for offset in (0, 1)]
    store, _ = consumed({0: log[:1]})
    later = Worker(store, now_ms=lambda: ahead)

    async def run() -> None:
        await later.resume(0)
        await later.consume({0: log[1:]})

    asyncio.run(run())
    assert store.positions(REQUESTS, EPOCH, [0]) == {0: 2}
    assert counted(store) == {("bot", ahead, 0): 0}


def test_a_batch_of_an_assignment_that_is_gone_leaves_nothing() -> None:
    store, worker = FakeStore(), Worker(FakeStore())

    async def run() -> None:
        await worker.resume(0)
        batch = worker.batch({0: records([event(), b"{"])})
        worker.assignment.is_current = False
        decoded = worker.flow.decode(batch)
        assert (decoded.arrivals, decoded.dead_letters) == ([], [])
        rows = worker.flow.enrich(decoded)
        await worker.flow.flush(decoded, rows, worker.flow.window(decoded, rows))

    asyncio.run(run())
    assert store.writes == []
    assert worker.assignment.acknowledged == []


@pytest.mark.parametrize("stage", ["after decode", "after enrich", "after window"])
def test_a_new_assignment_between_two_stages_does_no_harm(stage: str) -> None:
    store = FakeStore()
    worker = Worker(store)
    log = records([event(event_id="1"), event(event_id="2"), b"{"])

    async def reassign() -> None:
        worker.assignment.is_current = False
        worker.assignment = FakeAssignment()
        await worker.resume(0)

    async def run() -> None:
        await worker.resume(0)
        old = worker.assignment
        decoded = worker.flow.decode(worker.batch({0: log}))
        if stage == "after decode":
            await reassign()
        rows = worker.flow.enrich(decoded)
        if stage == "after enrich":
            await reassign()
        cells = worker.flow.window(decoded, rows)
        if stage == "after window":
            await reassign()
        await worker.flow.flush(decoded, rows, cells)
        assert (store.writes, old.acknowledged) == ([], [])
        await worker.consume({0: log})

    asyncio.run(run())
    assert counted(store) == {("bot", START, 0): 2}
    assert totals(store) == {0: (3, 2, 0, 1, 0)}


def test_a_resume_waits_for_the_flush_on_its_way() -> None:
    class SlowStore(FakeStore):
        async def insert(self, table: str, *rest: Any, **named: Any) -> None:
            begun.set()
            await asyncio.sleep(0.01)
            await super().insert(table, *rest, **named)

    begun = asyncio.Event()
    store = SlowStore()
    worker = Worker(store)

    async def run() -> dict[int, int]:
        await worker.resume(0)
        flush = asyncio.create_task(worker.consume({0: records([event()])}))
        await begun.wait()
        positions = await worker.resume(0)
        await flush
        return positions

    assert asyncio.run(run()) == {0: 1}


def test_a_worker_notices_that_the_store_holds_less_than_it_has_written() -> None:
    store, worker = consumed({0: records([event()]), 1: records([event(), event()])})
    assert asyncio.run(worker.flow.is_behind()) == ""
    store.tables["footfall.ledger"] = [row for row in store.ledger() if row["partition"] == 0]
    assert "the ledger has no bot_requests/1, and this worker at 2" in asyncio.run(worker.flow.is_behind())


def test_records_read_again_by_another_assignment_are_written_again() -> None:
    """The store drops a write whose token it knows: it must not, should the rows have been lost."""
    store, _ = consumed([event()])
    store.tables = {}
    consumed([event()], store=store)
    assert len(store.raw(REQUESTS)) == 1
    assert store.positions("bot_requests", EPOCH, [0]) == {0: 1}


def test_a_worker_that_was_overtaken_needs_a_restart_and_changes_nothing_readers_see() -> None:
    store = FakeStore()
    log = records([event(event_id=str(number)) for number in range(4)])
    zombie = Worker(store)

    async def run() -> None:
        await zombie.resume(0)
        await zombie.consume({0: log[:1]})
        other = Worker(store)
        await other.resume(0)
        await other.consume({0: log[1:4]})
        with pytest.raises(RestartNeeded):
            await zombie.consume({0: log[1:3]})

    asyncio.run(run())
    assert zombie.assignment.acknowledged == [{0: 1}]
    assert store.positions(REQUESTS, EPOCH, [0]) == {0: 4}
    assert counted(store) == {("bot", START, 0): 4}


# --- crashes

values = st.one_of(
    st.builds(
        lambda bot, number, minutes, ip: event(
            bot_id=bot, event_id=str(number), event_time=NOW_MS - minutes * 60_000, ip=ip
        ),
        bot=st.sampled_from(["a", "b"]),
        number=st.integers(0, 3),
        minutes=st.sampled_from([0, 1, 8, 8, 40, 60 * 24 * 40]),
        ip=st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    ),
    st.sampled_from([b"", b"{", event(bot_id="a/b")]),
)
logs = st.dictionaries(st.integers(0, 1), st.lists(values, min_size=1, max_size=8), min_size=1).map(
    lambda partitions: {partition: records(log) for partition, log in partitions.items()}
)


async def drain(store: FakeStore, log: Log, sizes: Callable[[], int], acknowledged: dict[int, int]) -> None:
    """A worker takes over and consumes to the end of the log, in batches of these sizes."""
    worker = Worker(store)
    positions = await worker.resume(*log)
    while True:
        batch = {}
        for partition, of_partition in log.items():
            at = max(positions[partition], 0)
            if taken := of_partition[at : at + sizes()]:
                batch[partition] = taken
                positions[partition] = at + len(taken)
        if not batch:
            return
        await worker.consume(batch)
        for one in worker.assignment.acknowledged:
            acknowledged |= one
        held = store.positions(REQUESTS, EPOCH, list(log))
        assert all(held[partition] >= offset for partition, offset in acknowledged.items()), "ledger first"


@given(logs, st.data())
def test_crashes_at_any_effect_end_in_what_a_straight_run_leaves(log: Log, data: st.DataObject) -> None:
    straight, store = FakeStore(), FakeStore()
    asyncio.run(drain(straight, log, lambda: 100, {}))
    faults = st.builds(Fault, st.sampled_from([Crash(), Crash(), Fault().error]), is_applied=st.booleans())
    store.faults = data.draw(st.dictionaries(st.integers(0, 25), faults, max_size=8), label="faults")
    sizes, acknowledged = st.integers(0, 4), dict[int, int]()
    for _ in range(20):
        try:
            asyncio.run(drain(store, log, lambda: data.draw(sizes) or 1, acknowledged))
        except Crash:
            continue
        break
    else:
        pytest.fail("never came to the end")

    assert store.raw(REQUESTS) == straight.raw(REQUESTS)
    assert store.cells(REQUESTS) == straight.cells(REQUESTS)
    assert store.dead_letters() == straight.dead_letters()
    assert totals(store) == totals(straight)
    assert_chained(store, log)


def assert_chained(store: FakeStore, log: Log) -> None:
    """Every offset of the log is in one ledger row, each of which begins where another ends."""
    for partition, of_partition in log.items():
        entries = sorted(
            (entry["position"], entry["next_offset"], entry["records"])
            for entry in store.ledger()
            if entry["partition"] == partition
        )
        assert [end for _, end, _ in entries[:-1]] == [start for start, _, _ in entries[1:]]
        assert (entries[0][0], entries[-1][1]) == (0, len(of_partition))
        assert all(count == end - start for start, end, count in entries)


@given(logs)
def test_ledger_counts_add_up(log: Log) -> None:
    store = FakeStore()
    asyncio.run(drain(store, log, lambda: 3, {}))
    for entry in store.ledger():
        assert entry["records"] == entry["events"] + entry["duplicates"] + entry["dead_letters"]
        assert entry["late"] <= entry["events"]
    written = len(store.tables.get("footfall.bot_requests", []))
    assert written == sum(entry["events"] + entry["duplicates"] for entry in store.ledger())


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("footfall_records_total", {}, 4),
        ("footfall_rows_written_total", {}, 3),
        ("footfall_duplicate_events_total", {}, 1),
        ("footfall_late_events_total", {}, 1),
        ("footfall_dead_letters_total", {"reason": "invalid_json"}, 1),
        ("footfall_flush_seconds_count", {}, 1),
    ],
)
def test_what_became_of_records_is_counted(name: str, labels: dict[str, str], expected: int) -> None:
    values = [event(), event(), event(event_time=START - 2 * INTERVAL_MS), b"{"]
    assert grown(name, lambda: consumed(values), topic="bot_requests", **labels) == expected


def test_what_is_held_is_shown() -> None:
    consumed([event(event_id="1"), event(event_id="2"), event(bot_id="other")])
    assert metric("footfall_open_cells", topic="bot_requests") == 2
    assert metric("footfall_remembered_identities", topic="bot_requests") == 3
