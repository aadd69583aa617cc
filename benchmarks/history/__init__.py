"""A past for the benchmark of the page: rows that the store makes itself, a day at a time.

200 bots over 90 days. Their shares follow a power law (the k-th has k^-0.8 of the first, which comes to a tenth of
all); conversations of five requests within four minutes, begun by visitors who come five times on average, each with an
address, a place and a browser; a model call for every four requests, a vote for every fifty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Final

from clickhouse.client import Store
from schemas.topics import Topic

BOTS: Final = 200
DAYS: Final = 90
DAY_MS: Final = 86_400_000
DESCRIPTION: Final = " ".join(__doc__.split("\n\n")[1].split())


def _sql(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def bot(rank: int) -> str:
    """The one with the most requests is 0."""
    return f"bot-{rank:03}"


async def write(store: Store, *, rows: int, end_ms: int) -> AsyncIterator[int]:
    """Write what is not there yet of so many requests, and what goes with them, of the days before `end_ms`.

    After each day, how many there are.
    """
    traffic = _sql("traffic")
    for start_ms in range(end_ms - DAYS * DAY_MS, end_ms, DAY_MS):
        for topic in (Topic.TOKEN_USAGES, Topic.BOT_FEEDBACK, Topic.BOT_REQUESTS):
            given = {"start": start_ms, "end": end_ms, "rows": rows, "days": DAYS, "bots": BOTS}
            # A conversation may go on over midnight.
            [(found,)] = await store.rows(
                "SELECT count() FROM footfall.{table:Identifier} WHERE bot_id = {bot:String}"
                " AND event_time >= fromUnixTimestamp64Milli({start:Int64} + 3600000, 'UTC')"
                " AND event_time < fromUnixTimestamp64Milli({start:Int64} + 86400000, 'UTC')",
                {"table": topic.value, "bot": bot(0), "start": start_ms},
            )
            if not found:
                await store.command(_sql(topic).replace("FROM traffic", f"FROM {traffic}"), given)
        yield (start_ms - end_ms) // DAY_MS + DAYS + 1
