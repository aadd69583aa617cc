"""What `up --broker kafka` needs before it can run, and what it says where that is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.embedded.kafka import jars, java, kafka_command
from pipeline.errors import Misconfigured


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a Java and a Kafka that were unpacked to the same place."""
    for variable in ("KAFKA_HOME", "JAVA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "kafka_2.13-4.1.1.jar").touch()
    (tmp_path / "bin").mkdir()
    say(tmp_path, 'openjdk version "17.0.9" 2023-10-17')
    return tmp_path


def say(home: Path, version: str) -> None:
    program = home / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    program.chmod(0o755)


def test_both_are_found_where_their_variables_say(home: Path) -> None:
    command = asyncio.run(kafka_command())
    assert command[0] == f"{home}/bin/java"
    assert command[-2:] == ["-cp", f"{home}/libs/*"]


@pytest.mark.parametrize("version", ['openjdk version "11.0.2" 2019-01-15', 'java version "1.8.0_391"', ""])
def test_an_old_java_is_refused_with_what_it_says(home: Path, version: str) -> None:
    say(home, version)
    with pytest.raises(Misconfigured, match="needs Java 17 or later") as refused:
        asyncio.run(kafka_command())
    assert version in str(refused.value)


def test_a_java_that_is_not_there_is_asked_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "bin" / "java").unlink()
    with pytest.raises(Misconfigured, match=rf"no java in {home}/bin .*Java 17"):
        java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(Misconfigured, match="no java on PATH"):
        java()


def test_jars_that_are_not_there_are_asked_for(home: Path) -> None:
    (home / "libs" / "kafka_2.13-4.1.1.jar").unlink()
    with pytest.raises(Misconfigured, match=rf"{home}/libs.*KAFKA_HOME.*make kafka"):
        jars()
