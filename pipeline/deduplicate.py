"""Deduplicate: tell a producer's retry from a new event, as long as the interval is open.

Pure. The memory belongs to one partition and depends on its records alone; a worker that takes the partition over
reads it from raw rows, where a copy with an earlier record time may have replaced its own: one of another partition,
or of records that are consumed again. What comes another way, or after the memory's end, is left to the sealer, which
counts deduplicated raw rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

DEFAULT_SPAN = 65_536
"""How many offsets back a partition remembers: about 10 MB when every record in the span is of an open interval."""


class IdentityMemory:
    """The identities of a partition's recent events and the first offset of each.

    An identity is a 64-bit hash of (bot, event, time). Two events that share one make a cell count one too few until
    its interval is sealed: with 65,536 remembered that is one event in 10^14.
    """

    def __init__(self, span: int = DEFAULT_SPAN) -> None:
        self._span = span
        # A plain dict walks over what was deleted at its front again and again.
        self._first_offset: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._first_offset)

    def is_duplicate(self, identity: int, offset: int) -> bool:
        """Whether the partition held this identity at a smaller offset of the span, never counting `offset` itself."""
        self._forget_before(offset - self._span)
        return self._first_offset.setdefault(identity, offset) < offset

    def load(self, known: Iterable[tuple[int, int]]) -> None:
        """Remember (identity, offset) pairs in the order of their offsets, as the store holds them."""
        for identity, offset in known:
            self._first_offset.setdefault(identity, offset)

    def load_earlier(self, identity: int) -> None:
        """Remember one more of a log that this one follows, the latest first: as if both were one."""
        memory = self._first_offset
        memory[identity] = -len(memory) - 1
        memory.move_to_end(identity, last=False)

    def _forget_before(self, offset: int) -> None:
        memory = self._first_offset
        while memory:
            oldest = next(iter(memory))
            if memory[oldest] >= offset:
                return
            del memory[oldest]


def identity(bot_id: str, event_id: str, event_ms: int) -> int:
    """What makes an event the same event within its topic, as a number. Differs from process to process."""
    return hash((bot_id, event_id, event_ms))
