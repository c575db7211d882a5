"""The machine a benchmark ran on, and how its two processes are placed."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

_CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def describe() -> str:
    """Processor, cores, system and the versions that matter, in one line."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    virtual = (
        " (virtual machine)" if sys.platform == "linux" and "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    )
    versions = ", ".join(f"{package} {version(package)}" for package in ("numba", "numpy"))
    return (
        f"{name}{virtual}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"
    )


def cores() -> tuple[int, int]:
    """The two cores in use: the last two this process may run on."""
    allowed = sorted(psutil.Process().cpu_affinity() or [0])
    return (allowed[-2], allowed[-1]) if len(allowed) > 1 else (allowed[0], allowed[0])


def pin(core: int) -> None:
    psutil.Process().cpu_affinity([core])


def _pinned(core: int, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    pin(core)
    target(*args)


@contextmanager
def partner(target: Callable[..., None], *args: Any) -> Iterator[Any]:
    """Run `target(*args)` in another process on the second core, while this one is on the first."""
    first, second = cores_at_start
    process = _CONTEXT.Process(target=_pinned, args=(second, target, args), daemon=True)
    process.start()
    pin(first)
    try:
        yield process
        process.join(60)
        if process.exitcode != 0:
            raise RuntimeError(f"the other process ended with {process.exitcode}")
    finally:
        process.kill()


def context() -> Any:
    """The multiprocessing context in use, for queues and pipes."""
    return _CONTEXT


def unpin() -> None:
    """Let this process, and those it starts from now on, run on all cores again."""
    psutil.Process().cpu_affinity(_allowed_at_start)


cores_at_start = cores()
_allowed_at_start = psutil.Process().cpu_affinity()
