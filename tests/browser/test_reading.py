"""What the page says about its numbers, and what it lets a reader do with them; the API says what a test wants."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Route, expect

from tests.browser.fake_api import NOW, SAID, FakeApi, request_row, text, token_row, top
from tests.browser.reader import Reader
from tests.browser.test_states import LONG, busy, spiky

pytestmark = pytest.mark.browser


@pytest.fixture
def api(reader: Reader) -> FakeApi:
    api = FakeApi()
    api.install(reader.page)
    return api


def told(reader: Reader) -> list[str]:
    """What stands out, opened."""
    reader.page.locator("#strip summary").click()
    found: list[str] = reader.page.locator("#strip li strong").all_inner_texts()
    return found


# --- what stands out


def test_a_spike_with_flat_tokens_is_pointed_out_with_the_way_to_it(reader: Reader, api: FakeApi) -> None:
    api.requests[30] = 4000
    reader.open(query="?tz=UTC")
    start = api.start + 30 * api.bucket
    when = f"{start:%a} {start.day} {start:%b}, {start:%H:%M} – "
    [spike] = told(reader)
    assert spike.startswith(f"Spike with flat tokens, {when}")
    assert spike.endswith(": 13 times the usual requests")
    reader.doing(reader.page.get_by_role("button", name="Show that time").click)
    assert reader.query["from"] == [text(start)]
    assert reader.query["to"] == [text(start + api.bucket)]


def test_a_spike_with_its_tokens_is_told_apart(reader: Reader, api: FakeApi) -> None:
    api.requests[30], api.tokens[30] = 4000, (900_000, 90_000)
    reader.open(query="?tz=UTC")
    [spike] = told(reader)
    assert re.match(r"Spike, .*: 13 times the usual requests, [\d.]+ times the tokens$", spike)


def test_a_lasting_rise_is_no_spike(reader: Reader, api: FakeApi) -> None:
    api.requests = [100] * 21 + [400] * 21
    api.tokens = [(40_000, 5_000)] * 21 + [(160_000, 20_000)] * 21
    reader.open(query="?tz=UTC")
    expect(reader.page.locator("#strip")).to_have_text("Nothing unusual stands out in this range.")


def test_tokens_that_outrun_requests_are_pointed_out(reader: Reader, api: FakeApi) -> None:
    api.tokens[21:] = [(given * 2, made * 2) for given, made in api.tokens[21:]]
    reader.open(query="?tz=UTC")
    [outrun] = told(reader)
    usual = sum(map(sum, api.tokens[:21])) / sum(api.requests[:21])
    assert re.match(r"Tokens outrun requests: [\d,]+ per request lately, [\d,]+ before$", outrun)
    before = int(outrun.split()[-2].replace(",", ""))
    assert before == pytest.approx(usual, rel=0.1)  # the halves are of whole bars


def test_one_country_and_one_surface_are_pointed_out_unless_filtered_by(reader: Reader, api: FakeApi) -> None:
    api.tops = {
        "country": top(("NP", 900), ("DE", 100)),
        "endpoint": top(("fs_chat", 800), ("api", 150), unknown=50),
    }
    reader.open(query="?tz=UTC")
    assert told(reader) == [
        "One country leads: Nepal, 90.0 % of requests",
        "One surface leads: fs_chat, 80.0 % of requests",
    ]
    reader.doing(reader.page.get_by_role("button", name="Only Nepal").click)
    assert reader.query["country"] == ["NP"]
    assert told(reader) == ["One surface leads: fs_chat, 80.0 % of requests"]


def test_a_handful_of_requests_is_no_pattern(reader: Reader, api: FakeApi) -> None:
    api.requests = [0] * 38 + [1, 2, 9, 1]
    api.tokens = [(0, 0)] * 38 + [(10, 1), (20, 2), (900, 90), (10, 1)]
    api.tops = {"country": top(("NP", 13)), "endpoint": top(("api", 13))}
    reader.open(query="?tz=UTC")
    expect(reader.page.locator("#strip")).to_have_text("Nothing unusual stands out in this range.")


def test_nothing_is_claimed_where_answers_are_missing(reader: Reader, api: FakeApi) -> None:
    api.failing = {"requests/timeseries"}
    reader.open(query="?tz=UTC")
    expect(reader.page.locator("#strip")).to_contain_text("What stands out cannot be told")
    api.failing = set()
    reader.page.get_by_role("button", name="Refresh").click()
    expect(reader.page.locator("#strip")).to_have_text("Nothing unusual stands out in this range.")
    reader.complaints.clear()  # the browser itself reports the 503


def test_no_panel_that_fails_takes_another_one_down(reader: Reader, api: FakeApi) -> None:
    api.failing = {path for path in SAID if path not in ("range", "summary")}
    reader.open(query="?tz=UTC")
    assert reader.card("total_requests").get_attribute("data-value") == str(sum(api.requests))
    assert reader.page.locator(".panel .fault:visible").count() == 7
    reader.complaints.clear()  # the browser itself reports each 503


# --- the cards


def test_a_unique_count_says_why_days_may_add_up_to_more(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    card = reader.card("unique_ips")
    expect(card).to_contain_text("exact")
    card.focus()
    expect(reader.page.locator("#tip")).to_contain_text("the counts of single days may add up to more")
    expect(card).to_have_attribute("aria-label", re.compile("counts once in the whole range"))


def test_feedback_has_its_denominator(reader: Reader, api: FakeApi) -> None:
    api.summary = {"positive_feedbacks": 7, "negative_feedbacks": 1}
    reader.open(query="?tz=UTC")
    expect(reader.card("positive_feedbacks")).to_contain_text("87.5 % of 8")
    expect(reader.card("negative_feedbacks")).to_contain_text("12.5 % of 8")
    expect(reader.card("positive_feedbacks")).to_have_attribute(
        "aria-label", re.compile("7 of 8 votes, 87.5 %. A changed vote counts once")
    )
    api.summary = {"positive_feedbacks": 0, "negative_feedbacks": 0}
    reader.page.get_by_role("button", name="Refresh").click()
    expect(reader.card("positive_feedbacks")).to_have_attribute(
        "aria-label", "Positive Feedbacks: 0, of no votes"
    )


def test_a_card_draws_the_shape_of_its_number_where_that_follows_the_filters(
    reader: Reader, api: FakeApi
) -> None:
    reader.open(query="?tz=UTC")
    cards = ["total_requests", "input_tokens", "output_tokens", "total_tokens"]
    for name in cards:
        expect(reader.card(name).locator("polyline")).to_be_attached()
    assert reader.page.locator("[data-card] polyline").count() == len(cards)
    api.summary = {"unfiltered": cards[1:]}
    reader.doing(reader.page.locator("#countries [data-value=DE]").click)
    expect(reader.card("total_requests").locator("polyline")).to_be_attached()
    assert reader.page.locator("[data-card] polyline").count() == 1


def test_whatever_a_filter_does_not_narrow_says_so_and_nothing_else_is_left_out(
    reader: Reader, api: FakeApi
) -> None:
    api.summary = {"unfiltered": ["total_requests", "unique_ips"]}
    reader.open(query="?tz=UTC&source=chat&chart=unique_conversations")
    for panel in ("#unique-series", "#endpoints", "#countries", "#ranked", "#requests"):
        expect(reader.page.locator(panel)).to_contain_text("not filtered by Source")
    expect(reader.page.locator("#unique-series .side")).to_contain_text("current bar unfinished")
    expect(reader.card("total_requests").locator(".card-small")).to_have_text("not filtered")
    expect(reader.card("unique_ips").locator(".card-small")).to_have_text("exact, not filtered")
    reader.open(query="?tz=UTC&country=DE&top=source")
    expect(reader.page.locator("#ranked")).to_contain_text("not filtered by Country")
    expect(reader.page.locator("#endpoints .side")).to_have_text("Requests, share")


# --- the charts


@pytest.mark.parametrize("width", [1440, 390])
def test_choosing_what_a_chart_is_of_moves_nothing(reader: Reader, api: FakeApi, width: int) -> None:
    reader.page.set_viewport_size({"width": width, "height": 900})
    reader.open(query="?tz=UTC")

    def height(part: str) -> float:
        box = reader.page.locator(part).bounding_box()
        assert box
        return box["y"]

    below = height("#trio")
    reader.doing(lambda: reader.page.locator("#series .measure").select_option("unique_conversations"))
    assert height("#trio") == below
    if width == 1440:
        axis = ".grid.base line"
        assert height(f"#unique-series {axis}") == pytest.approx(height(f"#token-series {axis}"), abs=0.6)
    select = reader.page.locator("#unique-series .measure")
    narrowed = select.evaluate("it => [it.offsetWidth, (it.style.flex = 'none', it.offsetWidth)]")
    assert narrowed[0] == narrowed[1], "the longest name fits"


def test_both_charts_read_the_interval_under_the_pointer(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    reader.page.locator("#series rect.count").nth(10).hover()
    tip = reader.page.locator("#tip")
    given, made = api.tokens[10]
    expect(tip).to_contain_text(f"{api.requests[10]} requests")
    expect(tip).to_contain_text(f"{given:,} input, {made:,} output tokens")
    for chart in ("#series", "#token-series"):
        assert float(reader.page.locator(f"{chart} .band").get_attribute("width") or 0) > 0
    reader.page.mouse.move(5, 5)
    expect(tip).to_be_hidden()


def test_the_unfinished_bar_is_lighter_and_said_to_be(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    bars = reader.page.locator("#series rect.count")
    paints = bars.evaluate_all("all => all.map(bar => getComputedStyle(bar).fill)")
    assert paints[-1] != paints[-2]
    assert len({*paints[1:-1]}) == 1
    expect(reader.page.locator("#series")).to_contain_text("current bar unfinished")
    plot = reader.page.get_by_role("slider", name="Requests over time")
    plot.focus()
    reader.page.keyboard.press("End")
    expect(plot).to_have_attribute("aria-valuetext", re.compile("unfinished"))


def test_a_bar_that_the_range_cuts_is_said_to_be_unfinished_too(reader: Reader, api: FakeApi) -> None:
    ends = urlencode({"from": text(api.start + timedelta(hours=1)), "to": text(NOW)})
    reader.open(query=f"?tz=UTC&{ends}")
    expect(reader.page.locator("#series")).to_contain_text("outer bars unfinished")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("interval", "bucket", "count"),
    [("15m", timedelta(minutes=15), 25), ("4h", timedelta(hours=4), 60), ("1d", timedelta(days=1), 92)],
)
def test_the_labels_of_the_axis_stand_apart(
    reader: Reader, api: FakeApi, interval: str, bucket: timedelta, count: int, width: int
) -> None:
    api.interval, api.bucket = interval, bucket
    api.requests, api.tokens = [*range(count)], [(n, n) for n in range(count)]
    reader.page.set_viewport_size({"width": width, "height": 900})
    reader.open(query="?tz=UTC")
    boxes = [box for box in map(Locator.bounding_box, reader.page.locator("#series .tick text").all()) if box]
    assert len(boxes) >= 2  # the name of a day takes the room of two clocks
    assert all(a["x"] + a["width"] < b["x"] for a, b in itertools.pairwise(boxes))


def test_leaving_a_zoom_brings_back_the_range_before(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?range=30d&tz=UTC")
    plot = reader.page.get_by_role("slider", name="Tokens over time")
    plot.focus()
    reader.page.keyboard.press("Home")
    reader.doing(lambda: reader.page.keyboard.press("Enter"))
    reader.doing(reader.page.locator("#endpoints [data-value=api]").click)
    assert reader.query["from"] == [text(api.start)]
    reader.page.reload()
    reader.settle()
    reader.doing(reader.page.get_by_role("button", name="Zoomed in: back to Last 30 days").click)
    assert reader.query == {"range": ["30d"], "tz": ["UTC"], "endpoint": ["api"]}


# --- filters


def test_a_filter_is_found_among_all_values_that_exist(reader: Reader, api: FakeApi) -> None:
    api.token_rows = [token_row(n, model=f"model-{n % 3}") for n in range(9)]
    reader.open(query="?tz=UTC")
    for written, offered, expected in [
        ("germ", "Country: Germany", ("country", "DE")),
        ("crawler", "Client: Crawler", ("client_class", "crawler")),
        ("model-2", "Model: model-2", ("model", "model-2")),
        ("2001:db8::7", "IP: 2001:db8::7", ("ip", "2001:db8::7")),
    ]:
        reader.page.locator("#filter-button").click()
        field = reader.page.get_by_role("combobox", name="Values to filter by")
        field.fill(written)
        expect(reader.page.get_by_role("option", name=offered)).to_be_visible()
        reader.doing(lambda: reader.page.keyboard.press("Enter"))
        name, value = expected
        assert reader.query[name] == [value]
        expect(reader.page.get_by_role("button", name=f"Remove filter {offered}")).to_be_visible()
    reader.doing(reader.page.get_by_role("button", name="Clear all").click)
    assert reader.query == {"range": ["7d"], "tz": ["UTC"]}


def test_an_address_is_found_among_more_than_a_list_can_hold(reader: Reader, api: FakeApi) -> None:
    api.request_rows = [request_row(n, ip=f"10.0.{n // 250}.{n % 250}") for n in range(1200)]
    api.request_rows += [request_row(1201, ip="198.51.100.7")]
    reader.open(query="?tz=UTC")
    field = reader.page.get_by_label("Filter by IP")
    field.focus()
    offered = reader.page.locator("#requests-ip-values option")
    expect(offered).to_have_count(1000)
    field.press_sequentially("51.100")
    expect(offered).to_have_count(1)
    expect(offered).to_have_attribute("value", "198.51.100.7")
    reader.page.locator("#filter-button").click()
    reader.page.get_by_role("combobox", name="Values to filter by").press_sequentially("ip 51.100")
    found = reader.page.get_by_role("option", name="IP: 198.51.100.7")
    expect(found).to_contain_text("1 request")
    reader.doing(found.click)
    assert reader.query["ip"] == ["198.51.100.7"]


def test_what_is_no_address_is_refused_where_it_is_written(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    field = reader.page.get_by_label("Filter by IP")
    field.fill("300.1.1.1")
    field.press("Enter")
    expect(field).to_have_attribute("aria-invalid", "")
    assert "requests.ip" not in reader.query


def test_the_third_ranking_is_chosen_and_kept_in_the_address(reader: Reader, api: FakeApi) -> None:
    api.tops["browser"] = top(("Firefox", 60), ("Chrome", 40))
    reader.open(query="?tz=UTC")
    expect(reader.page.locator("#ranked [data-value=crawler] .rank-name")).to_have_text("Crawler")
    reader.doing(lambda: reader.page.get_by_label("Rank by").select_option("browser"))
    assert reader.query["top"] == ["browser"]
    expect(reader.page.get_by_role("heading", name="Top Browsers")).to_be_visible()
    reader.doing(reader.page.locator("#ranked [data-value=Firefox]").click)
    assert reader.query["browser"] == ["Firefox"]


# --- the tables


def test_a_row_opens_to_everything_known_of_it_and_filters(reader: Reader, api: FakeApi) -> None:
    api.request_rows = [
        request_row(
            0,
            time=text(NOW),
            client_class="api_client",
            timezone="Europe/Berlin",
            page_url="https://shop.example/cart?step=2",
            chat_id="chat-7",
            city=None,
        )
    ]
    reader.open(query="?tz=UTC")
    reader.page.locator("#requests .open").focus()
    reader.page.keyboard.press("Enter")
    facts = reader.page.locator("#requests .facts")
    expect(reader.page.locator("#requests .open")).to_have_attribute("aria-expanded", "true")
    expect(facts).to_contain_text("User agent")
    expect(facts.locator(".skeleton")).to_have_count(0)
    said = dict(
        facts.locator("div").evaluate_all("all => all.map(row => [...row.children].map(e => e.innerText))")
    )
    assert f"{NOW:%Y-%m-%d %H:%M:%S}.000 UTC" in said.pop("Time")
    assert said == {
        "Endpoint": "widget",
        "Client": "API client",
        "Browser": "Firefox",
        "IP": "203.0.113.0",
        "Country": "Germany (DE)",
        "Region": "Berlin",
        "City": "Unknown",
        "Visitor’s time zone": "Europe/Berlin",
        "Page": "https://shop.example/cart?step=2",
        "Conversation": "chat-7",
        "Event": "event-0",
        "Geo database": "Built on 30 Oct 2026 (UTC)",
        "In Kafka since": f"{NOW:%Y-%m-%d %H:%M:%S}.000, 0 s later",
        "In the store since": f"{NOW + timedelta(seconds=2):%Y-%m-%d %H:%M:%S}.000, 2 s later",
        "Kafka record": "bot_requests, partition 3, offset 12,345",
        "User agent": "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    }
    reader.doing(facts.get_by_role("button", name="Add filter Client: API client").click)
    assert reader.query["client_class"] == ["api_client"]
    reader.page.locator("#requests tbody td").nth(2).click()
    expect(facts).to_be_visible()
    reader.page.locator("#requests tbody td").nth(2).click()
    expect(facts).to_have_count(0)


def test_what_the_list_does_not_hold_of_a_row_fails_alone_and_is_asked_for_again(
    reader: Reader, api: FakeApi
) -> None:
    api.failing = {"token-usages/row"}
    reader.open(query="?tz=UTC")
    reader.page.locator("#tokens .open").first.click()
    opened = reader.page.locator("#tokens .details")
    expect(opened.locator(".fault")).to_contain_text("The store does not answer")
    expect(opened.locator(".facts")).to_contain_text("large-1")
    api.failing = set()
    opened.get_by_role("button", name="Retry").click()
    expect(opened.locator(".facts")).to_contain_text("Cached, of the input")
    expect(opened.locator(".facts .skeleton")).to_have_count(0)
    said = opened.locator(".facts div").evaluate_all(
        "all => Object.fromEntries(all.map(row => [...row.children].map(e => e.innerText)))"
    )
    assert said["Cached, of the input"] == "700"
    assert said["Reasoning, of the output"] == "Not said"
    assert said["Kafka record"] == "token_usages, partition 3, offset 12,345"
    expect(opened.locator(".fault")).to_have_count(0)
    reader.complaints.clear()  # the browser itself reports the 503


def test_the_rows_of_a_table_can_be_skipped_by_keyboard(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    reader.page.get_by_role("button", name="Export Requests").focus()
    reader.page.keyboard.press("Tab")
    skip = reader.page.locator("#requests").get_by_role("button", name="Skip the rows")
    expect(skip).to_be_focused()
    skip.click(trial=True)  # it is seen, and above all else
    reader.page.keyboard.press("Enter")
    following = reader.page.locator("#requests .pager").get_by_role("button", name="Next")
    expect(following).to_be_focused()


def test_rows_that_arrive_are_offered_and_move_nothing(reader: Reader, api: FakeApi) -> None:
    reader.page.clock.install(time=NOW + timedelta(minutes=1))
    reader.open(query="?tz=UTC")
    before = reader.rows("requests")
    api.request_rows = [request_row(n, event_id=f"new-{n}") for n in range(-12, 0)] + api.request_rows
    reader.page.clock.run_for(16_000)
    offer = reader.page.locator("#requests .arrived")
    expect(offer).to_have_text("12 new rows")
    assert reader.rows("requests") == before
    expect(reader.page.locator("#tokens .arrived")).to_be_hidden()
    offer.click()
    expect(reader.page.locator("#requests tbody tr").first).to_have_attribute("data-event-id", "new--12")
    expect(offer).to_be_hidden()


def test_nothing_is_looked_for_in_a_range_that_is_over(reader: Reader, api: FakeApi) -> None:
    reader.page.clock.install(time=NOW + timedelta(minutes=1))
    reader.open(query="?range=yesterday&tz=UTC")
    asked = len(api.asked)
    reader.page.clock.run_for(40_000)
    assert len(api.asked) == asked


# --- how fresh


def test_what_lags_is_amber_with_its_reason(reader: Reader, api: FakeApi) -> None:
    note = reader.page.locator("#freshness")
    reader.open(query="?tz=UTC")
    quiet = note.evaluate("note => getComputedStyle(note).color")
    expect(note).to_have_text(f"up to {NOW - timedelta(seconds=2):%H:%M:%S}, 2 s behind")
    api.freshness = {
        "data_as_of": text(NOW - timedelta(minutes=7)),
        "consumer_lag_records": 1234,
        "late_events_24h": 2,
        "dead_letters_24h": 1,
    }
    reader.page.get_by_role("button", name="Refresh").click()
    expect(note).to_contain_text("7 min behind, 1,234 events waiting, 1 event rejected in 24 h (all bots)")
    assert note.evaluate("note => getComputedStyle(note).color") != quiet
    reader.page.get_by_role("button", name="More about how fresh").focus()
    reader.page.keyboard.press("Enter")
    more = reader.page.get_by_role("dialog", name="How fresh this is")
    as_of = api.freshness["data_as_of"].replace("T", " ")
    expect(more).to_be_focused()
    expect(more.locator("p")).to_have_text(
        [
            f"Every event that reached Kafka before {as_of} is in these numbers.",
            "In the last 24 h 2 events of all bots came late, and are counted where they belong.",
            "In the last 24 h 1 event of all bots was rejected. “footfall dead-letters list” says which, and why.",
        ]
    )
    reader.page.keyboard.press("Escape")
    api.freshness = {"data_as_of": None}
    reader.page.get_by_role("button", name="Refresh").click()
    expect(note).to_have_text("nothing said yet: is a worker running?")
    api.freshness |= {"consumer_lag_records": 1234}
    reader.page.get_by_role("button", name="Refresh").click()
    expect(note).to_have_text("counting, 1,234 events waiting")


# --- while what is there is not counted yet

COUNTING = {"data_as_of": None, "consumer_lag_records": 9000}


def test_the_page_follows_by_itself_until_all_is_counted(reader: Reader, api: FakeApi) -> None:
    reader.page.clock.install(time=NOW)
    api.requests, api.freshness = [0] * 41 + [2], COUNTING
    reader.open(query="?tz=UTC")
    assert reader.cards()["total_requests"] == "2"
    api.requests, api.freshness = [100] * 42, {}
    reader.page.clock.run_for(2_100)
    expect(reader.card("total_requests")).to_have_attribute("data-value", "4200")
    expect(reader.page.locator("#freshness")).to_contain_text("2 s behind")
    reader.settle()
    asked = len(api.asked)
    reader.page.clock.run_for(10_000)
    assert len(api.asked) == asked


def test_the_page_does_not_follow_while_a_reader_has_a_row_open(reader: Reader, api: FakeApi) -> None:
    reader.page.clock.install(time=NOW)
    api.freshness = COUNTING
    reader.open(query="?tz=UTC")
    reader.page.locator("#requests .open").first.click()
    expect(reader.page.locator("#requests .details .facts")).to_contain_text("Geo database")
    asked = len(api.asked)
    reader.page.clock.run_for(10_000)
    assert len(api.asked) == asked
    reader.page.locator("#requests .open").first.click()
    with reader.page.expect_request("**/summary?*"):
        reader.page.clock.run_for(10_000)


def test_a_front_page_without_bots_lists_them_once_there_are_several(reader: Reader, api: FakeApi) -> None:
    reader.page.clock.install(time=NOW)
    api.bots = {}
    reader.page.goto(f"{reader.site.url}/")
    expect(reader.page.get_by_role("heading", name="No bot yet")).to_be_visible()
    api.bots = {"a": 1, "b": 2}
    reader.page.clock.run_for(2_100)
    expect(reader.page.locator("#welcome tbody tr")).to_have_count(2)


def test_no_range_is_called_empty_that_holds_the_last_request(reader: Reader, api: FakeApi) -> None:
    api.requests, api.summary = [0] * 42, {"last_request": None}
    api.request_rows = [request_row(5)]
    reader.open(query="?tz=UTC")
    notice = reader.page.locator("#strip")
    expect(notice).to_contain_text("The first requests of this range are being counted")
    expect(notice).not_to_contain_text("No requests")
    api.requests, api.summary = [0] * 41 + [1], {}
    expect(reader.card("total_requests")).to_have_attribute("data-value", "1")


def test_the_bots_are_listed_by_requests_with_their_sum_and_followed_while_they_are_counted(
    reader: Reader, api: FakeApi
) -> None:
    reader.page.clock.install(time=NOW)
    api.bots, api.freshness = {"a": 0, "b": 0, "c": 3}, COUNTING
    reader.page.goto(f"{reader.site.url}/?tz=Asia/Tokyo")
    rows = reader.page.locator("#welcome tr")
    expect(rows).to_have_count(5)
    expect(reader.page.locator("#welcome .hint")).to_have_text(
        "Times in Asia/Tokyo, counting, 9,000 events waiting"
    )
    expect(reader.page.locator("#welcome .note")).to_have_text(
        "It is not known yet how far these numbers reach."
    )
    reader.page.get_by_role("link", name="c").focus()
    api.bots, api.freshness = {"a": 10, "b": 3000, "c": 500}, {}
    reader.page.clock.run_for(2_100)
    expect(rows).to_have_text(
        [re.compile(f"^{start}") for start in ("Bot", "b3,000", "c500", "a10", "3 bots3,510")]
    )
    expect(reader.page.get_by_role("link", name="c")).to_be_focused()
    asked = len(api.asked)
    reader.page.clock.run_for(10_000)
    assert len(api.asked) == asked


def test_the_list_of_bots_has_its_place_before_it_comes_and_fits_on_a_phone(
    reader: Reader, api: FakeApi
) -> None:
    api.bots = {LONG: 5_123_456, "b" * 128: 1, "c": 2}
    held: list[Route] = []
    reader.page.route("**/api/v1/bots?*", lambda route: held.append(route))
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.page.goto(f"{reader.site.url}/?tz=UTC")
    welcome = reader.page.locator("#welcome")
    expect(welcome.locator("tbody .skeleton").first).to_be_visible()
    expect(welcome).to_have_attribute("aria-busy", "true")
    held[0].fallback()
    expect(welcome.locator("td.number").first).to_have_text("5,123,456")
    expect(welcome.locator(".skeleton")).to_have_count(0)
    expect(welcome).to_have_attribute("aria-busy", "false")
    assert welcome.locator(".scroller").evaluate("box => box.scrollWidth === box.clientWidth")


def test_numbers_that_were_asked_for_long_ago_say_so(reader: Reader, api: FakeApi) -> None:
    reader.page.clock.install(time=NOW)
    reader.open(query="?tz=UTC")
    note = reader.page.locator("#freshness")
    expect(note).not_to_contain_text("asked")
    reader.page.clock.run_for(5 * 60_000)
    expect(note).to_contain_text("2 s behind, asked 5 min ago")
    reader.page.get_by_role("button", name="Refresh").click()
    expect(note).not_to_contain_text("asked")


# --- how it looks


def test_the_theme_is_switched_and_remembered(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = reader.page.evaluate(ground)
    switch = reader.page.locator("#theme")
    expect(switch).to_have_attribute("aria-label", "Theme: Auto")
    switch.click()
    switch.click()
    expect(switch).to_have_attribute("aria-label", "Theme: Dark")
    assert reader.page.evaluate(ground) != light
    reader.page.reload()
    reader.settle()
    expect(switch).to_have_attribute("aria-label", "Theme: Dark")
    assert reader.page.evaluate(ground) != light


def test_nothing_moves_for_those_who_ask_for_that(reader: Reader, api: FakeApi) -> None:
    reader.page.emulate_media(reduced_motion="reduce")
    reader.open(query="?tz=UTC")
    longest = reader.page.evaluate(
        """() => Math.max(...[...document.querySelectorAll("*")].map((element) => {
          const style = getComputedStyle(element);
          return parseFloat(style.transitionDuration) + parseFloat(style.animationDuration);
        }))"""
    )
    assert longest == 0


def test_the_longest_names_and_numbers_fit_on_a_phone(reader: Reader) -> None:
    busy().install(reader.page)
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.open(query="?tz=UTC&requests.country=GS")
    assert reader.page.evaluate("document.documentElement.scrollWidth") == 390
    cut = reader.page.evaluate(
        """[...document.querySelectorAll(".card-value, .card-small")]
             .filter((text) => text.scrollWidth > text.clientWidth + 1).map((text) => text.textContent)"""
    )
    assert cut == []


def test_all_columns_of_token_usages_fit_on_a_phone(reader: Reader, api: FakeApi) -> None:
    api.token_rows = [token_row(n, source="ticket_summary", input_tokens=12_345) for n in range(60)]
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.open(query="?tz=UTC")
    scroller = reader.page.locator("#tokens .scroller")
    assert scroller.evaluate("box => box.scrollWidth === box.clientWidth")
    scroller.locator(".open").first.click()
    assert scroller.evaluate("box => box.scrollWidth === box.clientWidth")
    note = reader.page.locator("#strip")
    assert note.evaluate("strip => strip.clientHeight") < 60


def test_what_to_do_about_an_empty_range_stands_off_its_border(reader: Reader, api: FakeApi) -> None:
    api.requests, api.request_rows = [0] * 42, []
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.open(query="?tz=UTC&country=DE")
    strip = reader.page.locator("#strip").bounding_box()
    button = reader.page.get_by_role("button", name="Remove the filters").bounding_box()
    assert strip
    assert button
    assert button["x"] - strip["x"] >= 8
    assert strip["y"] + strip["height"] - button["y"] - button["height"] >= 4


def test_copied_cells_say_nothing_that_is_not_seen(reader: Reader, api: FakeApi) -> None:
    api.request_rows = [request_row(0, city=None)]
    reader.open(query="?tz=UTC")
    row = reader.page.locator("#requests tbody tr")
    copied = row.evaluate("row => (getSelection().selectAllChildren(row), getSelection().toString())")
    assert "–" in copied
    assert "Unknown" not in copied


def test_an_opened_row_is_read_on_a_phone_without_scrolling_sideways(reader: Reader, api: FakeApi) -> None:
    api.request_rows = [request_row(0, page_url=f"https://x.example/{'p' * 900}", region="W" * 60)]
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.open(query="?tz=UTC")
    scroller = reader.page.locator("#requests .scroller")
    assert scroller.evaluate("box => box.scrollWidth - box.clientWidth") > 100, "the columns do not fit"
    reader.page.locator("#requests .open").click()
    facts = reader.page.locator("#requests .facts")
    expect(facts).to_contain_text("User agent")
    for left in (0, 100):
        scroller.evaluate("(box, left) => box.scrollLeft = left", left)
        room, taken = scroller.bounding_box(), facts.bounding_box()
        assert room
        assert taken
        assert room["x"] <= taken["x"]
        assert taken["x"] + taken["width"] <= room["x"] + room["width"]
    assert facts.evaluate("facts => facts.scrollWidth === facts.clientWidth")


def test_a_menu_of_a_panel_ends_where_the_panel_ends(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    reader.page.locator("[popovertarget=requests-export]").click()
    right = "element => element.getBoundingClientRect().right"
    menu, panel = reader.page.locator("#requests-export"), reader.page.locator("#requests")
    assert menu.evaluate(right) <= panel.evaluate(right)


def test_print_leaves_out_what_cannot_be_pressed_and_shows_every_row(reader: Reader) -> None:
    spiky().install(reader.page)
    reader.open(query="?tz=UTC&country=US&browser=Firefox&requests.endpoint=widget&requests.country=US")
    own = reader.page.locator("#requests .on-paper")
    expect(own).to_be_hidden()
    reader.page.emulate_media(media="print", color_scheme="dark")
    for control in (
        "#refresh",
        "#range-button",
        "#theme",
        "#filter-button",
        "#chips .quiet",
        "#requests .filters",
        "#requests .pager button >> nth=0",
    ):
        expect(reader.page.locator(control)).to_be_hidden()
    for part in ("#bot-name", "#span", "#chips", "#strip", "#cards", "#series", "#countries"):
        expect(reader.page.locator(part)).to_be_visible()
    expect(reader.page.locator("#requests .pager")).to_have_text(re.compile("^Rows 1–50"))
    expect(own.locator(".chip")).to_have_text(["Endpoint: widget", "Country: United States"])
    start, end = (reader.ends()[name].replace("T", " ") for name in ("from", "to"))
    expect(reader.page.locator("#instants")).to_have_text(
        f"From {start}, up to but not including {end}. Time zone: UTC"
    )
    reader.page.set_viewport_size({"width": 700, "height": 1000})
    chips = [chip.bounding_box() for chip in reader.page.locator("#chips .chip").all()]
    assert len({chip and chip["y"] for chip in chips}) == 1, "they stand in a row"
    for chart in reader.page.locator(".plot").all():  # they were drawn for the screen
        drawn = chart.evaluate("plot => plot.querySelector('svg').getBoundingClientRect().width")
        assert drawn == pytest.approx(chart.evaluate("plot => plot.clientWidth"), abs=1)
        assert drawn < 350, "the two stand side by side"
        start = chart.evaluate("plot => plot.getBoundingClientRect().x")
        for labels in (".grid text", ".tick text"):
            boxes = [box for box in map(Locator.bounding_box, chart.locator(labels).all()) if box]
            assert all(box["x"] >= start for box in boxes), "no figure of a number is cut"
            if labels == ".tick text":
                assert all(a["x"] + a["width"] < b["x"] for a, b in itertools.pairwise(boxes))
    assert reader.page.locator("#strip details").evaluate("it => !it.open")
    expect(reader.page.locator("#strip summary")).to_have_text("2 things stand out", use_inner_text=True)
    for advice in ("Look at that time by endpoint", "Check that this is how the bot is meant"):
        expect(reader.page.locator("#strip li", has_text=advice)).to_be_visible()
    scroller = reader.page.locator("#requests .scroller")
    assert scroller.evaluate("box => box.scrollHeight === box.clientHeight")
    assert reader.page.evaluate("getComputedStyle(document.body).color").startswith("rgb(21, 25, 30")


def test_charts_are_drawn_anew_for_paper(reader: Reader, api: FakeApi) -> None:
    reader.page.set_viewport_size({"width": 1440, "height": 900})
    reader.open(query="?tz=UTC")
    plot = reader.page.locator("#token-series .plot")
    width = "plot => plot.querySelector('svg').viewBox.baseVal.width"
    screen = plot.evaluate(width)
    assert screen > 500
    plot.evaluate(f"plot => addEventListener('beforeprint', () => window.printed = ({width})(plot))")
    reader.page.pdf()
    assert reader.page.evaluate("printed") == 400, "of which A4 is not much less"
    assert plot.evaluate(width) == screen


def test_the_keyboard_reaches_everything_in_the_order_of_reading(reader: Reader, api: FakeApi) -> None:
    reader.open(query="?tz=UTC")
    order = []
    for _ in range(28):
        reader.page.keyboard.press("Tab")
        order.append(
            reader.page.evaluate(
                """() => {
                  const {activeElement: at} = document;
                  const style = getComputedStyle(at);
                  const isSeen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                  if (!isSeen) return `no focus shown: ${at.outerHTML}`;
                  const {card, value} = at.dataset;
                  return at.id || card || value || at.getAttribute("aria-label") || at.textContent;
                }"""
            )
        )
    assert order[:9] == [
        "Skip to the numbers",
        "Footfall, all bots",
        "bot-button",
        "range-button",
        "zone-button",
        "refresh",
        "theme",
        "filter-button",
        "freshness-button",
    ]
    assert order[9:21] == [
        "total_requests",
        "unique_ips",
        "unique_conversations",
        "last_request",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "positive_feedbacks",
        "negative_feedbacks",
        "Chart of",
        "Requests over time, bar by bar",
        "Tokens over time, bar by bar",
    ]
    assert order[21:23] == ["widget", "api"]
