"""A geo database for tests: a City-schema MMDB of networks that belong to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

Record = dict[str, Any]


def record(*, country: str = "", region: str = "", city: str = "", registered_country: str = "") -> Record:
    """A record of the City schema; what is empty is absent, as it is in real databases."""
    parts: Record = {
        "country": country and {"iso_code": country, "names": {"en": f"Country {country}", "de": "Land"}},
        "registered_country": registered_country and {"iso_code": registered_country},
        "subdivisions": region
        and [{"iso_code": "R1", "names": {"en": region, "de": "Region"}}, {"names": {"en": "District"}}],
        "city": city and {"names": {"en": city, "de": "Stadt"}},
    }
    return {name: part for name, part in parts.items() if part}


DOCUMENTATION_NETWORKS: Mapping[str, Record] = {
    "192.0.2.0/25": record(country="DE", region="Bavaria", city="Munich", registered_country="US"),
    "192.0.2.128/25": record(country="US", region="Texas", city="Austin"),
    "198.51.100.0/24": record(country="NP", region="Bagmati Province", city="Kathmandu"),
    "203.0.113.0/24": record(registered_country="GB"),
    "2001:db8::/33": record(country="JP"),
    "2001:db8:8000::/33": record(country="IN", region="Karnataka"),
}
"""What the three documentation networks of IPv4 and the one of IPv6 hold unless a test says otherwise."""


def write_geo_database(
    path: Path,
    networks: Mapping[str, Record] = DOCUMENTATION_NETWORKS,
    *,
    build_epoch: int = 1_700_000_000,
    database_type: str = "Footfall-Test-City",
) -> Path:
    """Write a database of these networks, in place where the file exists, and return its path."""
    writer = _Writer(build_epoch, database_type)
    for network, content in networks.items():
        writer.insert_network(IPSet([network]), content)
    writer.to_db_file(str(path))
    return path


class _Writer(MMDBWriter):
    """Its own has no way to say when the database was built."""

    def __init__(self, build_epoch: int, database_type: str) -> None:
        super().__init__(ip_version=6, ipv4_compatible=True, database_type=database_type)
        self._build_epoch = build_epoch

    def _build_meta(self) -> dict[str, Any]:
        return super()._build_meta() | {"build_epoch": self._build_epoch}
