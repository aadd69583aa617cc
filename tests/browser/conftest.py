"""What the tests of the page share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page with something to look at."""
    pytest.importorskip("chdb")
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site
