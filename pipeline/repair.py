"""`footfall audit --repair`: mend what can be mended, and say what cannot.

Rows come first, since everything else is computed from them. Those that the ledger contradicts are deleted. Those
that are missing are fetched again: the ledger is put back to before them, workers notice, end with 70, and consume
them anew, as far as Kafka still has them. Then rollups, from rows; but only where no row is missing, since a rollup may
be all that is left of rows that are gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from clickhouse import audit, repair, sealing
from clickhouse.audit import Range, Source
from clickhouse.client import Store
from pipeline.ask import asked_store
from pipeline.audit import WIDTHS, Auditor
from pipeline.audit_report import Finding, Kind, Report, Unit, span_text
from pipeline.config import Settings
from pipeline.seal import MAX_INTERVALS
from pipeline.window import GRACE_MS, interval_start
from schemas.topics import Topic

log = logging.getLogger(__name__)

MISSING: Final = (
    Kind.HOLE,
    Kind.CONTRADICTION,
    Kind.LOST_ROW,
    Kind.LOST_DEAD_LETTER,
)
"""What is mended by consuming it again."""
MANY: Final = 1_000
"""Up to as many intervals of a kind and month are sealed anew by name; beyond it all of that month's are."""
SETTLE_SECONDS: Final = 2.0
"""A worker that was about to write the ledger when it was put back has done so by then."""
SETTLE_TIMES: Final = 5


async def run_audit(settings: Settings, *, since_ms: int, mend: bool) -> Report:
    """Audit the deployment of these settings; if told to, mend what is found, and audit again. Raises Unavailable."""
    connection = settings.broker_connection()
    async with asked_store(settings) as store:
        few = MANY if mend else audit.EXAMPLES
        report = await Auditor(store, connection, since_ms=since_ms, few=few).run()
        if mend and report.findings:
            repairer = Repairer(store, report)
            await repairer.run()
            report = await Auditor(store, connection, since_ms=since_ms).run()
            report.repairs, report.is_waiting = repairer.done, repairer.is_waiting
        return report


class Repairer:
    """Mends what one audit has found. Raises StoreError."""

    def __init__(self, store: Store, report: Report) -> None:
        self._store = store
        self._report = report
        self.done: list[str] = []
        """What was mended, and what was not and why; one line each."""
        self.is_waiting = False
        """Whether workers have to consume something again before another audit can be clean."""

    async def run(self) -> None:
        for topic in Topic:
            await self._delete_foreign_rows(topic)
            is_whole = await self._fetch_missing(topic)
            if topic in sealing.SEALED_TOPICS:
                await self._seal_anew(topic, is_whole=is_whole)

    def _of(self, topic: Topic, *kinds: Kind) -> list[Finding]:
        return [one for one in self._report.findings if one.topic == topic and one.kind in kinds]

    def _say(self, text: str) -> None:
        log.info("repair: %s", text)
        self.done.append(text)

    # --- rows that should not be there

    async def _delete_foreign_rows(self, topic: Topic) -> None:
        for finding in self._of(topic, Kind.UNKNOWN_ROW):
            self._say(
                f"Not mended: {finding.where}. Nothing but their own word says where its rows are from; "
                "delete them by hand if you know."
            )
        for finding in self._of(topic, Kind.FOREIGN_ROW):
            within = Range(
                finding.offsets[0].source,
                min(one.first for one in finding.offsets),
                max(one.next for one in finding.offsets),
            )
            deleted = 0
            while offsets := await self._foreign_offsets(topic, within):
                await repair.delete_foreign_rows(self._store, topic, within.source, offsets=offsets)
                deleted += len(offsets)
            if deleted:
                self._say(
                    f"Mended: deleted the rows of {within.source} at {deleted:,} offsets that were of no event there."
                )

    async def _foreign_offsets(self, topic: Topic, within: Range) -> list[int]:
        covered = next((chain for chain in self._report.chains if chain.source == within.source), None)
        if covered is None or within.first >= covered.next:
            beyond = await audit.beyond(self._store, topic, within, few=repair.AT_ONCE)
            return [offset for offset, _, _ in beyond.few]
        kept = self._report.kept
        counts = (await audit.offsets(self._store, topic, [within], kept=kept, few=repair.AT_ONCE))[within]
        return [*counts.few_without_event, *counts.few_of_other_events]

    # --- rows that should be there

    async def _fetch_missing(self, topic: Topic) -> bool:
        """Have what is missing consumed again. False as long as rows are missing."""
        missing: defaultdict[Source, list[Range]] = defaultdict(list)
        for finding in self._of(topic, *MISSING):
            for one in finding.offsets:
                missing[one.source].append(one)
        for source, ranges in missing.items():
            await self._put_back(source, ranges)
        return not missing

    async def _put_back(self, source: Source, missing: Iterable[Range]) -> None:
        ranges = sorted(missing, key=lambda one: one.first)
        lost = f"{source} at {', '.join(span_text(one) for one in ranges[: audit.EXAMPLES])}"
        logs = self._report.logs
        if logs is None:
            self._say(f"Not mended: {lost}. The broker has to answer for it to be consumed again.")
            return
        known = logs.get(source.topic)
        if known is None or known.epoch != source.epoch:
            self._say(f"Not mended: {lost}. Its topic was deleted, so Kafka has it no more.")
            return
        beginning, end = known.ranges.get(source.partition, (0, 0))
        before, after = await repair.boundaries(
            self._store, source, offset=ranges[0].first, beginning=beginning
        )
        position = before if before is not None else 0
        if position < beginning:
            # As much as the broker has. From a boundary on: what lies before was consumed, and must not become a gap.
            position = after if after is not None else end
            gone = [one for one in ranges if one.first < position]
            self._say(
                f"Not mended: {source} at {', '.join(span_text(one) for one in gone[: audit.EXAMPLES])}. "
                f"Kafka has nothing before {beginning:,}."
            )
            if ranges[-1].next <= position:
                return
        for _ in range(SETTLE_TIMES):
            await repair.put_back(self._store, source, position=position)
            await asyncio.sleep(SETTLE_SECONDS)
            if not any(hole.source == source for hole in await audit.holes(self._store, since_ms=0)):
                break
        self.is_waiting = True
        self._say(
            f"Put back: {source} to {position:,}. Workers notice, end with 70, and consume it again from there; "
            "audit again when they have."
        )

    # --- rollups

    async def _seal_anew(self, topic: Topic, *, is_whole: bool) -> None:
        due_ms = interval_start(await sealing.clock_us(self._store) // 1000 - GRACE_MS)
        wrong = self._of(topic, Kind.WRONG_ROLLUP, Kind.DOUBLED_ROLLUP, Kind.FOREIGN_ROLLUP, Kind.STALE_CELL)
        if wrong and not is_whole:
            self._say(
                f"Not mended: rollups of {topic}, as long as rows are missing that they may have counted."
            )
            wrong = []
        for finding in [*self._of(topic, Kind.UNSEALED), *wrong]:
            unit = finding.unit
            if unit is None:
                await repair.delete_stale_cells(self._store, topic, due_ms=due_ms)
                self._say(f"Mended: deleted {finding.count:,} cells of {topic} that no row stands behind.")
            elif finding.kind is Kind.FOREIGN_ROLLUP:
                await repair.delete_rollups_without_rows(
                    self._store,
                    topic,
                    tier=unit.tier,
                    width_ms=WIDTHS[unit.tier],
                    from_ms=unit.from_ms,
                    to_ms=unit.to_ms,
                )
                self._say(f"Mended: deleted {finding.count:,} rollups of {finding.where} without rows.")
            else:
                await self._seal_unit(unit, finding, due_ms)
                self._say(f"Mended: sealed {finding.count:,} of {finding.where} anew.")

    async def _seal_unit(self, unit: Unit, finding: Finding, due_ms: int) -> None:
        """The intervals that were named, or all of their month where not all were."""
        named: list[Sequence[tuple[str, int]]] = [()]
        if len(finding.pairs) == finding.count:
            named = [
                finding.pairs[first : first + repair.AT_ONCE]
                for first in range(0, len(finding.pairs), repair.AT_ONCE)
            ]
        for pairs in named:
            await repair.seal_anew(
                self._store,
                unit.topic,
                tier=unit.tier,
                width_ms=WIDTHS[unit.tier],
                from_ms=unit.from_ms,
                to_ms=unit.to_ms,
                pairs=pairs,
                due_ms=due_ms,
                at_once=MAX_INTERVALS,
            )
