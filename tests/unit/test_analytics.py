from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickhouse.analytics import FILTERS, ExportFormat, RowTopic, Span, _with_branches, _with_filters, export
from clickhouse.client import Store, StoreError, sql
from pipeline.web.exports import as_document
from schemas.event import MAX_EVENT_MS, MIN_EVENT_MS
from schemas.rollup import DAY_MS, INTERVAL_MS
from schemas.topics import Topic

moments = st.integers(MIN_EVENT_MS, MAX_EVENT_MS + 1)


def parts(start: int, end: int, sealed_until: int = 0) -> dict[str, int]:
    """The times between the parts, in milliseconds."""
    said = Span(bot_id="bot", start_ms=start, end_ms=end).parts(sealed_until).parameters
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


@given(start=moments, length=st.integers(0, 4 * DAY_MS), sealed=st.integers(-2 * DAY_MS, 6 * DAY_MS))
def test_days_and_intervals_and_cells_are_all_of_the_inner_part_once(
    start: int, length: int, sealed: int
) -> None:
    end = min(start + length, MAX_EVENT_MS + 1)
    sealed_until = (start + sealed) // INTERVAL_MS * INTERVAL_MS
    found = parts(start, end, sealed_until)
    assert found["inner_start"] <= found["days_start"] <= found["days_end"] <= found["inner_end"]
    assert found["inner_start"] <= found["open_start"] <= found["inner_end"]
    if found["days_start"] < found["days_end"]:
        assert found["days_start"] % DAY_MS == found["days_end"] % DAY_MS == 0
        assert found["days_end"] <= sealed_until, "a day that is not over has no row"
        assert found["days_start"] - found["inner_start"] < DAY_MS
        assert found["open_start"] - found["days_end"] < DAY_MS
    if found["inner_start"] < found["inner_end"]:
        # What is not known to be sealed is read from cells too, and nothing else is.
        assert found["open_start"] == min(max(found["inner_start"], sealed_until), found["inner_end"])


@given(start=moments, length=st.integers(0, 4 * DAY_MS), sealed=st.integers(-2 * DAY_MS, 6 * DAY_MS))
def test_a_branch_is_there_where_its_part_is(start: int, length: int, sealed: int) -> None:
    span = Span(bot_id="bot", start_ms=start, end_ms=min(start + length, MAX_EVENT_MS + 1))
    sealed_until = (start + sealed) // INTERVAL_MS * INTERVAL_MS
    found, branches = parts(span.start_ms, span.end_ms, sealed_until), span.parts(sealed_until).branches
    of_branch = {
        "rows": (("head_start", "head_end"), ("tail_start", "tail_end")),
        "days": (("days_start", "days_end"),),
        "intervals": (("inner_start", "days_start"), ("days_end", "inner_end")),
        "cells": (("open_start", "inner_end"),),
    }
    assert branches == {
        name for name, edges in of_branch.items() if any(found[first] < found[last] for first, last in edges)
    }
    assert "days" not in span.parts(sealed_until, has_days=False).branches


@pytest.mark.parametrize(
    "name",
    [
        *("request_totals", "token_totals", "request_buckets", "unique_buckets", "token_buckets"),
        *("rankings", "top_tokens"),
    ],
)
def test_a_query_keeps_the_branches_that_are_asked_for_and_is_whole_with_all(name: str) -> None:
    every = ["days", "intervals", "cells", "rows"]
    there = [branch for branch in every if f"-- {branch}\n" in sql(name)]
    assert _with_branches(name, frozenset(every)) == sql(name)
    for branch in there:
        query = _with_branches(name, frozenset([branch]))
        assert [other for other in there if f"-- {other}\n" in query] == [branch]
        assert "UNION" not in query
        assert query.count("(") == query.count(")")
    assert _with_branches(name, frozenset()) == _with_branches(name, frozenset(["rows"]))


@pytest.mark.parametrize(
    ("topic", "names"),
    [
        (
            Topic.BOT_REQUESTS,
            [
                *("request_totals_filtered", "request_buckets_filtered", "unique_buckets_filtered"),
                *("rankings_filtered", "top_requests", "request_values", "request_rows", "request_export"),
            ],
        ),
        (
            Topic.TOKEN_USAGES,
            [
                *("token_totals_filtered", "token_buckets_filtered", "top_tokens_filtered"),
                *("token_rows", "token_export"),
            ],
        ),
    ],
)
def test_a_query_keeps_the_conditions_of_the_filters_that_are_given(
    topic: RowTopic, names: Sequence[str]
) -> None:
    for name in names:
        assert _with_filters(name, frozenset(FILTERS[topic])) == sql(name)
        for column in FILTERS[topic]:
            query = _with_filters(name, frozenset([column]))
            assert [other for other in FILTERS[topic] if f"{{{other}:" in query] == [column]
            assert f"AND {column} IN {{{column}:Array(String)}}\n" in query
        assert "IN {" not in _with_filters(name, frozenset())


def test_a_span_beyond_what_can_be_stored_ends_where_that_ends() -> None:
    found = parts(-(10**15), 10**15)
    assert (found["inner_start"], found["tail_end"]) == (MIN_EVENT_MS, MAX_EVENT_MS + 1)
    assert parts(10**15, 2 * 10**15)["head_start"] == MAX_EVENT_MS + 1


# --- exports: what the store streams, cut anywhere

ROWS = [
    {"time": f"2026-01-01T00:00:0{n}.000+00:00", "endpoint": 'a"\n', "event_id": f"e{n}"} for n in range(3)
]
JSON_LINES = "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in ROWS).encode()
SAID = JSON_LINES.replace(b'"time":"', b'"time":"3 ', 1)


class FakeStore:
    """Streams pieces, whatever it is asked."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    async def stream(self, *_: object, **__: object) -> AsyncGenerator[bytes]:
        for piece in self._pieces:
            yield piece


def exported(pieces: Iterable[bytes]) -> tuple[int, bytes]:
    """What is announced, and all that comes."""

    async def run() -> tuple[int, bytes]:
        count, rows = await export(
            cast(Store, FakeStore(pieces)),
            Topic.BOT_REQUESTS,
            Span(bot_id="bot", start_ms=0, end_ms=1),
            {},
            zone=[],
            fmt=ExportFormat.JSON_LINES,
        )
        return count, b"".join([piece async for piece in rows])

    return asyncio.run(run())


def cut(said: bytes, at: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(said)]
    return [said[start:end] for start, end in pairwise(edges)]


cuts = st.lists(st.integers(0, len(SAID)), max_size=8)


@given(at=cuts)
def test_the_number_of_rows_is_taken_off_the_first_wherever_pieces_are_cut(at: list[int]) -> None:
    assert exported(cut(SAID, at)) == (3, JSON_LINES)


def test_nothing_is_no_rows() -> None:
    assert exported([]) == (0, b"")


@pytest.mark.parametrize(
    "end", [b"", b"Code: 241. DB::Exception: Memory limit exceeded\n", b"\r\n__exception__\r\nboom\r\n"]
)
@given(at=cuts)
def test_a_stream_that_ends_in_anything_but_a_row_is_broken(end: bytes, at: list[int]) -> None:
    with pytest.raises(StoreError, match="broke off"):
        exported(cut(SAID[:-7] + end, at))


def test_a_stream_that_begins_without_a_number_is_broken() -> None:
    with pytest.raises(StoreError, match="begins"):
        exported([JSON_LINES])


@given(at=cuts)
def test_lines_become_a_document_wherever_pieces_are_cut(at: list[int]) -> None:
    async def document() -> bytes:
        pieces = FakeStore(cut(JSON_LINES, (min(position, len(JSON_LINES)) for position in at))).stream()
        return b"".join([piece async for piece in as_document(pieces, 3)])

    assert json.loads(asyncio.run(document())) == {"rows": ROWS, "row_count": 3}


def test_no_lines_become_an_empty_document() -> None:
    async def document() -> bytes:
        return b"".join([piece async for piece in as_document(FakeStore([]).stream(), 0)])

    assert json.loads(asyncio.run(document())) == {"rows": [], "row_count": 0}
