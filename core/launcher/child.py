"""One child process of the launcher: start, heartbeat, stop, kill. The policy is in `supervision`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Final

from ...shm import host
from ...shm.counters import Counter, CountersPage
from ...shm.segment import SegmentError
from ..process import RECOVERING, ProcessId, ProcessSpec, describe_recovery

PROCESS_MODULE: Final = "nexus_gateway.core.process"
_CONSOLE_KEEP_BYTES: Final = 1 << 20
_STDERR: Final = 2


class Child:
    """The process of one spec; after a restart the new one. Used by the launcher's thread.

    Attributes:
        identity: None = no process.
        is_unseen: whether its page could not be opened for want of descriptors: its silence means nothing then.
    """

    def __init__(
        self, spec: ProcessSpec, run_folder: Path, console_file: Path | None, passed: Collection[str] = ()
    ) -> None:
        """`console_file`: receives what the process prints; None = this process's stderr. `passed`: environment
        variables that it gets beside those that every child gets.
        """
        self.spec = spec
        self._run_folder = run_folder
        self._console_file = console_file
        self._passed = passed
        self._popen: subprocess.Popen[bytes] | None = None
        self._page: CountersPage | None = None
        self._recovering: Counter | None = None
        self._spawned_ns = 0
        self.identity: ProcessId | None = None
        self.is_unseen = False

    def spawn(self) -> None:
        """Start the process. Raises OSError when the system cannot."""
        interpreter, environment = host.own_interpreter()
        command = [
            *(interpreter, "-P"),  # else files in the current folder shadow modules of ours and of libraries
            *("-m", PROCESS_MODULE, self.spec.name, "--run-folder", str(self._run_folder)),
            *("--launcher", ProcessId.own().text),
        ]
        self._spawned_ns = time.monotonic_ns()
        with self._open_console() as console:
            self._popen = subprocess.Popen(
                command,
                env=host.child_environment(self._passed, environment),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                **host.child_options(),
            )
        self.identity = ProcessId(self._popen.pid, host.started_ms(self._popen.pid) or 0)

    def poll(self) -> int | None:
        """The exit code if the process has ended since `spawn`; negative = ended by that signal. Returned once.

        None = it still runs, or there is none.
        """
        if self._popen is None:
            return None
        code = self._popen.poll()
        if code is not None:
            self._popen = self._page = self._recovering = self.identity = None
        return code

    def wait(self, timeout_s: float) -> int | None:
        """As `poll`, but wait up to `timeout_s` for the end."""
        if self._popen is not None:
            try:
                self._popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return None
        return self.poll()

    def last_beat_ns(self) -> int | None:
        """System-wide monotonic time of the last heartbeat; None = none since the process was started."""
        page = self._own_page()
        beat_ns = None if page is None else page.last_beat_ns()
        # A page that a predecessor left is taken over: its last heartbeat may still be seen for a moment.
        return None if beat_ns is None or beat_ns < self._spawned_ns else beat_ns

    @property
    def is_recovering(self) -> bool:
        """Whether the process reads its journal, by its own gauge."""
        return self._own_page() is not None and self._recovering is not None and bool(self._recovering.value)

    def describe_recovery(self) -> str:
        """How far it has read its journal, such as "recovering, 41 %"; empty when it does not."""
        page = self._own_page()
        return "" if page is None else describe_recovery(page.values())

    def ask_to_stop(self) -> None:
        """Request a clean end; does not wait."""
        if self._popen is not None and self._popen.poll() is None:
            host.ask_to_stop(self._popen.pid)

    def kill(self) -> None:
        """Kill the process and all that it started. `poll` then returns the exit code."""
        if self._popen is not None and self._popen.poll() is None:
            host.kill_tree(self._popen.pid)

    def _own_page(self) -> CountersPage | None:
        """The page of this very process; None before it has opened one."""
        if self._page is None or self._page.segment.is_replaced():
            self._page = self._recovering = None
            self.is_unseen = False
            try:
                self._page = CountersPage.attach(self._run_folder, self.spec.name)
            except SegmentError as error:
                self.is_unseen = host.is_want_of_resources(error)
            if self._page is not None and RECOVERING in self._page.counter_names():
                self._recovering = self._page.counter(RECOVERING)
        if self._page is None or self.identity is None or self._page.segment.field("writer_pid") != self.identity.pid:
            return None
        return self._page

    def bound_console(self) -> None:
        """Move what the process has printed to `<name>.console.1` when it is longer than 1 MiB; what was there is
        dropped. Call it some times a minute: a process that prints without end must not fill the disk.

        Nothing on Windows, where the process would go on behind a hole: there it is bounded at each start.
        """
        path = self._console_file
        if path is None or host.IS_WINDOWS:
            return
        with contextlib.suppress(OSError):  # gone, or the disk is full: it is tried again
            if path.stat().st_size > _CONSOLE_KEEP_BYTES:
                host.copy_private(path, path.with_name(f"{path.name}.1"))
                os.truncate(path, 0)  # the process appends: it goes on at the begin

    @contextlib.contextmanager
    def _open_console(self) -> Iterator[IO[bytes] | int]:
        if self._console_file is None:
            # Never stdout: with --json that carries one object only. A service may have no stderr either.
            yield _STDERR if _is_open(_STDERR) else subprocess.DEVNULL
            return
        # Removed since the start, it must not cost the process its restarts.
        self._console_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        too_long = self._console_file.exists() and self._console_file.stat().st_size > _CONSOLE_KEEP_BYTES
        with os.fdopen(host.open_appending(self._console_file, empty=too_long), "ab") as file:
            yield file


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
