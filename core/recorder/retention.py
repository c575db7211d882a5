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
        """`page`: with the counters `files_removed`, `bytes_removed`, `files_kept_open` and `removal_errors`.
        None = no limit.
        """
        self._folder = folder
        self._keep_days = keep_days
        self._keep_bytes = keep_bytes
        self._log = log
        self._removed = page.counter("files_removed")
        self._bytes_removed = page.counter("bytes_removed")
        self._kept_open = page.counter("files_kept_open")
        self._errors = page.counter("removal_errors")
        self._reported: list[str] = []
        self._next_s = 0.0

    def step(self, now_s: float) -> None:
        """Remove what has expired, a few files at a time. `now_s`: `time.monotonic()`. A file or folder that refuses is
        counted, logged once and tried again in the next turn; the other files go, and the recording goes on.
        """
        if now_s < self._next_s or (self._keep_days is None and self._keep_bytes is None):
            return
        self._next_s = now_s + _CHECK_S
        before_ns = None if self._keep_days is None else time.time_ns() - self._keep_days * NS_PER_DAY
        try:
            for ring in self._folder.glob("*/"):
                remove_companions(ring)
            expired = choose_expired(self._folder, before_ns, self._keep_bytes)
        except OSError as error:
            self._count_errors([str(error)])
            return
        files = freed = kept_open = 0
        errors = []
        newest = ""
        for path in expired:
            if files == _FILES_A_STEP:
                self._next_s = now_s  # more of them in the next turn
                break
            try:
                freed += remove_recording(path)
            except PermissionError:
                kept_open += 1  # Windows: a reader has it open; it goes when that one has closed it
            except OSError as error:
                errors.append(str(error))
            else:
                files += 1
                newest = path.name
        if files:
            self._removed.add(files)
            self._bytes_removed.add(freed)
            self._log.info("old recordings removed", files=files, bytes=freed, newest=newest)
        self._kept_open.set(kept_open)
        self._count_errors(errors)

    def _count_errors(self, errors: list[str]) -> None:
        self._errors.add(len(errors))
        if errors and errors != self._reported:
            self._log.error("old recordings cannot be removed, trying again", files=len(errors), reason=errors[0])
        self._reported = errors
