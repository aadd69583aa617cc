"""The embedded store, in a process of its own, as clickhouse-connect and plain HTTP clients see it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import lz4.frame
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.embedded.store import MAX_BODY_BYTES, serve_store
from pipeline.errors import Misconfigured
from tests.kafka import free_port

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")

RUN = """
import asyncio, signal, sys
from pathlib import Path
from pipeline.embedded.store import serve_store

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve_store(
        data_dir=Path(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]),
        ready=lambda: print("ready", flush=True), stop=stop,
    )

asyncio.run(main())
"""
TABLE = """CREATE TABLE footfall.t (a Int64, b String) ENGINE = MergeTree ORDER BY a
    SETTINGS non_replicated_deduplication_window = 100"""


class Store:
    """A store process on `data_dir`; `http` speaks to it."""

    def __init__(self, data_dir: Path) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(data_dir), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.ask("CREATE DATABASE IF NOT EXISTS footfall")

    def ask(self, statement: str | bytes, **params: str) -> str:
        """The answer to a statement, as text."""
        answer = self.http.post("/", content=statement, params=params)
        assert answer.status_code == 200, answer.text
        return answer.text.strip()

    def rss(self) -> int:
        """Bytes of memory the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """The exit code of the process after this signal."""
        self.http.close()
        self.process.send_signal(how)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    running = Store(tmp_path_factory.mktemp("data"))
    yield running
    assert running.end() == 0


@pytest.fixture
def table(store: Store) -> Iterator[None]:
    """An empty table footfall.t (a Int64, b String)."""
    store.ask(TABLE)
    yield
    store.ask("DROP TABLE footfall.t")


@pytest.fixture
def client(store: Store) -> Iterator[Any]:
    with clickhouse_connect.get_client(host="127.0.0.1", port=store.port) as client:
        yield client


def eventually(what: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- an unmodified clickhouse-connect ---------------------------------------------------------------------


@pytest.mark.usefixtures("table")
def test_the_sync_client_runs_commands_queries_and_inserts(client: Any) -> None:
    client.insert("footfall.t", [[1, "x\0y"], [2, "ä"]], column_names=["a", "b"])
    assert client.query("SELECT * FROM footfall.t ORDER BY a").result_rows == [(1, "x\0y"), (2, "ä")]
    assert client.command("SELECT count() FROM footfall.t") == 2
    assert client.command("SELECT 1 WHERE 0") == ""
    assert client.query("SELECT a FROM footfall.t LIMIT 0").column_names == ("a",)
    assert client.raw_query("SELECT 1 AS a, 2 AS b", fmt="CSVWithNames") == b'"a","b"\n1,2\n'


@pytest.mark.usefixtures("table")
def test_the_async_client_runs_commands_queries_and_inserts(store: Store) -> None:
    async def use() -> list[Any]:
        client = await clickhouse_connect.get_async_client(host="127.0.0.1", port=store.port)
        async with client:
            await client.command("ALTER TABLE footfall.t ADD COLUMN c UInt8 DEFAULT 7")
            await client.insert("footfall.t", [[1, "x"]], column_names=["a", "b"])
            return list((await client.query("SELECT * FROM footfall.t")).result_rows)

    assert asyncio.run(use()) == [(1, "x", 7)]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
@pytest.mark.usefixtures("table")
def test_an_insert_arrives_whatever_the_compression(store: Store, compress: Any) -> None:
    with clickhouse_connect.get_client(host="127.0.0.1", port=store.port, compress=compress) as client:
        summary = client.insert("footfall.t", [[i, "x" * 99] for i in range(50_000)], column_names=["a", "b"])
        assert summary.written_rows == 50_000
    assert store.ask("SELECT count(), sum(a), min(length(b)) FROM footfall.t") == "50000\t1249975000\t99"


@pytest.mark.usefixtures("table")
def test_an_insert_with_a_token_seen_before_changes_nothing(client: Any) -> None:
    for value in (1, 2):
        settings = {"insert_deduplication_token": "one", "async_insert": 0}
        client.insert("footfall.t", [[value, "x"]], column_names=["a", "b"], settings=settings)
    client.insert(
        "footfall.t", [[3, "x"]], column_names=["a", "b"], settings={"insert_deduplication_token": "two"}
    )
    assert client.query("SELECT a FROM footfall.t ORDER BY a").result_columns == [[1, 3]]


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE footfall.t; --",
        "\\",
        "\\N",
        "a\tb\nc\r\0d",
        "{x:String}",
        "ü\U0001f600",
        "",
        "' OR '1'='1",
    ],
)
@pytest.mark.parametrize("form", [False, True])
def test_a_hostile_text_comes_through_a_bound_parameter_unchanged(
    store: Store, text: str, form: bool
) -> None:
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=store.port, form_encode_query_params=form
    ) as client:
        rows = client.query(
            "SELECT {one:String}, {many:Array(String)}", parameters={"one": text, "many": [text, text]}
        ).result_rows
    assert rows == [(text, [text, text])]


@pytest.mark.parametrize(
    ("statement", "code", "name"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT sleep(3) SETTINGS max_execution_time = 0.2", 159, "TIMEOUT_EXCEEDED"),
    ],
)
def test_the_client_raises_the_engines_code(client: Any, statement: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query(statement)
    assert (caught.value.code, caught.value.name) == (code, name)


# --- plain HTTP -------------------------------------------------------------------------------------------


def test_ping_says_ok(store: Store) -> None:
    assert store.http.get("/ping").text == "Ok.\n"


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("SELECT * FROM nowhere", 404, "60"),
        ("SELECT nonsense(", 400, "62"),
        ("SELECT toUInt8('x')", 400, "6"),
        ("SELECT throwIf(1)", 500, "395"),
        ("SELECT 1 SETTINGS no_such = 1", 404, "115"),
        ("", 400, "62"),
    ],
)
def test_an_error_has_clickhouses_status_code_and_text(
    store: Store, statement: str, status: int, code: str
) -> None:
    answer = store.http.post("/", content=statement)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")


def test_settings_and_formats_are_taken_from_url_and_headers(store: Store) -> None:
    statement = "SELECT getSetting('max_block_size') AS n"
    assert store.ask(statement, max_block_size="123") == "123"
    assert store.ask(statement, max_block_size="123", default_format="JSONEachRow") == '{"n":123}'
    answer = store.http.post("/", content=statement, headers={"X-ClickHouse-Format": "CSVWithNames"})
    assert (answer.text.splitlines()[0], answer.headers["x-clickhouse-format"]) == ('"n"', "CSVWithNames")
    assert json.loads(store.ask(f"{statement} FORMAT JSON"))["rows"] == 1
    answer = store.http.post("/", content=statement, params={"no_such_setting": "1"})
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (404, "115")


@pytest.mark.usefixtures("table")
def test_the_statement_may_begin_in_the_url_and_go_on_in_the_body(store: Store) -> None:
    assert store.ask("1 + {x:UInt8}", query="SELECT", param_x="2") == "3"
    assert store.http.get("/", params={"query": "SELECT 4"}).text == "4\n"
    store.ask("(1, 'x'), (2, concat('y', 'z'))", query="INSERT INTO footfall.t VALUES")
    store.ask("INSERT INTO footfall.t FORMAT JSONEachRow\n" + '{"a": 3, "b": "w"}')
    store.ask("4,v\n", query="INSERT INTO footfall.{t:Identifier} (a, b) FORMAT CSV", param_t="t")
    assert (
        store.ask("SELECT groupArray(b) FROM (SELECT b FROM footfall.t ORDER BY a)") == "['x','yz','w','v']"
    )


def rows(count: int) -> bytes:
    return b"".join(b'[%d, "row %d"]\n' % (i, i) for i in range(count))


@pytest.mark.parametrize(
    ("encoding", "compress"), [("lz4", lz4.frame.compress), ("gzip", gzip.compress), ("identity", bytes)]
)
@pytest.mark.usefixtures("table")
def test_rows_as_json_arrive_in_one_part(store: Store, encoding: str, compress: Any) -> None:
    store.ask("SYSTEM STOP MERGES")
    try:
        answer = store.http.post(
            "/",
            content=compress(rows(100_000)),
            headers={"Content-Encoding": encoding},
            params={"query": "INSERT INTO footfall.t (a, b) FORMAT JSONCompactEachRow", "async_insert": "0"},
        )
        assert answer.status_code == 200, answer.text
        assert json.loads(answer.headers["x-clickhouse-summary"])["written_rows"] == "100000"
        parts = "SELECT count(), sum(rows) FROM system.parts WHERE table = 't'"
        assert store.ask(parts) == "1\t100000"
    finally:
        store.ask("SYSTEM START MERGES")


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (lz4.frame.compress(rows(5000))[:-30], "lz4", 400),
        (b"nonsense", "lz4", 400),
        (gzip.compress(rows(5000))[:-30], "gzip", 400),
        (rows(5000), "br", 501),
        (rows(5000) + b"[1, ", "identity", 400),
        (rows(5000) + b"[1]\n", "identity", 400),
    ],
)
@pytest.mark.usefixtures("table")
def test_a_broken_insert_is_refused_and_stores_nothing(
    store: Store, body: bytes, encoding: str, status: int
) -> None:
    answer = store.http.post(
        "/",
        content=body,
        headers={"Content-Encoding": encoding},
        params={"query": "INSERT INTO footfall.t FORMAT JSONCompactEachRow"},
    )
    assert answer.status_code == status
    assert store.ask("SELECT count() FROM footfall.t") == "0"


@pytest.mark.usefixtures("table")
def test_an_insert_whose_client_goes_away_stores_nothing(store: Store) -> None:
    with socket.create_connection(("127.0.0.1", store.port)) as connection:
        statement = "INSERT%20INTO%20footfall.t%20FORMAT%20JSONCompactEachRow"
        head = f"POST /?query={statement} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n"
        connection.sendall(head.encode() + rows(50_000))
    store.ask("INSERT INTO footfall.t VALUES (1, 'x')")  # and others go on
    assert store.ask("SELECT count() FROM footfall.t") == "1"


@pytest.mark.parametrize(
    ("table", "settings", "code"),
    [
        ("(a Int64) ENGINE = MergeTree PARTITION BY a ORDER BY a", {}, 252),
        ("(a Int64, CONSTRAINT few CHECK a < 100) ENGINE = MergeTree ORDER BY a", {}, 469),
        (
            "(a Int64) ENGINE = MergeTree ORDER BY a SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 1",
            {},
            252,
        ),
        (
            "(a Int64) ENGINE = MergeTree ORDER BY a",
            {"min_free_disk_bytes_to_perform_insert": str(1 << 60)},
            243,
        ),
        (
            "(a Int64) ENGINE = MergeTree ORDER BY a",
            {"max_memory_usage": "1", "max_untracked_memory": "0"},
            241,
        ),
    ],
    ids=["too many partitions", "a constraint", "too many parts", "no space", "no memory"],
)
def test_an_insert_whose_write_fails_is_refused_and_stores_nothing(
    store: Store, table: str, settings: dict[str, str], code: int
) -> None:
    """chDB reads rows first and writes them later; it says of its streamed inserts that all went well."""
    store.ask(f"CREATE TABLE footfall.refusing {table}")
    try:
        store.ask("INSERT INTO footfall.refusing VALUES (1)")
        answer = store.http.post(
            "/",
            content=b"".join(b"[%d]\n" % number for number in range(200)),
            params={"query": "INSERT INTO footfall.refusing FORMAT JSONCompactEachRow", **settings},
        )
        assert answer.status_code != 200
        assert answer.headers["x-clickhouse-exception-code"] == str(code), answer.text
        assert store.ask("SELECT count() FROM footfall.refusing") == "1"
    finally:
        store.ask("DROP TABLE footfall.refusing")


def test_what_a_condition_found_in_parts_is_not_remembered_beyond_them(store: Store) -> None:
    store.ask("CREATE TABLE footfall.parted (n UInt32) ENGINE = MergeTree ORDER BY n")
    try:
        for _ in range(3):
            store.ask("INSERT INTO footfall.parted VALUES (1)")
            assert store.ask("SELECT count() FROM footfall.parted WHERE sipHash64(n) = 0") == "0"
        assert (
            store.ask("SELECT value FROM system.metrics WHERE metric = 'QueryConditionCacheEntries'") == "0"
        )
    finally:
        store.ask("DROP TABLE footfall.parted")


def test_a_body_above_the_limit_is_refused_before_it_is_sent(store: Store) -> None:
    with socket.create_connection(("127.0.0.1", store.port)) as connection:
        head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


# --- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output_format", "count"),
    [("CSV", 2_000_000), ("CSVWithNames", 1_000_000), ("JSONEachRow", 1_000_000), ("Native", 1_000_000)],
)
def test_millions_of_rows_stream_in_bounded_memory(store: Store, output_format: str, count: int) -> None:
    statement = """SELECT number AS n, concat('"', repeat('x', 200), '\n') AS text FROM numbers({n:UInt64})"""
    before = store.rss()
    most = size = lines = 0
    params = {"default_format": output_format, "param_n": str(count)}
    with store.http.stream("POST", "/", content=statement, params=params) as answer:
        for position, chunk in enumerate(answer.iter_bytes(1024 * 1024)):
            size += len(chunk)
            lines += chunk.count(b"x\n") + chunk.count(b"x\\n")
            if position % 20 == 0:
                most = max(most, store.rss())
    assert size > count * 200
    # A few of the pieces end between an x and the end of its line.
    assert output_format == "Native" or lines > count - 1000
    assert most - before < 300_000_000


def test_headings_stand_once_above_a_stream(store: Store) -> None:
    statement = (
        'SELECT number AS `two\nlines`, \'x\' AS "y""z" FROM numbers(200000) FORMAT CSVWithNamesAndTypes'
    )
    text = store.ask(statement)
    heading = '"two\nlines","y""z"\n"UInt64","String"\n'
    assert text.startswith(heading + '0,"x"\n')
    assert len(text.removeprefix(heading).splitlines()) == 200_000


def test_totals_are_not_lost(store: Store) -> None:
    statement = (
        "SELECT number % 2 AS a, count() FROM numbers(10) GROUP BY a WITH TOTALS ORDER BY a FORMAT CSV"
    )
    assert store.ask(statement) == "0,5\n1,5\n\n0,10"


def test_an_error_within_an_answer_drops_the_connection(store: Store) -> None:
    statement = "SELECT throwIf(number = 3000000), 'some text' FROM numbers(4000000) FORMAT CSV"
    with store.http.stream("POST", "/", content=statement) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_an_error_early_in_an_answer_is_a_status(store: Store) -> None:
    answer = store.http.post("/", content="SELECT throwIf(number = 100000) FROM numbers(200000) FORMAT CSV")
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (500, "395")


def test_a_format_that_cannot_stream_is_refused_above_a_limit(store: Store) -> None:
    answer = store.http.post("/", content="SELECT repeat('x', 1000) FROM numbers(1000000) FORMAT JSON")
    assert answer.headers["x-clickhouse-exception-code"] == "241"


# --- statements beside each other -------------------------------------------------------------------------

LONG = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"


def running(store: Store, begin: str) -> int:
    """How many statements run that begin so."""
    statement = "SELECT count() FROM system.processes WHERE startsWith(query, {begin:String})"
    return int(store.ask(statement, param_begin=begin))


@pytest.mark.usefixtures("table")
def test_a_long_statement_stalls_neither_a_short_one_nor_an_insert(store: Store) -> None:
    def run_long() -> None:
        with contextlib.suppress(httpx.ReadTimeout):
            httpx.post(f"http://127.0.0.1:{store.port}/", content=LONG, timeout=3)

    threads = [threading.Thread(target=run_long) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: running(store, "SELECT sum") == len(threads))
    begun = time.monotonic()
    store.ask("SELECT 1")
    store.ask("INSERT INTO footfall.t VALUES (1, 'x')")
    # The long ones give up after 3 s.
    assert time.monotonic() - begun < 2.5
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "statement", [LONG, "SELECT number FROM numbers(100000000000) FORMAT CSV", f"{LONG} FORMAT JSON"]
)
def test_a_read_whose_client_goes_away_is_cancelled(store: Store, statement: str) -> None:
    with socket.create_connection(("127.0.0.1", store.port)) as connection:
        body = statement.encode()
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        eventually(lambda: running(store, statement[:12]) == 1)
    eventually(lambda: running(store, statement[:12]) == 0, seconds=3)


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 4])
def test_a_read_whose_client_goes_away_before_it_begins_is_cancelled(store: Store, milliseconds: int) -> None:
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(LONG) + LONG.encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", store.port)) as connection:
            connection.sendall(request)
            time.sleep(milliseconds / 1000)
    time.sleep(0.3)  # by then it has begun, if it does
    eventually(lambda: running(store, "SELECT sum") == 0, seconds=3)


@pytest.mark.usefixtures("table")
def test_a_write_whose_client_goes_away_runs_to_its_end(store: Store) -> None:
    statement = (
        "INSERT INTO footfall.t SELECT number, sleepEachRow(0.5) FROM numbers(4) SETTINGS max_block_size = 1"
    )
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"http://127.0.0.1:{store.port}/", content=statement, timeout=0.3)
    eventually(lambda: store.ask("SELECT count() FROM footfall.t") == "4")


def test_nothing_leaks_from_one_request_to_the_next(store: Store) -> None:
    for statement in (
        "SET max_block_size = 77",
        "USE system",
        "CREATE TEMPORARY TABLE left_over (a Int8)",
        "SET param_x = '1'",
    ):
        store.ask(statement, session_id="same", max_threads="1")
    assert store.ask("SELECT currentDatabase()", session_id="same") == "main"
    assert store.ask("SELECT getSetting('max_block_size')", session_id="same") != "77"
    assert store.ask("SELECT getSetting('max_threads') = 1") in ("0", "1" if os.cpu_count() == 1 else "0")
    assert store.http.post("/?session_id=same", content="SELECT * FROM left_over").status_code == 404
    assert store.http.post("/?session_id=same", content="SELECT {x:Int8}").status_code != 200


# --- who may ask, and for what ----------------------------------------------------------------------------


@pytest.mark.usefixtures("table")
def test_a_get_reads_and_never_writes(store: Store) -> None:
    answer = store.http.get("/", params={"query": "DROP TABLE footfall.t"})
    assert answer.headers["x-clickhouse-exception-code"] == "164"
    answer = store.http.get("/", params={"query": "INSERT INTO footfall.t VALUES (1, 'x')"})
    assert answer.headers["x-clickhouse-exception-code"] == "164"
    assert store.ask("SELECT count() FROM footfall.t") == "0"


@pytest.mark.parametrize("headers", [{"Origin": "https://example.com"}, {"Host": "example.com:1"}])
def test_a_web_page_gets_nothing(store: Store, headers: dict[str, str]) -> None:
    assert store.http.post("/", content="SELECT 1", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT file('/etc/passwd')",
        "SELECT * FROM file('/etc/passwd', LineAsString)",
        "SELECT * FROM `/etc/passwd`",
        "SELECT 1 INTO OUTFILE '/tmp/never'",
        "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)",
        "SELECT * FROM remote('127.0.0.1:1', system.one)",
        "CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id' FORMAT CSV)) LAYOUT(FLAT())",
        "INSERT INTO FUNCTION null('a String') VALUES (file('/etc/passwd'))",
        "SYSTEM SHUTDOWN",
    ],
)
def test_a_statement_cannot_leave_the_store(store: Store, statement: str) -> None:
    answer = store.http.post("/", content=statement)
    assert answer.status_code in (403, 404)
    assert answer.headers["x-clickhouse-exception-code"] in ("497", "60")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_an_address_that_is_not_loopback_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(Misconfigured, match="loopback"):
        asyncio.run(serve(tmp_path, host, free_port()))


def test_a_taken_port_is_refused_with_what_to_do(tmp_path: Path, store: Store) -> None:
    with pytest.raises(Misconfigured, match="--store-port"):
        asyncio.run(serve(tmp_path, "127.0.0.1", store.port))


async def serve(data_dir: Path, host: str, port: int) -> None:
    await serve_store(data_dir=data_dir, host=host, port=port, ready=lambda: None, stop=asyncio.Event())


# --- the life of the process ------------------------------------------------------------------------------


def test_a_data_directory_in_use_is_refused_with_what_to_do(tmp_path: Path) -> None:
    first = Store(tmp_path)
    try:
        with pytest.raises(Misconfigured, match=f"process {first.process.pid}.*--data-dir"):
            asyncio.run(serve(tmp_path, "127.0.0.1", free_port()))
    finally:
        first.end()


def test_sigterm_ends_a_running_statement_and_exits_cleanly_in_time(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def run_long() -> None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"http://127.0.0.1:{store.port}/", content=LONG, timeout=60)

    thread = threading.Thread(target=run_long)
    thread.start()
    eventually(lambda: running(store, "SELECT sum") == 1)
    begun = time.monotonic()
    assert store.end() == 0
    assert time.monotonic() - begun < 25
    thread.join()


def test_what_was_answered_survives_kill_9_during_inserts_and_merges(tmp_path: Path) -> None:
    """Each of three lives ends in the middle of inserts; each next one has all that was answered, whole."""
    answered = 0
    for life in range(4):
        store = Store(tmp_path)
        if life == 0:
            store.ask(TABLE)
        found = int(store.ask("SELECT uniqExact(b) FROM footfall.t"))
        assert answered <= found <= answered + 1
        assert (
            store.ask(
                "SELECT count() FROM (SELECT b, count() AS n FROM footfall.t GROUP BY b HAVING n != 1000)"
            )
            == "0"
        )
        if life == 3:
            assert store.end() == 0
            break
        answered = found
        threading.Timer(1.5 + life / 7, store.process.kill).start()
        with contextlib.suppress(httpx.TransportError):
            while True:
                body = b"".join(b'[%d, "%d-%d"]\n' % (i, life, answered) for i in range(1000))
                answer = store.http.post(
                    "/?query=INSERT+INTO+footfall.t+FORMAT+JSONCompactEachRow", content=body
                )
                assert answer.status_code == 200
                answered += 1
        store.end(signal.SIGKILL)
    assert answered > 50
