"""A segment: a plain file that several processes map; one writes, the others only read.

Plain files and not `multiprocessing.shared_memory`: before Python 3.13 the exit of a reader unlinks such memory while
the writer uses it. The writer holds the file's lock until it ends, so there is never a second one; readers map the file
read-only, so they can neither damage nor unlink it.
"""

from __future__ import annotations

import mmap
import os
import time
import weakref
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from . import host
from .cut_files import MappingGuard
from .layout import HEADER, Layout

_LOCK_PATIENCE_S: Final = 2.0


class SegmentState(Enum):
    """State of a segment, from its file and the file's lock."""

    NOT_THERE = "not there"
    NOT_READY = "not ready"
    OTHER_VERSION = "other version"
    DAMAGED = "damaged"
    LIVE = "live"
    CLOSED = "closed"
    DEAD_WRITER = "dead writer"


class SegmentError(Exception):
    """A segment cannot be used; `state` says why."""

    def __init__(self, text: str, state: SegmentState) -> None:
        super().__init__(text)
        self.state = state


_written: Final[weakref.WeakSet[Segment]] = weakref.WeakSet()  # what this process writes now


class SegmentInUseError(SegmentError):
    """Another live process writes this segment."""


class Segment:
    """One mapped file. Open it with `open_writer` or `attach`.

    Attributes:
        bytes: uint8 view of the whole file; read-only for a reader. It keeps the mapping alive.
        address: of byte 0, for kernels; valid as long as this object lives.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        mapping: mmap.mmap,
        guard: MappingGuard,
        status: os.stat_result,
        descriptor: int | None,
    ) -> None:
        self.path = path
        self.layout = layout
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(mapping, dtype=np.uint8)
        self.address = int(self.bytes.ctypes.data)
        self._fields = self.bytes[: layout.size_bytes].view(layout.dtype)[0]
        self._guard = guard
        self._descriptor = descriptor
        # Of the opened file, never of the path, which may name a newer file by now.
        self._status = status

    # -- writer ---------------------------------------------------------------------------------------------

    @classmethod
    def open_writer(
        cls,
        path: Path,
        layout: Layout,
        body_bytes: int,
        fill: Callable[[Segment], None],
        fits: Callable[[Segment], bool],
        silent: bool = False,
    ) -> Segment:
        """Become the one writer of `path`: reuse the segment of an earlier writer if it fits, else create a new one.

        Args:
            body_bytes: bytes after the layout's own.
            fill: sets the layout's fields of a new segment; runs before the version word makes it ready.
            fits: whether an earlier writer's segment of the same version can be reused (same capacity ...).
            silent: the heartbeat is 0 until the first `beat`, to tell "opened" from "runs".

        Raises:
            SegmentInUseError: another process writes it.
            SegmentError: NOT_READY, the file was cut meanwhile.
            OSError: the disk is full.
            PermissionError: on Windows, when the file does not fit and a reader still has it mapped; stop the reader.
        """
        size = layout.size_bytes + body_bytes
        descriptor = _open_locked(path, layout)
        try:
            found_bytes = os.fstat(descriptor).st_size
            if found_bytes == size:
                segment = cls._map(path, layout, descriptor, size)
                if segment._is_sound() and fits(segment):
                    segment._enter(first=False, silent=silent)
                    return segment
                del segment
            if found_bytes:
                # Never rewritten in place: readers of the old layout may still have it mapped.
                unfit, descriptor = descriptor, -1
                host.remove_open(path, unfit)
                descriptor = _open_locked(path, layout)
            try:
                host.reserve(descriptor, size)
            except OSError as error:
                text = f"{error.strerror}: {path} needs {size} bytes; free some there, or name another run folder"
                raise OSError(error.errno, text) from error
            segment = cls._map(path, layout, descriptor, size)
            segment._fields["magic"] = layout.magic
            segment._fields["segment_bytes"] = size
            fill(segment)
            segment._enter(first=True, silent=silent)
            return segment
        except BaseException:
            if descriptor != -1:
                host.unlock(descriptor)  # the traceback may keep the mapping alive
                os.close(descriptor)
            raise

    def beat(self) -> None:
        """Write the heartbeat; the writer calls it several times a second."""
        self._fields["heartbeat_ns"] = time.monotonic_ns()

    def close_writer(self) -> None:
        """End the writing cleanly: readers see CLOSED instead of DEAD_WRITER. The file and its data stay."""
        if self._descriptor is not None:
            _written.discard(self)
            self._fields["closed"] = 1
            host.unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def unlink(self) -> None:
        """Remove the file. Only its writer may, before `close_writer`; processes that mapped it keep their view.

        Raises:
            PermissionError: called by a reader, or by a writer that has closed; or on Windows, where a file that is
                mapped cannot be removed (`run_folder.remove_stale_segments` does it at the next start).
        """
        if self._descriptor is None:
            raise PermissionError(f"{self.path}: only the writer of a segment may unlink it")
        _written.discard(self)
        self.path.unlink(missing_ok=True)

    def damage(self) -> str:
        """Name the damage to the file that this writer still writes; empty = it is sound. Some 5 us.

        The writer does not notice by itself: its mapping stays, while readers see another file or none.
        """
        try:
            found = os.stat(self.path)
        except OSError as error:
            return "was removed" if isinstance(error, FileNotFoundError | NotADirectoryError) else ""
        if not os.path.samestat(found, self._status):
            return "was replaced by another file"
        if self._guard.is_cut or found.st_size < len(self.bytes):
            return f"was cut to {found.st_size} of {len(self.bytes)} bytes"
        is_sound = self._is_sound() and self.field("writer_pid") == os.getpid()
        return "" if is_sound else "was overwritten"

    # -- reader ---------------------------------------------------------------------------------------------

    @classmethod
    def attach(cls, path: Path, layout: Layout) -> Segment:
        """Map read-only. A closed or dead writer's data can still be read: look at `state()`.

        Raises:
            SegmentError: with state NOT_THERE, NOT_READY, OTHER_VERSION or DAMAGED.
        """
        try:
            with os.fdopen(host.open_regular(path), "rb") as file:
                status = os.fstat(file.fileno())
                size = status.st_size
                if size < HEADER.size_bytes:
                    raise SegmentError(f"{path}: its writer is still creating it; try again", SegmentState.NOT_READY)
                mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
                guard = MappingGuard(mapping, is_written=False)
        except FileNotFoundError:
            raise SegmentError(f"{path}: no such segment; is its writer running?", SegmentState.NOT_THERE) from None
        except OSError as error:
            state = SegmentState.DAMAGED if isinstance(error, host.NotRegularError) else SegmentState.NOT_READY
            raise SegmentError(f"{path} cannot be read: {error.strerror}", state) from error
        except ValueError as error:
            raise _cut_meanwhile(path, error) from error
        # All releases share the header, so a file too short for this layout can still be identified.
        header = np.frombuffer(mapping, HEADER.dtype, count=1)[0]
        version, magic = int(header["version"]), bytes(header["magic"])
        if version == 0:
            raise SegmentError(f"{path}: its writer is still creating it; try again", SegmentState.NOT_READY)
        if version != layout.version or magic != layout.magic.rstrip(b"\0") or size != int(header["segment_bytes"]):
            raise SegmentError(
                f"{path}: layout was {magic!r} version {version}, {size} bytes; this program reads {layout.magic!r} "
                f"version {layout.version}; run the same release on both sides",
                SegmentState.OTHER_VERSION,
            )
        segment = cls(path, layout, mapping, guard, status, None)
        segment.check()
        return segment

    def check(self) -> None:
        """Check the header again: what was sound when it was mapped may have been overwritten since. Some 3 us.

        Raises:
            SegmentError: DAMAGED.
        """
        misfit = self.layout.find_misfit(self._fields, len(self.bytes))
        if misfit:
            raise SegmentError(
                f"{self.path}: the header was overwritten: {misfit}; restart its writer, which makes a new file",
                SegmentState.DAMAGED,
            )

    def state(self) -> SegmentState:
        """LIVE, CLOSED or DEAD_WRITER of an attached segment. Any process may ask; costs some 20 us."""
        if self.field("closed"):
            return SegmentState.CLOSED
        if host.is_alive(self.field("writer_pid"), self.field("writer_started_ms")):
            return SegmentState.LIVE
        return SegmentState.DEAD_WRITER

    def is_replaced(self) -> bool:
        """Whether the path now names another file, or the file was cut: attach again to see new data."""
        try:
            return self._guard.is_cut or not os.path.samestat(os.stat(self.path), self._status)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # not to be seen now; what is mapped stays good

    # -- both -----------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        return self.field("version")

    def field(self, name: str) -> int:
        """Current value of one of the layout's integer fields."""
        return int(self._fields[name])

    def text(self, name: str) -> str:
        """Current value of one of the layout's text fields."""
        return bytes(self._fields[name]).decode(errors="replace")  # of a damaged file no reader may die

    def set_field(self, name: str, value: int | bytes) -> None:
        """Writer only; a reader's mapping is read-only and numpy raises ValueError."""
        self._fields[name] = value

    def heartbeat_age_ns(self) -> int:
        """Nanoseconds since the writer's last heartbeat."""
        return time.monotonic_ns() - self.field("heartbeat_ns")

    @classmethod
    def _map(cls, path: Path, layout: Layout, descriptor: int, size: int) -> Segment:
        try:
            mapping = mmap.mmap(descriptor, size)
        except ValueError as error:
            raise _cut_meanwhile(path, error) from error
        guard = MappingGuard(mapping, is_written=True)
        return cls(path, layout, mapping, guard, os.fstat(descriptor), descriptor)

    def _is_sound(self) -> bool:
        magic, kind = bytes(self._fields["magic"]), self.layout
        is_ours = self.version == kind.version and magic == kind.magic.rstrip(b"\0")
        return is_ours and not kind.find_misfit(self._fields, len(self.bytes))

    def _enter(self, *, first: bool, silent: bool) -> None:
        pid = os.getpid()
        if silent:
            self._fields["heartbeat_ns"] = 0  # before the pid: a predecessor's heartbeat must not count for this writer
        self._fields["writer_pid"] = pid
        self._fields["writer_started_ms"] = host.started_ms(pid) or 0
        self._fields["incarnation"] = self.field("incarnation") + 1
        self._fields["closed"] = 0
        # No heartbeat for a reused segment: data of a dead writer would look live until the new one marks it stale.
        if first:
            if not silent:
                self.beat()
            # The version makes the segment ready, so it must become visible last; a system call in between is a
            # full barrier on every CPU, and this file must not need numba for one store.
            os.fstat(self._descriptor or 0)
            self._fields["version"] = self.layout.version
        _written.add(self)


def _cut_meanwhile(path: Path, error: ValueError) -> SegmentError:
    return SegmentError(f"{path} was cut while it was opened: {error}; try again", SegmentState.NOT_READY)


def inspect(path: Path, layout: Layout) -> SegmentState:
    """State of the file at `path`. Any process may call it; nothing stays mapped."""
    try:
        return Segment.attach(path, layout).state()
    except SegmentError as error:
        return error.state


def find_damage() -> str:
    """Name a segment that this process writes and whose file was removed or damaged, and how; empty = all are sound."""
    for segment in list(_written):
        damage = segment.damage()
        if damage:
            return f"{segment.path} {damage}"
    return ""


def _open_locked(path: Path, layout: Layout) -> int:
    """Descriptor of the file that `path` names now, with its lock held; created when missing."""
    while True:
        try:
            descriptor = host.open_private(path, create=True)
        except host.NotRegularError:
            path.unlink(missing_ok=True)
            continue
        if not host.lock_within(descriptor, _LOCK_PATIENCE_S):
            os.close(descriptor)
            try:
                holder = f"process {Segment.attach(path, layout).field('writer_pid')}"
            except SegmentError:
                holder = "another process"
            raise SegmentInUseError(
                f"{path} is being written by {holder}; stop it, or use another run folder", SegmentState.LIVE
            )
        # While we waited for the lock its holder may have replaced the file: ours then has no name any more.
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # removed, not replaced
        os.close(descriptor)
