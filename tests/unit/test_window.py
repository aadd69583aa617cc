"""Windows: what a cell counts, over crashes and replays as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import window as window_module
from pipeline.window import (
    AHEAD_MS,
    GRACE_MS,
    INTERVAL_MS,
    SLACK_MS,
    Budget,
    RequestCell,
    TokenCell,
    Window,
    first_open,
    interval_start,
    last_open,
)
from schemas import bot_request, token_usage
from tests.builders import NOW_MS, row

START = interval_start(NOW_MS)


def request(event_ms: int = NOW_MS, bot: str = "bot", **values: Any) -> tuple[Any, ...]:
    return row(bot_request.COLUMNS, bot_id=bot, event_ms=event_ms, **values)


def usage(event_ms: int = NOW_MS, bot: str = "bot", **values: Any) -> tuple[Any, ...]:
    return row(token_usage.COLUMNS, bot_id=bot, event_ms=event_ms, **values)


class CellStore:
    """What the store makes of snapshots: of a cell the greatest holds, and sets are united."""

    def __init__(self) -> None:
        self.snapshots: dict[tuple[str, int], tuple[Any, ...]] = {}
        self.members: dict[tuple[str, int], tuple[set[str], ...]] = {}

    def write(self, window: Window) -> None:
        for bot, start, snapshot, members in window.snapshots():
            key = bot, start
            frozen = tuple(dict(part) if isinstance(part, dict) else part for part in snapshot)
            if key not in self.snapshots or frozen[0] >= self.snapshots[key][0]:
                self.snapshots[key] = frozen
            held = self.members.setdefault(key, tuple(set() for _ in members))
            for known, new in zip(held, members, strict=True):
                known.update(new)

    def window(self, cell_type: type[RequestCell] | type[TokenCell] = RequestCell) -> Window:
        """The window of a worker that takes over."""
        window = Window(cell_type, Budget())
        window.load((bot, start, snapshot) for (bot, start), snapshot in self.snapshots.items())
        return window


# --- time


@pytest.mark.parametrize("event_ms", [0, 1, INTERVAL_MS - 1, INTERVAL_MS, NOW_MS, 4_102_444_800_123])
def test_an_interval_holds_its_start_and_not_its_end(event_ms: int) -> None:
    start = interval_start(event_ms)
    assert start <= event_ms < start + INTERVAL_MS
    assert start % INTERVAL_MS == 0


def test_an_interval_stays_open_until_the_grace_after_its_end_is_over() -> None:
    closes = START + INTERVAL_MS + GRACE_MS + SLACK_MS
    assert first_open(closes - 1) == START
    assert first_open(closes) == START + INTERVAL_MS


@given(st.integers(10**12, 10**13))
def test_workers_keep_an_interval_open_for_longer_than_the_sealer_waits(now_ms: int) -> None:
    assert first_open(now_ms) <= interval_start(now_ms - GRACE_MS)
    assert last_open(now_ms) >= interval_start(now_ms + 5 * 60_000), "events may lie 5 minutes ahead"
    assert last_open(now_ms) <= now_ms + AHEAD_MS


# --- counting

ENDPOINTS, BROWSERS, IPS = ("api", "widget"), ("Firefox", "Chrome", ""), ("", "192.0.2.1", "192.0.2.2")
requests = st.builds(
    lambda **values: request(**values),
    bot=st.sampled_from(["a", "b"]),
    event_ms=st.integers(START, START + 3 * INTERVAL_MS - 1),
    endpoint=st.sampled_from(ENDPOINTS),
    country=st.sampled_from(["", "NP"]),
    browser=st.sampled_from(BROWSERS),
    client_class=st.sampled_from(["person", "crawler"]),
    ip=st.sampled_from(IPS),
    chat_id=st.sampled_from(["", "x", "y"]),
)
Log = list[tuple[tuple[Any, ...], bool]]
"""Rows, each with whether it is a duplicate; the offset of each is its place."""
logs: st.SearchStrategy[Log] = st.lists(st.tuples(requests, st.booleans()), max_size=30)


def counted(rows: Sequence[tuple[Any, ...]], column: str) -> dict[str, int]:
    return dict(Counter(row[bot_request.COLUMNS.index(column)] for row in rows))


def plain_count(log: Log) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Of every cell what its snapshot has to say, offset and closed state apart."""
    cells: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    for counted_row, is_duplicate in log:
        rows = cells.setdefault((counted_row[0], interval_start(counted_row[1])), [])
        if not is_duplicate:
            rows.append(counted_row)
    return {
        key: (
            len(rows),
            max((row[1] for row in rows), default=0),
            *(counted(rows, name) for name in ("endpoint", "country", "browser", "client_class")),
        )
        for key, rows in cells.items()
    }


def plain_members(log: Log) -> dict[tuple[str, int], tuple[set[str], ...]]:
    members: dict[tuple[str, int], tuple[set[str], ...]] = {}
    ip, chat = bot_request.COLUMNS.index("ip"), bot_request.COLUMNS.index("chat_id")
    for counted_row, is_duplicate in log:
        ips, chats = members.setdefault((counted_row[0], interval_start(counted_row[1])), (set(), set()))
        if not is_duplicate:
            ips |= {counted_row[ip]} - {""}
            chats |= {counted_row[chat]} - {""}
    return members


@given(logs)
def test_a_cell_counts_every_row_of_its_bot_and_interval_once(log: Log) -> None:
    store, window = CellStore(), Window(RequestCell, Budget())
    for offset, (counted_row, is_duplicate) in enumerate(log):
        window.add(counted_row, offset, is_duplicate=is_duplicate)
    store.write(window)
    assert {key: snapshot[1:-1] for key, snapshot in store.snapshots.items()} == plain_count(log)
    assert store.members == plain_members(log)


@given(logs, st.data())
def test_crashes_and_replays_change_no_count(log: Log, data: st.DataObject) -> None:
    """A worker may write its cells or not, die, and a new one may begin again anywhere before."""
    store, window, offset = CellStore(), Window(RequestCell, Budget()), 0
    durable = 0  # what lies before has been written: a replay may begin earlier, never later
    for _ in range(data.draw(st.integers(0, 8), label="turns")):
        end = data.draw(st.integers(offset, len(log)), label="end")
        for position in range(offset, end):
            counted_row, is_duplicate = log[position]
            window.add(counted_row, position, is_duplicate=is_duplicate)
        offset = end
        what = data.draw(st.sampled_from(["flush", "flush and crash", "crash"]), label="what")
        if what != "crash":
            store.write(window)
            durable = end
        if what != "flush":
            window = store.window()
            offset = data.draw(st.integers(0, durable), label="replay from")
    for position in range(offset, len(log)):
        counted_row, is_duplicate = log[position]
        window.add(counted_row, position, is_duplicate=is_duplicate)
    store.write(window)

    assert {key: snapshot[1:-1] for key, snapshot in store.snapshots.items()} == plain_count(log)
    assert store.members == plain_members(log)


def test_sets_gain_again_what_a_store_put_back_to_an_older_state_has_lost() -> None:
    """The worker before had written its sets, and wrote once more before it noticed: all counts, and what was new."""
    before, store = Window(RequestCell, Budget()), CellStore()
    before.add(request(ip="192.0.2.1", chat_id="lost"), 0, is_duplicate=False)
    CellStore().write(before)  # into what is not there any more
    before.add(request(ip="192.0.2.2"), 1, is_duplicate=False)
    store.write(before)
    after = store.window()
    after.add(request(ip="192.0.2.1", chat_id="lost"), 0, is_duplicate=False)
    after.add(request(ip="192.0.2.3", chat_id="of a copy"), 1, is_duplicate=True)
    store.write(after)
    assert store.snapshots["bot", START][:2] == (1, 2)
    assert store.members["bot", START] == ({"192.0.2.1", "192.0.2.2"}, {"lost"})


def test_an_older_worker_that_writes_late_changes_nothing() -> None:
    store, older = CellStore(), Window(RequestCell, Budget())
    older.add(request(), 0, is_duplicate=False)
    newer = store.window()
    for offset in (0, 1):
        newer.add(request(), offset, is_duplicate=False)
    store.write(newer)
    store.write(older)
    assert store.snapshots["bot", START][:2] == (1, 2)


def test_a_cell_whose_rows_were_all_seen_before_is_written_again() -> None:
    window = Window(RequestCell, Budget())
    window.load([("bot", START, (7, 3, NOW_MS, {"api": 3}, {"": 3}, {"": 3}, {"": 3}, 0))])
    window.add(request(), 7, is_duplicate=False)
    [(_, _, snapshot, _)] = window.snapshots()
    assert snapshot == (7, 3, NOW_MS, {"api": 3}, {"": 3}, {"": 3}, {"": 3}, 0)


def test_a_cell_of_duplicates_alone_has_an_offset_that_the_store_can_hold() -> None:
    window = Window(RequestCell, Budget())
    window.add(request(), 5, is_duplicate=True)
    [(_, _, snapshot, members)] = window.snapshots()
    assert snapshot == (5, 0, 0, {}, {}, {}, {}, 0)
    assert members == ([], [])


def test_only_cells_touched_since_the_last_snapshot_are_in_the_next() -> None:
    window = Window(RequestCell, Budget())
    window.add(request(bot="a"), 0, is_duplicate=False)
    assert [bot for bot, *_ in window.snapshots()] == ["a"]
    window.add(request(bot="b"), 1, is_duplicate=False)
    assert [bot for bot, *_ in window.snapshots()] == ["b"]
    assert list(window.snapshots()) == []


def test_sets_say_only_what_they_gained() -> None:
    window = Window(RequestCell, Budget())
    window.add(request(ip="192.0.2.1", chat_id="x"), 0, is_duplicate=False)
    [(*_, first)] = window.snapshots()
    window.add(request(ip="192.0.2.2", chat_id=""), 1, is_duplicate=False)
    [(*_, second)] = window.snapshots()
    assert (first, second) == ((["192.0.2.1"], ["x"]), (["192.0.2.2"], []))


usages = st.builds(
    lambda **values: usage(**values),
    source=st.sampled_from(["chat", "responses"]),
    model=st.sampled_from(["", "m"]),
    input_tokens=st.integers(0, 2**53 - 1),
    output_tokens=st.integers(0, 9),
)


@given(st.lists(usages, min_size=1), st.data())
def test_token_cells_sum_calls_and_tokens_by_source_and_model(
    rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    store, window = CellStore(), Window(TokenCell, Budget())
    taken_over_at = data.draw(st.integers(0, len(rows)))
    for offset, counted_row in enumerate(rows):
        if offset == taken_over_at:
            store.write(window)
            window = store.window(TokenCell)
        window.add(counted_row, offset, is_duplicate=False)
    store.write(window)

    def sums(of: Sequence[tuple[Any, ...]]) -> list[int]:
        places = [token_usage.COLUMNS.index(name) for name in ("input_tokens", "output_tokens")]
        return [len(of), *(sum(row[place] for row in of) for place in places)]

    def by(column: str) -> list[dict[str, int]]:
        place = token_usage.COLUMNS.index(column)
        groups = {
            name: sums([row for row in rows if row[place] == name]) for name in {row[place] for row in rows}
        }
        return [{name: numbers[position] for name, numbers in groups.items()} for position in range(3)]

    expected = (len(rows) - 1, *sums(rows), *by("source"), *by("model"), 0)
    assert store.snapshots == {("bot", START): expected}


# --- bounds


@pytest.mark.parametrize(
    ("cell_type", "rows"),
    [
        (RequestCell, [request(endpoint=f"endpoint {number}") for number in range(12)]),
        (TokenCell, [usage(model=f"model {number}", source="chat") for number in range(12)]),
    ],
)
def test_a_cell_with_too_many_values_closes_and_stays_closed(
    monkeypatch: pytest.MonkeyPatch,
    cell_type: type[RequestCell] | type[TokenCell],
    rows: list[tuple[Any, ...]],
) -> None:
    monkeypatch.setattr(window_module, "MAX_VALUES_OF_CELL", 11)
    store, window = CellStore(), Window(cell_type, Budget())
    for offset, counted_row in enumerate(rows[:8]):
        window.add(counted_row, offset, is_duplicate=False)
    store.write(window)
    assert store.snapshots["bot", START][:2] == (7, 8)
    for offset, counted_row in enumerate(rows[8:], 8):
        window.add(counted_row, offset, is_duplicate=False)
    store.write(window)
    closed = store.snapshots["bot", START]
    assert (closed[0], closed[1], closed[-1]) == (len(rows) - 1, 0, 1)
    assert not any(part for part in closed[1:-1] if isinstance(part, dict)), "its values are let go"

    taken_over = store.window(cell_type)
    taken_over.add(rows[0], len(rows), is_duplicate=False)
    store.write(taken_over)
    assert store.snapshots["bot", START] == (len(rows), *closed[1:])


def add(window: Window, *bots: str, first_offset: int = 0, **values: Any) -> list[bool]:
    """Add a request of each bot."""
    return [
        window.add(request(bot=bot, **values), offset, is_duplicate=False)
        for offset, bot in enumerate(bots, first_offset)
    ]


def states(window: Window) -> dict[str, tuple[int, int, int]]:
    """Last offset, requests and whether closed, of every cell in the next snapshot, by bot."""
    return {bot: (snapshot[0], snapshot[1], snapshot[-1]) for bot, _, snapshot, _ in window.snapshots()}


def test_a_cell_for_which_there_is_no_room_is_closed_from_the_start() -> None:
    window = Window(RequestCell, Budget(cells=2))
    assert all(add(window, "a", "b", "c", "a", "c"))
    assert states(window) == {"a": (3, 2, 0), "b": (1, 1, 0), "c": (4, 0, 1)}
    assert (window.cells, window.closed_cells) == (2, 1)


def test_a_closed_cell_is_written_again_with_its_greatest_offset() -> None:
    window = Window(RequestCell, Budget(cells=0))
    add(window, "a", first_offset=7)
    add(window, "a", first_offset=3)
    assert states(window) == {"a": (7, 0, 1)}
    assert [members for *_, members in window.snapshots()] == []


def test_where_there_is_no_room_for_closed_cells_either_an_event_is_left_to_the_sealer() -> None:
    window = Window(RequestCell, Budget(cells=1, closed=1))
    assert add(window, "a", "b", "c", "a", "b", "c") == [True, True, False, True, True, False]
    assert states(window) == {"a": (3, 2, 0), "b": (4, 0, 1)}


def test_windows_of_one_topic_share_their_budget() -> None:
    budget = Budget(cells=1)
    first, second = Window(RequestCell, budget), Window(RequestCell, budget)
    add(first, "a")
    add(second, "a")
    assert (states(first), states(second)) == ({"a": (0, 1, 0)}, {"a": (0, 0, 1)})


def test_a_cell_that_grows_when_all_values_are_taken_is_closed_and_makes_room() -> None:
    window = Window(RequestCell, Budget(values=9))
    add(window, "a", "b")  # four values each
    add(window, "a", "a", first_offset=2)  # what it holds already takes no room
    add(window, "a", "a", first_offset=4, endpoint="x")
    assert states(window) == {"a": (5, 5, 0), "b": (1, 1, 0)}
    add(window, "b", first_offset=6, endpoint="y")
    assert states(window) == {"b": (6, 0, 1)}
    assert all(add(window, "c", first_offset=7))
    assert states(window) == {"c": (7, 1, 0)}


def test_what_is_evicted_makes_room() -> None:
    window = Window(RequestCell, Budget(cells=1, closed=1, values=4))
    assert add(window, "a", "b", "c") == [True, True, False]
    list(window.snapshots())
    window.evict(START + 9 * INTERVAL_MS)
    assert (window.cells, window.closed_cells) == (0, 0)
    later = START + 9 * INTERVAL_MS
    assert add(window, "d", "e", "f", first_offset=3, event_ms=later) == [True, True, False]
    assert states(window) == {"d": (3, 1, 0), "e": (4, 0, 1)}


def test_what_is_taken_over_beyond_the_budget_is_closed() -> None:
    snapshots: list[tuple[str, int, Sequence[Any]]] = [
        (bot, START, (5, 3, NOW_MS, {"api": 3}, {}, {}, {}, 0)) for bot in "abc"
    ]
    window = Window(RequestCell, Budget(cells=2))
    window.load(snapshots)
    add(window, "a", "b", "c", first_offset=6)
    assert states(window) == {"a": (6, 4, 0), "b": (7, 4, 0), "c": (8, 0, 1)}


loads = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(0, 3), st.sampled_from(ENDPOINTS), st.booleans()),
    max_size=60,
)


@given(loads, st.integers(0, 4), st.integers(0, 20), st.integers(0, 4))
def test_a_budget_is_kept_and_given_back_whole(
    log: list[tuple[str, int, str, bool]], cells: int, values: int, closed: int
) -> None:
    budget = Budget(cells=cells, values=values, closed=closed)
    windows = [Window(RequestCell, budget) for _ in range(2)]
    for offset, (bot, interval, endpoint, is_first) in enumerate(log):
        added = request(START + interval * INTERVAL_MS, bot=bot, endpoint=endpoint)
        windows[is_first].add(added, offset, is_duplicate=False)
        assert sum(window.cells for window in windows) <= cells
        assert sum(window.closed_cells for window in windows) <= cells + closed
        assert budget.values >= -4, "one row adds four values at the most"
    for window in windows:
        list(window.snapshots())
        window.evict(START + 99 * INTERVAL_MS)
    assert budget == Budget(cells=cells, values=values, closed=closed)


def test_cells_of_intervals_that_are_not_open_any_more_are_forgotten() -> None:
    window = Window(RequestCell, Budget())
    window.add(request(START), 0, is_duplicate=False)
    window.add(request(START + INTERVAL_MS), 1, is_duplicate=False)
    closes = START + INTERVAL_MS + GRACE_MS + SLACK_MS
    assert len(list(window.snapshots())) == 2
    window.evict(closes - 1)
    assert window.cells == 2
    window.evict(closes)
    assert window.cells == 1
    window.add(request(START + INTERVAL_MS), 2, is_duplicate=False)
    assert [snapshot[1] for _, _, snapshot, _ in window.snapshots()] == [2]
