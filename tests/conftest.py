"""What tests of every kind share: a real Kafka, a browser, free ports.

Where one is missing the test skips and says why. Under `CI` it fails instead: CI must never pass by skipping.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator, Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from clickhouse.client import StoreAddress, connect
from clickhouse.migrate import migrate
from pipeline.embedded.kafka import jars, java
from pipeline.errors import Misconfigured
from tests import kafka as harness
from tests.api import Api
from tests.footfall import Footfall
from tests.geo import write_geo_database
from tests.stack import Stack

# How long an example takes says something of the machine, and nothing of what is tested.
settings.register_profile(
    "untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


def missing(what: str) -> NoReturn:
    """Skip this test, or fail it under CI."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    return harness.free_port()


@pytest.fixture(scope="session")
def kafka_installed() -> None:
    """For tests that start a Kafka of their own (to kill it, say)."""
    try:
        jars()
        java()
    except Misconfigured as error:
        missing(str(error))


@pytest.fixture(scope="session")
def kafka(kafka_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Kafka]:
    """One Kafka for the whole session: use topics and groups of your own, and leave it running."""
    with harness.Kafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def stack(kafka: harness.Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One whole Footfall for a file of tests: use bots of your own, and leave it running."""
    directory = tmp_path_factory.mktemp("stack")
    places = write_geo_database(directory / "places.mmdb")
    with Stack(directory, kafka.bootstrap, name=directory.name, geoip_database=places) as stack:
        yield stack


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Store, packaged broker and web for a file of tests: use bots of your own, and leave them running."""
    pytest.importorskip("chdb")
    with Api(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(scope="module")
def store_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreAddress]:
    """A migrated store in a process of its own, for a file of tests."""
    pytest.importorskip("chdb")
    port, directory = harness.free_port(), tmp_path_factory.mktemp("store")
    with Footfall(directory, "store", "--data-dir", directory / "data", "--store-port", str(port)) as store:
        store.says("ready")
        address = StoreAddress(url=f"http://127.0.0.1:{port}")

        async def prepare() -> None:
            async with connect(address) as connected:
                await migrate(connected)

        asyncio.run(prepare())
        yield address
        assert store.stop() == 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test of a whole Footfall fails, show what its processes said."""
    report = yield
    if report.failed:
        given = [getattr(value, "stack", value) for value in item.funcargs.values()]
        for stack in [value for value in given if isinstance(value, Stack)][:1]:
            report.sections.append(("What the processes said", stack.logs()))
    return report


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where Chromium is: `FOOTFALL_TEST_CHROMIUM`, or the first of its usual names on PATH.

    Its headless shell comes first: the same engine without a browser's window, for half the time.
    """
    usual = (shutil.which(name) for name in ("chromium-headless-shell", "chromium", "chromium-browser"))
    found = os.environ.get("FOOTFALL_TEST_CHROMIUM") or next(filter(None, usual), None)
    if found is None:
        missing("no chromium on PATH: install Debian's package `chromium-headless-shell` or `chromium`")
    return found
