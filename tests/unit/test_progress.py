"""Progress: through when everything appended is durable."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pipeline.progress import MAX_OBSERVATIONS, PartitionProgress, Progress, Watchdog

# One turn each: some records are appended, some become durable, then the broker is asked (or not).
turns = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), max_size=60)


@given(turns)
def test_everything_appended_before_the_promised_moment_is_durable(
    turns: list[tuple[int, int, bool]],
) -> None:
    progress, appended_at, durable = PartitionProgress(), list[int](), 0
    for now_ms, (appended, flushed, is_asked) in enumerate(turns, 1):
        asked_ms, end = now_ms * 10, len(appended_at)
        appended_at += [now_ms * 10 + 5] * appended  # between the answer and the look at the position
        durable = min(durable + flushed, len(appended_at))
        if is_asked:
            progress.observe(asked_ms=asked_ms, end=end, position=durable)
            promised = progress.caught_up_through_ms
            assert all(offset < durable for offset, at in enumerate(appended_at) if at < promised), (
                f"promised {promised} with {durable} of {appended_at} durable"
            )
            assert progress.lag == max(end - durable, 0)


@given(turns)
def test_the_promise_never_moves_back(turns: list[tuple[int, int, bool]]) -> None:
    progress, end, durable, before = PartitionProgress(), 0, 0, 0
    for now_ms, (appended, flushed, _) in enumerate(turns, 1):
        end += appended
        durable = min(durable + flushed, end)
        progress.observe(asked_ms=now_ms, end=end, position=durable)
        assert progress.caught_up_through_ms >= before
        before = progress.caught_up_through_ms


def test_without_lag_it_is_the_moment_of_asking() -> None:
    progress = PartitionProgress()
    for asked_ms in (10, 20):
        progress.observe(asked_ms=asked_ms, end=5, position=5)
        assert (progress.caught_up_through_ms, progress.lag) == (asked_ms, 0)


def test_while_lagging_it_is_the_last_moment_whose_records_are_durable() -> None:
    progress = PartitionProgress()
    seen = []
    for asked_ms, end, position in [
        (10, 5, 0),
        (20, 9, 4),
        (30, 12, 5),
        (40, 12, 11),
        (50, 13, 12),
        (60, 14, 12),
    ]:
        progress.observe(asked_ms=asked_ms, end=end, position=position)
        seen.append((progress.caught_up_through_ms, progress.lag))
    assert seen == [(0, 5), (0, 5), (10, 7), (20, 1), (40, 1), (40, 2)]


def test_a_steady_lag_does_not_hold_the_promise_back_nor_fill_the_memory() -> None:
    progress = PartitionProgress()
    for now_ms in range(1, 10 * MAX_OBSERVATIONS):
        progress.observe(asked_ms=now_ms, end=now_ms * 7, position=(now_ms - 3) * 7)
    assert progress.caught_up_through_ms == 10 * MAX_OBSERVATIONS - 4


def test_after_a_long_standstill_the_promise_is_late_rather_than_wrong() -> None:
    progress = PartitionProgress()
    for now_ms in range(1, 3 * MAX_OBSERVATIONS):
        progress.observe(asked_ms=now_ms, end=now_ms, position=0)
    progress.observe(asked_ms=3 * MAX_OBSERVATIONS, end=3 * MAX_OBSERVATIONS, position=1)
    assert progress.caught_up_through_ms in (0, 1)


def test_nothing_written_yet_of_a_log_means_all_of_it_lags() -> None:
    progress = PartitionProgress()
    progress.observe(asked_ms=10, end=4, position=-1)
    assert (progress.caught_up_through_ms, progress.lag) == (0, 4)


A, B = ("t", 0), ("t", 1)


def test_partitions_that_are_not_held_any_more_are_forgotten() -> None:
    progress = Progress()
    progress.hold([A, B], {})
    progress.observe(asked_ms=10, ends={A: 1, B: 3}, positions={A: 1, B: 1})
    assert (progress.lag, progress.partitions[A].caught_up_through_ms) == (2, 10)
    progress.hold([B], {})
    progress.observe(asked_ms=20, ends={A: 9, B: 3}, positions={A: 1, B: 3})
    assert list(progress.partitions) == [B]
    assert (progress.lag, progress.partitions[B].caught_up_through_ms) == (0, 20)


def test_a_partition_taken_over_keeps_the_promise_of_whoever_held_it() -> None:
    progress = Progress()
    progress.hold([A], {A: 70})
    progress.observe(asked_ms=100, ends={A: 5}, positions={A: 3})
    assert progress.partitions[A].caught_up_through_ms == 70
    progress.hold([A, B], {A: 1})
    assert progress.partitions[A].caught_up_through_ms == 70, "what this worker knows is newer"
    assert progress.partitions[B].caught_up_through_ms == 0


def test_an_answer_about_some_partitions_says_nothing_of_the_others() -> None:
    progress = Progress()
    progress.hold([A, B], {})
    progress.observe(asked_ms=10, ends={A: 1}, positions={A: 1, B: 1})
    assert (progress.partitions[A].caught_up_through_ms, progress.partitions[B].caught_up_through_ms) == (
        10,
        0,
    )


def test_a_worker_far_behind_that_keeps_pace_keeps_promising() -> None:
    progress, behind = PartitionProgress(), 900
    promised = []
    for now_ms in range(1, 6_000):
        progress.observe(asked_ms=now_ms, end=now_ms * 7, position=max(now_ms - behind, 0) * 7)
        promised.append(progress.caught_up_through_ms)
    assert all(now - behind >= moment for now, moment in enumerate(promised[behind:], behind + 1))
    assert promised[-1] > 6_000 - 2 * behind


# --- the watchdog

MOVING, STILL = "nothing was written of a", "nothing was written of b"


def looks(*waiting: Mapping[str, float]) -> list[list[str]]:
    """What a watchdog of 60 s says when it looks every 10 s and this should move, with when it last did."""
    watchdog = Watchdog(patience_seconds=60)
    return [watchdog.hanging(1000 + 10 * number, now) for number, now in enumerate(waiting)]


def test_what_should_move_and_does_not_is_named_after_its_time_and_not_before() -> None:
    assert looks(*[{STILL: 990.0}] * 8) == [*[[]] * 7, [STILL]]


def test_of_two_the_one_that_moves_is_not_named() -> None:
    said = looks(*[{STILL: 0.0, MOVING: 1000.0 + 10 * number} for number in range(8)])
    assert said == [*[[]] * 7, [STILL]]


def test_what_had_nothing_to_do_for_long_has_not_stood_still() -> None:
    assert looks(*[{}] * 100, *[{STILL: 0.0}] * 7) == [[]] * 107


def test_after_store_or_broker_were_away_the_time_begins_again() -> None:
    assert looks(*[{STILL: 0.0}] * 7, {}, *[{STILL: 0.0}] * 7) == [[]] * 15


def test_whatever_moves_now_and_then_is_never_named() -> None:
    moved = [1000.0 + 50 * (number // 5) for number in range(100)]
    assert not any(looks(*[{MOVING: at} for at in moved]))
