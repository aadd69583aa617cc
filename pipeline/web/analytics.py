"""The query layer: what the store knows about bots, as JSON."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from clickhouse import analytics
from clickhouse.analytics import Freshness, RowTopic, Span
from clickhouse.client import Store
from pipeline.web import parameters as of
from pipeline.web.answers import (
    AWAY,
    BAD,
    Answer,
    BotRow,
    KnownBot,
    RequestBucket,
    RequestDetails,
    RequestRow,
    Rows,
    Series,
    Summary,
    TokenBucket,
    TokenDetails,
    TokenRow,
    TopEntry,
    TopTokensEntry,
    UniqueBucket,
    ValueEntry,
    problems,
    said,
    said_of_bot,
    said_of_row,
)
from pipeline.web.connections import Connections, Fresh, connections
from pipeline.web.parameters import API
from pipeline.web.problems import UnknownRow
from pipeline.web.ranges import Range, bucket_starts, instant, resolve, text, zone
from schemas.topics import Topic

router = APIRouter(
    prefix=API,
    dependencies=[Depends(of.once_each)],
    responses=problems(bad_parameter=BAD, unavailable=AWAY),
    tags=["analytics"],
)

Kept = Annotated[Connections, Depends(connections)]

_REQUEST_CARDS = ("total_requests", "unique_ips", "unique_conversations", "last_request")
_TOKEN_CARDS = ("input_tokens", "output_tokens", "total_tokens")
_FEEDBACK_CARDS = ("positive_feedbacks", "negative_feedbacks")


@router.get("/bots", responses=said(Answer[Rows[BotRow]]))
async def bots(request: Request, kept: Kept, asked: Annotated[of.OfBots, Query()]) -> Response:
    """All bots by id, with their latest request of all time and the number of the last 7 days."""
    if asked.cursor is not None:
        cursor = of.cursor_of(request, asked.cursor)
        range_ = Range(start_ms=cursor.start_ms, end_ms=cursor.end_ms, tz=zone(asked.tz))
        after = cursor.position[1]
    else:
        tz = zone(asked.tz)
        range_, after = resolve(preset="7d", start=None, end=None, tz=tz, now_ms=of.now_ms()), ""
    fresh = await kept.freshness(*Topic)
    found = await analytics.bots(
        kept.store, range_.start_ms, range_.end_ms, after=after, limit=asked.limit + 1
    )
    page = found[: asked.limit]
    rows = [
        {
            "bot_id": bot.bot_id,
            "last_request": _time_or_null(bot.last_request_ms, range_),
            "requests_7d": bot.requests,
        }
        for bot in page
    ]
    is_last = len(found) <= asked.limit
    following = None if is_last else _cursor(request, range_, (0, page[-1].bot_id))
    return _answer(range_, {"rows": rows, "next": following}, fresh)


@router.get("/bots/{bot}/range", responses=said_of_bot(Answer[KnownBot]))
async def range_ends(bot: of.Bot, kept: Kept, asked: Annotated[of.Ranged, Query()]) -> Response:
    """The ends that a range has now, to ask all other questions about the same. It counts nothing."""
    range_ = of.resolved(asked)
    _, fresh = await _about(kept, bot, *Topic)
    return _answer(range_, {"bot_id": bot}, fresh)


@router.get("/bots/{bot}/summary", responses=said_of_bot(Answer[Summary]))
async def summary(bot: of.Bot, kept: Kept, asked: Annotated[of.OfSummary, Query()]) -> Response:
    """The cards."""
    range_ = of.resolved(asked)
    span = _span(bot, range_)
    request_filters = of.filters_of(asked, Topic.BOT_REQUESTS)
    token_filters = of.filters_of(asked, Topic.TOKEN_USAGES)
    store, fresh = await _about(kept, bot, *Topic)
    requests, tokens, feedback = await asyncio.gather(
        analytics.request_totals(
            store, span, request_filters, sealed_until_ms=fresh.sealed_until_ms(Topic.BOT_REQUESTS)
        ),
        analytics.token_totals(
            store, span, token_filters, sealed_until_ms=fresh.sealed_until_ms(Topic.TOKEN_USAGES)
        ),
        analytics.feedback_totals(store, span),
    )
    unfiltered: tuple[str, ...] = ()
    if request_filters or token_filters:
        unfiltered += () if request_filters else _REQUEST_CARDS
        unfiltered += () if token_filters else _TOKEN_CARDS
        unfiltered += _FEEDBACK_CARDS
    data = {
        "total_requests": requests.requests,
        "unique_ips": requests.unique_ips,
        "unique_conversations": requests.unique_conversations,
        "last_request": _time_or_null(requests.last_request_ms, range_),
        "input_tokens": tokens.input_tokens,
        "output_tokens": tokens.output_tokens,
        "total_tokens": tokens.input_tokens + tokens.output_tokens,
        "positive_feedbacks": feedback.positive,
        "negative_feedbacks": feedback.negative,
        "exact": {"unique_ips": True, "unique_conversations": True},
        "unfiltered": unfiltered,
    }
    return _answer(range_, data, fresh)


@router.get(
    "/bots/{bot}/requests/timeseries",
    responses=said_of_bot(Answer[Series[RequestBucket]]),
)
async def requests_over_time(
    bot: of.Bot, kept: Kept, asked: Annotated[of.OfRequestChart, Query()]
) -> Response:
    """Requests by bucket, zero-filled. The first bucket may start before the range; only the range is counted."""
    range_ = of.resolved(asked)
    interval, starts = bucket_starts(range_, asked.interval)
    store, fresh = await _about(kept, bot, Topic.BOT_REQUESTS)
    counts = await analytics.request_buckets(
        store,
        _span(bot, range_),
        starts,
        of.filters_of(asked, Topic.BOT_REQUESTS),
        sealed_until_ms=fresh.sealed_until_ms(Topic.BOT_REQUESTS),
    )
    buckets = [{"start": text(start, range_.tz), "requests": counts.get(start, 0)} for start in starts]
    return _answer(range_, {"interval": interval, "buckets": buckets}, fresh)


@router.get("/bots/{bot}/uniques/timeseries", responses=said_of_bot(Answer[Series[UniqueBucket]]))
async def uniques_over_time(
    bot: of.Bot, kept: Kept, asked: Annotated[of.OfRequestChart, Query()]
) -> Response:
    """Distinct IPs and conversations by bucket, each bucket for itself, zero-filled. Only the range is counted."""
    range_ = of.resolved(asked)
    interval, starts = bucket_starts(range_, asked.interval)
    store, fresh = await _about(kept, bot, Topic.BOT_REQUESTS)
    counts = await analytics.unique_buckets(
        store,
        _span(bot, range_),
        starts,
        of.filters_of(asked, Topic.BOT_REQUESTS),
        sealed_until_ms=fresh.sealed_until_ms(Topic.BOT_REQUESTS),
    )
    buckets = []
    for start in starts:
        ips, chats = counts.get(start, (0, 0))
        buckets.append({"start": text(start, range_.tz), "unique_ips": ips, "unique_conversations": chats})
    return _answer(range_, {"interval": interval, "buckets": buckets}, fresh)


@router.get("/bots/{bot}/tokens/timeseries", responses=said_of_bot(Answer[Series[TokenBucket]]))
async def tokens_over_time(bot: of.Bot, kept: Kept, asked: Annotated[of.OfTokenChart, Query()]) -> Response:
    """Tokens by bucket, zero-filled. The first bucket may start before the range; only the range is counted."""
    range_ = of.resolved(asked)
    interval, starts = bucket_starts(range_, asked.interval)
    store, fresh = await _about(kept, bot, Topic.TOKEN_USAGES)
    totals = await analytics.token_buckets(
        store,
        _span(bot, range_),
        starts,
        of.filters_of(asked, Topic.TOKEN_USAGES),
        sealed_until_ms=fresh.sealed_until_ms(Topic.TOKEN_USAGES),
    )
    none = analytics.TokenTotals(input_tokens=0, output_tokens=0)
    buckets = [
        {
            "start": text(start, range_.tz),
            "input_tokens": (total := totals.get(start, none)).input_tokens,
            "output_tokens": total.output_tokens,
        }
        for start in starts
    ]
    return _answer(range_, {"interval": interval, "buckets": buckets}, fresh)


@router.get("/bots/{bot}/requests/top", responses=said_of_bot(Answer[list[TopEntry]]))
async def top(bot: of.Bot, kept: Kept, asked: Annotated[of.OfTop, Query()]) -> Response:
    """The most frequent values, then all others together, then requests whose value is unknown."""
    range_ = of.resolved(asked)
    store, fresh = await _about(kept, bot, Topic.BOT_REQUESTS)
    span, filters = _span(bot, range_), of.filters_of(asked, Topic.BOT_REQUESTS)
    if asked.by in analytics.RANKED:
        found = (await kept.rankings(span, filters, fresh))[asked.by].first(asked.limit)
    else:
        found = await analytics.top_requests(store, span, asked.by, filters, limit=asked.limit)
    entries: list[tuple[str, str | None, int]] = [("value", value, n) for value, n in found.values]
    entries += [(kind, None, n) for kind, n in (("other", found.other), ("unknown", found.unknown)) if n]
    data = [
        {"kind": kind, "value": value, "requests": requests, "share": requests / found.total}
        for kind, value, requests in entries
    ]
    return _answer(range_, data, fresh)


@router.get("/bots/{bot}/requests/values", responses=said_of_bot(Answer[list[ValueEntry]]))
async def values(bot: of.Bot, kept: Kept, asked: Annotated[of.OfValues, Query()]) -> Response:
    """The values of a filter that exist and hold a text, the most frequent first."""
    range_ = of.resolved(asked)
    store, fresh = await _about(kept, bot, Topic.BOT_REQUESTS)
    found = await analytics.request_values(
        store,
        _span(bot, range_),
        asked.by,
        of.filters_of(asked, Topic.BOT_REQUESTS),
        contains=asked.contains,
        limit=asked.limit,
    )
    data = [{"value": value or None, "requests": requests} for value, requests in found]
    return _answer(range_, data, fresh)


@router.get("/bots/{bot}/token-usages/top", responses=said_of_bot(Answer[list[TopTokensEntry]]))
async def top_tokens(bot: of.Bot, kept: Kept, asked: Annotated[of.OfTopTokens, Query()]) -> Response:
    """What takes the most tokens, then all others together, then usages whose value is unknown."""
    range_ = of.resolved(asked)
    store, fresh = await _about(kept, bot, Topic.TOKEN_USAGES)
    found = await analytics.top_tokens(
        store,
        _span(bot, range_),
        asked.by,
        of.filters_of(asked, Topic.TOKEN_USAGES),
        limit=asked.limit,
        sealed_until_ms=fresh.sealed_until_ms(Topic.TOKEN_USAGES),
    )
    total = sum(one.input_tokens + one.output_tokens for one in found)
    data = [
        {**asdict(one), "share": (one.input_tokens + one.output_tokens) / total if total else 0.0}
        for one in found
    ]
    return _answer(range_, data, fresh)


@router.get("/bots/{bot}/requests", responses=said_of_bot(Answer[Rows[RequestRow]]))
async def requests(
    request: Request, bot: of.Bot, kept: Kept, asked: Annotated[of.OfRequestList, Query()]
) -> Response:
    """Requests, newest first."""
    return await _rows(request, kept, bot, Topic.BOT_REQUESTS, asked)


@router.get("/bots/{bot}/token-usages", responses=said_of_bot(Answer[Rows[TokenRow]]))
async def token_usages(
    request: Request, bot: of.Bot, kept: Kept, asked: Annotated[of.OfTokenList, Query()]
) -> Response:
    """Token usages, newest first."""
    return await _rows(request, kept, bot, Topic.TOKEN_USAGES, asked)


@router.get("/bots/{bot}/requests/row", responses=said_of_row(Answer[RequestDetails]))
async def request_row(bot: of.Bot, kept: Kept, asked: Annotated[of.OfRow, Query()]) -> Response:
    """Everything known of one request."""
    return await _row(kept, bot, Topic.BOT_REQUESTS, asked)


@router.get("/bots/{bot}/token-usages/row", responses=said_of_row(Answer[TokenDetails]))
async def token_row(bot: of.Bot, kept: Kept, asked: Annotated[of.OfRow, Query()]) -> Response:
    """Everything known of one token usage."""
    return await _row(kept, bot, Topic.TOKEN_USAGES, asked)


async def _row(kept: Connections, bot: str, topic: RowTopic, asked: of.OfRow) -> Response:
    tz = zone(asked.tz)
    ms = instant("time", asked.time, tz)
    store, fresh = await _about(kept, bot, topic)
    row = await analytics.row(store, topic, bot, ms, asked.event_id)
    if row is None:
        raise UnknownRow(asked.event_id)
    times = {name: text(at, tz) for name in analytics.TIMES if isinstance(at := row.get(name), int)}
    return _answer(Range(start_ms=ms, end_ms=ms + 1, tz=tz), {**row, **times}, fresh)


async def _rows(
    request: Request, kept: Connections, bot: str, topic: RowTopic, asked: of.OfRequestList | of.OfTokenList
) -> Response:
    if asked.cursor is not None:
        cursor = of.cursor_of(request, asked.cursor)
        range_ = Range(start_ms=cursor.start_ms, end_ms=cursor.end_ms, tz=zone(asked.tz))
        before: analytics.Position | None = cursor.position
    else:
        range_, before = of.resolved(asked), None
    store, fresh = await _about(kept, bot, topic)
    found = await analytics.rows(
        store,
        topic,
        _span(bot, range_),
        of.filters_of(asked, topic),
        before=before,
        limit=asked.limit + 1,
    )
    page: list[dict[str, Any]] = [*found[: asked.limit]]
    is_last = len(found) <= asked.limit
    following = None if is_last else _cursor(request, range_, (page[-1]["time"], page[-1]["event_id"]))
    rows = [{**row, "time": text(row["time"], range_.tz)} for row in page]
    return _answer(range_, {"rows": rows, "next": following}, fresh)


async def _about(kept: Connections, bot: str, *topics: Topic) -> tuple[Store, Fresh]:
    """The store, and how fresh at least what it will say is. Raises UnknownBot, Unavailable, StoreError."""
    return await asyncio.gather(kept.known(bot), kept.freshness(*topics))


def _answer(range_: Range, data: object, fresh: Fresh) -> Response:
    freshness = Freshness.of_all(list(fresh.by_topic.values()))
    body = {
        "range": {
            "from": text(range_.start_ms, range_.tz),
            "to": text(range_.end_ms, range_.tz),
            "tz": range_.tz.key,
        },
        "data": data,
        "freshness": {
            "data_as_of": _time_or_null(freshness.data_as_of_ms, range_),
            "provisional_from": _time_or_null(freshness.provisional_from_ms, range_),
            "consumer_lag_records": freshness.consumer_lag_records,
            "late_events_24h": sum(day.late_events for day in fresh.day_counts),
            "dead_letters_24h": sum(day.dead_letters for day in fresh.day_counts),
        },
    }
    return Response(
        msgspec.json.encode(body), headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


def _span(bot: str, range_: Range) -> Span:
    return Span(bot_id=bot, start_ms=range_.start_ms, end_ms=range_.end_ms)


def _time_or_null(ms: int | None, range_: Range) -> str | None:
    return None if ms is None else text(ms, range_.tz)


def _cursor(request: Request, range_: Range, position: tuple[int, str]) -> str:
    cursor = of.Cursor(
        request=of.fingerprint(request),
        start_ms=range_.start_ms,
        end_ms=range_.end_ms,
        position=position,
    )
    return cursor.text()
