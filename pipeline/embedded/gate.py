"""The gate before the packaged broker: every client comes through here, so that its log can be brought to an end.

The broker itself takes whatever comes until it is killed, also for topics that it does not have, whose records it
acknowledges and loses. Hence nobody but `up` reaches it before its topics exist, and nobody is told that something
was accepted after `up` has looked at where its logs end.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pipeline.embedded.broker import HOST, port_taken

_PRODUCE: Final = 0
_CHUNK_BYTES: Final = 256 * 1024


class Gate:
    """Shut at first. Clients that may not pass wait; they notice nothing but the time it takes."""

    client_id: Final = f"footfall-up-{os.getpid()}"
    """What `up` calls itself to the broker: it passes always."""

    def __init__(self, *, port: int, broker_port: Callable[[], int]) -> None:
        """Clients come to `port` of 127.0.0.1; where the broker is now, says `broker_port`."""
        self._port = port
        self._broker_port = broker_port
        self._connections: set[asyncio.Task[None]] = set()
        self._passes: Callable[[int, str], bool] = self._is_ours
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises Misconfigured where the port is taken."""
        try:
            self._server = await asyncio.start_server(self._accept, HOST, self._port)
        except OSError as error:
            raise port_taken(self._port, error) from error

    async def stop(self) -> None:
        """Cut all connections, and listen no more."""
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def open(self) -> None:
        """Everybody passes."""
        await self._let_pass(lambda api, client_id: True)

    async def hold(self, but: Callable[[], str]) -> None:
        """Whoever produces waits, `but` the client of this name; everything else passes."""
        await self._let_pass(lambda api, client_id: api != _PRODUCE or client_id in (but(), self.client_id))

    async def shut(self) -> None:
        """Cut all connections. After this no answer of the broker reaches anybody but `up`."""
        await self._let_pass(self._is_ours)
        await self._cut()

    def _is_ours(self, api: int, client_id: str) -> bool:
        return client_id == self.client_id

    async def _let_pass(self, passes: Callable[[int, str], bool]) -> None:
        async with self._changed:
            self._passes = passes
            self._changed.notify_all()

    async def _cut(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One client, until it or the broker closes the connection, or it is cut."""
        broker: StreamWriter | None = None
        try:
            first = await self._request(reader)
            answers, broker = await asyncio.open_connection(HOST, self._broker_port())
            pumps = [
                asyncio.create_task(self._pump_requests(first, reader, broker)),
                asyncio.create_task(_pump_answers(answers, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, EOFError):
            pass  # one of the two has gone: so does the connection
        finally:
            for side in (writer, broker):
                if side is not None:
                    side.transport.abort()

    async def _pump_requests(self, request: bytes, reader: StreamReader, broker: StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while True:
                left = 4 + int.from_bytes(request[:4]) - len(request)
                broker.write(request)
                while left > 0:
                    chunk = await reader.read(min(left, _CHUNK_BYTES))
                    if not chunk:
                        return
                    left -= len(chunk)
                    broker.write(chunk)
                    await broker.drain()
                request = await self._request(reader)

    async def _request(self, reader: StreamReader) -> bytes:
        """The beginning of the next request, once it may pass. Raises EOFError when there is none.

        https://kafka.apache.org/protocol#protocol_messages: size, then a header that begins alike in all versions.
        """
        head = await reader.readexactly(14)  # no request is shorter
        api, size = int.from_bytes(head[4:6]), max(int.from_bytes(head[12:14], signed=True), 0)
        name = await reader.readexactly(size)
        client_id = name.decode(errors="replace")
        async with self._changed:
            await self._changed.wait_for(lambda: self._passes(api, client_id))
        return head + name


async def _pump_answers(answers: StreamReader, writer: StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await answers.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
