"""Files of all rows that match: streamed from the store as it writes them, in constant memory."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Send

from clickhouse import analytics
from clickhouse.analytics import COLUMNS, ExportFormat, RowTopic, Span, ZoneOffset
from clickhouse.client import StoreError
from pipeline.web import parameters as of
from pipeline.web.analytics import Kept
from pipeline.web.answers import AWAY, BAD, UNKNOWN_BOT, problems
from pipeline.web.encoding import accepts_gzip, gzipped
from pipeline.web.parameters import API
from pipeline.web.ranges import Range, changes_of_offset, offset_text
from schemas.topics import Topic

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=API,
    dependencies=[Depends(of.once_each)],
    responses=problems(bad_parameter=BAD, unknown_bot=UNKNOWN_BOT, unavailable=AWAY),
    tags=["exports"],
)

ROW_COUNT_HEADER: Final = "Footfall-Row-Count"

_MEDIA_TYPES: Final = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
}


_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file; a failure ends the connection without a clean end.",
        "headers": {
            ROW_COUNT_HEADER: {
                "schema": {"type": "integer"},
                "description": "How many rows the file will hold.",
                "example": 1234,
            }
        },
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["rows", "row_count"],
                    "properties": {
                        "rows": {"type": "array", "items": {"type": "object"}},
                        "row_count": {"type": "integer"},
                    },
                }
            },
        },
    }
}


@router.get("/bots/{bot}/requests/export", response_class=StreamingResponse, responses=_FILE)
async def requests_export(
    request: Request, bot: of.Bot, kept: Kept, asked: Annotated[of.OfRequestExport, Query()]
) -> Response:
    """All requests that match, newest first. `Footfall-Row-Count` says how many will come; gzip on request."""
    return await _export(request, kept, bot, Topic.BOT_REQUESTS, asked)


@router.get("/bots/{bot}/token-usages/export", response_class=StreamingResponse, responses=_FILE)
async def token_usages_export(
    request: Request, bot: of.Bot, kept: Kept, asked: Annotated[of.OfTokenExport, Query()]
) -> Response:
    """All token usages that match, newest first. `Footfall-Row-Count` says how many will come; gzip on request."""
    return await _export(request, kept, bot, Topic.TOKEN_USAGES, asked)


async def _export(
    request: Request,
    kept: Kept,
    bot: str,
    topic: RowTopic,
    asked: of.OfRequestExport | of.OfTokenExport,
) -> Response:
    range_ = of.resolved(asked)
    store = await kept.known(bot)
    span = Span(bot_id=bot, start_ms=range_.start_ms, end_ms=range_.end_ms)
    count, rows = await analytics.export(
        store,
        topic,
        span,
        of.filters_of(asked, topic),
        zone=_zone(span, range_),
        fmt=ExportFormat.CSV if asked.format == "csv" else ExportFormat.JSON_LINES,
    )
    match asked.format:
        case "csv":
            content = _with_header(rows, topic)
        case "json":
            content = as_document(rows, count)
        case "ndjson":
            content = rows
    headers = {
        ROW_COUNT_HEADER: str(count),
        "Cache-Control": "no-store",
        "Content-Disposition": _attachment(f"{bot} {topic}.{asked.format}"),
        "Content-Type": _MEDIA_TYPES[asked.format],
        "Vary": "Accept-Encoding",
    }
    if accepts_gzip(request):
        return _Export(gzipped(content), headers={**headers, "Content-Encoding": "gzip"})
    return _Export(content, headers=headers)


class _Export(StreamingResponse):
    """A stream that ends the connection without a clean end where the store fails half-way."""

    body_iterator: AsyncGenerator[bytes]

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.body_iterator):
            try:
                await super().stream_response(send)
            except StoreError as error:
                # The server closes a connection whose answer is not complete.
                log.warning("an export was cut off: %s", error)


async def _with_header(rows: AsyncGenerator[bytes], topic: RowTopic) -> AsyncGenerator[bytes]:
    async with aclosing(rows):
        yield ",".join(COLUMNS[topic]).encode() + b"\r\n"
        async for piece in rows:
            yield piece


async def as_document(rows: AsyncGenerator[bytes], count: int) -> AsyncGenerator[bytes]:
    """`{"rows": […], "row_count": n}`. Line ends stand between rows alone: inside strings they are escaped."""
    async with aclosing(rows):
        yield b'{"rows": [\n'
        last_end = b""
        async for piece in rows:
            text = last_end + piece
            last_end = b"\n" if text.endswith(b"\n") else b""
            yield text.removesuffix(b"\n").replace(b"\n", b",\n")
        yield b'\n], "row_count": %d}\n' % count


def _zone(span: Span, range_: Range) -> list[ZoneOffset]:
    return [
        ZoneOffset(since_ms=since, offset_ms=offset, text=offset_text(offset))
        for since, offset in changes_of_offset(*span.in_calendar(), range_.tz)
    ]


def _attachment(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
