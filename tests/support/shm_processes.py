"""Other processes for the shared-memory tests: cheap to start, and killed when the test ends, however it ends.

On Linux they are forked from a server that has imported the kernels already, so that one costs a few milliseconds
and hundreds of kills fit into seconds; elsewhere they are spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .patience import patient

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="uses kill -9 or POSIX modes")
two_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores that run at the same time")

_CONTEXT: Any
if sys.platform == "linux":
    _CONTEXT = multiprocessing.get_context("forkserver")
    _CONTEXT.set_forkserver_preload(["tests.support.shm_children"])
else:
    _CONTEXT = multiprocessing.get_context("spawn")


def start(target: Callable[..., None], *args: object) -> Any:
    """Start `target(*args)`, a function of `tests.support.shm_children`, in another process."""
    process = _CONTEXT.Process(target=target, args=args, daemon=True)
    process.start()
    return process


@contextmanager
def running(target: Callable[..., None], *args: object) -> Iterator[Any]:
    """`start`, and kill -9 at the end unless it has ended by itself."""
    process = start(target, *args)
    try:
        yield process
    finally:
        kill(process)


def kill(process: Any) -> None:
    """kill -9 and wait for the end; nothing when it has ended already."""
    process.kill()
    process.join()


def finish(process: Any, timeout_s: float = 120) -> None:
    """Wait for the process's own good end."""
    process.join(patient(timeout_s))
    if process.exitcode != 0:
        kill(process)
        raise RuntimeError(f"child ended with {process.exitcode}")


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Poll until `condition` holds; a test that would hang fails with the reason instead."""
    deadline = time.monotonic() + patient(timeout_s)
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patient(timeout_s):g} s for: {what}")
        time.sleep(0.0005)


def wait_for_file(path: Path) -> None:
    wait_for(path.exists, f"{path.name} to appear")


SIGKILL_EXIT = -getattr(signal, "SIGKILL", 9)
