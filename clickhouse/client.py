"""The connection to ClickHouse: one async client, one kind of error."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import clickhouse_connect
import lz4.frame
import msgspec
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import ClickHouseError

SILENCE_SECONDS = 24
"""After this long without any sign of the machine at the other end a connection is given up."""

_STATUS = re.compile(r"HTTP driver received HTTP status (\d{3})")
"""How the driver begins to say that an error is not ClickHouse's own."""
_NOT_LET_IN = {192, 193, 194, 497, 516}
"""Unknown user, wrong or missing password, access denied, authentication failed."""
_ADVICE = (
    "The store does not let us in: check --clickhouse-user, --clickhouse-password-file and the user's grants."
)

_HEADING = re.compile(r"\A(?:--.*\n)+")

Parameters = Mapping[str, object]
Settings = Mapping[str, object]
Row = Sequence[Any]

_encoder = msgspec.json.Encoder()

INSERT_SETTINGS: Settings = {
    "async_insert": 0,  # on by default in recent servers: an acknowledged insert must be durable
    "input_format_json_named_tuples_as_objects": 0,
    "optimize_on_insert": 0,  # merges and FINAL replace copies; looking for them in each block costs a fifth of it
}


class StoreError(Exception):
    """The store did not do as asked, or is away. Any such error may pass, so the caller retries.

    `code` is ClickHouse's own number, 0 when it gave none; `status` then is that of the HTTP answer, which may be that
    of a proxy before it, and 0 when nobody answered.
    """

    def __init__(self, message: str, code: int = 0, *, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    @property
    def label(self) -> str:
        """What metrics call it: `241`, `http_503`, or `0`."""
        return f"http_{self.status}" if self.status else str(self.code)


@dataclass(frozen=True, kw_only=True)
class StoreAddress:
    """Where ClickHouse's HTTP interface answers, and how to log in."""

    url: str
    """`http[s]://host:port`"""
    user: str = "default"
    password: str = field(default="", repr=False)
    ca_file: str | None = None
    """PEM bundle that the server's certificate is checked against; None: the system's."""
    request_timeout_seconds: float = 300
    """After this long without an answer a request counts as lost."""


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever the driver raises into `StoreError`; cancellation passes."""
    try:
        yield
    except (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError) as error:
        message = str(error).strip() or type(error).__name__
        code = getattr(error, "code", None) or 0
        answered = _STATUS.match(message)
        status = int(answered[1]) if answered and not code else 0
        if code in _NOT_LET_IN or status in (401, 403):
            message = f"{_ADVICE} It says: {message}"
        raise StoreError(message, code, status=status) from error


@contextmanager
def _cancellable() -> Iterator[None]:
    """Whoever is cancelled in here is, though the driver forgets it while it gives up a connection."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("needs a task that can be cancelled")
    asked_before = task.cancelling()
    try:
        yield
    except StoreError:
        if task.cancelling() > asked_before:
            raise asyncio.CancelledError from None
        raise


@cache
def sql(name: str) -> str:
    """Text of `queries/<name>.sql` below its heading, which the driver would walk through with each question."""
    text = files("clickhouse").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
    return _HEADING.sub("", text)


class Store:
    """ClickHouse as the rest of Footfall sees it. For concurrent use within one event loop.

    Every method raises `StoreError`, and nothing else of the driver's.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], *, origin: str) -> None:
        """Insert `rows` (values in the order of `columns`) as one block, durable when this returns.

        `origin` says where the rows come from. With a hash of the rows it makes the deduplication token, so a
        retry changes nothing, and other rows of the same origin are not mistaken for one.
        """
        block = lz4.frame.compress(_encoder.encode_lines(rows))  # type: ignore[attr-defined]
        token = f"{origin}:{blake2b(block, digest_size=16).hexdigest()}"
        with store_errors():
            await self._client.raw_insert(
                table,
                columns,
                block,
                settings={**INSERT_SETTINGS, "insert_deduplication_token": token},
                fmt="JSONCompactEachRow",
                compression="lz4",
            )

    async def rows(
        self, query: str, parameters: Parameters | None = None, settings: Settings | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows of a query whose `{name:Type}` parameters the server binds."""
        with store_errors():
            result = await self._client.query(
                query, parameters=dict(parameters or {}), settings=dict(settings or {})
            )
            return [tuple(row) for row in result.result_rows]

    async def command(
        self, statement: str, parameters: Parameters | None = None, settings: Settings | None = None
    ) -> None:
        """Run a statement that returns nothing."""
        with store_errors():
            await self._client.command(
                statement, parameters=dict(parameters or {}), settings=dict(settings or {})
            )

    async def stream(
        self, query: str, parameters: Parameters, *, fmt: str, settings: Settings | None = None
    ) -> AsyncGenerator[bytes]:
        """The answer's bytes in ClickHouse's format `fmt`, as they come.

        An error that the server meets half-way raises too. Closing the iterator early drops the connection.
        """
        with store_errors():
            context = await self._client.raw_stream(query, dict(parameters), dict(settings or {}), fmt=fmt)
            async with context as chunks:
                async for chunk in chunks:
                    yield chunk


def lasting_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket whose connection fails `SILENCE_SECONDS` after the other side has gone without a word.

    Whether something was on its way or an answer is waited for: an answer may take as long as it likes.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", SILENCE_SECONDS // 2),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", SILENCE_SECONDS // 2),
        ("TCP_USER_TIMEOUT", SILENCE_SECONDS * 1000),
    ):
        if hasattr(socket, option):  # not every system has each
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


@asynccontextmanager
async def connect(address: StoreAddress) -> AsyncIterator[Store]:
    """A `Store`, closed on leaving. Raises `StoreError` when it does not answer."""
    parts = urlsplit(address.url)
    secure = parts.scheme == "https"
    with _cancellable(), store_errors():
        client = await clickhouse_connect.get_async_client(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or (8443 if secure else 8123),
            secure=secure,
            username=address.user,
            password=address.password,
            ca_cert=address.ca_file,
            compress=False,
            autogenerate_session_id=False,
            query_retries=0,
            connect_timeout=5,
            send_receive_timeout=address.request_timeout_seconds,
        )
    try:
        # The driver lets nobody choose how it connects. What it has asked so far went over a connection of its own.
        client._backend.connector_kwargs["socket_factory"] = lasting_socket
        await client.close_connections()
        yield Store(client)
    finally:
        await client.close()
