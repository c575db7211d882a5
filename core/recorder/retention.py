"""Removes the oldest recordings, so that they do not fill the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from ...shm.counters import CountersPage
from ...shm.durations import NS_PER_DAY
from ...shm.recording.retention import choose_expired, remove_companions, remove_recording
from ..logs import Log

_CHECK_S: Final = 60.0
_FILES_A_STEP: Final = 8
"""Removing a large file takes some ms, in which no ring is drained."""


class RecordingRetention:
    """Keeps a recording folder within its limits. Used by the recorder's thread."""

    def __init__(
        self, folder: Path, keep_days: int | None, keep_bytes: int | None, page: CountersPage, log: Log
    ) -> None:
        """`page`: with the counters `files_removed`, `bytes_removed` and `files_kept_open`. None = no limit."""
        self._folder = folder
        self._keep_days = keep_days
        self._keep_bytes = keep_bytes
        self._log = log
        self._removed = page.counter("files_removed")
        self._bytes_removed = page.counter("bytes_removed")
        self._kept_open = page.counter("files_kept_open")
        self._next_s = 0.0

    def step(self, now_s: float) -> None:
        """Remove what has expired, a few files at a time. `now_s`: `time.monotonic()`.

        Raises:
            OSError: the folder cannot be read or written.
        """
        if now_s < self._next_s or (self._keep_days is None and self._keep_bytes is None):
            return
        self._next_s = now_s + _CHECK_S
        for ring in self._folder.glob("*/"):
            remove_companions(ring)
        before_ns = None if self._keep_days is None else time.time_ns() - self._keep_days * NS_PER_DAY
        expired = choose_expired(self._folder, before_ns, self._keep_bytes)
        if len(expired) > _FILES_A_STEP:
            self._next_s = now_s  # more of them in the next turn
        files = freed = kept_open = 0
        for path in expired[:_FILES_A_STEP]:
            try:
                freed += remove_recording(path)
                files += 1
            except PermissionError:
                kept_open += 1  # Windows: a reader has it open; it goes when that one has closed it
        if files:
            self._removed.add(files)
            self._bytes_removed.add(freed)
            self._log.info("old recordings removed", files=files, bytes=freed, newest=expired[files - 1].name)
        self._kept_open.set(kept_open)
