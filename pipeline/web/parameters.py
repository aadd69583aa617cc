"""Parameters of the query layer's paths: their names, what they may be, and what they mean."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Path, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from clickhouse.analytics import FILTERS, RowTopic
from pipeline.address import normalise_ip
from pipeline.web import ranges
from pipeline.web.problems import BadParameter
from pipeline.web.ranges import Interval, Preset, Range

API: Final = "/api/v1"
"""Where the query layer and the collector are."""


def _address(text: str) -> str:
    normal = normalise_ip(text)
    if text and not normal:
        raise ValueError("should be an IPv4 or IPv6 address, or empty for unknown")
    return normal


_ANY = "Repeat it for any of several values; empty: unknown."


def _values(*example: str) -> Any:
    return Field([], description=_ANY, examples=[list(example)])


Values = list[str]
Addresses = list[Annotated[str, AfterValidator(_address)]]
Bot = Annotated[str, Path(description="The bot's id.", examples=["support"])]


class Zoned(BaseModel):
    """Times in a zone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tz: str = Field(
        "UTC",
        description="IANA time zone of the calendar and of all times in the answer.",
        examples=["Europe/Berlin"],
    )


class Ranged(Zoned):
    """A range of time."""

    range: Preset | None = Field(
        None, description="A range that ends now, or one of the calendar; default 7d.", examples=["30d"]
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="Start: RFC 3339, or a date in tz. Instead of range.",
        examples=["2026-01-01"],
    )
    to: str | None = Field(
        None,
        description="End, not included: RFC 3339, or a date in tz; default now. Only with from.",
        examples=["2026-01-31T12:00:00Z"],
    )


class OfRequests(Ranged):
    """Requests in a range of time; all filters have to match."""

    endpoint: Values = _values("widget", "api")
    country: Values = _values("DE")
    region: Values = _values("Bavaria")
    city: Values = _values("Munich")
    browser: Values = _values("Firefox")
    client_class: Values = _values("person")
    ip: Addresses = _values("192.0.2.1")


class OfTokens(Ranged):
    """Token usages in a range of time; all filters have to match."""

    source: Values = _values("chat")
    model: Values = _values("gpt-4o")


class OfSummary(OfRequests, OfTokens):
    """Each card takes the filters that it has."""


class Charted(BaseModel):
    """A chart over time."""

    interval: Interval | None = Field(
        None, description="Length of a bucket; chosen to fit where not given.", examples=["1d"]
    )


class OfRequestChart(OfRequests, Charted):
    """Requests over time."""


class OfTokenChart(OfTokens, Charted):
    """Tokens over time."""


class OfTop(OfRequests):
    """The most frequent values of a dimension."""

    by: Literal["endpoint", "country", "region", "city", "browser", "page_url", "client_class"] = Field(
        description="The dimension.", examples=["country"]
    )
    limit: int = Field(
        10, ge=1, le=1000, description="How many values; other and unknown come on top.", examples=[5]
    )


class OfValues(OfRequests):
    """The values of a filter that exist."""

    by: Literal["endpoint", "country", "region", "city", "browser", "client_class", "ip"] = Field(
        description="The filter.", examples=["ip"]
    )
    contains: str = Field(
        "", max_length=128, description="What they hold, in capitals or not.", examples=["192.0."]
    )
    limit: int = Field(50, ge=1, le=1000, description="How many, the most frequent.", examples=[20])


class OfTopTokens(OfTokens):
    """What takes the most tokens."""

    by: Literal["source", "model"] = Field(description="The dimension.", examples=["source"])
    limit: int = Field(
        10, ge=1, le=1000, description="How many values; other and unknown come on top.", examples=[5]
    )


class Paged(BaseModel):
    """A page of a list."""

    limit: int = Field(50, ge=1, le=1000, description="Rows of a page.", examples=[100])
    cursor: str | None = Field(
        None, description="`next` of the page before, with all else as it was.", examples=["WyIx"]
    )


class OfRequestList(OfRequests, Paged):
    """A page of requests."""


class OfTokenList(OfTokens, Paged):
    """A page of token usages."""


class OfBots(Zoned, Paged):
    """A page of bots."""


class OfRow(Zoned):
    """One row, by what tells events of a bot apart."""

    time: str = Field(description="The row's time, as a list says it.", examples=["2026-01-01T12:00:00.250Z"])
    event_id: str = Field(description="The event's id.", examples=["e-1"])


class Exported(BaseModel):
    """A file of rows."""

    format: Literal["csv", "ndjson", "json"] = Field(description="Of the file.", examples=["csv"])


class OfRequestExport(OfRequests, Exported):
    """A file of requests."""


class OfTokenExport(OfTokens, Exported):
    """A file of token usages."""


_REPEATABLE = frozenset(name for names in FILTERS.values() for name in names)


async def once_each(request: Request) -> None:  # async: FastAPI sends others through a thread
    """Refuse a parameter that has one value and was given several. Raises BadParameter."""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if times > 1 and name not in _REPEATABLE:
            raise BadParameter(name, "is given more than once")


def filters_of(parameters: BaseModel, topic: RowTopic) -> dict[str, list[str]]:
    """Column → values, of the filters of this topic that were given."""
    return {name: values for name in FILTERS[topic] if (values := getattr(parameters, name))}


def resolved(parameters: Ranged) -> Range:
    """The range that is meant now. Raises BadParameter."""
    return ranges.resolve(
        preset=parameters.range,
        start=parameters.from_,
        end=parameters.to,
        tz=ranges.zone(parameters.tz),
        now_ms=now_ms(),
    )


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


# --- cursors


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where a list goes on. It holds the range of the first page, which `now` would move."""

    request: str
    """Fingerprint of the path and all other parameters."""
    start_ms: int
    end_ms: int
    position: tuple[int, str]
    """Of rows the last one's time and event_id; of bots 0 and the last one's id."""

    def text(self) -> str:
        """What the client is given."""
        return urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def fingerprint(request: Request) -> str:
    """The same for requests that ask for pages of the same list."""
    others = sorted(pair for pair in request.query_params.multi_items() if pair[0] != "cursor")
    return blake2b(msgspec.json.encode((request.url.path, others)), digest_size=12).hexdigest()


def cursor_of(request: Request, text: str) -> Cursor:
    """The cursor with this text. Raises BadParameter where it is none, or one of another list."""
    try:
        cursor = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (ValueError, msgspec.DecodeError):
        raise BadParameter("cursor", "should be the `next` of the page before") from None
    if cursor.text() != text or cursor.request != fingerprint(request):
        raise BadParameter("cursor", "belongs to a list with other parameters")
    return cursor
