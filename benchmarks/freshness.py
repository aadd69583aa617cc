"""Freshness: how long after a POST was answered 202 the first answer of the API contains the event, seen by a client.

Kafka, store, a worker and the web run as they would; meanwhile the population's events come in at an even rate. An
event is posted every 100 ms whatever happens to the others, and two questions are asked in turn, 20 times a second
together: the newest requests (rows), and the totals of the last hour, whose counts say how many have arrived.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from benchmarks import harness, population
from benchmarks.harness import Report, percentile, say
from schemas.topics import Topic
from tests.stack import Stack

RATES: Final = (100, 1_000, 10_000)
POST_EVERY_SECONDS: Final = 0.1
ASK_EVERY_SECONDS: Final = 0.05
WARM_UP_SECONDS: Final = 3.0
GIVE_UP_SECONDS: Final = 30.0


@dataclass(kw_only=True)
class Probe:
    """The events of one bot: when each was acknowledged, and when it was first seen."""

    bot: str
    acknowledged: list[float] = field(default_factory=list)
    in_rows: dict[int, float] = field(default_factory=dict)
    in_totals: dict[int, float] = field(default_factory=dict)

    def delays(self, seen: dict[int, float]) -> list[float]:
        """Seconds of each; an answer may overtake the 202."""
        return [max(seen[number] - at, 0.0) for number, at in enumerate(self.acknowledged)]


def post(api: str, probe: Probe, events: int) -> None:
    """One event at each of the moments that are due."""
    began = time.monotonic()
    with httpx.Client(base_url=api, timeout=GIVE_UP_SECONDS) as client:
        for number in range(events):
            time.sleep(max(0.0, began + number * POST_EVERY_SECONDS - time.monotonic()))
            event = {
                "bot_id": probe.bot,
                "event_id": str(number),
                "event_time": int(time.time() * 1000),
                "endpoint": "api",
            }
            answer = client.post(f"/events/{Topic.BOT_REQUESTS}", json=event)
            answer.raise_for_status()
            probe.acknowledged.append(time.monotonic())


def look(client: httpx.Client, probe: Probe) -> None:
    """Ask both questions, and note what is there for the first time."""
    answer = client.get(f"/bots/{probe.bot}/requests", params={"range": "1h", "limit": 100})
    if answer.status_code == 404:
        return  # the bot is not known before its first event
    answer.raise_for_status()
    now = time.monotonic()
    for row in answer.json()["data"]["rows"]:
        probe.in_rows.setdefault(int(row["event_id"]), now)
    time.sleep(ASK_EVERY_SECONDS)
    answer = client.get(f"/bots/{probe.bot}/summary", params={"range": "1h"})
    answer.raise_for_status()
    now = time.monotonic()
    # All of one bot go through one partition, one after another: a total of n holds the first n.
    for number in range(len(probe.in_totals), answer.json()["data"]["total_requests"]):
        probe.in_totals[number] = now


def measured(stack: Stack, rate: int, events: int) -> Probe:
    """Post so many events while others come in at this rate, and wait until all have been seen."""
    topic, seconds = stack.topic(Topic.BOT_REQUESTS), events * POST_EVERY_SECONDS + WARM_UP_SECONDS
    load = harness.python(
        *("-m", "benchmarks.population", stack.bootstrap, topic),
        *("--events", str(int(rate * (seconds + 1))), "--rate", str(rate), "--seed", str(rate)),
    )
    time.sleep(WARM_UP_SECONDS)
    probe, api = Probe(bot=f"probe-{rate}"), str(stack.api.base_url)
    poster = threading.Thread(target=post, args=(api, probe, events))
    poster.start()
    deadline = time.monotonic() + seconds + GIVE_UP_SECONDS
    while min(len(probe.in_rows), len(probe.in_totals)) < events:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(probe.in_rows)} of {events} events are to be seen")
        look(stack.api, probe)
        time.sleep(ASK_EVERY_SECONDS)
    poster.join()
    harness.output_of(load, seconds=seconds + GIVE_UP_SECONDS)
    return probe


def _row(rate: int, where: str, delays: Sequence[float]) -> list[str]:
    figures = [percentile(delays, 0.5), percentile(delays, 0.99), max(delays)]
    return [f"{rate:,}", where, str(len(delays)), *(f"{figure:.2f} s" for figure in figures)]


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="freshness", events=200, most_rate=RATES[-1])
    report = Report(
        name="freshness", title="Freshness", method=f"{__doc__.strip()}\n\n{population.DESCRIPTION}"
    )
    rows = []
    with harness.place() as directory, harness.kafka(directory) as bootstrap:
        geo = population.write_geo_database(Path(directory / "places.mmdb"))
        with Stack(directory, bootstrap, name="freshness", geoip_database=geo) as stack:
            for rate in RATES:
                if rate <= given.most_rate:
                    say(f"{given.events} events at {rate:,} others a second")
                    probe = measured(stack, rate, given.events)
                    rows.append(_row(rate, "the rows", probe.delays(probe.in_rows)))
                    rows.append(_row(rate, "the totals", probe.delays(probe.in_totals)))
    report.table(["others/s", "first seen in", "events", "p50", "p99", "longest"], rows)
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
