"""IP addresses in one form."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

LONGEST_ADDRESS: Final = len("0000:0000:0000:0000:0000:ffff:255.255.255.255")
CACHED_ADDRESSES: Final = 1 << 16


def normalise_ip(text: str) -> str:
    """The address in its one form: dotted IPv4 or RFC 5952 IPv6, a v4-mapped one as IPv4; empty if none.

    Strict: spaces, ports, brackets, zone ids, prefix lengths and leading zeros of IPv4 make it none. The
    caller counts an answer that is empty though the text was not.
    """
    if _is_normal_ipv4(text):
        return text
    # Longer texts are kept out of the cache, where they could take any amount of memory.
    return _normalise_ip(text) if len(text) <= LONGEST_ADDRESS else ""


_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_is_normal_ipv4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}", re.ASCII).fullmatch
"""Spares all that is common a visit to `ipaddress`, which costs ten times as much."""


@lru_cache(CACHED_ADDRESSES)
def _normalise_ip(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return ""
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)
