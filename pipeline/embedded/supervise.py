"""Child processes that are kept running: commands of Footfall, and a Kafka."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self

from pipeline.config import ENVIRONMENT_PREFIX, Command, Settings
from pipeline.embedded.child import dies_with_parent
from pipeline.errors import Misconfigured, RestartNeeded

MOST_DEATHS: Final = 5
DEATHS_WITHIN_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 0.2
_WRONG_CONFIGURATION: Final = 2

log = logging.getLogger(__name__)


class Deaths:
    """How often something has died lately: says how long to wait, and when to give up."""

    def __init__(
        self,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        where: str = "its own lines above say",
    ) -> None:
        self._name = name
        self._where = where
        self._clock = clock
        self._lately: deque[float] = deque()

    def another(self, code: int) -> float:
        """It ended with this code. Seconds to wait before it is started again, longer each time.

        Raises RestartNeeded at the sixth time within a minute.
        """
        now = self._clock()
        self._lately.append(now)
        while now - self._lately[0] > DEATHS_WITHIN_SECONDS:
            self._lately.popleft()
        if len(self._lately) > MOST_DEATHS:
            raise RestartNeeded(
                f"{self._name} does not stay up: it ended {len(self._lately)} times within a minute, at last with "
                f"{describe(code)}; {self._where} why"
            )
        return _FIRST_PAUSE_SECONDS * 2.0 ** (len(self._lately) - 1)


def describe(code: int) -> str:
    """An exit code as asyncio gives it, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def environment(settings: Settings | None = None) -> dict[str, str]:
    """Ours, with these settings and no others."""
    kept = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(ENVIRONMENT_PREFIX)
    }
    return kept | (settings.environment() if settings is not None else {})


class Child:
    """A process that dies with us, and is started again when it ends without being told to."""

    def __init__(
        self,
        name: str,
        command_line: Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        *,
        directory: Path | None = None,
        log_file: Path | None = None,
        tells: bool = False,
    ) -> None:
        """`command_line` is asked at each start. With a `log_file` all it says goes there.

        Else what it says on stderr goes to ours, and its results too if it `tells`.
        """
        self.name = name
        self._command_line = command_line
        self._environment = environment
        self._directory = directory
        self._log_file = log_file
        self._tells = tells
        self._process: asyncio.subprocess.Process | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._is_over = False
        self._starting = asyncio.Lock()

    @classmethod
    def of(cls, command: Command, settings: Settings, *words: str, tells: bool = False) -> Self:
        """A command of Footfall; `words` are what its command line has besides settings."""
        # -P: what lies in the current directory is not to be mistaken for a package of ours.
        line = [sys.executable, "-P", "-m", "pipeline", command, *words]
        return cls(command, lambda: line, environment(settings), tells=tells)

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def keep_running(self) -> None:
        """Start it, and start it again whenever it ends, until `stop`.

        Raises Misconfigured when it says that it cannot run like this, RestartNeeded when it does not stay up.
        """
        where = f"{self._log_file} says" if self._log_file else "its own lines above say"
        deaths = Deaths(f"the {self.name}", where=where)
        while not self._is_over:
            await self._may_run.wait()
            process = await self._start()
            if process is None:
                continue
            code = await process.wait()
            if not self._is_wanted():
                continue
            if code == _WRONG_CONFIGURATION:
                raise Misconfigured(f"the {self.name} cannot run like this; {where} why")
            pause = deaths.another(code)
            log.error("the %s ended with %s; starting it again in %.1f s", self.name, describe(code), pause)
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def held(self, *, seconds: float) -> AsyncIterator[None]:
        """Within, it does not run: it has these seconds to end. Afterwards it is started again."""
        self._may_run.clear()
        await self._end(seconds)
        try:
            yield
        finally:
            self._may_run.set()

    async def stop(self, *, seconds: float) -> None:
        """End it for good: SIGTERM, and SIGKILL when it has not ended after so many seconds."""
        self._is_over = True
        self._may_run.set()
        await self._end(seconds)

    def _is_wanted(self) -> bool:
        return self._may_run.is_set() and not self._is_over

    async def _start(self) -> asyncio.subprocess.Process | None:
        async with self._starting:
            if not self._is_wanted():
                return None
            with ExitStack() as opened:
                log = None if self._log_file is None else opened.enter_context(self._log_file.open("ab"))
                self._process = await asyncio.create_subprocess_exec(
                    *dies_with_parent(self._command_line()),
                    cwd=self._directory,
                    env=self._environment,
                    stdin=DEVNULL,
                    # Our own stdout says when all of it is ready, and nothing else.
                    stdout=log or (sys.stderr if self._tells else DEVNULL),
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in a terminal is for us, who drain first
                )
            return self._process

    def _send(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _end(self, seconds: float) -> None:
        async with self._starting:
            process = self._process
        if process is None or process.returncode is not None:
            return
        self._send(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            log.warning("the %s did not end within %.0f s: killing it", self.name, seconds)
            self._send(signal.SIGKILL)
            await process.wait()
