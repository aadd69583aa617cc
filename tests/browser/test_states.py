"""The page in every state that it can be in: accessible, quick, and still."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from math import inf
from random import Random, SystemRandom
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect

from tests.browser.fake_api import NOW, FakeApi, request_row, text, token_row, top
from tests.browser.reader import Reader

pytestmark = pytest.mark.browser

ARABIC = "demo-مساعد"
LONG = "an-endpoint-whose-name-is-much-longer-than-anyone-would-think-of".ljust(128, "-")
"""128 characters: the longest there is."""


def busy() -> FakeApi:
    """Ten million rows, and names as long as they come."""
    row = partial(
        request_row, endpoint=LONG, country="GS", city="W" * 40, page_url="https://x.example/" + "p" * 900
    )
    return FakeApi(
        requests=[10_000_000 + n for n in range(42)],
        tokens=[(2**51 // 42, 2**50 // 42)] * 42,
        tops={
            "endpoint": top((LONG, 300_000_000), (ARABIC, 100_000_000), other=20_000_861),
            # 38 letters, and more in most languages.
            "country": top(("GS", 420_000_000), ("AQ", 1), unknown=860),
        },
        request_rows=[row(n) for n in range(60)],
        token_rows=[
            token_row(n, source=LONG, input_tokens=2**52, total_tokens=2**52 + 80) for n in range(60)
        ],
    )


def spiky() -> FakeApi:
    """A spike with flat tokens, of one country and one surface."""
    usual = FakeApi()
    usual.requests[30] = 4000
    usual.tops = {"country": top(("US", 9000), ("DE", 500)), "endpoint": top(("widget", 9000), ("api", 500))}
    return usual


def empty() -> FakeApi:
    return FakeApi(
        requests=[0] * 42,
        tokens=[(0, 0)] * 42,
        request_rows=[],
        token_rows=[],
        summary={"last_request": None},
    )


def late() -> FakeApi:
    as_of = text(NOW - timedelta(minutes=7))
    return FakeApi(freshness={"data_as_of": as_of, "consumer_lag_records": 1234, "dead_letters_24h": 3})


def one_row() -> FakeApi:
    return FakeApi(
        requests=[0] * 41 + [1],
        tokens=[(0, 0)] * 41 + [(1200, 80)],
        request_rows=[request_row(0)],
        token_rows=[token_row(0)],
    )


def failing(*paths: str) -> Callable[[], FakeApi]:
    return lambda: FakeApi(failing=set(paths))


def opened(*buttons: str) -> Callable[[Page], None]:
    """Click these one after the other."""

    def act(page: Page) -> None:
        for button in buttons:
            page.locator(button).first.click()
        page.wait_for_timeout(150)  # what moves has moved

    return act


def nothing(page: Page) -> None:
    pass


STATES: dict[str, tuple[Callable[[], FakeApi], str, Callable[[Page], None]]] = {
    "usual": (FakeApi, "", nothing),
    "something-stands-out": (spiky, "", opened("#strip summary")),
    "a-row-is-open": (FakeApi, "", opened("#requests .open", "#tokens .open")),
    "uniques-over-time": (FakeApi, "&chart=unique_ips", nothing),
    "filtered": (FakeApi, "&country=DE&country=US&endpoint=widget&source=chat", nothing),
    "tables-filtered": (FakeApi, "&requests.country=DE&requests.ip=203.0.113.7&tokens.source=chat", nothing),
    "empty": (empty, "", nothing),
    "late": (late, "", nothing),
    "one-row": (one_row, "", nothing),
    "ten-million-rows": (busy, "", nothing),
    "a-panel-fails": (failing("requests/timeseries", "requests/top"), "", nothing),
    "everything-fails": (failing("*"), "", nothing),
}


MENUS = {
    "bots": "#bot-button",
    "filters": "#filter-button",
    "ranges": "#range-button",
    "zones": "#zone-button",
    "freshness": "#freshness-button",
    "export": "[popovertarget=requests-export]",
    "export-tokens": "[popovertarget=tokens-export]",
}


OPEN = "[popover]:popover-open"
OF_PANELS = re.compile("/api/v1/bots/[^/]+/(?!range)")
PANELS = 8
"""What a page asks, and how often, once it knows the ends of its range."""


def violations(page: Page, *rules: str, within: str = "html") -> list[str]:
    """What axe has against the page or a part of it: by these rules, or by all that there are."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    options = {"resultTypes": ["violations"], **({"runOnly": [*rules]} if rules else {})}
    found: dict[str, Any] = page.evaluate("given => axe.run(...given)", [within, options])
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]


def violations_in_both_themes(page: Page, within: str = "html") -> list[str]:
    """The same, and what of it is hard to read in the dark."""
    found = violations(page, within=within)
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += violations(page, "color-contrast", within=within)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return found


def enter(reader: Reader, state: str) -> FakeApi:
    """Bring the page into this state."""
    say, query, act = STATES[state]
    api = say()
    api.request_rows, api.token_rows = api.request_rows[:4], api.token_rows[:4]  # one is like the other
    api.install(reader.page)
    reader.page.emulate_media(reduced_motion="reduce")
    reader.open(ARABIC, f"?tz=UTC{query}")
    act(reader.page)
    return api


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(reader: Reader, state: str) -> None:
    api = enter(reader, state)
    assert violations_in_both_themes(reader.page) == []
    if api.failing:
        reader.complaints.clear()  # the browser itself reports each 503


def test_axe_finds_nothing_in_any_menu(reader: Reader) -> None:
    enter(reader, "usual")
    for name, button in MENUS.items():
        reader.page.locator(button).click()
        menu = reader.page.locator(OPEN)
        expect(menu).to_be_visible()
        if name in ("bots", "filters"):
            expect(menu.get_by_role("option").first).to_be_visible()
        assert violations_in_both_themes(reader.page, OPEN) == []
        reader.page.keyboard.press("Escape")


def test_axe_finds_nothing_while_answers_are_late(reader: Reader) -> None:
    FakeApi().install(reader.page)
    held: list[Route] = []
    reader.page.route(OF_PANELS, lambda route: held.append(route))
    reader.page.clock.install()
    reader.page.goto(f"{reader.site.url}/bots/support/analytics?tz=UTC")
    expect(reader.page.locator("#span")).not_to_be_empty()
    reader.page.clock.fast_forward(3_000)
    assert reader.page.locator(".skeleton:visible").count() > 20
    assert violations_in_both_themes(reader.page) == []
    for route in held:
        route.fallback()
    reader.settle()


def test_axe_finds_nothing_where_the_address_asks_for_what_cannot_be(reader: Reader) -> None:
    for query in ("range=fortnight", "ip=garbage"):
        reader.page.goto(f"{reader.site.url}/bots/support/analytics?{query}")
        expect(reader.page.locator("#strip .alert")).to_be_visible()
        assert violations_in_both_themes(reader.page) == []
    reader.complaints.clear()  # the browser itself reports each 400


def test_axe_finds_nothing_in_exports_that_run_or_fail(reader: Reader) -> None:
    enter(reader, "usual")
    held: list[Route] = []
    reader.page.locator(MENUS["export"]).click()
    status = reader.page.locator("#requests-export [role=status]")
    expect(status).to_contain_text("all that match")
    reader.page.route("**/export?*", lambda route: held.append(route))
    reader.page.locator("#requests-export [data-format=csv]").click()
    expect(reader.page.get_by_role("progressbar", name="Export")).to_be_visible()
    assert violations_in_both_themes(reader.page, OPEN) == []
    held[0].fulfill(body="event_id\r\na\r\n", headers={"Footfall-Row-Count": "2"})
    expect(status).to_contain_text("It was not saved")
    assert violations_in_both_themes(reader.page, OPEN) == []


def test_axe_finds_nothing_in_what_a_range_says_of_changing_clocks(reader: Reader) -> None:
    enter(reader, "usual")
    ends = "from=2026-03-08T03:30:00-04:00&to=2026-11-01T01:30:00-05:00&tz=America/New_York"
    reader.open(query=f"?{ends}")
    reader.page.locator(MENUS["ranges"]).click()
    expect(reader.page.get_by_label("To: which of the two times")).to_be_visible()
    reader.page.get_by_label("From time").fill("02:30:00")
    expect(reader.page.locator("#from-note")).to_be_visible()
    reader.page.get_by_label("To date").fill("2026-02-01")
    reader.page.get_by_role("button", name="Apply").click()
    expect(reader.page.locator("#custom-fault")).to_be_visible()
    assert violations_in_both_themes(reader.page, OPEN) == []


WATCH = """
const seen = {tasks: [], shifts: [], numbers: null, charts: null};
window.seen = seen;
new PerformanceObserver((list) => seen.tasks.push(...list.getEntries().map(({duration}) => duration)))
  .observe({type: "longtask", buffered: true});
new PerformanceObserver((list) => {
  const name = (node) => node?.id || node?.className || String(node);
  for (const {value, hadRecentInput, sources} of list.getEntries())
    if (!hadRecentInput) seen.shifts.push([value, ...sources.map(({node}) => name(node))]);
}).observe({type: "layout-shift", buffered: true});
const look = () => {
  // In a frame's task: what is found is painted at its end.
  if (!seen.numbers && document.querySelector("[data-card][data-value]")) seen.numbers = performance.now();
  if (!seen.charts && document.querySelector("#series .count") && document.querySelector("#token-series .count")
      && document.querySelectorAll(".ranks").length === 3) seen.charts = performance.now();
  if (!seen.numbers || !seen.charts) requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
ANSWERED = """
pattern => Math.max(...performance.getEntriesByType("resource")
  .filter(({name}) => new RegExp(pattern).test(name)).map(({responseEnd}) => responseEnd))
"""


def tries() -> Iterator[None]:
    """For half a minute: the machine may be busy with other things, and the page is as slow as it is at best."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        yield
        time.sleep(0.5)


def history() -> FakeApi:
    """Everything since 2000, month by month, and full pages."""
    rows = {
        "request_rows": [request_row(n) for n in range(60)],
        "token_rows": [token_row(n) for n in range(60)],
    }
    numbers = [n * 7919 % 5000 for n in range(27 * 12)]
    return FakeApi(requests=numbers, tokens=[(n * 900, n * 90) for n in numbers], **rows)


@pytest.mark.parametrize("say", [FakeApi, busy, history])
def test_numbers_and_charts_are_quick_and_nothing_blocks(reader: Reader, say: Callable[[], FakeApi]) -> None:
    say().install(reader.page)
    reader.page.add_init_script(WATCH)
    for _ in tries():
        reader.open(query="?tz=UTC")
        reader.page.wait_for_function("seen.numbers && seen.charts")
        numbers, charts, tasks = reader.page.evaluate("[seen.numbers, seen.charts, seen.tasks]")
        until_numbers = numbers - reader.page.evaluate(ANSWERED, "/summary")
        until_charts = charts - reader.page.evaluate(ANSWERED, "/timeseries|/top")
        longest_task = max(tasks, default=0)
        if until_numbers < 300 and until_charts < 1000 and longest_task <= 100:
            return
    pytest.fail(f"{until_numbers=:.0f} ms, {until_charts=:.0f} ms, {longest_task=:.0f} ms")


def test_nothing_that_a_reader_does_blocks(reader: Reader) -> None:
    page, api = reader.page, history()
    api.bots = {f"bot-{n}": n for n in range(200)}
    api.request_rows = [request_row(n, ip=f"10.0.{n // 250}.{n % 250}") for n in range(1200)]
    api.install(page)
    page.add_init_script(WATCH)
    reader.open(query="?tz=UTC")

    def choose(range_: str) -> None:
        page.locator(MENUS["ranges"]).click()
        reader.doing(page.locator(f"[data-range='{range_}']").click)

    def look_into(menu: str) -> None:
        page.locator(MENUS[menu]).click()
        expect(page.locator(OPEN)).to_be_visible()
        page.keyboard.press("Escape")

    def find_a_zone() -> None:
        page.locator(MENUS["zones"]).click()
        page.keyboard.insert_text("+5:30")  # the clocks of all zones have to be asked
        expect(page.locator("#zone-menu [role=option]").first).to_contain_text("UTC+05:30")
        page.locator(MENUS["zones"]).click()

    def be_offered_addresses() -> None:
        page.get_by_label("Filter by IP").focus()
        expect(page.locator("#requests-ip-values option")).to_have_count(1000)

    def turn(button: str) -> None:
        before = reader.rows("requests")[0]
        page.locator("#requests .pager").get_by_role("button", name=button).click()
        expect(page.locator("#requests tbody tr").first).not_to_have_attribute("data-event-id", before)

    doings: dict[str, Callable[[], object]] = {
        "a longer range": lambda: choose("12mo"),
        "the range before": lambda: choose("7d"),
        "a filter": lambda: reader.doing(page.locator("#countries .rank").first.click),
        "no filter": lambda: reader.doing(page.locator("#chips .chip").click),
        "a row opens": page.locator("#requests .open").first.click,
        "a row closes": page.locator("#requests .open").first.click,
        "the next page": lambda: turn("Next"),
        "the first page": lambda: turn("First"),
        "a zone": find_a_zone,
        "addresses": be_offered_addresses,
        **{f"the menu of {menu}": partial(look_into, menu) for menu in MENUS},
    }
    longest = dict.fromkeys(doings, inf)
    for _ in tries():
        for doing, do in doings.items():
            page.evaluate("seen.tasks.length = 0")
            do()
            page.wait_for_timeout(50)  # the page is told of a task when that is over
            longest[doing] = min(longest[doing], max(page.evaluate("seen.tasks"), default=0))
        if max(longest.values()) <= 100:
            return
    pytest.fail(f"the longest tasks, in ms: {longest}")


@pytest.mark.parametrize(
    ("state", "width", "height"),
    [
        ("something-stands-out", 1280, 2400),
        ("late", 1280, 900),
        ("uniques-over-time", 1280, 2400),
        ("empty", 1280, 900),
        ("filtered", 900, 900),
        ("late", 900, 900),
        ("something-stands-out", 390, 844),
        ("a-panel-fails", 390, 844),
        ("late", 390, 844),
    ],
)
def test_nothing_moves(reader: Reader, state: str, width: int, height: int) -> None:
    reader.page.set_viewport_size({"width": width, "height": height})
    say, query, _ = STATES[state]
    api = say()
    api.install(reader.page)
    reader.page.add_init_script(WATCH)
    reader.open(ARABIC, f"?tz=UTC{query}")
    reader.page.get_by_role("button", name="Refresh").click()
    reader.settle()
    reader.page.wait_for_timeout(600)  # a click excuses what moves within half a second
    assert reader.page.evaluate("seen.shifts") == []
    if api.failing:
        reader.complaints.clear()


@pytest.mark.parametrize(
    ("state", "width", "height", "waits"),
    [
        ("filtered", 1280, 2400, False),
        ("something-stands-out", 900, 1600, False),
        ("empty", 390, 3000, False),
        ("empty", 390, 3000, True),
    ],
)
def test_nothing_moves_in_whatever_order_answers_come_and_however_late(
    reader: Reader, state: str, width: int, height: int, waits: bool
) -> None:
    seed = SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    page, held = reader.page, list[Route]()
    say, query, _ = STATES[state]
    say().install(page)
    page.route(OF_PANELS, lambda route: held.append(route))
    page.add_init_script(WATCH)
    page.set_viewport_size({"width": width, "height": height})
    page.clock.install()
    page.goto(f"{reader.site.url}/bots/support/analytics?tz=UTC{query}")
    expect(page.locator("#span")).not_to_be_empty()
    while len(held) < PANELS:
        page.wait_for_timeout(10)
    if waits:
        page.clock.fast_forward(3_000)
        expect(page.locator("#tokens .skeleton").first).to_be_visible()
    for route in Random(seed).sample(held, PANELS):
        route.fallback()
        page.wait_for_timeout(40)  # it is drawn
    reader.settle()
    page.wait_for_timeout(40)
    assert page.evaluate("seen.shifts") == []


@pytest.mark.parametrize(("width", "height"), [(1280, 2400), (390, 3000)])
def test_nothing_moves_when_other_numbers_come_long_after_a_click(
    reader: Reader, width: int, height: int
) -> None:
    page, held, api = reader.page, list[Route](), FakeApi()
    api.install(page)
    page.add_init_script(WATCH)
    page.set_viewport_size({"width": width, "height": height})
    reader.open(query="?tz=UTC")
    page.route(OF_PANELS, lambda route: held.append(route))
    api.request_rows, api.summary = api.request_rows[:3], {"unfiltered": ["input_tokens"]}
    api.tops = {"country": top(("US", 7)), "endpoint": top(("widget", 7))}
    api.freshness = late().freshness
    page.locator("#countries [data-value=US]").click()
    page.wait_for_timeout(600)  # the click excuses what moves within half a second
    for route in held:
        route.fallback()
        page.wait_for_timeout(40)  # it is drawn
    reader.settle()
    page.wait_for_timeout(40)
    expect(page.locator("#freshness")).to_contain_text("7 min behind")
    assert page.evaluate("seen.shifts") == []


@pytest.mark.parametrize("path", ["/bots/nobody/analytics", "/bots/a%0Ab/analytics", "/"])
def test_axe_finds_nothing_where_there_is_no_bot_to_show(reader: Reader, path: str) -> None:
    reader.page.goto(f"{reader.site.url}{path}")
    reader.page.locator("#welcome:not([aria-busy=true]) h1").wait_for()
    assert violations_in_both_themes(reader.page) == []
    reader.complaints.clear()  # the browser itself reports the 404
