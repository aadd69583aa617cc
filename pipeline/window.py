"""Window: count the events of open intervals, per bot, interval and partition.

Pure. Intervals are tumbling windows of 15 minutes, `[start, end)`, by `event_time`. One is open until two minutes
after its end; events of one that is not open go to raw rows alone, and the sealer counts them.

A cell is fenced by the last offset it has seen, so that records consumed again change nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from schemas import bot_request, token_usage

INTERVAL_MS = 15 * 60 * 1000
"""15 minutes fit every time zone in use."""
GRACE_MS = 2 * 60 * 1000
"""How long after its end an interval stays open."""
SLACK_MS = 5 * 1000
"""A worker keeps an interval open this much longer than the sealer waits, so that no event falls between them."""
AHEAD_MS = INTERVAL_MS
"""How far ahead an interval may start and still be open: event times are at most 5 minutes ahead."""

MAX_CELLS = 200_000
MAX_KEYS = 2_000
"""Beyond these a cell is closed: it counts nothing more, and the sealer counts its interval at every touch."""

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


class Cell(Protocol):
    """Counts of one bot, interval and partition."""

    last_offset: int
    is_closed: bool

    def add(self, row: Row) -> None:
        """Count one row."""

    def keys(self) -> int:
        """How many values its dimensions hold: what bounds its memory."""

    def snapshot(self) -> tuple[Any, ...]:
        """The store's `snapshot` tuple."""

    def new_members(self) -> tuple[list[str], ...]:
        """What its sets gained since this was last asked."""


def _columns(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    return [names.index(name) for name in wanted]


class RequestCell:
    """Requests: their number, the latest, and how many by each dimension; addresses and conversations."""

    __slots__ = (
        "by_browser",
        "by_client_class",
        "by_country",
        "by_endpoint",
        "chats",
        "ips",
        "is_closed",
        "last_offset",
        "last_request_ms",
        "requests",
    )
    _EVENT_MS, _ENDPOINT, _COUNTRY, _BROWSER, _CLASS, _IP, _CHAT = _columns(
        bot_request.COLUMNS, ("event_ms", "endpoint", "country", "browser", "client_class", "ip", "chat_id")
    )

    def __init__(self, snapshot: Sequence[Any] | None = None) -> None:
        self.last_offset: int
        self.requests: int
        self.last_request_ms: int
        self.last_offset, self.requests, self.last_request_ms = snapshot[:3] if snapshot else (-1, 0, 0)
        dimensions = snapshot[3:7] if snapshot else ({}, {}, {}, {})
        self.by_endpoint, self.by_country, self.by_browser, self.by_client_class = (
            defaultdict(int, dimension) for dimension in dimensions
        )
        self.is_closed = bool(snapshot[7]) if snapshot else False
        self.ips: set[str] = set()
        self.chats: set[str] = set()

    def add(self, row: Row) -> None:
        self.requests += 1
        if row[self._EVENT_MS] > self.last_request_ms:
            self.last_request_ms = row[self._EVENT_MS]
        self.by_endpoint[row[self._ENDPOINT]] += 1
        self.by_country[row[self._COUNTRY]] += 1
        self.by_browser[row[self._BROWSER]] += 1
        self.by_client_class[row[self._CLASS]] += 1
        self.ips.add(row[self._IP])
        self.chats.add(row[self._CHAT])

    def keys(self) -> int:
        return len(self.by_endpoint) + len(self.by_browser)

    def snapshot(self) -> tuple[Any, ...]:
        return (
            self.last_offset,
            self.requests,
            self.last_request_ms,
            self.by_endpoint,
            self.by_country,
            self.by_browser,
            self.by_client_class,
            int(self.is_closed),
        )

    def new_members(self) -> tuple[list[str], ...]:
        members = [member for member in self.ips if member], [member for member in self.chats if member]
        self.ips, self.chats = set(), set()
        return members


class TokenCell:
    """Model calls and their tokens, in all, by source and by model."""

    __slots__ = ("by_model", "by_source", "is_closed", "last_offset", "totals")
    _SOURCE, _MODEL, _INPUT, _OUTPUT = _columns(
        token_usage.COLUMNS, ("source", "model", "input_tokens", "output_tokens")
    )

    def __init__(self, snapshot: Sequence[Any] | None = None) -> None:
        self.last_offset = snapshot[0] if snapshot else -1
        self.totals: list[int] = list(snapshot[1:4]) if snapshot else [0, 0, 0]
        self.by_source = _zipped(snapshot[4:7] if snapshot else ())
        self.by_model = _zipped(snapshot[7:10] if snapshot else ())
        self.is_closed = bool(snapshot[10]) if snapshot else False

    def add(self, row: Row) -> None:
        for counts in (self.totals, self.by_source[row[self._SOURCE]], self.by_model[row[self._MODEL]]):
            counts[0] += 1
            counts[1] += row[self._INPUT]
            counts[2] += row[self._OUTPUT]

    def keys(self) -> int:
        return len(self.by_source) + len(self.by_model)

    def snapshot(self) -> tuple[Any, ...]:
        by_dimension = [
            {name: counts[position] for name, counts in dimension.items()}
            for dimension in (self.by_source, self.by_model)
            for position in range(3)
        ]
        return (self.last_offset, *self.totals, *by_dimension, int(self.is_closed))

    def new_members(self) -> tuple[list[str], ...]:
        return ()


def _zipped(maps: Sequence[dict[str, int]]) -> defaultdict[str, list[int]]:
    """Three maps of one number as one map of three."""
    zipped: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for position, numbers in enumerate(maps):
        for name, number in numbers.items():
            zipped[name][position] = number
    return zipped


class Window:
    """The open cells of one partition."""

    def __init__(self, cell_type: type[RequestCell] | type[TokenCell], *, max_cells: int = MAX_CELLS) -> None:
        self._new_cell = cell_type
        self._max_cells = max_cells
        self._cells: dict[CellKey, Cell] = {}
        self._touched: set[CellKey] = set()

    def __len__(self) -> int:
        return len(self._cells)

    def load(self, snapshots: Iterable[tuple[str, int, Sequence[Any]]]) -> None:
        """Take (bot, interval start, snapshot) as the store holds them."""
        for bot_id, start, snapshot in snapshots:
            self._cells[bot_id, start] = self._new_cell(snapshot)

    def add(self, row: Row, offset: int, *, is_duplicate: bool) -> None:
        """Count a row of an open interval, unless it is a duplicate or its cell has seen its offset already.

        Either way the cell goes into the next snapshot: its earlier write may not have become durable.
        """
        key = row[0], interval_start(row[1])
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._new_cell()
            cell.is_closed = len(self._cells) > self._max_cells
        self._touched.add(key)
        if offset <= cell.last_offset:
            return
        cell.last_offset = offset  # a duplicate's too: a cell that holds nothing else has to have one
        if is_duplicate or cell.is_closed:
            return
        cell.add(row)
        if cell.keys() > MAX_KEYS:
            closed = self._cells[key] = self._new_cell()
            closed.last_offset, closed.is_closed = offset, True

    def snapshots(self) -> Iterator[tuple[str, int, tuple[Any, ...], tuple[list[str], ...]]]:
        """(bot, interval start, snapshot, new members of sets) of every cell touched since the last call."""
        touched, self._touched = self._touched, set()
        for key in touched:
            cell = self._cells[key]
            yield *key, cell.snapshot(), cell.new_members()

    def evict(self, now_ms: int) -> None:
        """Forget the cells of intervals that are not open any more."""
        first = first_open(now_ms)
        for key in [key for key in self._cells if key[1] < first]:
            del self._cells[key]
