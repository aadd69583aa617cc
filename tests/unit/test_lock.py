"""Which data directories are taken, and which are left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.embedded.lock import lock
from pipeline.errors import Misconfigured


def test_a_directory_of_somebody_elses_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(Misconfigured, match=r"not Footfall's \(a.txt\): .* --data-dir"):
        lock(tmp_path, "up.lock")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("left", [[], ["lost+found"], ["up.lock", "a.txt"], ["store.lock", "a.txt"]])
def test_an_empty_directory_and_one_that_was_ours_are_taken(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).touch()
    os.close(lock(tmp_path, "up.lock"))


def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    os.close(lock(tmp_path / "new" / "data", "store.lock"))
    assert (tmp_path / "new" / "data" / "store.lock").exists()


def test_one_that_is_held_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    held = lock(tmp_path, "up.lock")
    with pytest.raises(Misconfigured, match=f"in use by another Footfall .process {os.getpid()}."):
        lock(tmp_path, "up.lock")
    os.close(held)
