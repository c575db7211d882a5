"""What the system gives a process: descriptors with a reserve of them, no core file, private files."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Final, TypeVar

_MOST_DESCRIPTORS: Final = 65_536
"""Far above what any process of ours needs; some systems have a hard limit of a thousand million."""
_WANTS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})
_RESERVED: Final = 8
_Result = TypeVar("_Result")


def is_want_of_resources(error: BaseException | None) -> bool:
    """Whether an error, or a cause of it, is that the system had no descriptor or memory: a passing state that says
    nothing about the file or process that was asked for. Errors of ZeroMQ count, too.
    """
    while error is not None:
        if getattr(error, "errno", None) in _WANTS:
            return True
        error = error.__cause__
    return False


def guard_process() -> None:
    """Set what each process and command of ours needs at its start: files that only this user may read, whatever the
    umask; no core file, which would hold tokens; as many open files as the system allows.

    Never for a process that is not ours: NEXUS has its own umask, and what we make in it has explicit modes.
    """
    raise_descriptor_limit()
    if sys.platform == "win32":
        return
    import resource

    os.umask(0o077)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one, at most 65,536. Any process of ours at its start; on Windows,
    where there is no such limit, nothing happens.

    The usual soft limit of 1,024 protects programs that call `select` on larger numbers; an adapter calls it, but
    opens few files.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it: the soft limit stays then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class DescriptorReserve:
    """Descriptors that this process holds for nothing, and gives up when a file must be opened and none is left.

    Used by the readers of the kill file (gateway, adapters) and by the gateway's journal, each in the thread that opens
    its files. `ProcessContext` takes the reserve, and takes back what was given up.
    """

    def __init__(self, count: int = _RESERVED) -> None:
        """Nothing is taken yet: see `take`."""
        self._count = count
        self._held: list[int] = []

    def take(self) -> None:
        """Take what is missing, as far as the system gives it. Takes 0.1 us while nothing is missing."""
        with contextlib.suppress(OSError):
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))

    def release(self) -> bool:
        """Give up what is held; returns whether there was any."""
        held, self._held = self._held, []
        for descriptor in held:
            os.close(descriptor)
        return bool(held)

    def open_by(self, action: Callable[[], _Result]) -> _Result:
        """Call `action`, which opens a file and closes it again; for want of descriptors once more without the reserve.

        Raises: what `action` raises.
        """
        try:
            return action()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self.release():
                raise
        try:
            return action()
        finally:
            self.take()


descriptor_reserve: Final = DescriptorReserve()
"""That of this process."""
