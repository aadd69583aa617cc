"""Log lines: their form, and that no library repeats itself without end."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from pipeline.logs import REPEAT_SECONDS, RepeatFilter


def record(template: str, *values: object, logger: str = "aiokafka.conn") -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, "", 0, template, values, None)


def test_a_library_that_repeats_itself_is_heard_once_and_then_with_a_count() -> None:
    now = 0.0
    repeats = RepeatFilter(lambda: now)
    assert repeats.filter(record("no broker at %s", "a:1"))
    assert not any(repeats.filter(record("no broker at %s", f"a:{port}")) for port in range(2, 20_000))
    now = REPEAT_SECONDS
    again = record("no broker at %s", "a:7")
    assert repeats.filter(again)
    assert again.getMessage() == "no broker at a:7 (and 19998 more like it since)"
    assert not repeats.filter(record("no broker at %s", "a:8"))


def test_lines_of_different_templates_loggers_or_our_own_are_all_heard() -> None:
    repeats = RepeatFilter(lambda: 0.0)
    lines = [record("a"), record("b"), record("a", logger="aiokafka.client")]
    lines += [record("a", logger="pipeline.worker"), record("a", logger="pipeline.worker")]
    assert all(repeats.filter(line) for line in lines)


def test_a_library_that_fills_in_its_lines_itself_does_not_make_us_grow() -> None:
    repeats = RepeatFilter(lambda: 0.0)
    for number in range(5000):
        assert repeats.filter(record(f"attempt {number}"))
    assert len(repeats._seen) <= 1000


SAYS = """
import logging, sys, warnings
from pipeline import logs
import structlog
logs.set_up({form!r}, process="worker")
sys.stderr = None
logging.getLogger("pipeline.x").info("ours %s", "here", extra={{"partition": 3}})
structlog.get_logger("pipeline.y").warning("structured", lag=7)
logging.getLogger("faust.app").info("chatter")
logging.getLogger("pipeline.app").info("[^App]: Starting...")
password = "geheim"
logging.getLogger("aiokafka").error("trouble")
warnings.warn("old")
def broken(secret):
    1 / 0
try:
    broken(password)
except ZeroDivisionError:
    logging.getLogger("pipeline.z").exception("broke")
"""


def said(form: str) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SAYS.format(form=form)], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_json_lines_carry_message_level_logger_and_process_on_stderr_alone(form: str) -> None:
    out, lines = said(form)
    assert out == ""
    entries = [json.loads(line) for line in lines]
    assert [entry["message"].splitlines()[0] for entry in entries[:3]] == [
        "ours here",
        "structured",
        "trouble",
    ]
    assert len(entries) == 5
    first, second = entries[0], entries[1]
    assert (first["process"], first["level"], first["logger"]) == ("worker", "info", "pipeline.x")
    assert first["partition"] == 3
    assert second["lag"] == 7
    assert first["timestamp"].endswith("Z")
    assert entries[-1]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_console_lines_are_for_people() -> None:
    _, lines = said("console")
    assert "ours here" in lines[0]
    assert "worker" in lines[0]
    assert not lines[0].startswith("{")
    assert "chatter" not in "".join(lines)
    assert "Starting" not in "".join(lines)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_does_not_tell_the_values_of_variables(form: str) -> None:
    _, lines = said(form)
    assert "ZeroDivisionError" in "".join(lines)
    assert "geheim" not in "".join(lines)


def test_what_nobody_caught_is_a_line_like_any_other() -> None:
    program = """
import threading
from pipeline import logs
logs.set_up("json", process="worker")
def broken():
    raise ConnectionResetError("by peer")
thread = threading.Thread(target=broken, name="fetcher")
thread.start()
thread.join()
broken()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert [entry["message"] for entry in entries] == [
        "an exception ended fetcher",
        "an exception ended the main thread",
    ]
    assert {entry["exception"][0]["exc_type"] for entry in entries} == {"ConnectionResetError"}
