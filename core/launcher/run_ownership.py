"""The ownership of a run folder: one launcher at a time, and no processes left over from a dead one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import psutil
from msgspec import Struct

from ...shm import host
from ..errors import RunFolderError
from ..logs import Log
from ..process import LAUNCH_FILE, ProcessId
from .child import PROCESS_MODULE

LOCK_FILE: Final = "launcher.lock"
STATE_FILE: Final = "launch-state.json"
_LOCK_PATIENCE_S: Final = 1.0  # the lock of a launcher that was just killed is released some milliseconds later


class LaunchState(Struct, frozen=True, kw_only=True):
    """The content of `launch-state.json`: the processes that the next launcher must end when this one dies."""

    launcher: ProcessId
    children: dict[str, ProcessId]


class RunOwnership:
    """The lock of a run folder, held by a launcher. The system releases it when the launcher ends, kill -9 included.

    Attributes:
        path: of the lock file.
        is_taken: whether another launcher has the folder since the lock file was removed.
    """

    def __init__(self, run_folder: Path) -> None:
        """Take the lock; the folder is created when missing.

        Raises:
            RunFolderError: another launcher holds it, or other users can read the folder.
        """
        self._folder = run_folder
        self.path = run_folder / LOCK_FILE
        self.is_taken = False
        self._descriptor = self._take()

    def take_again(self) -> bool:
        """Restore the lock file if it was removed or damaged; returns whether it was.

        Raises:
            RunFolderError: as at first. `is_taken`: another launcher was faster, and this one must end.
        """
        try:
            is_ours = os.path.samestat(os.stat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            former, self._descriptor = self._descriptor, self._take()
            os.close(former)
        elif _read_pid(self._descriptor) == b"%d\n" % os.getpid():
            return False
        else:
            _write_pid(self._descriptor)
        return True

    def _take(self) -> int:
        try:
            host.make_private_folder(self._folder)
            descriptor = host.open_private(self.path, create=True)
        except OSError as error:
            raise RunFolderError(
                f"run folder {self._folder} cannot be used: {error}; name another in run_folder"
            ) from error
        if not host.lock_within(descriptor, _LOCK_PATIENCE_S):
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            self.is_taken = True
            raise RunFolderError(
                f"run folder {self._folder} is in use by the launcher with pid {holder}, allowed is one; "
                "stop that one, or name another run_folder"
            )
        try:
            _write_pid(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise RunFolderError(f"run folder {self._folder} is full: {error.strerror}; free some space") from error
        return descriptor

    def save_children(self, children: Mapping[str, ProcessId]) -> os.stat_result:
        """Write the running children to `launch-state.json`, after every start and end of a child.

        Returns:
            The status of the file written.

        Raises:
            OSError: the disk refuses; the old content stays.
        """
        state = LaunchState(launcher=ProcessId.own(), children=dict(children))
        return host.replace_private(self._folder / STATE_FILE, msgspec.json.encode(state))

    def end_orphans(self, grace_s: float, log: Log) -> int:
        """End the processes that a dead launcher left running: request a stop, kill after `grace_s`.

        Returns:
            How many there were.
        """
        try:
            state = msgspec.json.decode(host.read_regular(self._folder / STATE_FILE), type=LaunchState)
        except FileNotFoundError:
            return 0
        except (OSError, msgspec.DecodeError) as error:
            log.warning("launch state of the last launcher cannot be read", reason=str(error))
            return 0
        orphans = [
            psutil.Process(child.pid) for child in state.children.values() if child.is_alive() and _is_child(child.pid)
        ]
        for orphan in orphans:
            log.warning("ending an orphan of a dead launcher", orphan_pid=orphan.pid, launcher_pid=state.launcher.pid)
            host.ask_to_stop(orphan.pid)
        _, running = psutil.wait_procs(orphans, timeout=grace_s)
        for orphan in running:
            host.kill_tree(orphan.pid)
        psutil.wait_procs(running, timeout=grace_s)
        return len(orphans)

    def release(self) -> None:
        """Release the folder after a clean stop. The lock file stays: removed, two launchers could hold the folder."""
        if not self.is_taken:
            for name in (STATE_FILE, LAUNCH_FILE):
                with contextlib.suppress(OSError):  # the folder may have gone
                    (self._folder / name).unlink()
        os.close(self._descriptor)


def _write_pid(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"%d\n" % os.getpid())


def _read_pid(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 100)


def _is_child(pid: int) -> bool:
    # A second check before anything is killed: start times have the resolution of the system's clock tick, so another
    # process could have the same pid and start time.
    try:
        return PROCESS_MODULE in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
