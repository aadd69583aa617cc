"""`footfall migrate`: wait for the store, then bring its database to this version."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import Final

import clickhouse.migrate
from clickhouse.client import StoreAddress, StoreError, connect
from clickhouse.migrate import Migration, MigrationRefused
from pipeline.errors import Misconfigured, Refused, Unavailable

PATIENCE: Final = timedelta(seconds=60)
"""How long the store may be away."""

_SAY_AFTER_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = 0.1
_AUTHENTICATION_FAILED: Final = 516

log = logging.getLogger(__name__)


async def migrate(
    address: StoreAddress, *, dry_run: bool = False, patience: timedelta = PATIENCE
) -> tuple[Migration, ...]:
    """Apply what is pending, or with `dry_run` nothing, and return it.

    A store that is away, or goes away, is waited for. Raises Unavailable when that takes longer than
    `patience`, Refused when the database cannot be migrated, Misconfigured when the store does not let us in.
    """
    act = clickhouse.migrate.pending if dry_run else clickhouse.migrate.migrate
    begun = time.monotonic()
    has_said = False
    while True:
        try:
            async with connect(address) as store:
                return await act(store)
        except MigrationRefused as error:
            raise Refused(str(error)) from error
        except StoreError as error:
            if error.code == _AUTHENTICATION_FAILED:
                raise Misconfigured(f"ClickHouse does not accept user {address.user!r}. {error}") from error
            if error.code:
                raise Refused(f"the store refuses: {error}") from error
            waited = time.monotonic() - begun
            if waited > patience.total_seconds():
                raise Unavailable(
                    f"no store answered at {address.url} within {patience.total_seconds():.0f} s: {error}. "
                    "Start it, or correct --clickhouse."
                ) from error
            if waited > _SAY_AFTER_SECONDS and not has_said:
                has_said = True
                log.info("waiting for the store at %s: %s", address.url, error)
        await asyncio.sleep(_PAUSE_SECONDS)
