from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.embedded.up import _with_ports, up
from pipeline.errors import Misconfigured

HAS_IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not HAS_IPV6, reason="needs IPv6"))],
)
def test_any_free_port_is_one_each(host: str) -> None:
    for _ in range(50):
        chosen = _with_ports(Settings(host=host, port=0, metrics_port=0))
        assert 0 not in (chosen.port, chosen.metrics_port)
        assert chosen.port != chosen.metrics_port


def test_a_port_that_is_given_stays() -> None:
    chosen = _with_ports(Settings(port=4711, metrics_port=0))
    assert chosen.port == 4711
    assert chosen.metrics_port != 0


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_ours_is_named(host: str, tmp_path: Path) -> None:
    settings = Settings(host=host, port=0, metrics_port=0, data_dir=tmp_path)
    with pytest.raises(Misconfigured, match=f"--host: {host} cannot be listened on: "):
        asyncio.run(up(settings, stop=asyncio.Event(), ready=lambda _: None))
