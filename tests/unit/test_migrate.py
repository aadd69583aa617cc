"""What migrations are: files in order, made of repeatable statements."""

from __future__ import annotations

import re

import pytest

from clickhouse.migrate import Migration, migrations, split_statements


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" ;; ; ", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;SELECT 2;\n", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' ; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("SELECT 'a''; b' ; SELECT 2", ["SELECT 'a''; b'", "SELECT 2"]),
        (r"SELECT 'a\'; b' ; SELECT 2", [r"SELECT 'a\'; b'", "SELECT 2"]),
        (r"SELECT '\\' ; SELECT 2", [r"SELECT '\\'", "SELECT 2"]),
        ('SELECT 1 AS "a;b" ; SELECT `c;d`', ['SELECT 1 AS "a;b"', "SELECT `c;d`"]),
        ("-- it's; one\nSELECT 1; -- done;", ["-- it's; one\nSELECT 1"]),
        ("SELECT 1 /* ; ' */ + 2; # end;", ["SELECT 1 /* ; ' */ + 2"]),
        ("SELECT 5 - -3; SELECT 4 / 2", ["SELECT 5 - -3", "SELECT 4 / 2"]),
        ("SELECT $$a;b$$, $x$c;$$d$x$; SELECT 2", ["SELECT $$a;b$$, $x$c;$$d$x$", "SELECT 2"]),
        ("SELECT 'ü;\n;' ; SELECT\n2", ["SELECT 'ü;\n;'", "SELECT\n2"]),
    ],
)
def test_a_text_is_split_at_the_semicolons_that_end_statements(text: str, statements: list[str]) -> None:
    assert list(split_statements(text)) == statements


@pytest.mark.parametrize("opened", ["'", '"', "`", "/*"])
def test_what_is_opened_and_never_closed_is_an_error_that_names_the_line(opened: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{opened} in line 2")):
        list(split_statements(f"SELECT 1;\nSELECT {opened}; SELECT 3"))


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_every_statement_of_every_migration_can_be_repeated() -> None:
    """A run killed in the middle of a file is mended by running the file again."""
    repeatable = re.compile(
        r"CREATE (DATABASE|TABLE|VIEW|DICTIONARY|FUNCTION|ROLE|USER|ROW POLICY|QUOTA) IF NOT EXISTS "
        r"|CREATE OR REPLACE "
        r"|DROP \w+ IF EXISTS "
        r"|ALTER TABLE \S+\s+(ADD|DROP|MODIFY|COMMENT) \w+ IF (NOT )?EXISTS "
        r"|ALTER TABLE \S+\s+MODIFY SETTING "
        r"|ALTER TABLE \S+\s+MATERIALIZE COLUMN "
        r"|GRANT "
    )
    for migration in migrations():
        assert migration.statements, f"{migration.label} does nothing"
        for statement in migration.statements:
            bare = re.sub(r"--[^\n]*\n", "", statement).strip()
            assert repeatable.match(bare), f"{migration.label} cannot be repeated: {bare[:100]}"


def test_a_checksum_is_of_the_text_whatever_its_line_ends() -> None:
    one = Migration(version=1, name="a", text="SELECT 1;\nSELECT 2;\n")
    assert one.checksum == Migration(version=1, name="a", text="SELECT 1;\r\nSELECT 2;\r\n").checksum
    assert one.checksum != Migration(version=1, name="a", text="SELECT 1;\nSELECT 3;\n").checksum
