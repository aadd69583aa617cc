"""`footfall audit`: whether every offset is accounted for, and whether rollups say what raw rows say.

Three accounts, each by queries that neither a worker nor the sealer uses:

1. the ledger by itself: its rows follow each other, and each adds up;
2. the ledger against rows and dead letters, offset by offset: what it lists is there, and nothing else is;
3. raw rows against rollups, interval by interval, dimension by dimension.

The store does the work, a part at a time, so memory is bounded on both sides. What live workers have under way looks
wrong for a moment: it is looked at again before it is called so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from clickhouse import audit, sealing
from clickhouse.audit import Chain, Range, Source
from clickhouse.client import Store
from pipeline.audit_report import (
    Finding,
    Kind,
    Report,
    Sums,
    Unit,
    differences_text,
    interval_text,
    listed,
    month_text,
    span_text,
)
from pipeline.errors import Unavailable
from pipeline.topics import BrokerConnection, TopicLog, topic_logs
from schemas.gap import GapReason
from schemas.rollup import DAY_MS, INTERVAL_MS
from schemas.topics import Topic

log = logging.getLogger(__name__)

OFFSETS_AT_ONCE: Final = 4_000_000
ROWS_AT_ONCE: Final = 4_000_000
INTERVALS_AT_ONCE: Final = 50_000
"""What one query compares: at most half a GB of the store's memory. An interval is compared value by value."""
TOUCHED_MS: Final = 60_000
"""An interval of which a row came this short a time before the sealer's last pass may not be sealed again yet."""
SEALER_MS: Final = 300_000
"""After so long without a complete pass of the sealer nothing is left to it any more."""
PATIENCE_SECONDS: Final = 100.0
"""How long what looks wrong may be under way: a flush, a pass of the sealer."""
FLUSH_PATIENCE_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 2.0
BROKER_SECONDS: Final = 10.0
PROGRESS_SECONDS: Final = 5.0

WIDTHS: Final = {"15m": INTERVAL_MS, "1d": DAY_MS}

_WRONG: Final[dict[str, tuple[Kind, Callable[[audit.Interval], str]]]] = {
    "differs": (Kind.WRONG_ROLLUP, differences_text),
    "unsealed": (Kind.UNSEALED, lambda one: f"{one.raw:,} rows"),
    "without_rows": (Kind.FOREIGN_ROLLUP, lambda one: f"says {one.rollup:,}"),
}
"""Of the groups of intervals those that are wrong: as what, and what is said of one of them."""


class Auditor:
    """One audit of one store. Raises StoreError."""

    def __init__(
        self, store: Store, connection: BrokerConnection, *, since_ms: int = 0, few: int = audit.EXAMPLES
    ) -> None:
        """`few` is how many intervals of a kind are named for those who mend them."""
        self._store = store
        self._connection = connection
        self._since_ms = since_ms
        self._few = few
        self._next_word = time.monotonic() + PROGRESS_SECONDS

    async def run(self) -> Report:
        """Compare everything once, and again what may have been under way."""
        self._report = Report(since_ms=self._since_ms)
        # The ledger first: whatever it covers was durable before.
        self._chains = await audit.chains(self._store, since_ms=self._since_ms)
        self._holes = await audit.holes(self._store, since_ms=self._since_ms)
        self._logs = await self._ask_broker()
        self._report.chains, self._report.logs = self._chains, self._logs
        self._report.kept = self._holes + await audit.recreated(self._store, since_ms=self._since_ms)
        self._check_chains()
        for topic in Topic:
            await self._check_offsets(topic)
        await self._check_rollups()
        self._report.findings.sort(key=lambda finding: (list(Kind).index(finding.kind), finding.where))
        return self._report

    def _find(
        self, kind: Kind, source: Source, count: int, detail: str, *offsets: Range, where: str = ""
    ) -> None:
        topic = _topic_of(source)
        finding = Finding(
            kind=kind, topic=topic, where=where or str(source), count=count, detail=detail, offsets=offsets
        )
        self._report.findings.append(finding)

    def _find_rollups(
        self,
        kind: Kind,
        unit: Unit,
        count: int,
        detail: str,
        pairs: Sequence[tuple[str, int]],
    ) -> None:
        finding = Finding(
            kind=kind,
            topic=unit.topic,
            where=str(unit),
            count=count,
            detail=detail + ("; …" if count > audit.EXAMPLES else ""),
            unit=unit,
            pairs=pairs,
        )
        self._report.findings.append(finding)

    def _say(self, what: str) -> None:
        """Progress, now and then."""
        if time.monotonic() >= self._next_word:
            self._next_word = time.monotonic() + PROGRESS_SECONDS
            log.info("audit: %s", what)

    async def _ask_broker(self) -> dict[str, TopicLog] | None:
        """What the broker has of the topics; None where it does not answer."""
        topics = {chain.source.topic for chain in self._chains}
        try:
            async with asyncio.timeout(BROKER_SECONDS):
                return await topic_logs(self._connection, topics)
        except (Unavailable, TimeoutError) as error:
            log.warning("the broker does not say what it holds: %s", str(error) or "no answer")
            return None

    # --- 1. the ledger by itself

    def _check_chains(self) -> None:
        for chain in self._chains:
            if chain.contradictions:
                self._find(
                    Kind.CONTRADICTION,
                    chain.source,
                    chain.contradictions,
                    "ledger rows do not add up: those at positions "
                    f"{listed(chain.contradicting, chain.contradictions)}",
                    *_single(chain.source, chain.contradicting),
                )
        for hole in self._holes:
            self._find(
                Kind.HOLE, hole.source, hole.offsets, f"no ledger row covers offsets {span_text(hole)}", hole
            )

    # --- 2. the ledger against rows and dead letters

    async def _check_offsets(self, topic: Topic) -> None:
        chains = [chain for chain in self._chains if chain.source.topic.endswith(topic)]
        sums = self._report.topics[topic]
        if chains:
            await self._check_ranges(topic, chains, sums)
        await self._check_outside(topic, chains)
        if self._logs is not None:
            sums.waiting = sum(self._waiting(chain) for chain in chains)

    async def _check_ranges(self, topic: Topic, chains: Sequence[Chain], sums: Sums) -> None:
        holes = [hole for hole in self._holes if hole.source.topic.endswith(topic)]
        left: Counter[Source] = Counter()
        """Offsets of each partition that nothing explains so far."""
        for chain in chains:
            left[chain.source] = chain.next - chain.first
        for hole in holes:
            left[hole.source] -= hole.offsets
        sums.offsets = left.total()
        for source, reason, offsets in await audit.gaps(self._store, since_ms=self._since_ms):
            if source in left:
                left[source] -= offsets
                sums.gaps[GapReason(reason)] += offsets
        passes = list(_passes(chains))
        events = lost = 0
        for number, ranges in enumerate(passes, start=1):
            counted = await audit.offsets(self._store, topic, ranges, kept=self._report.kept)
            for one, counts in counted.items():
                left[one.source] -= counts.events + counts.dead_letters
                events += counts.events
                sums.dead_letters += counts.dead_letters
                self._check_counts(one, counts)
            if any(counts.without_row for counts in counted.values()):
                for one, gone in (await audit.lost(self._store, topic, ranges)).items():
                    lost += gone.offsets
                    self._find(
                        Kind.LOST_ROW,
                        one.source,
                        gone.offsets,
                        "events of the ledger have neither a row nor an earlier copy: offsets "
                        f"{listed(gone.few, gone.offsets)}, the last {gone.greatest:,}",
                        Range(one.source, gone.least, gone.greatest + 1),
                    )
            self._say(f"{topic}: offsets, part {number} of {len(passes)}")
        for chain in chains:
            if left[chain.source]:
                await self._name_unaccounted(chain, left[chain.source], holes)
        for month in await audit.months(self._store, topic.value, time="event_time"):
            sums.rows += await audit.rows(
                self._store, topic, [_range(chain) for chain in chains], month=month
            )
            self._say(f"{topic}: rows of {month_text(month)}")
        sums.duplicates = events - lost - sums.rows

    def _check_counts(self, one: Range, counts: audit.Counts) -> None:
        if counts.without_event:
            self._find(
                Kind.FOREIGN_ROW,
                one.source,
                counts.without_event,
                "rows at offsets where the ledger has no event: "
                f"{listed(counts.few_without_event, counts.without_event)}",
                one,
            )
        if counts.of_other_events:
            self._find(
                Kind.FOREIGN_ROW,
                one.source,
                counts.of_other_events,
                "rows of other events than the ledger has at their offsets: "
                f"{listed(counts.few_of_other_events, counts.of_other_events)}",
                one,
            )
        # Of two versions of Footfall that consumed an offset one may refuse what the other accepts. Dead letters stay.
        self._report.once_refused += counts.once_refused

    async def _name_unaccounted(self, chain: Chain, left: int, holes: Sequence[Range]) -> None:
        missing: list[Range] = []
        for [part] in _passes([chain]):
            of_part = [hole for hole in holes if hole.source == chain.source]
            missing += await audit.unaccounted(self._store, part, holes=of_part)
        if left < 0 or not missing:
            self._find(
                Kind.CONTRADICTION,
                chain.source,
                abs(left),
                "offsets are a gap, and an event or a dead letter at once",
            )
            return
        spans = ", ".join(map(span_text, missing[: audit.EXAMPLES]))
        more = ", …" if len(missing) > audit.EXAMPLES else ""
        self._find(
            Kind.LOST_DEAD_LETTER,
            chain.source,
            left,
            f"offsets are neither event nor dead letter nor gap: {spans}{more}",
            *missing,
        )

    async def _check_outside(self, topic: Topic, chains: Sequence[Chain]) -> None:
        """Rows before, behind or outside what the ledger covers; those behind may be under way."""
        held = await audit.sources(self._store, topic)
        # What these rows are of has been written by then, in all partitions.
        deadline = time.monotonic() + FLUSH_PATIENCE_SECONDS
        covered = {chain.source: chain for chain in chains}
        for source, rows in held.items():
            chain = covered.get(source)
            if chain is not None and rows.least < chain.first and not self._since_ms:
                before = Range(source, rows.least, chain.first)
                found = await audit.beyond(self._store, topic, before)
                self._find(
                    Kind.HOLE,
                    source,
                    before.offsets,
                    f"the ledger begins at {chain.first:,}, and {found.rows:,} rows are of offsets {span_text(before)}",
                    before,
                )
            if chain is None and self._since_ms:
                continue
            behind = chain.next if chain is not None else 0
            if rows.greatest >= behind:
                await self._check_behind(topic, Range(source, behind, rows.greatest + 1), deadline)

    async def _check_behind(self, topic: Topic, outside: Range, deadline: float) -> None:
        """Rows that lie behind what the ledger covers: under way until the deadline, cut off, or foreign."""
        source = outside.source
        log_ = self._log_of(source)
        if log_ is not None and outside.next > log_[1]:
            self._logs = await self._ask_broker()  # it may have grown since
            log_ = self._log_of(source)
        if log_ is not None and outside.next > log_[1]:
            strange = Range(source, max(outside.first, log_[1]), outside.next)
            if (found := await audit.beyond(self._store, topic, strange)).rows:
                why = f"rows of offsets that the broker has not given out (its log ends at {log_[1]:,})"
                self._find_behind(Kind.FOREIGN_ROW, source, found, why)
            outside = Range(source, outside.first, strange.first)
        is_over = False
        while (found := await audit.beyond(self._store, topic, outside)).rows:
            kind, why = self._judge_behind(found, outside)
            if kind is None:
                self._report.cut_off += found.rows
                return
            if kind is not Kind.BEYOND_LEDGER or is_over:
                self._find_behind(kind, source, found, why)
                return
            is_over = time.monotonic() > deadline
            if not is_over:
                await asyncio.sleep(LOOK_SECONDS)
            reached = {chain.source: chain.next for chain in await audit.chains(self._store, since_ms=0)}
            # What a flush has come to the end of meanwhile is covered.
            outside = Range(source, max(outside.first, reached.get(source, 0)), outside.next)

    def _find_behind(self, kind: Kind, source: Source, found: audit.Beyond, why: str) -> None:
        named = ", ".join(f"{event_id} of {bot} at {offset:,}" for offset, bot, event_id in found.few)
        self._find(
            kind,
            source,
            found.rows,
            f"{why}: {named}{', …' if found.rows > len(found.few) else ''}",
            Range(source, found.least, found.greatest + 1),
            where=f"{source} of life {source.epoch}",
        )

    def _judge_behind(self, found: audit.Beyond, outside: Range) -> tuple[Kind | None, str]:
        """What rows behind the ledger's end are; None: of a write that was cut off when the topic was deleted."""
        source = outside.source
        if self._log_of(source) is not None:
            return Kind.BEYOND_LEDGER, "rows of a write that was cut off; a worker that runs finishes it"
        later = [
            chain.began_ms
            for chain in self._chains
            if chain.source.topic == source.topic and chain.source.epoch != source.epoch
        ]
        if any(found.ingested_ms <= began_ms for began_ms in later):
            return None, ""
        if self._logs is None:
            return (
                Kind.BEYOND_LEDGER,
                "rows that the ledger has not come to, and no broker to say whether it will",
            )
        if outside.first:
            return None, ""  # the ledger knows this life, and has nothing of the next one yet
        return Kind.UNKNOWN_ROW, "rows of a life of the topic that neither broker nor ledger knows"

    def _log_of(self, source: Source) -> tuple[int, int] | None:
        """The beginning and end of the partition's log; None where the broker does not have this life of the topic."""
        known = (self._logs or {}).get(source.topic)
        if known is None or known.epoch != source.epoch:
            return None
        return known.ranges.get(source.partition, (0, 0))

    def _waiting(self, chain: Chain) -> int:
        beginning, end = self._log_of(chain.source) or (0, 0)
        return max(0, end - max(chain.next, beginning))

    # --- 3. raw rows against rollups

    async def _check_rollups(self) -> None:
        for topic in sealing.SEALED_TOPICS:
            await self._check_rollups_of(topic)

    async def _check_rollups_of(self, topic: Topic) -> None:
        pending = await self._units(topic)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while pending:
            again: list[Unit] = []
            # Read anew each time: a pass of the sealer that has ended meanwhile has left less to itself.
            due_ms, touched_ms = await self._left_to_the_sealer(topic)
            for number, unit in enumerate(pending, start=1):
                groups = await audit.intervals(
                    self._store,
                    topic,
                    tier=unit.tier,
                    width_ms=WIDTHS[unit.tier],
                    from_ms=unit.from_ms,
                    to_ms=unit.to_ms,
                    buckets=unit.buckets,
                    bucket=unit.bucket,
                    due_ms=due_ms,
                    touched_ms=touched_ms,
                    few=self._few,
                )
                if any(group.is_touched for group in groups) and time.monotonic() < deadline:
                    again.append(unit)
                else:
                    self._take(unit, groups)
                self._say(f"{topic}: rollups, part {number} of {len(pending)} ({month_text(unit.month)})")
            if again:
                log.info("audit: some intervals may be sealed anew just now; looking at them once more")
                await asyncio.sleep(LOOK_SECONDS)
            pending = again
        await self._check_stale(topic)

    async def _units(self, topic: Topic) -> list[Unit]:
        units: list[Unit] = []
        for tier, width_ms in WIDTHS.items():
            rows = await audit.months(self._store, topic.value, time="event_time", width_ms=width_ms)
            since_ms = -(-self._since_ms // width_ms) * width_ms
            rollups = await audit.months(self._store, f"{topic}_{tier}", time="interval_start")
            for month in sorted(rows.keys() | rollups.keys()):
                from_ms, to_ms = bounds_ms(month)
                if to_ms <= since_ms:
                    continue
                held = rows.get(month, audit.Month(0, 0))
                buckets = held.rows // ROWS_AT_ONCE + held.intervals // INTERVALS_AT_ONCE + 1
                units += [
                    Unit(
                        topic=topic,
                        tier=tier,
                        month=month,
                        from_ms=max(from_ms, since_ms),
                        to_ms=to_ms,
                        buckets=buckets,
                        bucket=bucket,
                    )
                    for bucket in range(buckets)
                ]
                await self._check_doubled(replace(units[-1], buckets=1, bucket=0))
        return units

    async def _left_to_the_sealer(self, topic: Topic) -> tuple[int, int]:
        """From when on intervals need not be sealed, and since when rows need not be in their rollups."""
        now_ms = await sealing.clock_us(self._store) // 1000
        last = await sealing.last_pass(self._store, topic)
        last_ms = last.version // 1000
        if now_ms - last_ms > SEALER_MS:
            return now_ms - SEALER_MS, now_ms - TOUCHED_MS
        return last.provisional_from_ms, last_ms - TOUCHED_MS

    def _take(self, unit: Unit, groups: Sequence[audit.Group]) -> None:
        compared = sum(group.intervals for group in groups if group.kind != "open")
        if unit.tier == "1d":
            self._report.days += compared
        else:
            self._report.intervals += compared
        for group in groups:
            if group.is_touched:
                self._report.under_way += group.intervals
            elif group.kind in _WRONG:
                kind, words = _WRONG[group.kind]
                shown = "; ".join(
                    f"{interval_text(one.bot_id, one.start_ms)}: {words(one)}"
                    for one in group.few[: audit.EXAMPLES]
                )
                pairs = [(one.bot_id, one.start_ms) for one in group.few]
                self._find_rollups(kind, unit, group.intervals, shown, pairs)

    async def _check_doubled(self, unit: Unit) -> None:
        count, few = await audit.doubled(
            self._store,
            unit.topic,
            tier=unit.tier,
            from_ms=unit.from_ms,
            to_ms=unit.to_ms,
            few=self._few,
        )
        if count:
            shown = "; ".join(interval_text(bot, start) for start, bot in few[: audit.EXAMPLES])
            pairs = [(bot, start) for start, bot in few]
            self._find_rollups(
                Kind.DOUBLED_ROLLUP, unit, count, f"two rollups of one version: {shown}", pairs
            )

    async def _check_stale(self, topic: Topic) -> None:
        due_ms, _ = await self._left_to_the_sealer(topic)
        count, few = await audit.stale_cells(self._store, topic, since_ms=self._since_ms, due_ms=due_ms)
        if count:
            shown = "; ".join(interval_text(bot, start) for start, bot in few)
            detail = f"cells that no row stands behind: {shown}"
            finding = Finding(
                kind=Kind.STALE_CELL, topic=topic, where=topic.value, count=count, detail=detail
            )
            self._report.findings.append(finding)


def _passes(chains: Iterable[Chain]) -> Iterator[list[Range]]:
    """Ranges that are compared at once: together so many offsets at most, and of each partition one."""
    together: list[Range] = []
    for chain in chains:
        for first in range(chain.first, chain.next, OFFSETS_AT_ONCE):
            part = Range(chain.source, first, min(first + OFFSETS_AT_ONCE, chain.next))
            if together and sum(one.offsets for one in together) + part.offsets > OFFSETS_AT_ONCE:
                yield together
                together = []
            together.append(part)
    if together:
        yield together


def _topic_of(source: Source) -> Topic:
    return next(topic for topic in Topic if source.topic.endswith(topic))


def _range(chain: Chain) -> Range:
    return Range(chain.source, chain.first, chain.next)


def _single(source: Source, offsets: Iterable[int]) -> Iterator[Range]:
    return (Range(source, offset, offset + 1) for offset in offsets)


def bounds_ms(month: int) -> tuple[int, int]:
    """Beginning of a month and of the next one, UTC."""
    year, number = divmod(month, 100)
    bounds = (
        datetime(year, number, 1, tzinfo=UTC),
        datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC),
    )
    return int(bounds[0].timestamp()) * 1000, int(bounds[1].timestamp()) * 1000
