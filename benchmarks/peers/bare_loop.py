"""A loop around confluent-kafka: `python -m benchmarks.peers.bare_loop HOST:PORT TOPIC EVENTS GEO default|tuned`.

`tuned` gives Python's cyclic collector the thresholds that Footfall's worker has.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

from confluent_kafka import Consumer

from benchmarks.peers.work import Work


def main(bootstrap: str, topic: str, events: str, geo: str, collector: str) -> None:
    """Consume from the beginning, print what it took."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bare-loop-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    work = Work(Path(geo), int(events))
    if collector == "tuned":
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
    consumer.subscribe([topic])
    is_done = False
    while not is_done:
        for message in consumer.consume(10_000, 0.5):
            if message.error():
                raise RuntimeError(message.error())
            value, partition, offset = message.value(), message.partition(), message.offset()
            assert value is not None
            assert partition is not None
            assert offset is not None
            if is_done := work.add(value, partition, offset, message.timestamp()[1]):
                break
    print(work.report(), flush=True)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
