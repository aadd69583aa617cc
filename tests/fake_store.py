"""A store in memory whose writes fail where a test wants them to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clickhouse.client import StoreError
from tests.builders import NOW_MS
from tests.model_store import ModelStore, Request, Row


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Fault:
    """What goes wrong with one write: nothing is done, or it is done and the reply is lost."""

    error: BaseException = field(default_factory=lambda: StoreError("the store is away"))
    is_applied: bool = False


class FakeStore(ModelStore):
    """The model, with a list of what it was asked for and of what goes wrong.

    Raw rows are never merged, so that tests see all that was written.
    """

    def __init__(self) -> None:
        super().__init__(now_us=lambda: NOW_MS * 1000)
        self.writes: list[tuple[str, Sequence[Row]]] = []
        """(table, rows) of every insert that was asked for, refused and repeated ones included."""
        self.faults: dict[int, Fault] = {}
        """Faults by the number of the write, which begins at 0."""
        self.queries_failing: int = 0
        """How many questions fail from now on."""

    async def serve(self, request: Request) -> None:
        fault = self.faults.get(len(self.writes))
        self.writes.append((request.what, request.rows))
        if fault is None or fault.is_applied:
            request.apply(request.asked_us)
        if fault is not None:
            raise fault.error

    async def ask(self) -> None:
        if self.queries_failing:
            self.queries_failing -= 1
            raise StoreError("the store is away")
