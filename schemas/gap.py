"""Why an offset of a topic never was there to be read."""

from __future__ import annotations

from enum import StrEnum


class GapReason(StrEnum):
    """The closed set of reasons."""

    RETENTION = "retention"
    """The broker deleted it before a worker had read it: an event is lost."""
    COMPACTION = "compaction"
    """The topic is compacted, and a later record had the same key: an event is lost."""
    RECREATED = "recreated"
    """The topic was deleted, and made anew, before a worker had read it: an event is lost."""
    TRANSACTIONS = "transactions"
    """The end of a producer's transaction, or a record of one that was aborted: no event was there."""
    UNKNOWN = "unknown"
    """The broker did not say whether the topic is compacted: a lost event, or an end of a transaction."""

    @property
    def is_loss(self) -> bool:
        """Whether events may have been lost."""
        return self is not GapReason.TRANSACTIONS
