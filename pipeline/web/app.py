"""The web process: the page, the query layer, the collector. Stateless; needs the store and the broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.config import Settings
from pipeline.web import analytics, collector, docs, exports, health, metrics, page
from pipeline.web.connections import Connections
from pipeline.web.problems import add_handlers

_SECURITY_HEADERS: Final = (
    # Nothing comes from elsewhere, nothing inline runs, and no other site may frame the page.
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. It serves from the start, and what it cannot answer yet with 503."""
    kept = Connections(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with kept.kept():
            yield

    app = FastAPI(
        title="Footfall",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,  # FastAPI's own load from a CDN
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.connections = kept
    add_handlers(app)
    app.include_router(health.router)
    app.include_router(page.router)
    app.include_router(analytics.router)
    app.include_router(exports.router)
    app.include_router(collector.router)
    app.include_router(docs.router)
    app.add_middleware(_Abandonable)
    app.add_middleware(_Headed)
    app.add_middleware(_Observed)
    return app


class _Abandonable:
    """Stops work on an answer whose client has gone, and with it the store's: for what only reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        gone = asyncio.Event()
        heads: Iterator[Message] = iter(({"type": "http.request", "body": b"", "more_body": False},))

        async def received() -> Message:
            for head in heads:
                return head
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass  # a body, which no such request needs
            gone.set()

        answering = asyncio.ensure_future(self._app(scope, received, send))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                answering.cancel()
                await asyncio.wait((answering,))
            if not answering.cancelled():
                answering.result()
        finally:
            for task in (answering, watching):
                task.cancel()


class _Headed:
    """Answers HEAD with the headers that GET would answer with, and gives the work on the body up."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_answered = asyncio.Event()

        async def received() -> Message:
            await is_answered.wait()
            return {"type": "http.disconnect"}

        async def sent(message: Message) -> None:
            if not is_answered.is_set():
                is_answered.set()
                await send(message)
                await send({"type": "http.response.body"})

        got = {**scope, "method": "GET"}
        await self._app(got, received, sent)
        scope["route"] = got.get("route")


class _Observed:
    """Outermost: adds the security headers to every answer, and counts and times it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "aborted"
        is_complete = False

        async def observed(message: Message) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = str(message["status"])
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                message["headers"] = given + [pair for pair in _SECURITY_HEADERS if pair[0] not in names]
            elif message["type"] == "http.response.body":
                is_complete = not message.get("more_body", False)
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, observed)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
            metrics.REQUESTS.labels(method, route, status if is_complete else "aborted").inc()
            metrics.REQUEST_SECONDS.labels(method, route).observe(time.perf_counter() - started)
