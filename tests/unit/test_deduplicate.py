"""The memory of identities: what counts as a duplicate, and for how long."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from pipeline.deduplicate import IdentityMemory, identity

SPAN = 8

# (identity, offset) in the order of offsets, with gaps as compaction and transactions leave them.
logs = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=60).map(
    lambda steps: [(who, sum(step for _, step in steps[: index + 1])) for index, (who, _) in enumerate(steps)]
)


def decisions(memory: IdentityMemory, log: list[tuple[int, int]]) -> list[bool]:
    return [memory.is_duplicate(who, offset) for who, offset in log]


@given(logs)
def test_a_duplicate_has_a_copy_at_a_smaller_offset(log: list[tuple[int, int]]) -> None:
    for index, is_duplicate in enumerate(decisions(IdentityMemory(SPAN), log)):
        who, _ = log[index]
        assert not is_duplicate or who in [earlier for earlier, _ in log[:index]]


@given(logs)
def test_within_the_span_every_copy_but_the_first_is_a_duplicate(log: list[tuple[int, int]]) -> None:
    seen: set[int] = set()
    for (who, _), is_duplicate in zip(log, decisions(IdentityMemory(10**6), log), strict=True):
        assert is_duplicate == (who in seen)
        seen.add(who)


@given(logs)
def test_an_event_is_never_a_duplicate_of_itself(log: list[tuple[int, int]]) -> None:
    memory = IdentityMemory(10**6)
    first = decisions(memory, log)
    assert decisions(memory, log) == first


@given(logs, st.data())
def test_a_worker_that_takes_over_decides_alike(log: list[tuple[int, int]], data: st.DataObject) -> None:
    span = data.draw(st.sampled_from([3, SPAN, 10**6]))
    position = data.draw(st.integers(0, len(log)))
    straight = IdentityMemory(span)
    decided = decisions(straight, log)

    resume_at = log[position][1] if position < len(log) else 0
    taken_over = IdentityMemory(span)
    first_copies = [
        pair for pair, is_duplicate in zip(log[:position], decided, strict=False) if not is_duplicate
    ]
    taken_over.load((who, offset) for who, offset in first_copies if offset >= resume_at - span)

    assert decisions(taken_over, log[position:]) == decided[position:]


@given(st.integers(1, 2 * SPAN), st.integers(0, 2 * SPAN))
def test_a_log_that_follows_another_is_as_one_with_it(before_its_end: int, offset: int) -> None:
    memory = IdentityMemory(SPAN)
    for number in range(1, 2 * SPAN + 1):  # the latest first
        memory.load_earlier(number)
    assert memory.is_duplicate(before_its_end, offset) == (before_its_end + offset <= SPAN)
    assert not memory.is_duplicate(0, offset)


@given(logs)
def test_what_lies_further_back_than_the_span_is_forgotten(log: list[tuple[int, int]]) -> None:
    memory = IdentityMemory(SPAN)
    for who, offset in log:
        memory.is_duplicate(who, offset)
        assert len(memory) <= 2 * SPAN

    last = log[-1][1] if log else 0
    assert not memory.is_duplicate(log[0][0] if log else 0, last + SPAN + 1)


def test_forgetting_costs_the_same_however_long_it_has_gone_on() -> None:
    memory = IdentityMemory(20_000)
    decisions(memory, [(number, number) for number in range(20_000)])
    began = time.process_time()
    decisions(memory, [(number, number) for number in range(20_000, 60_000)])
    assert time.process_time() - began < 0.4  # 40,000 events; scanning for the oldest takes 10 µs for each


def test_bot_event_and_time_make_an_identity() -> None:
    assert identity("bot", "e", 1) == identity("bot", "e", 1)
    assert (
        len(
            {identity("bot", "e", 1), identity("b", "e", 1), identity("bot", "f", 1), identity("bot", "e", 2)}
        )
        == 4
    )
