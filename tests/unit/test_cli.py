"""How the command `footfall` is called, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, GROUPS
from pipeline.config import Settings, flag
from tests.footfall import Footfall, clean_environment, footfall
from tests.kafka import free_port


def python(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- what is said of itself


def test_without_a_command_it_says_what_a_newcomer_needs_and_then_the_commands() -> None:
    done = footfall()
    assert (done.returncode, done.stderr) == (0, "")
    beginning, commands = done.stdout.split("Commands", 1)
    assert len(beginning.splitlines()) <= 16
    for needed in ("`footfall up`", "open the address", "/api/v1/events/bot_requests", "/analytics"):
        assert needed in " ".join(beginning.split())
    listed = [line.split()[1] for line in commands.splitlines() if line.startswith("│ ") and line[2] != " "]
    first_words = dict.fromkeys(command.split()[0] for command in COMMANDS)
    assert listed == [*first_words, "--help", "--version"]
    assert footfall("--help").stdout == done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_the_first_word_of_a_command_alone_lists_the_second_ones(group: str) -> None:
    done = footfall(group)
    assert (done.returncode, done.stderr) == (0, "")
    listed = [
        line.split()[1] for line in done.stdout.splitlines() if line.startswith("│ ") and line[2] != " "
    ]
    assert [f"{group} {word}" for word in listed if not word.startswith("-")] == [
        command for command in COMMANDS if command.startswith(f"{group} ")
    ]


def test_the_example_of_the_help_is_an_event_that_is_valid() -> None:
    from pipeline.decode import decode
    from schemas.topics import Topic

    help_text = footfall().stdout
    example = help_text[help_text.index("{") : help_text.index("}") + 1]
    event = example.replace("'$(date +%s000)'", "1767225600000").encode()
    decode(Topic.BOT_REQUESTS, event, 1767225600000)


def test_help_and_version_do_not_wait_for_what_commands_need() -> None:
    script = (
        "import sys; from pipeline.cli import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    for words in ([], ["--help"], ["--version"]):
        imported = set(python(script, *words).stderr.split())
        assert "pipeline.cli" in imported
        assert not imported & {"pydantic", "structlog", "aiokafka", "faust", "fastapi", "chdb", "clickhouse"}


def test_version_says_the_version_alone() -> None:
    done = footfall("--version")
    assert done.returncode == 0
    assert done.stdout.strip().replace(".", "").isalnum()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_setting_and_says_its_default(command: str) -> None:
    done = footfall(*command.split(), "--help", environment={"COLUMNS": "160"})
    assert done.returncode == 0
    for name in Settings.model_fields:
        assert f" {flag(name)} " in done.stdout
    assert "[default: 19092]" in done.stdout
    assert COMMANDS[command].split()[0] in done.stdout


# --- exit codes


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nonsense"], 'Unknown command "nonsense"'),
        (["--nonsense"], "nonsense"),
        (["up", "--prot", "1"], "Did you mean --port?"),
        (["up", "more"], "more"),
        (["worker", "--port"], "--port requires an argument"),
        (["migrate", "--dry-run=perhaps"], "--dry-run"),
        (["replay", "--as", "ndjson"], "FILE"),
        (["replay", "file"], "--as"),
        (["replay", "file", "--as", "xml"], "--as"),
        (["up", "--port", "x", "--broker", "nowhere"], "--broker (FOOTFALL_BROKER)"),
        (["up", "--demo-rate", "5"], "--demo-rate"),
        *(
            (["up", "--demo", "--demo-rate", rate], "for --demo-rate. Must be ")
            for rate in ("-1", "0", "inf", "nan")
        ),
        (["simulate", "--duration", "5x"], '"5x" should be a duration: 30s,'),
        (["simulate", "--backfill", "week"], '"week" should be a duration: 30s,'),
        (
            ["simulate", "--broker", "k:1", "--duration", "-3s"],
            "--duration should be longer than nothing, but is -3 s",
        ),
        (["audit", "--since", "yesterday"], '"yesterday" should be a time, 2026-01-31 or'),
        (["dead-letters", "list", "--until", "5x"], "--until: "),
        (["worker"], "--clickhouse (FOOTFALL_CLICKHOUSE)"),
        (["config", "--config", "/no/such.toml"], "/no/such.toml"),
    ],
)
def test_wrong_usage_and_wrong_configuration_exit_2_with_lines_that_name_it(
    words: list[str], reason: str
) -> None:
    done = footfall(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert reason in done.stderr
    assert all(line.startswith("footfall: ") for line in done.stderr.splitlines())


ENDS = """
import sys
import pipeline.migrate
from pipeline.cli import run
from pipeline.errors import *
async def migrate(*_, **__):
    raise {raises}
pipeline.migrate.migrate = migrate
sys.exit(run(["migrate", "--clickhouse", "http://127.0.0.1:1"]))
"""


@pytest.mark.parametrize(
    ("raises", "code"),
    [
        ("Misconfigured('one\\ntwo')", 2),
        ("Refused('one\\ntwo')", 1),
        ("Unavailable('one\\ntwo')", 70),
        ("RestartNeeded('one\\ntwo')", 70),
    ],
)
def test_an_expected_end_says_why_without_a_traceback(raises: str, code: int) -> None:
    done = python(ENDS.format(raises=raises))
    assert done.returncode == code
    assert (done.stdout, done.stderr) == ("", "footfall: one\nfootfall: two\n")


def test_an_unexpected_end_exits_70_and_logs_its_traceback() -> None:
    done = python(ENDS.format(raises="ZeroDivisionError('oh')"))
    assert (done.returncode, done.stdout) == (70, "")
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert entry["level"] == "critical"
    assert "ZeroDivisionError" in str(entry["exception"])


def test_a_store_that_never_answers_is_waited_for_and_then_exits_70() -> None:
    script = ENDS.replace("async def migrate", "async def unused").replace(
        "pipeline.migrate.migrate = migrate",
        "from datetime import timedelta\n"
        "pipeline.migrate.migrate.__kwdefaults__['patience'] = timedelta(seconds=0.5)",
    )
    done = python(script.format(raises="None"))
    assert done.returncode == 70
    assert "footfall: no store answered at http://127.0.0.1:1 within 0 s" in done.stderr
    assert "--clickhouse" in done.stderr.splitlines()[-1]


def test_migrate_waits_a_minute() -> None:
    from pipeline.migrate import PATIENCE

    assert PATIENCE.total_seconds() == 60


# --- being told to stop


NOWHERE = ("--broker", "127.0.0.1:1", "--clickhouse", "http://127.0.0.1:1", "--host", "127.0.0.1")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("command", "port"), [("web", "--port"), ("worker", "--metrics-port")])
def test_web_and_worker_start_without_broker_and_store_and_stop_when_told_to(
    tmp_path: Path, command: str, port: str, how: signal.Signals
) -> None:
    number = free_port()
    with Footfall(tmp_path, command, *NOWHERE, port, str(number)) as run:
        run.answers(f"http://127.0.0.1:{number}/livez")
        assert run.get(f"http://127.0.0.1:{number}/readyz") == 503
        assert run.stop(how, within=10) == 0, run.log
        assert run.out == ""
        assert "consumed again" not in run.log


@pytest.mark.parametrize(
    ("command", "port"), [("web", "--port"), ("worker", "--metrics-port"), ("store", "--store-port")]
)
def test_a_taken_port_exits_2_naming_port_and_flag(tmp_path: Path, command: str, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = str(other.getsockname()[1])
        done = footfall(command, *NOWHERE, port, number, "--data-dir", tmp_path / "data")
    assert done.returncode == 2
    problem = done.stderr.splitlines()[-1]
    assert number in problem
    assert port in problem
    assert "Traceback" not in done.stderr


HANGS = """
import asyncio, time
from datetime import timedelta
from pipeline import commands
commands.HARD_EXIT = timedelta(seconds=0.5)
async def hang(stop):
    print("hanging", flush=True)
    {hang}
commands._serve(hang)
"""


@pytest.mark.parametrize("hang", ["time.sleep(60)", "await asyncio.sleep(60)"])
def test_a_process_that_hangs_ends_with_0_all_the_same(hang: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS.format(hang=hang)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_ending_without_being_told_to_is_an_internal_fault() -> None:
    script = (
        "import asyncio, sys; from pipeline import commands; from pipeline.errors import RestartNeeded\n"
        "async def ends(stop): pass\n"
        "try: commands._serve(ends)\n"
        "except RestartNeeded: sys.exit(70)"
    )
    assert python(script).returncode == 70


# --- footfall config


def test_config_shows_every_setting_with_its_value_and_origin(tmp_path: Path) -> None:
    file = tmp_path / "footfall.toml"
    file.write_text('topic_prefix = "a."\n')
    done = footfall(
        "config",
        *("--config", file, "--port", "7", "--broker-tls"),
        environment={"FOOTFALL_STORE_PORT": "8", "FOOTFALL_STORE_PROT": "9"},
    )
    assert done.returncode == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows.pop("setting") == ["value", "from"]
    assert list(rows) == list(Settings.model_fields)
    assert rows["port"] == ["7", "--port"]
    assert rows["broker_tls"] == ["true", "--broker-tls"]
    assert rows["store_port"] == ["8", "FOOTFALL_STORE_PORT"]
    assert rows["topic_prefix"] == ["a.", str(file)]
    assert rows["geoip_database"] == ["none", "default"]
    assert "did you mean FOOTFALL_STORE_PORT?" in done.stderr
