"""The contract of events, through a worker on a real Kafka: what is refused, why, and that all else is counted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clickhouse.dead_letters import Selection
from pipeline.config import Settings
from pipeline.dead_letters import list_letters, replay_letters, selection
from schemas.dead_letter import MAX_KEPT_BYTES, Reason
from schemas.event import MAX_FUTURE_MS
from schemas.topics import Topic
from tests.footfall import footfall
from tests.records import Outgoing, Record, end_offsets, everything_in, publish
from tests.stack import Stack, bot_path, eventually
from tests.unit.test_decode import REFUSED

pytestmark = [pytest.mark.kafka, pytest.mark.embedded]
pytest.importorskip("chdb")

THEN = 1_700_000_000_123
THEN_RFC_3339 = "2023-11-14T22:13:20.123Z"
COUNTED = "beside the broken ones"
PARTITION = 5

REQUEST = {"event_id": "e1", "event_time": THEN, "endpoint": "api"}
USAGE = {"event_id": "e1", "event_time": THEN, "source": "chat", "input_tokens": 100, "output_tokens": 20}
VOTE = {"event_id": "e1", "event_time": THEN, "rating": "positive"}
DEFAULTS = {Topic.BOT_REQUESTS: REQUEST, Topic.TOKEN_USAGES: USAGE, Topic.BOT_FEEDBACK: VOTE}


def record(
    stack: Stack,
    topic: Topic,
    bot: str,
    *,
    partition: int | None = None,
    key: bytes | None = None,
    **fields: Any,
) -> Outgoing:
    """A good event that names only what matters."""
    value = json.dumps({**DEFAULTS[topic], "bot_id": bot, **fields}).encode()
    return Outgoing(topic=stack.topic(topic), value=value, partition=partition, key=key)


# --- what is refused -----------------------------------------------------------------------------------


class Refusals:
    """Every rule broken once, a good event after each, all of it consumed."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.first = {topic: len(in_partition(stack, topic)) for topic in Topic}
        """Offset of the first record of ours."""
        self.counted_before = {reason: self.counted(reason) for reason in Reason}
        records = []
        for number, (_, topic, value, reason, _) in enumerate(REFUSED):
            if isinstance(value, dict) and reason is Reason.IN_THE_FUTURE:
                # The record's own time will be the broker's.
                value = {**value, "event_time": int(time.time() * 1000) + 400_000}
            raw = json.dumps(value).encode() if isinstance(value, dict) else value
            broken = Outgoing(
                topic=stack.topic(topic), value=raw, key=f"key {number}".encode(), partition=PARTITION
            )
            good = record(stack, topic, COUNTED, partition=PARTITION, event_id=f"good {number}")
            records += [broken, good]
        publish(stack.bootstrap, records)
        stack.wait_until_visible(COUNTED)
        written = {topic: iter(in_partition(stack, topic)[self.first[topic] :]) for topic in Topic}
        self.written = [(next(written[case[1]]), next(written[case[1]])) for case in REFUSED]
        """Of each case the broken record and the good one."""

    def counted(self, reason: Reason) -> float:
        """What the worker's metric says."""
        return self.stack.workers[0].metric("footfall_dead_letters_total", reason=reason)


def in_partition(stack: Stack, topic: Topic) -> list[Record]:
    records = everything_in(stack.bootstrap, stack.topic(topic))
    return [record for record in records if record.partition == PARTITION]


@pytest.fixture(scope="module")
def refusals(stack: Stack) -> Refusals:
    return Refusals(stack)


def test_each_broken_rule_is_a_row_with_its_reason_and_its_origin(refusals: Refusals) -> None:
    rows = refusals.stack.sql(
        """SELECT topic, partition, offset, toUnixTimestamp64Milli(record_time) AS record_ms, reason, field,
            hex(value) AS value, value_bytes, value_sha256
        FROM footfall.dead_letters FINAL"""
    )
    found = {(row["topic"], row["partition"], row["offset"]): row for row in rows}
    assert len(found) == len(rows)
    for (name, topic, _, reason, field), (broken, _) in zip(REFUSED, refusals.written, strict=True):
        row = found[refusals.stack.topic(topic), broken.partition, broken.offset]
        value = broken.value or b""
        assert (row["reason"], row["field"]) == (reason, field), name
        assert row["record_ms"] == broken.timestamp_ms, name
        assert bytes.fromhex(row["value"]) == value[:MAX_KEPT_BYTES], name
        assert row["value_bytes"] == len(value), name
        assert row["value_sha256"] == hashlib.sha256(value).hexdigest(), name


def test_each_broken_rule_is_a_record_on_its_dead_letter_topic(refusals: Refusals) -> None:
    stack = refusals.stack
    letters = {
        (topic, letter.headers["footfall-partition"], letter.headers["footfall-offset"]): letter
        for topic in Topic
        for letter in everything_in(stack.bootstrap, stack.prefix + topic.dead_letter)
    }
    epochs = {
        row["topic"]: row["epoch"] for row in stack.sql("SELECT DISTINCT topic, epoch FROM footfall.ledger")
    }
    for (name, topic, _, reason, field), (broken, _) in zip(REFUSED, refusals.written, strict=True):
        letter = letters[topic, str(broken.partition), str(broken.offset)]
        value = broken.value or b""
        assert letter.key == broken.key, name
        assert (letter.value or b"") == value[:MAX_KEPT_BYTES], name
        assert letter.headers == {
            "footfall-reason": reason,
            "footfall-field": field,
            "footfall-topic": stack.topic(topic),
            "footfall-epoch": epochs[stack.topic(topic)],
            "footfall-partition": str(broken.partition),
            "footfall-offset": str(broken.offset),
            "footfall-record-time": str(broken.timestamp_ms),
            "footfall-value-bytes": str(len(value)),
            "footfall-value-sha256": hashlib.sha256(value).hexdigest(),
        }, name


def test_nothing_but_the_broken_is_refused_and_nothing_of_it_counted(refusals: Refusals) -> None:
    stack = refusals.stack
    summary = stack.get(bot_path(COUNTED, "summary"), **{"from": "2023-11-14", "to": "2023-11-15"})["data"]
    good = {topic: sum(case[1] is topic for case in REFUSED) for topic in Topic}
    assert summary["total_requests"] == good[Topic.BOT_REQUESTS]
    assert summary["input_tokens"] == 100 * good[Topic.TOKEN_USAGES]
    assert summary["positive_feedbacks"] == good[Topic.BOT_FEEDBACK]
    answer = stack.api.get("/bots/b1/summary")  # the bot of all broken events
    assert answer.status_code == 404
    refused = {(broken.topic, broken.offset) for broken, _ in refusals.written}
    letters = stack.sql(
        "SELECT topic, offset FROM footfall.dead_letters FINAL WHERE partition = {partition:UInt32}",
        partition=str(PARTITION),
    )
    first = {stack.topic(topic): offset for topic, offset in refusals.first.items()}
    found = {(letter["topic"], letter["offset"]) for letter in letters}
    assert {(topic, offset) for topic, offset in found if offset >= first[topic]} == refused


def test_the_ledger_and_the_metrics_account_for_every_record(refusals: Refusals) -> None:
    stack = refusals.stack
    for topic in Topic:
        [entry] = stack.sql(
            """SELECT sum(records) AS records, sum(events) AS events, sum(duplicates) AS duplicates,
                sum(dead_letters) AS dead_letters, max(next_offset) AS next_offset
            FROM footfall.ledger FINAL WHERE topic = {topic:String} AND partition = {partition:UInt32}""",
            topic=stack.topic(topic),
            partition=str(PARTITION),
        )
        assert entry["records"] == entry["next_offset"] == len(in_partition(stack, topic))
        assert entry["records"] == entry["events"] + entry["duplicates"] + entry["dead_letters"]
        assert entry["dead_letters"] >= sum(case[1] is topic for case in REFUSED)
    for reason in Reason:
        counted = refusals.counted(reason) - refusals.counted_before[reason]
        assert counted == sum(case[3] is reason for case in REFUSED), reason


# --- what is accepted ----------------------------------------------------------------------------------


class Accepted:
    """Good events, a bot for each question, all of them consumed."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._invalid_before = self._invalid()
        self.now_ms = int(time.time() * 1000)
        publish(stack.bootstrap, [*self._requests(), *self._usages(), *self._votes()])
        # Later than all of those by the broker's clock.
        time.sleep(0.01)
        late = [
            record(stack, Topic.BOT_REQUESTS, "copies", partition=0, endpoint="later"),
            record(stack, Topic.BOT_REQUESTS, "copies", partition=6, endpoint="later"),
        ]
        publish(stack.bootstrap, late)
        stack.wait_until_visible("copies")
        self.invalid_addresses = self._invalid() - self._invalid_before

    def _invalid(self) -> float:
        return self.stack.workers[0].metric("footfall_invalid_addresses_total")

    def _requests(self) -> Iterator[Outgoing]:
        stack, topic = self.stack, Topic.BOT_REQUESTS
        nothing: dict[str, Any] = dict.fromkeys(["chat_id", "ip", "user_agent", "page_url", "timezone"])
        yield record(stack, topic, "absent", event_id="null", **nothing)
        yield record(stack, topic, "absent", event_id="missing")
        yield record(stack, topic, "absent", event_id="unknown", new_in_2030={"a": [1, None]})
        yield record(stack, topic, "absent", event_id="no address", ip="192.0.2.1:443")
        yield record(
            stack, topic, "long",
            endpoint="😀" * 128, event_id="é" * 128, chat_id="c" * 128,
            user_agent="ü" * 700, page_url="x" + "ü" * 1400,
        )  # fmt: skip
        yield record(stack, topic, "times", event_time=THEN)
        yield record(stack, topic, "times", event_time=THEN_RFC_3339)
        yield record(stack, topic, "times", event_time="2023-11-15T03:58:20.1239999+05:45")
        yield record(stack, topic, "times", event_time=THEN + 1)
        yield record(stack, topic, "far", event_time="2000-01-01T00:00:00Z")
        yield record(stack, topic, "far", event_time=self.now_ms + 240_000)
        for number, key in enumerate((None, b"keys", b"another bot", b"\xff\x00")):
            yield record(stack, topic, "keys", event_id=str(number), key=key)
        for bot in ("same id", "same id of another"):
            yield record(stack, topic, bot)
        yield record(stack, topic, "copies", partition=3, endpoint="first")
        yield record(stack, topic, "addresses", event_id="1", ip="::ffff:192.0.2.1")
        yield record(stack, topic, "addresses", event_id="2", ip="192.0.2.1")
        yield record(stack, topic, "addresses", event_id="3", ip="2001:0DB8:0:0:0:0:0:1")

    def _usages(self) -> Iterator[Outgoing]:
        stack, topic = self.stack, Topic.TOKEN_USAGES
        yield record(stack, topic, "same id")
        yield record(stack, topic, "parts", cached_input_tokens=1000, reasoning_output_tokens=2000)
        yield record(stack, topic, "parts", event_id="e2", cached_input_tokens=None)
        yield record(stack, topic, "many", input_tokens=2**53 - 1, output_tokens=0)
        yield record(stack, topic, "many", event_id="e2", input_tokens=2**53 - 1, output_tokens=2**53 - 1)

    def _votes(self) -> Iterator[Outgoing]:
        stack, topic = self.stack, Topic.BOT_FEEDBACK

        def vote(bot: str, number: int, rating: str, **fields: Any) -> Outgoing:
            said: dict[str, Any] = {
                "event_id": str(number),
                "event_time": THEN + number,
                "rating": rating,
            } | fields
            return record(stack, topic, bot, **said)

        message = {"chat_id": "c", "message_id": "m"}
        yield vote("changed", 1, "positive", **message)
        yield vote("changed", 2, "negative", **message)
        yield vote("out of order", 2, "negative", **message)
        yield vote("out of order", 1, "positive", **message)
        yield vote("withdrawn", 1, "positive", **message)
        yield vote("withdrawn", 2, "none", **message)
        yield vote("in two chats", 1, "positive", **message)
        yield vote("in two chats", 2, "negative", **message | {"chat_id": "d"})
        yield vote("at once", 1, "negative", **message, event_time=THEN)
        yield vote("at once", 2, "positive", **message, event_time=THEN)
        yield vote("no message", 1, "positive", chat_id="c")
        yield vote("no message", 2, "positive", chat_id="c")
        yield vote("no message", 3, "negative", chat_id="c", message_id=None)
        yield vote("a day later", 1, "positive", **message)
        yield vote("a day later", 2, "negative", **message, event_time=THEN + 86_400_000)

    def summary(self, bot: str, from_: str = "2000-01-01", to: str = "2200-01-01") -> dict[str, Any]:
        data: dict[str, Any] = self.stack.get(bot_path(bot, "summary"), **{"from": from_, "to": to})["data"]
        return data

    def rows(self, bot: str, path: str = "requests") -> list[dict[str, Any]]:
        """All rows of a table, oldest first."""
        data = self.stack.get(bot_path(bot, path), **{"from": "2000-01-01", "to": "2200-01-01"})["data"]
        return list(reversed(data["rows"]))

    def ratings(self, bot: str, **range_: str) -> tuple[int, int]:
        summary = self.summary(bot, **range_)
        return summary["positive_feedbacks"], summary["negative_feedbacks"]


@pytest.fixture(scope="module")
def accepted(stack: Stack) -> Accepted:
    return Accepted(stack)


def test_null_and_missing_and_invalid_addresses_are_absent_and_unknown_fields_ignored(
    accepted: Accepted,
) -> None:
    rows = accepted.rows("absent")
    assert {row.pop("event_id") for row in rows} == {"null", "missing", "unknown", "no address"}
    empty = {"chat_id", "ip", "country", "region", "city", "browser", "client_class", "timezone", "page_url"}
    for row in rows:
        assert {name for name, value in row.items() if value is None} == empty
    summary = accepted.summary("absent")
    assert (summary["total_requests"], summary["unique_ips"], summary["unique_conversations"]) == (4, 0, 0)
    assert accepted.invalid_addresses == 1


def test_strings_of_128_code_points_are_kept_and_free_text_is_cut_to_whole_characters(
    accepted: Accepted,
) -> None:
    [row] = accepted.rows("long")
    assert (row["endpoint"], row["event_id"], row["chat_id"]) == ("😀" * 128, "é" * 128, "c" * 128)
    assert row["page_url"] == "x" + "ü" * 999
    [raw] = accepted.stack.sql("SELECT user_agent FROM footfall.bot_requests WHERE bot_id = 'long'")
    assert raw["user_agent"] == "ü" * 500


def test_one_instant_is_one_event_however_it_is_written(accepted: Accepted) -> None:
    assert [row["time"] for row in accepted.rows("times")] == [
        "2023-11-14T22:13:20.123+00:00",
        "2023-11-14T22:13:20.124+00:00",
    ]
    assert accepted.summary("times")["total_requests"] == 2


def test_the_first_moment_of_2000_and_four_minutes_ahead_are_accepted(accepted: Accepted) -> None:
    assert accepted.summary("far")["total_requests"] == 2


def test_nothing_depends_on_the_records_key(accepted: Accepted) -> None:
    assert accepted.summary("keys")["total_requests"] == 4


def test_an_id_names_an_event_within_its_topic_and_bot_alone(accepted: Accepted) -> None:
    for bot in ("same id", "same id of another"):
        assert accepted.summary(bot)["total_requests"] == 1
    assert accepted.summary("same id")["total_tokens"] == 120


def test_of_copies_in_several_partitions_the_first_appended_is_the_event(accepted: Accepted) -> None:
    eventually(lambda: accepted.summary("copies")["total_requests"] == 1, 10)
    assert [row["endpoint"] for row in accepted.rows("copies")] == ["first"]
    top = accepted.stack.get(
        bot_path("copies", "requests/top"), **{"from": "2023-11-14", "to": "2023-11-15", "by": "endpoint"}
    )
    assert [(row["value"], row["requests"]) for row in top["data"]] == [("first", 1)]


def test_addresses_have_one_form(accepted: Accepted) -> None:
    assert [row["ip"] for row in accepted.rows("addresses")] == ["192.0.2.1", "192.0.2.1", "2001:db8::1"]
    assert accepted.summary("addresses")["unique_ips"] == 2


def test_parts_of_token_counts_are_kept_and_never_added(accepted: Accepted) -> None:
    summary = accepted.summary("parts")
    assert (summary["input_tokens"], summary["output_tokens"], summary["total_tokens"]) == (200, 40, 240)
    assert [row["total_tokens"] for row in accepted.rows("parts", "token-usages")] == [120, 120]
    stored = accepted.stack.sql(
        "SELECT cached_input_tokens AS cached, reasoning_output_tokens AS reasoning"
        " FROM footfall_v1.token_usages WHERE bot_id = 'parts' ORDER BY event_id"
    )
    assert stored == [{"cached": 1000, "reasoning": 2000}, {"cached": None, "reasoning": None}]


def test_the_greatest_integers_are_exact_and_so_are_their_sums(accepted: Accepted) -> None:
    summary = accepted.summary("many")
    assert (summary["input_tokens"], summary["output_tokens"]) == (2 * (2**53 - 1), 2**53 - 1)
    assert summary["total_tokens"] == 3 * (2**53 - 1)


@pytest.mark.parametrize(
    ("bot", "positive", "negative"),
    [
        ("changed", 0, 1),
        ("out of order", 0, 1),
        ("withdrawn", 0, 0),
        ("in two chats", 1, 1),
        ("at once", 1, 0),
        ("no message", 2, 1),
    ],
)
def test_of_the_votes_on_a_message_the_last_one_holds(
    accepted: Accepted, bot: str, positive: int, negative: int
) -> None:
    assert accepted.ratings(bot) == (positive, negative)


def test_a_vote_counts_in_the_interval_of_its_own_time(accepted: Accepted) -> None:
    assert accepted.ratings("a day later", from_="2023-11-14", to="2023-11-15") == (0, 0)
    assert accepted.ratings("a day later", from_="2023-11-15", to="2023-11-16") == (0, 1)


# --- what is published again ---------------------------------------------------------------------------


class Replays:
    """An event that comes too early, twice, and others that can never be good; then time passes, and replays."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = Settings(
            broker=stack.bootstrap,
            clickhouse=stack.environment["FOOTFALL_CLICKHOUSE"],
            topic_prefix=stack.prefix,
        )
        self._due = time.time() + 4
        self.early = record(
            stack, Topic.BOT_REQUESTS, "replayed", key=b"replayed",
            event_time=round(self._due * 1000) + MAX_FUTURE_MS,
        )  # fmt: skip
        never = record(stack, Topic.BOT_REQUESTS, "replayed", partition=PARTITION, endpoint=7)
        cut = record(stack, Topic.BOT_REQUESTS, "replayed", partition=2, event_id=7, page_url="x" * 950_000)
        publish(stack.bootstrap, [self.early, self.early, never, cut])
        stack.wait_until_durable()
        time.sleep(max(0.0, self._due - time.time()))

    def selected(self, **filters: Any) -> Selection:
        return selection(self.settings, **filters)

    def outlooks(self, **filters: Any) -> list[str]:
        """What a list says would become of each."""
        listing = asyncio.run(list_letters(self.settings, self.selected(**filters), limit=100))
        return [one.outlook.value for one in listing.shown]

    def replay(self, **filters: Any) -> tuple[int, int]:
        """How many were published, and how many are there already."""
        done = asyncio.run(replay_letters(self.settings, self.selected(**filters)))
        assert (done.is_complete, done.refusals.total()) == (True, 0)
        return done.published.total(), done.counted


@pytest.fixture(scope="module")
def replays(stack: Stack) -> Replays:
    return Replays(stack)


def test_what_is_replayed_counts_once_however_often_and_whoever_else_sends_it(replays: Replays) -> None:
    stack = replays.stack
    early = {"bots": ["replayed"], "reasons": ["in_the_future"]}
    assert replays.outlooks(**early) == ["accepted", "accepted"]
    # While the worker stands still nothing is counted yet, so a second replay and the sender's retry are published too.
    worker = stack.workers[0].process.process
    worker.send_signal(signal.SIGSTOP)
    try:
        assert replays.replay(**early) == (1, 0)
        assert replays.replay(**early) == (1, 0)
        publish(stack.bootstrap, [replays.early])
    finally:
        worker.send_signal(signal.SIGCONT)
    stack.wait_until_visible("replayed")
    range_ = {"from": "2000-01-01", "to": "2200-01-01"}
    assert stack.get(bot_path("replayed", "summary"), **range_)["data"]["total_requests"] == 1
    assert len(stack.get(bot_path("replayed", "requests"), **range_)["data"]["rows"]) == 1
    assert replays.replay(**early) == (0, 1)
    assert replays.outlooks(**early) == ["counted", "counted"]


def test_what_would_be_refused_again_or_is_cut_is_not_published_but_named(replays: Replays) -> None:
    stack = replays.stack
    ends = end_offsets(stack.bootstrap, stack.topic(Topic.BOT_REQUESTS))
    never, cut = (
        f"{stack.topic(Topic.BOT_REQUESTS)}/{row['epoch']}/{row['partition']}/{row['offset']}"
        for row in stack.sql(
            """SELECT epoch, partition, offset FROM footfall.dead_letters FINAL
            WHERE value LIKE '%"replayed"%' AND reason = 'wrong_type' ORDER BY value_bytes"""
        )
    )
    done = footfall("dead-letters", "replay", never, cut, environment=stack.environment)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "footfall: 2 of them cannot be published")
    assert f"{never}: wrong_type: endpoint" in done.stdout
    assert f"{cut}: 900,000 of its 95" in done.stdout
    assert end_offsets(stack.bootstrap, stack.topic(Topic.BOT_REQUESTS)) == ends
