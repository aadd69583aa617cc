"""Child processes that never outlive the process that started them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Runs in the child, before it becomes the command. The kernel forgets the wish of a child whose parent died
# before it was made, hence the look at the parent's pid afterwards.
_LINUX = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG; it survives exec
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""

# Where the kernel takes no such wish, a second process looks five times a second whether both still live.
_ELSEWHERE = """
import os, signal, sys, time
parent, child = int(sys.argv[1]), os.getpid()
if os.fork() == 0:
    while os.getppid() == child:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.2)
    os._exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def dies_with_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` (its first word an absolute path) and ends it with this process.

    kill -9 of this process included. Start it from a thread that lives as long as the process (the main one):
    Linux ends the child with the *thread* that started it.

    A launcher that becomes the command, rather than a `preexec_fn`: that one runs Python between fork and
    exec, which is not safe beside other threads.
    """
    launcher = _LINUX if sys.platform == "linux" else _ELSEWHERE
    return [sys.executable, "-I", "-S", "-c", launcher, str(os.getpid()), *command]
