"""The recording of one ring: drain it into a buffer, write rotated files, count what was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ...shm.counters import Counter, CountersPage
from ...shm.layout import TICK_BYTES
from ...shm.reader import TickReader
from ...shm.recording.file import HEADER_BYTES, Follows, RecordingHeader
from ...shm.recording.symbols import SymbolWatch
from ...shm.recording.writer import LastFile, RecordingFileWriter, next_file_number
from ...shm.segment import SegmentError, SegmentState
from ...shm.tick import TICK_DTYPE

CURSOR: Final = "recorder"
BUFFER_TICKS: Final = 1 << 14


@dataclass(frozen=True)
class Rotation:
    """When a file ends: at `rotate_bytes` or `rotate_s`, whichever comes first. `flush_ms`: how long ticks may stay in
    the buffer before they are written.
    """

    rotate_bytes: int
    rotate_s: float
    flush_ms: int

    @property
    def ticks_per_file(self) -> int:
        return max((self.rotate_bytes - HEADER_BYTES) // TICK_BYTES, 1)


class StreamCounters:
    """Counters shared by all streams of a recorder."""

    def __init__(self, page: CountersPage) -> None:
        self.recorded: Counter = page.counter("ticks_recorded")
        self.lost: Counter = page.counter("ticks_lost")
        self.bytes_written: Counter = page.counter("bytes_written")
        self.files_opened: Counter = page.counter("files_opened")


class RingStream:
    """The files of one ring. Used by the recorder's thread."""

    def __init__(
        self,
        run_folder: Path,
        ring: str,
        ring_folder: Path,
        last: LastFile | None,
        symbols: SymbolWatch,
        rotation: Rotation,
        counters: StreamCounters,
        sync: Callable[[list[int]], None],
    ) -> None:
        """
        Args:
            last: end of the earlier recording of this ring; None = there is none.
            sync: called with duplicated file descriptors; makes their files durable and closes the descriptors.

        Raises:
            SegmentError, ValueError: the ring cannot be read, or not yet.
        """
        self.ring = ring
        self._run_folder = run_folder
        self._folder = ring_folder
        self._symbols = symbols
        self._rotation = rotation
        self._counters = counters
        self._sync = sync
        self._buffer = np.zeros(BUFFER_TICKS, TICK_DTYPE)
        self._begin = self._end = 0  # part of the buffer that is drained and not yet written
        self._oldest_s = 0.0  # when the oldest tick of it was drained
        self._writer: RecordingFileWriter | None = None
        self._writer_since_s = 0.0
        self._directory_number = self._symbols_revision = 0

        self._ring_created_ns = TickReader(run_folder, ring).created_ns
        same_ring = last is not None and last.header.ring_created_ns == self._ring_created_ns
        self._last_seq = last.last_seq if last is not None and same_ring else 0
        self._reader = self._open_reader(self._last_seq + 1)
        if last is None:
            self._follows = Follows.NOTHING
        elif same_ring:
            self._follows = Follows.SAME_RING
            # Restored from disk, so that recorded + lost equals published across a restart of the recorder too.
            counters.recorded.add(last.records_of_ring)
            counters.lost.add(last.last_seq - last.records_of_ring)
        else:
            self._follows = Follows.NEW_RING_END_UNSEEN

    @property
    def follows(self) -> Follows:
        """How the next record relates to the last one on disk."""
        return self._follows

    @property
    def last_seq(self) -> int:
        """Sequence number of the last record on disk; 0 = none of this ring."""
        return self._last_seq

    @property
    def many_ticks(self) -> int:
        """After a `drain` of this many ticks, drain again without sleeping: the ring could be lapped meanwhile."""
        return min(self._reader.capacity // 16, BUFFER_TICKS // 2)

    def drain(self, now_s: float) -> int:
        """Copy waiting records into the buffer; never waits. `now_s`: `time.monotonic()`. Returns how many."""
        if self._end == BUFFER_TICKS or self._reader.ready() == 0:
            return 0
        if self._begin == self._end:
            self._begin = self._end = 0
            self._oldest_s = now_s
        drained = self._reader.drain(self._buffer[self._end :])
        self._end += drained
        return drained

    def is_due(self, now_s: float) -> bool:
        """Whether the buffer is full, or its oldest tick has waited for `flush_ms`."""
        waiting = self._end - self._begin
        return self._end == BUFFER_TICKS or (waiting > 0 and now_s - self._oldest_s >= self._rotation.flush_ms / 1000)

    def write(self) -> None:
        """Write the whole buffer to files.

        Raises:
            OSError: the disk is full or failed. What was not written stays in the buffer.
        """
        while self._begin < self._end:
            writer = self._writer_with_room()
            room = self._rotation.ticks_per_file - writer.records
            before = writer.records
            try:
                writer.append(self._buffer[self._begin : min(self._end, self._begin + room)])
            finally:
                # Also after an error in the middle: what is on disk must not be written a second time.
                self._count_written(writer.records - before)
        self._begin = self._end = 0

    def end_aged_file(self, now_s: float) -> None:
        """End the file when it is older than `rotate_s`, also when no tick arrives."""
        if self._writer is not None and now_s - self._writer_since_s >= self._rotation.rotate_s:
            self.end_file()

    def follow_ring(self) -> bool:
        """If the writer has created a new segment, record the old one to its end, then switch to the new one.

        Returns:
            Whether it switched.

        Raises:
            SegmentError: the new segment is not ready yet.
            OSError: the disk is full or failed; call again later.
        """
        if not self._reader.is_replaced():
            return False
        # Opened first: when the new segment is not ready this raises, and nothing has changed.
        successor = TickReader(self._run_folder, self.ring, start="first", after_lap="oldest", cursor=CURSOR)
        try:
            # A new segment is created only when the old one has no writer any more, so nothing is added to the old one.
            while self.drain(time.monotonic()) or self._end > self._begin:
                self.write()
        except OSError:
            successor.close()
            raise
        self.end_file()
        self._reader.close()
        self._reader = successor
        self._ring_created_ns = successor.created_ns
        self._last_seq = 0
        self._follows = Follows.NEW_RING
        return True

    def pause(self) -> None:
        """Stop reading and remove the cursor: a replay at full speed would wait for it without end."""
        self.end_file()
        self._reader.close()

    def resume(self) -> None:
        """Continue after `pause`; what the ring has overwritten meanwhile counts as lost.

        Raises:
            OSError: the disk is full or failed.
        """
        try:
            self._reader = self._open_reader(self._reader.next_seq)
        except SegmentError:
            pass  # re-created meanwhile: `follow_ring` records the rest of the old one
        self.write()

    def end_file(self) -> None:
        """Close the current file, if any; another thread makes it durable."""
        if self._writer is not None:
            self._sync(self._writer.duplicate_descriptors())
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        """Record what is waiting and close. Raises OSError when the disk is full or failed, and is closed then too."""
        try:
            # At most one ring full: a writer that goes on publishing would keep it here without end.
            for _ in range(self._reader.capacity // BUFFER_TICKS + 1):
                self.drain(time.monotonic())
                self.write()
        finally:
            self.end_file()
            self._reader.close()

    def _writer_with_room(self) -> RecordingFileWriter:
        # Symbols are stored before the records that use them. Adapters add a symbol before they publish its first tick,
        # so the directory as it is now knows every id in the buffer.
        self._symbols.refresh()
        writer = self._writer
        if writer is not None and (
            writer.records >= self._rotation.ticks_per_file or self._directory_number != self._symbols.directory_number
        ):
            self.end_file()
            writer = None
        if writer is None:
            return self._begin_file()
        if self._symbols_revision != self._symbols.revision:
            writer.add_symbols(self._symbols.symbols)
            self._symbols_revision = self._symbols.revision
        return writer

    def _begin_file(self) -> RecordingFileWriter:
        first_seq = int(self._buffer["seq"][self._begin])
        header = RecordingHeader(
            file_number=next_file_number(self._folder),
            created_ns=time.time_ns(),
            ring=self.ring,
            platform=self._reader.platform,
            ring_created_ns=self._ring_created_ns,
            first_seq=first_seq,
            lost_before=first_seq - 1 - self._last_seq,
            follows=self._follows,
        )
        self._writer = RecordingFileWriter(self._folder, header, self._symbols.symbols)
        self._writer_since_s = time.monotonic()
        self._directory_number = self._symbols.directory_number
        self._symbols_revision = self._symbols.revision
        self._counters.files_opened.add()
        return self._writer

    def _count_written(self, written: int) -> None:
        if written == 0:
            return
        last_seq = int(self._buffer["seq"][self._begin + written - 1])
        self._counters.recorded.add(written)
        self._counters.bytes_written.add(written * TICK_BYTES)
        # Sequence numbers have no gaps in the ring, so those missing between two records on disk are lost ticks.
        self._counters.lost.add(last_seq - self._last_seq - written)
        self._last_seq = last_seq
        self._follows = Follows.SAME_RING
        self._begin += written

    def _open_reader(self, next_seq: int) -> TickReader:
        reader = TickReader(self._run_folder, self.ring, start=next_seq, after_lap="oldest", cursor=CURSOR)
        if reader.created_ns != self._ring_created_ns:
            reader.close()
            raise SegmentError(f"ring {self.ring!r} has just been re-created; try again", SegmentState.NOT_READY)
        return reader
