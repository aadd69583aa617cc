"""`footfall web`: the ASGI application behind uvicorn, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn

from pipeline.config import Settings
from pipeline.errors import Misconfigured, RestartNeeded
from pipeline.web.app import create_app
from pipeline.web.connections import Connections

_SECONDS_TO_FINISH: Final = 10
"""For requests under way when it is told to stop; then they are cut off."""

log = logging.getLogger(__name__)


async def serve_web(settings: Settings, *, stop: asyncio.Event) -> None:
    """Serve page and API on `host:port` until `stop` is set and requests under way have ended (10 s at most).

    Broker and store may be away. Raises Misconfigured where the address cannot be had or one of the two can never
    be used like this, RestartNeeded where the application does not start.
    """
    listener = _listen(settings.host, settings.port)
    app = create_app(settings)
    # What was made so far stays for ever: to walk through it takes the collector 70 ms, in which nobody is answered.
    gc.collect()
    gc.freeze()
    kept: Connections = app.state.connections
    server = _Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )

    async def exit_when_set(event: asyncio.Event) -> None:
        await event.wait()
        server.should_exit = True

    host, port = listener.getsockname()[:2]
    log.info("listening on %s", f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/")
    watches = [asyncio.create_task(exit_when_set(event)) for event in (stop, kept.gave_up)]
    try:
        await server.serve(sockets=[listener])
    except SystemExit as error:  # uvicorn's answer to an application that fails in its start
        raise RestartNeeded("the API did not start; the reason is above") from error
    finally:
        for watch in watches:
            watch.cancel()
        listener.close()
    if kept.misconfigured is not None:
        raise kept.misconfigured


class _Server(uvicorn.Server):
    """uvicorn, except that signals are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:  # socket.gaierror is one
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is taken: stop what listens there, or choose another with --port"
        else:
            reason = f"cannot listen on {host}:{port} ({error.strerror}): correct --host or --port"
        raise Misconfigured(reason) from error
    # With the protocol named: asyncio turns Nagle's algorithm off on no other, which costs 40 ms an answer.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())
