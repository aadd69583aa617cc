"""Whatever ends, goes away or begins again while events arrive: every answer is the oracle's, as if nothing had."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.topics import Topic
from tests.agreement import Agreement
from tests.footfall import Footfall, footfall
from tests.geo import write_geo_database
from tests.kafka import Kafka
from tests.oracle import DAY, Oracle, text
from tests.population import population
from tests.records import Publishing, commit, committed, everything_in
from tests.stack import Stack, Worker, bot_path, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.embedded]
pytest.importorskip("chdb")

RESTART = 70
AT_ONCE = "SETTINGS mutations_sync = 2"
AWAY_SECONDS = 10
"""How long the store is away at least: several retries of a flush."""
PUBLISHING_SECONDS = 120
"""What events are spread over, so that they keep coming as long as a fault lasts."""


class Recovery:
    """A stack of its own, since its parts are ended, and what was produced to it so far."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._began_ms = int(time.time() * 1000)
        self._bots: list[str] = []

    @property
    def worker(self) -> Worker:
        """The one that runs; a new one, where none does."""
        for worker in self.stack.workers:
            if worker.process.process.poll() is None:
                return worker
        worker = self.stack.start_worker()
        worker.wait()
        return worker

    def stop_workers(self) -> None:
        """Stop all of them in good order."""
        for worker in self.stack.workers:
            if worker.process.process.poll() is None:
                assert worker.stop() == 0

    def publishing(self, name: str, *, requests: int = 3000) -> Publishing:
        """Produce a population of bots that are named for it, for as long as the context lasts."""
        bots = [f"{name}: a", f"{name}: b"]
        self._bots += bots
        amounts = {"requests": requests, "usages": requests // 2, "votes": requests // 4}
        records = population(
            name, int(time.time() * 1000), bots=bots, topic_prefix=self.stack.prefix, **amounts
        )
        return Publishing(self.stack.bootstrap, records, seconds=PUBLISHING_SECONDS)

    def check(self, name: str = "") -> None:
        """Every answer about the bots that are named for `name`, their rollups and views, are the oracle's.

        As soon as the API says that everything is visible.
        """
        self.stack.wait_until_visible(self._bots[-1])
        records = (everything_in(self.stack.bootstrap, self.stack.topic(topic)) for topic in Topic)
        bots = [bot for bot in self._bots if bot.startswith(name)]
        agreement = Agreement(self.stack, Oracle.of(*records, bots=bots))
        agreement.everywhere(name, ranges=0)
        agreement.rollups_within(90)
        agreement.views()
        self.check_ledger()

    def check_ledger(self) -> None:
        """Every offset of every partition is in exactly one entry."""
        for topic in Topic:
            records = everything_in(self.stack.bootstrap, self.stack.topic(topic))
            entries = self.stack.sql(
                """SELECT partition, position, next_offset, records FROM footfall.ledger FINAL
                WHERE topic = {topic:String} ORDER BY partition, next_offset""",
                topic=self.stack.topic(topic),
            )
            reached: dict[int, int] = {}
            for entry in entries:
                assert entry["position"] == reached.get(entry["partition"], 0), entry
                assert entry["records"] == entry["next_offset"] - entry["position"], entry
                reached[entry["partition"]] = entry["next_offset"]
            ends = dict.fromkeys(reached, 0)
            for record in records:
                ends[record.partition] = record.offset + 1
            assert reached == ends

    def everything_said(self) -> dict[str, Any]:
        """Every card, bucket, row and exported byte, in all of the time that was produced for."""
        said: dict[str, Any] = {}
        tz = "Asia/Kathmandu"
        where = {"from": text(self._began_ms - 70 * DAY, tz), "to": text(self._began_ms + DAY, tz), "tz": tz}
        for bot in self._bots:
            for path, more in (
                ("summary", {}),
                ("requests/timeseries", {"interval": "4h"}),
                ("tokens/timeseries", {"interval": "1h"}),
                ("requests/top", {"by": "endpoint", "limit": "5"}),
                ("requests/top", {"by": "country", "limit": "5"}),
                ("requests", {"limit": "1000"}),
                ("token-usages", {"limit": "1000"}),
            ):
                data = self.stack.get(bot_path(bot, path), **where, **more)["data"]
                said[f"{bot} {path} {more}"] = json.dumps(data)
            for path in ("requests/export", "token-usages/export"):
                for form in ("csv", "ndjson", "json"):
                    answer = self.stack.api.get(bot_path(bot, path), params={**where, "format": form})
                    assert answer.status_code == 200, answer.text
                    said[f"{bot} {path} {form}"] = answer.content
        return said


@pytest.fixture(scope="module")
def recovery(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recovery]:
    directory = tmp_path_factory.mktemp("recovery")
    places = write_geo_database(directory / "places.mmdb")
    with Stack(directory, kafka.bootstrap, name="recovery", geoip_database=places) as stack:
        yield Recovery(stack)


def test_a_worker_killed_with_a_flush_on_its_way_loses_and_doubles_nothing(recovery: Recovery) -> None:
    stack = recovery.stack
    with recovery.publishing("killed") as publishing:
        eventually(lambda: bool(stack.positions(Topic.BOT_REQUESTS)), 30)
        # The store stands still, so a flush hangs; what it has asked for is done when its worker is dead.
        stack.store.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        recovery.worker.kill()
        stack.store.process.send_signal(signal.SIGCONT)
        # The store goes on, and the worker ends between two effects of a flush.
        kill_half_way(recovery)
        while not is_half_way(stack):
            assert publishing.is_going_on, "the worker never died half-way"
            kill_half_way(recovery)
        assert recovery.worker.is_ready
    recovery.check("killed")


def kill_half_way(recovery: Recovery) -> None:
    """Kill the worker when a flush is seen between its rows and its ledger; it may be through by then."""
    worker = recovery.worker
    # What the last one left behind comes first.
    eventually(lambda: not is_half_way(recovery.stack), 30)
    eventually(
        lambda: is_half_way(recovery.stack), 30, lambda: "rows were never ahead of the ledger", pause=0.005
    )
    worker.kill()


def is_half_way(stack: Stack) -> bool:
    """Whether there are rows of which the ledger does not know yet."""
    [found] = stack.sql(
        """SELECT count() AS partitions
        FROM (SELECT source_partition AS partition, max(source_offset) AS written FROM footfall.bot_requests
              WHERE source_topic = {topic:String} GROUP BY partition) AS rows
        INNER JOIN (SELECT partition, max(next_offset) AS reached FROM footfall.ledger
                    WHERE topic = {topic:String} GROUP BY partition) AS ledger USING partition
        WHERE written >= reached""",
        topic=stack.topic(Topic.BOT_REQUESTS),
    )
    return bool(found["partitions"])


def test_a_second_worker_joins_and_leaves_and_both_have_done_their_part(recovery: Recovery) -> None:
    stack = recovery.stack
    first = recovery.worker
    with recovery.publishing("joined") as publishing:
        second = stack.start_worker()
        second.wait()
        eventually(lambda: wrote(stack, second) > 0, 30)
        assert publishing.is_going_on
        flushes_of_first = wrote(stack, first)
        eventually(lambda: wrote(stack, first) > flushes_of_first, 30)
        assert second.stop() == 0
    recovery.check("joined")
    assert first.process.process.poll() is None


def wrote(stack: Stack, worker: Worker) -> int:
    """How many entries of the ledger are a worker's."""
    [found] = stack.sql(
        "SELECT count() AS entries FROM footfall.ledger WHERE endsWith(worker, {pid:String})",
        pid=f"-{worker.process.pid}",
    )
    return int(found["entries"])


def test_the_store_killed_and_away_while_events_arrive_costs_nothing(recovery: Recovery) -> None:
    stack = recovery.stack
    worker = recovery.worker
    with recovery.publishing("away") as publishing:
        time.sleep(3)
        stack.store.stop(signal.SIGKILL)
        gone = time.monotonic()
        eventually(lambda: not stack.is_ready and not worker.is_ready, 40)
        answer = stack.api.get("/bots")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        time.sleep(max(0.0, gone + AWAY_SECONDS - time.monotonic()))
        assert publishing.is_going_on
        stack.start_store()
    recovery.check("away")
    assert worker.process.process.poll() is None
    eventually(lambda: worker.is_ready and stack.is_ready, 15)


def test_offsets_reset_to_earliest_make_nothing_be_written_again(recovery: Recovery) -> None:
    stack = recovery.stack
    recovery.stop_workers()
    before = entries_of_ledger(stack)
    for topic in Topic:
        commit(stack.bootstrap, stack.group, stack.topic(topic), 0)
    stack.start_worker().wait()
    with recovery.publishing("reset", requests=300):
        pass
    recovery.check("reset")
    after = entries_of_ledger(stack)
    assert after[: len(before)] == before
    reached = {(topic, partition): offset for _, topic, partition, offset in before}
    assert all(offset > reached[topic, partition] for _, topic, partition, offset in after[len(before) :])
    for topic in Topic:
        eventually(lambda topic=topic: has_committed(stack, topic), 15)  # type: ignore[misc]


def entries_of_ledger(stack: Stack) -> list[tuple[str, str, int, int]]:
    """(when, topic, partition, position after it) of every flush, as they came."""
    entries = stack.sql(
        """SELECT written_at, topic, partition, next_offset FROM footfall.ledger FINAL
        ORDER BY written_at, topic, partition, next_offset"""
    )
    return [
        (entry["written_at"], entry["topic"], entry["partition"], entry["next_offset"]) for entry in entries
    ]


def has_committed(stack: Stack, topic: Topic) -> bool:
    """Whether the group has committed what the ledger says."""
    return committed(stack.bootstrap, stack.group, stack.topic(topic)) == stack.positions(topic)


def test_a_store_restored_to_an_older_state_is_noticed_and_filled_up_from_kafka(recovery: Recovery) -> None:
    stack, worker = recovery.stack, recovery.worker
    stack.store.stop()
    copy = stack.data.with_name("copy")
    shutil.copytree(stack.data, copy, symlinks=True)
    stack.start_store()
    with recovery.publishing("restored", requests=300):
        pass
    recovery.check("restored")
    assert worker.process.process.poll() is None
    stack.store.stop(signal.SIGKILL)
    shutil.rmtree(stack.data)
    copy.rename(stack.data)
    stack.start_store()
    assert worker.process.process.wait(30) == RESTART
    assert "the store was restored to an older state" in worker.process.log
    assert recovery.worker is not worker
    recovery.check("restored")


def test_what_was_done_to_the_store_is_mended_beside_a_live_worker_and_counts_once(
    recovery: Recovery,
) -> None:
    stack, worker, requests = recovery.stack, recovery.worker, recovery.stack.topic(Topic.BOT_REQUESTS)
    [began] = stack.sql("SELECT toString(now64(3, 'UTC')) AS at")
    with recovery.publishing("mended", requests=200):
        time.sleep(1.5)  # so that it takes several flushes
    stack.wait_until_visible("mended: b")
    for table in (Topic.BOT_REQUESTS, Topic.TOKEN_USAGES):
        # As if it had been a while ago: what came within a minute may be sealed just now, and an audit waits for it.
        stack.command(
            f"""ALTER TABLE footfall.{table} UPDATE ingested_at = ingested_at - INTERVAL 10 MINUTE
            WHERE startsWith(bot_id, 'mended') {AT_ONCE}"""
        )
    # A row of the ledger in the middle, and rows after it: all of one partition, so one position is put back.
    [entry] = stack.sql(
        """SELECT partition, next_offset
        FROM (SELECT partition, next_offset, max(next_offset) OVER (PARTITION BY partition) AS last
              FROM footfall.ledger
              WHERE topic = {topic:String} AND written_at >= {began:DateTime64(3, 'UTC')})
        WHERE next_offset < last ORDER BY last - next_offset DESC LIMIT 1""",
        topic=requests,
        began=began["at"],
    )
    partition, reached = entry["partition"], entry["next_offset"]
    for statement in (
        f"""ALTER TABLE footfall.ledger DELETE
        WHERE topic = '{requests}' AND partition = {partition} AND next_offset = {reached} {AT_ONCE}""",
        f"""ALTER TABLE footfall.bot_requests DELETE
        WHERE source_partition = {partition} AND source_offset >= {reached} AND source_offset % 2 = 0 {AT_ONCE}""",
        """INSERT INTO footfall.token_usages_15m SELECT * REPLACE (usages * 2 AS usages, version + 1 AS version)
        FROM footfall.token_usages_15m FINAL WHERE startsWith(bot_id, 'mended') ORDER BY interval_start LIMIT 1""",
    ):
        stack.command(statement)
    done = footfall("audit", environment=stack.environment)
    assert done.returncode == 1, done.stderr
    where = f"in {requests}/{partition}: "
    for found in (f"hole_in_ledger {where}", f"lost_row {where}", "wrong_rollup in token_usages 15m "):
        assert found in done.stdout
    with Footfall(stack.data.parent / "repair", "audit", "--repair", environment=stack.environment) as repair:
        assert worker.process.process.wait(30) == RESTART
        assert recovery.worker is not worker
        assert repair.process.wait(60) == 1
    assert f"\nPut back: {requests}/{partition} to " in repair.out
    assert "\nMended: sealed 1 of token_usages 15m " in repair.out
    assert repair.out.splitlines()[-1].startswith("Not clean yet: something was put back.")
    recovery.check("mended")
    assert stack.run("audit").splitlines()[-1].startswith("Clean: ")


def test_the_whole_topic_consumed_again_leaves_every_answer_byte_identical(recovery: Recovery) -> None:
    stack = recovery.stack
    recovery.stop_workers()
    before = recovery.everything_said()
    # Nothing is known any more of what was consumed, neither to the store nor to the broker.
    stack.command("TRUNCATE TABLE footfall.ledger")
    for topic in Topic:
        commit(stack.bootstrap, stack.group, stack.topic(topic), 0)
        assert stack.positions(topic) == {}
    stack.start_worker().wait()
    stack.wait_until_visible("reset: a")
    assert recovery.everything_said() == before
    recovery.check()
