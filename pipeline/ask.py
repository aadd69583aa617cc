"""The store, for a command that does not wait for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from clickhouse.client import Store, StoreError, connect
from pipeline.errors import Unavailable

if TYPE_CHECKING:
    from pipeline.config import Settings


@asynccontextmanager
async def asked_store(settings: Settings) -> AsyncIterator[Store]:
    """The store of these settings. Raises Unavailable, saying what to do, when it is away or does not do as asked."""
    address = settings.store_address()
    try:
        async with connect(address) as store:
            yield store
    except StoreError as error:
        if error.code or error.status:
            raise Unavailable(f"the store does not do as asked: {error}") from error
        advice = "start it, or correct --clickhouse"
        if settings.clickhouse == "embedded":
            advice = "start `footfall up`, or say where it is with --clickhouse"
        raise Unavailable(f"no store answers at {address.url}: {advice} ({error})") from error
