"""Processes: whether one lives, how one is started, stopped and pinned; and the clock and timers of this one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil


def started_ms(pid: int) -> int | None:
    """Start time of process `pid`; None when there is no such process, 0 when the system does not give it, such as for
    want of descriptors.

    Milliseconds, only to be compared with another result: since the boot on Linux, UTC elsewhere. On Linux the UTC time
    of a start moves with each step of the system clock, and a live writer would look dead after one.
    """
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return int(process.create_time() * 1000)
        except psutil.NoSuchProcess:
            return None
        except psutil.AccessDenied:
            return 0
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return 0
    fields = status[status.rindex(b")") + 2 :].split()  # a name stands before it, perhaps with parentheses in it
    state, start = fields[0], int(fields[19])
    return None if state in (b"Z", b"X") else start * 1000 // os.sysconf("SC_CLK_TCK")


def is_alive(pid: int, process_started_ms: int) -> bool:
    """Whether the process with this pid and start time still runs; False for another process with a reused pid. True
    while it is not known: what ends for a process that has died must not end for want of a descriptor.
    """
    found = started_ms(pid)
    return found is not None and (0 in (found, process_started_ms) or found == process_started_ms)


def available_cores() -> tuple[int, ...]:
    """The cores this process may run on, sorted; a container or service manager can leave it fewer than there are."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        return tuple(sorted(process.cpu_affinity()))
    return tuple(range(psutil.cpu_count() or 1))


def pin_process(cores: Sequence[int]) -> bool:
    """Pin this process, and the threads it starts from now on, to these cores; False where the system cannot.

    Raises:
        ValueError, OSError: there is no such core, or this process may not use it.
    """
    if not hasattr(process := psutil.Process(), "cpu_affinity"):
        return False
    process.cpu_affinity(list(cores))
    return True


def own_interpreter() -> tuple[str, dict[str, str]]:
    """The program that runs this Python, for starting another one, and what that one's environment needs beside ours.

    In a virtual environment on Windows `sys.executable` is a small program that starts the real interpreter and waits
    for it. Its pid never writes a counters page, so the launcher would take a healthy child for an unresponsive one.
    """
    real = getattr(sys, "_base_executable", sys.executable)
    if sys.platform == "win32" and os.path.normcase(real) != os.path.normcase(sys.executable):
        return real, {"__PYVENV_LAUNCHER__": sys.executable}  # from which it learns whose packages it is to use
    return sys.executable, {}


def child_options() -> dict[str, Any]:
    """Arguments for `subprocess.Popen` that keep the terminal's Ctrl-C from a child.

    The launcher alone gets it and stops the children in order; without this all would stop at once.
    """
    if sys.platform == "win32":
        import subprocess

        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def on_stop_request(handler: Callable[[], None]) -> Callable[[], None]:
    """Call `handler` at each request to stop this process; main thread only.

    That is SIGTERM, Ctrl-C and, by system, a closed terminal (SIGHUP) or Ctrl-Break.

    Returns:
        A function that restores the handlers in force before.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)
    else:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: handler()) for number in numbers}

    def restore() -> None:
        for number, previous in before.items():
            signal.signal(number, previous)

    return restore


def ask_to_stop(pid: int) -> None:
    """Ask a child that was started with `child_options` to stop. Nothing happens when it has ended.

    Windows delivers Ctrl-Break only within one console; without one the child is killed when its grace is over.
    """
    if sys.platform == "win32":
        request = signal.CTRL_BREAK_EVENT
    else:
        request = signal.SIGTERM
    try:
        os.kill(pid, request)
    except OSError:
        pass  # it has ended; the caller waits for the end and kills it otherwise


def kill_tree(pid: int) -> None:
    """Kill a process and all processes that it started, without a chance to clean up; for want of descriptors, without
    which the others are not found, the process alone.
    """
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]  # the parent first: alive, it could start more children
    except psutil.NoSuchProcess:
        return
    except OSError:
        if sys.platform == "win32":
            number = signal.SIGTERM
        else:
            number = signal.SIGKILL
        with contextlib.suppress(OSError):
            os.kill(pid, number)
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            pass  # ended in the meantime


def release_code_pages(library: str) -> None:
    """Release the mapped code of a large library that is no longer needed; Linux only, elsewhere it does nothing.

    The pages stay in the system's cache and come back by themselves when the library is called again. LLVM's are some
    60 MB in every process that has loaded a kernel, and none of them is needed to run one.

    Args:
        library: part of the file's name, such as "libllvmlite".
    """
    if sys.platform != "linux":
        return
    import ctypes

    dont_need = 4
    system = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access, *rest = line.split(maxsplit=5)
        # Code pages only: they are unchanged from the file. Other pages hold data written when the library was loaded.
        if access == "r-xp" and library in rest[-1]:
            start, end = (int(address, 16) for address in span.split("-"))
            system.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), dont_need)


def steady_ns() -> int:
    """Return ns of a clock that is never set and goes on while the computer sleeps, as `monotonic` does not."""
    if sys.platform == "linux":
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()


def sharpen_timers() -> None:
    """Make short sleeps accurate: by default Linux adds up to 50 us to each, Windows up to 15.6 ms.

    Any process may call it once at its start; it lasts until the process ends.
    """
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.winmm.timeBeginPeriod(1)
    elif sys.platform == "linux":
        import ctypes

        set_timer_slack = 29
        ctypes.CDLL(None).prctl(set_timer_slack, 1, 0, 0, 0)
