"""A clock that is wrong: on PYTHONPATH of a worker it shifts `time.time` by the seconds in the file that is named."""

import mmap
import os
import struct
import time

_right, _right_ns = time.time, time.time_ns
with open(os.environ["TEST_CLOCK"], "rb") as _file:
    _shift = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)


def _time() -> float:
    return _right() + float(struct.unpack("d", _shift)[0])


def _time_ns() -> int:
    return _right_ns() + int(struct.unpack("d", _shift)[0] * 1e9)


time.time, time.time_ns = _time, _time_ns
