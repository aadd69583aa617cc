"""The demo's geo database: every network of it, as the readers of others see it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import maxminddb
import pytest

from pipeline.demo_geography import BUILD_EPOCH, PLACES, write_demo_geography
from pipeline.geography import Geography

DOCUMENTATION = [
    ip_network(network) for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "demo.mmdb"
    write_demo_geography(path)
    return path


def test_every_address_of_a_place_is_found_there(database: Path) -> None:
    geography = Geography(database)
    for place in PLACES:
        for network in place.networks:
            for address in (network[0], network[-1]):
                assert geography.lookup(str(address)) == (place.country, place.region, place.city)


def test_what_is_around_the_networks_is_nowhere(database: Path) -> None:
    geography = Geography(database)
    for network in DOCUMENTATION:
        for outside in (network.network_address - 1, network.broadcast_address + 1):
            assert geography.lookup(str(outside)) == ("", "", "")
    assert geography.lookup("2001:db8:ff00::1") == ("", "", "")


def test_networks_are_documentation_s_and_do_not_overlap() -> None:
    ranges = sorted(
        (network.version, int(network[0]), int(network[-1])) for place in PLACES for network in place.networks
    )
    for (version, _, last), (next_version, first, _) in pairwise(ranges):
        assert version < next_version or last < first
    for place in PLACES:
        for network in place.networks:
            assert any(network.version == own.version and network[0] in own for own in DOCUMENTATION)


def test_all_addresses_of_ipv4_for_documentation_are_somewhere() -> None:
    networks = [network for place in PLACES for network in place.networks if network.version == 4]
    assert sum(network.num_addresses for network in networks) == 3 * 256


def test_zones_exist_and_only_one_place_has_no_country() -> None:
    assert all(ZoneInfo(place.timezone) for place in PLACES)
    assert [place.country for place in PLACES].count("") == 1


def test_the_reader_written_in_python_reads_it_too(database: Path) -> None:
    # The one in C, which the test above uses, and this one check different things of a file.
    with maxminddb.open_database(database, maxminddb.MODE_MEMORY) as reader:
        metadata = reader.metadata()
        assert (metadata.build_epoch, metadata.ip_version, metadata.record_size) == (BUILD_EPOCH, 6, 24)
        assert metadata.languages == ["en"]
        networks = {str(network): record for network, record in reader}
        place = reader.get(ip_address("192.0.2.0"))
    assert len(networks) == sum(len(place.networks) for place in PLACES)
    assert place == {
        "country": {"iso_code": "US"},
        "subdivisions": [{"names": {"en": "California"}}],
        "city": {"names": {"en": "San Francisco"}},
    }


def test_a_file_written_again_is_the_same_and_another_file(database: Path) -> None:
    before, content = database.stat().st_ino, database.read_bytes()
    with database.open("rb") as held:
        write_demo_geography(database)
        assert database.read_bytes() == content == held.read()
    assert database.stat().st_ino != before
    assert [path.name for path in database.parent.iterdir()] == [database.name]
