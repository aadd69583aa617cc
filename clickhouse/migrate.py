"""The database's history: `migrations/NNNN_name.sql`, applied once each and in order.

Every statement has to be repeatable (`IF NOT EXISTS` and the like): ClickHouse has no transactions for them,
so a run that was killed in the middle of a file is mended by running that file again from its top. For the
same reason two runs at once do no harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from clickhouse.client import Store, StoreError, sql

_MUTATES: Final = re.compile(r"ALTER TABLE \S+\s+(MATERIALIZE|UPDATE|DELETE)\b")
_UNKNOWN_EXCEPTION: Final = 1002


class MigrationRefused(Exception):
    """The database cannot be brought to this version: says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One file of `migrations/`."""

    version: int
    name: str
    text: str

    @property
    def label(self) -> str:
        """As the file is called, without `.sql`."""
        return f"{self.version:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, hexadecimal; the same whatever line ends a checkout has."""
        return hashlib.sha256(self.text.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def statements(self) -> tuple[str, ...]:
        """What is sent, one by one."""
        return tuple(split_statements(self.text))


def migrations() -> tuple[Migration, ...]:
    """All that this version of Footfall has, in order. Raises ValueError where two claim the same number."""
    found: dict[int, Migration] = {}
    for file in files("clickhouse").joinpath("migrations").iterdir():
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name)
        if match is None:
            continue
        migration = Migration(version=int(match[1]), name=match[2], text=file.read_text(encoding="utf-8"))
        if migration.version in found:
            raise ValueError(f"{migration.label} and {found[migration.version].label} have the same number")
        found[migration.version] = migration
    return tuple(found[version] for version in sorted(found))


async def pending(store: Store, known: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """Of the known migrations (unless told, those of this version) the ones not complete here, in order.

    Changes nothing. Raises MigrationRefused when the database has a history that the known ones do not
    continue, StoreError when it cannot be read.
    """
    known = migrations() if known is None else known
    [(has_history,)] = await store.rows(sql("has_migrations"))
    history = await store.rows(sql("migrations")) if has_history else []
    own = {migration.version: migration for migration in known}
    complete: set[int] = set()
    for version, name, checksum, is_complete in history:
        migration = own.get(version)
        if migration is None:
            raise MigrationRefused(
                f"the database is newer than this Footfall: it has migration {version:04}_{name}, which is "
                "not known here. Upgrade Footfall to the version that made it, or a later one."
            )
        if checksum != migration.checksum:
            raise MigrationRefused(_differs(migration, is_complete=bool(is_complete)))
        if is_complete:
            complete.add(version)
    missing = tuple(migration for migration in known if migration.version not in complete)
    if complete and missing and missing[0].version < max(complete):
        raise MigrationRefused(
            f"migration {missing[0].label} was never applied here, though {max(complete):04} was. A release "
            "never adds a migration before an existing one: install a released version of Footfall."
        )
    return missing


async def migrate(store: Store, known: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """Apply what is pending, and return it. One that was begun before and cut off is run again from its top.

    Raises MigrationRefused as `pending` does, and where the store rejects a statement; StoreError when the
    store went away: running it again goes on from there.
    """
    missing = await pending(store, known)
    if missing:
        await store.command("CREATE DATABASE IF NOT EXISTS footfall")
        await store.command(sql("create_migrations"))
    for migration in missing:
        # 1. Begun, with this checksum: should we be cut off, nobody goes on with other statements.
        await _record(store, migration, is_complete=False)
        # 2. The statements, each repeatable.
        for number, statement in enumerate(migration.statements, start=1):
            await _run(store, migration, number, statement)
        # 3. Complete: only now, so that a crash before repeats them.
        await _record(store, migration, is_complete=True)
    return missing


async def _run(store: Store, migration: Migration, number: int, statement: str) -> None:
    try:
        if _MUTATES.match(statement):
            await _mutate(store, statement)
        else:
            await store.command(statement)
    except StoreError as error:
        if error.code == 0:
            raise
        raise MigrationRefused(
            f"the store rejects statement {number} of migration {migration.label}: {error}. Mend the cause "
            "(rights, space, version of ClickHouse) and run it again: it goes on with this migration."
        ) from error


async def _mutate(store: Store, statement: str) -> None:
    """Have the store write columns of a table anew, which may take longer than a connection may be silent.

    Raises StoreError where it cannot.
    """
    await store.command(statement, settings={"mutations_sync": 0})
    pause = 0.01
    while unfinished := await store.rows(sql("mutations")):
        for code, reason in unfinished:
            if reason:
                raise StoreError(reason, code or _UNKNOWN_EXCEPTION)
        await asyncio.sleep(pause)
        pause = min(2 * pause, 1)


async def _record(store: Store, migration: Migration, *, is_complete: bool) -> None:
    await store.insert(
        "footfall.migrations",
        ["version", "name", "checksum", "is_complete"],
        [[migration.version, migration.name, migration.checksum, int(is_complete)]],
        origin="migrate",
    )


def _differs(migration: Migration, *, is_complete: bool) -> str:
    if is_complete:
        return (
            f"migration {migration.label} is not the one that was applied here: its file has changed since. "
            "Migrations are never changed once released: install the version of Footfall that made this "
            "database, or a later one."
        )
    return (
        f"migration {migration.label} was begun here with other statements and cut off half-way. Run "
        "`footfall migrate` of the version that began it, then this one."
    )


# A piece of SQL in which a semicolon is no end of a statement, or one that is.
_PIECE: Final = re.compile(
    r"""
      --[^\n]* | \#[\ !][^\n]* | /\*.*?\*/     # comments
    | '(?:[^'\\]|\\.|'')*'                     # strings
    | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$          # heredocs
    | (?P<end>;)
    | (?P<open>'|"|`|/\*)                      # opened and never closed
    | [\w.]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(text: str) -> Iterator[str]:
    """The statements of an SQL text, their comments included, without the semicolons between them.

    Semicolons in comments, strings, quoted identifiers and heredocs end nothing; what is only comment and
    space is no statement. Raises ValueError for a quote or comment that never ends.
    """
    start, has_words = 0, False
    for piece in _PIECE.finditer(text):
        if piece["open"]:
            line = text.count("\n", 0, piece.start()) + 1
            raise ValueError(f"{piece['open']} in line {line} is never closed")
        if piece["end"]:
            if has_words:
                yield text[start : piece.start()].strip()
            start, has_words = piece.end(), False
        elif not piece[0].isspace() and not piece[0].startswith(("--", "# ", "#!", "/*")):
            has_words = True
    if has_words:
        yield text[start:].strip()
