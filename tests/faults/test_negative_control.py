"""The faults bite: stock Faust on the same table passes when none strikes, and fails when a few of them do."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline.topics import BrokerConnection, ensure_topics
from schemas.topics import Topic
from tests.builders import event
from tests.faults.link import Effect, Moment, StoreLink, caught
from tests.footfall import Footfall
from tests.kafka import Kafka, free_port
from tests.records import Outgoing, Publishing
from tests.stack import Stack

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.embedded]
pytest.importorskip("chdb")

EVENTS = 2000
PUBLISHING_SECONDS = 6.0
QUIET_SECONDS = 4.0
"""Longer than a worker that was killed is missed, and longer than its batches take."""
STRIKES: Sequence[signal.Signals | float] = (signal.SIGKILL, 0.1, 0.1, signal.SIGKILL, 1.0)
"""What happens to the worker while it writes: a signal, or its link to the store is cut for so many seconds.

What it loses before it is killed, it may consume again. The last cut lasts longer than a client waits that tries once
more, on a busy machine too."""
COMMAND = [sys.executable, "-m", "tests.faults.stock"]


@pytest.fixture(scope="module")
def stack(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The store, and nothing of ours beside it."""
    stack = Stack(tmp_path_factory.mktemp("control"), kafka.bootstrap, name="control")
    try:
        stack.start_store()
        stack.run("migrate")
        yield stack
    finally:
        stack.__exit__()


def test_stock_faust_counts_everything_while_nothing_goes_wrong(stack: Stack, tmp_path: Path) -> None:
    assert asyncio.run(counted(stack, tmp_path, "calm.", strikes=())) == EVENTS


def test_stock_faust_loses_events_when_faults_strike(stack: Stack, tmp_path: Path) -> None:
    assert asyncio.run(counted(stack, tmp_path, "struck.", strikes=STRIKES)) < EVENTS


async def counted(
    stack: Stack, directory: Path, prefix: str, *, strikes: Sequence[signal.Signals | float]
) -> int:
    """How many of the events stock Faust has written in the end."""
    await ensure_topics(BrokerConnection(bootstrap=stack.bootstrap), prefix=prefix)
    topic = prefix + Topic.BOT_REQUESTS
    records = [
        Outgoing(topic=topic, value=event(bot_id=prefix, event_id=str(number)), partition=number % 8)
        for number in range(EVENTS)
    ]
    async with StoreLink(free_port(), int(stack.environment["FOOTFALL_STORE_PORT"])) as link:

        def start() -> Footfall:
            words = (stack.bootstrap, f"http://127.0.0.1:{link.port}", topic)
            return Footfall(directory, *words, command=COMMAND)

        with Publishing(stack.bootstrap, records, seconds=PUBLISHING_SECONDS):
            worker = start()
            async with caught([link], {Effect.ROWS}, Moment.BEFORE, within=30):
                pass  # it has begun
            for strike in strikes:
                async with caught([link], {Effect.ROWS}, Moment.BEFORE, within=30):
                    if isinstance(strike, signal.Signals):
                        worker.stop(strike)
                        worker = start()
                    else:
                        with link.cut():
                            await asyncio.sleep(strike)
        try:
            return await in_the_end(stack, prefix)
        finally:
            worker.stop(signal.SIGKILL)


async def in_the_end(stack: Stack, bot: str) -> int:
    """How many events of the bot there are, when no more come."""
    found, since = 0, time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        [row] = stack.sql(
            "SELECT count() AS events FROM footfall.bot_requests FINAL WHERE bot_id = {bot:String}", bot=bot
        )
        if row["events"] != found:
            found, since = row["events"], time.monotonic()
        await asyncio.sleep(0.2)
    return found
