"""The connection to ClickHouse: what becomes of a refusal."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import sys
import time

import pytest
from aiohttp import web

from clickhouse import client
from clickhouse.client import StoreAddress, StoreError, connect
from tests.kafka import free_port

SO_ATTACH_FILTER = 26


def refused(status: int, code: int, text: str) -> StoreError:
    """The error of a client whose first request is answered like this."""

    async def refuse(_: web.Request) -> web.Response:
        headers = {"X-ClickHouse-Exception-Code": str(code)} if code else {}
        return web.Response(status=status, text=text, headers=headers)

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/", refuse)
        runner, port = web.AppRunner(app), free_port()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            async with connect(StoreAddress(url=f"http://127.0.0.1:{port}")):
                pass
        finally:
            await runner.cleanup()

    with pytest.raises(StoreError) as caught:
        asyncio.run(run())
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "label"),
    [
        (401, 0, "http_401"),
        (403, 0, "http_403"),
        (429, 0, "http_429"),
        (500, 0, "http_500"),
        (503, 0, "http_503"),
        (403, 516, "516"),
        (500, 241, "241"),
        (500, 243, "243"),
        (500, 252, "252"),
    ],
)
def test_an_error_is_known_by_clickhouses_code_or_else_by_its_status(
    status: int, code: int, label: str
) -> None:
    error = refused(status, code, "what it says")
    assert (error.code, error.label) == (code, label)
    assert "what it says" in str(error)


@pytest.mark.parametrize(
    ("status", "code", "is_advised"),
    [(401, 0, True), (403, 0, True), (403, 516, True), (500, 497, True), (503, 0, False), (500, 252, False)],
)
def test_who_is_not_let_in_is_told_what_to_check(status: int, code: int, is_advised: bool) -> None:
    advice = "check --clickhouse-user, --clickhouse-password-file and the user's grants"
    assert (advice in str(refused(status, code, "no"))) == is_advised


def test_where_nobody_answers_there_is_neither_code_nor_status() -> None:
    async def run() -> None:
        async with connect(StoreAddress(url=f"http://127.0.0.1:{free_port()}")):
            pass

    with pytest.raises(StoreError) as caught:
        asyncio.run(run())
    assert (caught.value.code, caught.value.status, caught.value.label) == (0, 0, "0")


def test_whoever_is_cancelled_while_connecting_is_whatever_the_driver_is_at() -> None:
    nobody = StoreAddress(url=f"http://127.0.0.1:{free_port()}")

    async def tries() -> None:
        async with connect(nobody):
            pass

    async def is_cancelled_after(steps: int) -> bool | None:
        """None where it was over before."""
        trying = asyncio.create_task(tries())
        for _ in range(steps):
            await asyncio.sleep(0)
        if not trying.cancel():
            return None
        await asyncio.wait({trying})
        return trying.cancelled()

    async def run() -> list[bool | None]:
        return [await is_cancelled_after(steps) for steps in range(50)]

    outcomes = asyncio.run(run())
    assert outcomes[0] is True
    assert outcomes[-1] is None
    assert False not in outcomes


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's socket filters")
@pytest.mark.parametrize("size", [1, 10_000_000], ids=["an answer is waited for", "rows are on their way"])
def test_a_connection_whose_other_side_is_gone_without_a_word_is_given_up(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 2)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = listener.getsockname()
        with client.lasting_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", where)) as sender:
            sender.connect(where)
            with listener.accept()[0] as end:
                drop_all(end)
                began = time.monotonic()
                with pytest.raises(TimeoutError, match="timed out"):
                    ask(sender, b"x" * size)
    assert 1 < time.monotonic() - began < 10


def ask(sender: socket.socket, request: bytes) -> bytes:
    sender.sendall(request)
    return sender.recv(1)


def drop_all(end: socket.socket) -> None:
    """Let the kernel drop whatever comes for this socket, as if its machine had lost the network."""
    accept_nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(accept_nothing))
    end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
