"""Data directories, each held by one process at a time."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

from pipeline.errors import Misconfigured

MARKS: Final = ("up.lock", "store.lock")
"""Files that stay in every directory that was ours once."""
_OF_THE_FILE_SYSTEM: Final = frozenset({"lost+found"})
"""What is in a volume that nobody has used yet."""


def lock(data_dir: Path, name: str, *, seconds: float = 0.0) -> int:
    """Lock a file of the data directory until the returned descriptor is closed; wait for it so long.

    Raises Misconfigured when another process has it, which it names, when the directory cannot be used, or when it
    holds what is not ours.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in data_dir.iterdir()} - _OF_THE_FILE_SYSTEM
        if found and found.isdisjoint(MARKS):
            raise Misconfigured(
                f"the data directory {data_dir} holds what is not Footfall's ({min(found)}): "
                "give one that is empty, or not there yet, with --data-dir"
            )
        descriptor = os.open(data_dir / name, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Misconfigured(
            f"{data_dir} cannot be used: {error.strerror}. Choose another place with --data-dir"
        ) from error
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                os.close(descriptor)
                raise Misconfigured(
                    f"the data directory {data_dir} is in use by another Footfall (process {owner}): "
                    "stop that one, or give this one its own with --data-dir"
                ) from None
            time.sleep(0.05)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
