"""The events of the benchmarks: `bot_requests` of a stated population, written to Kafka.

200 bots whose shares follow Zipf's law; 300,000 visitors, each as likely as the next, with an address of their own that
the geo database knows and one of 5,000 user agents; conversations of four requests; 2 % of the events twice, a third of
these copies through another partition; 3 % late, by 20 minutes to 26 hours, all others as they happen; half of the
records keyed with their bot. 8 partitions.

`python -m benchmarks.population HOST:PORT TOPIC --events N [--rate R]` writes them and prints how many.
"""

from __future__ import annotations

import argparse
import time
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

from confluent_kafka import Producer
from mmdb_writer import MMDBWriter
from netaddr import IPNetwork, IPSet  # type: ignore[import-untyped]

BOTS, VISITORS, USER_AGENTS, PARTITIONS = 200, 300_000, 5_000, 8
DUPLICATES, DUPLICATES_MOVED, LATE, KEYED = 0.02, 1 / 3, 0.03, 0.5
DESCRIPTION = (
    f"Population: {BOTS} bots (Zipf), {USER_AGENTS:,} user agents, {VISITORS:,} addresses (all alike, known to the geo"
    " database), 2 % duplicates (a third through another partition), 3 % late, half keyed, 8 partitions."
)

MINUTE_MS = 60_000
NETWORK_ADDRESSES = 16
TICK_SECONDS = 0.01

ENDPOINTS = [endpoint.encode() for endpoint in ("widget", "api", "fs_chat", "web", "slack", "whatsapp")]
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Sao_Paulo", "Asia/Tokyo")


class Record(NamedTuple):
    """What is written."""

    partition: int
    key: bytes | None
    value: bytes


def address(visitor: int) -> str:
    """Of the private network 10.0.0.0/8, from its beginning."""
    return f"10.{visitor >> 16}.{visitor >> 8 & 255}.{visitor & 255}"


def user_agent(number: int) -> str:
    """One of 5,000 that differ, of the forms that browsers and programs have."""
    major, minor = 60 + number // 4 % 80, number // 320
    return (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{major}.0.{minor}.0 Safari/537.36",
        f"Mozilla/5.0 (X11; Linux x86_64; rv:{major}.{minor}) Gecko/20100101 Firefox/{major}.{minor}",
        f"Mozilla/5.0 (iPhone; CPU iPhone OS {major % 18}_{minor} like Mac OS X) AppleWebKit/605.1.15"
        f" (KHTML, like Gecko) Version/{major % 18}.{minor} Mobile/{major}E148 Safari/604.1",
        f"python-requests/2.{major}.{minor}",
    )[number % 4]


def write_geo_database(path: Path) -> Path:
    """A database that knows every visitor's address, in networks of 16, and return its path."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Footfall-Benchmark-City")
    for first in range(0, VISITORS, NETWORK_ADDRESSES):
        number = first // NETWORK_ADDRESSES
        country = chr(65 + number % 26) + chr(65 + number // 26 % 4)
        content = {
            "country": {"iso_code": country, "names": {"en": f"Country {country}"}},
            "subdivisions": [{"names": {"en": f"Region {number % 700}"}}],
            "city": {"names": {"en": f"City {number % 6000}"}},
            "location": {"latitude": number % 90 + 0.5, "longitude": number % 180 + 0.5},
        }
        writer.insert_network(IPSet(IPNetwork(f"{address(first)}/28")), content)
    writer.to_db_file(str(path))
    return path


def records(seed: int) -> Iterator[Record]:
    """Without end. An event happens when it is asked for, or up to five seconds before, unless it is late."""
    random = Random(seed)
    draw, pick = random.random, random.randrange
    bots = [f"bot-{number:03}".encode() for number in range(BOTS)]
    shares = list(accumulate(1 / (number + 1) for number in range(BOTS)))
    homes = [crc32(bot) % PARTITIONS for bot in bots]
    visitors = [
        b'"ip":"%s","user_agent":"%s","timezone":"%s"}'
        % (address(n).encode(), user_agent(pick(USER_AGENTS)).encode(), ZONES[n % len(ZONES)].encode())
        for n in range(VISITORS)
    ]
    pages = [f"https://example.com/help/articles/{number}".encode() for number in range(1000)]
    copies: list[Record] = []
    number = 0
    while True:
        number += 1
        bot = bisect(shares, draw() * shares[-1])
        event_ms = int(time.time() * 1000) - pick(5000)
        if draw() < LATE:
            event_ms -= 20 * MINUTE_MS + pick(26 * 60 * MINUTE_MS)
        is_keyed = draw() < KEYED
        value = (
            b'{"event_id":"%032x","bot_id":"%s","event_time":%d,"endpoint":"%s","chat_id":"chat-%x","page_url":"%s",%s'
            % (
                random.getrandbits(128),
                bots[bot],
                event_ms,
                ENDPOINTS[pick(len(ENDPOINTS))],
                pick(number // 4 + 1000),
                pages[pick(1000)],
                visitors[pick(VISITORS)],
            )
        )
        record = Record(homes[bot] if is_keyed else pick(PARTITIONS), bots[bot] if is_keyed else None, value)
        yield record
        if draw() < DUPLICATES:
            is_moved = draw() < DUPLICATES_MOVED
            step = 1 + pick(PARTITIONS - 1) if is_moved else 0
            copies.append(record._replace(partition=(record.partition + step) % PARTITIONS))
        # A producer sends again within seconds.
        if copies and draw() < DUPLICATES:
            yield copies.pop(0)


def publish(bootstrap: str, topic: str, *, events: int, rate: int = 0, seed: int = 1) -> None:
    """Write so many records, at an even `rate` a second or, with 0, as fast as the broker takes them."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "linger.ms": 5 if rate else 50,
            "batch.size": 1 << 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )
    source = records(seed)
    next(source)  # the population is made with the first, which may take a second
    began, sent = time.monotonic(), 0
    while sent < events:
        due = min(int((time.monotonic() - began) * rate), events) if rate else min(sent + 10_000, events)
        for _ in range(sent, due):
            record = next(source)
            while True:
                try:
                    producer.produce(topic, record.value, record.key, record.partition)
                except BufferError:
                    producer.poll(0.1)
                else:
                    break
        sent = due
        producer.poll(0)
        if rate:
            time.sleep(TICK_SECONDS)
    if left := producer.flush(60):
        raise RuntimeError(f"the broker did not take {left} records")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.population", description=__doc__)
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--rate", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    publish(given.bootstrap, given.topic, events=given.events, rate=given.rate, seed=given.seed)
    print(given.events)


if __name__ == "__main__":
    main()
