"""How far each partition has been consumed: for readers, for the lag metric, and for the watchdog."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter

MAX_OBSERVATIONS = 120


@dataclass(kw_only=True)
class PartitionProgress:
    """One partition's end as the broker said it lately, against the position that is durable."""

    caught_up_through_ms: int = 0
    """Every record appended before this is durable, by the clock of whoever asks."""
    lag: int = 0
    end: int = 0
    """Where the log ended when the broker was last asked."""
    _ends: list[tuple[int, int]] = field(default_factory=list)

    def observe(self, *, asked_ms: int, end: int, position: int) -> None:
        """The broker was asked at `asked_ms` and said that `end` comes next; `position` is the next to be read."""
        self.end = end
        self.lag = max(end - max(position, 0), 0)
        self._ends.append((asked_ms, end))
        passed = bisect_right(self._ends, max(position, 0), key=itemgetter(1))
        if passed:
            self.caught_up_through_ms = self._ends[passed - 1][0]
            del self._ends[:passed]
        if len(self._ends) > MAX_OBSERVATIONS:
            # Far behind: fewer points in time will do, the oldest among them.
            del self._ends[1::2]


Key = tuple[str, int]
"""Topic, partition."""


class Progress:
    """Progress of every partition held."""

    def __init__(self) -> None:
        self.partitions: dict[Key, PartitionProgress] = {}

    def hold(self, keys: Iterable[Key], caught_up_through_ms: Mapping[Key, int]) -> None:
        """Follow these partitions and no others; for new ones, how far others had caught up with them."""
        self.partitions = {
            key: self.partitions.get(key)
            or PartitionProgress(caught_up_through_ms=caught_up_through_ms.get(key, 0))
            for key in keys
        }

    def observe(self, *, asked_ms: int, ends: Mapping[Key, int], positions: Mapping[Key, int]) -> None:
        """Take one answer of the broker in."""
        for key, partition in self.partitions.items():
            if key in ends and key in positions:
                partition.observe(asked_ms=asked_ms, end=ends[key], position=positions[key])

    @property
    def lag(self) -> int:
        """Records appended and not yet durable."""
        return sum(partition.lag for partition in self.partitions.values())


class Watchdog:
    """Notices what should move and does not."""

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._since: dict[str, float] = {}

    def hanging(self, now: float, waiting: Mapping[str, float]) -> list[str]:
        """What has stood still for too long, given what should move now and when it last did, in seconds of one clock.

        The time counts from when it first should have: what had nothing to do has not stood still.
        """
        self._since = {what: max(self._since.get(what, now), moved) for what, moved in waiting.items()}
        return [what for what, since in self._since.items() if now - since > self._patience_seconds]
