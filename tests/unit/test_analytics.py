from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from clickhouse.analytics import INTERVAL_MS, Span
from schemas.event import MAX_EVENT_MS, MIN_EVENT_MS

moments = st.integers(MIN_EVENT_MS, MAX_EVENT_MS + 1)


def parts(start: int, end: int) -> dict[str, int]:
    """The six times, in milliseconds."""
    said = Span(bot_id="bot", start_ms=start, end_ms=end).parts()
    return {
        name: round(datetime.fromisoformat(str(time)).replace(tzinfo=UTC).timestamp() * 1000)
        for name, time in said.items()
        if name != "bot"
    }


@given(start=moments, length=st.integers(0, 10 * INTERVAL_MS))
def test_the_parts_of_a_span_are_all_of_it_once(start: int, length: int) -> None:
    end = min(start + length, MAX_EVENT_MS + 1)
    found = parts(start, end)
    assert found["head_start"] == start
    assert found["head_end"] == found["inner_start"]
    assert found["inner_end"] == found["tail_start"]
    assert found["tail_end"] == end
    assert start <= found["inner_start"] <= found["inner_end"] <= end


@given(start=moments, length=st.integers(0, 10 * INTERVAL_MS))
def test_the_inner_part_is_whole_intervals_and_the_others_are_shorter_than_one(
    start: int, length: int
) -> None:
    end = min(start + length, MAX_EVENT_MS + 1)
    found = parts(start, end)
    if found["inner_start"] < found["inner_end"]:
        assert found["inner_start"] % INTERVAL_MS == found["inner_end"] % INTERVAL_MS == 0
        assert found["head_end"] - found["head_start"] < INTERVAL_MS
        assert found["tail_end"] - found["tail_start"] < INTERVAL_MS
    else:
        assert end - start < 2 * INTERVAL_MS


def test_a_span_beyond_what_can_be_stored_ends_where_that_ends() -> None:
    found = parts(-(10**15), 10**15)
    assert (found["inner_start"], found["tail_end"]) == (MIN_EVENT_MS, MAX_EVENT_MS + 1)
    assert parts(10**15, 2 * 10**15)["head_start"] == MAX_EVENT_MS + 1
