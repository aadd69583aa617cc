"""Proxies between a worker and what it talks to: they delay, cut, and hold an insert at the moment a fault needs.

They are the witness of a fault: an insert that a link holds is a flush in flight, whatever the worker says of itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import parse_qs, urlsplit

from schemas.topics import Topic

PIECE_BYTES = 1 << 18

Look = Callable[[bytes], Awaitable[None]]


class Effect(StrEnum):
    """What a flush writes, in its order."""

    DEAD_LETTERS = "dead letters"
    ROWS = "rows"
    CELLS = "cells"
    LEDGER = "ledger"


class Moment(StrEnum):
    """How far an insert has come."""

    BEFORE = "not yet at the store"
    DURING = "at the store"
    AFTER = "applied, not yet answered"


EFFECTS = {
    "footfall.dead_letters": Effect.DEAD_LETTERS,
    "footfall.ledger": Effect.LEDGER,
    **{f"footfall.{topic}": Effect.ROWS for topic in Topic},
    **{f"footfall.{topic}_cells": Effect.CELLS for topic in Topic},
}
"""Tables that a flush writes to."""


class Insert:
    """An insert of a flush that was caught on its way; it goes on when it is released."""

    def __init__(self, link: StoreLink, effect: Effect, moment: Moment) -> None:
        self.link, self.effect, self.moment = link, effect, moment
        self.is_dropped = False
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let it go on."""
        self._released.set()

    def drop(self) -> None:
        """End its connection instead."""
        self.is_dropped = True
        self._released.set()

    async def wait(self) -> None:
        """Return when it is released."""
        await self._released.wait()


class Link:
    """A TCP proxy from a port of 127.0.0.1 to another."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._delay = 0.0
        self._is_cut = False
        self._passes = asyncio.Event()
        self._passes.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._directions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=PIECE_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for direction in self._directions:
            direction.cancel()
        await asyncio.gather(*self._connections)

    # --- faults

    @contextmanager
    def delayed(self, seconds: float) -> Iterator[None]:
        """Every piece takes so much longer, in both directions."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Connections are reset, new ones too."""
        self._is_cut = True
        for end in self._ends:
            end.transport.abort()
        try:
            yield
        finally:
            self._is_cut = False

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing passes and nothing is refused; afterwards it all arrives."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    # --- passing on

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        self._ends.add(writer)
        try:
            if not self._is_cut:
                with suppress(OSError):
                    await self._connect(reader, writer)
        finally:
            writer.transport.abort()
            self._ends.discard(writer)
            self._connections.discard(connection)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target_reader, target_writer = await asyncio.open_connection(
            "127.0.0.1", self._target, limit=PIECE_BYTES
        )
        self._ends.add(target_writer)
        asked, answered = self._watch()
        directions = {
            asyncio.create_task(self._pass_on(reader, target_writer, asked)),
            asyncio.create_task(self._pass_on(target_reader, writer, answered)),
        }
        self._directions |= directions
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self._directions -= directions
            self._ends.discard(target_writer)
            target_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, look: Look) -> None:
        while piece := await reader.read(PIECE_BYTES):
            if self._delay:
                await asyncio.sleep(self._delay)
            await look(piece)
            await self._passes.wait()
            writer.write(piece)
            await writer.drain()

    def _watch(self) -> tuple[Look, Look]:
        """What sees the pieces of a new connection: those of its client, those of its server."""

        async def look(_: bytes) -> None:
            return

        return look, look


class StoreLink(Link):
    """A link over which a worker writes to the store: it knows a flush when it sees one."""

    def __init__(self, port: int, target: int) -> None:
        super().__init__(port, target)
        self.flushes = 0
        """Flushes that were seen to end: their entry in the ledger was answered."""
        self.wishes: list[Wish] = []

    def _watch(self) -> tuple[Look, Look]:
        exchange = _Exchange(self)
        return exchange.asked, exchange.answered

    async def hold(self, effect: Effect, moment: Moment) -> None:
        """Stand still here for as long as somebody has wished for it. Raises ConnectionError to end it here."""
        for wish in self.wishes:
            if effect in wish.effects and moment is wish.moment:
                insert = wish.grant(self, effect)
                if moment is not Moment.DURING:
                    await insert.wait()
                if insert.is_dropped:
                    raise ConnectionAbortedError
                return


class _Exchange:
    """Requests and answers of one connection, which take turns."""

    def __init__(self, link: StoreLink) -> None:
        self._link = link
        self._is_idle = True
        self._effect: Effect | None = None

    async def asked(self, piece: bytes) -> None:
        if not self._is_idle:
            return
        self._is_idle = False
        self._effect = effect_of(piece)
        if self._effect is not None:
            await self._link.hold(self._effect, Moment.BEFORE)
            await self._link.hold(self._effect, Moment.DURING)

    async def answered(self, piece: bytes) -> None:
        self._is_idle = True
        effect, self._effect = self._effect, None
        if effect is not None and piece.startswith(b"HTTP/1.1 200"):
            self._link.flushes += effect is Effect.LEDGER
            await self._link.hold(effect, Moment.AFTER)


def effect_of(request: bytes) -> Effect | None:
    """What a request writes, by its first line; None if it is no part of a flush."""
    _, _, target = request.partition(b"\r\n")[0].decode("ascii", "replace").partition(" ")
    words = parse_qs(urlsplit(target).query).get("query", [""])[0].replace("`", "").split(maxsplit=3)
    return EFFECTS.get(words[2]) if words[:2] == ["INSERT", "INTO"] else None


@dataclass(eq=False)
class Wish:
    """Somebody waits for an insert like this on any of these links."""

    links: Sequence[StoreLink]
    effects: Collection[Effect]
    moment: Moment
    granted: asyncio.Future[Insert]

    def grant(self, link: StoreLink, effect: Effect) -> Insert:
        """This one is the insert."""
        self.withdraw()
        insert = Insert(link, effect, self.moment)
        self.granted.set_result(insert)
        return insert

    def withdraw(self) -> None:
        """Wait no more."""
        for link in self.links:
            if self in link.wishes:
                link.wishes.remove(self)


@asynccontextmanager
async def caught(
    links: Sequence[StoreLink], effects: Collection[Effect], moment: Moment, *, within: float
) -> AsyncIterator[Insert]:
    """The next insert of this kind on any of the links, held there for as long as the context lasts.

    Raises TimeoutError.
    """
    wish = Wish(links, effects, moment, asyncio.get_running_loop().create_future())
    for link in links:
        link.wishes.append(wish)
    try:
        async with asyncio.timeout(within):
            insert = await asyncio.shield(wish.granted)
    finally:
        wish.withdraw()
    try:
        yield insert
    finally:
        insert.release()
