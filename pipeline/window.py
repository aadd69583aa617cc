"""Window: count the events of open intervals, per bot, interval and partition.

Pure. Intervals are tumbling windows of 15 minutes, `[start, end)`, by `event_time`. One is open until two minutes
after its end; events of one that is not open go to raw rows alone, and the sealer counts them.

A cell is fenced by the last offset it has seen, so that records consumed again change no count; to its sets they may be
added as often as they come.

Memory is bounded. A cell for which there is no room is closed: it counts nothing, and the sealer counts its interval at
every touch. Where there is no room for closed cells either, an event goes to raw rows alone, and counts once its
interval is due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

from schemas import bot_request, token_usage
from schemas.rollup import INTERVAL_MS

GRACE_MS = 2 * 60 * 1000
"""How long after its end an interval stays open."""
SLACK_MS = 5 * 1000
"""A worker keeps an interval open this much longer than the sealer waits, so that no event falls between them."""
AHEAD_MS = INTERVAL_MS
"""How far ahead an interval may start and still be open: event times are at most 5 minutes ahead."""

MAX_CELLS = 60_000
"""Cells that the windows of one topic hold."""
MAX_VALUES = 600_000
"""Values of dimensions that these cells hold in all."""
MAX_VALUES_OF_CELL = 2_000
MAX_CLOSED = 200_000
"""Closed cells that the windows of one topic hold, about 200 bytes each."""

Row = Sequence[Any]
CellKey = tuple[str, int]
"""Bot, start of the interval in milliseconds since the epoch."""


def interval_start(event_ms: int) -> int:
    """Start of the interval that a moment falls into."""
    return event_ms - event_ms % INTERVAL_MS


def first_open(now_ms: int) -> int:
    """Start of the earliest interval that is open at `now_ms`."""
    return interval_start(now_ms - GRACE_MS - SLACK_MS)


def last_open(now_ms: int) -> int:
    """Start of the latest interval that is open at `now_ms`."""
    return interval_start(now_ms + AHEAD_MS)


_of_request = itemgetter(
    *map(
        bot_request.COLUMNS.index,
        ("event_ms", "ip", "chat_id", "endpoint", "country", "browser", "client_class"),
    )
)
_of_usage = itemgetter(*map(token_usage.COLUMNS.index, ("source", "model", "input_tokens", "output_tokens")))


class Cell(Protocol):
    """Counts of one bot, interval and partition."""

    last_offset: int
    size: int
    """How many values its dimensions hold, which is what its memory goes by."""

    def add(self, row: Row) -> int:
        """Count one row. By how many values its size has grown."""

    def add_members(self, row: Row) -> None:
        """Have the sets alone gain what a row that is counted brings."""

    def snapshot(self, *, is_closed: bool = False) -> tuple[Any, ...]:
        """What is written: its last offset, other numbers, the maps of its dimensions, and whether it is closed."""

    def new_members(self) -> tuple[list[str], ...]:
        """What its sets gained since this was last asked."""


class RequestCell:
    """Requests: their number, the latest, and how many by each dimension; addresses and conversations."""

    __slots__ = ("chats", "dimensions", "ips", "last_offset", "last_request_ms", "requests", "size")

    def __init__(self, snapshot: Sequence[Any] | None = None) -> None:
        self.last_offset: int
        self.requests: int
        self.last_request_ms: int
        self.last_offset, self.requests, self.last_request_ms = snapshot[:3] if snapshot else (-1, 0, 0)
        self.dimensions = [
            dict[str, int](counts) for counts in (snapshot[3:7] if snapshot else ({}, {}, {}, {}))
        ]
        self.size = sum(map(len, self.dimensions))
        self.ips: set[str] = set()
        self.chats: set[str] = set()

    def add(self, row: Row) -> int:
        event_ms, ip, chat, endpoint, country, browser, client_class = _of_request(row)
        self.requests += 1
        if event_ms > self.last_request_ms:
            self.last_request_ms = event_ms
        self.ips.add(ip)
        self.chats.add(chat)
        # One after the other: a loop over the four would take twice the time, of what every event passes through.
        endpoints, countries, browsers, client_classes = self.dimensions
        endpoints[endpoint] = endpoints.get(endpoint, 0) + 1
        countries[country] = countries.get(country, 0) + 1
        browsers[browser] = browsers.get(browser, 0) + 1
        client_classes[client_class] = client_classes.get(client_class, 0) + 1
        before, self.size = self.size, len(endpoints) + len(countries) + len(browsers) + len(client_classes)
        return self.size - before

    def add_members(self, row: Row) -> None:
        _, ip, chat, *_ = _of_request(row)
        self.ips.add(ip)
        self.chats.add(chat)

    def snapshot(self, *, is_closed: bool = False) -> tuple[Any, ...]:
        return (self.last_offset, self.requests, self.last_request_ms, *self.dimensions, int(is_closed))

    def new_members(self) -> tuple[list[str], ...]:
        members = [member for member in self.ips if member], [member for member in self.chats if member]
        self.ips, self.chats = set(), set()
        return members


class TokenCell:
    """Model calls and their tokens, in all, by source and by model."""

    __slots__ = ("by_model", "by_source", "last_offset", "size", "totals")

    def __init__(self, snapshot: Sequence[Any] | None = None) -> None:
        self.last_offset = snapshot[0] if snapshot else -1
        self.totals: list[int] = list(snapshot[1:4]) if snapshot else [0, 0, 0]
        self.by_source = _zipped(snapshot[4:7] if snapshot else ())
        self.by_model = _zipped(snapshot[7:10] if snapshot else ())
        self.size = len(self.by_source) + len(self.by_model)

    def add(self, row: Row) -> int:
        source, model, input_tokens, output_tokens = _of_usage(row)
        for counts in (self.totals, self.by_source[source], self.by_model[model]):
            counts[0] += 1
            counts[1] += input_tokens
            counts[2] += output_tokens
        before, self.size = self.size, len(self.by_source) + len(self.by_model)
        return self.size - before

    def add_members(self, row: Row) -> None:
        pass

    def snapshot(self, *, is_closed: bool = False) -> tuple[Any, ...]:
        by_dimension = [
            {name: counts[position] for name, counts in dimension.items()}
            for dimension in (self.by_source, self.by_model)
            for position in range(3)
        ]
        return (self.last_offset, *self.totals, *by_dimension, int(is_closed))

    def new_members(self) -> tuple[list[str], ...]:
        return ()


def _zipped(maps: Sequence[dict[str, int]]) -> defaultdict[str, list[int]]:
    """Three maps of one number as one map of three."""
    zipped: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for position, numbers in enumerate(maps):
        for name, number in numbers.items():
            zipped[name][position] = number
    return zipped


def closed(
    cell_type: type[RequestCell] | type[TokenCell], last_offset: int
) -> tuple[tuple[Any, ...], tuple[list[str], ...]]:
    """Snapshot and new members of a closed cell: it counts nothing, and has the sealer count its interval."""
    cell = cell_type()
    cell.last_offset = last_offset
    return cell.snapshot(is_closed=True), cell.new_members()


@dataclass(kw_only=True)
class Budget:
    """What the windows of one topic may hold yet, all together."""

    cells: int = MAX_CELLS
    values: int = MAX_VALUES
    closed: int = MAX_CLOSED

    @property
    def is_spent(self) -> bool:
        """Whether no cell may be opened. One that is open has to find room to be closed in, at the least."""
        return self.cells <= 0 or self.values <= 0 or self.closed <= 0


class Window:
    """The open cells of one partition."""

    def __init__(self, cell_type: type[RequestCell] | type[TokenCell], budget: Budget) -> None:
        self._new_cell = cell_type
        self._budget = budget
        self._cells: dict[CellKey, Cell] = {}
        self._closed: dict[CellKey, int] = {}
        """Of closed cells the last offset alone."""
        self._touched: set[CellKey] = set()
        self._first_open = 0

    @property
    def cells(self) -> int:
        """How many cells it counts in."""
        return len(self._cells)

    @property
    def closed_cells(self) -> int:
        """How many cells of open intervals are closed."""
        return len(self._closed)

    def load(self, snapshots: Iterable[tuple[str, int, Sequence[Any]]]) -> None:
        """Take (bot, interval start, snapshot) as the store holds them."""
        for bot_id, start, snapshot in snapshots:
            if snapshot[-1] or self._budget.is_spent:
                self._close((bot_id, start), snapshot[0])
            else:
                self._open((bot_id, start), self._new_cell(snapshot))

    def add(self, row: Row, offset: int, *, is_duplicate: bool) -> bool:
        """Count a row of an open interval, unless it is a duplicate or its cell has seen its offset already.

        Either way the cell goes into the next snapshot: its earlier write may not have become durable. False if there
        is no room for the cell, not even for a closed one.
        """
        event_ms = row[1]
        key = row[0], event_ms - event_ms % INTERVAL_MS  # interval_start(), which would be the dearest part
        cell = self._cells.get(key)
        if cell is None:
            if key in self._closed:
                self._closed[key] = max(self._closed[key], offset)
            elif not self._budget.is_spent:
                cell = self._open(key, self._new_cell())
            elif self._budget.closed > 0:
                self._close(key, offset)
            else:
                return False
        self._touched.add(key)
        if cell is None:
            return True
        if offset <= cell.last_offset:
            if not is_duplicate:
                # What its sets gained before may be gone: a store that was put back to an older state may have taken
                # this cell's next snapshot since, which has all counts, and of its sets only what was new.
                cell.add_members(row)
            return True
        cell.last_offset = offset  # a duplicate's too: a cell that holds nothing else has to have one
        if not is_duplicate:
            growth = cell.add(row)
            if growth:
                self._budget.values -= growth
                if cell.size > MAX_VALUES_OF_CELL or self._budget.values < 0:
                    self._let_go(key)
                    self._close(key, offset)
        return True

    def snapshots(self) -> Iterator[tuple[str, int, tuple[Any, ...], tuple[list[str], ...]]]:
        """(bot, interval start, snapshot, new members of sets) of every cell touched since the last call."""
        touched, self._touched = self._touched, set()
        for key in touched:
            cell = self._cells.get(key)
            if cell is not None:
                yield *key, cell.snapshot(), cell.new_members()
            else:
                yield *key, *closed(self._new_cell, self._closed[key])

    def evict(self, now_ms: int) -> None:
        """Forget the cells of intervals that are not open any more."""
        first = first_open(now_ms)
        if first == self._first_open:
            return
        self._first_open = first
        for key in [key for key in self._cells if key[1] < first]:
            self._let_go(key)
        for key in [key for key in self._closed if key[1] < first]:
            del self._closed[key]
            self._budget.closed += 1

    def _open(self, key: CellKey, cell: Cell) -> Cell:
        self._cells[key] = cell
        self._budget.cells -= 1
        self._budget.values -= cell.size
        return cell

    def _let_go(self, key: CellKey) -> None:
        self._budget.cells += 1
        self._budget.values += self._cells.pop(key).size

    def _close(self, key: CellKey, last_offset: int) -> None:
        self._closed[key] = last_offset
        self._budget.closed -= 1
