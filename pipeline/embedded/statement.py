"""What the text of a statement says, as far as an HTTP front has to know it before the engine does.

Only three questions are asked: where do the rows of an INSERT begin, which format does the answer have, and
does the statement reach outside the store. Everything else is left to the engine's own parser. All functions
take bytes: statements may hold binary literals, and inserts have binary rows behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# As ClickHouse reads it: typographic quotation marks quote, and what is not ASCII outside of quotations is a
# blank or an error. A quotation that does not end matches nothing, which ends the walk.
_TOKEN = re.compile(
    rb"""
      (?P<quoted> '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `(?:[^`\\]|\\.)*`
                  | \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$
                  | \xe2\x80\x98 .*? \xe2\x80\x99 | \xe2\x80\x9c .*? \xe2\x80\x9d )
    | (?P<blank> (?: \s | --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/ | (?!\xe2\x80[\x98\x9c])[\x80-\xff] )+ )
    | (?P<word> [A-Za-z_][A-Za-z0-9_$]* )
    | (?P<number> [0-9][A-Za-z0-9_.]* )
    | (?P<sign> [^'"`\s\x80-\xff] )
    """,
    re.VERBOSE | re.DOTALL,
)
# As most clients ask for it, on a line of its own at the end: within a quotation or a comment it would not be the end.
_LAST_LINE_FORMAT = re.compile(rb"\n[ \t]*FORMAT[ \t]+(\w+)\s*\Z")
_LINE_END = re.compile(rb"[ \t\f]*;?[ \t\f]*\r?\n?")

# What reads files of this machine or runs programs whatever the engine's grants say.
_OUTSIDE_FUNCTIONS = frozenset(
    {b"FILE", b"PYTHON", b"EXECUTABLE", b"EXECUTABLE_POOL", b"HTTP", b"EMBEDDEDROCKSDB"}
)
_OUTSIDE_CLAUSES = frozenset({(b"INTO", b"OUTFILE"), (b"FROM", b"INFILE")})
# A text without any of these needs no walk. A backslash may hide a letter of a quoted name.
_SUSPICIOUS = re.compile(rb"file|python|executable|http|embeddedrocksdb|\\", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class InlineInsert:
    """An INSERT whose rows follow its text.

    `statement` is the text up to its SETTINGS or FORMAT clause, `settings` the former, if there is one, `data_start`
    where in the whole text the rows begin.
    """

    statement: bytes
    format: str
    data_start: int
    settings: bytes = b""


@dataclass(frozen=True, kw_only=True)
class _Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    @property
    def name(self) -> bytes:
        """What it names, in capitals: a word, or an identifier between quotation marks."""
        if self.kind == "quoted":
            for mark in (b'"', b"`", b"\xe2\x80\x9c"):
                if self.text.startswith(mark):
                    return self.text[len(mark) : -len(mark)].upper()
        return self.text if self.kind == "word" else b""

    def is_word(self, *words: bytes) -> bool:
        return self.kind == "word" and self.text in words


def inline_insert(text: bytes, *, is_complete: bool) -> InlineInsert | None:
    """The INSERT that `text` begins with, or None if it is none, or not one with its rows inline.

    `text` may be the first part of a longer one (`is_complete` False): None then also means "not yet seen".
    """
    tokens = _tokens(text)
    first = next(tokens, None)
    if first is None or not first.is_word(b"INSERT"):
        return None
    before = first
    end_of_head: int | None = None
    for token in tokens:
        if token.depth:
            continue
        if token.is_word(b"SETTINGS") and before.text not in (b"INTO", b"TABLE", b"."):
            end_of_head = token.start
        before = token
        if token.is_word(b"SELECT", b"WITH", b"INFILE", b"WATCH"):
            return None
        if token.is_word(b"VALUES"):
            head = end_of_head or token.start
            return InlineInsert(
                statement=text[:head].strip(),
                format="Values",
                data_start=token.end,
                settings=text[head : token.start].strip(),
            )
        if token.is_word(b"FORMAT"):
            name = next(tokens, None)
            # The name may go on in the part of the text that has not come yet.
            if name is None or name.kind != "word" or (name.end == len(text) and not is_complete):
                return None
            head = end_of_head or token.start
            return InlineInsert(
                statement=text[:head].strip(),
                format=text[name.start : name.end].decode(),
                data_start=_skip_line_end(text, name.end),
                settings=text[head : token.start].strip(),
            )
    return None


def output_format(text: bytes) -> str | None:
    """The format that the statement itself asks for in its FORMAT clause, or None."""
    if last_line := _LAST_LINE_FORMAT.search(text):
        return last_line[1].decode()
    tokens = [token for token in _tokens(text) if token.text != b";"]
    for position in range(len(tokens) - 2, -1, -1):
        clause, name = tokens[position], tokens[position + 1]
        if clause.is_word(b"FORMAT") and not clause.depth and name.kind == "word":
            rest = tokens[position + 2 :]
            if not rest or (len(rest) > 1 and rest[0].is_word(b"SETTINGS")):
                return text[name.start : name.end].decode()
    return None


def reaches_outside(text: bytes) -> str | None:
    """What in the statement would read or write files of this machine or run a program, or None.

    An embedded engine trusts its caller with all of that; whoever can open a loopback port is no such caller.
    """
    if not _SUSPICIOUS.search(text):
        return None
    before = b""
    for token in _tokens(text):
        if token.kind == "unread":
            return "quotation without an end"
        name = token.name
        if (before, name) in _OUTSIDE_CLAUSES:
            return f"{before.decode()} {name.decode()}"
        if token.text == b"(" and (before in _OUTSIDE_FUNCTIONS or b"\\" in before):
            return f"{before.decode('utf-8', 'replace').lower()}()"
        before = name
    return None


def _tokens(text: bytes) -> Iterator[_Token]:
    """Tokens of `text` without blanks and comments; words in capitals; `depth` counts open brackets.

    The last one is of kind "unread" if the walk ends before the text does.
    """
    position = depth = 0
    while match := _TOKEN.match(text, position):
        position = match.end()
        kind = match.lastgroup or ""
        if kind == "blank":
            continue
        word = match.group()
        if word in (b")", b"]", b"}"):
            depth -= 1
        yield _Token(
            kind=kind,
            text=word.upper() if kind == "word" else word,
            start=match.start(),
            end=position,
            depth=depth,
        )
        if word in (b"(", b"[", b"{"):
            depth += 1
    if position < len(text):
        yield _Token(kind="unread", text=b"", start=position, end=len(text), depth=depth)


def _skip_line_end(text: bytes, position: int) -> int:
    """Where rows begin behind a format's name: after blanks and one end of line, as in ClickHouse."""
    match = _LINE_END.match(text, position)
    return match.end() if match else position
