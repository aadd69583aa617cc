"""An API that says what a test wants the page to show. Every answer is held against the API's own description."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Route
from pydantic import BaseModel

from pipeline.web.answers import (
    Answer,
    BotRow,
    KnownBot,
    RequestBucket,
    RequestDetails,
    RequestRow,
    Rows,
    Series,
    Summary,
    TokenBucket,
    TokenDetails,
    TokenRow,
    TopEntry,
    TopTokensEntry,
    UniqueBucket,
    ValueEntry,
)

Json = dict[str, Any]

NOW: Final = datetime.now(UTC).replace(microsecond=0)
SAID: Final[Mapping[str, type[BaseModel]]] = {
    "bots": Answer[Rows[BotRow]],
    "range": Answer[KnownBot],
    "summary": Answer[Summary],
    "requests/timeseries": Answer[Series[RequestBucket]],
    "uniques/timeseries": Answer[Series[UniqueBucket]],
    "tokens/timeseries": Answer[Series[TokenBucket]],
    "requests/top": Answer[list[TopEntry]],
    "requests/values": Answer[list[ValueEntry]],
    "token-usages/top": Answer[list[TopTokensEntry]],
    "requests": Answer[Rows[RequestRow]],
    "requests/row": Answer[RequestDetails],
    "token-usages": Answer[Rows[TokenRow]],
    "token-usages/row": Answer[TokenDetails],
}
"""What the API says of each path below a bot, and of the bots."""

HOURS_4: Final = timedelta(hours=4)


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def request_row(number: int, **fields: Any) -> Json:
    """A request, `number` seconds ago."""
    row = dict.fromkeys(RequestRow.model_fields) | {
        "time": text(NOW - timedelta(seconds=number)),
        "endpoint": "widget",
        "ip": f"203.0.113.{number % 250}",
        "country": "DE",
        "region": "Berlin",
        "city": "Berlin",
        "browser": "Firefox",
        "client_class": "person",
        "event_id": f"event-{number}",
    }
    return row | fields


def token_row(number: int, **fields: Any) -> Json:
    """A model call, `number` seconds ago."""
    row: Json = {
        "time": text(NOW - timedelta(seconds=number)),
        "source": "chat",
        "input_tokens": 1200,
        "output_tokens": 80,
        "total_tokens": 1280,
        "model": "large-1",
        "event_id": f"usage-{number}",
    }
    return row | fields


def details(row: Json, **fields: Any) -> Json:
    """All that is known of a row: in Kafka at once, and 2 s later in the store."""
    at = datetime.fromisoformat(row["time"])
    origin = {
        "record_time": text(at),
        "ingested_at": text(at + timedelta(seconds=2)),
        "source_topic": "bot_requests" if "ip" in row else "token_usages",
        "source_partition": 3,
        "source_offset": 12_345,
    }
    return row | origin | fields


def top(*values: tuple[str, int], other: int = 0, unknown: int = 0) -> list[Json]:
    """Entries of a ranking."""
    entries: list[tuple[str, str | None, int]] = [("value", value, count) for value, count in values]
    entries += [(kind, None, count) for kind, count in (("other", other), ("unknown", unknown)) if count]
    entries = [entry for entry in entries if entry[2]]
    total = sum(count for _, _, count in entries)
    return [
        {"kind": kind, "value": value, "requests": count, "share": count / total}
        for kind, value, count in entries
    ]


@dataclass(kw_only=True)
class FakeApi:
    """What is so. `install` makes a page ask this instead of the real API; change it and the next answer changes."""

    summary: Json = field(default_factory=dict)
    """Of the cards: what is not as the series say."""
    requests: list[int] = field(default_factory=lambda: [120 + 60 * (n % 6) for n in range(42)])
    """Per bucket, the last one unfinished."""
    tokens: list[tuple[int, int]] = field(
        default_factory=lambda: [(40_000 + 20_000 * (n % 6), 5_000 + 2_500 * (n % 6)) for n in range(42)]
    )
    bucket: timedelta = HOURS_4
    interval: str = "4h"
    tops: dict[str, list[Json]] = field(default_factory=dict)
    request_rows: list[Json] = field(default_factory=lambda: [request_row(n) for n in range(60)])
    token_rows: list[Json] = field(default_factory=lambda: [token_row(n) for n in range(60)])
    bots: dict[str, int] = field(default_factory=lambda: {"support": 11_340})
    """Requests of each in 7 days."""
    freshness: Json = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    """Paths that answer 503; `*` for all."""
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    """Path and parameters of every question."""

    def install(self, page: Page) -> None:
        page.route(re.compile(r"/api/v1/"), self._answer)

    @property
    def start(self) -> datetime:
        """Of the first bucket."""
        return NOW.replace(hour=NOW.hour // 4 * 4, minute=0, second=0) - self.bucket * (
            len(self.requests) - 1
        )

    def _answer(self, route: Route) -> None:
        url = urlsplit(route.request.url)
        path = re.sub(r"^/api/v1/(bots/[^/]+/)?", "", url.path)
        asked = parse_qs(url.query, keep_blank_values=True)
        self.asked.append((path, asked))
        if "*" in self.failing or path in self.failing:
            problem = {
                "type": "unavailable",
                "title": "Service Unavailable",
                "status": 503,
                "detail": "The store does not answer. Ask again in a few seconds.",
            }
            route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem))
            return
        if path.endswith("/export"):
            route.fulfill(body="", headers={"Footfall-Row-Count": str(sum(self.requests))})
            return
        answer = {
            "range": {
                "from": asked.get("from", [text(self.start)])[0],
                "to": asked.get("to", [text(NOW)])[0],
                "tz": asked.get("tz", ["UTC"])[0],
            },
            "data": self._data[path](asked),
            "freshness": {
                "data_as_of": text(NOW - timedelta(seconds=2)),
                "provisional_from": text(NOW - timedelta(minutes=20)),
                "consumer_lag_records": 0,
                "late_events_24h": 0,
                "dead_letters_24h": 0,
            }
            | self.freshness,
        }
        SAID[path].model_validate(answer)
        headers = {"Date": format_datetime(NOW, usegmt=True)}
        route.fulfill(json=answer, headers=headers)

    @property
    def _data(self) -> Mapping[str, Callable[[Any], Any]]:
        return {
            "bots": lambda _: self._page(
                [
                    {"bot_id": bot, "last_request": text(NOW) if n else None, "requests_7d": n}
                    for bot, n in self.bots.items()
                ]
            ),
            "range": lambda _: {"bot_id": "support"},
            "summary": lambda _: self._summary(),
            "requests/timeseries": lambda _: self._series({"requests": n} for n in self.requests),
            "uniques/timeseries": lambda _: self._series(
                {"unique_ips": n // 4, "unique_conversations": n // 3} for n in self.requests
            ),
            "tokens/timeseries": lambda _: self._series(
                {"input_tokens": given, "output_tokens": made} for given, made in self.tokens
            ),
            "requests/top": lambda asked: self._top(asked["by"][0]),
            "requests/values": self._values,
            "token-usages/top": lambda asked: self._top_tokens(asked["by"][0]),
            "requests": lambda asked: self._list(self.request_rows, asked),
            "requests/row": lambda asked: details(
                self._row(self.request_rows, asked),
                user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
                geo_built_at="2026-10-31T01:12:00.000+02:00",
            ),
            "token-usages": lambda asked: self._list(self.token_rows, asked),
            "token-usages/row": lambda asked: details(
                self._row(self.token_rows, asked),
                provider="someone",
                chat_id="chat-7",
                cached_input_tokens=700,
                reasoning_output_tokens=None,
            ),
        }

    def _summary(self) -> Json:
        given, made = (sum(numbers) for numbers in zip(*self.tokens, strict=True)) if self.tokens else (0, 0)
        total = sum(self.requests)
        return {
            "total_requests": total,
            "unique_ips": total // 8,
            "unique_conversations": total // 3,
            "last_request": text(NOW) if total else None,
            "input_tokens": given,
            "output_tokens": made,
            "total_tokens": given + made,
            "positive_feedbacks": total // 16,
            "negative_feedbacks": total // 38,
            "exact": {"unique_ips": True, "unique_conversations": True},
            "unfiltered": [],
        } | self.summary

    def _series(self, buckets: Iterable[Json]) -> Json:
        starts = (text(self.start + self.bucket * n) for n in range(len(self.requests)))
        return {
            "interval": self.interval,
            "buckets": [{"start": start, **bucket} for start, bucket in zip(starts, buckets, strict=True)],
        }

    def _top(self, by: str) -> list[Json]:
        total = sum(self.requests)
        usual = {
            "endpoint": top(("widget", total - total // 2), ("api", total // 2)),
            "country": top(("DE", total // 2), ("US", total - total // 2 - total // 9), unknown=total // 9),
            "client_class": top(("person", total - total // 9), ("crawler", total // 9)),
        }
        return self.tops.get(by, usual.get(by, top(("something", total))))

    def _values(self, asked: dict[str, list[str]]) -> list[Json]:
        [by], [contains] = asked["by"], asked.get("contains", [""])
        counts = Counter(row[by] for row in self.request_rows)
        found = [(value, n) for value, n in counts.most_common() if contains in (value or "").lower()]
        return [{"value": value, "requests": n} for value, n in found[: int(asked["limit"][0])]]

    def _top_tokens(self, by: str) -> list[Json]:
        values = Counter(row[by] for row in self.token_rows)
        return [
            {
                "kind": "value",
                "value": value,
                "usages": usages,
                "input_tokens": usages * 1200,
                "output_tokens": usages * 80,
                "share": usages / values.total(),
            }
            for value, usages in values.most_common()
        ]

    def _list(self, rows: list[Json], asked: dict[str, list[str]]) -> Json:
        since = datetime.fromisoformat(asked["from"][0]) if "from" in asked else self.start
        since = since if since.tzinfo else since.replace(tzinfo=UTC)  # a date
        rows = [row for row in rows if datetime.fromisoformat(row["time"]) >= since]
        limit, first = int(asked["limit"][0]), int(asked.get("cursor", ["0"])[0])
        page = rows[first : first + limit]
        return self._page(page, following=str(first + limit) if first + limit < len(rows) else None)

    def _row(self, rows: list[Json], asked: dict[str, list[str]]) -> Json:
        return next(row for row in rows if [row["event_id"]] == asked["event_id"])

    def _page(self, rows: list[Json], following: str | None = None) -> Json:
        return {"rows": rows, "next": following}
