"""Sets the wall clock of a process for tests: `time.time` and `time.time_ns` are shifted by what a file says.

On PYTHONPATH of the product's processes, by `ShiftedClock` of `tests/support/shifted_clock.py`. The clock that compiled
code reads stays as it is, so ticks keep their true times.
"""

import mmap
import os
import struct
import time

_path = os.environ.get("NEXUS_TEST_CLOCK")
if _path:
    with open(_path, "r+b") as _file:
        _offset = mmap.mmap(_file.fileno(), 8)
    _true_ns = time.time_ns

    def _shifted_ns() -> int:
        return int(_true_ns() + struct.unpack("<q", _offset[:8])[0])

    time.time_ns = _shifted_ns
    time.time = lambda: _shifted_ns() / 1e9
