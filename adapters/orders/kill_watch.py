"""The kill file as an adapter watches it: it holds also when the gateway hangs or is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...core.kill_file import kill_file_path, kill_level_of, read_kill_file
from ...core.messages import KillLevel

_CHECK_S: Final = 0.25


class KillWatch:
    """The kill level of one platform, read from the run folder's kill file. Used by the adapter's thread."""

    def __init__(self, run_folder: Path, platform: str, monotonic_s: Callable[[], float]) -> None:
        self._path = kill_file_path(run_folder)
        self._platform = platform
        self._monotonic_s = monotonic_s
        self._next_check_s = 0.0

    def level(self) -> KillLevel:
        """Return the level that is in the file now."""
        return kill_level_of(read_kill_file(self._path), self._platform)

    def is_severed_now(self) -> bool:
        """Return whether the file says sever; it is read four times a second, and False between."""
        now_s = self._monotonic_s()
        if now_s < self._next_check_s:
            return False
        self._next_check_s = now_s + _CHECK_S
        return self.level() is KillLevel.SEVER
