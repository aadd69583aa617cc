"""`footfall dead-letters`: list and show what was refused, and publish it again once its cause is mended.

What is published again is the same bytes, so the same event: it counts once, however often it comes. What the rules
of this version would refuse again is not published, nor is what is a row by now: another copy would help nobody. Of
dead letters with the same bytes one is published. So should workers of another version refuse it all the same, a
replay adds at most one dead letter for each different value, and not one for each dead letter that there is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from clickhouse import dead_letters
from clickhouse.client import Store
from clickhouse.dead_letters import AT_ONCE, Contents, EventKey, Letter, Selection
from pipeline.ask import asked_store
from pipeline.decode import MalformedEvent, decode
from pipeline.errors import Misconfigured, Refused, Unavailable
from pipeline.publish import PATIENCE, NotAcknowledged, Publisher, until
from schemas.dead_letter import MAX_KEPT_BYTES, Address, Reason
from schemas.topics import Topic

if TYPE_CHECKING:
    from pipeline.config import Settings

log = logging.getLogger(__name__)

MAX_LISTED: Final = 10_000
CHUNK_BYTES: Final = 4 << 20
"""Bytes of dead letters that are held in memory at once, but for one that is larger."""
NAMED: Final = 20
"""As many of those that cannot be published are named, per reason."""
PROGRESS_SECONDS: Final = 5.0


# --- which -----------------------------------------------------------------------------------------------


def address_of(word: str) -> Address:
    """The address that a person gave, as `Address` writes it. Raises Misconfigured."""
    try:
        topic, epoch, partition, offset = word.split("/")
        if min(int(partition), int(offset)) < 0:
            raise ValueError
        return Address(topic, str(UUID(epoch)), int(partition), int(offset))
    except ValueError:
        raise Misconfigured(
            f"{word!r} is no address of a dead letter: TOPIC/EPOCH/PARTITION/OFFSET, as `footfall dead-letters list` "
            "prints it"
        ) from None


def selection(
    settings: Settings,
    *,
    topics: Sequence[str] = (),
    reasons: Sequence[str] = (),
    partitions: Sequence[int] = (),
    bots: Sequence[str] = (),
    since_ms: int | None = None,
    until_ms: int | None = None,
    addresses: Sequence[str] = (),
) -> Selection:
    """What a person asks for; `topics` are named without the prefix, none of them means all. Raises Misconfigured."""
    problems = [
        f"unknown topic {one!r}: one of {', '.join(Topic)}" for one in topics if one not in list(Topic)
    ]
    problems += [
        f"unknown reason {one!r}: one of {', '.join(Reason)}" for one in reasons if one not in list(Reason)
    ]
    problems += [f"no partition has the number {one}" for one in partitions if not 0 <= one < 1 << 31]
    if len(addresses) > AT_ONCE:
        problems.append(f"{len(addresses)} addresses: give at most {AT_ONCE} at once, or filters instead")
    if problems:
        raise Misconfigured("\n".join(problems))
    return Selection(
        topics=[settings.topic_prefix + topic for topic in topics or Topic],
        reasons=reasons,
        partitions=partitions,
        bots=bots,
        since_ms=since_ms,
        until_ms=until_ms,
        addresses=[address_of(word) for word in addresses],
    )


# --- what has become of them -----------------------------------------------------------------------------


class Outlook(StrEnum):
    """What publishing a dead letter again would do, by the rules of this version. The closed set."""

    ACCEPTED = "accepted"
    """It would be counted."""
    COUNTED = "counted"
    """Its event has a row by now: its sender mended it, it was replayed, or its topic was consumed again."""
    REFUSED = "refused"
    """It would be refused again."""
    CUT = "cut"
    """Its bytes are not all kept, so it cannot be published."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A dead letter, what is kept of it, and what would become of it."""

    letter: Letter
    contents: Contents
    topic: Topic
    outlook: Outlook
    why: str = ""
    """Of what is refused the rule, of what is cut how much is kept."""
    event: EventKey | None = None

    # What goes to the broker.
    @property
    def key(self) -> bytes | None:
        return self.contents.key

    @property
    def value(self) -> bytes:
        return self.contents.value


def judge(letter: Letter, contents: Contents, topic: Topic, *, now_ms: int) -> Judged:
    """What would become of it if it were appended now, whatever rows there are."""
    value, outlook, why, event = contents.value, Outlook.ACCEPTED, "", None
    if hashlib.sha256(value).hexdigest() != letter.value_sha256:
        outlook, why = Outlook.CUT, f"{len(value):,} of its {letter.value_bytes:,} bytes are kept"
    else:
        try:
            decoded, event_ms = decode(topic, value, now_ms)
        except MalformedEvent as error:
            outlook, why = Outlook.REFUSED, str(error)
        else:
            event = decoded.bot_id, event_ms, decoded.event_id
    return Judged(letter=letter, contents=contents, topic=topic, outlook=outlook, why=why, event=event)


class Judge:
    """Reads what is kept of dead letters and says what would become of each."""

    def __init__(self, store: Store, *, prefix: str) -> None:
        self._store = store
        self._topics = {prefix + topic: topic for topic in Topic}

    async def judged(self, letters: Sequence[Letter]) -> list[Judged]:
        """As many as may be read at once, in their order. Raises StoreError."""
        contents = await dead_letters.contents(self._store, [letter.address for letter in letters])
        now_ms = time.time_ns() // 1_000_000
        judged = [
            judge(letter, contents[letter.address], self._topics[letter.address.topic], now_ms=now_ms)
            for letter in letters
            if letter.address in contents  # somebody may have deleted it just now
        ]
        stored = {
            topic: await dead_letters.stored(self._store, topic, events)
            for topic in Topic
            if (events := [one.event for one in judged if one.topic == topic and one.event is not None])
        }
        return [
            replace(one, outlook=Outlook.COUNTED) if one.event in stored.get(one.topic, ()) else one
            for one in judged
        ]


def chunks(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    """The letters in lists whose bytes may be read at once."""
    chunk: list[Letter] = []
    kept = 0
    for letter in letters:
        size = min(letter.value_bytes, MAX_KEPT_BYTES)
        if chunk and (len(chunk) == AT_ONCE or kept + size > CHUNK_BYTES):
            yield chunk
            chunk, kept = [], 0
        chunk.append(letter)
        kept += size
    if chunk:
        yield chunk


# --- list ------------------------------------------------------------------------------------------------


COLUMNS: Final = ("time", "reason", "field", "bytes", "bot", "now", "address")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The newest of the dead letters that match."""

    reasons: Mapping[str, int]
    """How many match, by reason."""
    shown: Sequence[Judged]
    """Without key and bytes."""

    @property
    def total(self) -> int:
        return sum(self.reasons.values())

    def __str__(self) -> str:
        if not self.shown:
            return "no dead letters"
        rows: list[Sequence[str]] = [COLUMNS]
        for one in self.shown:
            letter = one.letter
            size = f"{letter.value_bytes:,}"
            named = letter.reason, letter.field or "-", size, printable(one.contents.bot) or "-"
            rows.append((_rfc_3339(letter.record_ms), *named, one.outlook, str(letter.address)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        lines = [
            "  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]])
            for row in rows
        ]
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in self.reasons.items())
        return "\n".join([*lines, f"{len(self.shown):,} of {self.total:,} dead letters: {reasons}"])

    def as_json(self) -> str:
        """One object."""
        return _json(
            {
                "total": self.total,
                "reasons": self.reasons,
                "dead_letters": [_said(one) for one in self.shown],
            }
        )


async def list_letters(settings: Settings, selected: Selection, *, limit: int) -> Listing:
    """The newest, and how many there are. Raises Misconfigured, Unavailable."""
    if not 1 <= limit <= MAX_LISTED:
        raise Misconfigured(f"--limit should be 1 to {MAX_LISTED:,}, but is {limit}")
    shown: list[Judged] = []
    async with asked_store(settings) as store:
        reasons = await dead_letters.count(store, selected)
        judge = Judge(store, prefix=settings.topic_prefix)
        async for page in dead_letters.find(store, selected, limit=limit):
            for chunk in chunks(page):
                shown += [
                    replace(one, contents=replace(one.contents, key=None, value=b""))
                    for one in await judge.judged(chunk)
                ]
    return Listing(reasons=reasons, shown=shown)


def _said(one: Judged) -> dict[str, Any]:
    """All but its key and bytes, for a program."""
    letter = one.letter
    return {
        "address": str(letter.address),
        **letter.address._asdict(),
        "record_time": _rfc_3339(letter.record_ms),
        "reason": letter.reason,
        "field": letter.field,
        "bytes": letter.value_bytes,
        "sha256": letter.value_sha256,
        "bot": one.contents.bot or None,
        "now": one.outlook,
        "why": one.why,
        "ingested_at": _rfc_3339(one.contents.ingested_ms),
    }


# --- show ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One dead letter, and everything that is known of it."""

    judged: Judged

    def __str__(self) -> str:
        one, letter, contents = self.judged, self.judged.letter, self.judged.contents
        kept = (
            "" if len(contents.value) == letter.value_bytes else f", the first {len(contents.value):,} kept"
        )
        rows = [
            ("address", str(letter.address)),
            ("record time", _rfc_3339(letter.record_ms)),
            ("stored", _rfc_3339(contents.ingested_ms)),
            ("reason", letter.reason),
            ("field", letter.field or "-"),
            ("bot", printable(contents.bot) or "-"),
            ("key", "-" if contents.key is None else readable(contents.key)),
            ("bytes", f"{letter.value_bytes:,}{kept}"),
            ("sha256", letter.value_sha256),
            ("now", f"{one.outlook}: {one.why}" if one.why else one.outlook),
        ]
        lines = [f"{name:11}  {value}" for name, value in rows]
        return "\n".join([*lines, "", readable(contents.value)])

    def as_json(self) -> str:
        """One object; key and bytes as text where they are UTF-8, and in any case in base64."""
        contents = self.judged.contents
        said = _said(self.judged)
        for name, raw in (("key", contents.key), ("value", contents.value)):
            said[name] = None if raw is None else _text(raw)
            said[f"{name}_base64"] = None if raw is None else b64encode(raw).decode()
        return _json(said)


async def show_letter(settings: Settings, address: str) -> Shown:
    """Raises Misconfigured where it is no address, Refused where nothing is there, Unavailable."""
    selected = selection(settings, addresses=[address])
    async with asked_store(settings) as store:
        judge = Judge(store, prefix=settings.topic_prefix)
        for judged in [await judge.judged(page) async for page in dead_letters.find(store, selected)]:
            return Shown(judged=judged[0])
    raise Refused(f"there is no dead letter {selected.addresses[0]}")


def printable(text: str) -> str:
    """The text with what would not be seen, or would command a terminal, escaped as Python escapes it."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode() for one in text
    )


def readable(raw: bytes) -> str:
    """Bytes as text, line by line; what is no UTF-8 or cannot be seen is escaped."""
    lines = raw.decode(errors="backslashreplace").split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


# --- replay ----------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class ReplayedLetters:
    """What a replay did, or with `is_dry` would do."""

    is_dry: bool
    selected: int = 0
    """Dead letters looked at."""
    alike: int = 0
    """Of them, those with the bytes of another one that was looked at."""
    counted: int = 0
    """Different events that have a row already."""
    published: Counter[str] = field(default_factory=Counter)
    """Acknowledged by the broker, by topic."""
    refused: dict[str, list[str]] = field(default_factory=dict)
    """Why not, and the first of those of which that holds."""
    refusals: Counter[str] = field(default_factory=Counter)
    """How many, by why."""
    is_complete: bool = False

    def refuse(self, address: Address, what: str, why: str) -> None:
        """This one cannot be published."""
        self.refusals[what] += 1
        named = self.refused.setdefault(what, [])
        if len(named) < NAMED:
            named.append(f"{address}: {why}")

    def __str__(self) -> str:
        topics = ", ".join(f"{topic} {number:,}" for topic, number in sorted(self.published.items()))
        rows = [("dead letters", f"{self.selected:,}")]
        rows.append(("same bytes as another", f"{self.alike:,}"))
        rows.append(("event is there already", f"{self.counted:,}"))
        total = f"{self.published.total():,}{f' ({topics})' if topics else ''}"
        rows.append(("would be published" if self.is_dry else "published", total))
        rows.append(("not published", f"{self.refusals.total():,}"))
        lines = [f"{name:23} {value}" for name, value in rows]
        for what, number in self.refusals.items():
            named = self.refused[what]
            lines += [f"  {what}: {number:,}", *(f"    {line}" for line in named)]
            if number > len(named):
                lines.append(f"    and {number - len(named):,} more")
        if not self.is_complete:
            lines.append("stopped before the end: run it again, nothing counts twice")
        return "\n".join(lines)


WHAT: Final = {
    Outlook.REFUSED: "would be refused again",
    Outlook.CUT: "cut, so its bytes are not the event; the record may still be in Kafka",
}
TOO_LARGE: Final = "larger than this broker takes"
UNKNOWN: Final = "not there"


async def replay_letters(
    settings: Settings,
    selected: Selection,
    *,
    limit: int | None = None,
    is_dry: bool = False,
    stop: asyncio.Event | None = None,
    patience: timedelta = PATIENCE,
) -> ReplayedLetters:
    """Publish the selected to their topics again, newest first, and return when the broker has acknowledged them.

    `limit` is of different values. With `is_dry` nothing is published and the broker is not asked. Raises
    Misconfigured, and Unavailable when the store fails or the broker acknowledges nothing for `patience`.
    """
    if limit is not None and limit < 1:
        raise Misconfigured(f"--limit should be 1 or more, but is {limit}")
    summary = ReplayedLetters(is_dry=is_dry)

    async def replay_all() -> None:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(asked_store(settings))
            total = sum((await dead_letters.count(store, selected)).values())
            publisher = None
            if not is_dry:
                connection, prefix = settings.broker_connection(), settings.topic_prefix
                publisher = await stack.enter_async_context(
                    Publisher(connection, prefix=prefix, patience=patience)
                )
            await _replay(settings, store, selected, publisher, summary, limit=limit, total=total)
        summary.is_complete = True

    await until(stop, replay_all())
    return summary


async def _replay(
    settings: Settings,
    store: Store,
    selected: Selection,
    publisher: Publisher | None,
    summary: ReplayedLetters,
    *,
    limit: int | None,
    total: int,
) -> None:
    judge = Judge(store, prefix=settings.topic_prefix)
    for address in await _missing(store, selected):
        summary.refuse(address, UNKNOWN, "there is no such dead letter")
    next_word = time.monotonic() + PROGRESS_SECONDS
    async for page in dead_letters.find(store, selected, limit=limit, only_different=True):
        for chunk in chunks(page):
            judged = await judge.judged(chunk)
            await _publish([one for one in judged if one.outlook is Outlook.ACCEPTED], publisher, summary)
            for one in judged:
                summary.selected += one.letter.alike
                summary.alike += one.letter.alike - 1
                summary.counted += one.outlook is Outlook.COUNTED
                if one.outlook in WHAT:
                    summary.refuse(one.letter.address, WHAT[one.outlook], one.why)
            if time.monotonic() >= next_word:
                next_word = time.monotonic() + PROGRESS_SECONDS
                log.info(
                    "%d of %d dead letters done, %d published",
                    summary.selected, total, summary.published.total(),
                )  # fmt: skip


async def _missing(store: Store, selected: Selection) -> list[Address]:
    """Addresses that were given and are of no dead letter."""
    if not selected.addresses:
        return []
    found = {letter.address async for page in dead_letters.find(store, selected) for letter in page}
    return [address for address in selected.addresses if address not in found]


async def _publish(accepted: list[Judged], publisher: Publisher | None, summary: ReplayedLetters) -> None:
    """Return when all are acknowledged; without a publisher all are taken to be."""

    def acknowledged(one: Judged) -> None:
        summary.published[one.letter.address.topic] += 1

    if publisher is None:
        for one in accepted:
            acknowledged(one)
        return
    try:
        too_large = await publisher.publish(accepted, acknowledged)
    except NotAcknowledged as error:
        raise Unavailable(
            f"{error}; {summary.published.total():,} are published: run it again, nothing counts twice"
        ) from error
    for one in too_large:
        summary.refuse(one.letter.address, TOO_LARGE, f"{one.letter.value_bytes:,} bytes")


def _rfc_3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(said: object) -> str:
    return msgspec.json.format(msgspec.json.encode(said), indent=2).decode()
