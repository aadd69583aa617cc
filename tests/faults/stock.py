"""A Faust worker as Faust's documentation writes one, on Faust's own transport, which writes to our table of raw rows.

`python -m tests.faults.stock BOOTSTRAP STORE_URL TOPIC`. The group is called as the topic.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import faust

from clickhouse import ledger
from clickhouse.client import StoreAddress, connect
from schemas.topics import Topic
from tests.builders import row


def main(bootstrap: str, store_url: str, topic: str) -> None:
    """Run until it is ended."""
    app = faust.App(
        topic,
        broker=f"kafka://{bootstrap}",
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=3.0,
        broker_heartbeat_interval=0.5,
        broker_rebalance_timeout=5.0,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
    )

    @app.agent(app.topic(topic, value_serializer="raw"))
    async def bot_requests(stream: Any) -> None:
        async with connect(StoreAddress(url=store_url)) as store:
            async for values in stream.take(500, within=0.2):
                rows = []
                for value in values:
                    said = json.loads(value)
                    rows.append(
                        row(
                            ledger.RAW_COLUMNS[Topic.BOT_REQUESTS],
                            bot_id=said["bot_id"],
                            event_id=said["event_id"],
                            event_ms=said["event_time"],
                            endpoint=said["endpoint"],
                        )
                    )
                await ledger.write_rows(store, Topic.BOT_REQUESTS, rows, origin=topic)

    # Its spinner would be on stdout.
    faust.Worker(
        app, loglevel="WARN", quiet=True, redirect_stdouts=False, stdout=sys.stderr
    ).execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
