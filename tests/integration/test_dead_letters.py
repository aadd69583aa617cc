"""`footfall dead-letters` on the embedded store: which are meant, in which order, their bytes, what is replayed."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pytest

from clickhouse import dead_letters, ledger
from clickhouse.client import Store, StoreAddress, connect
from clickhouse.dead_letters import AT_ONCE, Letter
from pipeline.config import Settings
from pipeline.dead_letters import list_letters, replay_letters, selection, show_letter
from pipeline.errors import Refused
from schemas import bot_request
from schemas.dead_letter import Address, DeadLetter, Reason
from schemas.topics import Topic
from tests.builders import EPOCH, NOW_MS, event, row
from tests.footfall import footfall

pytestmark = pytest.mark.embedded

T = TypeVar("T")

LATER_EPOCH = "00000000-0000-4000-8000-000000000002"
HOSTILE = 'it\'s "a" \\ b, ü'
CONTROLS = HOSTILE + "\n\t\x00"
"""No bot can be called so."""


def letter(
    offset: int,
    value: bytes = b"{}",
    *,
    topic: str = "my.bot_requests",
    epoch: str = EPOCH,
    partition: int = 0,
    key: bytes | None = None,
    reason: Reason = Reason.MISSING_FIELD,
    minute: int = 0,
    kept: int | None = None,
) -> DeadLetter:
    """As a worker writes it."""
    return DeadLetter(
        topic=topic,
        epoch=epoch,
        partition=partition,
        offset=offset,
        record_ms=NOW_MS + minute * 60_000,
        reason=reason,
        field="event_id",
        key=key,
        value=value[:kept],
        value_bytes=len(value),
        value_sha256=hashlib.sha256(value).hexdigest(),
    )


LETTERS = [
    letter(1, event(bot_id="one", endpoint=7), reason=Reason.WRONG_TYPE, key=b"\xff\x00", minute=3),
    letter(2, event(bot_id="one", event_id="counted"), minute=1),
    letter(3, event(bot_id="one", event_id="fine"), minute=2, key=b"one"),
    letter(4, event(bot_id="one", event_id="fine"), minute=4, partition=1),
    letter(2, event(bot_id=HOSTILE, event_id=CONTROLS), epoch=LATER_EPOCH, minute=5),
    letter(5, b"\xff\x00 no text", reason=Reason.INVALID_JSON, minute=6, partition=1),
    letter(6, event(bot_id="one", event_id="cut"), reason=Reason.TOO_LARGE, minute=7, kept=20),
    letter(7, b"", reason=Reason.EMPTY, minute=7),
    letter(1, event(Topic.BOT_FEEDBACK, bot_id="two"), topic="my.bot_feedback", minute=8),
    letter(9, event(bot_id="one"), topic="bot_requests", minute=9),
]
"""The last is of another deployment."""
OURS = LETTERS[:-1]


@pytest.fixture(scope="module")
def settings(store_address: StoreAddress) -> Settings:
    """Of a deployment whose store holds these letters, some of them twice, and rows of one bot."""

    async def fill() -> None:
        async with connect(store_address) as store:
            for origin in ("a worker", "the next one"):
                await ledger.write_dead_letters(
                    store, LETTERS[:4] if origin == "a worker" else LETTERS, origin=origin
                )
            names = [("one", "counted"), (HOSTILE, "another" + CONTROLS), ("two", "fine")]
            rows = [
                row(bot_request.COLUMNS, bot_id=bot, event_id=name, source_offset=offset)
                for offset, (bot, name) in enumerate(names)
            ]
            await ledger.write_rows(store, Topic.BOT_REQUESTS, rows, origin="rows")

    asyncio.run(fill())
    return Settings(clickhouse=store_address.url, broker="127.0.0.1:1", topic_prefix="my.")


def address(letter: DeadLetter) -> Address:
    return Address(letter.topic, letter.epoch, letter.partition, letter.offset)


def found(settings: Settings, **filters: Any) -> list[Address]:
    """What a list with these filters shows."""
    listing = asyncio.run(list_letters(settings, selection(settings, **filters), limit=100))
    assert listing.total == len(listing.shown)
    return [one.letter.address for one in listing.shown]


def newest_first(letters: Sequence[DeadLetter]) -> list[Address]:
    return [
        one for _, one in sorted(((letter.record_ms, address(letter)) for letter in letters), reverse=True)
    ]


def within(store_address: StoreAddress, act: Callable[[Store], Awaitable[T]]) -> T:
    async def connected() -> T:
        async with connect(store_address) as store:
            return await act(store)

    return asyncio.run(connected())


# --- list


def test_a_list_has_each_of_this_deployment_once_newest_first(settings: Settings) -> None:
    assert found(settings) == newest_first(OURS)


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"reasons": ["wrong_type", "empty"]}, {0, 7}),
        ({"topics": ["bot_feedback"]}, {8}),
        ({"partitions": [1]}, {3, 5}),
        ({"bots": ["one"]}, {0, 1, 2, 3}),
        ({"bots": [HOSTILE, "two"]}, {4, 8}),
        ({"since_ms": NOW_MS + 4 * 60_000, "until_ms": NOW_MS + 6 * 60_000}, {3, 4}),
        ({"bots": ["one"], "reasons": ["missing_field"], "partitions": [0]}, {1, 2}),
        ({"addresses": [str(address(LETTERS[4])), str(address(LETTERS[9]))]}, {4}),
        ({"bots": ["nobody", CONTROLS]}, set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_filters_all_hold(settings: Settings, filters: dict[str, Any], numbers: set[int]) -> None:
    assert found(settings, **filters) == newest_first([LETTERS[number] for number in numbers])


def test_a_list_says_what_would_become_of_each_and_how_many_there_are(settings: Settings) -> None:
    listing = asyncio.run(list_letters(settings, selection(settings), limit=100))
    outlook = {one.letter.address: one.outlook.value for one in listing.shown}
    expected = [
        "refused",
        "counted",
        "accepted",
        "accepted",
        "accepted",
        "refused",
        "cut",
        "refused",
        "accepted",
    ]
    assert [outlook[address(letter)] for letter in OURS] == expected
    bots = {one.letter.address: one.contents.bot for one in listing.shown}
    assert [bots[address(letter)] for letter in OURS] == [*["one"] * 4, HOSTILE, "", "", "", "two"]
    assert listing.reasons == {
        "missing_field": 5, "empty": 1, "invalid_json": 1, "too_large": 1, "wrong_type": 1,
    }  # fmt: skip


def test_the_command_prints_the_newest_and_counts_all(settings: Settings) -> None:
    environment = {
        "FOOTFALL_CLICKHOUSE": settings.clickhouse,
        "FOOTFALL_BROKER": settings.broker,
        "FOOTFALL_TOPIC_PREFIX": settings.topic_prefix,
    }
    words = (
        "--topic",
        "bot_requests",
        "--partition",
        "0",
        "--partition",
        "1",
        "--since",
        "2026-01-05",
        "--limit",
        "2",
    )
    done = footfall("dead-letters", "list", *words, environment=environment)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert done.stdout.splitlines()[-1].startswith("2 of 8 dead letters: missing_field 4, ")
    done = footfall("dead-letters", "list", *words, "--json", environment=environment)
    said = json.loads(done.stdout)
    assert (said["total"], len(said["dead_letters"])) == (8, 2)
    assert said["dead_letters"][1]["address"] in {str(address(letter)) for letter in LETTERS[6:8]}
    done = footfall("dead-letters", "show", said["dead_letters"][1]["address"], environment=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_pages_follow_each_other_without_gap_or_repeat(
    settings: Settings, store_address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "PAGE", 2)

    async def read(store: Store, **how: Any) -> list[list[Letter]]:
        return [page async for page in dead_letters.find(store, selection(settings), **how)]

    pages = within(store_address, read)
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    assert [one.address for page in pages for one in page] == newest_first(OURS)
    limited = within(store_address, lambda store: read(store, limit=3))
    assert [len(page) for page in limited] == [2, 1]
    different = within(store_address, lambda store: read(store, only_different=True))
    assert [one.address for page in different for one in page] == newest_first([*OURS[:2], *OURS[3:]])
    assert {one.address: one.alike for page in different for one in page}[address(LETTERS[3])] == 2


# --- show


def test_show_has_key_and_bytes_as_they_were(settings: Settings) -> None:
    shown = asyncio.run(show_letter(settings, str(address(LETTERS[0])))).judged
    assert (shown.contents.key, shown.contents.value) == (b"\xff\x00", LETTERS[0].value)
    shown = asyncio.run(show_letter(settings, str(address(LETTERS[5])))).judged
    assert (shown.contents.key, shown.contents.value) == (None, LETTERS[5].value)


def test_what_is_not_there_or_of_another_deployment_is_not_shown(settings: Settings) -> None:
    for one in (address(LETTERS[0])._replace(offset=99), address(LETTERS[9])):
        with pytest.raises(Refused, match="there is no dead letter"):
            asyncio.run(show_letter(settings, str(one)))


# --- replay


def test_a_dry_run_says_what_a_replay_would_do_and_asks_no_broker(settings: Settings) -> None:
    done = asyncio.run(replay_letters(settings, selection(settings), is_dry=True))
    assert done.is_complete
    assert (done.selected, done.alike, done.counted) == (9, 1, 1)
    assert done.published == {"my.bot_requests": 2, "my.bot_feedback": 1}
    assert done.refusals.total() == 4
    named = "\n".join(line for lines in done.refused.values() for line in lines)
    assert f"{address(LETTERS[6])}: 20 of its {LETTERS[6].value_bytes} bytes are kept" in named
    assert f"{address(LETTERS[0])}: wrong_type: endpoint" in named


def test_of_addresses_those_of_nothing_are_named(settings: Settings) -> None:
    nothing = address(LETTERS[0])._replace(offset=99)
    wanted = [str(address(LETTERS[2])), str(address(LETTERS[3])), str(nothing)]
    done = asyncio.run(replay_letters(settings, selection(settings, addresses=wanted), is_dry=True))
    assert (done.selected, done.alike, done.published.total()) == (2, 1, 1)
    assert done.refused == {"not there": [f"{nothing}: there is no such dead letter"]}


def test_whether_an_event_has_a_row_is_asked_of_as_many_as_are_named_at_once(
    settings: Settings, store_address: StoreAddress
) -> None:
    longest = "\U0001f600" * 128
    events = [(longest, NOW_MS, f"{longest[:-3]}{number:03}") for number in range(AT_ONCE - 2)]
    events += [("one", NOW_MS, "counted"), (HOSTILE, NOW_MS, "another" + CONTROLS)]
    stored = within(store_address, lambda store: dead_letters.stored(store, Topic.BOT_REQUESTS, events))
    assert stored == set(events[-2:])
