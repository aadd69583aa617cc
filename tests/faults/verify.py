"""After the faults: whatever Footfall holds and says is held against what the broker held."""

from __future__ import annotations

import time
from dataclasses import replace

from schemas.topics import Topic
from tests.agreement import Agreement
from tests.faults.arena import PLACES, Arena
from tests.oracle import Oracle, place
from tests.records import Record, everything_in
from tests.stack import bot_path, eventually, timestamp

VISIBLE_SECONDS = 60.0
SEALED_SECONDS = 90.0


def verify(arena: Arena) -> None:
    """Raises AssertionError where anything differs."""
    now = time.time()
    stack, bots = arena.stack, arena.traffic.bots
    as_of = ""

    def is_visible() -> bool:
        nonlocal as_of
        as_of = stack.get(bot_path(bots[0], "summary"))["freshness"]["data_as_of"]
        return as_of is not None and timestamp(as_of) >= now

    eventually(is_visible, VISIBLE_SECONDS, lambda: f"data_as_of stays at {as_of}")
    arena.say("visible")
    oracle = Oracle.of(*(records_of(arena, topic) for topic in Topic), bots=bots)
    arena.say(f"{len(oracle.requests)} requests, {len(oracle.usages)} usages, {len(oracle.votes)} votes")
    agreement = Agreement(stack, with_places(arena, oracle))
    agreement.everywhere(bots[0], ranges=1)
    arena.say("every answer is the oracle's")
    agreement.rollups_within(SEALED_SECONDS)
    agreement.views()
    arena.say("every rollup and view is the oracle's")
    dead_letters(arena)
    arena.say("every dead letter is the oracle's")
    stack.run("audit", "--json")
    arena.say("the audit is clean")


def records_of(arena: Arena, topic: Topic) -> list[Record]:
    """All records of a topic that have to be counted.

    Of a life that has ended those that nobody had read yet are lost, unless their rows were on their way already.
    """
    held: list[Record] = []
    for life in arena.traffic.lives[topic]:
        if life is arena.traffic.lives[topic][-1]:
            held += life.records
            continue
        rows = arena.stack.sql(
            """SELECT source_partition AS partition, source_offset AS offset FROM footfall.{raw:Identifier} FINAL
            WHERE source_epoch = {epoch:UUID}""",
            raw=topic,
            epoch=life.epoch,
        )
        written = {(row["partition"], row["offset"]) for row in rows}
        read = read_of(arena, life.epoch)
        held += [
            record
            for record in life.records
            if record.offset < read.get(record.partition, 0) or (record.partition, record.offset) in written
        ]
    return held


def read_of(arena: Arena, epoch: str) -> dict[int, int]:
    """The position after the last record that was read of a life, by partition."""
    rows = arena.stack.sql(
        """SELECT partition, max(next_offset) AS position FROM footfall.ledger
        WHERE epoch = {epoch:UUID} AND records > 0 GROUP BY partition""",
        epoch=epoch,
    )
    return {row["partition"]: row["position"] for row in rows}


def with_places(arena: Arena, oracle: Oracle) -> Oracle:
    """The oracle with the places that raw rows have: each by one of the geo databases that were in use.

    Which one it was depends on the moment; everything else has to say the same.
    """
    rows = arena.stack.sql(
        """SELECT bot_id, toUnixTimestamp64Milli(event_time) AS event_ms, event_id, country, region, city
        FROM footfall_v1.bot_requests"""
    )
    places = {
        (row["bot_id"], row["event_ms"], row["event_id"]): (row["country"], row["region"], row["city"])
        for row in rows
    }
    requests = []
    for request in oracle.requests:
        identity = request.bot_id, request.event_ms, request.event_id
        assert identity in places, f"{request} is not in raw"
        country, region, city = places[identity]
        assert (country, region, city) in [place(request.ip, networks) for networks in PLACES], request
        requests.append(replace(request, country=country, region=region, city=city))
    return replace(oracle, requests=requests)


def dead_letters(arena: Arena) -> None:
    """The table holds every refused record once, its topic holds it at least once, and neither anything else."""
    stack = arena.stack
    expected, lost = {}, set()
    for topic, lives in arena.traffic.lives.items():
        for life in lives:
            read = read_of(arena, life.epoch)
            for record in life.records:
                value = record.value or b""
                if (topic, value) not in arena.traffic.expected_letters:
                    continue
                reason, field = arena.traffic.expected_letters[topic, value]
                origin = stack.topic(topic), life.epoch, record.partition, record.offset
                expected[origin] = str(reason), field, value.hex().upper()
                if life is not lives[-1] and record.offset >= read.get(record.partition, 0):
                    lost.add(origin)
    rows = stack.sql(
        "SELECT topic, epoch, partition, offset, reason, field, hex(value) AS value FROM footfall.dead_letters FINAL"
    )
    found = {
        (row["topic"], row["epoch"], row["partition"], row["offset"]): (
            row["reason"],
            row["field"],
            row["value"],
        )
        for row in rows
    }
    assert len(found) == len(rows)
    lost -= found.keys()
    assert found == {origin: letter for origin, letter in expected.items() if origin not in lost}
    on_topics = {
        (
            said["footfall-topic"],
            said["footfall-epoch"],
            int(said["footfall-partition"]),
            int(said["footfall-offset"]),
        )
        for topic in Topic
        for said in (
            record.headers
            for record in everything_in(arena.kafka.bootstrap, stack.prefix + topic.dead_letter)
        )
    }
    assert found.keys() <= on_topics <= expected.keys()
