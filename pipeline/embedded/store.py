"""The embedded store: enough of ClickHouse's HTTP interface, over chDB, for clickhouse-connect or curl.

Rows stream both ways in constant memory: a request's body is handed to the engine as it arrives, an answer
is sent as the engine computes it. An answer that fails after its first byte ends with a dropped connection,
never with a clean end. A client that goes away cancels what only reads; what writes runs to its end, as in
ClickHouse.

There are no users: whoever can open the port may use the store. So it listens on loopback alone, refuses what
a browser would send on behalf of a web page, and refuses statements that reach files of this machine.
`session_id` is accepted and means nothing: no setting and no temporary table outlives its request.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import errno
import gc
import ipaddress
import json
import logging
import re
import socket
import sys
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import lz4.frame
import uvicorn

from pipeline.embedded.engine import Answer, Engine, Session, StatementFailed
from pipeline.embedded.statement import InlineInsert, inline_insert, output_format, reaches_outside
from pipeline.errors import Misconfigured

log = logging.getLogger(__name__)

_MIB = 1024 * 1024
MAX_BODY_BYTES = 256 * _MIB
MAX_STATEMENT_BYTES = 16 * _MIB
# Of a request's head; parameters in the URL may be long.
_MAX_HEAD_BYTES = _MIB
# Rows go to the engine in pieces of about this size, gathered from compressed pieces of a quarter.
_PIECE_BYTES = _MIB
# This much of an answer is held back, so that an error up to there is a status and not a dropped connection.
_HELD_BACK_BYTES = _MIB
_HELD_BACK_BYTES_TO_THE_END = 4 * _MIB
_READS_AT_ONCE = 16
_WRITES_AT_ONCE = 8
_SECONDS_TO_FINISH = 5

# Parameters of ClickHouse's HTTP interface that are no settings, or none that mean anything here.
_NOT_SETTINGS = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "compress",
        "database",
        "decompress",
        "default_format",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "log_comment",
        "password",
        "query",
        "query_id",
        "quota_key",
        "role",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)
# The status ClickHouse gives an exception; 500 where it is not listed. Format: the codes of ErrorCodes.cpp.
_STATUS_OF_CODE: Mapping[int, int] = {
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 38, 41, 44, 53, 62, 72, 117, 167, 168), 400),
    **dict.fromkeys((321, 376, 427, 441, 675, 676), 400),
    497: 403,
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336, 511), 404),
    159: 408,
    48: 501,
    **dict.fromkeys((76, 209, 439), 503),
}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
T = TypeVar("T")


async def serve_store(
    *, data_dir: Path, host: str, port: int, ready: Callable[[], None], stop: asyncio.Event
) -> None:
    """Serve the store in `data_dir` on `host:port` until `stop` is set; `ready` is called once it answers.

    Returns some 6 s after `stop` at the latest: running statements have 5 s to end, then they are cancelled.
    Raises `Misconfigured` for an address that is not loopback, a taken port, or a data directory in use.
    Signals are left to the caller.
    """
    listener = _listen(host, port)
    try:
        engine = await asyncio.to_thread(Engine, data_dir)
        front = _Front(engine)
        # What was made so far stays for ever: to walk through it would hold up every statement by 30 ms.
        gc.collect()
        gc.freeze()
        config = uvicorn.Config(
            front,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            # Long, so that no client writes into a connection that is just being closed.
            timeout_keep_alive=600,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
        server = _Server(config, ready)
        stopping = asyncio.create_task(_exit_when(stop, server))
        try:
            await server.serve(sockets=[listener])
        finally:
            stopping.cancel()
            await front.close()
            await asyncio.to_thread(engine.close)
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to `host:port`, if that is loopback and free."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Misconfigured(f"The store's address {host!r} is unknown: {error.strerror}.") from error
    if not all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found):
        raise Misconfigured(
            f"The embedded store has no users or passwords and listens on loopback alone, not on {host!r}. "
            "Use 127.0.0.1, or run a ClickHouse server and name it with --clickhouse."
        )
    family, kind, protocol, _, address = found[0]
    # With the protocol named: on no other socket does asyncio turn off Nagle's algorithm, which costs an
    # answer 40 ms.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise Misconfigured(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
        raise Misconfigured(
            f"Port {port} of {host} is taken. Stop what listens there, or choose another with --store-port."
        ) from None
    return listener


class _Server(uvicorn.Server):
    """uvicorn, except that signals are not its business and that it says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


async def _exit_when(stop: asyncio.Event, server: uvicorn.Server) -> None:
    await stop.wait()
    server.should_exit = True


class _ClientGone(Exception):
    """The client closed the connection: nobody waits for an answer."""


class _Rejected(Exception):
    """The front itself refuses the request, with an HTTP status and a ClickHouse code."""

    def __init__(self, status: int, code: int, name: str, text: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {text} ({name})")
        self.status = status
        self.code = code


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the URL, the headers and the fields of a form say."""

    method: str
    headers: Mapping[str, str]
    params: Mapping[str, str]

    @property
    def query(self) -> bytes:
        return self.params.get("query", "").encode("utf-8", "surrogateescape")

    @property
    def database(self) -> str | None:
        return self.params.get("database") or self.headers.get("x-clickhouse-database")

    @property
    def format(self) -> str:
        return self.params.get("default_format") or self.headers.get("x-clickhouse-format") or "TabSeparated"

    @property
    def settings(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.params.items()
            if name not in _NOT_SETTINGS and not name.startswith("param_")
        }

    @property
    def bound(self) -> dict[str, str]:
        """Values of the statement's parameters, by name."""
        return {
            name.removeprefix("param_"): value
            for name, value in self.params.items()
            if name.startswith("param_")
        }

    @property
    def waits_for_end(self) -> bool:
        return self.params.get("wait_end_of_query") in ("1", "true")

    def session(self, engine: Engine) -> Session:
        # As in ClickHouse, a GET writes nothing: a link or an image in a page is a GET.
        return engine.session(
            settings=self.settings, database=self.database, is_read_only=self.method == "GET"
        )


class _Front:
    """The ASGI application.

    It has as many threads as there may be statements at once, so no step of a statement waits for a thread;
    reads and writes are counted apart, so neither can keep the other out.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(_READS_AT_ONCE + _WRITES_AT_ONCE, thread_name_prefix="statement")
        self._cancellers = ThreadPoolExecutor(1, thread_name_prefix="cancel")
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._writes = asyncio.Semaphore(_WRITES_AT_ONCE)
        self._running: set[asyncio.Task[Any] | None] = set()

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        self._running.add(task)
        reply = _Reply(send)
        try:
            await self._respond(scope, receive, reply)
        except _ClientGone:
            log.debug("a client went away")
        except _Rejected as error:
            await reply.fail(error.status, error.code, str(error))
        except StatementFailed as error:
            await reply.fail(_STATUS_OF_CODE.get(error.code, 500), error.code, str(error))
        except asyncio.CancelledError:
            # The server stops, and its time to finish is over.
            await reply.fail(503, 394, "Code: 394. DB::Exception: The store stops (QUERY_WAS_CANCELLED)")
        finally:
            self._running.discard(task)

    async def close(self) -> None:
        """Wait until every request has left the engine."""
        if running := {task for task in self._running if task is not None}:
            await asyncio.wait(running)
        self._threads.shutdown()
        self._cancellers.shutdown()

    async def _respond(self, scope: dict[str, Any], receive: Receive, reply: _Reply) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        _refuse_browsers(headers)
        path, method = scope["path"], scope["method"]
        if path == "/ping" and method in ("GET", "HEAD"):
            await reply.whole(b"Ok.\n", {"content-type": "text/plain; charset=UTF-8"})
            return
        if path not in ("", "/"):
            raise _Rejected(404, 36, "BAD_ARGUMENTS", f"There is no {path} here, only / and /ping")
        if method not in ("GET", "POST"):
            raise _Rejected(405, 36, "BAD_ARGUMENTS", f"Method {method} is not supported")
        params = _decoded(scope["query_string"])
        body = _body(headers, receive)
        if headers.get("content-type", "").startswith("multipart/form-data"):
            params |= _form(headers["content-type"], await _collected(body))
            body = _nothing()
        request = _Request(method=method, headers=headers, params=params)
        _refuse_unsupported(request)
        reply.headers |= {
            "x-clickhouse-query-id": params.get("query_id") or str(uuid.uuid4()),
            "x-clickhouse-timezone": params.get("session_timezone") or "UTC",
        }
        text, insert = await _statement(request.query, body)
        if insert is not None and insert.format.upper() == "VALUES":
            # Among values there may be expressions, which are part of the statement like any other.
            text += await _collected(body)
            body = _nothing()
            to_check = text
        else:
            to_check = text if insert is None else insert.statement
        if outside := reaches_outside(to_check):
            raise _Rejected(403, 497, "ACCESS_DENIED", f"The embedded store allows no {outside}")
        if insert is not None:
            async with self._writes:
                await self._insert(request, insert, text[insert.data_start :], body, reply)
        else:
            async with self._reads:
                await self._execute(request, text, receive, reply)

    async def _insert(
        self,
        request: _Request,
        insert: InlineInsert,
        first: bytes,
        body: AsyncIterator[bytes],
        reply: _Reply,
    ) -> None:
        """Gather the body, and have the engine write it when it is complete; up to a million rows are one part."""
        session = request.session(self._engine)

        def begin() -> None:
            session.open()
            session.set({f"param_{name}": value for name, value in request.bound.items()})
            session.begin_insert(insert.statement, settings=insert.settings, input_format=insert.format)
            if first:
                session.append(first)

        def finish() -> int:
            written = session.finish_insert()
            session.close()
            return written

        try:
            await self._step(session, begin)
            async for piece in body:
                await self._step(session, session.append, piece)
            written = await self._step(session, finish)
        finally:
            await self._close(session)
        await reply.whole(b"", {"x-clickhouse-summary": _summary(written)})

    async def _execute(self, request: _Request, text: bytes, receive: Receive, reply: _Reply) -> None:
        """Run a statement, and send its rows while they come."""
        session = request.session(self._engine)
        wanted = output_format(text) or request.format
        held_back = _HELD_BACK_BYTES_TO_THE_END if request.waits_for_end else _HELD_BACK_BYTES

        def begin() -> tuple[Answer, bytes, bool]:
            session.open()
            answer = session.execute(text, output_format=wanted, params=request.bound)
            data, is_end = _next_part(answer.chunks, held_back)
            if is_end:
                session.close()
            return answer, data, is_end

        gone = asyncio.create_task(_disconnected(receive))
        try:
            answer, data, is_end = await self._step(session, begin, gone=gone)
            headers = {"x-clickhouse-summary": _summary(answer.written_rows)}
            if answer.has_rows:
                headers |= {"x-clickhouse-format": wanted, "content-type": _content_type(wanted)}
            if is_end:
                await reply.whole(data, headers)
                return
            await reply.begin(headers)
            await reply.part(data)
            while not is_end:
                data, is_end = await self._step(session, _next_part, answer.chunks, 1, gone=gone)
                await reply.part(data)
            await reply.end()
        finally:
            gone.cancel()
            await self._close(session)

    async def _step(
        self, session: Session, call: Callable[..., T], *args: Any, gone: asyncio.Task[None] | None = None
    ) -> T:
        """One call into the engine, in a thread.

        It ends early, with the statement cancelled, when the client of a read has gone or the request's own
        task is cancelled. However it ends, the thread has left the engine.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
        try:
            if gone is not None:
                await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
                while gone.done() and not (session.is_read or future.done()):
                    # A statement that has not begun may still turn out to be a read.
                    await asyncio.wait((future,), timeout=0.1)
                if gone.done() and session.is_read:
                    raise _ClientGone
            return await asyncio.shield(future)
        finally:
            while not future.done():
                # Again and again: the engine may not have listed the statement yet.
                await self._cancel(session)
                await asyncio.wait((future,), timeout=0.1)
            if future.exception() is not None:
                log.debug("a step of a statement ended with: %s", future.exception())

    async def _cancel(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._cancellers, self._engine.cancel, session.tag)

    async def _close(self, session: Session) -> None:
        if session.is_open:
            loop = asyncio.get_running_loop()
            await asyncio.shield(loop.run_in_executor(self._threads, session.close))


class _Reply:
    """The answer to one request, in ASGI's terms."""

    def __init__(self, send: Send) -> None:
        self.headers: dict[str, str] = {"x-clickhouse-server-display-name": "footfall-store"}
        self._send = send
        self._has_begun = False

    async def begin(self, headers: Mapping[str, str], status: int = 200) -> None:
        self._has_begun = True
        pairs = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in {**self.headers, **headers}.items()
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def part(self, data: bytes) -> None:
        # Piece by piece, for what the client does not take at once is copied.
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, data: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        await self.begin({**headers, "content-length": str(len(data))}, status)
        await self.part(data)
        await self.end()

    async def fail(self, status: int, code: int, text: str) -> None:
        """Say what went wrong; within an answer by leaving it unfinished, which drops the connection."""
        if self._has_begun:
            log.warning("a statement failed within its answer, which is cut off: %s", text)
            return
        headers = {"content-type": "text/plain; charset=UTF-8", "x-clickhouse-exception-code": str(code)}
        await self.whole(text.encode("utf-8", "replace") + b"\n", headers, status)


def _next_part(chunks: Iterator[bytes], size: int) -> tuple[bytes, bool]:
    """Chunks joined up to at least `size` bytes, and whether they were the last."""
    part: list[bytes] = []
    while size > 0:
        chunk = next(chunks, None)
        if chunk is None:
            return b"".join(part), True
        part.append(chunk)
        size -= len(chunk)
    return b"".join(part), False


def _summary(written_rows: int) -> str:
    """As much of ClickHouse's summary as is known here. Numbers are strings in it."""
    return json.dumps({"written_rows": str(written_rows)})


def _content_type(name: str) -> str:
    """The media type of an output format."""
    if name.startswith(("TSV", "TabSeparated")):
        return "text/tab-separated-values; charset=UTF-8"
    if name.startswith("CSV"):
        return "text/csv; charset=UTF-8"
    if name.endswith("EachRow") or name in ("JSONLines", "NDJSON"):
        return "application/x-ndjson; charset=UTF-8"
    if name.startswith("JSON"):
        return "application/json; charset=UTF-8"
    return "application/octet-stream"


def _refuse_browsers(headers: Mapping[str, str]) -> None:
    """A web page can make its reader's browser send requests to loopback.

    Such a request carries an Origin or, after DNS rebinding, the page's own name as Host.
    """
    name = re.sub(r":\d+\Z", "", headers.get("host", "localhost")).strip("[]")
    is_local = name == "localhost"
    with contextlib.suppress(ValueError):
        is_local = is_local or ipaddress.ip_address(name).is_loopback
    if "origin" in headers or not is_local:
        raise _Rejected(403, 497, "ACCESS_DENIED", "The embedded store answers no browser, only 127.0.0.1")


def _refuse_unsupported(request: _Request) -> None:
    for name in ("compress", "decompress"):
        if request.params.get(name) in ("1", "true"):
            raise _Rejected(501, 48, "NOT_IMPLEMENTED", f"No {name}=1 here, use Content-Encoding")
    for name, value in request.params.items():
        if name != "query" and any("\ud800" <= character <= "\udfff" for character in name + value):
            raise _Rejected(400, 36, "BAD_ARGUMENTS", "A parameter is not UTF-8")


def _decoded(query_string: bytes) -> dict[str, str]:
    """Parameters of a URL. Bytes that are not UTF-8 become surrogates."""
    return dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, errors="surrogateescape"))


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a multipart form, as parameters."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1")
    fields = {}
    for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts():
        if part.get_filename() is not None:
            raise _Rejected(501, 48, "NOT_IMPLEMENTED", "External tables are not supported")
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            fields[name] = payload.decode("utf-8", "surrogateescape")
    return fields


async def _statement(query: bytes, body: AsyncIterator[bytes]) -> tuple[bytes, InlineInsert | None]:
    """The statement's text, and the INSERT with inline rows that it is, if it is one.

    The text is what the URL says, then the body. Of an insert only as much of the body has been read as shows
    where the rows begin.
    """
    # In the URL the statement of an insert is complete: what follows, in the body, is rows.
    insert = inline_insert(query, is_complete=True)
    if insert is not None:
        return query, insert
    text = query + b"\n" if query else b""
    tried = 0
    async for piece in body:
        text += piece
        if len(text) > MAX_STATEMENT_BYTES:
            raise _Rejected(
                413, 307, "TOO_MANY_BYTES", f"A statement has {MAX_STATEMENT_BYTES} bytes at most"
            )
        # Not at each piece: every time the search begins anew.
        if len(text) >= 2 * tried:
            tried = len(text)
            insert = inline_insert(text, is_complete=False)
            if insert is not None:
                return text, insert
    if not text.strip():
        raise _Rejected(400, 62, "SYNTAX_ERROR", "Syntax error: Empty query")
    return text, inline_insert(text, is_complete=True)


async def _disconnected(receive: Receive) -> None:
    """Returns when the client has gone; the body has been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _collected(body: AsyncIterator[bytes]) -> bytes:
    collected = b""
    async for piece in body:
        collected += piece
        if len(collected) > MAX_STATEMENT_BYTES:
            raise _Rejected(
                413, 307, "TOO_MANY_BYTES", f"A statement has {MAX_STATEMENT_BYTES} bytes at most"
            )
    return collected


async def _body(headers: Mapping[str, str], receive: Receive) -> AsyncIterator[bytes]:
    """The request's body, decompressed, in pieces of 1 MiB at most."""
    too_large = _Rejected(
        413, 307, "TOO_MANY_BYTES", f"A body has {MAX_BODY_BYTES} bytes at most; send parts"
    )
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large
    decompress = _decompressor(headers.get("content-encoding", ""))
    pending: list[bytes] = []
    size = received = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        data, more = message.get("body", b""), message.get("more_body", False)
        received += len(data)
        if received > MAX_BODY_BYTES:
            raise too_large
        pending.append(data)
        size += len(data)
        if size >= _PIECE_BYTES // 4 or not more:
            for piece in decompress(b"".join(pending), not more):
                yield piece
            pending, size = [], 0


def _decompressor(encoding: str) -> Callable[[bytes, bool], Iterator[bytes]]:
    """A function from received bytes, and whether they are the last, to decompressed pieces."""
    # lz4, zstd and `_Zlib` share the surface of bz2.BZ2Decompressor.
    make: Callable[[], Any]
    broken: tuple[type[Exception], ...]
    match encoding.strip().lower():
        case "" | "identity":
            return lambda data, is_last: iter((data,) if data else ())
        case "lz4":
            make, broken = lz4.frame.LZ4FrameDecompressor, (RuntimeError, EOFError)
        case "gzip" | "deflate":
            make, broken = _Zlib, (zlib.error, EOFError)
        case "zstd":
            if sys.version_info >= (3, 14):
                from compression import zstd
            else:
                from backports import zstd

            make, broken = zstd.ZstdDecompressor, (zstd.ZstdError, EOFError)
        case other:
            raise _Rejected(501, 48, "NOT_IMPLEMENTED", f"No Content-Encoding {other} here")
    stream = make()

    def pieces(data: bytes, is_last: bool) -> Iterator[bytes]:
        nonlocal stream
        try:
            while data or not (stream.needs_input or stream.eof):
                if stream.eof:
                    # One compressed stream may follow another.
                    stream = make()
                piece = stream.decompress(data, _PIECE_BYTES)
                data = (stream.unused_data or b"") if stream.eof else b""
                if piece:
                    yield piece
            if is_last and not stream.eof:
                raise EOFError("it ends too early")
        except broken as error:
            raise _Rejected(400, 271, "CANNOT_DECOMPRESS", f"Cannot decompress the body: {error}") from None

    return pieces


class _Zlib:
    """zlib's decompressor, for gzip too, with the surface of bz2.BZ2Decompressor."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
