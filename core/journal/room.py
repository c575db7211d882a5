"""The room on the journal's disk: how much is free, and a reserve that is released when nothing is left.

The reserve is a file beside the journal that holds nothing. Released, it gives the journal its bytes: exits go on and
fills are still booked, while a person makes room.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from ...shm import host
from .files import real_journal_path
from .schema import JournalError

_ENOUGH: Final = 4
"""The reserve is taken only where so many times its size are free: it must not fill the disk itself."""


class JournalRoom:
    """The disk of one journal. Used by the journal's thread. `reserve_bytes`: size of the reserve; 0 = none."""

    def __init__(self, journal: Path, reserve_bytes: int = 0, checkpoints_stop_bytes: int = 0) -> None:
        """`reserve_bytes`: size of the reserve; 0 = none. `checkpoints_stop_bytes`: see `check_checkpoint`."""
        real = real_journal_path(journal)
        self._folder = real.parent
        self._path = real.with_name(real.name + ".reserve")
        self.reserve_bytes = reserve_bytes
        self._checkpoints_stop_bytes = checkpoints_stop_bytes

    @property
    def is_reserve_missing(self) -> bool:
        """Whether there should be a reserve and is none, or one that is too small: cut, or of a smaller setting."""
        if not self.reserve_bytes:
            return False
        try:
            return self._path.stat().st_size < self.reserve_bytes
        except OSError:
            return True

    def free_bytes(self) -> int | None:
        """Return the free bytes of the journal's disk; None = not measured."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return None

    def take_reserve(self) -> bool:
        """Make the reserve when it is missing and there is enough room for it. Returns whether it was made."""
        free = self.free_bytes()
        if not self.is_reserve_missing or free is None or free < _ENOUGH * self.reserve_bytes:
            return False
        self.release_reserve()  # one that is too small
        try:
            descriptor = host.open_private(self._path, create=True, exclusive=True)
            try:
                host.reserve(descriptor, self.reserve_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            self.release_reserve()
            return False
        return True

    def release_reserve(self) -> bool:
        """Give the reserve's bytes back to the disk. Returns whether there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def check_checkpoint(self) -> None:
        """Raises: JournalError when so little is free that a checkpoint would take it from the events."""
        free = self.free_bytes()
        if self._checkpoints_stop_bytes and free is not None and free < self._checkpoints_stop_bytes:
            raise JournalError(
                f"{self._folder} has {free:,} bytes free, checkpoints stop below {self._checkpoints_stop_bytes:,}; "
                "make room"
            )
