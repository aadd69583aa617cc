"""The places of the demo: a City-schema geo database of networks that belong to nobody.

The addresses are those that RFC 5737 and RFC 3849 set aside for documentation, so no place here says anything of a
real network. Format: https://maxmind.github.io/MaxMind-DB/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import chain
from pathlib import Path
from typing import Final

BUILD_EPOCH: Final = 1_767_225_600
"""Always the same (2026-01-01), so that the same release writes the same bytes."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, kw_only=True)
class DemoPlace:
    """Where some networks are. What is empty is unknown; without a country the database has nothing of use."""

    country: str = ""
    """ISO 3166-1 alpha-2."""
    region: str = ""
    city: str = ""
    timezone: str
    """IANA, of the people there."""
    networks: tuple[Network, ...]


# --- the places ----------------------------------------------------------------------------------------

_PLACES: Final = """
US|California|San Francisco|America/Los_Angeles
US|California|Los Angeles|America/Los_Angeles
US|New York|New York|America/New_York
US|Texas|Austin|America/Chicago
US|Washington|Seattle|America/Los_Angeles
US|Illinois|Chicago|America/Chicago
US|||America/New_York
CA|Ontario|Toronto|America/Toronto
CA|Quebec|Montreal|America/Toronto
CA|Newfoundland and Labrador|St. John's|America/St_Johns
MX|Mexico City|Mexico City|America/Mexico_City
BR|São Paulo|São Paulo|America/Sao_Paulo
BR|Rio de Janeiro|Rio de Janeiro|America/Sao_Paulo
AR|Buenos Aires F.D.|Buenos Aires|America/Argentina/Buenos_Aires
CO|Bogota D.C.|Bogotá|America/Bogota
GB|England|London|Europe/London
GB|England|Manchester|Europe/London
GB|Scotland|Edinburgh|Europe/London
IE|Leinster|Dublin|Europe/Dublin
DE|State of Berlin|Berlin|Europe/Berlin
DE|Bavaria|Munich|Europe/Berlin
DE|Hamburg|Hamburg|Europe/Berlin
DE|North Rhine-Westphalia|Cologne|Europe/Berlin
DE|||Europe/Berlin
AT|Vienna|Vienna|Europe/Vienna
CH|Zurich|Zurich|Europe/Zurich
FR|Île-de-France|Paris|Europe/Paris
FR|Auvergne-Rhône-Alpes|Lyon|Europe/Paris
NL|North Holland|Amsterdam|Europe/Amsterdam
ES|Madrid|Madrid|Europe/Madrid
ES|Catalonia|Barcelona|Europe/Madrid
IT|Lombardy|Milan|Europe/Rome
PL|Mazovia|Warsaw|Europe/Warsaw
SE|Stockholm County|Stockholm|Europe/Stockholm
TR|Istanbul|Istanbul|Europe/Istanbul
EG|Cairo Governorate|Cairo|Africa/Cairo
SA|Riyadh Region|Riyadh|Asia/Riyadh
SA|Mecca Region|Jeddah|Asia/Riyadh
AE|Dubai|Dubai|Asia/Dubai
MA|Casablanca-Settat|Casablanca|Africa/Casablanca
NG|Lagos|Lagos|Africa/Lagos
KE|Nairobi County|Nairobi|Africa/Nairobi
ZA|Western Cape|Cape Town|Africa/Johannesburg
IN|Karnataka|Bengaluru|Asia/Kolkata
IN|Maharashtra|Mumbai|Asia/Kolkata
IN|National Capital Territory of Delhi|Delhi|Asia/Kolkata
NP|Bagmati Province|Kathmandu|Asia/Kathmandu
BD|Dhaka Division|Dhaka|Asia/Dhaka
ID|Jakarta|Jakarta|Asia/Jakarta
VN|Ho Chi Minh|Ho Chi Minh City|Asia/Ho_Chi_Minh
PH|Metro Manila|Manila|Asia/Manila
SG||Singapore|Asia/Singapore
JP|Tokyo|Tokyo|Asia/Tokyo
JP|Osaka|Osaka|Asia/Tokyo
KR|Seoul|Seoul|Asia/Seoul
TW|Taipei City|Taipei|Asia/Taipei
AU|New South Wales|Sydney|Australia/Sydney
AU|Victoria|Melbourne|Australia/Melbourne
NZ|Auckland|Auckland|Pacific/Auckland
|||Europe/Berlin
"""
"""Country, region, city, time zone. The last has networks in the database, but nobody knows where they are."""


def _places() -> Iterator[DemoPlace]:
    lines = _PLACES.split("\n")[1:-1]
    # 96 networks of eight IPv4 addresses, dealt out in turn, and for each place 2^88 IPv6 addresses.
    ipv4 = [
        part
        for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
        for part in IPv4Network(network).subnets(new_prefix=29)
    ]
    ipv6 = IPv6Network("2001:db8::/32").subnets(new_prefix=40)
    for number, (line, network) in enumerate(zip(lines, ipv6, strict=False)):
        country, region, city, timezone = line.split("|")
        networks: tuple[Network, ...] = (*ipv4[number :: len(lines)], network)
        yield DemoPlace(country=country, region=region, city=city, timezone=timezone, networks=networks)


PLACES: Final = tuple(_places())


# --- the file ------------------------------------------------------------------------------------------


def write_demo_geography(path: Path) -> None:
    """Write the database of `PLACES`; whoever has the file open keeps what it was."""
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(_database())
    unfinished.replace(path)


def _record(place: DemoPlace) -> dict[str, object]:
    record: dict[str, object] = {}
    if place.country:
        record["country"] = {"iso_code": place.country}
    else:
        record["registered_country"] = {"iso_code": "DE"}  # who runs a network is not who is in it
    if place.region:
        record["subdivisions"] = [{"names": {"en": place.region}}]
    if place.city:
        record["city"] = {"names": {"en": place.city}}
    return record


def _database() -> bytes:
    """Search tree, 16 zero bytes, data, metadata."""
    # A node has a record for either bit: another node's number, None, or the complement of a place in the data.
    nodes: list[list[int | None]] = [[None, None]]
    data = b""
    for place in PLACES:
        leaf = ~len(data)
        data += _encoded(_record(place))
        for network in place.networks:
            # IPv4 lives in the tree as ::/96.
            length = network.prefixlen + (96 if network.version == 4 else 0)
            bits = [int(network.network_address) >> (127 - depth) & 1 for depth in range(length)]
            at = 0
            for bit in bits[:-1]:
                below = nodes[at][bit]
                if below is None:
                    below = nodes[at][bit] = len(nodes)
                    nodes.append([None, None])
                at = below
            nodes[at][bits[-1]] = leaf

    def number(record: int | None) -> int:
        if record is None:
            return len(nodes)
        return record if record >= 0 else len(nodes) + 16 + ~record

    tree = b"".join(number(record).to_bytes(3, "big") for node in nodes for record in node)
    metadata: dict[str, object] = {
        "binary_format_major_version": _unsigned(_UINT16, 2),
        "binary_format_minor_version": _unsigned(_UINT16, 0),
        "build_epoch": _unsigned(_UINT64, BUILD_EPOCH),
        "database_type": "Footfall-Demo-City",
        "description": {"en": "Documentation networks, for footfall's demo"},
        "ip_version": _unsigned(_UINT16, 6),
        "languages": ["en"],
        "node_count": _unsigned(_UINT32, len(nodes)),
        "record_size": _unsigned(_UINT16, 24),
    }
    return tree + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _encoded(metadata)


_STRING, _UINT16, _UINT32, _MAP, _UINT64, _ARRAY = 2, 5, 6, 7, 9, 11
"""The format's numbers of its types."""


def _encoded(value: object) -> bytes:
    """A text, list or mapping in the format's data section; bytes are a value encoded already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        text = value.encode()
        return _control(_STRING, len(text)) + text
    if isinstance(value, list):
        return _control(_ARRAY, len(value)) + b"".join(map(_encoded, value))
    if isinstance(value, Mapping):
        pairs = chain.from_iterable(value.items())
        return _control(_MAP, len(value)) + b"".join(map(_encoded, pairs))
    raise TypeError(f"the geo database holds no {type(value).__name__}")


def _unsigned(type_number: int, value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return _control(type_number, len(content)) + content


def _control(type_number: int, size: int) -> bytes:
    """What comes before a value: its type, and its size in bytes, or in entries of a map or array."""
    if size >= 29 + 256:
        raise ValueError(f"the geo database holds nothing of size {size}")
    low, more = (size, b"") if size < 29 else (29, bytes([size - 29]))
    if type_number <= 7:
        return bytes([type_number << 5 | low]) + more
    return bytes([low, type_number - 7]) + more
