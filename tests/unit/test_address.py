"""Addresses in one form."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.address import normalise_ip


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("0.0.0.1", "0.0.0.1"),
        ("255.255.255.255", "255.255.255.255"),
        ("::", "::"),
        ("2001:DB8::A", "2001:db8::a"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("0000:0000:0000:0000:0000:ffff:255.255.255.255", "255.255.255.255"),
    ],
)
def test_an_address_has_one_form(text: str, normal: str) -> None:
    assert normalise_ip(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "unknown",
        "localhost",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1.1",
        "192.0.02.1",
        "0300.0.2.1",
        "0xc0.0.2.1",
        "0000:0000:0000:0000:0000:ffff:192.000.002.001",
        "3221225985",
        " 192.0.2.1",
        "192.0.2.1 ",
        "192.0.2.1\n",
        "192.0.2.1, 198.51.100.1",
        "192.0.2.1:443",
        "192.0.2.0/24",
        "１９２.0.2.1",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
        "2001:db8::1/64",
        "fe80::1%eth0",
        "2001:db8::1::1",
        "2001:db8:0:0:0:0:0:0:1",
        "2001:db8::12345",
        "1" * 1_000_000,
        "\x00",
        "\ud800",
    ],
)
def test_what_is_no_address_is_absent(text: str) -> None:
    assert normalise_ip(text) == ""


@given(st.text(max_size=60))
def test_no_text_makes_an_address_fail(text: str) -> None:
    assert normalise_ip(normalise_ip(text)) == normalise_ip(text)


@given(st.ip_addresses(v=4))
def test_every_ipv4_address_is_normal_as_it_is(address: IPv4Address) -> None:
    assert normalise_ip(str(address)) == str(address)


@given(st.lists(st.from_regex(r"[0-9]{0,4}", fullmatch=True), min_size=1, max_size=6).map(".".join))
def test_numbers_between_dots_are_an_address_where_the_standard_library_says_so(text: str) -> None:
    try:
        expected = str(ip_address(text))
    except ValueError:
        expected = ""
    assert normalise_ip(text) == expected


@given(st.ip_addresses(v=6))
def test_all_spellings_of_an_ipv6_address_have_one_form(address: IPv6Address) -> None:
    normal = normalise_ip(str(address))
    assert normalise_ip(address.exploded) == normalise_ip(address.exploded.upper()) == normal
    family = socket.AF_INET6 if ":" in normal else socket.AF_INET
    assert socket.inet_pton(family, normal) == (address.ipv4_mapped or address).packed
