"""The files of the page."""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parents[2] / "pipeline/web/static"


def test_every_module_is_loaded_at_once_not_one_after_the_other() -> None:
    index = (STATIC / "index.html").read_text()
    preloaded = set(re.findall(r'rel="modulepreload" href="/static/([^"]+)"', index))
    imported = {
        name for file in STATIC.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', file.read_text())
    }
    assert preloaded == imported


def test_colours_are_in_the_file_of_tokens_alone() -> None:
    rules = (STATIC / "page.css").read_text()
    scripts = "".join(file.read_text() for file in STATIC.glob("*.js"))
    found = re.findall(r"#(?:[0-9a-f]{3,4}){1,2}\b|\b(?:rgba?|hsla?|oklch)\(", rules + scripts)
    assert found == []
