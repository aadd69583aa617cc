"""What the tests of the page share: one site, one browser, and for each test a reader of its own.

Both end with this package: the driver of a browser holds the event loop of the thread that it runs in.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.reader import ZONE, Reader
from tests.browser.site import Site

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page with something to look at."""
    pytest.importorskip("chdb")
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="package")
def browser(chromium_path: str) -> Iterator[Browser]:
    expect.set_options(timeout=15_000)  # the machine may be busy with other tests
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def reader(browser: Browser, site: Site) -> Iterator[Reader]:
    """A reader in Eucla; afterwards the console is clean and nothing was asked of another host."""
    context = browser.new_context(timezone_id=ZONE, locale="en-GB", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    reader = Reader(context.new_page(), site)
    yield reader
    context.close()
    assert reader.complaints == []
    assert {
        urlsplit(request.url).netloc for request in reader.asked if not request.url.startswith("blob:")
    } == {urlsplit(site.url).netloc}
