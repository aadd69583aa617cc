"""A child goes when its parent goes, however the parent goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pipeline.embedded.child import dies_with_parent

PARENT = """
import subprocess, sys, time
from pipeline.embedded.child import dies_with_parent
real, sys.platform = sys.platform, sys.argv[1]
command = dies_with_parent(["/bin/sh", "-c", "echo $$; exec sleep 60"])
sys.platform = real
subprocess.Popen(command)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet reaped does not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.parametrize(
    "platform",
    [
        pytest.param(
            "linux", marks=pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's kernel")
        ),
        "darwin",
    ],
)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killing_a_parent_leaves_no_child_behind(platform: str, how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, platform], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert is_alive(child)

        parent.send_signal(how)
        parent.wait()

        deadline = time.monotonic() + 5
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not is_alive(child)
    finally:
        parent.stdout.close()
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


def test_a_child_runs_the_command_and_returns_its_exit_code() -> None:
    command = dies_with_parent(["/bin/sh", "-c", 'echo "$1"; exit 3', "sh", "a word"])

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (3, "a word\n")
