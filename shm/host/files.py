"""Files of ours: opened privately, replaced in one step, locked, and read only when they are regular files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import time
from pathlib import Path
from typing import Final

# Windows locks bytes against reading too, so the lock lies where no header or counter is; its C runtime takes
# positions below 2 GiB only.
_LOCK_OFFSET: Final = 0x7FFF_FFFE
_REPLACE_PATIENCE_S: Final = 1.0
SMALL_FILE_BYTES: Final = 64 << 20
"""A launch file with thousands of symbols has a few MB."""
# O_NONBLOCK: opening a pipe returns at once, and `_check_regular` refuses it; on regular files it means nothing.
_PLAIN_FLAGS: Final = (
    getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
)


class NotRegularError(OSError):
    """A pipe, device, folder or socket lies where a file of ours should be."""


def open_private(path: Path, *, create: bool = False, exclusive: bool = False) -> int:
    """File descriptor for reading and writing, mode 0600, not inherited by children. The caller closes it.

    Raises:
        FileNotFoundError, FileExistsError: as asked for with `create` and `exclusive`.
        NotRegularError: it is no regular file.
    """
    flags = os.O_RDWR | _PLAIN_FLAGS | getattr(os, "O_NOFOLLOW", 0)
    if create:
        flags |= os.O_CREAT
    if exclusive:
        flags |= os.O_EXCL
    return _check_regular(os.open(path, flags, 0o600), path)


def open_regular(path: Path) -> int:
    """File descriptor for reading a regular file, by links too; not inherited by children. The caller closes it.

    Never waits: a plain `open` of a pipe waits until another process writes to it.

    Raises:
        NotRegularError: it is no regular file.
        OSError: as of `os.open`.
    """
    return _check_regular(os.open(path, os.O_RDONLY | _PLAIN_FLAGS), path)


def read_regular(path: Path, most_bytes: int = SMALL_FILE_BYTES) -> bytes:
    """The content of a small file of ours: tokens, keys, JSON in the run folder. Never waits. Any process.

    Raises:
        NotRegularError: it is no regular file.
        OSError: as of `os.open`; EFBIG when it is longer than `most_bytes`.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"longer than {most_bytes} bytes, which no file of ours is; remove it", str(path))
    return content


def open_appending(path: Path, *, empty: bool = False) -> int:
    """File descriptor for appending to a log or console, mode 0600; created when missing. The caller closes it.

    `empty`: what it holds is dropped.

    Raises:
        NotRegularError: it is no regular file.
        OSError: as of `os.open`.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _PLAIN_FLAGS | (os.O_TRUNC if empty else 0)
    descriptor = _check_regular(os.open(path, flags, 0o600), path)
    _close_to_others(path)
    return descriptor


def make_private_file(path: Path) -> None:
    """Make sure that a database exists with mode 0600 before SQLite opens it: its companions get the mode of it.

    A file that exists is never opened here: closing a descriptor of it would drop the locks that SQLite has on it in
    this process. One of another user is left as it is.

    Raises:
        OSError: it cannot be created.
    """
    if not path.exists():  # asked first: with no descriptor left, none is needed for a file that is there
        with contextlib.suppress(FileExistsError):
            os.close(open_private(path, create=True, exclusive=True))
    _close_to_others(path)


def copy_private(source: Path, target: Path) -> None:
    """Copy a file with its times, mode 0600 from the first byte; replaces `target`. Raises OSError."""
    target.unlink(missing_ok=True)
    status = source.stat()
    with (
        os.fdopen(open_regular(source), "rb") as reader,
        os.fdopen(open_private(target, create=True, exclusive=True), "wb") as writer,
    ):
        shutil.copyfileobj(reader, writer, 1 << 20)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _close_to_others(path: Path) -> None:
    """Take the rights of others from a file of ours that a former release, or an other program, has left open."""
    with contextlib.suppress(OSError):  # another user's, or gone
        mode = path.stat().st_mode
        if sys.platform != "win32" and mode & 0o077:
            path.chmod(stat.S_IMODE(mode) & 0o700)


def find_lock_holders(path: Path, offset: int) -> list[int]:
    """Pids of other processes that hold a record lock on byte `offset` of a file; empty where the system does not say.

    Linux names them in /proc/locks, by inode. The file itself is not opened, see `make_private_file`.
    """
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    found = set()
    for line in lines:
        fields = line.replace("->", "").split()  # number, kind, mode, access, pid, device:inode, first, last
        if len(fields) < 8 or fields[1] not in ("POSIX", "OFDLCK"):
            continue
        first, last = int(fields[6]), fields[7]
        is_there = first <= offset and (last == "EOF" or offset <= int(last))
        if is_there and int(fields[5].rpartition(":")[2]) == inode:
            found.add(int(fields[4]))
    return sorted(found - {os.getpid(), 0, -1})  # 0: of another pid namespace; -1: a lock that no one process owns


def _check_regular(descriptor: int, path: Path) -> int:
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(
                errno.EINVAL, "it is a pipe, device or folder, not a regular file; remove it", str(path)
            )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def replace_private(path: Path, content: bytes) -> os.stat_result:
    """Write a file of mode 0600 in one step: a reader of `path` sees the old content or the new, never a part. Any
    process may. Returns the status of the file written, by which a later change of `path` is seen.

    Raises:
        OSError: the disk takes no more; the old content stays, and nothing is left behind.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(open_private(fresh, create=True, exclusive=True), "wb") as file:
            file.write(content)
            file.flush()
            status = os.fstat(file.fileno())
        _replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return status


def _replace(fresh: Path, path: Path) -> None:
    # Windows does not replace a file that is open, and readers open these files for a moment.
    deadline = time.monotonic() + (_REPLACE_PATIENCE_S if sys.platform == "win32" else 0.0)
    while True:
        try:
            os.replace(fresh, path)
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.001)
        else:
            return


def reserve(descriptor: int, size_bytes: int) -> None:
    """Give a new file its size, zeroed, with the memory behind it.

    Raises:
        OSError: not enough space. A sparse file would kill its writer with SIGBUS at the first touch instead.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size_bytes)
    else:
        os.ftruncate(descriptor, size_bytes)


def remove_open(path: Path, descriptor: int) -> None:
    """Remove the file behind an open, locked descriptor, and close that.

    Raises:
        PermissionError: on Windows, when another process has the file open or mapped.
    """
    # Windows cannot remove an open file, so a new writer's file is safe there without the lock.
    if sys.platform == "win32":
        os.close(descriptor)
        path.unlink(missing_ok=True)
        return
    # Under the lock: without it the new file of a writer that starts right now could be removed.
    path.unlink(missing_ok=True)
    os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file without waiting; False when another process holds it.

    The operating system drops it when the holder ends, kill -9 included, so it can never be stale.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)  # or the next write would begin there and make the file huge
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_within(descriptor: int, timeout_s: float) -> bool:
    """`try_lock`, repeated for at most `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.001)
    return True


def unlock(descriptor: int) -> None:
    """Release the lock. Closing is not enough on Linux: a mapping keeps a duplicate of the descriptor open."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)
