"""Ticks whose every field follows from their number, and processes that publish and record them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.recorder.recorder import COUNTERS, Recorder
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.recording.reader import Recording
from nexus_gateway.shm.tick import TICK_DTYPE, Platform
from nexus_gateway.shm.writer import TickWriter

from tests.support.patience import patient

ROOT = Path(__file__).resolve().parents[2]


def numbered_ticks(first_seq: int, count: int) -> np.ndarray:
    """Ticks of which every field follows from `seq`, so that a torn or repeated one shows."""
    seq = np.arange(first_seq, first_seq + count, dtype=np.uint64)
    ticks = np.zeros(count, TICK_DTYPE)
    ticks["seq"] = seq
    ticks["ts_event_ns"] = seq * 1_000_000 - 7
    ticks["ts_recv_ns"] = seq * 1_000_000
    ticks["bid"] = seq * 0.25
    ticks["ask"] = seq * 0.25 + 1
    ticks["last"] = np.where(seq % 3 == 0, np.nan, seq * 0.5)
    ticks["bid_size"] = seq % 1009
    ticks["ask_size"] = seq % 1013
    ticks["last_size"] = seq % 1019
    ticks["symbol"] = seq % 5 + 1
    ticks["source"] = Platform.SIM
    ticks["flags"] = seq % 256
    return ticks


def publish_numbered(writer: TickWriter, count: int) -> None:
    writer.publish(numbered_ticks(writer.tail + 1, count), stamp=False)


def assert_numbered(ticks: np.ndarray) -> None:
    """Each record is exactly the one that was published under its number; numbers grow."""
    seq = ticks["seq"].astype(np.int64)
    assert (np.diff(seq) > 0).all(), "a record is repeated or out of order"
    for start in range(0, len(ticks), 1 << 16):
        part = ticks[start : start + (1 << 16)]
        low, high = int(part["seq"][0]), int(part["seq"][-1])
        expected = numbered_ticks(low, high - low + 1)[part["seq"].astype(np.int64) - low]
        assert part.tobytes() == expected.tobytes(), "a record is torn"


def make_recorder(run_dir: Path, folder: Path, **options) -> tuple[Recorder, CountersPage]:
    page = CountersPage.create(run_dir, "recorder", COUNTERS)
    options = {"flush_ms": 0, "keep_free_bytes": 0} | options
    return Recorder(run_dir, folder, page, process_log("recorder"), **options), page


def poll_now(recorder: Recorder) -> None:
    """A step that looks for rings, without waiting for the second to pass."""
    recorder._next_poll_s = 0.0
    recorder.step()


def recorded(recording: Recording, ring: str) -> np.ndarray:
    return np.concatenate([ticks for _, ticks in recording.rings[ring].arrays()])


def spawn(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process with this code; `sys.argv[1:]` are the arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


PUBLISH = """
import sys, time
from pathlib import Path
from tests.support.recordings import publish_numbered
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter
folder, ring, capacity, batch, nap_s, total = sys.argv[1:]
writer = TickWriter(Path(folder), ring, Platform.SIM, capacity=int(capacity))
print("ready", flush=True)
while writer.tail < int(total):
    publish_numbered(writer, int(batch))
    time.sleep(float(nap_s))
writer.close()
"""

RECORD = """
import os, sys, time
from pathlib import Path
from tests.support.recordings import make_recorder
run_folder, folder, rotate_bytes = sys.argv[1:]

def record():
    recorder, page = make_recorder(Path(run_folder), Path(folder), rotate_bytes=int(rotate_bytes))
    while True:
        page.beat()
        if not recorder.step():
            time.sleep(0.001)

print("ready", flush=True)
# Forked from one that has imported everything: a new life takes milliseconds, so kills hit start-up and mending too.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            record()
        finally:
            os._exit(1)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def wait_until(condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + patient(timeout_s)
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
