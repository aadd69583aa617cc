from __future__ import annotations

import pytest

from pipeline.errors import Unavailable
from pipeline.web.collector import Room


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
