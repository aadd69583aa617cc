"""Everything that was produced, and nothing else, is in every answer: on a real Kafka, each part a process of its own.

The oracle counts the records that a plain client finds in the topics.
"""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from schemas.topics import Topic
from tests.agreement import Agreement, Range
from tests.oracle import DAY, HOUR, MINUTE, Oracle, instant, wall
from tests.population import (
    CLOCKS,
    around_clock_changes,
    last_clock_changes,
    over_many_months,
    population,
    write_access_log,
    write_token_trace,
)
from tests.records import Outgoing, everything_in, publish, publish_as_one_batch
from tests.stack import Stack, bot_path, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.embedded]
pytest.importorskip("chdb")

BOTS = ("sales", "Ünï bot 😀?x=1&y=%2F#", "a 'quoted' \"b.t\"")
CLOCK_BOT, DECADE_BOT = "clocks", "decade"
REAL_FILES = Path(__file__).parents[3] / "shared" / "data"
"""Real input, where it lies beside the project."""


class Job:
    """A stack to which everything was produced, and the oracle of that."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.now_ms = int(time.time() * 1000)
        prefix = stack.prefix
        amounts = {"requests": 6000, "usages": 3000, "votes": 1500}
        self.population = population("main", self.now_ms, bots=BOTS, topic_prefix=prefix, **amounts)
        clocks = around_clock_changes("clocks", self.now_ms, bot=CLOCK_BOT, topic_prefix=prefix)
        publish(stack.bootstrap, self.population + clocks)
        publish_as_one_batch(
            stack.bootstrap, over_many_months("decade", self.now_ms, bot=DECADE_BOT, topic_prefix=prefix)
        )
        stack.wait_until_visible(BOTS[0])
        self.oracle = oracle_of(stack, {*BOTS, CLOCK_BOT, DECADE_BOT})

    @property
    def agreement(self) -> Agreement:
        return Agreement(self.stack, self.oracle)


def oracle_of(stack: Stack, bots: set[str]) -> Oracle:
    """The oracle of what the topics hold about these bots."""
    return Oracle.of(
        *(everything_in(stack.bootstrap, stack.topic(topic)) for topic in Topic),
        bots=bots,
    )


@pytest.fixture(scope="module")
def job(stack: Stack) -> Job:
    return Job(stack)


def test_the_population_holds_what_it_should(job: Job) -> None:
    records = [
        record for topic in Topic for record in everything_in(job.stack.bootstrap, job.stack.topic(topic))
    ]
    ours = [record for record in records if b'"main-' in (record.value or b"")]
    assert len(ours) == len(job.population)
    events = len(
        [
            e
            for some in (job.oracle.requests, job.oracle.usages)
            for e in some
            if e.event_id.startswith("main-")
        ]
    )
    copies = len([record for record in ours if record.topic != job.stack.topic(Topic.BOT_FEEDBACK)]) - events
    assert 0.01 < copies / events < 0.03
    assert {record.key is None for record in ours} == {True, False}


def test_every_answer_about_every_bot_is_the_oracles(job: Job) -> None:
    job.agreement.everywhere("random ranges", ranges=2)


def test_the_duplicates_of_open_intervals_and_late_events_were_told_apart(job: Job) -> None:
    entries = job.stack.sql(
        "SELECT topic, sum(duplicates) AS duplicates, sum(late) AS late FROM footfall.ledger GROUP BY topic"
    )
    by_topic = {entry["topic"]: entry for entry in entries}
    for topic in (Topic.BOT_REQUESTS, Topic.TOKEN_USAGES):
        assert by_topic[job.stack.topic(topic)]["duplicates"] > 0
        assert by_topic[job.stack.topic(topic)]["late"] > 1000


@pytest.mark.parametrize("zone", [*CLOCKS, "Asia/Kathmandu"])
def test_buckets_follow_the_wall_clock_also_when_it_changes(job: Job, zone: str) -> None:
    # Kathmandu's clock never changes; its days are those of a change elsewhere.
    changing = zone if zone in CLOCKS else CLOCKS[0]
    for change in last_clock_changes(changing, job.now_ms):
        day = wall(change, zone)
        start, end = (instant(day.year, day.month, day.day, 0, zone) + days * DAY for days in (-1, 2))
        for from_ms, to_ms in (
            (start, end),
            (change - 90 * MINUTE, change + 75 * MINUTE),
            (start - 50 * DAY, end),
        ):
            range_ = Range(bot=CLOCK_BOT, start=from_ms, end=to_ms, tz=zone)
            job.agreement.request_series(range_, {})
            for interval in ("15m", "1h", "4h", "1d", "1w", "1mo"):
                if to_ms - from_ms <= 3 * DAY + 2 * HOUR or interval not in ("15m", "1h"):
                    job.agreement.request_series(range_, {}, interval)
                    job.agreement.token_series(range_, {"source": ["chat"]}, interval)


def test_one_batch_over_more_than_120_months_is_one_flush_and_all_there(job: Job) -> None:
    requests = [request for request in job.oracle.requests if request.bot_id == DECADE_BOT]
    assert len({wall(request.event_ms, "UTC").strftime("%Y%m") for request in requests}) > 120
    [entry] = job.stack.sql(
        "SELECT max(records) AS records FROM footfall.ledger WHERE topic = {topic:String} AND partition = 3",
        topic=job.stack.topic(Topic.BOT_REQUESTS),
    )
    assert entry["records"] >= 130
    moments = job.oracle.moments(DECADE_BOT)
    range_ = Range(bot=DECADE_BOT, start=moments[0], end=moments[-1] + 1, tz="America/St_Johns")
    job.agreement.all_of(range_, Random(1))


def test_every_rollup_and_view_equals_what_was_produced(job: Job) -> None:
    job.agreement.rollups_within(30)
    job.agreement.views()


def access_logs() -> list[object]:
    real = REAL_FILES / "apache_access.log"
    return [
        pytest.param(write_access_log, id="generated"),
        *([pytest.param(lambda _: real, id="real")] * real.exists()),
    ]


@pytest.mark.parametrize("file", access_logs())
def test_a_replayed_access_log_is_what_the_file_says(
    stack: Stack, tmp_path: Path, file: Callable[[Path], Path]
) -> None:
    log = file(tmp_path / "access.log")
    bot = f"log of {log.parent.name}"
    stack.run("replay", str(log), "--as", "access-log", "--bot", bot)
    stack.wait_until_visible(bot)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    addresses = [line.split(" ", 1)[0] for line in lines]
    summary = stack.get(bot_path(bot, "summary"), **{"from": "2015-05-01", "to": "2015-06-01"})["data"]
    assert summary["total_requests"] == len(lines)
    assert summary["unique_ips"] == len({ip_address(address) for address in addresses if is_address(address)})
    of_bot = Agreement(stack, oracle_of(stack, {bot}))
    of_bot.everywhere("log", ranges=1)
    of_bot.rollups_within(30)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def token_traces() -> list[object]:
    real = REAL_FILES / "azure_llm_conv_2023.csv"
    return [
        pytest.param(write_token_trace, id="generated"),
        *([pytest.param(lambda _: real, id="real")] * real.exists()),
    ]


@pytest.mark.parametrize("file", token_traces())
def test_a_replayed_token_trace_is_what_the_file_says(
    stack: Stack, tmp_path: Path, file: Callable[[Path], Path]
) -> None:
    trace = file(tmp_path / "trace.csv")
    bot = f"trace of {trace.parent.name}"
    stack.run("replay", str(trace), "--as", "token-trace", "--bot", bot)
    stack.wait_until_visible(bot)
    with trace.open(newline="") as lines:
        calls = list(csv.DictReader(lines))
    minutes = Counter(call["TIMESTAMP"][:16] for call in calls)
    answer = stack.get(bot_path(bot, "summary"), **{"from": "2023-11-16", "to": "2023-11-18"})["data"]
    assert answer["input_tokens"] == sum(int(call["ContextTokens"]) for call in calls)
    assert answer["output_tokens"] == sum(int(call["GeneratedTokens"]) for call in calls)
    minute, count = minutes.most_common(1)[0]
    within = {
        "from": f"{minute.replace(' ', 'T')}:00Z",
        "to": f"{minute.replace(' ', 'T')}:59.999Z",
        "limit": 1000,
    }
    assert len(stack.get(bot_path(bot, "token-usages"), **within)["data"]["rows"]) == count
    of_bot = Agreement(stack, oracle_of(stack, {bot}))
    of_bot.everywhere("trace", ranges=1)
    of_bot.rollups_within(30)


def test_an_event_a_day_late_is_in_its_own_interval_within_a_minute(job: Job) -> None:
    # Beside one that is in the same interval and sealed.
    sealed = max(
        request.event_ms for request in job.oracle.requests
        if request.bot_id == BOTS[0] and request.event_ms < job.now_ms - DAY
    )  # fmt: skip
    start = sealed - sealed % (15 * MINUTE)
    range_ = Range(bot=BOTS[0], start=start, end=start + 15 * MINUTE, tz="UTC")

    def requests() -> int:
        answer = job.stack.get(bot_path(range_.bot, "summary"), **range_.parameters())
        return int(answer["data"]["total_requests"])

    before = requests()
    late = f'{{"event_id":"late","bot_id":"{BOTS[0]}","event_time":{sealed},"endpoint":"api"}}'
    publish(job.stack.bootstrap, [Outgoing(topic=job.stack.topic(Topic.BOT_REQUESTS), value=late.encode())])
    eventually(lambda: requests() == before + 1, 60)
    job.oracle = oracle_of(job.stack, set(job.oracle.bots()))
    job.agreement.rollups_within(30)


def test_everything_produced_once_more_changes_nothing(job: Job) -> None:
    publish(job.stack.bootstrap, job.population)
    job.stack.wait_until_visible(BOTS[0])
    job.agreement.everywhere("once more", ranges=0)
    job.agreement.rollups_within(90)
    job.agreement.views()
