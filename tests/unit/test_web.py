"""The web process's own manners, over a store that does what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI

from clickhouse import analytics
from clickhouse.client import StoreError, sql
from pipeline.config import Settings
from pipeline.web.app import create_app

BOT = "/api/v1/bots/bot"
PATH = f"{BOT}/requests"


class FakeStore:
    """Answers what comes before a question; what it does with the question itself, a test says."""

    def __init__(self, answer: Callable[[], Awaitable[Sequence[Any]]]) -> None:
        self._answer = answer
        self.began = asyncio.Event()
        self.was_cancelled = False
        self.settings: list[Mapping[str, object]] = []

    async def rows(self, query: str, parameters: object, settings: Mapping[str, object]) -> Sequence[Any]:
        self.settings.append(settings)
        if query == sql("is_known_bot"):
            return [(1,)]
        if query in (sql("freshness"), sql("day_counts")):
            return []
        self.began.set()
        try:
            return await self._answer()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


def app_over(store: FakeStore) -> FastAPI:
    app = create_app(Settings(clickhouse="http://127.0.0.1:1", broker="127.0.0.1:1"))
    app.state.connections._store = store
    return app


async def got(store: FakeStore, path: str = PATH) -> httpx.Response:
    transport = httpx.ASGITransport(app=app_over(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        return await client.get(path)


async def never() -> Sequence[Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def at_once() -> Sequence[Any]:
    return []


def failing(code: int) -> Callable[[], Awaitable[Sequence[Any]]]:
    async def fail() -> Sequence[Any]:
        raise StoreError("Code: so and so", code)

    return fail


def test_a_question_whose_client_has_gone_is_given_up() -> None:
    async def run() -> None:
        store = FakeStore(never)
        messages: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": b"", "more_body": False}])
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            await store.began.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await asyncio.wait_for(app_over(store)(scope, receive, send), 5)
        assert store.was_cancelled
        assert sent == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "advice"), [(159, "shorter range"), (241, "shorter range"), (0, "ask again")]
)
def test_a_question_that_the_store_gives_up_is_503_with_advice(code: int, advice: str) -> None:
    answer = asyncio.run(got(FakeStore(failing(code))))
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert advice in answer.json()["detail"]


def test_a_question_without_an_answer_is_503_in_time_and_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analytics, "LONGEST", timedelta(milliseconds=10))
    monkeypatch.setattr(analytics, "_LATE", timedelta(milliseconds=10))
    store = FakeStore(never)
    answer = asyncio.run(asyncio.wait_for(got(store), 5))
    assert answer.status_code == 503
    assert "shorter range" in answer.json()["detail"]
    assert store.was_cancelled


def asked_in_openapi() -> Iterator[str]:
    """Each question, with the parameters that it has to have. Not exports, which may take an hour."""
    for path, operations in app_over(FakeStore(at_once)).openapi()["paths"].items():
        if "get" in operations and not path.endswith("/export"):
            parameters = operations["get"].get("parameters", [])
            needed = {one["name"]: one["schema"]["examples"][0] for one in parameters if one["required"]}
            yield f"{path.format(bot=needed.pop('bot', None))}?{urlencode(needed)}"


@pytest.mark.parametrize("path", list(asked_in_openapi()))
def test_every_question_has_limits_of_time_and_memory(path: str) -> None:
    store = FakeStore(failing(0))
    assert asyncio.run(got(store, path)).status_code in (200, 503)
    assert store.settings
    for settings in store.settings:
        assert 0 < float(str(settings["max_execution_time"])) <= analytics.LONGEST.total_seconds()
        assert settings["max_memory_usage"]


def test_the_ends_of_a_range_take_only_what_comes_before_every_question() -> None:
    store = FakeStore(never)
    answer = asyncio.run(asyncio.wait_for(got(store, f"{BOT}/range"), 5))
    assert answer.status_code == 200
    assert answer.json()["data"] == {"bot_id": "bot"}
    assert not store.began.is_set()
