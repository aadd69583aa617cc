"""chDB, the ClickHouse engine as a library: opened once per process on one directory, used by many threads.

A request gets a connection of its own (0.1 ms), so that settings, the current database and temporary tables
never reach another request. A connection is used by one thread at a time, but not always by the same one; the
engine works outside Python's interpreter lock, so a long statement stalls no other.

Rows go in from a file in memory: 5.0 µs of CPU a row for 20 columns in JSONCompactEachRow. The same rows behind
the statement's text cost a fifth more, for the text is copied and read as a statement first. chDB's `send_insert`
costs 3.5, and says that all went well where the write itself has failed: too many parts, no space, a violated
constraint (seen in 4.4).
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape

from pipeline.embedded.lock import lock
from pipeline.errors import FootfallError, Misconfigured

log = logging.getLogger(__name__)

_MIB = 1024 * 1024

# Each chunk that chDB streams is a document of its own, so only formats without a frame can be joined ...
_FRAMELESS = frozenset(
    {
        "Native",
        "RowBinary",
        "CSV",
        "TSV",
        "TSVRaw",
        "TabSeparated",
        "TabSeparatedRaw",
        "JSONEachRow",
        "JSONLines",
        "NDJSON",
        "JSONStringsEachRow",
        "JSONCompactEachRow",
        "JSONCompactStringsEachRow",
    }
)
# ... and formats whose frame is a number of heading lines, which are cut from all chunks but the first.
_HEADING_LINES = {
    "CSVWithNames": 1,
    "CSVWithNamesAndTypes": 2,
    "TSVWithNames": 1,
    "TSVWithNamesAndTypes": 2,
    "TabSeparatedWithNames": 1,
    "TabSeparatedWithNamesAndTypes": 2,
    "JSONCompactEachRowWithNames": 1,
    "JSONCompactEachRowWithNamesAndTypes": 2,
}
# Everything else is built in memory as a whole, within this much for the statement and its result.
_WHOLE_RESULT_BYTES = 512 * _MIB
# The engine lays the local file system over the database `default`, which the grants forbid to touch: an
# unqualified table would be a denied file. So this is where a session begins that names no other.
_FIRST_DATABASE = "main"

_TABLE_ENGINES = (
    "MergeTree",
    "ReplacingMergeTree",
    "AggregatingMergeTree",
    "SummingMergeTree",
    "CollapsingMergeTree",
    "VersionedCollapsingMergeTree",
    "Buffer",
    "Log",
    "Memory",
    "Merge",
    "Null",
    "StripeLog",
    "TinyLog",
)

_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TOTALS = re.compile(rb"\bTOTALS\b", re.IGNORECASE)
_ERROR = re.compile(r"Code: (\d+)\.")


class StatementFailed(FootfallError):
    """The engine refused a statement or failed at it: hand its code and text on to whoever asked."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code

    @classmethod
    def because(cls, error: BaseException) -> StatementFailed:
        """From chDB's error, whose only structure is its text."""
        text = str(error)
        match = _ERROR.search(text)
        if match is None:
            return cls(1002, f"Code: 1002. DB::Exception: {text} (UNKNOWN_EXCEPTION)")
        return cls(int(match.group(1)), text[match.start() :].strip())


@dataclass(frozen=True)
class _Insert:
    """An INSERT whose rows are still coming."""

    statement: bytes
    settings: bytes
    format: str
    rows: IO[bytes]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a statement gave: rows as chunks of the output format, or none, and how many rows it wrote."""

    chunks: Iterator[bytes]
    has_rows: bool
    written_rows: int


class Engine:
    """The one engine of this process, on `data_dir`/store.

    Raises `Misconfigured` when another process holds the directory or it is not ours, chDB is missing, or the path
    cannot be used. What a statement has written when it returns survives the death of the process at any later moment.
    """

    def __init__(self, data_dir: Path) -> None:
        path = (data_dir / "store").absolute()
        if re.search(r"[?&%#]", str(path)):
            raise Misconfigured(f"The path {path} contains one of ? & % #. Choose another with --data-dir.")
        self._lock = lock(data_dir, "store.lock")
        try:
            path.mkdir(exist_ok=True)
            self._chdb = _library()
            self._path = str(path)
            # The first connection starts the engine, and it runs as long as this one is open.
            self._anchor = self._start(path)
        except BaseException:
            os.close(self._lock)
            raise

    def session(
        self, *, settings: Mapping[str, str], database: str | None = None, is_read_only: bool = False
    ) -> Session:
        """A session that is still to be opened."""
        return Session(
            self._chdb, self._path, settings=settings, database=database, is_read_only=is_read_only
        )

    def cancel(self, tag: str) -> None:
        """Ask the engine to stop what the session with this tag runs; returns at once."""
        connection = self._chdb.connect(self._path)
        try:
            connection.query(f"KILL QUERY WHERE Settings['log_comment'] = '{tag}' ASYNC")
        finally:
            connection.close()

    def close(self) -> None:
        """Stop the engine and give the directory free. Every session has to be closed before."""
        self._anchor.close()
        os.close(self._lock)

    def _start(self, path: Path) -> Any:
        config = path.with_name("store.xml")
        users = path.with_name("store-users.xml")
        config.write_text(_server_config(users), encoding="utf-8")
        users.write_text(_users_config(), encoding="utf-8")
        try:
            anchor = self._chdb.connect(f"{path}?config-file={config}")
            anchor.query(f"CREATE DATABASE IF NOT EXISTS {_FIRST_DATABASE}")
        except RuntimeError as error:
            raise Misconfigured(f"The engine does not start on {path}: {error}") from error
        return anchor


class Session:
    """One request's connection. Used by one thread at a time; `close` ends whatever is still open.

    `is_read` says, once a statement has begun, that it only reads: to stop it loses nothing.
    """

    def __init__(
        self, chdb: Any, path: str, *, settings: Mapping[str, str], database: str | None, is_read_only: bool
    ) -> None:
        self.tag = f"footfall-{uuid.uuid4()}"
        self.is_read = False
        self._chdb = chdb
        self._path = path
        self._settings = settings
        self._database = database
        self._is_read_only = is_read_only
        self._connection: Any = None
        self._stream: Any = None
        self._insert: _Insert | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self) -> None:
        """Connect. Raises `StatementFailed` for a setting or a database that the engine does not know."""
        self._connection = self._chdb.connect(self._path)
        name = _FIRST_DATABASE if self._database in (None, "", "default") else self._database
        self._run("USE `" + name.replace("\\", "\\\\").replace("`", "\\`") + "`")
        # The tag is how `Engine.cancel` finds the statement: the library tells no query id while it runs.
        self.set({**self._settings, "log_comment": self.tag})
        if self._is_read_only:
            self.set({"readonly": "2"})

    def set(self, settings: Mapping[str, str]) -> None:
        """Apply settings, or parameters as `param_…`, to all that follows in this session."""
        for name in settings:
            if not _SETTING_NAME.match(name):
                text = f"Code: 115. DB::Exception: Unknown setting '{name}'. (UNKNOWN_SETTING)"
                raise StatementFailed(115, text)
        if settings:
            self._run("SET " + ", ".join(f"{name} = {_quoted(value)}" for name, value in settings.items()))

    def execute(self, statement: bytes, *, output_format: str, params: Mapping[str, str]) -> Answer:
        """Run anything but an INSERT with inline rows.

        Rows of a SELECT are computed while `chunks` is read, in constant memory where the format allows it.
        `params` are texts in ClickHouse's escaped form.
        """
        self.is_read = True
        is_streamable = output_format in _FRAMELESS or output_format in _HEADING_LINES
        # A stream leaves out the totals of WITH TOTALS.
        if is_streamable and not _TOTALS.search(statement):
            try:
                self._stream = self._connection.send_query(statement, output_format, params=dict(params))
                chunks = self._chunks(_HEADING_LINES.get(output_format, 0), is_csv="CSV" in output_format)
                return Answer(chunks=chunks, has_rows=True, written_rows=0)
            except RuntimeError as error:
                if "Streaming query is not supported" not in str(error):
                    raise StatementFailed.because(error) from None
        query_class = self._connection.classify_query(statement)["query_class"]
        self.is_read = query_class.name == "READ_ONLY"
        if self.is_read:
            self.set({"max_memory_usage": str(_WHOLE_RESULT_BYTES), **self._settings})
        result = self._run(statement, output_format, params)
        body = bytes(result.bytes() or b"")
        return Answer(
            chunks=iter((body,) if body else ()),
            has_rows=self.is_read or bool(body),
            written_rows=result.rows_written(),
        )

    def begin_insert(self, statement: bytes, *, settings: bytes = b"", input_format: str) -> None:
        """Begin an INSERT whose rows come through `append`. Its SETTINGS clause is given by itself."""
        self._insert = _Insert(statement, settings, input_format, _scratch())

    def append(self, data: bytes) -> None:
        """Hand rows, or any part of rows, to the insert."""
        assert self._insert is not None  # noqa: S101 - callers begin it first
        self._insert.rows.write(data)

    def finish_insert(self) -> int:
        """Write what was appended; the number of rows written."""
        insert, self._insert = self._insert, None
        assert insert is not None  # noqa: S101 - callers begin it first
        with insert.rows as rows:
            rows.flush()
            rows.seek(0)
            source = f"FROM INFILE '/dev/fd/{rows.fileno()}' COMPRESSION 'none'".encode()
            clauses = (insert.statement, source, insert.settings, f"FORMAT {insert.format}".encode())
            written: int = self._run(b"\n".join(clauses)).rows_written()  # any of them may end in a comment
        return written

    def close(self) -> None:
        """End the session. An open stream is cancelled, an insert that was not finished is given up."""
        connection, self._connection = self._connection, None
        stream, self._stream = self._stream, None
        insert, self._insert = self._insert, None
        if insert is not None:
            insert.rows.close()
        if connection is None:
            return
        try:
            if stream is not None:
                connection.streaming_cancel_query(stream)
        except RuntimeError as error:
            log.debug("giving up a statement: %s", error)
        finally:
            connection.close()

    def _chunks(self, heading_lines: int, *, is_csv: bool) -> Iterator[bytes]:
        is_first = True
        while True:
            chunk = self._call(self._connection.streaming_fetch_result, self._stream)
            is_last = chunk is None or chunk.rows_read() == 0
            data = b"" if chunk is None else bytes(chunk.bytes() or b"")
            # An empty result comes as one chunk without rows, which holds the headings.
            if data and (is_first or not is_last):
                yield data if is_first else _without_heading(data, heading_lines, is_csv=is_csv)
            if is_last:
                self._stream = None
                return
            is_first = False

    def _run(
        self, statement: bytes | str, output_format: str = "Null", params: Mapping[str, str] | None = None
    ) -> Any:
        return self._call(self._connection.query, statement, output_format, params=dict(params or {}))

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            raise StatementFailed.because(error) from None


def _library() -> Any:
    """chDB's binding. Its signal handlers are taken back: signals belong to whoever runs the process."""
    try:
        import chdb
    except ImportError as error:
        raise Misconfigured(
            "The embedded store needs chDB: install footfall[embedded], or name a server with --clickhouse."
        ) from error
    binding: Any = chdb._chdb
    binding.reset_signal_handlers()
    binding.set_signal_handlers_enabled(0)
    return binding


def _scratch() -> IO[bytes]:
    """A file without a name: in memory, where the system has such."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("insert"), "w+b")
    return tempfile.TemporaryFile()


def _memory_budget() -> int:
    """Bytes the engine may use in all: half of the machine, at most 4 GiB."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine // 2, 4096 * _MIB)


def _server_config(users: Path) -> str:
    # ClickHouse keeps 8 slots of its pool free for small merges and starts mutations only when 20 are free;
    # this pool has four in all.
    merge_tree = "".join(
        f"<{name}>{value}</{name}>"
        for name, value in {
            "number_of_free_entries_in_pool_to_lower_max_size_of_merge": 2,
            "number_of_free_entries_in_pool_to_execute_mutation": 1,
            # What a merge has written is in memory for a while, which a power cut takes: Linux has it on disk within
            # 35 s. A server keeps what it has merged for 480, the library deletes it at the next opportunity. Of many
            # small inserts so many parts are merged that those of 480 s took 1.5 GB of disk and 130 MB of memory.
            "old_parts_lifetime": 120,
        }.items()
    )
    return f"""<clickhouse>
  <users_config>{escape(str(users))}</users_config>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{_memory_budget()}</max_server_memory_usage>
  <mark_cache_size>{128 * _MIB}</mark_cache_size>
  <primary_index_cache_size>{128 * _MIB}</primary_index_cache_size>
  <index_mark_cache_size>{32 * _MIB}</index_mark_cache_size>
  <index_uncompressed_cache_size>0</index_uncompressed_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <background_pool_size>2</background_pool_size>
  <background_schedule_pool_size>2</background_schedule_pool_size>
  <send_crash_reports><enabled>false</enabled></send_crash_reports>
  <access_control_improvements>
    <table_engines_require_grant>true</table_engines_require_grant>
  </access_control_improvements>
  <merge_tree>{merge_tree}</merge_tree>
</clickhouse>
"""


def _users_config() -> str:
    # No grant on files, URLs, other sources, nor on engines that keep their data elsewhere.
    # async_insert is off: what was answered is stored, not queued.
    # Small inserts make new parts all the time, and the cache of what conditions find in which part forgets none
    # that are gone: 40 MB in an hour and a half, 270 at its limit, and no question was faster.
    engines = "".join(f"<query>GRANT TABLE ENGINE ON {engine}</query>" for engine in _TABLE_ENGINES)
    return f"""<clickhouse>
  <profiles><default>
    <async_insert>0</async_insert>
    <implicit_select>0</implicit_select>
    <log_queries>0</log_queries>
    <use_query_condition_cache>0</use_query_condition_cache>
    <max_memory_usage>{_memory_budget() // 2}</max_memory_usage>
  </default></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants><query>
      GRANT SHOW, SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK, KILL QUERY,
      SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM DROP CACHE, dictGet ON *.*
    </query>{engines}</grants>
  </default></users>
</clickhouse>
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _without_heading(data: bytes, lines: int, *, is_csv: bool) -> bytes:
    """`data` without its first lines. Only CSV has line ends within a line, between quotation marks."""
    position = 0
    for _ in range(lines):
        end = data.index(b"\n", position)
        while is_csv and data.count(b'"', position, end) % 2:
            end = data.index(b"\n", end + 1)
        position = end + 1
    return data[position:]
