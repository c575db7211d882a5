"""The recording of one ring: drain into own memory, write to rotated files, count what is missing."""

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
    """When a file ends, whichever comes first; and how long ticks may wait for company before they are written."""

    rotate_bytes: int
    rotate_s: float
    flush_ms: int

    @property
    def ticks_per_file(self) -> int:
        return max((self.rotate_bytes - HEADER_BYTES) // TICK_BYTES, 1)


class StreamCounters:
    """The counters that all streams of a recorder share."""

    def __init__(self, page: CountersPage) -> None:
        self.recorded: Counter = page.counter("ticks_recorded")
        self.lost: Counter = page.counter("ticks_lost")
        self.bytes_written: Counter = page.counter("bytes_written")
        self.files_opened: Counter = page.counter("files_opened")


class RingStream:
    """One ring's stream of files. Used by the recorder's one thread."""

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
            last: where the recording of this ring ended before; None = it has none.
            sync: takes over duplicated descriptors, makes their files durable and closes them.

        Raises:
            SegmentError, ValueError: the ring cannot be read (now).
        """
        self.ring = ring
        self._run_folder = run_folder
        self._folder = ring_folder
        self._symbols = symbols
        self._rotation = rotation
        self._counters = counters
        self._sync = sync
        self._buffer = np.zeros(BUFFER_TICKS, TICK_DTYPE)
        self._begin = self._end = 0  # what is drained and not yet written
        self._oldest_s = 0.0  # when the first of it was drained
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
            # With these, recorded + lost is what was published, also over a restart.
            counters.recorded.add(last.records_of_ring)
            counters.lost.add(last.last_seq - last.records_of_ring)
        else:
            self._follows = Follows.NEW_RING_END_UNSEEN

    @property
    def follows(self) -> Follows:
        """How the next record follows the last one on disk."""
        return self._follows

    @property
    def last_seq(self) -> int:
        """Number of the last record on disk, 0 = none of this ring's."""
        return self._last_seq

    @property
    def many_ticks(self) -> int:
        """A `drain` of this many or more should be followed by another one without a nap."""
        return min(self._reader.capacity // 16, BUFFER_TICKS // 2)

    def drain(self, now_s: float) -> int:
        """Copy waiting records into the own buffer; `now_s` is `time.monotonic`. Returns how many; never waits."""
        if self._end == BUFFER_TICKS or self._reader.ready() == 0:
            return 0
        if self._begin == self._end:
            self._begin = self._end = 0
            self._oldest_s = now_s
        drained = self._reader.drain(self._buffer[self._end :])
        self._end += drained
        return drained

    def is_due(self, now_s: float) -> bool:
        """Whether the buffer should be written now."""
        waiting = self._end - self._begin
        return self._end == BUFFER_TICKS or (waiting > 0 and now_s - self._oldest_s >= self._rotation.flush_ms / 1000)

    def write(self) -> None:
        """Write the whole buffer to files.

        Raises:
            OSError: the disk takes no more. What was not written stays in the buffer.
        """
        while self._begin < self._end:
            writer = self._writer_with_room()
            room = self._rotation.ticks_per_file - writer.records
            before = writer.records
            try:
                writer.append(self._buffer[self._begin : min(self._end, self._begin + room)])
            finally:
                self._account(writer.records - before)
        self._begin = self._end = 0

    def end_aged_file(self, now_s: float) -> None:
        """End the file when its time is over, also when no tick comes to do it."""
        if self._writer is not None and now_s - self._writer_since_s >= self._rotation.rotate_s:
            self.end_file()

    def follow_ring(self) -> bool:
        """When the ring's writer has made a new segment: read the old one to its end, go over to the new one.

        Returns:
            Whether it went over.

        Raises:
            SegmentError: the new one is not ready yet.
            OSError: the disk takes no more; call again later.
        """
        if not self._reader.is_replaced():
            return False
        successor = TickReader(self._run_folder, self.ring, start="first", after_lap="oldest", cursor=CURSOR)
        try:
            # A writer makes a new segment only when the old one has no writer any more: its end is final.
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
        """Stop consuming. The cursor is withdrawn: a replay at full speed would wait for it for ever."""
        self.end_file()
        self._reader.close()

    def resume(self) -> None:
        """Go on where `pause` left; what the ring has overwritten meanwhile will count as lost.

        Raises:
            OSError: the disk takes no more.
        """
        try:
            self._reader = self._open_reader(self._reader.next_seq)
        except SegmentError:
            pass  # made anew: `follow_ring` reads what the old one still has
        self.write()

    def end_file(self) -> None:
        """Close the current file, if any; it becomes durable in the background."""
        if self._writer is not None:
            self._sync(self._writer.duplicate_descriptors())
            self._writer.close()
            self._writer = None

    def close(self) -> None:
        """Record what is waiting now and end. Raises OSError when the disk takes no more; it is closed all the same."""
        try:
            for _ in range(self._reader.capacity // BUFFER_TICKS + 1):
                self.drain(time.monotonic())
                self.write()
        finally:
            self.end_file()
            self._reader.close()

    def _writer_with_room(self) -> RecordingFileWriter:
        # Everything the directory knows now is stored before the records: their adapters added it before publishing.
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

    def _account(self, written: int) -> None:
        if written == 0:
            return
        last_seq = int(self._buffer["seq"][self._begin + written - 1])
        self._counters.recorded.add(written)
        self._counters.bytes_written.add(written * TICK_BYTES)
        self._counters.lost.add(last_seq - self._last_seq - written)
        self._last_seq = last_seq
        self._follows = Follows.SAME_RING
        self._begin += written

    def _open_reader(self, next_seq: int) -> TickReader:
        reader = TickReader(self._run_folder, self.ring, start=next_seq, after_lap="oldest", cursor=CURSOR)
        if reader.created_ns != self._ring_created_ns:
            reader.close()
            raise SegmentError(f"ring {self.ring!r} has just been made anew; try again", SegmentState.NOT_READY)
        return reader
