"""The recorder: writes every tick of every ring of a run folder to disk, unchanged.

It is one more reader, so it can neither slow nor damage a writer. When the disk is full it stops reading and writing,
raises an alarm, and tries again every few seconds; see `docs/recorder.md`.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from ...shm import host, run_folder
from ...shm.counters import CountersPage
from ...shm.recording.file import Follows, RecordingError
from ...shm.recording.symbols import SymbolWatch
from ...shm.recording.writer import LastFile, find_last, mend
from ...shm.segment import SegmentError, SegmentState
from ..errors import RunFolderError
from ..logs import Log
from ..process import ProcessContext
from .retention import RecordingRetention
from .stream import RingStream, Rotation, StreamCounters

COUNTERS: Final = (
    "ticks_recorded",
    "ticks_lost",
    "unknown_losses",
    "bytes_written",
    "files_opened",
    "torn_tails_cut",
    "rings",
    "disk_full_alarm",
    "disk_full_stops",
    "sync_errors",
    "files_removed",
    "bytes_removed",
    "files_kept_open",
    "removal_errors",
)
"""Counters page. `ticks_recorded + ticks_lost` = ticks published into the rings' current segments, as far as read.
`unknown_losses`: how often a ring was re-created while no recorder ran, so that the number of lost ticks is not known.
`disk_full_alarm`: 1 while recording is stopped. `files_kept_open`: files too old that a reader has open (Windows), or
that this user may not remove. `removal_errors`: how often another error has kept one from being removed."""

LOCK_FILE: Final = "recorder.lock"
_POLL_S: Final = 1.0
_RETRY_S: Final = 3.0
_NAP_S: Final = 0.03


class Recorder:
    """Records a run folder into a recording folder, which no other process may write. Used by one thread."""

    def __init__(
        self,
        run_folder_path: Path,
        folder: Path,
        page: CountersPage,
        log: Log,
        *,
        keep_free_bytes: int,
        rotate_bytes: int = 256 << 20,
        rotate_s: float = 3600.0,
        flush_ms: int = 200,
        keep_days: int | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        """
        Args:
            page: created with `COUNTERS`.
            keep_free_bytes: recording stops when the disk has less free space. The order journal usually shares the
                disk, and a gateway that cannot write its journal stops trading.
            keep_days, keep_bytes: older and more files are removed; None = none ever.

        Raises:
            RunFolderError: another recorder writes to `folder`, or it cannot be used.
        """
        self._run_folder = run_folder_path
        self._folder = folder
        self._log = log
        self._page = page
        self._keep_free_bytes = keep_free_bytes
        self._lock = _lock_folder(folder)
        for name in COUNTERS:
            page.counter(name).set(0)
        self._alarm = page.counter("disk_full_alarm")
        self._stream_counters = StreamCounters(page)
        self._retention = RecordingRetention(folder, keep_days, keep_bytes, page, log)
        self._rotation = Rotation(rotate_bytes, rotate_s, flush_ms)
        self._symbols = SymbolWatch(run_folder_path)
        self._streams: dict[str, RingStream] = {}
        self._refused: dict[str, str] = {}
        self._syncer = ThreadPoolExecutor(1, "recorder-sync")
        self._polled_ns = 0
        self._next_poll_s = 0.0
        self._retry_at_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stopped(self) -> bool:
        """Whether recording is stopped because the disk is full."""
        return self._alarm.value == 1

    def step(self) -> bool:
        """One turn: look for new rings, drain all rings, write what is due. Never waits for a ring.

        Returns:
            Whether to call it again at once; else sleep about 30 ms.
        """
        now_s = time.monotonic()
        if self.stopped:
            if now_s < self._retry_at_s:
                return False
            self._resume_recording()
            return False
        busy = False
        try:
            # A new ring changes the folder's modification time. Waiting for the next poll would lose ticks: at full
            # speed a ring is lapped within a second.
            changed_ns = os.stat(self._run_folder).st_mtime_ns
            if changed_ns != self._polled_ns or now_s >= self._next_poll_s:
                self._polled_ns = changed_ns
                self._next_poll_s = now_s + _POLL_S
                self._poll(now_s)
            for stream in self._streams.values():
                busy |= stream.drain(now_s) >= stream.many_ticks
                if stream.is_due(now_s):
                    stream.write()
        except OSError as error:
            self._stop_recording(error)
        return busy

    def close(self) -> None:
        """Record what is waiting, close all files, wait until they are durable, and release the folder."""
        for stream in self._streams.values():
            try:
                if self.stopped:
                    stream.pause()
                else:
                    stream.close()
            except OSError as error:
                self._stop_recording(error)
        self._streams.clear()
        self._syncer.shutdown(wait=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _poll(self, now_s: float) -> None:
        # Before the check of space, and also while recording is stopped: it makes room.
        self._retention.step(now_s)
        self._check_space()
        # Before the rings: a re-created ring may use ids of a re-created directory, and its ticks would be recorded
        # under the old names.
        self._symbols.look_for_directory()
        for ring in run_folder.ring_names(self._run_folder):
            if ring not in self._streams:
                self._attach(ring)
        for ring, stream in self._streams.items():
            stream.end_aged_file(now_s)
            try:
                if stream.follow_ring():
                    self._log.info("ring was re-created; the old one is recorded to its end", ring=ring)
            except SegmentError:
                pass  # its writer is still creating it
        self._page.counter("rings").set(len(self._streams))

    def _attach(self, ring: str) -> None:
        folder = self._folder / ring
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            last = self._repair(ring, folder)
            stream = RingStream(
                self._run_folder,
                ring,
                folder,
                last,
                self._symbols,
                self._rotation,
                self._stream_counters,
                self._sync,
            )
        except (SegmentError, RecordingError, ValueError) as error:
            if isinstance(error, SegmentError) and error.state is SegmentState.NOT_READY:
                self._polled_ns = 0  # its writer is creating it: try in the next turn, not in a second
            elif self._refused.get(ring) != str(error):
                self._refused[ring] = str(error)
                self._log.warning("ring cannot be recorded now", ring=ring, reason=str(error))
            return
        self._streams[ring] = stream
        self._log.info("recording", ring=ring, follows=stream.follows.name.lower(), last_seq=stream.last_seq)
        if stream.follows is Follows.NEW_RING_END_UNSEEN:
            self._page.counter("unknown_losses").add()

    def _repair(self, ring: str, folder: Path) -> LastFile | None:
        torn = mend(folder, trust_index_since_ns=int(psutil.boot_time() * 1e9))
        if torn:
            self._page.counter("torn_tails_cut").add(torn)
            self._log.warning("incomplete end of a recording was cut off", ring=ring, files=torn)
        return find_last(folder)

    def _check_space(self) -> None:
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < self._keep_free_bytes:
            raise OSError(f"{self._folder} has {free_bytes} bytes free, {self._keep_free_bytes} are reserved")

    def _stop_recording(self, error: OSError) -> None:
        if not self.stopped:
            self._alarm.set(1)
            self._page.counter("disk_full_stops").add()
            self._log.error("recording stopped, the disk is full or failed", reason=str(error), retry_s=_RETRY_S)
        self._retry_at_s = time.monotonic() + _RETRY_S
        for stream in self._streams.values():
            stream.pause()

    def _resume_recording(self) -> None:
        lost_before = self._stream_counters.lost.value
        try:
            self._retention.step(time.monotonic())
            self._check_space()
            for stream in self._streams.values():
                stream.resume()
        except OSError as error:
            self._stop_recording(error)
            return
        self._alarm.set(0)
        self._next_poll_s = 0.0
        self._log.info("recording resumed", ticks_lost_before=lost_before)

    def _sync(self, descriptors: list[int]) -> None:
        """Make files durable in another thread: on a slow disk it takes seconds, in which rings would be lapped."""
        self._syncer.submit(self._sync_now, descriptors)

    def _sync_now(self, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            try:
                os.fsync(descriptor)
            except OSError as error:
                self._page.counter("sync_errors").add()
                self._log.error("a recording may not be durable", reason=str(error))
            finally:
                os.close(descriptor)


def main(context: ProcessContext) -> int:
    """Entry of the recorder's process; returns its exit code."""
    settings = context.config.recorder
    with Recorder(
        context.run_folder,
        settings.path,
        context.open_counters(COUNTERS),
        context.log,
        rotate_bytes=settings.rotate_bytes,
        rotate_s=settings.rotate_s,
        flush_ms=settings.flush_ms,
        keep_free_bytes=context.config.disk.recorder_stops_bytes,
        keep_days=settings.keep_days,
        keep_bytes=settings.keep_bytes,
    ) as recorder:
        while not context.stopping:
            context.beat()
            if not recorder.step():
                time.sleep(_NAP_S)
    return 0


def _lock_folder(folder: Path) -> int | None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = host.open_private(folder / LOCK_FILE, create=True)
    except OSError as error:
        raise RunFolderError(f"recording folder {folder} cannot be used: {error}; name another one") from error
    if not host.try_lock(descriptor):
        os.close(descriptor)
        raise RunFolderError(f"recording folder {folder} is used by another recorder; stop it or name another folder")
    return descriptor
