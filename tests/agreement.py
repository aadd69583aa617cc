"""What a stack answers, held against the oracle: cards, charts, rankings, tables, exports, and the store's rollups."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tests.oracle import (
    DAY,
    HOUR,
    INTERVAL,
    MINUTE,
    REQUEST_FILTERS,
    TOKEN_FILTERS,
    Filters,
    Oracle,
    Request,
    Usage,
    chosen_interval,
    text,
)
from tests.stack import Stack, bot_path, eventually, timestamp

Json = dict[str, Any]

ZONES = (
    *("UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "America/New_York"),
    *("Europe/Berlin", "Pacific/Chatham", "Africa/Casablanca"),
)
DIMENSIONS = ("endpoint", "country", "region", "city", "browser", "page_url", "client_class")


@dataclass(frozen=True, kw_only=True)
class Range:
    """Of one bot `[start, end)`, in milliseconds since the epoch, seen in a zone."""

    bot: str
    start: int
    end: int
    tz: str

    def parameters(self) -> Json:
        return {"from": text(self.start, self.tz), "to": text(self.end, self.tz), "tz": self.tz}


def random_range(random: Random, oracle: Oracle, bot: str) -> Range:
    """A range with both ends near events or boundaries, in one of the zones; now and then one without events."""
    moments = oracle.moments(bot)
    start, end = sorted((_end(random, moments), _end(random, moments)))
    if random.random() < 0.3:
        end = start + random.choice((1, MINUTE, INTERVAL, HOUR, 5 * HOUR, 40 * HOUR, 8 * DAY, 60 * DAY))
    return Range(bot=bot, start=start, end=max(end, start + 1), tz=random.choice(ZONES))


def _end(random: Random, moments: Sequence[int]) -> int:
    moment = random.choice(moments)
    kind = random.random()
    if kind < 0.3:
        return moment + random.randint(0, 1)  # just with it, or just without
    if kind < 0.5:
        return moment - moment % INTERVAL
    if kind < 0.6:
        return moment - moment % DAY
    return moment + random.randint(-DAY, DAY)


def random_filters(
    random: Random, events: Sequence[Request] | Sequence[Usage], names: Sequence[str]
) -> Filters:
    """One to three filters with values that occur, unknown ones too."""
    return {
        name: sorted({getattr(random.choice(events), name) for _ in range(random.choice((1, 1, 2)))})
        for name in random.sample(names, random.choice((1, 1, 2, 3)) if len(names) > 3 else 1)
    }


class Agreement:
    """Asserts that a stack's answers are the oracle's, byte for byte where the contract says what the bytes are."""

    def __init__(self, stack: Stack, oracle: Oracle) -> None:
        self._stack = stack
        self._oracle = oracle

    def everywhere(self, seed: str, *, ranges: int) -> None:
        """Every answer about every bot, for all of its time and for random ranges."""
        random = Random(seed)
        oracle = self._oracle
        self.bots()
        for bot in oracle.bots():
            moments = oracle.moments(bot)
            self.all_of(
                Range(bot=bot, start=moments[0], end=moments[-1] + 1, tz=random.choice(ZONES)), random
            )
            for _ in range(ranges):
                self.all_of(random_range(random, oracle, bot), random)

    def all_of(self, range_: Range, random: Random) -> None:
        """Every path, unfiltered, then filtered."""
        requests = [request for request in self._oracle.requests if request.bot_id == range_.bot]
        usages = [usage for usage in self._oracle.usages if usage.bot_id == range_.bot]
        of_requests = random_filters(random, requests, REQUEST_FILTERS) if requests else {}
        of_usages = random_filters(random, usages, TOKEN_FILTERS) if usages else {}
        self.summary(range_, {})
        self.summary(range_, {**of_requests, **of_usages})
        for filters in ({}, of_requests):
            self.request_series(range_, filters)
            self.top(range_, random.choice(DIMENSIONS[:2]), 10, filters)
            self.top(range_, random.choice(DIMENSIONS), random.choice((1, 3, 1000)), filters)
        for filters in ({}, of_usages):
            self.token_series(range_, filters)
            self.top_tokens(range_, random.choice(TOKEN_FILTERS), random.choice((1, 10)), filters)
        self.lists(range_, random.choice(({}, of_requests)), random.choice(({}, of_usages)))
        self.exports(range_, random.choice(({}, of_requests)), random.choice(({}, of_usages)))

    # --- path by path

    def _data(self, path: str, range_: Range, filters: Filters, **parameters: object) -> Any:
        answer = self._stack.get(bot_path(range_.bot, path), **range_.parameters(), **filters, **parameters)
        assert timestamp(answer["range"]["from"]) * 1000 == range_.start
        assert timestamp(answer["range"]["to"]) * 1000 == range_.end
        assert answer["range"]["tz"] == range_.tz
        return answer["data"]

    def bots(self) -> None:
        """The list of bots, page by page."""
        earliest = time.time() * 1000
        rows: list[Json] = []
        parameters: Json = {"limit": 2}
        while True:
            data = self._stack.get("/bots", **parameters)["data"]
            rows += data["rows"]
            if data["next"] is None:
                break
            parameters["cursor"] = data["next"]
        latest = time.time() * 1000
        listed = {row["bot_id"]: row for row in rows}
        assert len(listed) == len(rows)
        assert list(listed) == sorted(listed)
        for bot in self._oracle.bots():
            times = [request.event_ms for request in self._oracle.requests if request.bot_id == bot]
            expected = text(max(times), "UTC") if times else None
            assert listed[bot]["last_request"] == expected, bot
            certainly = sum(latest - 7 * DAY <= at < earliest for at in times)
            possibly = sum(earliest - 7 * DAY <= at < latest for at in times)
            assert certainly <= listed[bot]["requests_7d"] <= possibly, bot

    def summary(self, range_: Range, filters: Filters) -> None:
        data = self._data("summary", range_, filters)
        of_requests = bool(set(filters) & set(REQUEST_FILTERS))
        of_usages = bool(set(filters) & set(TOKEN_FILTERS))
        assert bool(data.pop("unfiltered")) == (of_requests or of_usages)
        expected = self._oracle.summary(range_.bot, range_.start, range_.end, range_.tz, filters)
        assert data == expected, (range_, filters, data, expected)

    def request_series(self, range_: Range, filters: Filters, interval: str | None = None) -> None:
        self._series("requests/timeseries", self._oracle.request_series, range_, filters, interval)

    def unique_series(self, range_: Range, filters: Filters, interval: str | None = None) -> None:
        self._series("uniques/timeseries", self._oracle.unique_series, range_, filters, interval)

    def token_series(self, range_: Range, filters: Filters, interval: str | None = None) -> None:
        self._series("tokens/timeseries", self._oracle.token_series, range_, filters, interval)

    def _series(self, path: str, series: Any, range_: Range, filters: Filters, interval: str | None) -> None:
        asked = {} if interval is None else {"interval": interval}
        data = self._data(path, range_, filters, **asked)
        chosen = interval or chosen_interval(range_.start, range_.end, range_.tz) or data["interval"]
        assert data["interval"] == chosen, range_
        expected = series(range_.bot, range_.start, range_.end, range_.tz, chosen, filters)
        assert data["buckets"] == expected, (path, range_, filters)

    def top(self, range_: Range, by: str, limit: int, filters: Filters) -> None:
        self._top("requests/top", self._oracle.top, range_, by, limit, filters)

    def top_tokens(self, range_: Range, by: str, limit: int, filters: Filters) -> None:
        self._top("token-usages/top", self._oracle.top_tokens, range_, by, limit, filters)

    def _top(self, path: str, top: Any, range_: Range, by: str, limit: int, filters: Filters) -> None:
        data = self._data(path, range_, filters, by=by, limit=limit)
        expected = top(range_.bot, range_.start, range_.end, by, limit, filters)
        shares = [row.pop("share") for row in data]
        assert shares == pytest.approx([row.pop("share") for row in expected], rel=1e-12)
        assert not shares or sum(shares) == pytest.approx(1)
        assert data == expected, (by, limit, range_, filters)

    def values(self, range_: Range, by: str, contains: str, limit: int, filters: Filters) -> None:
        data = self._data("requests/values", range_, filters, by=by, contains=contains, limit=limit)
        where = range_.bot, range_.start, range_.end
        assert data == self._oracle.values(*where, by, contains, limit, filters), (by, contains, filters)

    def lists(self, range_: Range, of_requests: Filters, of_usages: Filters) -> None:
        """Both tables, page by page."""
        where = range_.bot, range_.start, range_.end, range_.tz
        for path, filters, expected in (
            ("requests", of_requests, self._oracle.request_rows(*where, of_requests)),
            ("token-usages", of_usages, self._oracle.usage_rows(*where, of_usages)),
        ):
            limit = max(1, min(len(expected) // 3, 1000))
            rows: list[Json] = []
            cursor: Json = {}
            while len(rows) <= min(len(expected), 3 * limit):
                data = self._data(path, range_, filters, limit=limit, **cursor)
                rows += data["rows"]
                if data["next"] is None:
                    assert len(rows) == len(expected), (path, range_, filters)
                    break
                cursor = {"cursor": data["next"]}
            assert rows == expected[: len(rows)], (path, range_, filters)

    def exports(self, range_: Range, of_requests: Filters, of_usages: Filters) -> None:
        """Both exports in every format."""
        where = range_.bot, range_.start, range_.end, range_.tz
        for path, filters, expected in (
            ("requests", of_requests, self._oracle.request_rows(*where, of_requests)),
            ("token-usages", of_usages, self._oracle.usage_rows(*where, of_usages)),
        ):
            for form in ("csv", "ndjson", "json"):
                answer = self._stack.api.get(
                    bot_path(range_.bot, f"{path}/export"),
                    params={**range_.parameters(), **filters, "format": form},
                )
                assert answer.status_code == 200, answer.text
                assert answer.headers["Footfall-Row-Count"] == str(len(expected)), (path, range_, filters)
                assert _rows_in(answer.content, form, expected) == expected, (path, form, range_, filters)

    # --- the store

    def rollups(self) -> None:
        """Every sealed interval and day equals a count of the oracle's events; none that is over is missing."""
        for table, width in (("bot_requests_15m", INTERVAL), ("bot_requests_1d", DAY)):
            self._rollup(
                """SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start, requests,
                    toUnixTimestamp64Milli(last_request) AS last_request, by_endpoint, by_country, by_browser,
                    by_client_class, length(ip_hashes) AS ips, length(chat_hashes) AS chats
                FROM footfall.{table:Identifier} FINAL""",
                table,
                width,
                _by_interval(self._oracle.requests, width),
                _request_rollup,
            )
        for table, width in (("token_usages_15m", INTERVAL), ("token_usages_1d", DAY)):
            self._rollup(
                """SELECT bot_id, toUnixTimestamp64Milli(interval_start) AS start, usages, input_tokens,
                    output_tokens, usages_by_source, input_by_source, output_by_source, usages_by_model,
                    input_by_model, output_by_model
                FROM footfall.{table:Identifier} FINAL""",
                table,
                width,
                _by_interval(self._oracle.usages, width),
                _usage_rollup,
            )

    def _rollup(
        self, query: str, table: str, width: int, events: dict[tuple[str, int], list[Any]], rollup: Any
    ) -> None:
        bots = set(self._oracle.bots())
        rows = {}
        for row in self._stack.sql(query, table=table):
            key = row.pop("bot_id"), row.pop("start")
            if key[0] in bots:
                rows[key] = row
        for key, row in rows.items():
            assert row == rollup(events[key]), (key, table)
        # What ended within the last minutes may be on its way, and days are computed once they are over.
        due = time.time() * 1000 - 5 * MINUTE
        missing = [key for key in events if key[1] + width < due and key not in rows]
        assert not missing, (missing[:5], table)

    def rollups_within(self, seconds: float) -> None:
        """The same, but what came in just now has so long to be sealed."""
        failure: list[AssertionError] = []

        def hold() -> bool:
            try:
                self.rollups()
            except AssertionError as error:
                failure[:] = [error]
                return False
            return True

        eventually(hold, seconds, lambda: f"rollups differ from what was produced: {failure[0]}")

    def views(self) -> None:
        """The downstream contract's views hold the oracle's events, each once."""
        requests = self._stack.sql(
            """SELECT bot_id, toUnixTimestamp64Milli(event_time) AS event_ms, event_id, endpoint, chat_id, ip,
                country, region, city, browser, client_class, timezone, page_url
            FROM footfall_v1.bot_requests"""
        )
        self._same(requests, self._oracle.requests)
        usages = self._stack.sql(
            """SELECT bot_id, toUnixTimestamp64Milli(event_time) AS event_ms, event_id, source, model, input_tokens,
                output_tokens FROM footfall_v1.token_usages"""
        )
        self._same(usages, self._oracle.usages)
        counted = self._stack.sql(
            "SELECT bot_id, sum(requests) AS requests FROM footfall_v1.bot_requests_15m GROUP BY bot_id"
        )
        expected = Counter(request.bot_id for request in self._oracle.requests)
        assert {row["bot_id"]: row["requests"] for row in counted if row["bot_id"] in expected} == expected

    def _same(self, rows: Iterable[Json], events: Sequence[Any]) -> None:
        bots = set(self._oracle.bots())
        found = sorted((row for row in rows if row["bot_id"] in bots), key=_identity)
        expected = sorted((vars(event) for event in events), key=_identity)
        assert len(found) == len(expected)
        for row, event in zip(found, expected, strict=True):
            assert row == event


def _identity(row: Json) -> tuple[str, int, str]:
    return row["bot_id"], row["event_ms"], row["event_id"]


def _by_interval(events: Iterable[Any], width: int) -> dict[tuple[str, int], list[Any]]:
    grouped = defaultdict[tuple[str, int], list[Any]](list)
    for event in events:
        grouped[event.bot_id, event.event_ms - event.event_ms % width].append(event)
    return grouped


def _request_rollup(requests: Sequence[Request]) -> Json:
    return {
        "requests": len(requests),
        "last_request": max((request.event_ms for request in requests), default=None),
        **{
            f"by_{name}": dict(Counter(getattr(request, name) for request in requests))
            for name in ("endpoint", "country", "browser", "client_class")
        },
        "ips": len({request.ip for request in requests} - {""}),
        "chats": len({request.chat_id for request in requests} - {""}),
    }


def _usage_rollup(usages: Sequence[Usage]) -> Json:
    rollup: Json = {"usages": len(usages)}
    for name in ("input_tokens", "output_tokens"):
        rollup[name] = sum(getattr(usage, name) for usage in usages)
    for dimension in ("source", "model"):
        values = {getattr(usage, dimension) for usage in usages}
        of = {value: [usage for usage in usages if getattr(usage, dimension) == value] for value in values}
        rollup[f"usages_by_{dimension}"] = {value: len(some) for value, some in of.items()}
        rollup[f"input_by_{dimension}"] = {v: sum(u.input_tokens for u in some) for v, some in of.items()}
        rollup[f"output_by_{dimension}"] = {v: sum(u.output_tokens for u in some) for v, some in of.items()}
    return rollup


def _rows_in(content: bytes, form: str, expected: Sequence[Json]) -> list[Json]:
    """The rows of an export, as JSON has them."""
    said = content.decode()
    if form == "json":
        body = json.loads(said)
        assert list(body) == ["rows", "row_count"]
        assert body["row_count"] == len(body["rows"])
        return list(body["rows"])
    if form == "ndjson":
        assert not said or said.endswith("\n")
        # Not splitlines(), which takes some characters within a string for ends of lines.
        return [json.loads(line) for line in said.split("\n")[:-1]]
    assert said.endswith("\r\n")
    header, *lines = csv.reader(io.StringIO(said, newline=""), strict=True)
    if expected:
        assert header == list(expected[0])
    return [{name: _said(cell, name) for name, cell in zip(header, line, strict=True)} for line in lines]


def _said(cell: str, name: str) -> str | int | None:
    """What a cell of a CSV file stands for: what a spreadsheet would take for a formula has to have an apostrophe."""
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    if name.endswith("_tokens"):
        return int(cell)
    if cell.startswith("'") and cell[1:].startswith(("=", "+", "-", "@", "\t", "\r")):
        cell = cell[1:]
    return cell or None
