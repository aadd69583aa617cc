"""The page, in a real browser, against the real API: it shows what the API says, and does what it promises."""

from __future__ import annotations

import csv
import itertools
import json
import re
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from random import Random, SystemRandom
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo, available_timezones

import pytest
from playwright.sync_api import Browser, Download, Route, expect

from tests.browser.reader import ZONE, Reader
from tests.browser.site import BUSY, QUIET, SOURCES, Site

pytestmark = pytest.mark.browser


def ids(answer: Any) -> list[str]:
    return [row["event_id"] for row in answer["rows"]]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


OF_REQUESTS = ["endpoint", "country", "region", "city", "browser", "client_class", "ip"]
OF_TOKENS = ["source", "model"]
"""What the page can be filtered by."""
OWN = ["endpoint", "country", "ip"]
"""What the table of requests can be filtered by for itself."""

CARDS = [
    "total_requests",
    "unique_ips",
    "unique_conversations",
    "last_request",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "positive_feedbacks",
    "negative_feedbacks",
]


def test_the_nine_cards_say_exactly_what_the_summary_says(reader: Reader) -> None:
    reader.open()
    summary = reader.api("summary")
    assert summary["total_requests"] > 0
    assert summary["negative_feedbacks"] > 0
    assert reader.cards() == {name: str(summary[name]) for name in CARDS}
    assert list(reader.cards()) == CARDS


def test_a_big_number_is_short_on_the_card_and_exact_on_focus(reader: Reader) -> None:
    reader.open()
    total = reader.api("summary")["total_tokens"]
    assert total >= 10_000
    card = reader.card("total_tokens")
    assert re.fullmatch(r"[\d.]+[kM]", card.locator(".card-value").inner_text())
    card.focus()
    expect(reader.page.locator("#tip")).to_have_text(f"Total Tokens: {total:,}")
    expect(card).to_have_attribute("aria-label", f"Total Tokens: {total:,}")


def test_what_is_not_exact_says_so_and_no_sum_is_rounded(reader: Reader) -> None:
    def estimate(route: Route) -> None:
        answer = route.fetch().json()
        answer["data"]["exact"]["unique_ips"] = False
        answer["data"]["total_tokens"] = 2**53 + 1
        route.fulfill(json=answer)

    reader.page.route("**/summary?*", estimate)
    reader.open()
    expect(reader.card("unique_ips").locator(".card-value")).to_have_text(re.compile("≈ \\d+"))
    expect(reader.card("unique_conversations").locator(".card-value")).to_have_text(re.compile("^\\d+$"))
    assert reader.cards()["total_tokens"] == str(2**53 + 1)


def test_the_page_says_how_fresh_it_is(reader: Reader) -> None:
    reader.open()
    note = reader.page.locator("#freshness")
    expect(note).to_have_text(re.compile(r"^up to \d\d:\d\d:\d\d, \d+ (s|min) behind"))
    as_of = reader.site.get(f"/bots/{BUSY}/summary", {"tz": ZONE})["freshness"]["data_as_of"]
    expect(note).to_contain_text(as_of[11:19])


def test_the_bars_are_the_buckets_of_the_api_and_sum_to_total_requests(reader: Reader) -> None:
    reader.open()
    series = reader.api("requests/timeseries")
    bars = reader.page.locator("#series rect.count").evaluate_all(
        "all => all.map(bar => ({start: bar.dataset.start, requests: Number(bar.dataset.value)}))"
    )
    # The first bar is read from where the range begins.
    assert [bar["requests"] for bar in bars] == [bucket["requests"] for bucket in series["buckets"]]
    assert [bar["start"] for bar in bars[1:]] == [bucket["start"] for bucket in series["buckets"][1:]]
    assert 0 in {bar["requests"] for bar in bars}
    assert sum(bar["requests"] for bar in bars) == int(reader.cards()["total_requests"] or 0)
    expect(reader.page.locator("#interval")).to_have_text("Interval: 4h")


@pytest.mark.parametrize(("panel", "by"), [("endpoints", "endpoint"), ("countries", "country")])
def test_a_ranking_says_what_the_api_says_with_other_and_unknown(reader: Reader, panel: str, by: str) -> None:
    reader.open()
    shown = reader.page.locator(f"#{panel} .rank").evaluate_all(
        "all => all.map(({dataset: d}) => [d.kind, d.value || null, Number(d.amount), Number(d.share)])"
    )
    said = reader.api("requests/top", by=by, limit=8)
    assert shown == [[row["kind"], row["value"], row["requests"], row["share"]] for row in said]
    assert ("other" if by == "endpoint" else "unknown") in {row["kind"] for row in said}
    assert sum(row[3] for row in shown) == pytest.approx(1)


def test_tokens_by_source_are_what_the_api_says_and_filter_the_page(reader: Reader) -> None:
    reader.open(query="?top=source")
    said = reader.api("token-usages/top", by="source")
    shown = reader.page.locator("#ranked .rank").evaluate_all(
        "all => all.map(({dataset: d}) => [d.value, Number(d.amount), Number(d.share)])"
    )
    assert shown == [[row["value"], row["input_tokens"] + row["output_tokens"], row["share"]] for row in said]
    reader.doing(reader.page.locator("#ranked [data-value=fs_chat]").click)
    assert reader.query["source"] == ["fs_chat"]
    assert reader.cards()["total_tokens"] == str({value: tokens for value, tokens, _ in shown}["fs_chat"])


def test_countries_are_spelled_out(reader: Reader) -> None:
    reader.open()
    expect(reader.page.locator("#countries [data-value=DE] .rank-name")).to_have_text("Germany")


def test_every_panel_asks_for_the_same_ends(reader: Reader) -> None:
    reader.open()
    asked = [parse_qs(urlsplit(r.url).query) for r in reader.asked if f"/api/v1/bots/{BUSY}/" in r.url]
    resolving = [query for query in asked if "range" in query]
    ends = {(query["from"][0], query["to"][0], query["tz"][0]) for query in asked if "from" in query}
    assert len(resolving) == 1
    assert len(ends) == 1
    assert len(asked) == 9


def test_a_click_on_a_country_filters_the_whole_page_and_a_second_one_undoes_it(reader: Reader) -> None:
    reader.open()
    everything = reader.cards()
    germany = reader.page.locator("#countries [data-value=DE]")
    reader.doing(germany.click)
    assert reader.query["country"] == ["DE"]
    assert reader.cards() == {name: str(reader.api("summary", country="DE")[name]) for name in CARDS}
    assert reader.cards()["total_requests"] != everything["total_requests"]
    assert reader.rows("requests") == ids(reader.api("requests", country="DE"))
    expect(reader.card("input_tokens")).to_contain_text("not filtered")
    for untouched in ("#tokens .panel-head", "#token-series .panel-head"):
        expect(reader.page.locator(untouched)).to_contain_text("not filtered by Country")
    expect(reader.page.get_by_role("button", name="Remove filter Country: Germany")).to_be_visible()
    expect(germany).to_be_focused()
    reader.doing(germany.click)
    assert "country" not in reader.query
    assert reader.cards() == everything
    expect(reader.page.locator("#token-series .panel-head")).not_to_contain_text("not filtered")


def agree(reader: Reader) -> None:
    """Cards, charts, rankings and tables all say what was put in and matches the address."""
    requests, usages = (reader.matching(events) for events in (reader.site.requests, reader.site.tokens))
    given, made = (sum(usage[f"{part}_tokens"] for usage in usages) for part in ("input", "output"))
    numbers = {
        "total_requests": len(requests),
        "unique_ips": len({request["ip"] for request in requests} - {""}),
        "unique_conversations": len({request["chat_id"] for request in requests}),
        "input_tokens": given,
        "output_tokens": made,
        "total_tokens": given + made,
    }
    cards = reader.cards()
    assert {name: cards[name] for name in numbers} == {name: str(n) for name, n in numbers.items()}
    sums = reader.page.evaluate(
        """() => {
          const sum = (selector, of) =>
            [...document.querySelectorAll(selector)].reduce((all, {dataset}) => all + Number(dataset[of]), 0);
          const rankings = ["#endpoints", "#countries", "#ranked"].map((id) => sum(`${id} .rank`, "amount"));
          return [sum("#series rect.count", "value"), sum("#token-series rect.count", "value"), ...rankings];
        }"""
    )
    ranked = given + made if {*reader.query.get("top", ())} & {*OF_TOKENS} else len(requests)
    assert sums == [len(requests), given + made, len(requests), len(requests), ranked]
    for table, events in (("requests", reader.site.requests), ("tokens", reader.site.tokens)):
        assert reader.rows(table) == [one["event_id"] for one in reader.matching(events, table)[:50]]


def test_combinations_of_filters_give_the_same_numbers_everywhere_and_add_up(
    reader: Reader, tmp_path: Path
) -> None:
    seed = SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = Random(seed)
    names = [*OF_REQUESTS, *OF_TOKENS]
    chance.shuffle(names)
    reader.open()
    agree(reader)
    requests, usages = (reader.matching(events) for events in (reader.site.requests, reader.site.tokens))
    for *written, clicked in (names[:3], names[3:6], names[6:]):
        # What the address asks for matches two of each, at least, and the first of them what a table asks for itself.
        some = chance.sample(requests, 2), chance.sample(usages, 2)
        filters = [(name, one[name]) for name in written for one in some[name in OF_TOKENS]]
        for table, name in (("requests", chance.choice(OWN)), ("tokens", "source")):
            filters += [(f"{table}.{name}", some[name == "source"][0][name])] * (name != clicked)
        place = {"endpoint": "#endpoints", "country": "#countries"}.get(clicked, "#ranked")
        reader.open(query=f"?{urlencode([('top', clicked), *filters])}")
        if clicked == "ip":
            reader.page.locator("#requests .open").first.click()
            place = "#requests .facts"
        values = reader.page.locator(f"{place} :is(button.rank, [aria-label^='Add filter IP'])")
        reader.doing(values.nth(chance.randrange(values.count())).click)
        agree(reader)
        for table, events in (("requests", reader.site.requests), ("tokens", reader.site.tokens)):
            reader.export(table, "csv").save_as(tmp_path / table)
            rows = read_csv(tmp_path / table)
            matching = reader.matching(events, table)
            assert [row["event_id"] for row in rows] == [one["event_id"] for one in matching]
            reader.page.keyboard.press("Escape")


def test_each_source_has_the_same_tokens_everywhere_and_they_add_up(reader: Reader) -> None:
    reader.open(query="?top=source")
    everything = int(reader.cards()["total_tokens"] or 0)
    reader.doing(reader.page.locator("#ranked [data-value=fs_chat]").click)
    agree(reader)
    one = int(reader.cards()["total_tokens"] or 0)
    others = [("source", source) for source in SOURCES if source != "fs_chat"]
    reader.open(query=f"?{urlencode([('top', 'source'), *others])}")
    agree(reader)
    assert one + int(reader.cards()["total_tokens"] or 0) == everything


def test_uniques_over_time_are_exact_bar_by_bar_and_say_why_they_add_up_to_more(reader: Reader) -> None:
    reader.open()
    reader.doing(lambda: reader.page.locator("#series .measure").select_option("unique_ips"))
    assert reader.query["chart"] == ["unique_ips"]
    expect(reader.page.locator("#series")).to_be_hidden()
    chart = reader.page.locator("#unique-series")
    bars = chart.locator("rect.count")
    shown = bars.evaluate_all("all => all.map(bar => +bar.dataset.value)")
    starts = bars.evaluate_all("all => all.map(bar => Date.parse(bar.dataset.start))")
    came: dict[int, set[str]] = {start: set() for start in starts}
    end = datetime.fromisoformat(reader.ends()["to"]).timestamp() * 1000
    for event in reader.site.requests:
        if starts[0] <= event["event_ms"] < end and event["ip"]:
            came[max(start for start in starts if start <= event["event_ms"])].add(event["ip"])
    assert shown == [len(came[start]) for start in starts]
    assert reader.cards()["unique_ips"] == str(len(set.union(*came.values())))
    assert sum(shown) > len(set.union(*came.values()))
    expect(chart.locator(".side")).to_contain_text(
        f"the bars add up to {sum(shown)}: who comes in several counts in each, and in the card once"
    )
    reader.doing(lambda: chart.locator(".measure").select_option("unique_conversations"))
    expect(chart.get_by_role("heading")).to_have_text("Unique Conversations Over Time")
    said = reader.api("uniques/timeseries")["buckets"]
    shown = bars.evaluate_all("all => all.map(bar => +bar.dataset.value)")
    assert shown == [bucket["unique_conversations"] for bucket in said]
    reader.doing(lambda: chart.locator(".measure").select_option("requests"))
    expect(reader.page.locator("#series rect.count").first).to_be_visible()
    expect(reader.page.locator("#series .measure")).to_be_focused()


def test_tokens_over_time_are_those_of_the_cards_and_of_a_source(reader: Reader) -> None:
    for query in ("", "?source=chat&source=voice"):
        reader.open(query=query)
        series = reader.api("tokens/timeseries", **({"source": ["chat", "voice"]} if query else {}))
        for part in ("input_tokens", "output_tokens"):
            bars = reader.page.locator(f"#token-series rect.{part}").evaluate_all(
                "all => all.map(bar => +bar.dataset.value)"
            )
            assert bars == [bucket[part] for bucket in series["buckets"] if any([*bucket.values()][1:])]
            assert sum(bars) == int(reader.cards()[part] or 0)
            assert sum(bars) > 0
    expect(reader.page.locator("#series .side")).to_have_text(
        re.compile("^not filtered by Source, .* unfinished$")
    )


def test_unknown_is_a_value_one_can_filter_by(reader: Reader) -> None:
    reader.open()
    reader.doing(reader.page.locator("#countries [data-kind=unknown]").click)
    assert reader.query["country"] == [""]
    assert reader.cards()["total_requests"] == str(reader.api("summary", country="")["total_requests"])
    reader.doing(reader.page.get_by_role("button", name="Remove filter Country: Unknown").click)
    assert "country" not in reader.query


@pytest.mark.parametrize(("table", "path"), [("requests", "requests"), ("tokens", "token-usages")])
def test_paging_shows_every_row_once_in_order(reader: Reader, table: str, path: str) -> None:
    reader.open()
    following = reader.page.locator(f"#{table} .pager").get_by_role("button", name="Next")
    seen = reader.rows(table)
    pages = 1
    while following.get_attribute("aria-disabled") == "false":
        before = reader.rows(table)[0]
        following.click()
        expect(reader.page.locator(f"#{table} tbody tr").first).not_to_have_attribute("data-event-id", before)
        seen += reader.rows(table)
        pages += 1
    assert pages > 1
    assert seen == ids(reader.api(path, limit=1000))
    reader.page.locator(f"#{table} .pager").get_by_role("button", name="First").click()
    expect(reader.page.locator(f"#{table} tbody tr").first).to_have_attribute("data-event-id", seen[0])
    expect(reader.page.locator(f"#{table} .pager .note")).to_have_text("Rows 1–50")


def test_filters_of_the_requests_table_narrow_it_and_its_export_alone(reader: Reader, tmp_path: Path) -> None:
    reader.open()
    everything = reader.cards()
    country = reader.page.get_by_label("Filter by Country")
    reader.enter(country, "germany")
    endpoint = reader.page.get_by_label("Filter by Endpoint")
    reader.enter(endpoint, "widget")
    said = reader.api("requests", country="DE", endpoint="widget", limit=1000)
    assert 0 < len(said["rows"]) <= 50
    assert reader.rows("requests") == ids(said)
    assert reader.cards() == everything
    ip = reader.page.get_by_label("Filter by IP")
    reader.enter(ip, said["rows"][0]["ip"])
    narrowest = ids(reader.api("requests", country="DE", endpoint="widget", ip=said["rows"][0]["ip"]))
    assert reader.rows("requests") == narrowest
    assert len(narrowest) < len(said["rows"])
    saved = tmp_path / "requests.csv"
    reader.export("requests", "csv").save_as(saved)
    assert [row["event_id"] for row in read_csv(saved)] == narrowest
    reader.page.keyboard.press("Escape")
    reader.doing(lambda: country.fill(""))
    assert "requests.country" not in reader.query


@pytest.mark.parametrize("language", ["en-GB", "de-DE", "ar"])
def test_each_country_is_found_by_its_name_in_the_readers_language(
    browser: Browser, site: Site, language: str
) -> None:
    lines = files("tzdata").joinpath("zoneinfo", "iso3166.tab").read_text(encoding="utf-8").splitlines()
    codes = [line.split("\t")[0] for line in lines if not line.startswith("#")]
    assert len(codes) > 240
    with browser.new_context(locale=language) as context:
        page = context.new_page()
        page.goto(site.url)
        found = page.evaluate(
            """async (codes) => {
              const {country, countryCode} = await import("/static/format.js");
              return codes.map((code) => [country(code), `${country(code)} (${code})`, code].map(countryCode));
            }""",
            codes,
        )
    assert found == [[code] * 3 for code in codes]


def test_a_table_offers_the_values_that_exist(reader: Reader) -> None:
    reader.open()
    reader.page.get_by_label("Filter by Country").focus()
    offered = reader.page.locator("#requests-country-values option")
    expect(offered.first).to_be_attached()
    values = offered.evaluate_all("all => all.map(option => option.value)")
    assert "Germany (DE)" in values
    assert "Unknown" in values
    assert len(values) == len({row["country"] for row in reader.api("requests", limit=1000)["rows"]})


def test_an_opened_row_says_what_was_sent_and_when_it_came(reader: Reader) -> None:
    reader.open(query="?country=DE")
    number = int(reader.rows("requests")[0].removeprefix("request-"))
    reader.page.locator("#requests .open").first.click()
    facts = reader.page.locator("#requests .facts")
    expect(facts).to_contain_text(f"Agent/{number}")
    expect(facts).to_contain_text("Built on 21 Sep 2026 (UTC)")
    expect(facts).to_contain_text(f"bot_requests, partition 0, offset {number}")
    expect(facts).to_contain_text(re.compile(r"In the store since\s*[-\d]+ [:.\d]+, \d+ \w+ later"))


def test_the_source_filter_gives_the_tokens_of_that_source(reader: Reader) -> None:
    reader.open()
    source = reader.page.get_by_label("Filter by source")
    names = source.locator("option").all_inner_texts()
    assert names[:5] == ["All sources", "Chat", "FS Chat", "Responses", "Ticket Summary"]
    assert "voice" in names
    reader.doing(lambda: source.select_option("fs_chat"))
    said = reader.api("token-usages", source="fs_chat")
    assert 0 < len(said["rows"]) <= 50
    assert reader.rows("tokens") == ids(said)
    totals = reader.page.locator("#tokens tbody td:last-child").all_inner_texts()
    assert (
        sum(int(text.replace(",", "")) for text in totals)
        == reader.api("summary", source="fs_chat")["total_tokens"]
    )


def test_a_page_filter_and_a_table_filter_must_both_hold(reader: Reader) -> None:
    reader.open(query="?country=DE&country=US&requests.country=US")
    assert reader.rows("requests") == ids(reader.api("requests", country="US"))
    reader.open(query="?country=DE&requests.country=US")
    assert reader.rows("requests") == []
    expect(reader.page.locator("#requests tbody")).to_contain_text("No row can match")


def test_a_preset_reaches_every_panel(reader: Reader) -> None:
    reader.open()
    reader.page.locator("#range-button").click()
    offered = reader.page.locator("#presets button").evaluate_all("all => all.map(b => b.dataset.range)")
    assert offered == [
        "1h",
        "24h",
        "7d",
        "30d",
        "90d",
        "12mo",
        "today",
        "yesterday",
        "this_month",
        "last_month",
    ]
    for preset in ("1h", "12mo", "last_month"):
        reader.open(query=f"?range={preset}")
        assert reader.query["range"] == [preset]
        summary = reader.api("summary")
        assert reader.cards() == {
            name: str(summary[name] if summary[name] is not None else "") for name in CARDS
        }
        interval = reader.api("requests/timeseries")["interval"]
        expect(reader.page.locator("#interval")).to_have_text(f"Interval: {interval}")
        assert reader.rows("requests") == ids(reader.api("requests"))


def test_an_address_shows_the_same_again_and_back_undoes(reader: Reader) -> None:
    reader.open()
    assert reader.query == {"range": ["7d"], "tz": [ZONE]}
    expect(reader.page.locator("#range-button")).to_have_text("Last 7 days")
    reader.page.locator("#range-button").click()
    reader.doing(reader.page.get_by_role("button", name="Last 30 days").click)
    reader.page.locator("#zone-button").click()
    reader.page.get_by_role("combobox", name="Time zones").fill("lord howe")
    reader.doing(lambda: reader.page.keyboard.press("Enter"))
    assert reader.query == {"range": ["30d"], "tz": ["Australia/Lord_Howe"]}
    assert reader.ends()["tz"] == "Australia/Lord_Howe"
    reader.page.reload()
    reader.settle()
    expect(reader.page.locator("#range-button")).to_have_text("Last 30 days")
    expect(reader.page.locator("#zone-button")).to_have_text("Australia/Lord Howe")
    assert reader.cards()["total_requests"] == str(reader.api("summary")["total_requests"])
    reader.doing(reader.page.go_back)
    reader.doing(reader.page.go_back)
    assert reader.query == {"range": ["7d"], "tz": [ZONE]}
    expect(reader.page.locator("#range-button")).to_have_text("Last 7 days")
    assert reader.ends()["tz"] == ZONE


def test_a_zone_is_found_by_its_name_of_today_a_former_one_and_its_offset(reader: Reader) -> None:
    reader.open()
    reader.page.locator("#zone-button").click()
    field = reader.page.get_by_role("combobox", name="Time zones")
    found = reader.page.locator("#zone-menu [role=option]").first
    for written, zone, note in [
        ("kathmandu", "Asia/Kathmandu", "UTC+05:45"),
        ("Kolkata", "Asia/Kolkata", "UTC+05:30"),
        ("calcutta", "Asia/Kolkata", "UTC+05:30"),
        ("Europe/Kyiv", "Europe/Kyiv", "UTC+0"),
        ("ho chi minh", "Asia/Ho Chi Minh", "UTC+07:00"),
        ("yangon", "Asia/Yangon", "UTC+06:30"),
        ("US/Eastern", "America/New York", "UTC−0"),
        ("GMT", "UTC", ""),
        ("utc-9:30", "Pacific/Marquesas", "UTC−09:30"),
        ("UTC −9:30", "Pacific/Marquesas", "UTC−09:30"),
        ("+5:4", "Asia/Kathmandu", "UTC+05:45"),
        ("+5:45", "Asia/Kathmandu", "UTC+05:45"),
    ]:
        field.fill(written)
        expect(found.locator(".option-name")).to_have_text(zone)
        expect(found).to_contain_text(note)
    field.fill("+1")
    notes = reader.page.locator("#zone-menu [role=option] .note").all_text_contents()
    assert notes
    assert all("UTC+01:00" in note for note in notes), "and not those of +10 to +14"
    field.fill("+5:45")
    reader.doing(lambda: reader.page.keyboard.press("Enter"))
    assert reader.query["tz"] == ["Asia/Kathmandu"]
    assert reader.ends()["tz"] == "Asia/Kathmandu"


def test_a_zone_has_its_name_of_today_wherever_it_comes_from(
    browser: Browser, site: Site, reader: Reader
) -> None:
    reader.open(query="?tz=Europe/Kiev")
    assert reader.query["tz"] == ["Europe/Kyiv"]
    context = browser.new_context(timezone_id="Asia/Calcutta")
    someone = Reader(context.new_page(), site)
    someone.open()
    expect(someone.page.locator("#zone-button")).to_have_text("Asia/Kolkata")
    assert someone.ends()["tz"] == "Asia/Kolkata"
    context.close()


def test_every_zone_that_the_browser_names_is_one_of_today(reader: Reader) -> None:
    reader.open()
    named = reader.page.evaluate(
        """async () => {
          const page = document.querySelector('script[type=module]').src;
          const {zones} = await import(new URL("zones.js", page));
          return zones("", "UTC").map(({value}) => value);
        }"""
    )
    table = files("tzdata.zoneinfo").joinpath("zone.tab").read_text().splitlines()
    current = {line.split("\t")[2] for line in table if not line.startswith("#")}
    assert len(current & {*named}) > 400
    assert {*named} & (available_timezones() - current) == {"UTC"}


CHANGEABLE = [
    *("Africa/Cairo", "Africa/Casablanca", "Africa/Windhoek", "America/Caracas", "America/Havana"),
    *("America/New_York", "America/Santiago", "America/Sao_Paulo", "America/St_Johns", "Antarctica/Troll"),
    *("Asia/Amman", "Asia/Beirut", "Asia/Kathmandu", "Asia/Pyongyang", "Asia/Tehran", "Atlantic/Azores"),
    *("Australia/Lord_Howe", "Europe/Berlin", "Europe/Dublin", "Europe/Istanbul", "Europe/London"),
    *("Europe/Moscow", "Pacific/Apia", "Pacific/Chatham", "Pacific/Easter", "Pacific/Fakaofo", ZONE),
]
"""Clocks that have changed at any hour, by half an hour, an hour, two hours or a day, and some that never have."""


def around_changes(zone: str) -> list[datetime]:
    """What a zone's clock shows a minute before each of its changes from 2000 to 2019, and at it.

    The browser has rules of its own. Those of these years have long been settled; either of the two may not have heard
    of later ones, as governments give short notice.
    """
    clock, start = ZoneInfo(zone), datetime(2000, 1, 1, tzinfo=UTC)

    def shown(minute: int) -> datetime:
        return (start + timedelta(minutes=minute)).astimezone(clock)

    def change(first: int, last: int) -> int:
        before = shown(first).utcoffset()
        return bisect_left(
            range(last), True, lo=first, key=lambda minute: shown(minute).utcoffset() != before
        )

    weeks = itertools.pairwise(range(0, 20 * 365 * 1440, 7 * 1440))
    found = [change(*week) for week in weeks if len({shown(minute).utcoffset() for minute in week}) > 1]
    return [shown(minute).replace(tzinfo=None) for change in found for minute in (change - 1, change)]


def meant(wall: datetime, zone: str) -> list[str]:
    """When a zone's clock shows this, in order; where it skips it, what it shows as long after the skip."""
    clock = ZoneInfo(zone)
    moments = [wall.replace(tzinfo=clock, fold=fold).astimezone(UTC).astimezone(clock) for fold in (0, 1)]
    found = [moment for moment in moments if moment.replace(tzinfo=None, fold=0) == wall]
    return list(dict.fromkeys(moment.isoformat(timespec="milliseconds") for moment in found or moments[:1]))


def test_a_time_is_found_in_every_zone_whether_its_clock_shows_it_once_twice_or_never(reader: Reader) -> None:
    seed = SystemRandom().randrange(2**32)
    chance = Random(seed)
    asked = []
    for zone in CHANGEABLE:
        for wall in around_changes(zone):
            near = timedelta(milliseconds=chance.randint(-7_200_000, 7_200_000))
            asked += [(zone, wall + by) for by in (timedelta(0), timedelta(milliseconds=59_999), near)]
        anywhen = datetime(2000, 1, 2, tzinfo=UTC).replace(tzinfo=None)
        asked += [(zone, anywhen + timedelta(minutes=chance.randrange(7_000 * 1440))) for _ in range(20)]
    reader.page.goto(reader.site.url)
    found = reader.page.evaluate(
        """async (asked) => {
          const {momentsAt} = await import("/static/zones.js");
          return asked.map(([zone, wall]) => momentsAt(new Date(`${wall}Z`), zone).map(({text}) => text));
        }""",
        [(zone, wall.isoformat(timespec="milliseconds")) for zone, wall in asked],
    )
    expected = [meant(wall, zone) for zone, wall in asked]
    wrong = [one for one in zip(asked, found, expected, strict=True) if one[1] != one[2]]
    assert wrong == [], f"seed {seed}"
    assert sum(len(moments) == 2 for moments in found) > 1000


def test_a_custom_range_without_times_means_whole_days_of_the_zone(reader: Reader) -> None:
    reader.open()
    today = reader.site.today(ZONE)
    first, last = today.replace(day=1).isoformat(), today.isoformat()
    reader.page.locator("#range-button").click()
    form = reader.page.locator("#custom")
    for field, value in {"from_date": first, "from_time": "", "to_date": last, "to_time": ""}.items():
        form.locator(f"[name={field}]").fill(value)
    reader.doing(form.get_by_role("button", name="Apply").click)
    assert reader.query["from"] == [first]
    assert reader.ends()["from"] == f"{first}T00:00:00.000+08:45"
    assert reader.ends()["to"] > f"{last}T23:59:59"
    assert reader.cards()["total_requests"] == str(reader.api("summary")["total_requests"])
    reader.page.locator("#range-button").click()
    form.locator("[name=from_time]").fill("13:30:00")
    reader.doing(form.get_by_role("button", name="Apply").click)
    assert reader.ends()["from"] == f"{first}T13:30:00.000+08:45"


def test_the_range_has_one_name_in_whatever_zone_its_ends_were_written(reader: Reader) -> None:
    reader.open(query="?from=2026-11-20T00:00:00Z&to=2026-11-20T00:00:01Z&tz=America/New_York")
    expect(reader.page.locator("#range-button")).to_have_text("Thu 19 Nov, 19:00 – 19:00:01")
    expect(reader.page).to_have_title(f"{BUSY} – Thu 19 Nov, 19:00 – 19:00:01 – Footfall")
    expect(reader.page.locator("#span")).to_have_text("Thu 19 Nov 2026, 19:00 – 19:00:01 (UTC−05:00)")
    reader.page.locator("#zone-button").click()
    reader.page.get_by_role("combobox", name="Time zones").fill("utc")
    reader.doing(lambda: reader.page.keyboard.press("Enter"))
    expect(reader.page.locator("#range-button")).to_have_text("Fri 20 Nov, 00:00 – 00:00:01")
    expect(reader.page).to_have_title(f"{BUSY} – Fri 20 Nov, 00:00 – 00:00:01 – Footfall")
    expect(reader.page.locator("#span")).to_have_text("Fri 20 Nov 2026, 00:00 – 00:00:01 (UTC)")


def test_a_custom_range_can_name_times_that_come_twice_and_says_what_a_skipped_one_means(
    reader: Reader,
) -> None:
    ends = {"from": "2026-11-01T01:00:00.250-04:00", "to": "2026-11-01T01:00:00-05:00"}
    reader.open(query=f"?{urlencode(ends)}&tz=America/New_York")
    expect(reader.page.locator("#range-button")).to_have_text(
        "Sun 1 Nov, 01:00 (UTC−04:00) – 01:00 (UTC−05:00)"
    )
    form = reader.page.locator("#custom")
    fields = {
        name: form.locator(f"[name={name}]") for name in ("from_date", "from_time", "to_date", "to_time")
    }
    which = form.get_by_label("From: which of the two times")
    button = form.get_by_role("button", name="Apply")
    reader.page.locator("#range-button").click()
    expect(which).to_have_value("-04:00")
    expect(form.get_by_label("To: which of the two times")).to_have_value("-05:00")
    button.click()  # as it is
    expect(form).to_be_hidden()
    assert {name: reader.query[name][0] for name in ends} == ends
    reader.page.locator("#range-button").click()
    which.select_option("Second, UTC−05:00")
    button.click()
    expect(form).to_contain_text("The end must be after the beginning.")
    fields["to_time"].fill("01:30:00")
    reader.doing(button.click)
    assert reader.ends()["from"] == "2026-11-01T01:00:00.000-05:00"
    assert reader.ends()["to"] == "2026-11-01T01:30:00.000-05:00"
    reader.page.locator("#range-button").click()
    fields["from_date"].fill("2026-03-08")
    fields["from_time"].fill("02:30:00")
    expect(which).to_be_hidden()
    expect(form).to_contain_text("The clocks skip this time: 03:30 is meant.")
    reader.doing(button.click)
    assert reader.ends()["from"] == "2026-03-08T03:30:00.000-04:00"
    reader.page.locator("#range-button").click()
    fields["from_date"].fill("2199-01-01")
    fields["to_date"].fill("")
    button.click()
    expect(form).to_contain_text("A range up to now cannot begin in the future.")


def test_times_are_in_the_chosen_zone_with_the_exact_instant_at_hand(reader: Reader) -> None:
    reader.open(query="?tz=America/St_Johns")
    said = reader.api("requests")["rows"][0]["time"]
    assert said.endswith(("-03:30", "-02:30"))
    cell = reader.page.locator("#requests tbody time").first
    expect(cell).to_have_text(said[:19].replace("T", " "))
    expect(cell).to_have_attribute("datetime", said)
    expect(cell).to_have_attribute("title", said.replace("T", " "))


@pytest.mark.parametrize(("table", "path"), [("requests", "requests"), ("tokens", "token-usages")])
def test_an_export_holds_every_row_that_was_announced(
    reader: Reader, tmp_path: Path, table: str, path: str
) -> None:
    reader.open()
    said = ids(reader.api(path, limit=1000))
    assert len(said) > 50
    announced = reader.site.row_count(f"/bots/{BUSY}/{path}/export", {**reader.ends(), "format": "csv"})
    assert announced == len(said)
    menu = reader.page.locator(f"#{table}-export [role=status]")
    reader.page.locator(f"[popovertarget={table}-export]").click()
    expect(menu).to_contain_text(f"{announced} rows")
    reader.page.keyboard.press("Escape")
    as_csv, as_json = tmp_path / "rows.csv", tmp_path / "rows.json"
    reader.export(table, "csv").save_as(as_csv)
    expect(menu).to_contain_text(f"Complete: {announced} rows")
    reader.page.keyboard.press("Escape")
    reader.export(table, "json").save_as(as_json)
    assert [row["event_id"] for row in read_csv(as_csv)] == said
    document = json.loads(as_json.read_text("utf-8"))
    assert ids(document) == said
    assert document["row_count"] == announced


@pytest.mark.parametrize(
    ("kind", "whole"), [("csv", b"event_id\r\na\r\n"), ("json", b'{"rows": [{"event_id": "a"}]')]
)
def test_half_an_export_is_not_saved(reader: Reader, kind: str, whole: bytes) -> None:
    reader.open()
    headers = {"Footfall-Row-Count": "2"}
    reader.page.route("**/export?*", lambda route: route.fulfill(body=whole, headers=headers))
    saved: list[Download] = []
    reader.page.on("download", lambda download: saved.append(download))
    reader.page.locator("[popovertarget=requests-export]").click()
    reader.page.locator(f"#requests-export [data-format={kind}]").click()
    expect(reader.page.locator("#requests-export [role=status]")).to_contain_text("It was not saved")
    assert saved == []


def test_an_export_is_cancelled_by_its_reader(reader: Reader) -> None:
    reader.open()
    held: list[Route] = []
    reader.page.route("**/export?*", lambda route: held.append(route))
    reader.page.locator("[popovertarget=requests-export]").click()
    menu = reader.page.locator("#requests-export")
    menu.locator("[data-format=csv]").click()
    expect(menu.locator("[data-format=json]")).to_be_disabled()
    with reader.page.expect_event("requestfailed", lambda request: "format=csv" in request.url):
        menu.get_by_role("button", name="Cancel").click()
    expect(menu.locator("[role=status]")).to_have_text("Cancelled. Nothing was saved.")
    expect(menu.locator("[data-format=json]")).to_be_enabled()


def test_what_is_too_large_to_gather_is_left_to_the_browsers_own_download(reader: Reader) -> None:
    reader.open()
    headers = {"Footfall-Row-Count": "5000001"}
    reader.page.route("**/export?*", lambda route: route.fulfill(body="time", headers=headers))
    download = reader.export("requests", "csv")
    asked = parse_qs(urlsplit(download.url).query)
    assert {name: asked[name][0] for name in ("from", "to", "tz")} == reader.ends()
    menu = reader.page.locator("#requests-export [role=status]")
    expect(menu).to_contain_text("5,000,001 rows: your browser's downloads show the progress")


def test_a_panel_that_fails_says_so_alone_and_recovers_on_retry(reader: Reader) -> None:
    reader.open()
    everything = reader.cards()

    def refuse(route: Route) -> None:
        problem = {
            "type": "about:blank",
            "status": 503,
            "title": "Unavailable",
            "detail": "The store is away.",
        }
        route.fulfill(status=503, content_type="application/problem+json", body=json.dumps(problem))

    reader.page.route("**/requests/timeseries?*", refuse)
    reader.page.get_by_role("button", name="Refresh").click()
    fault = reader.page.locator("#series .fault")
    expect(fault).to_contain_text("The store is away.")
    reader.settle()
    assert reader.page.locator(".panel .fault").count() == 1
    assert set(reader.cards()) == set(everything)
    reader.page.unroute("**/requests/timeseries?*")
    fault.get_by_role("button", name="Retry").click()
    expect(reader.page.locator("#series rect.count").first).to_be_attached()
    expect(fault).to_have_count(0)
    assert reader.complaints == [text for text in reader.complaints if "503" in text]
    reader.complaints.clear()


def test_refresh_keeps_the_old_numbers_until_the_new_ones_are_there(reader: Reader) -> None:
    reader.open()
    held: list[Route] = []
    reader.page.route("**/summary?*", lambda route: held.append(route))
    before = reader.cards()
    first_ends = reader.ends()
    reader.page.get_by_role("button", name="Refresh").click()
    expect(reader.page.locator("#cards")).to_have_attribute("aria-busy", "true")
    expect(reader.page.locator("#series")).to_have_attribute("aria-busy", "false")
    assert reader.cards() == before
    assert reader.page.locator("#cards .skeleton").count() == 0
    held[0].continue_()
    reader.settle()
    assert reader.ends()["to"] > first_ends["to"]
    assert reader.query["range"] == ["7d"]


def test_what_the_api_can_never_answer_is_said_to_a_person_with_a_way_out(reader: Reader) -> None:
    alert = reader.page.locator("#strip .alert")
    for query, said, way in [
        ("range=fortnight", "There is no range “fortnight”.", "Show the last 7 days"),
        ("from=2026-02-02&to=2026-02-01", "The end of the range must be after its", "Show the last 7 days"),
        ("from=2199-01-01", "A range up to now cannot begin in the future.", "Show the last 7 days"),
        ("to=2026-02-01", "The range has an end, but no beginning.", "Show the last 7 days"),
        ("from=yesterday", "“yesterday” is not a date or a time.", "Show the last 7 days"),
        ("range=24h&tz=Mars/Olympus", "There is no time zone “Mars/Olympus”.", f"Use {ZONE}"),
    ]:
        reader.page.goto(f"{reader.site.url}/bots/{BUSY}/analytics?{query}")
        expect(alert).to_contain_text(said)
        expect(alert.get_by_role("button")).to_have_text(way)
        expect(
            reader.page.locator("#cards")
        ).to_be_hidden()  # blank, it would look like one that is on its way
    reader.doing(alert.get_by_role("button").click)
    expect(alert).to_be_hidden()
    expect(reader.page.locator("#cards")).to_be_visible()
    assert reader.query == {"range": ["24h"], "tz": [ZONE]}
    assert reader.cards()["total_requests"] == str(reader.api("summary")["total_requests"])
    assert reader.complaints == [text for text in reader.complaints if "400" in text]
    reader.complaints.clear()


def test_a_filter_the_api_refuses_can_be_removed_and_is_not_tried_again(reader: Reader) -> None:
    reader.open(query="?ip=garbage&ip=192.0.2.1&requests.ip=rubbish&country=DE&country=DE")
    fault = reader.page.get_by_role("alert").filter(has_text="is not an IP address")
    expect(fault).to_have_text(re.compile("“garbage” is not an IP address. “rubbish” is not an IP address."))
    expect(reader.page.locator(".panel .fault")).to_have_text(["Not shown: the reason is given above."] * 5)
    reader.doing(fault.get_by_role("button", name="Remove these filters").click)
    assert reader.query["ip"] == ["192.0.2.1"]
    assert "requests.ip" not in reader.query
    assert reader.query["country"] == ["DE"]  # once
    expect(reader.page.locator(".fault")).to_have_count(0)
    reader.open(query="?requests.ip=rubbish")
    fault = reader.page.locator("#requests .fault")
    expect(fault).to_have_text(re.compile("“rubbish” is not an IP address."))
    reader.doing(fault.get_by_role("button", name="Remove this filter").click)
    expect(reader.page.locator(".fault")).to_have_count(0)
    field = reader.page.get_by_label("Filter by IP")
    field.fill("999.1.1.1")
    field.press("Enter")
    assert field.evaluate("field => field.validationMessage") == "Not an IP address."
    assert reader.complaints == [text for text in reader.complaints if "400" in text]
    reader.complaints.clear()


def test_an_address_that_can_name_no_bot_says_so_and_leads_to_the_bots(reader: Reader) -> None:
    for name in ("%E0%A4%A", "a%0Ab", "x" * 129):
        reader.page.goto(f"{reader.site.url}/bots/{name}/analytics")
        expect(reader.page.get_by_role("heading", name="This address names no bot")).to_be_visible()
        expect(reader.page.locator("#main")).to_be_hidden()
    reader.page.get_by_role("link", name="All bots", exact=True).click()
    expect(reader.page.get_by_role("link", name=BUSY)).to_be_visible()


def test_an_empty_range_names_the_last_request_and_offers_its_range(reader: Reader) -> None:
    reader.open(QUIET)
    assert reader.cards()["total_requests"] == "0"
    expect(reader.card("last_request")).to_contain_text("never")
    expect(reader.card("positive_feedbacks").locator(".card-value")).to_have_text("0")
    notice = reader.page.locator("#strip")
    expect(notice).to_contain_text("The last one was on")
    reader.doing(notice.get_by_role("button", name="Show the 7 days up to it").click)
    assert reader.cards()["total_requests"] == "3"
    expect(notice).not_to_contain_text("No requests")


def test_a_bot_without_events_gets_the_one_command_and_is_noticed_when_it_arrives(reader: Reader) -> None:
    reader.page.goto(f"{reader.site.url}/bots/newcomer/analytics")
    command = reader.page.locator("#welcome pre")
    expect(command).to_contain_text(f"curl -sS {reader.site.url}/api/v1/events/bot_requests")
    expect(command).to_contain_text('"bot_id":"newcomer"')
    reader.site.add_request("newcomer")
    reader.settle()
    assert reader.cards()["total_requests"] == "1"
    assert reader.complaints == [text for text in reader.complaints if "404" in text]
    reader.complaints.clear()


def test_the_front_page_lists_the_bots(reader: Reader) -> None:
    reader.page.goto(f"{reader.site.url}/")
    reader.page.get_by_role("link", name=BUSY).click()
    reader.settle()
    assert int(reader.cards()["total_requests"] or 0) > 0


def test_the_api_is_read_and_tried_in_swagger_ui(reader: Reader) -> None:
    reader.page.goto(f"{reader.site.url}/api/v1/docs")
    operations = reader.page.locator(".opblock")
    expect(operations.first).to_be_visible()
    described = reader.page.request.get(f"{reader.site.url}/api/v1/openapi.json").json()["paths"]
    assert operations.count() == sum(len(methods) for methods in described.values())
    tokens = operations.filter(has_text="/token-usages/top")
    tokens.locator(".opblock-summary-control").click()
    tokens.get_by_role("button", name="Try it out").click()
    tokens.get_by_placeholder("bot", exact=True).fill(BUSY)
    tokens.get_by_role("button", name="Execute", exact=True).click()
    answered = tokens.locator(".live-responses-table .response")
    expect(answered.locator(".response-col_status")).to_have_text("200")
    expect(answered).to_contain_text('"kind": "value"')


def test_the_bot_switcher_keeps_the_range_and_drops_the_filters(reader: Reader) -> None:
    reader.open(query="?range=12mo&country=DE")
    reader.page.locator("#bot-button").click()
    reader.page.get_by_role("combobox", name="Bots").fill("quiet")
    expect(reader.page.get_by_role("option", name=QUIET)).to_be_visible()
    reader.doing(lambda: reader.page.keyboard.press("Enter"))
    assert urlsplit(reader.page.url).path == f"/bots/{quote(QUIET)}/analytics"
    assert reader.query == {"range": ["12mo"], "tz": [ZONE]}
    assert reader.cards()["total_requests"] == "3"


def test_the_keyboard_reads_bar_by_bar_and_zooms(reader: Reader) -> None:
    reader.open()
    buckets = reader.api("requests/timeseries")["buckets"]
    plot = reader.page.get_by_role("slider", name="Requests over time")
    plot.focus()
    reader.page.keyboard.press("End")
    reader.page.keyboard.press("ArrowLeft")
    bucket = buckets[-2]
    said = f"{bucket['requests']} request{'' if bucket['requests'] == 1 else 's'}"
    assert (plot.get_attribute("aria-valuetext") or "").endswith(f"(UTC+08:45): {said}")
    assert bucket["start"][11:16] in (plot.get_attribute("aria-valuetext") or "")
    expect(reader.page.locator("#tip")).to_contain_text(said)
    reader.doing(lambda: reader.page.keyboard.press("Enter"))
    assert reader.ends() == {"from": bucket["start"], "to": buckets[-1]["start"], "tz": ZONE}
    assert reader.cards()["total_requests"] == str(bucket["requests"])


def test_dragging_over_bars_sets_the_range(reader: Reader) -> None:
    reader.open()
    buckets = reader.api("requests/timeseries")["buckets"]
    bars = reader.page.locator("#series rect.count")
    first, last = bars.nth(10).bounding_box(), bars.nth(19).bounding_box()
    assert first
    assert last
    y = first["y"] - 5
    reader.page.mouse.move(first["x"] + 5, y)
    reader.page.mouse.down()
    reader.page.mouse.move(last["x"] + 5, y, steps=4)
    reader.doing(reader.page.mouse.up)
    assert reader.ends() == {"from": buckets[10]["start"], "to": buckets[20]["start"], "tz": ZONE}
    assert reader.cards()["total_requests"] == str(sum(bucket["requests"] for bucket in buckets[10:20]))


@pytest.mark.parametrize("query", ["", "?range=90d&country=DE&endpoint=widget&requests.ip=1.2.3.4"])
def test_at_390_pixels_only_tables_scroll_sideways(reader: Reader, query: str) -> None:
    reader.page.set_viewport_size({"width": 390, "height": 844})
    reader.open(query=query)
    assert reader.page.evaluate("document.documentElement.scrollWidth") == 390
    for menu in ("bot-menu", "range-menu", "zone-menu", "freshness-menu", "requests-export"):
        reader.page.locator(f"[popovertarget={menu}]").click()
        box = reader.page.locator(f"#{menu}").bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        reader.page.keyboard.press("Escape")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_is_on(reader: Reader, scheme: str) -> None:
    reader.page.add_init_script(f"localStorage.setItem('footfall.theme', '{scheme}')")
    reader.open(query="?country=DE")
    faint = reader.page.evaluate(CONTRAST)
    assert faint == []


# WCAG 2.2 AA for every text on show: 4.5:1, or 3:1 from 24 px or bold 18.66 px on. Disabled controls are exempt.
CONTRAST = """
() => {
  const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return rgba(getComputedStyle(document.documentElement).backgroundColor);
  };
  const linear = (v) => v <= 10.31475 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("[aria-disabled=true], option, .unseen")) continue;
    const style = getComputedStyle(element);
    const ink = rgba(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if ((a + 0.05) / (b + 0.05) < least) faint.push(`${element.className}: ${element.textContent.slice(0, 40)}`);
  }
  return faint;
}
"""
