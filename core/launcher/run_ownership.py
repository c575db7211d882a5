"""Owning a run folder: one launcher at a time, and no process left over from a dead one."""

from __future__ import annotations

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
_LOCK_PATIENCE_S: Final = 1.0  # a launcher that was just killed holds its lock for some more milliseconds


class LaunchState(Struct, frozen=True, kw_only=True):
    """What `launch-state.json` holds: who is to be cleaned up when this launcher dies."""

    launcher: ProcessId
    children: dict[str, ProcessId]


class RunOwnership:
    """The lock of a run folder, held by a launcher. The system drops it with its holder, kill -9 included."""

    def __init__(self, run_folder: Path) -> None:
        """Take it; the folder is created when missing.

        Raises:
            RunFolderError: another launcher holds it, or the folder is not this user's alone.
        """
        self._folder = run_folder
        try:
            host.make_private_folder(run_folder)
            descriptor = host.open_private(run_folder / LOCK_FILE, create=True)
        except OSError as error:
            raise RunFolderError(
                f"run folder {run_folder} cannot be used: {error}; name another in run_folder"
            ) from error
        if not host.lock_within(descriptor, _LOCK_PATIENCE_S):
            holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RunFolderError(
                f"run folder {run_folder} is in use by the launcher with pid {holder}, allowed is one; "
                "stop that one, or name another run_folder"
            )
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        except OSError as error:
            os.close(descriptor)
            raise RunFolderError(f"run folder {run_folder} takes no more: {error.strerror}; free some space") from error
        self._descriptor = descriptor

    def note_children(self, children: Mapping[str, ProcessId]) -> None:
        """Write down who runs, after every start and end of a child."""
        state = LaunchState(launcher=ProcessId.own(), children=dict(children))
        host.replace_private(self._folder / STATE_FILE, msgspec.json.encode(state))

    def end_orphans(self, grace_s: float, log: Log) -> int:
        """End what a dead launcher left running: asked first, killed after `grace_s`. Returns how many there were."""
        try:
            state = msgspec.json.decode((self._folder / STATE_FILE).read_bytes(), type=LaunchState)
        except FileNotFoundError:
            return 0
        except (OSError, msgspec.DecodeError) as error:
            log.warning("launch state of the last launcher is not readable", reason=str(error))
            return 0
        orphans = [
            psutil.Process(child.pid) for child in state.children.values() if child.is_alive() and _is_child(child.pid)
        ]
        for orphan in orphans:
            log.warning("ending an orphan of a dead launcher", orphan_pid=orphan.pid, launcher_pid=state.launcher.pid)
            host.ask_to_stop(orphan.pid)
        _, stubborn = psutil.wait_procs(orphans, timeout=grace_s)
        for orphan in stubborn:
            host.kill_tree(orphan.pid)
        psutil.wait_procs(stubborn, timeout=grace_s)
        return len(orphans)

    def release(self) -> None:
        """Give the folder back after a clean stop. The lock's file stays: removing it would let two hold it."""
        (self._folder / STATE_FILE).unlink(missing_ok=True)
        (self._folder / LAUNCH_FILE).unlink(missing_ok=True)
        os.close(self._descriptor)


def _is_child(pid: int) -> bool:
    # A second proof before anything is killed: start times are only as fine as the system's clock tick.
    try:
        return PROCESS_MODULE in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
