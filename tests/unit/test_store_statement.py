"""What the store's front reads out of a statement's text."""

from __future__ import annotations

import pytest

from pipeline.embedded.statement import inline_insert, output_format, reaches_outside


@pytest.mark.parametrize(
    ("text", "statement", "name", "rows"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", b"INSERT INTO t", "CSV", b"1,2\n"),
        (b"insert into t (a) format JSONEachRow {}", b"insert into t (a)", "JSONEachRow", b"{}"),
        (b"INSERT INTO t FORMAT Native\n\n\x01\0", b"INSERT INTO t", "Native", b"\n\x01\0"),
        (b"INSERT INTO t FORMAT CSV\r\n1", b"INSERT INTO t", "CSV", b"1"),
        (b"INSERT INTO t FORMAT CSV", b"INSERT INTO t", "CSV", b""),
        (b"INSERT INTO t VALUES (1),(2)", b"INSERT INTO t", "Values", b" (1),(2)"),
        (
            b'INSERT INTO `format` (`values`, "select") FORMAT TSV\nx',
            b'INSERT INTO `format` (`values`, "select")',
            "TSV",
            b"x",
        ),
        (
            b'INSERT INTO "settings" FORMAT TSV\nx',
            b'INSERT INTO "settings"',
            "TSV",
            b"x",
        ),
        (b"INSERT INTO settings FORMAT TSV\nx", b"INSERT INTO settings", "TSV", b"x"),
        (
            b"INSERT INTO db.settings (settings) VALUES (1)",
            b"INSERT INTO db.settings (settings)",
            "Values",
            b" (1)",
        ),
        (
            b"-- FORMAT a\n/* VALUES */ INSERT INTO t FORMAT TSV\nx",
            b"-- FORMAT a\n/* VALUES */ INSERT INTO t",
            "TSV",
            b"x",
        ),
    ],
)
def test_an_insert_ends_where_its_rows_begin(text: bytes, statement: bytes, name: str, rows: bytes) -> None:
    insert = inline_insert(text, is_complete=True)
    assert insert is not None
    assert (insert.statement, insert.format, text[insert.data_start :]) == (statement, name, rows)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (b"INSERT INTO t (a) SETTINGS x = 'FORMAT CSV' FORMAT TSV\nx", b"SETTINGS x = 'FORMAT CSV'"),
        (b"INSERT INTO t (a) settings x = 1, y = 2 VALUES (1)", b"settings x = 1, y = 2"),
        (b"INSERT INTO t (a) FORMAT TSV\nx", b""),
    ],
)
def test_its_settings_stand_by_themselves(text: bytes, settings: bytes) -> None:
    insert = inline_insert(text, is_complete=True)
    assert insert is not None
    assert (insert.statement, insert.settings) == (b"INSERT INTO t (a)", settings)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"SELECT 1 FORMAT CSV",
        b"INSERT INTO t SELECT a FROM s FORMAT CSV",
        b"INSERT INTO t WITH x AS (SELECT 1) SELECT x",
        b"INSERT INTO t (a) SELECT format FROM s",
        b"INSERT INTO t",
        b"INSERT INTO t (a, 'unterminated FORMAT CSV",
        b"\xff\xfe\0",
    ],
)
def test_a_statement_without_inline_rows_is_no_inline_insert(text: bytes) -> None:
    assert inline_insert(text, is_complete=True) is None


def test_a_format_name_that_may_go_on_in_the_next_piece_is_not_taken_for_whole() -> None:
    assert inline_insert(b"INSERT INTO t FORMAT JSON", is_complete=False) is None
    assert inline_insert(b"INSERT INTO t FORMAT JSON", is_complete=True) is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"SELECT 1 FORMAT CSV", "CSV"),
        (b"SELECT 1\n format JSONEachRow ;\n", "JSONEachRow"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT format FROM t", None),
        (b"SELECT 1 AS format", None),
        (b"SELECT 1 AS format SETTINGS max_threads = 1", None),
        (b"SELECT ' FORMAT CSV'", None),
        (b"SELECT '\n FORMAT CSV'", None),
        (b"SELECT 1 -- one\n FORMAT Native", "Native"),
        (b"SELECT 1 FORMAT CSV\n -- \n FORMAT Native", "Native"),
        (b"SELECT 1 /*\n FORMAT CSV */", None),
        (b"SELECT (SELECT 1 FORMAT CSV)", None),
        (b"", None),
    ],
)
def test_the_output_format_is_that_of_the_last_clause(text: bytes, name: str | None) -> None:
    assert output_format(text) == name


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT file('/etc/passwd')",
        b"SELECT `file` /* */ ('/etc/passwd')",
        b"SELECT \"file\"('/etc/passwd')",
        rb"SELECT `fi\x6ce`('/etc/passwd')",
        b"SELECT 1 INTO --\n OUTFILE '/tmp/x'",
        b"INSERT INTO t FROM INFILE '/etc/passwd'",
        b"CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'CSV'))",
        b"CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(executable_pool(command 'id'))",
        b"SELECT * FROM Python(x)",
        "SELECT ‘'’, file('/etc/passwd'), ‘'’".encode(),
        "SELECT “file”('/etc/passwd')".encode(),
        "SELECT file\u00a0('/etc/passwd')".encode(),
        b"SELECT $a$ ' $a$, file('/etc/passwd'), $a$ ' $a$",
        b"SELECT 'no end, file('/etc/passwd')",
    ],
)
def test_a_statement_that_reaches_files_or_programs_is_recognised(text: bytes) -> None:
    assert reaches_outside(text)


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT file FROM t WHERE f = 'file('",
        b"INSERT INTO `t` (`file`, b)",
        b"SELECT 'INTO OUTFILE', profile(1)",
        b"SELECT 1 -- file(1)",
    ],
)
def test_a_statement_that_only_speaks_of_files_is_let_through(text: bytes) -> None:
    assert reaches_outside(text) is None
