"""What the query layer asks of the store: one typed function per question, each with its file in `queries/`.

Instants are integer milliseconds since the epoch. What is unknown is None. Every function raises `StoreError`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Final, Literal

from clickhouse.client import Parameters, Settings, Store, StoreError, sql
from schemas.event import MAX_EVENT_MS, MIN_EVENT_MS
from schemas.rollup import DAY_MS, INTERVAL_MS
from schemas.topics import Topic

Filters = Mapping[str, Sequence[str]]
"""Column → the values that match; '' is the unknown one."""

RowTopic = Literal[Topic.BOT_REQUESTS, Topic.TOKEN_USAGES]
"""The topics whose rows can be listed and filtered."""

FILTERS: Final[Mapping[RowTopic, Sequence[str]]] = {
    Topic.BOT_REQUESTS: ("endpoint", "country", "region", "city", "browser", "client_class", "ip"),
    Topic.TOKEN_USAGES: ("source", "model"),
}

COLUMNS: Final[Mapping[RowTopic, Sequence[str]]] = {
    Topic.BOT_REQUESTS: (
        "time", "endpoint", "ip", "country", "region", "city", "browser", "timezone", "page_url", "chat_id",
        "client_class", "event_id",
    ),
    Topic.TOKEN_USAGES: (
        "time", "source", "input_tokens", "output_tokens", "total_tokens", "model", "event_id",
    ),
}  # fmt: skip
"""What a row says, in this order."""

_ORIGIN: Final = ("record_time", "ingested_at", "source_topic", "source_partition", "source_offset")

DETAILS: Final[Mapping[RowTopic, Sequence[str]]] = {
    Topic.BOT_REQUESTS: (*COLUMNS[Topic.BOT_REQUESTS], "user_agent", "geo_built_at", *_ORIGIN),
    Topic.TOKEN_USAGES: (
        *COLUMNS[Topic.TOKEN_USAGES],
        *("provider", "chat_id", "cached_input_tokens", "reasoning_output_tokens"),
        *_ORIGIN,
    ),
}
"""All that is known of a row, in this order."""

TIMES: Final = ("time", "geo_built_at", "record_time", "ingested_at")
"""Those of them that are instants."""

RANKED: Final = ("endpoint", "country", "browser", "client_class")
"""Columns of requests whose values rollups count."""
MAX_TOP: Final = 1_000
"""As many values of a column are told apart."""

LONGEST: Final = timedelta(seconds=10)
"""What one question may take of the store's time; an export may take longer."""
_SMALL: Final = timedelta(seconds=4)
"""The same of what is asked before anything else: a store that has not answered by then does not answer."""
_LATELY_MS: Final = 7 * DAY_MS
"""Where the newest rows are looked for first."""
_LATE: Final = timedelta(seconds=1)
"""What an answer may take beyond the time that the store itself gives up after."""
_TIMEOUT_EXCEEDED: Final = 159

_READ: Final = {
    # A row's copies have the same time, so they are in the same partition.
    "do_not_merge_across_partitions_select_final": 1,
    # Rows of other bots are read together with a bot's: their states need not be unpacked. The server moves conditions
    # on the key alone: what they leave out they leave out with all its copies.
    "optimize_move_to_prewhere_if_final": 1,
    "max_execution_time": LONGEST.total_seconds(),
    "max_memory_usage": 2_000_000_000,
    # A server stops a question whose client has gone.
    "cancel_http_readonly_queries_on_client_close": 1,
    # One moment for a table that a question reads twice: once for the sealed intervals' numbers and once to leave out
    # their cells, or once for an export's count and once for its rows.
    "enable_shared_storage_snapshot_in_query": 1,
}


_EXPORT: Final = {
    **_READ,
    "max_execution_time": 3600,
    "format_csv_null_representation": "",
    "output_format_csv_crlf_end_of_line": 1,
    "output_format_json_escape_forward_slashes": 0,
    "output_format_json_quote_64bit_integers": 0,
}


@dataclass(frozen=True, kw_only=True)
class Span:
    """Of one bot, the time from `start_ms` on and before `end_ms`."""

    bot_id: str
    start_ms: int
    end_ms: int

    def in_calendar(self) -> tuple[int, int]:
        """The same span as far as stored events can tell: start and end within what the store can hold."""
        return _in_calendar(self.start_ms), _in_calendar(self.end_ms)

    def parameters(self) -> Parameters:
        """For queries of raw rows."""
        return {"bot": self.bot_id, "start": _time(self.start_ms), "end": _time(self.end_ms)}

    def parts(self, sealed_until_ms: int = 0, *, has_days: bool = True) -> Parts:
        """For queries that read from rollups as much as there is.

        Whole intervals are sealed that lie before `sealed_until_ms`; of them whole days have rows of their own, for
        queries that can use them.
        """
        start, end = self.in_calendar()
        inner_start = start + -start % INTERVAL_MS
        inner_end = end - end % INTERVAL_MS
        if inner_start >= inner_end:
            inner_start = inner_end = end
        open_start = min(max(sealed_until_ms, inner_start), inner_end)
        days_start = inner_start + -inner_start % DAY_MS
        days_end = open_start - open_start % DAY_MS
        if days_start >= days_end or not has_days:
            days_start = days_end = inner_end
        is_there = {
            "days": days_start < days_end,
            "intervals": inner_start < days_start or days_end < inner_end,
            "cells": open_start < inner_end,
            "rows": start < inner_start or inner_end < end,
        }
        return Parts(
            branches=frozenset(name for name, there in is_there.items() if there),
            parameters={
                "bot": self.bot_id,
                "head_start": _time(start),
                "head_end": _time(inner_start),
                "inner_start": _time(inner_start),
                "days_start": _time(days_start),
                "days_end": _time(days_end),
                "open_start": _time(open_start),
                "inner_end": _time(inner_end),
                "tail_start": _time(inner_end),
                "tail_end": _time(end),
            },
        )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A span in parts: where each begins and ends, and which of a query's branches have one that is not empty."""

    branches: frozenset[str]
    parameters: Parameters


@dataclass(frozen=True, kw_only=True)
class RequestTotals:
    """`last_request_ms` is None where there is none."""

    requests: int
    last_request_ms: int | None
    unique_ips: int
    unique_conversations: int


@dataclass(frozen=True, kw_only=True)
class TokenTotals:
    """Prompt and completion tokens."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, kw_only=True)
class FeedbackTotals:
    """Votes that hold."""

    positive: int
    negative: int


@dataclass(frozen=True, kw_only=True)
class Top:
    """The most frequent values with their requests, in order, and how many requests there are in all."""

    values: Sequence[tuple[str, int]]
    total: int
    unknown: int
    """Of the total, those whose value is not known."""

    def first(self, limit: int) -> Top:
        """The same with so many values at most."""
        return replace(self, values=self.values[:limit])

    @property
    def other(self) -> int:
        """Of the total, those of values that are not among `values`."""
        return self.total - self.unknown - sum(requests for _, requests in self.values)


@dataclass(frozen=True, kw_only=True)
class TopTokens:
    """A value, or all others together, or the unknown one, with its share of model calls and tokens."""

    kind: Literal["value", "other", "unknown"]
    value: str | None
    usages: int
    input_tokens: int
    output_tokens: int


Row = dict[str, str | int | None]
"""A row by the API's names of its columns, except that its `TIMES` are in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Bot:
    """`last_request_ms` is of all time, None where there is none."""

    bot_id: str
    last_request_ms: int | None
    requests: int


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """How far an answer about some topics can be trusted to be complete."""

    data_as_of_ms: int | None = None
    """Every record appended before is visible; None: not known yet."""
    provisional_from_ms: int | None = None
    """What is before is sealed, and days that are over have rows; what is from then on may still hold duplicates. None:
    everything may."""
    consumer_lag_records: int = 0

    @classmethod
    def of_all(cls, several: Sequence[Freshness]) -> Freshness:
        """What can be said of an answer about all of them."""
        return cls(
            data_as_of_ms=_least([one.data_as_of_ms for one in several]),
            provisional_from_ms=_least([one.provisional_from_ms for one in several]),
            consumer_lag_records=sum(one.consumer_lag_records for one in several),
        )


def _least(moments: Sequence[int | None]) -> int | None:
    """None where one of them is."""
    known = [moment for moment in moments if moment is not None]
    return min(known) if len(known) == len(moments) else None


@dataclass(frozen=True, kw_only=True)
class DayCounts:
    """What did not go straight, in the last 24 hours."""

    late_events: int = 0
    dead_letters: int = 0


async def _rows(
    store: Store,
    query: str,
    parameters: Parameters,
    *,
    within: timedelta | None = None,
    settings: Settings | None = None,
) -> list[tuple[Any, ...]]:
    """All rows of an answer. Raises StoreError, also where none has come in time: then the store is told to stop."""
    limit = within or LONGEST
    all_settings = {**_READ, **(settings or {}), "max_execution_time": limit.total_seconds()}
    try:
        async with asyncio.timeout((limit + _LATE).total_seconds()):
            return await store.rows(query, parameters, all_settings)
    except TimeoutError:
        code = 0 if within else _TIMEOUT_EXCEEDED
        raise StoreError(f"no answer within {limit.total_seconds():.0f} s", code) from None


_ROWS: Final[Mapping[RowTopic, str]] = {Topic.BOT_REQUESTS: "request_rows", Topic.TOKEN_USAGES: "token_rows"}
_ROW: Final[Mapping[RowTopic, str]] = {Topic.BOT_REQUESTS: "request_row", Topic.TOKEN_USAGES: "token_row"}
_EXPORTS: Final[Mapping[RowTopic, str]] = {
    Topic.BOT_REQUESTS: "request_export",
    Topic.TOKEN_USAGES: "token_export",
}

Position = tuple[int, str]
"""(event time, event_id): where a page of rows ended."""


async def is_known_bot(store: Store, bot_id: str) -> bool:
    """Whether the bot has an event in any topic."""
    [(is_known,)] = await _rows(store, sql("is_known_bot"), {"bot": bot_id}, within=_SMALL)
    return bool(is_known)


async def freshness(store: Store) -> Mapping[Topic, Freshness]:
    """Of each topic. Ask it before the question whose answer it is to speak about: then it promises too little, never
    too much."""
    said = {
        topic: Freshness(
            data_as_of_ms=data_as_of, provisional_from_ms=provisional_from, consumer_lag_records=lag
        )
        for topic, data_as_of, provisional_from, lag in await _rows(
            store, sql("freshness"), {}, within=_SMALL
        )
    }
    return {topic: said.get(topic.value, Freshness()) for topic in Topic}


async def day_counts(store: Store, topics: Sequence[str]) -> Mapping[str, DayCounts]:
    """Of each of these topics, by Kafka's names of them."""
    said = {
        topic: DayCounts(late_events=late, dead_letters=dead_letters)
        for topic, late, dead_letters in await _rows(store, sql("day_counts"), {"topics": topics})
    }
    return {topic: said.get(topic, DayCounts()) for topic in topics}


async def bots(store: Store, start_ms: int, end_ms: int, *, after: str, limit: int) -> list[Bot]:
    """Bots whose id is greater than `after`, by id, with their requests in `[start_ms, end_ms)`."""
    parts = Span(bot_id="", start_ms=start_ms, end_ms=end_ms).parts()
    rows = await _rows(store, sql("bots"), {**parts.parameters, "after": after, "limit": limit})
    return [Bot(bot_id=bot, last_request_ms=last or None, requests=n) for bot, last, n in rows]


async def request_totals(
    store: Store, span: Span, filters: Filters, *, sealed_until_ms: int = 0
) -> RequestTotals:
    """The cards about requests."""
    if any(filters.values()):
        query, parameters = _filtered("request_totals_filtered", span, filters)
    else:
        query, parameters = _united("request_totals", span.parts(sealed_until_ms))
    [(requests, last, ips, chats)] = await _rows(store, query, parameters)
    return RequestTotals(
        requests=requests,
        last_request_ms=last if requests else None,
        unique_ips=ips,
        unique_conversations=chats,
    )


async def token_totals(
    store: Store, span: Span, filters: Filters, *, sealed_until_ms: int = 0
) -> TokenTotals:
    """The cards about tokens."""
    if any(filters.values()):
        query, parameters = _filtered("token_totals_filtered", span, filters)
    else:
        query, parameters = _united("token_totals", span.parts(sealed_until_ms))
    [(input_tokens, output_tokens)] = await _rows(store, query, parameters)
    return TokenTotals(input_tokens=input_tokens, output_tokens=output_tokens)


async def feedback_totals(store: Store, span: Span) -> FeedbackTotals:
    """The cards about feedback."""
    [(positive, negative)] = await _rows(store, sql("feedback_totals"), span.parameters())
    return FeedbackTotals(positive=positive, negative=negative)


async def request_buckets(
    store: Store, span: Span, starts: Sequence[int], filters: Filters, *, sealed_until_ms: int = 0
) -> dict[int, int]:
    """Requests by the start of their bucket. Buckets without any are left out.

    `starts` ascend; the first is not after the span's start. Each bucket ends where the next one starts.
    """
    query, parameters = _bucketed("request_buckets", span, starts, filters, sealed_until_ms)
    return dict(await _rows(store, query, parameters))


async def unique_buckets(
    store: Store, span: Span, starts: Sequence[int], filters: Filters, *, sealed_until_ms: int = 0
) -> dict[int, tuple[int, int]]:
    """Distinct IPs and conversations by the start of their bucket, as `request_buckets`: of each bucket for itself."""
    query, parameters = _bucketed("unique_buckets", span, starts, filters, sealed_until_ms)
    return {start: (ips, chats) for start, ips, chats in await _rows(store, query, parameters)}


async def token_buckets(
    store: Store, span: Span, starts: Sequence[int], filters: Filters, *, sealed_until_ms: int = 0
) -> dict[int, TokenTotals]:
    """Tokens by the start of their bucket, as `request_buckets`."""
    query, parameters = _bucketed("token_buckets", span, starts, filters, sealed_until_ms)
    return {
        start: TokenTotals(input_tokens=input_tokens, output_tokens=output_tokens)
        for start, input_tokens, output_tokens in await _rows(store, query, parameters)
    }


async def rankings(
    store: Store, span: Span, filters: Filters, *, sealed_until_ms: int = 0
) -> Mapping[str, Top]:
    """By each column of `RANKED` its `MAX_TOP` most frequent values, ties by value."""
    if any(filters.values()):
        return await _rankings_filtered(store, span, filters)
    query, parameters = _united("rankings", span.parts(sealed_until_ms))
    [(total, *ranked)] = await _rows(store, query, {**parameters, "limit": MAX_TOP})
    return {
        column: Top(values=[(value, n) for value, n in best if value], total=total, unknown=unknown)
        for column, (best, unknown) in zip(RANKED, ranked, strict=True)
    }


async def _rankings_filtered(store: Store, span: Span, filters: Filters) -> Mapping[str, Top]:
    query, parameters = _filtered("rankings_filtered", span, filters)
    counts: dict[str, dict[str, int]] = {column: {} for column in ("", *RANKED)}
    for column, value, requests in await _rows(store, query, {**parameters, "limit": MAX_TOP}):
        counts[column][value] = requests
    total = counts.pop("").get("", 0)
    return {
        column: Top(unknown=of_value.pop("", 0), values=[*of_value.items()][:MAX_TOP], total=total)
        for column, of_value in counts.items()
    }


async def top_requests(store: Store, span: Span, by: str, filters: Filters, *, limit: int) -> Top:
    """The `limit` most frequent values of the column `by`, ties by value, counted from raw rows."""
    query, parameters = _filtered("top_requests", span, filters)
    rows = await _rows(store, query, {**parameters, "by": by, "limit": limit})
    total, unknown = rows[0][2:] if rows else (0, 0)
    values = [(value, requests) for value, requests, _, _ in rows if value]
    return Top(values=values, total=total, unknown=unknown).first(limit)


async def request_values(
    store: Store, span: Span, by: str, filters: Filters, *, contains: str, limit: int
) -> list[tuple[str, int]]:
    """The `limit` most frequent values of the column `by` that contain a text, with their requests; ties by value."""
    query, parameters = _filtered("request_values", span, filters)
    found = await _rows(store, query, {**parameters, "by": by, "contains": contains, "limit": limit})
    return [(value, requests) for value, requests in found]


async def top_tokens(
    store: Store, span: Span, by: str, filters: Filters, *, limit: int, sealed_until_ms: int = 0
) -> list[TopTokens]:
    """The `limit` values of the column `by` with the most tokens, ties by value; then other, then unknown."""
    if any(filters.values()):
        query, parameters = _filtered("top_tokens_filtered", span, filters)
    else:
        query, parameters = _united("top_tokens", span.parts(sealed_until_ms))
        parameters = {
            **parameters,
            "usages": f"usages_by_{by}",
            "input": f"input_by_{by}",
            "output": f"output_by_{by}",
        }
    return [
        TopTokens(
            kind=kind, value=value, usages=usages, input_tokens=input_tokens, output_tokens=output_tokens
        )
        for kind, value, usages, input_tokens, output_tokens in await _rows(
            store, query, {**parameters, "by": by, "limit": limit}
        )
    ]


async def rows(
    store: Store, topic: RowTopic, span: Span, filters: Filters, *, before: Position | None, limit: int
) -> list[Row]:
    """The newest rows that come after the position `before`, by (event time, event_id) descending."""
    time, event_id = before or (span.end_ms, "")
    position = {"before_time": _time(time), "before_id": event_id, "limit": limit}
    # Without filters the next rows of the key are the answer: a second thread takes longer to begin than to help.
    settings = None if any(filters.values()) else {"max_threads": 1}

    async def since(start_ms: int) -> list[tuple[Any, ...]]:
        query, parameters = _filtered(_ROWS[topic], replace(span, start_ms=start_ms), filters)
        return await _rows(store, query, {**parameters, **position}, settings=settings)

    # The store looks into every part of a table that may hold such rows: of a week these are few.
    lately_ms = max(span.start_ms, time - _LATELY_MS)
    found = await since(lately_ms)
    if len(found) < limit and lately_ms > span.start_ms:
        found = await since(span.start_ms)
    return [_named(COLUMNS[topic], row) for row in found]


async def row(store: Store, topic: RowTopic, bot_id: str, time_ms: int, event_id: str) -> Row | None:
    """All that is known of the row of one event; None where there is none."""
    parameters = {"bot": bot_id, "time": _time(time_ms), "event_id": event_id}
    found = await _rows(store, sql(_ROW[topic]), parameters)
    return _named(DETAILS[topic], found[0]) if found else None


def _named(names: Sequence[str], row: Sequence[Any]) -> Row:
    return {name: None if value == "" else value for name, value in zip(names, row, strict=True)}


class ExportFormat(StrEnum):
    """What the store writes rows as; the value is its own name of it."""

    CSV = "CSV"
    """RFC 4180 without a header; cells that a spreadsheet would take for a formula begin with `'`."""
    JSON_LINES = "JSONEachRow"
    """An object a line."""


@dataclass(frozen=True, kw_only=True)
class ZoneOffset:
    """From `since_ms` on the wall clock is `offset_ms` ahead of UTC, which times say as `text`."""

    since_ms: int
    offset_ms: int
    text: str


# What stands before the first row's time, and at the end of each row: an event_id is never empty.
_EDGES: Final = {ExportFormat.CSV: (b'"', b'"\r\n'), ExportFormat.JSON_LINES: (b'{"time":"', b'"}\n')}


async def export(
    store: Store,
    topic: RowTopic,
    span: Span,
    filters: Filters,
    *,
    zone: Sequence[ZoneOffset],
    fmt: ExportFormat,
) -> tuple[int, AsyncGenerator[bytes]]:
    """How many rows match, and these rows, newest first, as the store computes them.

    Both are of one moment: rows that arrive meanwhile change neither. The iterator raises StoreError where the
    store breaks off; closing it early stops the store's work. `zone` ascends, and covers the span.
    """
    query, parameters = _filtered(_EXPORTS[topic], span, filters)
    parameters = {
        **parameters,
        "is_csv": fmt is ExportFormat.CSV,
        "zone_since": [offset.since_ms for offset in zone],
        "zone_offset": [offset.offset_ms for offset in zone],
        "zone_text": [offset.text for offset in zone],
    }
    stream = store.stream(query, parameters, fmt=fmt.value, settings=_EXPORT)
    before_count, row_end = _EDGES[fmt]
    head = b""
    async for chunk in stream:
        head += chunk
        if match := re.match(re.escape(before_count) + rb"(\d+) ", head):
            return int(match[1]), _completed(before_count + head[match.end() :], stream, row_end)
        if len(head) > 100:
            break
    if head:
        raise StoreError(f"the store begins an export with {head[:100]!r}")
    return 0, stream


async def _completed(head: bytes, rest: AsyncGenerator[bytes], row_end: bytes) -> AsyncGenerator[bytes]:
    """All pieces; then StoreError unless they end with a row: a server may end its answer with the text of an error."""
    async with aclosing(rest):
        end = head
        yield head
        async for piece in rest:
            end = (end + piece)[-len(row_end) :]
            yield piece
    if not end.endswith(row_end):
        raise StoreError("the store broke off in the middle of an export")


def _bucketed(
    name: str, span: Span, starts: Sequence[int], filters: Filters, sealed_until_ms: int
) -> tuple[str, Parameters]:
    # Nothing is stored outside the calendar; of the starts before it one is enough.
    first = max(0, sum(start <= MIN_EVENT_MS for start in starts) - 1)
    within = [start for start in starts[first:] if start <= MAX_EVENT_MS] or starts[:1]
    is_aligned = all(start % INTERVAL_MS == 0 for start in within[1:])
    if any(filters.values()) or not is_aligned:
        query, parameters = _filtered(f"{name}_filtered", span, filters)
        return query, {**parameters, "starts": within}
    query, parameters = _united(name, span.parts(sealed_until_ms, has_days=False))
    return query, {**parameters, "starts": within}


def _united(name: str, parts: Parts) -> tuple[str, Parameters]:
    """A query and its parameters, without the branches of its union that have nothing to read."""
    return _with_branches(name, parts.branches), parts.parameters


# A comment that is its name, then all up to the next one or to the end of the union.
_BRANCH: Final = re.compile(r"    -- (\w+)\n.*?\n(?=    UNION ALL\n|\)\n)", re.DOTALL)


@cache
def _with_branches(name: str, branches: frozenset[str]) -> str:
    # Each branch costs the store a millisecond or two, be there anything to read or not.
    text = sql(name)
    found = list(_BRANCH.finditer(text))
    kept = [branch for branch in found if branch[1] in branches] or found[-1:]
    return "".join(
        [
            text[: found[0].start()],
            "    UNION ALL\n".join(branch[0] for branch in kept),
            text[found[-1].end() :],
        ]
    )


def _filtered(name: str, span: Span, filters: Filters) -> tuple[str, Parameters]:
    """A query and its parameters, without the conditions of filters that have no values."""
    given = {column: list(values) for column, values in filters.items() if values}
    return _with_filters(name, frozenset(given)), {**span.parameters(), **given}


_CONDITION: Final = re.compile(r"\n *AND (\w+) IN \{\1:Array\(String\)\}")


@cache
def _with_filters(name: str, columns: frozenset[str]) -> str:
    # To read and to resolve a condition costs the store half a millisecond, be there anything to leave out or not.
    return _CONDITION.sub(lambda found: found[0] if found[1] in columns else "", sql(name))


def _in_calendar(ms: int) -> int:
    """The same as far as stored events can tell, within what the store can hold."""
    return min(max(ms, MIN_EVENT_MS), MAX_EVENT_MS + 1)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _time(ms: int) -> str:
    """As the store reads a DateTime64(3, 'UTC')."""
    moment = _EPOCH + timedelta(milliseconds=_in_calendar(ms))
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"
