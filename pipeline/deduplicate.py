"""Deduplicate: tell a producer's retry from a new event, as long as the interval is open.

Pure. The memory belongs to one partition and depends on its records alone; a worker that takes the partition over
reads it from raw rows, where a copy with an earlier record time may have replaced its own: one of another partition,
or of records that are consumed again. What comes another way, or after the memory's end, is left to the sealer, which
counts deduplicated raw rows.
"""

from __future__ import annotations

from collections.abc import Iterable

DEFAULT_SPAN = 65_536
"""How many offsets back a partition remembers: 7 to 14 MB when all of these records are of open intervals."""


class IdentityMemory:
    """The identities of a partition's recent events and the first offset of each.

    An identity is a 64-bit hash of (bot, event, time). Two events that share one make a cell count one too few until
    its interval is sealed: with 65,536 remembered that is one event in 10^14.
    """

    def __init__(self, span: int = DEFAULT_SPAN) -> None:
        self._span = span
        # Two lots, of which the older goes whole: to forget them one by one would cost as much as to look them up.
        self._recent: dict[int, int] = {}
        self._recent_from = 0
        self._before: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._recent) + len(self._before)

    def is_duplicate(self, identity: int, offset: int) -> bool:
        """Whether the partition held this identity at a smaller offset of the span, never counting `offset` itself."""
        if offset >= self._recent_from + self._span:
            self._before, self._recent, self._recent_from = self._recent, {}, offset
        first = self._before.get(identity)
        if first is None or first < offset - self._span:
            first = self._recent.setdefault(identity, offset)
        return first < offset

    def load(self, known: Iterable[tuple[int, int]]) -> None:
        """Remember (identity, offset) pairs in the order of their offsets, as the store holds them."""
        for identity, offset in known:
            self.is_duplicate(identity, offset)

    def load_earlier(self, identity: int) -> None:
        """Remember one more of a log that this one follows, the latest first: as if both were one."""
        self._before[identity] = -len(self._before) - 1


def identity(bot_id: str, event_id: str, event_ms: int) -> int:
    """What makes an event the same event within its topic, as a number. Differs from process to process."""
    return hash((bot_id, event_id, event_ms))
