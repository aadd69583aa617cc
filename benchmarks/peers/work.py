"""Decode, enrich and window one record at a time, and a count of what that took."""

from __future__ import annotations

import json
import time
from pathlib import Path

from pipeline.browser import warm_up
from pipeline.decode import decode
from pipeline.enrich import request_row
from pipeline.geography import Geography
from pipeline.window import Budget, RequestCell, Window, first_open, interval_start
from schemas.topics import Topic

WARM_UP_EVENTS = 30_000
"""Until then most user agents and addresses are new: what parsing them costs is not what a long run costs."""


class Work:
    """The stages, and a stop-watch that starts when the caches are warm."""

    def __init__(self, geo: Path, events: int) -> None:
        self._geography = Geography(geo)
        budget = Budget()
        self._windows = [Window(RequestCell, budget) for _ in range(256)]
        self._events = events
        self._done = -WARM_UP_EVENTS
        warm_up()

    def add(self, value: bytes, partition: int, offset: int, record_ms: int) -> bool:
        """Whether that was the last record wanted."""
        if not self._done:
            self._began, self._cpu = time.monotonic(), time.process_time()
        event, event_ms = decode(Topic.BOT_REQUESTS, value, record_ms)
        row = request_row((event, event_ms, partition, offset, record_ms), "", "", self._geography)
        if interval_start(event_ms) >= first_open(record_ms):
            self._windows[partition].add(row, offset, is_duplicate=False)
        self._done += 1
        return self._done == self._events

    def report(self) -> str:
        """Wall and CPU seconds (all threads, user and system) since the stop-watch started, as JSON."""
        return json.dumps(
            {
                "events": self._done,
                "seconds": time.monotonic() - self._began,
                "cpu_seconds": time.process_time() - self._cpu,
            }
        )
