"""What a line of a replayed file says: pure, one function per format. `docs/replay.md` is their contract.

Each returns a Line or raises Skipped; no line makes them raise anything else.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from pipeline.decode import MalformedEvent, rfc_3339_ms

Format = Literal["access-log", "token-trace", "ndjson"]

MAX_ENDPOINT: Final = 128


class SkipReason(StrEnum):
    """Why a line is not published. Closed: each has a test."""

    BLANK = "blank"
    TOO_LONG = "too_long"
    """Over 1 MB, more than any event may have."""
    OTHER_FORMAT = "other_format"
    """Not a line of the format that was named."""
    NO_REQUEST = "no_request"
    """A connection without an HTTP request, as access logs note those that timed out or spoke TLS."""
    NOT_AN_EVENT = "not_an_event"
    """A log or trace line whose values no event may have: a time before 2000 or to come, a number too large."""


class Skipped(Exception):
    """Nothing to publish here: count it and go on."""

    def __init__(self, reason: SkipReason, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Line:
    """The event of one line, as far as the line knows it."""

    fields: dict[str, Any]
    """JSON names to values (or to undecoded JSON); `event_time` only where it cannot be moved."""
    event_ms: int | None
    """Milliseconds since the epoch, UTC; None where the line has no valid time."""
    is_cut: bool = False
    """The line ended inside its last field, which is taken as it is."""


# --- access logs ---------------------------------------------------------------------------------------

_QUOTED = r'[^"\\]*(?:\\.[^"\\]*)*'
_ACCESS_LOG = re.compile(
    r"(?P<host>\S+) \S+ .*?\[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    rf'"(?P<request>{_QUOTED})"'
    # What follows may be missing (the common log format has no more than two of these), or be cut off.
    r"(?: (?:\d{3}|-)(?: (?:\d+|-)(?P<rest> .*)?)?)?",
    re.DOTALL,
)
_REST = re.compile(
    rf' "(?P<referer>{_QUOTED})(?:"(?: "(?P<user_agent>{_QUOTED})(?P<end>"(?: .*)?)?)?)?', re.DOTALL
)
_REQUEST = re.compile(r"[A-Za-z][A-Za-z_-]* (?P<target>\S.*?)(?: HTTP/\d(?:\.\d)?)?", re.DOTALL)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def access_log_line(line: bytes) -> Line:
    """A request, from Apache's combined or common log format.

    https://httpd.apache.org/docs/2.4/logs.html#combined; nginx writes the same.
    """
    match = _ACCESS_LOG.fullmatch(line.decode(errors="replace"))
    if match is None:
        raise Skipped(SkipReason.OTHER_FORMAT)
    rest = _REST.fullmatch(match["rest"]) if match["rest"] else None
    if match["rest"] and rest is None:
        raise Skipped(SkipReason.OTHER_FORMAT)
    event_ms = _access_log_ms(match["time"])
    request = _REQUEST.fullmatch(_unescaped(match["request"]))
    if request is None:
        raise Skipped(SkipReason.NO_REQUEST)
    return Line(
        fields={
            "endpoint": _endpoint(request["target"]),
            "ip": None if match["host"] == "-" else match["host"],
            "user_agent": _said(rest["user_agent"]) if rest else None,
            "page_url": _said(rest["referer"]) if rest else None,
        },
        event_ms=event_ms,
        is_cut=rest is not None and rest["end"] is None,
    )


def _access_log_ms(text: str) -> int:
    """Of `17/May/2015:10:05:03 +0200`. Names of months are English whatever the locale, so no strptime."""
    day, month, year = int(text[:2]), text[3:6], int(text[7:11])
    hour, minute, second = int(text[12:14]), int(text[15:17]), int(text[18:20])
    offset_minutes = int(text[22:24]) * 60 + int(text[24:26])
    try:
        moment = datetime(year, _MONTHS.index(month) + 1, day, hour, minute, tzinfo=UTC)
    except ValueError:
        raise Skipped(SkipReason.OTHER_FORMAT, "no such time") from None
    offset = offset_minutes * 60 * (-1 if text[21] == "-" else 1)
    return (int(moment.timestamp()) + second - offset) * 1000


def _endpoint(target: str) -> str:
    """The first segment of the path that was asked for: `/api/chat?x=1` is `api`, `/` is `/`."""
    if not target.startswith("/"):
        try:
            target = urlsplit(target).path if "://" in target else target
        except ValueError:
            return target[:MAX_ENDPOINT]
    path = re.split(r"[?#]", target, maxsplit=1)[0]
    return next((segment for segment in path.split("/") if segment), "/")[:MAX_ENDPOINT]


def _said(text: str | None) -> str | None:
    """A quoted field's value; a dash or nothing stands for absent."""
    return None if text in (None, "", "-") else _unescaped(text)


_ESCAPE = re.compile(r"(?:\\x[0-9A-Fa-f]{2})+|\\.", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "v": "\v", "f": "\f"}


def _unescaped(text: str) -> str:
    """Apache writes what cannot be printed as `\\xhh`, byte by byte, and quotes as `\\"`."""
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    text = escape[0]
    if len(text) > 2:
        try:
            return bytes.fromhex(text.replace("\\x", "")).decode()
        except UnicodeDecodeError:
            return text  # in some older encoding: as it was logged, it can at least be told from others
    return _ESCAPED.get(text[1], text[1])


# --- token traces --------------------------------------------------------------------------------------

TOKEN_TRACE_HEADER: Final = "TIMESTAMP,ContextTokens,GeneratedTokens"  # noqa: S105 - no secret
_TOKEN_TRACE = re.compile(r"\s*([^,]+?)\s*,\s*(\d{1,20})\s*,\s*(\d{1,20})\s*", re.ASCII)
_HAS_OFFSET = re.compile(r"(?:[Zz]|[+-]\d\d:\d\d)$")


def is_token_trace_header(line: bytes) -> bool:
    """Whether the line names the columns of a token trace."""
    return line.decode(errors="replace").replace(" ", "").lower() == TOKEN_TRACE_HEADER.lower()


def token_trace_line(line: bytes) -> Line:
    """A model call, from a trace of https://github.com/Azure/AzurePublicDataset. No offset means UTC."""
    match = _TOKEN_TRACE.fullmatch(line.decode(errors="replace"))
    if match is None:
        raise Skipped(SkipReason.OTHER_FORMAT)
    time = match[1] if _HAS_OFFSET.search(match[1]) else f"{match[1]}Z"
    try:
        event_ms = rfc_3339_ms(time)
    except MalformedEvent:
        raise Skipped(SkipReason.OTHER_FORMAT, "no such time") from None
    return Line(
        fields={"source": "chat", "input_tokens": int(match[2]), "output_tokens": int(match[3])},
        event_ms=event_ms,
    )


# --- events --------------------------------------------------------------------------------------------

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode


def ndjson_line(line: bytes) -> Line:
    """An event as it is; whether it is a good one is for the workers to say."""
    try:
        raw = _decode_object(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Skipped(SkipReason.OTHER_FORMAT, "no JSON object") from None
    fields: dict[str, Any] = {name: value for name, value in raw.items() if bytes(value) != b"null"}
    return Line(fields=fields, event_ms=_event_ms(_value(raw.get("event_time"))))


def repeats_a_key(line: bytes) -> bool:
    """Whether an object of this JSON names a key twice (or cannot be read through), and so cannot be rewritten."""
    repeats = False

    def note(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeats
        repeats |= len({name for name, _ in pairs}) < len(pairs)

    try:
        json.loads(line, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return True
    return repeats


def text_of(value: msgspec.Raw | None) -> str | None:
    """The string that undecoded JSON stands for; None if it is none."""
    decoded = _value(value)
    return decoded if isinstance(decoded, str) else None


def _value(raw: msgspec.Raw | None) -> object:
    """What undecoded JSON stands for; None where it is absent or no value that Python has (1e999)."""
    try:
        return None if raw is None else _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _event_ms(time: object) -> int | None:
    if isinstance(time, int) and not isinstance(time, bool):
        return time
    try:
        return rfc_3339_ms(time) if isinstance(time, str) else None
    except MalformedEvent:
        return None
