"""Memory: a worker's resident memory while it consumes millions of events.

They are written while it reads. `growth` is the greatest reading of the last half over the one at a quarter.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks import harness, population
from benchmarks.harness import Report, say
from pipeline.topics import BrokerConnection, ensure_topics
from schemas.topics import Topic

LOOK_EVERY_SECONDS = 0.5
SLOWEST_EVENTS_A_SECOND = 2_000


def readings(events: int) -> list[tuple[int, float]]:
    """(records consumed, MB resident) from the first flush to the last."""
    with harness.place() as directory, harness.kafka(directory) as bootstrap:
        geo = population.write_geo_database(directory / "places.mmdb")
        with harness.stored(directory, bootstrap, name="memory", geo=geo) as stack:
            asyncio.run(ensure_topics(BrokerConnection(bootstrap=bootstrap), prefix=stack.prefix))
            worker = stack.start_worker()
            worker.wait()
            topic = stack.topic(Topic.BOT_REQUESTS)
            writer = harness.python("-m", "benchmarks.population", bootstrap, topic, "--events", str(events))
            deadline = time.monotonic() + 60 + events / SLOWEST_EVENTS_A_SECOND
            found: list[tuple[int, float]] = []
            while not found or found[-1][0] < events:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{found[-1:]} of {events:,} events were consumed")
                time.sleep(LOOK_EVERY_SECONDS)
                if done := harness.consumed(worker):
                    found.append((done, harness.resident_mb(worker.process.pid)))
            harness.output_of(writer, seconds=60)
            return found


def main() -> None:
    """The command line."""
    given = harness.arguments(__doc__.splitlines()[0], name="memory", events=5_000_000)
    say(f"{given.events:,} events")
    found = readings(given.events)
    at = {
        share: next(memory for done, memory in found if done >= share * given.events)
        for share in (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    }
    most = max(memory for done, memory in found if done >= given.events / 2)
    report = Report(name="memory", title="Memory", method=f"{__doc__.strip()}\n\n{population.DESCRIPTION}")
    report.table(
        ["events consumed", "MB resident"],
        [[f"{int(share * given.events):,}", f"{memory:.0f}"] for share, memory in at.items()],
    )
    report.table(
        ["greatest of the last half", "growth", "greatest of all"],
        [[f"{most:.0f} MB", f"{most / at[0.25]:.2f}", f"{max(memory for _, memory in found):.0f} MB"]],
    )
    report.finish(write=given.write)


if __name__ == "__main__":
    main()
