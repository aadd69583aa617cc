from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.errors import Misconfigured
from pipeline.web.serve import serve_web


def test_a_broker_that_can_never_be_used_ends_it_and_says_why(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificate")
    settings = Settings(
        port=0,
        broker="127.0.0.1:9",
        broker_tls=True,
        broker_ca_file=bundle,
        clickhouse="http://127.0.0.1:9",
    )

    async def run() -> None:
        async with asyncio.timeout(20):
            await serve_web(settings, stop=asyncio.Event())

    with pytest.raises(Misconfigured, match=r"cannot use the broker CA file .*ca\.pem"):
        asyncio.run(run())
