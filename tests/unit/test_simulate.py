"""What a simulation refuses, at what pace it publishes, and what it says of itself; brokers: see integration."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest

from pipeline.config import Settings
from pipeline.errors import Misconfigured
from pipeline.population import Publication
from pipeline.simulate import SimulationSummary, _Output, _publish_present, simulate
from schemas.topics import Topic


class FakePublisher:
    """Takes everything at once, or after a while, and remembers when it was given what."""

    def __init__(self, *, seconds: float = 0) -> None:
        self._seconds = seconds
        self.given: list[tuple[float, list[Publication]]] = []

    async def publish(
        self, events: list[Publication], acknowledged: Callable[[Publication], None]
    ) -> list[Publication]:
        self.given.append((time.time() * 1000, events))
        await asyncio.sleep(self._seconds)
        for event in events:
            acknowledged(event)
        return []


def run(publisher: FakePublisher, *, rate: float, seconds: float) -> SimulationSummary:
    output = _Output(publisher, SimulationSummary())  # type: ignore[arg-type]
    asyncio.run(_publish_present(output, rate=rate, duration=timedelta(seconds=seconds), seed=1))
    return output.summary


def published(topics: Iterable[Topic], *, malformed: bool = False) -> SimulationSummary:
    summary = SimulationSummary(seconds=2.04)
    for topic in topics:
        summary.add(Publication(topic=topic, key=b"bot", value=b"{}", event_ms=None if malformed else 1))
    return summary


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused_before_a_broker_is_asked(rate: float) -> None:
    with pytest.raises(Misconfigured, match="--rate"):
        asyncio.run(simulate(Settings(), rate=rate, seed=1))


def test_a_duration_of_nothing_is_refused() -> None:
    with pytest.raises(Misconfigured, match="--duration"):
        asyncio.run(simulate(Settings(), rate=1, duration=timedelta(0), seed=1))


@pytest.mark.parametrize("backfill", [timedelta(days=-1), timedelta(days=401)])
def test_a_past_without_end_or_before_it_began_is_refused(backfill: timedelta) -> None:
    with pytest.raises(Misconfigured, match="--backfill"):
        asyncio.run(simulate(Settings(), rate=1, backfill=backfill, seed=1))


def test_events_are_published_when_they_are_due_and_no_sooner() -> None:
    began, publisher = time.time() * 1000, FakePublisher()
    assert run(publisher, rate=200, seconds=0.5).events == 100
    given = 0
    for at, events in publisher.given:
        given += len(events)
        assert given <= (at - began) / 1000 * 200 + 1
        assert all(event.event_ms is None or event.event_ms <= at for event in events)


def test_a_slow_broker_gets_the_same_number_of_events_at_the_times_at_which_they_were_due() -> None:
    began, publisher = time.time() * 1000, FakePublisher(seconds=0.3)
    assert run(publisher, rate=1000, seconds=0.5).events == 500
    assert len(publisher.given) <= 4
    on_time = [event.event_ms - began for _, events in publisher.given for event in events if event.event_ms]
    on_time = [since for since in on_time if since > -1000]  # the others are late on purpose
    assert sum(since < 250 for since in on_time) == pytest.approx(len(on_time) / 2, rel=0.25)


@pytest.mark.parametrize(("rate", "seconds", "said"), [(1e9, 3e-6, ", 1 s behind"), (5, 0.4, "")])
def test_progress_says_by_how_much_it_is_behind(
    rate: float, seconds: float, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.simulate.FIRST_PROGRESS_SECONDS", 0.1)
    caplog.set_level(logging.INFO)
    run(FakePublisher(seconds=1.05 if said else 0.1), rate=rate, seconds=seconds)
    assert caplog.messages[-1].endswith(f"events so far{said}")


def test_a_rate_below_one_is_a_rate() -> None:
    assert run(FakePublisher(), rate=0.5, seconds=0.1).events == 0


def test_the_summary_is_one_line_that_counts_what_was_acknowledged() -> None:
    summary = published([Topic.BOT_REQUESTS, Topic.BOT_REQUESTS, Topic.TOKEN_USAGES])
    assert str(summary) == (
        "published 3 events in 2.0 s (bot_requests 2, token_usages 1, bot_feedback 0); 0 malformed on purpose"
    )
    summary.backfilled = 2
    assert "; 2 of them from before the start, 0 malformed" in str(summary)
    assert "1 malformed" in str(published([Topic.BOT_FEEDBACK], malformed=True))
