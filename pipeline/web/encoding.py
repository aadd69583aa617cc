"""Content encodings: gzip, for clients that accept it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from fastapi import Request

_FAST: Final = 1
_GZIP: Final = 31  # zlib's number of that format, with its largest window


def accepts_gzip(request: Request) -> bool:
    """By RFC 9110: named, or meant by `*`, and not with a weight of 0."""
    weights: dict[str, float] = {}
    for item in request.headers.get("accept-encoding", "").split(","):
        name, _, parameter = item.partition(";")
        try:
            weight = float(parameter.partition("=")[2] or 1)
        except ValueError:
            weight = 0.0
        weights[name.strip().lower()] = weight
    return weights.get("gzip", weights.get("*", 0.0)) > 0


async def gzipped(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same, compressed as it comes, in constant memory and beside the event loop."""
    compressor = zlib.compressobj(_FAST, wbits=_GZIP)
    async with aclosing(pieces):
        async for piece in pieces:
            if compressed := await asyncio.to_thread(compressor.compress, piece):
                yield compressed
        yield compressor.flush()
