"""The documentation's pages, and what stands on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent


def pages() -> list[Path]:
    """Every page that a user reads."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    why_not_executed: str
    """What the comment before the block gives as reason; empty where there is none."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


_BLOCK = re.compile(r"(?:^<!-- not executed: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The page's fenced blocks in order."""
    text = page.read_text(encoding="utf-8")
    return tuple(
        Block(
            page=page,
            line=text.count("\n", 0, match.start(2)) + 1,
            language=match[2],
            text=match[3],
            why_not_executed=match[1] or "",
        )
        for match in _BLOCK.finditer(text)
    )


def section(text: str, heading: str) -> str:
    """What stands under a heading, those below it included."""
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert match is not None, f"there is no heading {heading!r}"
    end = re.search(rf"^#{{1,{len(match[1])}}} ", text[match.end() :], re.MULTILINE)
    return text[match.end() :][: end.start() if end else None]


Table = tuple[list[str], list[list[str]]]
"""The head's cells, and the cells of each row."""


def tables(text: str) -> list[Table]:
    """Every table in the text, in order."""
    found = re.findall(r"^(\|.*\|)\n\|[-|: ]+\|\n((?:\|.*\|\n?)*)", text, re.MULTILINE)
    return [(_cells(head), [_cells(row) for row in rows.splitlines()]) for head, rows in found]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
