"""One topic's way from records to the store: the stages that its agent runs through, and what they remember.

What is remembered (positions, identities, open cells) belongs to the partitions held now, and is read from the store
whenever they are assigned: a worker that takes a partition over goes on as if it had always had it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from clickhouse import ledger
from clickhouse.client import Store
from pipeline import metrics
from pipeline.batches import Arrival, Batch, Record
from pipeline.dead_letter import dead_letter
from pipeline.decode import MalformedEvent, decode
from pipeline.deduplicate import DEFAULT_SPAN, IdentityMemory, identity
from pipeline.enrich import BUILD_ROW, Row
from pipeline.geography import Geography
from pipeline.insist import Abandoned
from pipeline.sink import Flush, Sink, moved
from pipeline.window import Budget, RequestCell, TokenCell, Window, closed, first_open, last_open
from schemas.dead_letter import DeadLetter
from schemas.gap import GapReason
from schemas.rollup import INTERVAL_MS
from schemas.topics import Topic

log = logging.getLogger(__name__)

CELL_TYPES: Mapping[Topic, type[RequestCell] | type[TokenCell]] = {
    Topic.BOT_REQUESTS: RequestCell,
    Topic.TOKEN_USAGES: TokenCell,
}
GAP_WITHIN_A_LOG = {
    True: GapReason.COMPACTION,
    False: GapReason.TRANSACTIONS,
    None: GapReason.UNKNOWN,
}


@dataclass(kw_only=True)
class Tally:
    """What became of a batch's records, per partition; goes into the ledger."""

    position: int
    first_offset: int
    last_offset: int
    records: int
    dead_letters: int = 0
    duplicates: int = 0
    late: int = 0
    gaps: Sequence[ledger.Gap] = ()


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A batch after decoding."""

    topic: Topic
    batch: Batch
    states: Mapping[int, PartitionState]
    """What was remembered of the partitions when the batch came; replaced, not changed, by a new assignment."""
    arrivals: list[Arrival]
    dead_letters: list[DeadLetter]
    tallies: dict[int, Tally]


@dataclass(kw_only=True)
class PartitionState:
    """What is remembered of one partition."""

    position: int
    """The offset that comes next, as the ledger has it; -1: nothing is written yet."""
    beginning: int = 0
    """The earliest offset that the broker still has."""
    memory: IdentityMemory = field(default_factory=IdentityMemory)
    window: Window | None = None


class Flow:
    """The stages of one topic. One batch at a time."""

    def __init__(
        self,
        topic: Topic,
        *,
        source: str,
        store: Store,
        sink: Sink,
        geography: Geography,
        worker: str,
        now_ms: Callable[[], float],
    ) -> None:
        self.topic = topic
        self.source = source
        """Kafka's name of the topic, prefix included."""
        self.epoch = ""
        self.is_compacted: bool | None = None
        """Whether the broker keeps only the last record of a key; None: it does not say."""
        self.partitions: dict[int, PartitionState] = {}
        self.last_flush = time.monotonic()
        self._store = store
        self.sink = sink
        self._geography = geography
        self._worker = worker
        self._now_ms = now_ms
        self._busy = asyncio.Lock()
        self._assignment = ""
        self._build_row = BUILD_ROW[topic]

    # --- taking partitions over

    async def resume(
        self, epoch: str, partitions: Iterable[int], is_current: Callable[[], bool]
    ) -> dict[int, int]:
        """Forget what is held, take these partitions over, and say where each goes on; -1: at its beginning.

        Waits for a flush on its way, asks the store as often as it takes. Raises Abandoned.
        """
        async with self._busy:
            self.epoch = epoch
            # A repeat within an assignment is known to the store by its token. What an earlier one has written is
            # written again when it is read again: somebody may have put the ledger back because it was lost.
            self._assignment = uuid4().hex[:12]
            self.partitions = await self.sink.insist(lambda: self._load(sorted(partitions)), is_current)
            if 0 in self.partitions:  # one of the workers does it
                await self.sink.insist(self._close_cut_off, is_current)
                await self.sink.insist(self._note_unread, is_current)
        self.last_flush = time.monotonic()
        return {partition: state.position for partition, state in self.partitions.items()}

    async def _load(self, partitions: list[int]) -> dict[int, PartitionState]:
        positions = await ledger.positions(
            self._store, topic=self.source, epoch=self.epoch, partitions=partitions
        )
        states = {
            partition: PartitionState(position=positions.get(partition, -1)) for partition in partitions
        }
        cell_type = CELL_TYPES.get(self.topic)
        if cell_type is None or not partitions:
            return states
        first_open_ms = first_open(int(self._now_ms()))
        budget = Budget()
        windows = {partition: Window(cell_type, budget) for partition in partitions}
        for partition, bot_id, start, snapshot in await ledger.open_cells(
            self._store, self.topic, epoch=self.epoch, partitions=partitions, first_open_ms=first_open_ms
        ):
            windows[partition].load([(bot_id, start, snapshot)])
        for partition, bot, event_id, ms in await ledger.identities_of_other_epochs(
            self._store,
            self.topic,
            source=self.source,
            epoch=self.epoch,
            partitions=partitions,
            span=DEFAULT_SPAN,
            first_open_ms=first_open_ms,
        ):
            states[partition].memory.load_earlier(identity(bot, event_id, ms))
        for partition, state in states.items():
            state.window = windows[partition]
            if state.position > 0:
                known = await ledger.recent_identities(
                    self._store,
                    self.topic,
                    source=self.source,
                    epoch=self.epoch,
                    partition=partition,
                    from_offset=max(state.position - DEFAULT_SPAN, 0),
                    before_offset=state.position,  # from there on records are consumed again
                    first_open_ms=first_open_ms,
                )
                state.memory.load(
                    (identity(bot, event_id, ms), offset) for bot, event_id, ms, offset in known
                )
        return states

    async def _close_cut_off(self) -> None:
        """Have the sealer count what flushes wrote that the deletion of their topic cut off before their cells."""
        cell_type = CELL_TYPES.get(self.topic)
        if cell_type is None:
            return
        cells: list[tuple[object, ...]] = []
        for epoch, partition, bot_id, start, offset in await ledger.cut_off(
            self._store,
            self.topic,
            source=self.source,
            epoch=self.epoch,
            first_open_ms=first_open(int(self._now_ms())),
        ):
            snapshot, members = closed(cell_type, offset)
            cells.append((bot_id, start, epoch, partition, snapshot, *members))
        if cells:
            await ledger.write_cells(self._store, self.topic, cells, origin=f"{self.source}:cut off")

    async def _note_unread(self) -> None:
        """Put into the ledger what earlier lives of the topic held and nobody had read when it was deleted."""
        unread = await ledger.unread_of_other_epochs(
            self._store, topic=self.topic, source=self.source, epoch=self.epoch
        )
        for tail in unread:
            gap = ledger.Gap(tail.position, tail.end, GapReason.RECREATED)
            entry = ledger.LedgerEntry(
                topic=self.source,
                epoch=tail.epoch,
                partition=tail.partition,
                next_offset=tail.end,
                position=tail.position,
                first_offset=tail.end,
                last_offset=tail.end - 1,
                worker=self._worker,
                gaps=[gap],
            )
            await ledger.write_entries(self._store, [entry], origin=f"{self.source}:{tail}")
            self._note_gap(tail.partition, gap)

    async def is_behind(self) -> str:
        """Why the ledger holds less than this worker has written; empty as long as it does not."""
        written = {p: state.position for p, state in self.partitions.items() if state.position >= 0}
        epoch = self.epoch
        held = await ledger.positions(self._store, topic=self.source, epoch=epoch, partitions=written)
        for partition, position in written.items():
            now = held.get(partition)
            if (now is None or now < position) and epoch == self.epoch and partition in self.partitions:
                return moved(self.source, partition, now=now, was=position)
        return ""

    async def idle(self) -> None:
        """Return when no flush is on its way."""
        async with self._busy:
            return

    # --- the stages, in order

    def decode(self, batch: Batch) -> Decoded:
        """Tell the valid from the malformed. Records below the ledger's position are skipped.

        Of a batch that is not ours any more nothing is left, so that nothing more happens.
        """
        states = self.partitions
        arrivals: list[Arrival] = []
        letters: list[DeadLetter] = []
        tallies: dict[int, Tally] = {}
        topic = self.topic
        for partition, delivered in batch.partitions.items() if batch.is_current() else ():
            state, records = states[partition], delivered
            if delivered[0].offset < state.position:
                records = [record for record in delivered if record.offset >= state.position]
                metrics.SKIPPED_RECORDS.labels(topic=topic).inc(len(delivered) - len(records))
            if not records:
                continue
            tally = tallies[partition] = Tally(
                position=state.position if state.position >= 0 else records[0].offset,
                first_offset=records[0].offset,
                last_offset=records[-1].offset,
                records=len(records),
            )
            for record in records:
                record_ms = record.timestamp
                try:
                    event, event_ms = decode(topic, record.value, record_ms)
                except MalformedEvent as error:
                    letters.append(
                        dead_letter(record, error, topic=self.source, epoch=self.epoch, partition=partition)
                    )
                else:
                    arrivals.append((event, event_ms, partition, record.offset, record_ms))
            tally.dead_letters = len(letters) - sum(other.dead_letters for other in tallies.values())
            if tally.last_offset + 1 - tally.position > tally.records:
                tally.gaps = self._gaps(partition, tally.position, state.beginning, records)
        return Decoded(
            topic=topic, batch=batch, states=states, arrivals=arrivals, dead_letters=letters, tallies=tallies
        )

    def _gaps(
        self, partition: int, position: int, beginning: int, records: Sequence[Record]
    ) -> list[ledger.Gap]:
        """What the log did not hold between the ledger's position and the last record."""
        gaps: list[ledger.Gap] = []
        expected = position
        for record in records:
            if record.offset > expected:
                if expected < beginning:
                    lost_before = min(beginning, record.offset)
                    gaps.append(ledger.Gap(expected, lost_before, GapReason.RETENTION))
                    expected = lost_before
                if record.offset > expected:
                    gaps.append(ledger.Gap(expected, record.offset, GAP_WITHIN_A_LOG[self.is_compacted]))
            expected = record.offset + 1
        return gaps

    def _note_gap(self, partition: int, gap: ledger.Gap) -> None:
        """Say and count that offsets were not there to be read."""
        missing = gap.next_offset - gap.first_offset
        metrics.MISSING_OFFSETS.labels(topic=self.topic, reason=gap.reason).inc(missing)
        if gap.reason.is_loss:
            log.error(
                "%s/%d: %d offsets from %d on were not there to be read (%s): events are lost",
                self.source, partition, missing, gap.first_offset, gap.reason,
            )  # fmt: skip

    def enrich(self, decoded: Decoded) -> list[Row]:
        """Each valid event as a row, with its place and browser."""
        self._geography.refresh(time.monotonic())
        build, source, epoch, geography = self._build_row, self.source, self.epoch, self._geography
        return [build(arrival, source, epoch, geography) for arrival in decoded.arrivals]

    def window(self, decoded: Decoded, rows: list[Row]) -> list[tuple[object, ...]]:
        """Count rows of open intervals once each; the cells that changed, as rows of their table."""
        if self.topic not in CELL_TYPES:
            return []
        now_ms = int(self._now_ms())
        from_ms, to_ms = first_open(now_ms), last_open(now_ms) + INTERVAL_MS
        for (_, event_ms, partition, offset, _), row in zip(decoded.arrivals, rows, strict=True):
            tally = decoded.tallies[partition]
            if not from_ms <= event_ms < to_ms:
                tally.late += 1
                continue
            state = decoded.states[partition]
            is_duplicate = state.memory.is_duplicate(identity(row[0], row[2], event_ms), offset)
            has_room = state.window.add(row, offset, is_duplicate=is_duplicate)  # type: ignore[union-attr]
            if is_duplicate:
                tally.duplicates += 1
            elif not has_room:
                tally.late += 1
        cells: list[tuple[object, ...]] = []
        for partition, state in decoded.states.items():
            assert state.window is not None  # noqa: S101 - topics with cells have windows
            for bot_id, start, snapshot, members in state.window.snapshots():
                cells.append((bot_id, start, self.epoch, partition, snapshot, *members))
            state.window.evict(now_ms)
        return cells

    async def flush(self, decoded: Decoded, rows: list[Row], cells: list[tuple[object, ...]]) -> None:
        """Make the batch durable, then acknowledge it; drop it when it is not ours any more."""
        batch, started = decoded.batch, time.monotonic()
        async with self._busy:
            if decoded.tallies:
                try:
                    await self.sink.flush(self._flush_of(decoded, rows, cells))
                except Abandoned:
                    metrics.ABANDONED_BATCHES.labels(topic=self.topic).inc()
                    return
            for partition, tally in decoded.tallies.items():
                decoded.states[partition].position = tally.last_offset + 1
        batch.acknowledge()
        self.last_flush = time.monotonic()
        self._count(decoded, rows, self.last_flush - started)

    def _flush_of(self, decoded: Decoded, rows: list[Row], cells: list[tuple[object, ...]]) -> Flush:
        entries = []
        end = 0
        for partition, tally in decoded.tallies.items():
            begin, end = end, end + tally.records - tally.dead_letters
            arrivals = decoded.arrivals[begin:end]
            entry = ledger.LedgerEntry(
                topic=self.source,
                epoch=self.epoch,
                partition=partition,
                next_offset=tally.last_offset + 1,
                position=tally.position,
                first_offset=tally.first_offset,
                last_offset=tally.last_offset,
                records=tally.records,
                events=tally.records - tally.dead_letters - tally.duplicates,
                duplicates=tally.duplicates,
                dead_letters=tally.dead_letters,
                late=tally.late,
                worker=self._worker,
                offsets=[offset for _, _, _, offset, _ in arrivals],
                bots_in=[row[0] for row in rows[begin:end]],
                times_in=[row[1] for row in rows[begin:end]],
                ids_in=[row[2] for row in rows[begin:end]],
                gaps=tally.gaps,
            )
            entries.append(entry)
        spans = ",".join(f"{entry.partition}@{entry.position}-{entry.last_offset}" for entry in entries)
        return Flush(
            topic=self.topic,
            origin=f"{self.source}:{self.epoch}:{self._assignment}:{spans}",
            rows=rows,
            cells=cells,
            dead_letters=decoded.dead_letters,
            entries=entries,
            firsts=frozenset(p for p in decoded.tallies if decoded.states[p].position < 0),
            is_current=decoded.batch.is_current,
        )

    def _count(self, decoded: Decoded, rows: list[Row], seconds: float) -> None:
        topic = self.topic
        metrics.RECORDS.labels(topic=topic).inc(sum(tally.records for tally in decoded.tallies.values()))
        metrics.ROWS_WRITTEN.labels(topic=topic).inc(len(rows))
        metrics.DUPLICATES.labels(topic=topic).inc(
            sum(tally.duplicates for tally in decoded.tallies.values())
        )
        metrics.LATE_EVENTS.labels(topic=topic).inc(sum(tally.late for tally in decoded.tallies.values()))
        for partition, tally in decoded.tallies.items():
            for gap in tally.gaps:
                self._note_gap(partition, gap)
        for letter in decoded.dead_letters:
            metrics.DEAD_LETTERS.labels(topic=topic, reason=letter.reason).inc()
        metrics.FLUSH_SECONDS.labels(topic=topic).observe(seconds)
        metrics.REMEMBERED_IDENTITIES.labels(topic=topic).set(
            sum(len(state.memory) for state in self.partitions.values())
        )
        windows = [state.window for state in self.partitions.values() if state.window is not None]
        metrics.OPEN_CELLS.labels(topic=topic).set(sum(window.cells for window in windows))
        metrics.CLOSED_CELLS.labels(topic=topic).set(sum(window.closed_cells for window in windows))
