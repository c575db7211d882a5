"""Folders of this user: where our files lie, and whether a folder is private."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from pathlib import Path


def default_run_folder() -> Path:
    """Where this user's segments live: memory-backed on Linux, the local data folder elsewhere."""
    if sys.platform != "win32" and os.path.isdir("/dev/shm"):
        return Path("/dev/shm") / f"nexus-gateway-{os.getuid()}"
    return local_data_folder() / "run"


def local_data_folder() -> Path:
    """Where this user's caches, logs and recordings live when the configuration names no folder."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "nexus-gateway"
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "nexus-gateway"


def make_private_folder(path: Path) -> None:
    """Create `path` with mode 0700 or check that an existing one is ours alone.

    Raises:
        PermissionError: it belongs to another user, is a link, or others may enter it. A shared folder would let
            another user of the machine feed prices to NEXUS.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if fault := find_folder_fault(path):
        raise PermissionError(fault)


def find_folder_fault(path: Path) -> str:
    """Name what lets other users at the files in a folder, and the command that cures it; empty = it is ours alone.

    The one rule for all our folders: a run folder is refused by it (`make_private_folder`), one that the configuration
    names for the journal, logs or recordings is used with a warning. Always empty on Windows, where the user's folders
    carry the user's own ACL.

    Raises:
        OSError: it cannot be looked at.
    """
    if sys.platform == "win32":
        return ""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"folder {path} is a link; name the folder that it leads to"
    if status.st_uid != os.getuid():
        return f"folder {path} is not owned by this user; name another folder"
    if status.st_mode & 0o077:
        mode = oct(stat.S_IMODE(status.st_mode))
        return f"folder {path} has mode {mode}, allowed is 0o700; run: chmod 700 {shlex.quote(str(path))}"
    return ""
