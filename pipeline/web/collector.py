"""The collector: events over HTTP, for producers that do not speak Kafka.

All or nothing: every event is decoded as a worker would decode it before any is published, and an answer of 202
means that the broker has acknowledged all of them. Each goes on as the very bytes that came.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Path, Request, Response

from pipeline.decode import MalformedEvent, decode, required_fields
from pipeline.errors import FootfallError, Unavailable
from pipeline.web import metrics
from pipeline.web.analytics import Kept
from pipeline.web.answers import Published, problems, said
from pipeline.web.connections import PRODUCE_TIMEOUT
from pipeline.web.parameters import API, now_ms
from pipeline.web.problems import BadParameter, problem
from schemas.dead_letter import Reason
from schemas.topics import Topic

log = logging.getLogger(__name__)

router = APIRouter(
    prefix=API,
    responses=problems(
        malformed_events=(400, "Malformed: 1 of the events. Nothing was published."),
        bad_parameter=(400, "Parameter x: is not a parameter of this path."),
        unknown_topic=(404, "There is no topic 'x': it is one of bot_requests, token_usages, bot_feedback."),
        too_large=(413, "A request may carry 10,000 events. Send them in several requests."),
        unsupported_body=(415, "Content-Type should be application/json or application/x-ndjson."),
        unavailable=(503, "The broker has not acknowledged all events. Send everything again in a moment."),
    ),
    tags=["collector"],
)

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Of a compressed body also what it holds."""
MAX_EVENTS: Final = 10_000
_DRAINED_BYTES: Final = 4 * MAX_BODY_BYTES
"""Of a body that is refused this much is read and dropped: who is still sending would not see the answer."""
_ROOM_BYTES: Final = 16 * MAX_BODY_BYTES
_SLICE_BYTES: Final = 4096

_JSON: Final = "application/json"
_EXAMPLE: Final = {
    "bot_id": "support",
    "event_id": "first-1",
    "event_time": "2026-01-31T12:00:00Z",
    "endpoint": "widget",
}
_LINES: Final = "application/x-ndjson"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why one event is refused."""

    index: int
    """Which one: 0 is the first."""
    field: str
    reason: Reason


class MalformedBody(FootfallError):
    """What was posted can never be published: says which events are at fault."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} malformed")
        self.faults = faults


class TooLarge(FootfallError):
    """More than one request may carry: to be sent in parts."""


class Unsupported(FootfallError):
    """Not a type or an encoding of body that is known here."""


@router.post(
    "/events/{topic}",
    status_code=202,
    responses=said(Published, 202),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": {}, "example": _EXAMPLE},
                _LINES: {"schema": {"type": "string"}, "example": json.dumps(_EXAMPLE)},
            },
        }
    },
)
async def events(
    topic: Annotated[str, Path(description="Where to publish.", examples=["bot_requests"])],
    request: Request,
    kept: Kept,
) -> Response:
    """Publish one event or an array of them (`application/json`), or one a line (`application/x-ndjson`).

    gzip is allowed. 202: all are published. 400: `errors` says which are malformed; none is published. 503: send
    everything again; what was published already is not counted twice.
    """
    if topic not in set(Topic):
        return problem(404, "unknown-topic", f"There is no topic {topic!r}: it is one of {', '.join(Topic)}.")
    for name in request.query_params:
        raise BadParameter(name, "is not a parameter of this path")
    counted = metrics.COLLECTED_EVENTS
    with _room.share() as take:
        try:
            media_type = _media_type(request)
            body = await _body(request, take)
            records = await _in_thread(_records, Topic(topic), body, media_type, now_ms())
        except Unsupported as error:
            return problem(415, "unsupported-body", str(error))
        except TooLarge as error:
            return problem(413, "too-large", str(error))
        except MalformedBody as error:
            counted.labels(topic, "malformed").inc(len(error.faults))
            detail = f"Malformed: {len(error.faults)} of the events. Nothing was published."
            if any(fault.reason is Reason.MISSING_FIELD for fault in error.faults):
                detail += f" Every event of {topic} needs {', '.join(required_fields(Topic(topic)))}."
            return problem(400, "malformed-events", detail, errors=error.faults)
        try:
            await _publish(kept.producer, kept.topic_prefix + topic, records)
        except Unavailable:
            counted.labels(topic, "unavailable").inc(len(records))
            raise
    counted.labels(topic, "published").inc(len(records))
    return Response(msgspec.json.encode({"published": len(records)}), 202, media_type="application/json")


class Room:
    """Bytes that all requests together may hold: however many come at once, memory stays bounded."""

    def __init__(self, size: int) -> None:
        self.free = size

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes until the context is left, or gives back where it is told less than 0.

        It raises Unavailable where there are not so many.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self.free:
                raise Unavailable("Too much is being sent at once. Send everything again in a moment.")
            self.free -= size
            taken += size

        try:
            yield take
        finally:
            self.free += taken


_room: Final = Room(_ROOM_BYTES)
# Few, for what they hold is many times a body; and not the loop's own thread, which goes on answering others.
_threads: Final = ThreadPoolExecutor(2, thread_name_prefix="collector")


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(function, *args, **kwargs))


def _media_type(request: Request) -> str:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (_JSON, _LINES):
        raise Unsupported(f"Content-Type should be {_JSON} or {_LINES}.")
    return media_type


async def _body(request: Request, take: Callable[[int], None]) -> bytes:
    """The body, decompressed. Raises TooLarge, Unsupported, MalformedBody, Unavailable."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Unsupported("Content-Encoding should be gzip, or none.")
    received = bytearray()
    size = 0
    no_room: Unavailable | None = None
    async for piece in request.stream():
        size += len(piece)
        if size > _DRAINED_BYTES:
            break
        if no_room is None and size <= MAX_BODY_BYTES:
            try:
                take(len(piece))
            except Unavailable as error:
                no_room = error
                take(-len(received))
                received.clear()
            else:
                received += piece
    if no_room is not None:
        raise no_room
    if size > MAX_BODY_BYTES:
        raise TooLarge(f"A body may have {MAX_BODY_BYTES:,} bytes. Send the events in several requests.")
    body = bytes(received)
    if encoding == "gzip":
        take(MAX_BODY_BYTES)
        body = await _in_thread(_decompressed, body)
    return body


def _decompressed(body: bytes) -> bytes:
    """Of one or several gzip members, as RFC 1952 has it."""
    parts: list[bytes] = []
    room = MAX_BODY_BYTES
    member = None
    try:
        # In slices: what follows a member is copied each time, and a body can have a million of them.
        for start in range(0, len(body), _SLICE_BYTES):
            rest = body[start : start + _SLICE_BYTES]
            while rest:
                if member is None or member.eof:
                    member = zlib.decompressobj(wbits=31)
                parts.append(member.decompress(rest, room + 1))
                room -= len(parts[-1])
                if room < 0:
                    raise TooLarge(
                        f"A body may hold {MAX_BODY_BYTES:,} bytes after decompression. "
                        "Send the events in several requests."
                    )
                rest = member.unused_data
        if member is not None and not member.eof:
            raise MalformedBody([Fault(index=0, field="", reason=Reason.INVALID_JSON)])
    except zlib.error:
        raise MalformedBody([Fault(index=0, field="", reason=Reason.INVALID_JSON)]) from None
    return b"".join(parts)


def _records(topic: Topic, body: bytes, media_type: str, at_ms: int) -> list[tuple[bytes, bytes]]:
    """(key, value) of every event. Raises MalformedBody, TooLarge."""
    records: list[tuple[bytes, bytes]] = []
    faults: list[Fault] = []
    for index, value in enumerate(_lines(body) if media_type == _LINES else _elements(body)):
        if index == MAX_EVENTS:
            raise TooLarge(f"A request may carry {MAX_EVENTS:,} events. Send them in several requests.")
        try:
            event, _ = decode(topic, value, at_ms)
        except MalformedEvent as error:
            faults.append(Fault(index=index, field=error.field, reason=error.reason))
        else:
            records.append((event.bot_id.encode(), value))
    if faults:
        raise MalformedBody(faults)
    return records


def _lines(body: bytes) -> Iterator[bytes]:
    """One event a line; empty lines are none."""
    return (line for line in map(bytes.strip, io.BytesIO(body)) if line)


_decode_array: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _elements(body: bytes) -> list[bytes]:
    """The events of an array, or the one event that is not in one."""
    if not body.lstrip(b" \t\r\n").startswith(b"["):
        return [body]
    # Each element becomes an object below, whose memory a small body could multiply.
    if body.count(b",") > 100 * MAX_EVENTS and _has_more_elements(body, MAX_EVENTS):
        raise TooLarge(f"A request may carry {MAX_EVENTS:,} events. Send them in several requests.")
    try:
        return [bytes(element) for element in _decode_array(body)]
    except RecursionError:
        raise MalformedBody([Fault(index=0, field="", reason=Reason.TOO_DEEP)]) from None
    except msgspec.DecodeError:
        raise MalformedBody([Fault(index=0, field="", reason=Reason.INVALID_JSON)]) from None


# A string that has no end goes to that of the body: looked for anew from each quote, it would take for ever.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*["\\]?|[\[{]|[\]}]|,', re.DOTALL)


def _has_more_elements(body: bytes, limit: int) -> bool:
    """Whether the array has more than `limit` elements; slow."""
    depth, elements = 0, 1
    for token in _TOKEN.finditer(body):
        match token[0]:
            case b"[" | b"{":
                depth += 1
            case b"]" | b"}":
                depth -= 1
            case b"," if depth == 1:
                elements += 1
                if elements > limit:
                    return True
    return False


async def _publish(producer: AIOKafkaProducer, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    """Return when the broker has acknowledged all. Raises Unavailable: then some may be published, or will be."""
    sent: list[asyncio.Future[Any]] = []
    try:
        async with asyncio.timeout(PRODUCE_TIMEOUT.total_seconds()):
            for key, value in records:
                sent.append(await producer.send(topic, value, key=key))
            await asyncio.gather(*sent)
    except (KafkaError, TimeoutError, OSError) as error:
        log.warning("could not publish %d events to %s: %r", len(records), topic, error)
        raise Unavailable(
            "The broker has not acknowledged all events. Send everything again in a moment: that is safe."
        ) from error
    finally:
        # Those that fail after the first one did have nobody else to take their error.
        for future in sent:
            future.add_done_callback(_taken)


def _taken(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
