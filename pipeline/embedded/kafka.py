"""Apache Kafka as `up --broker kafka` runs it: one node, KRaft, on 127.0.0.1, its log in the data directory."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from typing import Final

from pipeline.config import Settings
from pipeline.embedded.child import dies_with_parent
from pipeline.embedded.supervise import Child, environment
from pipeline.errors import Misconfigured, RestartNeeded

HOST: Final = "127.0.0.1"
LEAST_JAVA: Final = 17
_HEAP: Final = "-Xmx512m"
_CLUSTER_ID: Final = "Zm9vdGZhbGwtdXAtMDAwMQ"
"""16 bytes in base 64. One that begins with a dash is refused."""
_CLONE: Final = Path(__file__).parent.parent.parent


async def kafka_command() -> list[str]:
    """The command line that runs a class of Kafka's. Raises Misconfigured where Java or the jars are missing."""
    return [await _checked(java()), _HEAP, "-XX:+UseSerialGC", "-cp", f"{jars()}/*"]


async def kafka(settings: Settings, command: list[str]) -> Child:
    """Kafka as a child that is not running yet; its log is made when there is none.

    Raises RestartNeeded where that cannot be done.
    """
    directory = settings.data_dir / "kafka"
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "log").exists():
        await _format(directory, command, settings.broker_port)

    def command_line() -> list[str]:
        _write_properties(directory, "log", settings.broker_port)
        return [*command, "kafka.Kafka", "server.properties"]

    return Child("broker", command_line, environment(), directory=directory, log_file=directory / "kafka.log")


def jars() -> Path:
    """The directory of Kafka's jars: `$KAFKA_HOME/libs`, or `.kafka/libs` of a clone, which `make kafka` fills.

    Raises Misconfigured, saying what to do.
    """
    home = os.environ.get("KAFKA_HOME")
    libs = (Path(home) if home else _CLONE / ".kafka") / "libs"
    if not any(libs.glob("kafka_*.jar")):
        raise Misconfigured(
            f"there are no jars of Apache Kafka in {libs}: download Kafka, and set KAFKA_HOME to where it was unpacked"
            " (in a clone of Footfall `make kafka` fetches them)"
        )
    return libs.absolute()


def java() -> str:
    """The path of Java: below `$JAVA_HOME`, or on PATH. Raises Misconfigured, saying what to do."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if path is None:
        where = f"in {home}/bin (JAVA_HOME)" if home else "on PATH"
        raise Misconfigured(f"there is no java {where}: Apache Kafka needs Java {LEAST_JAVA} or later")
    return str(Path(path).absolute())


async def _checked(path: str) -> str:
    process = await asyncio.create_subprocess_exec(
        path, "-version", stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    said = (await process.communicate())[0].decode(errors="replace")
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < LEAST_JAVA:
        found = said.splitlines()[0] if said else "says nothing of its version"
        raise Misconfigured(f"Apache Kafka needs Java {LEAST_JAVA} or later, and {path} is: {found}")
    return path


async def _format(directory: Path, command: list[str], port: int) -> None:
    """Make the log, whole or not at all."""
    new = directory / "log.new"
    shutil.rmtree(new, ignore_errors=True)
    _write_properties(directory, new.name, port)
    tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", "server.properties"]
    process = await asyncio.create_subprocess_exec(
        *dies_with_parent([*command, *tool]), cwd=directory, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        said = (await process.communicate())[0].decode(errors="replace")
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise RestartNeeded(f"Apache Kafka cannot make its log in {directory}: {said.strip()}")
    new.rename(directory / "log")


def _write_properties(directory: Path, log: str, port: int) -> None:
    # The log's path is relative to where Kafka runs: in this format neither any path could be said, nor could a list
    # of directories have one with a comma.
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        controller_port = probe.getsockname()[1]
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "log.dirs": log,
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A topic that nobody made is a mistake in its name.
        "auto.create.topics.enable": "false",
        # A killed one gets its id back only when this is over.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
    }
    text = "".join(f"{name}={value}\n" for name, value in properties.items())
    (directory / "server.properties").write_text(text, encoding="ascii")
