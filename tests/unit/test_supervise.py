"""Children that are kept running: started again, with growing pauses, and not for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.config import Settings
from pipeline.embedded.supervise import Child, Deaths, describe, environment
from pipeline.errors import Misconfigured, RestartNeeded


def test_pauses_grow_and_the_sixth_death_within_a_minute_is_the_last() -> None:
    deaths = Deaths("the worker", lambda: 0.0)
    assert [deaths.another(1) for _ in range(5)] == [0.2, 0.4, 0.8, 1.6, 3.2]
    with pytest.raises(RestartNeeded, match=r"the worker does not stay up.*6 times.*signal 9"):
        deaths.another(-9)


def test_deaths_of_more_than_a_minute_ago_are_forgotten() -> None:
    now = 0.0
    deaths = Deaths("the worker", lambda: now)
    for _ in range(50):
        assert deaths.another(1) <= 3.2
        now += 13
    now += 61
    assert deaths.another(1) == 0.2


def test_an_exit_code_is_said_in_words() -> None:
    assert (describe(70), describe(-9)) == ("exit code 70", "signal 9")


class Scripted(Child):
    """A child whose process is a shell script."""

    def __init__(self, script: str, *, directory: Path | None = None, log_file: Path | None = None) -> None:
        super().__init__(
            "worker",
            lambda: ["/bin/sh", "-c", script],
            environment(Settings(port=4711)),
            directory=directory,
            log_file=log_file,
        )


@asynccontextmanager
async def kept_running(child: Child) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(child.keep_running())
    try:
        yield task
    finally:
        await child.stop(seconds=5)
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - a process tells nobody
            await asyncio.sleep(0.01)


def test_a_child_that_is_killed_is_started_again() -> None:
    async def run() -> None:
        child = Scripted("sleep 60")
        async with kept_running(child):
            await until(lambda: child.pid is not None)
            first = child.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: child.pid not in (None, first))

    asyncio.run(run())


def test_a_child_that_says_it_is_misconfigured_is_not_started_again(tmp_path: Path) -> None:
    async def run() -> None:
        child = Scripted(f"echo started >> {tmp_path}/starts; exit 2")
        async with kept_running(child) as task:
            with pytest.raises(Misconfigured, match="the worker cannot run like this"):
                await task

    asyncio.run(run())
    assert (tmp_path / "starts").read_text() == "started\n"


def test_a_child_gets_our_settings_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOTFALL_PORT", "1")
    monkeypatch.setenv("FOOTFALL_CONFIG", "/no/such.toml")
    monkeypatch.setenv("UNRELATED", "kept")

    async def run() -> None:
        child = Scripted(f"env > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/environment; sleep 60")
        async with kept_running(child):
            await until((tmp_path / "environment").exists)

    asyncio.run(run())
    environment = (tmp_path / "environment").read_text().splitlines()
    assert "FOOTFALL_PORT=4711" in environment
    assert "UNRELATED=kept" in environment
    assert not any(line.startswith("FOOTFALL_CONFIG") for line in environment)


def test_a_child_may_run_elsewhere_and_say_everything_to_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def run() -> None:
        child = Scripted("pwd; pwd >&2; sleep 60", directory=tmp_path, log_file=log)
        async with kept_running(child):
            await until(lambda: log.exists() and log.read_text() == f"{tmp_path}\n" * 2)

    asyncio.run(run())


def test_a_held_child_does_not_run_until_it_is_let_go() -> None:
    async def run() -> None:
        child = Scripted("sleep 60")
        async with kept_running(child) as task:
            await until(lambda: child.pid is not None)
            async with child.held(seconds=5):
                assert child.pid is None
                await asyncio.sleep(0.5)
                assert child.pid is None
            await until(lambda: child.pid is not None)
            assert not task.done()

    asyncio.run(run())


def test_a_child_that_does_not_want_to_end_is_killed() -> None:
    async def run() -> None:
        child = Scripted("trap '' TERM; while :; do sleep 0.1; done")
        async with kept_running(child) as task:
            await until(lambda: child.pid is not None)
            await asyncio.sleep(0.3)
            await child.stop(seconds=0.3)
            assert child.pid is None
            await task

    asyncio.run(run())
