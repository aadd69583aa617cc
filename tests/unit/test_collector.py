from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

from pipeline.config import Settings
from pipeline.errors import Unavailable
from pipeline.web.collector import Room, _body
from pipeline.web.connections import Connections


@pytest.mark.parametrize(
    ("text", "reason"), [("Back at noon.\n", "Back at noon."), ("", "The collector is closed.")]
)
def test_while_a_file_closes_the_collector_it_says_why(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "closed"
    settings = Settings(clickhouse="http://127.0.0.1:1", broker="127.0.0.1:1", collector_closed_file=file)
    kept = Connections(settings)
    for _ in range(2):
        file.write_text(text)
        with pytest.raises(Unavailable, match=reason):
            _ = kept.producer
        file.unlink()
        with pytest.raises(Unavailable, match="The broker does not answer yet"):
            _ = kept.producer


def test_requests_share_the_room_there_is() -> None:
    room = Room(10)
    with room.share() as one, room.share() as other:
        one(6)
        other(4)
        with pytest.raises(Unavailable):
            one(1)
    assert room.free == 10


def test_what_a_request_took_is_free_when_it_is_over() -> None:
    room = Room(10)
    with room.share() as take:
        take(3)
        take(3)
        assert room.free == 4
        with pytest.raises(Unavailable):
            take(5)
    assert room.free == 10


def test_a_body_there_is_no_room_for_is_read_to_its_end_and_holds_no_room_meanwhile() -> None:
    pieces = [b"1234", b"5678", b"9"]
    free = []

    async def receive() -> Message:
        free.append(room.free)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    room = Room(6)
    with room.share() as take, pytest.raises(Unavailable):
        asyncio.run(_body(Request({"type": "http", "headers": []}, receive), take))
    assert pieces == []
    assert free == [6, 2, 6]
