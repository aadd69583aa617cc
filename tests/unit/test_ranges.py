from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.web import ranges
from pipeline.web.problems import BadParameter
from pipeline.web.ranges import (
    DAY,
    HOUR,
    MINUTE,
    Interval,
    Preset,
    Range,
    bucket_starts,
    changes_of_offset,
    choose_interval,
    first_instant,
    resolve,
    text,
    wall_at,
    zone,
)
from tests import oracle

# Whole hours, halves and quarters, both hemispheres; a half-hour shift; midnights that are skipped or come twice; a
# day that was skipped; a change at one minute past midnight (St. John's, until 2011); no summer time; both date lines.
ZONES = [
    "UTC",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Nuuk",
    "America/Caracas",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
]


def ms(said: str) -> int:
    return round(datetime.fromisoformat(said).timestamp() * 1000)


def range_(start: str | int, end: str | int, tz: str = "UTC") -> Range:
    start, end = (ms(said) if isinstance(said, str) else said for said in (start, end))
    return Range(start_ms=start, end_ms=end, tz=ZoneInfo(tz))


def starts(start: str, end: str, tz: str, interval: Interval) -> list[str]:
    asked = range_(start, end, tz)
    return [text(at, asked.tz) for at in bucket_starts(asked, interval)[1]]


moments = st.integers(ms("2000-01-01T00:00Z"), ms("2037-01-01T00:00Z"))
# Half of all moments lie within two days of a change of some clock, where what can go wrong goes wrong.
CHANGES = [
    since
    for name in ZONES
    for since, _ in list(changes_of_offset(ms("2000-01-01T00:00Z"), ms("2027-01-01T00:00Z"), ZoneInfo(name)))[
        1:
    ]
]
near_changes = st.builds(lambda at, by: at + by, st.sampled_from(CHANGES), st.integers(-2 * DAY, 2 * DAY))


# --- buckets


@given(
    start=moments | near_changes,
    length=st.integers(1, 3 * DAY),
    tz=st.sampled_from(ZONES),
    interval=st.sampled_from(["15m", "1h"]),
)
@example(start=ms("2010-11-07T02:29Z"), length=3 * HOUR, tz="America/St_Johns", interval="1h")
@example(start=ms("2025-04-05T14:45Z"), length=1, tz="Australia/Lord_Howe", interval="1h")
def test_short_buckets_are_those_found_minute_by_minute(
    start: int, length: int, tz: str, interval: Interval
) -> None:
    asked = range_(start, start + length, tz)
    assert bucket_starts(asked, interval)[1] == oracle.bucket_starts(start, start + length, tz, interval)


@given(
    start=moments | near_changes,
    length=st.integers(1, 100 * DAY),
    tz=st.sampled_from(ZONES),
    interval=st.sampled_from(["4h", "1d", "1w", "1mo"]),
)
@example(start=ms("2011-12-30T00:00Z"), length=3 * DAY, tz="Pacific/Apia", interval="1d")
@example(start=ms("2010-11-07T02:45Z"), length=DAY, tz="America/St_Johns", interval="1d")
def test_long_buckets_are_those_found_day_by_day(
    start: int, length: int, tz: str, interval: Interval
) -> None:
    asked = range_(start, start + length, tz)
    assert bucket_starts(asked, interval)[1] == oracle.bucket_starts(start, start + length, tz, interval)


@given(
    start=moments,
    length=st.integers(1, 1500 * DAY),
    tz=st.sampled_from(ZONES),
    interval=st.none() | st.sampled_from(["1d", "1w", "1mo"]),
)
def test_buckets_cover_the_range_and_no_more(
    start: int, length: int, tz: str, interval: Interval | None
) -> None:
    _, found = bucket_starts(range_(start, start + length, tz), interval)
    assert found[0] <= start
    assert found[-1] < start + length
    assert all(earlier < later for earlier, later in pairwise(found))
    assert all(at > start for at in found[1:])


def test_a_repeated_hour_is_two_buckets() -> None:
    assert starts("2025-11-02T00:00-04:00", "2025-11-02T03:00-05:00", "America/New_York", "1h") == [
        "2025-11-02T00:00:00.000-04:00",
        "2025-11-02T01:00:00.000-04:00",
        "2025-11-02T01:00:00.000-05:00",
        "2025-11-02T02:00:00.000-05:00",
    ]


def test_a_skipped_hour_is_no_bucket() -> None:
    assert starts("2025-03-09T01:00-05:00", "2025-03-09T04:00-04:00", "America/New_York", "1h") == [
        "2025-03-09T01:00:00.000-05:00",
        "2025-03-09T03:00:00.000-04:00",
    ]


def test_days_have_23_24_or_25_hours() -> None:
    _, found = bucket_starts(
        range_("2025-03-08T00:00-05:00", "2025-11-04T00:00-05:00", "America/New_York"), "1d"
    )
    lengths = [later - earlier for earlier, later in pairwise(found)]
    assert sorted(set(lengths)) == [23 * HOUR, 24 * HOUR, 25 * HOUR]
    assert lengths.count(23 * HOUR) == lengths.count(25 * HOUR) == 1


def test_a_repeated_half_hour_is_a_bucket_of_its_own() -> None:
    assert starts("2025-04-06T01:00+11:00", "2025-04-06T03:00+10:30", "Australia/Lord_Howe", "1h") == [
        "2025-04-06T01:00:00.000+11:00",
        "2025-04-06T01:30:00.000+10:30",
        "2025-04-06T02:00:00.000+10:30",
    ]


def test_a_day_whose_midnight_is_skipped_starts_when_it_is_skipped() -> None:
    assert starts("2018-11-03T12:00-03:00", "2018-11-05T12:00-02:00", "America/Sao_Paulo", "1d") == [
        "2018-11-03T00:00:00.000-03:00",
        "2018-11-04T01:00:00.000-02:00",
        "2018-11-05T00:00:00.000-02:00",
    ]


def test_four_hours_over_a_repeated_hour_are_five() -> None:
    assert starts("2025-11-02T00:00-04:00", "2025-11-02T05:00-05:00", "America/New_York", "4h") == [
        "2025-11-02T00:00:00.000-04:00",
        "2025-11-02T04:00:00.000-05:00",
    ]


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    assert starts("2026-01-01T00:00Z", "2026-01-13T00:00Z", "UTC", "1w") == [
        "2025-12-29T00:00:00.000+00:00",
        "2026-01-05T00:00:00.000+00:00",
        "2026-01-12T00:00:00.000+00:00",
    ]
    assert starts("2026-01-31T23:59:59.999Z", "2026-03-01T00:00:00.001Z", "UTC", "1mo") == [
        "2026-01-01T00:00:00.000+00:00",
        "2026-02-01T00:00:00.000+00:00",
        "2026-03-01T00:00:00.000+00:00",
    ]


@pytest.mark.parametrize(
    ("length", "interval"),
    [
        (1, "15m"),
        (6 * HOUR, "15m"),
        (6 * HOUR + 1, "1h"),
        (48 * HOUR, "1h"),
        (48 * HOUR + 1, "4h"),
        (10 * DAY, "4h"),
        (10 * DAY + 1, "1d"),
        (92 * DAY, "1d"),
        (92 * DAY + 1, "1w"),
        (730 * DAY, "1w"),
        (730 * DAY + 1, "1mo"),
    ],
)
def test_the_interval_fits_the_length(length: int, interval: str) -> None:
    start = ms("2025-01-01T00:00Z")
    assert choose_interval(range_(start, start + length)) == interval


def test_ten_days_are_ten_days_though_one_has_25_hours() -> None:
    asked = range_("2025-10-25T00:00-04:00", "2025-11-04T00:00-05:00", "America/New_York")
    assert choose_interval(asked) == "4h"


def test_two_years_may_hold_a_leap_day() -> None:
    assert choose_interval(range_("2024-01-01T00:00Z", "2026-01-01T00:00Z")) == "1w"


def test_2000_buckets_may_be_asked_for_and_no_more() -> None:
    start = ms("2026-01-01T00:00Z")
    assert len(bucket_starts(range_(start, start + 2000 * HOUR), "1h")[1]) == 2000
    with pytest.raises(BadParameter) as raised:
        bucket_starts(range_(start, start + 2000 * HOUR + 1), "1h")
    assert raised.value.parameter == "interval"


def test_an_interval_chosen_here_may_make_more_buckets() -> None:
    interval, found = bucket_starts(range_("1800-01-01T00:00Z", "2300-01-01T00:00Z"), None)
    assert (interval, len(found)) == ("1mo", 6000)


@pytest.mark.parametrize("tz", ZONES)
@pytest.mark.parametrize("interval", get_args(Interval))
def test_the_ends_of_the_calendar_are_ranges_like_any_other(tz: str, interval: Interval) -> None:
    for start, end in (("0001-01-01", "0001-01-03"), ("9999-12-29", "9999-12-31")):
        asked = resolve(preset=None, start=start, end=end, tz=ZoneInfo(tz), now_ms=0)
        assert all(text(at, asked.tz) for at in bucket_starts(asked, interval)[1])


# --- ranges


def preset(name: Preset, now: str, tz: str = "UTC") -> tuple[str, str]:
    found = resolve(preset=name, start=None, end=None, tz=ZoneInfo(tz), now_ms=ms(now))
    return text(found.start_ms, found.tz), text(found.end_ms, found.tz)


@pytest.mark.parametrize(
    ("name", "now", "tz", "start"),
    [
        ("1h", "2025-11-02T01:30:00.123-05:00", "America/New_York", "2025-11-02T01:30:00.123-04:00"),
        ("24h", "2025-11-03T00:30-05:00", "America/New_York", "2025-11-02T01:30:00.000-04:00"),
        ("24h", "2025-03-09T12:00-04:00", "America/New_York", "2025-03-08T11:00:00.000-05:00"),
        ("7d", "2025-11-05T09:15:00.001-05:00", "America/New_York", "2025-10-29T09:15:00.001-04:00"),
        ("30d", "2025-03-31T12:00+02:00", "Europe/Berlin", "2025-03-01T12:00:00.000+01:00"),
        ("90d", "2026-01-01T00:00+05:45", "Asia/Kathmandu", "2025-10-03T00:00:00.000+05:45"),
        ("12mo", "2024-02-29T10:00Z", "UTC", "2023-02-28T10:00:00.000+00:00"),
        ("12mo", "2025-07-01T10:00+02:00", "Europe/Berlin", "2024-07-01T10:00:00.000+02:00"),
    ],
)
def test_a_preset_ends_now_and_begins_that_long_ago(name: Preset, now: str, tz: str, start: str) -> None:
    found = preset(name, now, tz)
    assert found[0] == start
    assert ms(found[1]) == ms(now)


def test_a_wall_clock_time_that_was_skipped_a_week_ago_is_when_it_was_skipped() -> None:
    assert preset("7d", "2025-03-16T02:30-04:00", "America/New_York")[0] == "2025-03-09T03:00:00.000-04:00"


def test_of_a_wall_clock_time_that_came_twice_a_week_ago_the_first_is_meant() -> None:
    assert preset("7d", "2025-11-09T01:30-05:00", "America/New_York")[0] == "2025-11-02T01:30:00.000-04:00"


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("today", "2025-11-02T00:00:00.000-04:00", "2025-11-03T00:00:00.000-05:00"),
        ("yesterday", "2025-11-01T00:00:00.000-04:00", "2025-11-02T00:00:00.000-04:00"),
        ("this_month", "2025-11-01T00:00:00.000-04:00", "2025-12-01T00:00:00.000-05:00"),
        ("last_month", "2025-10-01T00:00:00.000-04:00", "2025-11-01T00:00:00.000-04:00"),
    ],
)
def test_a_preset_of_the_calendar_is_a_whole_day_or_month(name: Preset, start: str, end: str) -> None:
    assert preset(name, "2025-11-02T20:00-05:00", "America/New_York") == (start, end)


def test_the_calendar_is_that_of_the_zone() -> None:
    assert preset("today", "2025-06-30T23:00Z", "Asia/Kathmandu")[0] == "2025-07-01T00:00:00.000+05:45"
    assert preset("last_month", "2025-01-31T23:00Z", "UTC")[0] == "2024-12-01T00:00:00.000+00:00"


def resolved(start: str | None, end: str | None, tz: str = "UTC", now: str = "2026-01-01T00:00Z") -> Range:
    return resolve(preset=None, start=start, end=end, tz=ZoneInfo(tz), now_ms=ms(now))


def test_without_any_parameter_the_range_is_the_last_seven_days() -> None:
    found = resolve(preset=None, start=None, end=None, tz=ZoneInfo("UTC"), now_ms=ms("2026-01-08T01:02Z"))
    assert (found.start_ms, found.end_ms) == (ms("2026-01-01T01:02Z"), ms("2026-01-08T01:02Z"))


def test_a_date_is_its_first_moment_in_the_zone() -> None:
    found = resolved("2025-11-02", "2025-11-03", "America/New_York")
    assert (found.start_ms, found.end_ms) == (ms("2025-11-02T00:00-04:00"), ms("2025-11-03T00:00-05:00"))
    assert resolved("2018-11-04", None, "America/Sao_Paulo").start_ms == ms("2018-11-04T01:00-02:00")


def test_a_time_is_taken_to_the_millisecond() -> None:
    found = resolved("2025-01-01t00:00:00.0019z", "2025-01-01T01:00:00.002+01:00")
    assert (found.start_ms, found.end_ms) == (
        ms("2025-01-01T00:00:00.001Z"),
        ms("2025-01-01T00:00:00.002Z"),
    )


def test_to_defaults_to_now() -> None:
    assert resolved("2025-01-01", None).end_ms == ms("2026-01-01T00:00Z")


def test_the_future_is_allowed() -> None:
    assert resolved("2100-01-01", "2400-01-01").end_ms == ms("2400-01-01T00:00Z")


@pytest.mark.parametrize(
    ("name", "start", "end", "parameter"),
    [
        (None, None, "2025-01-01", "to"),
        (None, "2025-01-01", "2025-01-01", "from"),
        (None, "2025-01-02", "2025-01-01", "from"),
        (None, "2027-01-01", None, "from"),
        ("7d", "2025-01-01", None, "range"),
        ("7d", None, "2025-01-01", "range"),
        ("7d", "2025-01-01", "2025-01-02", "range"),
    ],
)
def test_a_contradictory_range_names_the_parameter(
    name: Preset | None, start: str | None, end: str | None, parameter: str
) -> None:
    with pytest.raises(BadParameter) as raised:
        resolve(preset=name, start=start, end=end, tz=ZoneInfo("UTC"), now_ms=ms("2026-01-01T00:00Z"))
    assert raised.value.parameter == parameter


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2025",
        "2025-1-1",
        "20250101",
        "2025-02-29",
        "0000-01-01",
        "10000-01-01",
        "2025-01-01T00:00:00",
        "2025-01-01T00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T00:00:00 02:00",
        "2025-01-01T00:00:00+2:00",
        "1735689600000",
        "٢٠٢٥-٠١-٠١",
        " 2025-01-01",
        "2025-01-01\n",
    ],
)
def test_what_is_neither_a_date_nor_rfc_3339_is_refused(value: str) -> None:
    for start, end, parameter in ((value, None, "from"), ("2025-01-01", value, "to")):
        with pytest.raises(BadParameter) as raised:
            resolved(start, end)
        assert raised.value.parameter == parameter


@pytest.mark.parametrize(
    "name",
    ["", "utc", "Mars/Base", "../etc/passwd", "/etc/localtime", "localtime", "posix/UTC", "+02:00", "a\0"],
)
def test_what_is_no_iana_zone_is_refused(name: str) -> None:
    with pytest.raises(BadParameter) as raised:
        zone(name)
    assert raised.value.parameter == "tz"


def test_every_iana_zone_is_known() -> None:
    assert all(zone(name).key == name for name in (*ZONES, "Asia/Calcutta", "EST", "Etc/GMT+12"))


# --- wall clocks


@given(wall=moments, tz=st.sampled_from(ZONES))
def test_the_first_instant_of_a_wall_clock_time_is_the_first_that_reads_it_or_later(
    wall: int, tz: str
) -> None:
    found = first_instant(wall, ZoneInfo(tz))
    assert wall_at(found, ZoneInfo(tz)) >= wall
    for earlier in (found - 1, *range(found - 3 * HOUR, found, 7 * MINUTE)):
        assert wall_at(earlier, ZoneInfo(tz)) < wall


@given(start=moments, length=st.integers(0, 800 * DAY), tz=st.sampled_from(ZONES))
def test_offsets_of_a_range_are_those_of_its_moments(start: int, length: int, tz: str) -> None:
    found = list(changes_of_offset(start, start + length, ZoneInfo(tz)))
    for at in range(start, start + length, length // 300 + 1):
        [*_, (_, offset)] = [change for change in found if change[0] <= at]
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)
        assert timedelta(milliseconds=offset) == moment.astimezone(ZoneInfo(tz)).utcoffset()


@given(at=st.integers(ms("1950-01-01T00:00Z"), ms("2400-01-01T00:00Z")), tz=st.sampled_from(ZONES))
def test_text_is_what_the_standard_library_says(at: int, tz: str) -> None:
    assert text(at, ZoneInfo(tz)) == oracle.text(at, tz)


@pytest.mark.parametrize(
    ("at", "tz", "said"),
    [
        ("0001-01-01T00:00:00Z", "America/New_York", "0001-01-01T00:00:00.000+00:00"),
        ("1880-01-01T00:00:00Z", "America/New_York", "1880-01-01T00:00:00.000+00:00"),
        ("9999-12-31T23:59:59.999Z", "Asia/Kathmandu", "9999-12-31T23:59:59.999+00:00"),
        ("9999-12-31T23:59:59.999Z", "America/New_York", "9999-12-31T18:59:59.999-05:00"),
    ],
)
def test_what_rfc_3339_cannot_say_in_a_zone_is_said_in_utc(at: str, tz: str, said: str) -> None:
    instant = (datetime.fromisoformat(at) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert text(instant, ZoneInfo(tz)) == said


def test_an_instant_before_the_calendar_is_shown_as_its_first() -> None:
    asked = resolve(
        preset=None, start="0001-01-01T00:00:00+14:00", end="0001-01-02", tz=ZoneInfo("UTC"), now_ms=0
    )
    assert text(asked.start_ms, asked.tz) == "0001-01-01T00:00:00.000+00:00"
    assert ranges.bucket_starts(asked, "1d")[1]
