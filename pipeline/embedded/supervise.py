"""Commands of Footfall as child processes that are kept running."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

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

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
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
                f"{describe(code)}; its own lines above say why"
            )
        return _FIRST_PAUSE_SECONDS * 2.0 ** (len(self._lately) - 1)


def describe(code: int) -> str:
    """An exit code as asyncio gives it, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class Child:
    """One command as a process. It dies with us, and is started again when it ends without being told to."""

    def __init__(self, command: Command, settings: Settings, *words: str, tells: bool = False) -> None:
        """`words` are what the command line has besides settings. If it `tells`, its results go to our log."""
        self.command = command
        self._tells = tells
        self._words = words
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(ENVIRONMENT_PREFIX)
        } | settings.environment()
        self._process: asyncio.subprocess.Process | None = None
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._is_over = False
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    def command_line(self) -> list[str]:
        """What is run."""
        # -P: what lies in the current directory is not to be mistaken for a package of ours.
        return [sys.executable, "-P", "-m", "pipeline", self.command, *self._words]

    async def keep_running(self) -> None:
        """Start it, and start it again whenever it ends, until `stop`.

        Raises Misconfigured when it says that it cannot run like this, RestartNeeded when it does not stay up.
        """
        deaths = Deaths(f"the {self.command}")
        while not self._is_over:
            await self._may_run.wait()
            process = await self._start()
            if process is None:
                continue
            code = await process.wait()
            if not self._is_wanted():
                continue
            if code == _WRONG_CONFIGURATION:
                raise Misconfigured(f"the {self.command} cannot run like this; its own lines above say why")
            pause = deaths.another(code)
            log.error(
                "the %s ended with %s; starting it again in %.1f s", self.command, describe(code), pause
            )
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
            self._process = await asyncio.create_subprocess_exec(
                *dies_with_parent(self.command_line()),
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                # Ours says when all of it is ready, and nothing else.
                stdout=sys.stderr if self._tells else asyncio.subprocess.DEVNULL,
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
            log.warning("the %s did not end within %.0f s: killing it", self.command, seconds)
            self._send(signal.SIGKILL)
            await process.wait()
