"""What `footfall audit` says: findings of a closed set of kinds, sums per topic, and both in words or as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from clickhouse.audit import Chain, Interval, Range
from pipeline.topics import TopicLog
from schemas.gap import GapReason
from schemas.topics import Topic


class Kind(StrEnum):
    """What can be wrong. The closed set."""

    HOLE = "hole_in_ledger"
    """Offsets that no ledger row covers, though later ones, or rows, are there."""
    CONTRADICTION = "contradiction"
    """A ledger row whose sums do not add up, or an offset that was read and was not there to be."""
    LOST_ROW = "lost_row"
    """An event of the ledger that has neither its row nor an earlier copy."""
    LOST_DEAD_LETTER = "lost_dead_letter"
    """An offset that was consumed and is neither event nor dead letter nor gap."""
    FOREIGN_ROW = "foreign_row"
    """A raw row that is not what the ledger, or the broker, has at the offset that it says it came from."""
    UNKNOWN_ROW = "row_of_unknown_topic"
    """A raw row of a topic, or a life of one, that neither ledger nor broker knows."""
    BEYOND_LEDGER = "row_beyond_ledger"
    """A raw row at an offset that the ledger has not come to, and does not come to."""
    WRONG_ROLLUP = "wrong_rollup"
    """A rollup that says something else than its raw rows."""
    FOREIGN_ROLLUP = "rollup_without_rows"
    """A rollup of an interval that has no raw rows."""
    DOUBLED_ROLLUP = "doubled_rollup"
    """Two different rollups of one version: chance decides which is read."""
    UNSEALED = "unsealed"
    """An interval or day that should have its rollup and has none."""
    STALE_CELL = "stale_cell"
    """A cell that readers count though no raw row stands behind it."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Intervals of one tier that are compared by one query."""

    topic: Topic
    tier: str
    month: int
    from_ms: int
    to_ms: int
    buckets: int
    bucket: int

    def __str__(self) -> str:
        return f"{self.topic} {self.tier} {month_text(self.month)}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong in one place."""

    kind: Kind
    topic: Topic
    where: str
    """A partition, or topic, tier and month."""
    count: int
    """Offsets, rows or intervals."""
    detail: str
    offsets: Sequence[Range] = ()
    """All that is wrong lies within these."""
    unit: Unit | None = None
    pairs: Sequence[tuple[str, int]] = ()
    """(bot, start) of intervals of the unit, as many as were named."""


@dataclass(kw_only=True)
class Sums:
    """Of one topic: what its offsets are. `offsets` is the sum of the rest when nothing is wrong."""

    offsets: int = 0
    rows: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    gaps: Counter[GapReason] = field(default_factory=Counter)
    waiting: int | None = None
    """Records that the broker has and no worker has consumed yet; None: the broker did not say."""


@dataclass(kw_only=True)
class Report:
    """What an audit has compared and found."""

    since_ms: int
    topics: dict[Topic, Sums] = field(default_factory=lambda: {topic: Sums() for topic in Topic})
    intervals: int = 0
    days: int = 0
    under_way: int = 0
    """Intervals and days to which rows were added just now: not compared."""
    cut_off: int = 0
    """Rows of a write that was cut off when its topic was deleted: counted, and in no ledger row."""
    once_refused: int = 0
    """Events that another version of Footfall refused: their dead letters are still there, and count nowhere."""
    findings: list[Finding] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)
    """What was mended before, and what could not be."""
    is_waiting: bool = False
    """Whether something is to be consumed again before all can be right."""
    chains: Sequence[Chain] = ()
    kept: Sequence[Range] = ()
    """Where the ledger lists no events, and rows may be all the same."""
    logs: dict[str, TopicLog] | None = None
    """What the broker holds; None: it did not say."""

    @property
    def offsets(self) -> int:
        """How many offsets were compared."""
        return sum(sums.offsets for sums in self.topics.values())

    @property
    def is_clean(self) -> bool:
        """Whether something was compared and nothing is wrong."""
        return self.offsets > 0 and not self.findings and not self.is_waiting


# --- words


def summary(report: Report) -> str:
    """The report for a person."""
    lines = [f"{'':13}{'offsets':>14}{'rows':>14}{'duplicates':>12}{'dead letters':>14}{'gaps':>10}"]
    for topic, sums in report.topics.items():
        numbers = (sums.rows, sums.duplicates, sums.dead_letters, sums.gaps.total())
        widths = (14, 12, 14, 10)
        shown = "".join(f"{number:>{width},}" for number, width in zip(numbers, widths, strict=True))
        lines.append(f"{topic:13}{sums.offsets:>14,}{shown}")
    lines.append(
        f"Compared {report.offsets:,} offsets with rows, and {report.intervals:,} intervals and {report.days:,} days "
        f"with their rollups{f', since {_time_text(report.since_ms)}' if report.since_ms else ''}."
    )
    for reason in GapReason:
        if missing := sum(sums.gaps[reason] for sums in report.topics.values()):
            lost = "events there are lost" if reason.is_loss else "no event was there"
            lines.append(f"{missing:,} offsets were not there to be read ({reason}): {lost}.")
    if report.cut_off:
        lines.append(f"{report.cut_off:,} rows are of a write that was cut off when its topic was deleted.")
    if report.once_refused:
        lines.append(
            f"{report.once_refused:,} of the events were dead letters to another version of Footfall."
        )
    if report.under_way:
        lines.append(f"{report.under_way:,} intervals were not compared: rows still come in for them.")
    waiting = [sums.waiting for sums in report.topics.values() if sums.waiting]
    if waiting:
        lines.append(f"{sum(waiting):,} records wait in Kafka to be consumed.")
    lines += [
        f"{finding.kind} in {finding.where}: {finding.count:,}: {finding.detail}"
        for finding in report.findings
    ]
    lines += report.repairs
    return "\n".join([*lines, verdict(report)])


def verdict(report: Report) -> str:
    """The last line."""
    kinds = Counter(finding.kind for finding in report.findings)
    found = ", ".join(f"{kind} ({places})" for kind, places in kinds.items())
    if report.is_waiting:
        until_then = f" Until then: {found}." if found else ""
        return f"Not clean yet: something was put back. Audit again when it has been consumed.{until_then}"
    if found:
        return f"Not clean: {found}."
    if not report.offsets:
        return "Nothing to compare: the ledger has no offsets" + (" since then." if report.since_ms else ".")
    return "Clean: every offset is accounted for, and every rollup says what its rows say."


def as_json(report: Report) -> str:
    """The report for a program."""
    said = {
        "clean": report.is_clean,
        "verdict": verdict(report),
        "since": _time_text(report.since_ms) if report.since_ms else None,
        "offsets": report.offsets,
        "rows": sum(sums.rows for sums in report.topics.values()),
        "intervals": report.intervals,
        "days": report.days,
        "under_way": report.under_way,
        "cut_off": report.cut_off,
        "once_refused": report.once_refused,
        "topics": report.topics,
        "findings": [
            {"kind": one.kind, "where": one.where, "count": one.count, "detail": one.detail}
            for one in report.findings
        ],
        "repairs": report.repairs,
    }
    return msgspec.json.format(msgspec.json.encode(said), indent=2).decode()


def listed(few: Sequence[int], count: int) -> str:
    """A few numbers of `count`."""
    return ", ".join(f"{number:,}" for number in few) + (", …" if count > len(few) else "")


def span_text(offsets: Range) -> str:
    """The first and the last of them."""
    return f"{offsets.first:,}" if offsets.offsets == 1 else f"{offsets.first:,} to {offsets.next - 1:,}"


def _time_text(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}Z"


def month_text(month: int) -> str:
    """202601 → 2026-01."""
    return f"{month // 100}-{month % 100:02}"


def interval_text(bot_id: str, start_ms: int) -> str:
    """Whose, and when it begins."""
    return f"{bot_id}, {_time_text(start_ms)}"


def differences_text(interval: Interval) -> str:
    """What its rollup says otherwise than its rows."""
    said = []
    for dimension, value, raw, rollup, raw_sum, rollup_sum in interval.differences:
        of = f"{dimension} {value!r}" if value else dimension or "in all"
        shown = (raw, rollup) if raw != rollup else (raw_sum, rollup_sum)
        said.append(f"{of} {shown[1]:,} and not {shown[0]:,}")
    return ", ".join(said)
