"""`footfall dead-letters` before store or broker are asked: what is meant, what would become of it, what is shown."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, cast

import pytest

from clickhouse.dead_letters import AT_ONCE, Contents, Letter
from pipeline import dead_letters
from pipeline.config import Settings
from pipeline.dead_letters import (
    CHUNK_BYTES,
    NAMED,
    Judged,
    Listing,
    Outlook,
    ReplayedLetters,
    Shown,
    address_of,
    chunks,
    judge,
    printable,
    readable,
    selection,
)
from pipeline.errors import Misconfigured, Unavailable
from pipeline.publish import NotAcknowledged, Publisher
from schemas.dead_letter import MAX_KEPT_BYTES, Address, Reason
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, event
from tests.footfall import footfall
from tests.kafka import free_port
from tests.unit.test_dead_letter import MALFORMED

NOWHERE = ("--broker", "127.0.0.1:1", "--clickhouse", "http://127.0.0.1:1")


def letter(value: bytes = b"{}", *, offset: int = 7, value_bytes: int | None = None, **fields: Any) -> Letter:
    """A dead letter of these bytes."""
    given = {
        "address": Address("bot_requests", EPOCH, 3, offset),
        "record_ms": NOW_MS,
        "reason": "missing_field",
        "field": "event_id",
        "value_bytes": len(value) if value_bytes is None else value_bytes,
        "value_sha256": hashlib.sha256(value).hexdigest(),
        "alike": 1,
    }
    return Letter(**(given | fields))


def contents(value: bytes = b"{}", *, key: bytes | None = b"k", bot: str = "bot") -> Contents:
    return Contents(key=key, value=value, bot=bot, ingested_ms=NOW_MS + 1)


def judged(value: bytes, *, now_ms: int = NOW_MS, **fields: Any) -> Judged:
    topic = Topic.TOKEN_USAGES if b"input_tokens" in value else Topic.BOT_REQUESTS
    return judge(letter(value, **fields), contents(value), topic, now_ms=now_ms)


# --- which are meant


def test_an_address_is_read_as_it_is_written() -> None:
    address = Address("my.bot_requests", EPOCH, 3, 1 << 40)
    assert address_of(str(address)) == address


@pytest.mark.parametrize(
    "word",
    ["", "7", "bot_requests/3/7", f"t/{EPOCH}/3/-7", f"t/{EPOCH}/x/7", "t/epoch/3/7", f"t/{EPOCH}/3/7/8"],
)
def test_what_is_no_address_is_refused_with_how_one_looks(word: str) -> None:
    with pytest.raises(Misconfigured, match="TOPIC/EPOCH/PARTITION/OFFSET"):
        address_of(word)


def test_a_selection_has_the_topics_of_this_deployment_alone() -> None:
    settings = Settings(topic_prefix="my.")
    assert selection(settings).topics == ["my.bot_requests", "my.token_usages", "my.bot_feedback"]
    assert selection(settings, topics=["bot_feedback"]).topics == ["my.bot_feedback"]


def test_everything_that_is_wrong_with_a_selection_is_said_at_once() -> None:
    with pytest.raises(Misconfigured) as refusal:
        selection(
            Settings(),
            topics=["my.bot_requests"],
            reasons=["nonsense"],
            partitions=[-1],
            addresses=["a"] * 101,
        )
    problems = str(refusal.value).splitlines()
    assert len(problems) == 4
    for problem, name in zip(problems, ("my.bot_requests", "nonsense", "-1", "101"), strict=True):
        assert name in problem


@pytest.mark.parametrize(
    "words",
    [(), ("--limit", "5"), ("--dry-run",), (f"bot_requests/{EPOCH}/0/0", "--reason", "empty")],
    ids=" ".join,
)
def test_a_replay_wants_to_be_told_which_are_meant(words: tuple[str, ...]) -> None:
    done = footfall("dead-letters", "replay", *words, *NOWHERE)
    assert done.returncode == 2
    assert "say which dead letters are meant" in done.stderr


def test_a_store_that_is_away_is_an_outage() -> None:
    done = footfall("dead-letters", "list", *NOWHERE)
    assert (done.returncode, done.stdout) == (70, "")
    assert "no store answers at http://127.0.0.1:1: start it, or correct --clickhouse (" in done.stderr


@pytest.mark.parametrize("command", [("audit",), ("dead-letters", "list")], ids=" ".join)
def test_where_nothing_runs_one_is_told_to_start_it(command: tuple[str, ...]) -> None:
    port = free_port()
    done = footfall(*command, "--store-port", str(port))
    assert (done.returncode, done.stdout) == (70, "")
    expected = f"no store answers at http://127.0.0.1:{port}: start `footfall up`, or say where it is with --clickhouse"
    assert expected in done.stderr


# --- what would become of them


@pytest.mark.parametrize("reason", Reason)
def test_what_this_version_refuses_is_refused_again_whatever_the_reason(reason: Reason) -> None:
    value = MALFORMED[reason] or b""
    found = judged(value)
    assert (found.outlook, found.why.partition(":")[0]) == (Outlook.REFUSED, reason)


def test_what_this_version_takes_is_accepted_as_the_event_that_it_is() -> None:
    found = judged(event(event_id="e1"))
    assert (found.outlook, found.why, found.event) == (Outlook.ACCEPTED, "", ("bot", NOW_MS, "e1"))
    assert (found.topic, found.key, found.value) == (Topic.BOT_REQUESTS, b"k", event(event_id="e1"))


def test_what_was_in_the_future_is_accepted_when_its_time_has_come() -> None:
    value = event(event_time=NOW_MS + 300_001)
    assert judged(value).outlook is Outlook.REFUSED
    assert judged(value, now_ms=NOW_MS + 1).outlook is Outlook.ACCEPTED


def test_what_is_cut_is_never_taken_for_the_event_even_if_it_looks_like_one() -> None:
    value = event()
    found = judged(value, value_bytes=3_000_000, value_sha256=hashlib.sha256(b"all of it").hexdigest())
    assert (found.outlook, found.event) == (Outlook.CUT, None)
    assert found.why == f"{len(value)} of its 3,000,000 bytes are kept"


def test_dead_letters_are_read_in_bounded_parts() -> None:
    small = [letter(offset=offset) for offset in range(AT_ONCE + 1)]
    assert [len(chunk) for chunk in chunks(small)] == [AT_ONCE, 1]
    large = [letter(offset=offset, value_bytes=50_000_000) for offset in range(9)]
    at_once = CHUNK_BYTES // MAX_KEPT_BYTES
    assert [len(chunk) for chunk in chunks(large)] == [at_once, at_once, 1]
    assert list(chunks([])) == []


# --- what is shown


def test_what_would_command_a_terminal_is_escaped() -> None:
    assert printable("a\x1b[2Jü\n\u202e\ud800") == "a\\x1b[2Jü\\n\\u202e\\ud800"
    assert readable(b'{"a":\t1,\n"b": "\xff\x1b\xc3\xbc"}\r') == '{"a":\t1,\n"b": "\\xff\\x1bü"}\\r'


def test_a_list_is_a_line_for_each_and_a_total_by_reason() -> None:
    one, other = judged(event()), judged(b"{}", offset=12_345, value_bytes=2)
    listing = Listing(reasons={"missing_field": 1_200, "empty": 1}, shown=[one, other])
    head, first, second, total = str(listing).splitlines()
    assert head.split() == ["time", "reason", "field", "bytes", "bot", "now", "address"]
    address = f"bot_requests/{EPOCH}/3/7"
    size = str(len(event()))
    assert first.split() == [
        *("2026-01-05T12:07:00.000Z", "missing_field", "event_id", size, "bot", "accepted", address)
    ]
    assert second.endswith("/12345")
    assert total == "2 of 1,201 dead letters: missing_field 1,200, empty 1"


def test_an_empty_list_says_so() -> None:
    listing = Listing(reasons={}, shown=[])
    assert str(listing) == "no dead letters"
    assert json.loads(listing.as_json()) == {"total": 0, "reasons": {}, "dead_letters": []}


def test_show_has_all_that_is_known_and_its_bytes_last() -> None:
    value = b'{"event_id": "\x1b[2J"}'
    lines = str(Shown(judged=judged(value))).splitlines()
    assert lines[-1] == '{"event_id": "\\x1b[2J"}'
    named = dict(line.split("  ", 1) for line in lines[:-2])
    assert {name: text.strip() for name, text in named.items()} == {
        "address": f"bot_requests/{EPOCH}/3/7",
        "record time": "2026-01-05T12:07:00.000Z",
        "stored": "2026-01-05T12:07:00.001Z",
        "reason": "missing_field",
        "field": "event_id",
        "bot": "bot",
        "key": "k",
        "bytes": str(len(value)),
        "sha256": hashlib.sha256(value).hexdigest(),
        "now": "refused: invalid_json",
    }


def test_json_of_one_has_its_bytes_exactly() -> None:
    value = b"\xff\x00{"
    said = json.loads(Shown(judged=judged(value)).as_json())
    assert (said["value"], said["value_base64"]) == (None, "/wB7")
    assert (said["key"], said["key_base64"]) == ("k", "aw==")
    assert (said["topic"], said["partition"], said["offset"], said["now"]) == (
        "bot_requests",
        3,
        7,
        "refused",
    )


# --- what a replay says


def test_of_those_that_cannot_be_published_a_few_are_named_and_all_are_counted() -> None:
    summary = ReplayedLetters(is_dry=False, selected=NAMED + 3, is_complete=True)
    summary.published["bot_requests"] = 2
    for offset in range(NAMED + 1):
        summary.refuse(letter(offset=offset).address, "would be refused again", "empty")
    lines = str(summary).splitlines()
    assert "published               2 (bot_requests 2)" in lines
    assert f"  would be refused again: {NAMED + 1}" in lines
    assert f"    bot_requests/{EPOCH}/3/0: empty" in lines
    assert sum(line.endswith(": empty") for line in lines) == NAMED
    assert lines[-1] == "    and 1 more"


def test_a_replay_that_was_stopped_says_that_it_may_be_run_again() -> None:
    assert str(ReplayedLetters(is_dry=False)).splitlines()[-1].startswith("stopped before the end")


class FakePublisher:
    """Acknowledges all but the values that it has to refuse or to lose."""

    def __init__(self, *, too_large: bytes = b"", lost: bytes = b"") -> None:
        self._too_large, self._lost = too_large, lost

    async def publish(self, events: list[Judged], acknowledged: Any) -> list[Judged]:
        for one in events:
            if one.value == self._lost:
                raise NotAcknowledged("the broker is away", one)
            if one.value != self._too_large:
                acknowledged(one)
        return [one for one in events if one.value == self._too_large]


def published(publisher: FakePublisher) -> ReplayedLetters:
    summary = ReplayedLetters(is_dry=False)
    accepted = [judged(event(event_id=name)) for name in ("a", "b")]
    asyncio.run(dead_letters._publish(accepted, cast(Publisher, publisher), summary))
    return summary


def test_what_the_broker_finds_too_large_is_named() -> None:
    summary = published(FakePublisher(too_large=event(event_id="b")))
    assert (summary.published.total(), summary.refusals) == (1, {"larger than this broker takes": 1})


def test_a_broker_that_stays_away_ends_a_replay_which_says_how_far_it_came() -> None:
    with pytest.raises(Unavailable, match="1 are published: run it again, nothing counts twice"):
        published(FakePublisher(lost=event(event_id="b")))
