"""Someone who reads the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from playwright.sync_api import Download, Locator, Page, Request

from tests.browser.site import BUSY, Site

ZONE = "Australia/Eucla"  # 45 minutes off every whole hour


class Reader:
    """Someone at the page: a browser window, and what it asked and complained about."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.asked: list[Request] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type == "error" else None,
        )

    def open(self, bot: str = BUSY, query: str = "") -> None:
        self.page.goto(f"{self.site.url}/bots/{quote(bot)}/analytics{query}")
        self.settle()

    def settle(self) -> None:
        """Wait until every panel has its answer."""
        self.page.locator("#main[aria-busy=false]").wait_for()

    def doing(self, action: Callable[[], Any]) -> None:
        """Do something that changes the address, and wait for what it brings."""
        before = self.page.url
        action()
        self.page.wait_for_url(lambda url: url != before)
        self.settle()

    def enter(self, field: Locator, text: str) -> None:
        """Write into a filter, and wait for what it brings."""

        def write() -> None:
            field.fill(text)
            field.press("Enter")

        self.doing(write)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query, keep_blank_values=True)

    def ends(self) -> dict[str, str]:
        """The absolute range that the page asked for last."""
        last = [request.url for request in self.asked if "/summary?" in request.url][-1]
        query = parse_qs(urlsplit(last).query)
        return {name: query[name][0] for name in ("from", "to", "tz")}

    def api(self, path: str, bot: str = BUSY, **parameters: Any) -> Any:
        """What the API says to `path` for the range on show."""
        return self.site.get(f"/bots/{quote(bot)}/{path}", {**self.ends(), **parameters})["data"]

    def matching(self, events: Sequence[dict[str, Any]], table: str = "") -> list[dict[str, Any]]:
        """Those of these events that are in the range and match the address, newest first: the page's filters in it,
        and those that `table` has for itself."""
        start, end = (datetime.fromisoformat(self.ends()[name]).timestamp() * 1000 for name in ("from", "to"))
        filters = [(name.removeprefix(f"{table}."), values) for name, values in self.query.items()]
        found = [
            event
            for event in events
            if start <= event["event_ms"] < end
            and all(event[name] in values for name, values in filters if name in event)
        ]
        return sorted(found, key=lambda event: event["event_ms"], reverse=True)

    def card(self, name: str) -> Locator:
        return self.page.locator(f"[data-card={name}]")

    def cards(self) -> dict[str, str | None]:
        found = self.page.locator("[data-card]")
        values: dict[str, str | None] = found.evaluate_all(
            "all => Object.fromEntries(all.map(card => [card.dataset.card, card.dataset.value]))"
        )
        return values

    def rows(self, table: str) -> list[str]:
        rows = self.page.locator(f"#{table} tbody tr[data-event-id]")
        found: list[str] = rows.evaluate_all("all => all.map(row => row.dataset.eventId)")
        return found

    def export(self, table: str, kind: str) -> Download:
        self.page.locator(f"[popovertarget={table}-export]").click()
        with self.page.expect_download() as download:
            self.page.locator(f"#{table}-export [data-format={kind}]").click()
        return download.value
