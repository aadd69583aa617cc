"""The command `footfall` as tests run it: a process of its own, which dies with the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from pipeline.embedded.child import dies_with_parent

COMMAND = [sys.executable, "-m", "pipeline"]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without any setting, and `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    return kept | dict(extra or {})


def footfall(
    *words: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        env=clean_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Footfall:
    """A command that runs until it is stopped. Its output goes to files below `directory`."""

    def __init__(
        self,
        directory: Path,
        *words: str | Path,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._out, self._err = directory / f"{words[0]}.out", directory / f"{words[0]}.err"
        with self._out.open("wb") as out, self._err.open("ab") as err:
            self.process = subprocess.Popen(
                dies_with_parent([*command, *map(str, words)]),
                env=clean_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return self._out.read_text()

    @property
    def log(self) -> str:
        """Its standard error so far, that of earlier runs with the same directory included."""
        return self._err.read_text()

    def says(self, text: str, *, within: float = 30) -> str:
        """The line of its standard output that contains `text`, as soon as it is there."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            has_ended = self.process.poll() is not None
            for line in self.out.splitlines():
                if text in line:
                    return line
            assert not has_ended, f"it ended with {self.process.returncode}: {self.log[-4000:]}"
            time.sleep(0.02)
        raise AssertionError(f"it did not say {text!r} in {within:.0f} s: {self.out}{self.log[-4000:]}")

    def get(self, url: str) -> int:
        """The status of the answer; 0 where there is none."""
        try:
            return httpx.get(url, timeout=10).status_code
        except httpx.TransportError:
            return 0

    def answers(self, url: str, status: int = 200, *, within: float = 30) -> None:
        """Return as soon as `url` answers with this status."""
        deadline = time.monotonic() + within
        while (found := self.get(url)) != status:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log[-4000:]}"
            assert time.monotonic() < deadline, f"{url} answers {found}, not {status}: {self.log[-4000:]}"
            time.sleep(0.02)

    def children(self) -> dict[str, int]:
        """The processes that it has started: by the command of `footfall`, or `broker`."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                words = stat.with_name("cmdline").read_text().split("\0")
            except OSError:  # it has just ended
                continue
            if parent == self.pid and len(words) > 1:  # one that was killed a moment ago has none
                is_broker = {"broker", "kafka.Kafka"} & set(words)
                found["broker" if is_broker else words[-2]] = int(stat.parent.name)
        return found

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within: float = 30) -> int:
        """Send a signal, and return the exit code, negative for a signal."""
        self.process.send_signal(how)
        return self.process.wait(within)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
