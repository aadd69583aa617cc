"""Places of addresses, and what happens to them when the database file is replaced."""

from __future__ import annotations

import logging
import os
import time
from ipaddress import ip_address, ip_network
from itertools import count
from pathlib import Path

import pytest

from pipeline.geography import CHECK_SECONDS, HAS_FAST_READER, UNKNOWN, Geography
from pipeline.metrics import GEO_FAILED_LOADS, GEO_FAILED_LOOKUPS
from tests.geo import record, write_geo_database

IN_MUNICH = "192.0.2.1"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_geo_database(tmp_path / "city.mmdb", build_epoch=1_600_000_000)


class Clock:
    """Passes one check interval at each look."""

    def __init__(self) -> None:
        self._ticks = count(1)

    def __call__(self) -> float:
        return next(self._ticks) * (CHECK_SECONDS + 0.001)


def settle(geography: Geography, clock: Clock) -> None:
    """Refresh until what lies there has been looked at often enough, and read where it can be."""
    for _ in range(4):
        geography.refresh(clock())
        deadline = time.monotonic() + 10
        while geography._loading is not None and time.monotonic() < deadline:
            time.sleep(0.001)
            geography.refresh(clock())


def munich_becomes(path: Path, city: str, *, build_epoch: int = 1_700_000_000) -> Path:
    return write_geo_database(
        path, {"192.0.2.0/24": record(country="DE", city=city)}, build_epoch=build_epoch
    )


def test_the_compiled_reader_is_there() -> None:
    assert HAS_FAST_READER


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        ("192.0.2.1", ("DE", "Bavaria", "Munich")),
        ("192.0.2.200", ("US", "Texas", "Austin")),
        ("198.51.100.7", ("NP", "Bagmati Province", "Kathmandu")),
        ("2001:db8::1", ("JP", "", "")),
        ("2001:db8:8000::1", ("IN", "Karnataka", "")),
    ],
)
def test_a_known_address_has_country_first_subdivision_and_city_in_english(
    database: Path, ip: str, place: tuple[str, str, str]
) -> None:
    assert Geography(database).lookup(ip) == place


def test_the_registered_country_is_no_substitute_for_the_country(database: Path) -> None:
    assert Geography(database).lookup("203.0.113.9") == UNKNOWN


@pytest.mark.parametrize(
    "ip", ["10.0.0.1", "127.0.0.1", "8.8.8.8", "::1", "fe80::1", "", "nonsense", "\ud800"]
)
def test_an_address_that_the_database_does_not_know_has_no_place(database: Path, ip: str) -> None:
    assert Geography(database).lookup(ip) == UNKNOWN


def test_networks_however_small_are_told_apart(tmp_path: Path) -> None:
    networks = {
        "192.0.2.0/26": "a",
        "192.0.2.64/28": "b",
        "192.0.2.80/29": "c",
        "192.0.2.90/32": "d",
        "192.0.2.92/31": "e",
        "192.0.2.128/25": "f",
        "198.51.100.0/24": "g",
        "198.51.101.0/30": "h",
    }
    path = tmp_path / "small.mmdb"
    geography = Geography(
        write_geo_database(path, {network: record(city=city) for network, city in networks.items()})
    )
    for last in range(256):
        for first in ("192.0.2.", "198.51.100.", "198.51.101."):
            address = ip_address(f"{first}{last}")
            expected = next((c for n, c in networks.items() if address in ip_network(n)), "")
            assert geography.lookup(str(address)) == ("", "", expected)


def test_without_a_database_every_place_is_unknown() -> None:
    geography = Geography(None)
    geography.refresh(0)
    assert geography.lookup(IN_MUNICH) == UNKNOWN
    assert geography.build_seconds == 0


def test_the_build_date_of_the_database_in_use_is_known_and_said(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert Geography(database).build_seconds == 1_600_000_000
    assert caplog.messages == [f"geo database of 2020-09-13 in use: {database}"]


def test_a_record_of_another_schema_has_no_place(tmp_path: Path) -> None:
    odd = {"country": "DE", "city": ["Munich"], "subdivisions": {"names": "Bavaria"}}
    path = write_geo_database(tmp_path / "odd.mmdb", {"192.0.2.0/25": odd, "192.0.2.128/25": {"country": {}}})
    geography = Geography(path)
    assert geography.lookup("192.0.2.1") == UNKNOWN
    assert geography.lookup("192.0.2.200") == UNKNOWN


def test_a_database_renamed_into_place_is_used_and_nothing_of_the_old_one_is_remembered(
    database: Path,
) -> None:
    geography, clock = Geography(database), Clock()
    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")

    munich_becomes(database.with_suffix(".new"), "Minga", build_epoch=1_700_000_001).replace(database)
    settle(geography, clock)

    assert geography.lookup(IN_MUNICH) == ("DE", "", "Minga")
    assert geography.build_seconds == 1_700_000_001


def test_a_database_written_in_place_is_used(database: Path) -> None:
    geography, clock = Geography(database), Clock()
    munich_becomes(database, "Minga")
    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == ("DE", "", "Minga")


def test_truncating_the_file_in_use_harms_nothing(database: Path) -> None:
    # Were the file itself mapped into memory, this lookup would end the process with SIGBUS.
    geography, clock = Geography(database), Clock()
    os.truncate(database, 0)
    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")
    settle(geography, clock)
    assert geography.lookup("192.0.2.200") == ("US", "Texas", "Austin")


def test_a_database_that_appears_later_is_used(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    geography, clock = Geography(path), Clock()
    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == UNKNOWN

    write_geo_database(path)
    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")


def test_a_database_that_goes_away_stays_in_use_and_is_missed_once(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    geography, clock = Geography(database), Clock()
    database.unlink()
    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -40])
def test_a_half_written_database_leaves_the_old_one_in_use_and_is_counted_once(
    database: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    geography, clock = Geography(database), Clock()
    database.write_bytes(database.read_bytes()[:kept])
    settle(geography, clock)

    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")
    assert geography.build_seconds == 1_600_000_000
    assert geography.failed_loads == 1
    assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [logging.ERROR]

    munich_becomes(database, "Minga")
    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == ("DE", "", "Minga")
    assert geography.failed_loads == 1


def test_a_broken_database_at_the_start_is_no_reason_not_to_start(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(b"this is no database")
    geography, clock = Geography(path), Clock()
    assert geography.lookup(IN_MUNICH) == UNKNOWN
    assert geography.failed_loads == 1

    write_geo_database(path)
    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")


def test_a_directory_in_place_of_the_database_is_a_broken_database(tmp_path: Path) -> None:
    before = GEO_FAILED_LOADS._value.get()
    assert Geography(tmp_path).failed_loads == 1
    assert GEO_FAILED_LOADS._value.get() == before + 1


def test_a_file_that_is_still_being_written_is_left_alone(database: Path) -> None:
    geography, clock = Geography(database), Clock()
    whole = munich_becomes(database.with_suffix(".new"), "Minga").read_bytes()
    for step in range(1, 6):
        database.write_bytes(whole[: len(whole) * step // 5])
        geography.refresh(clock())
    assert geography._loading is None
    assert geography.failed_loads == 0

    settle(geography, clock)
    assert geography.lookup(IN_MUNICH) == ("DE", "", "Minga")
    assert geography.failed_loads == 0


def test_damage_inside_a_database_costs_places_and_is_counted(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = database.read_bytes()
    metadata = whole.rindex(b"\xab\xcd\xefMaxMind.com")
    database.write_bytes(b"\x7f" * metadata + whole[metadata:])
    geography, before = Geography(database), GEO_FAILED_LOOKUPS._value.get()
    assert {geography.lookup(f"192.0.2.{n}") for n in range(20)} == {UNKNOWN}
    assert geography.failed_lookups > 0
    assert GEO_FAILED_LOOKUPS._value.get() - before == geography.failed_lookups
    assert len([r for r in caplog.records if "damaged" in r.message]) == 1


def test_the_file_is_looked_at_no_more_often_than_every_few_seconds(database: Path) -> None:
    geography = Geography(database)
    geography.refresh(100)
    munich_becomes(database, "Minga")
    for tick in range(19):
        geography.refresh(100 + tick * CHECK_SECONDS / 20)
    assert geography.lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")
    assert geography._loading is None


def test_a_new_database_comes_into_use_only_inside_a_refresh(database: Path) -> None:
    geography = Geography(database)
    munich_becomes(database, "Minga")
    geography.refresh(CHECK_SECONDS)
    geography.refresh(2 * CHECK_SECONDS)
    assert geography._loading is not None
    geography._loading.result(10)
    assert (geography.lookup(IN_MUNICH), geography.build_seconds) == (
        ("DE", "Bavaria", "Munich"),
        1_600_000_000,
    )
    geography.refresh(2 * CHECK_SECONDS)
    assert (geography.lookup(IN_MUNICH), geography.build_seconds) == (("DE", "", "Minga"), 1_700_000_000)


def test_no_copy_of_a_database_is_left_behind(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert Geography(database).lookup(IN_MUNICH) == ("DE", "Bavaria", "Munich")
    assert not list(temporary.iterdir())
