"""Every example of the documentation, run as it stands there against one `footfall up`; only ports are others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import missing
from tests.documentation import ROOT, Block, blocks, section, tables
from tests.footfall import Footfall, clean_environment
from tests.kafka import free_port
from tests.records import Outgoing, publish

pytestmark = pytest.mark.embedded
pytest.importorskip("chdb")

PAGES = ("README.md", "docs/start.md", "docs/events.md", "docs/operate.md", "docs/read.md")


def executed(*names: str) -> list[Block]:
    return [
        block
        for name in names
        for block in blocks(ROOT / name)
        if block.language in ("sh", "sql", "python", "javascript") and not block.why_not_executed
    ]


def is_sending(block: Block) -> bool:
    return block.language in ("python", "javascript") or "/events/" in block.text or " replay " in block.text


EXAMPLES = executed(*PAGES)
SENDERS = [block for block in EXAMPLES if is_sending(block)]
QUERIES = [block for block in EXAMPLES if block.language == "sql"]
READERS = [block for block in EXAMPLES if block not in SENDERS and block not in QUERIES]


@dataclass(kw_only=True)
class Up:
    """A running `footfall up`, and what came of the examples that send."""

    directory: Path
    ports: dict[int, int]
    """Of each port in the documentation the one that it is here."""
    sent: dict[Block, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def url(self, port: int, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def get(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(self.url(8321, f"/api/v1{path}"), params=parameters, timeout=30)
        return answer.raise_for_status().json()["data"]

    def query(self, statement: str) -> list[dict[str, Any]]:
        answer = httpx.post(
            self.url(18123, "/"), content=statement, params={"default_format": "JSON"}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    def here(self, text: str) -> str:
        return re.sub(r"(127\.0\.0\.1):(\d+)", lambda match: f"{match[1]}:{self.ports[int(match[2])]}", text)

    def run(self, block: Block) -> subprocess.CompletedProcess[str]:
        command = {
            "sh": ["bash", "-euo", "pipefail"],
            "python": [sys.executable, "-W", "error", "-"],
            "javascript": [node(), "--input-type=module", "-"],
        }[block.language]
        # The command `footfall` is where this Python is.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            input=self.here(block.text),
            cwd=self.directory,
            env=clean_environment({"PATH": path, "CURL_HOME": str(self.directory)}),
            capture_output=True,
            text=True,
            timeout=60,
        )


def node() -> str:
    """Node.js: on PATH, or the one that playwright brings."""
    import playwright

    brought = Path(playwright.__file__).parent / "driver" / "node"
    found = shutil.which("node") or shutil.which(str(brought))
    return found or missing("no Node.js: install Debian's package `nodejs`")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`footfall up`, to which all examples that send have been sent, and a malformed event."""
    directory = tmp_path_factory.mktemp("examples")
    up = Up(directory=directory, ports={port: free_port() for port in (8321, 8322, 18123, 19092)})
    names = {8321: "port", 8322: "metrics-port", 18123: "store-port", 19092: "broker-port"}
    flags = [f"--{name}={up.ports[port]}" for port, name in names.items()]
    write_files(directory)
    with Footfall(directory / "logs", "up", *flags, f"--data-dir={directory / 'data'}") as running:
        running.says("Footfall is ready", within=90)
        for block in SENDERS:
            up.sent[block] = up.run(block)
        publish(f"127.0.0.1:{up.ports[19092]}", [Outgoing(topic="bot_requests", value=b"{}")])
        wait_until_visible(up)
        yield up
        assert running.stop() == 0


def wait_until_visible(up: Up) -> None:
    """Return when every event that was sent before now can be seen."""
    now, deadline = time.time(), time.monotonic() + 60
    as_of = None
    while as_of is None or datetime.fromisoformat(as_of).timestamp() < now:
        assert time.monotonic() < deadline, f"data_as_of stays at {as_of}"
        time.sleep(0.2)
        answer = httpx.get(up.url(8321, "/api/v1/bots"), timeout=30)
        as_of = answer.raise_for_status().json()["freshness"]["data_as_of"]


def write_files(directory: Path) -> None:
    """The files that the examples replay, and what makes curl fail when the answer is an error."""
    (directory / ".curlrc").write_text("fail\n")
    lines = [
        f'203.0.113.{number} - - [17/May/2015:10:05:{number:02} +0000] "GET /blog/ HTTP/1.1" 200 9 "-" "curl/8.0"'
        for number in range(1, 21)
    ]
    (directory / "access.log").write_text("\n".join(lines) + "\n")
    now = datetime.now(UTC).isoformat()
    event = f'{{"bot_id": "from-a-file", "event_id": "1", "event_time": "{now}", "endpoint": "api"}}'
    (directory / "events.ndjson").write_text(f"{event}\n")


@pytest.mark.parametrize("block", SENDERS, ids=str)
def test_an_example_that_sends_succeeds(up: Up, block: Block) -> None:
    done = up.sent[block]
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


def test_what_the_examples_send_is_counted(up: Up) -> None:
    cards = ("total_requests", "unique_conversations", "total_tokens", "positive_feedbacks")
    counted = {}
    for bot in [row["bot_id"] for row in up.get("/bots")["rows"]]:
        summary = up.get(f"/bots/{bot}/summary")
        counted[bot] = [summary[card] for card in cards]
    assert counted == {
        "my-bot": [2, 1, 1285, 1],
        "my-site": [20, 0, 0, 0],
        "support": [4, 4, 1067, 0],
        "from-a-file": [1, 0, 0, 0],
    }


@pytest.mark.parametrize("block", QUERIES, ids=str)
def test_a_query_of_the_examples_finds_something(up: Up, block: Block) -> None:
    assert up.query(block.text)


@pytest.mark.parametrize("block", READERS, ids=str)
def test_an_example_that_reads_succeeds(up: Up, block: Block) -> None:
    done = up.run(block)
    assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


def test_the_tables_of_columns_are_those_of_the_views(up: Up) -> None:
    text = (ROOT / "docs/read.md").read_text()
    documented = {}
    for view in re.findall(r"^### `(footfall_v1\.\w+)`$", text, re.MULTILINE):
        body = section(text, f"`{view}`")
        [(_, rows)] = tables(body)
        documented[view] = (
            body.strip().partition("\n")[0].rstrip("."),
            [(name.strip("`"), kind.strip("`"), help_) for name, kind, help_ in rows],
        )
    columns = up.query(
        "SELECT table, name, type, comment FROM system.columns WHERE database = 'footfall_v1' ORDER BY position"
    )
    views = up.query("SELECT name, comment FROM system.tables WHERE database = 'footfall_v1' ORDER BY name")
    stored = {
        f"footfall_v1.{view['name']}": (
            view["comment"],
            [
                (column["name"], column["type"], column["comment"])
                for column in columns
                if column["table"] == view["name"]
            ],
        )
        for view in views
    }
    assert documented == stored


def test_every_stored_field_of_freshness_is_explained(up: Up) -> None:
    answer = httpx.get(up.url(8321, "/api/v1/bots"), timeout=30).json()
    text = section((ROOT / "docs/read.md").read_text(), "Fresh, provisional, sealed")
    [rows] = [rows for head, rows in tables(text) if head[0] == "`freshness`"]
    assert [name.strip("`") for name, _ in rows] == list(answer["freshness"])
