"""The kill file as an adapter watches it: it holds also when the gateway hangs or is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from ...core.kill_file import KillFileError, kill_file_path, kill_level_of, read_kill_file
from ...core.logs import Log
from ...core.messages import KillLevel

_CHECK_S: Final = 0.25


class KillWatch:
    """The kill level of one platform, read from the run folder's kill file. Used by the adapter's thread."""

    def __init__(self, run_folder: Path, platform: str, log: Log, monotonic_s: Callable[[], float]) -> None:
        self._path = kill_file_path(run_folder)
        self._platform = platform
        self._log = log
        self._monotonic_s = monotonic_s
        self._next_check_s = 0.0
        self._level = KillLevel.NORMAL
        self._trouble = ""

    def level(self) -> tuple[KillLevel, str]:
        """Return the level that is in the file now, and the text of a refusal at that level.

        While it cannot be opened for want of descriptors the last level that was read holds, and at least `no_new`:
        nothing adds risk while a kill may be in force.
        """
        try:
            self._level = kill_level_of(read_kill_file(self._path), self._platform)
        except KillFileError as error:
            self._note(f"the kill file {error.strerror}")
            return max(self._level, KillLevel.NO_NEW), f"{self._trouble}; entries go on as soon as it can be"
        self._note("")
        return self._level, f"the kill file says {self._level.name.lower()}; `resume` removes it"

    def is_severed_now(self) -> bool:
        """Return whether the file says sever; it is read four times a second, and False between."""
        now_s = self._monotonic_s()
        if now_s < self._next_check_s:
            return False
        self._next_check_s = now_s + _CHECK_S
        return self.level()[0] is KillLevel.SEVER

    def _note(self, trouble: str) -> None:
        if trouble and not self._trouble:
            self._log.error("entries are refused while the kill file cannot be opened", reason=trouble)
        elif self._trouble and not trouble:
            self._log.warning("the kill file can be opened again")
        self._trouble = trouble
