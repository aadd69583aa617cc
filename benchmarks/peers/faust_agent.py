"""A Faust agent as its documentation writes them, on Faust's own transport and settings.

`python -m benchmarks.peers.faust_agent HOST:PORT TOPIC EVENTS GEO`. Values are raw bytes, decoded by the pipeline's own
stage: Faust's records would be slower.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust

from benchmarks.peers.work import Work


def main(bootstrap: str, topic: str, events: str, geo: str) -> None:
    """Consume from the beginning, print what it took."""
    app = faust.App(
        f"faust-agent-{time.time_ns()}",
        broker=f"kafka://{bootstrap}",
        consumer_auto_offset_reset="earliest",
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
    )
    work = Work(Path(geo), int(events))

    @app.agent(app.topic(topic, value_serializer="raw", key_serializer="raw"))
    async def bot_requests(stream: Any) -> AsyncIterator[None]:
        async for event in stream.events():
            message = event.message
            if work.add(event.value, message.partition, message.offset, int(message.timestamp * 1000)):
                print(work.report(), flush=True)
                os._exit(0)  # what it would still do is of no interest
            yield

    # Its spinner would be on stdout.
    worker = faust.Worker(app, loglevel="WARN", quiet=True, redirect_stdouts=False, stdout=sys.stderr)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
