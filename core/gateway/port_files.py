"""The files by which the gateway's clients find it: its keys and its socket files, watched while it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from ..logs import Log
from ..transport import KeyFolder, Listener

_CHECK_EVERY_NS: Final = 500_000_000


class PortFiles:
    """Used by the gateway's thread. Make it when the ports are open."""

    def __init__(self, keys: KeyFolder, listeners: Sequence[Listener], log: Log) -> None:
        self._keys = keys
        self._listeners = listeners
        self._log = log
        self._sockets = {path: os.stat(path) for each in listeners for path in each.doors.socket_files}
        self._next_check_ns = 0

    def check(self, now_ns: int) -> str:
        """Obey keys that were added or taken away, and make again those that were lost; twice a second at most.
        `now_ns`: monotonic.

        Returns:
            A socket file that was removed or replaced, in words; empty = none. Nobody can connect through it any more,
            and it is bound again only in a new process.
        """
        if now_ns < self._next_check_ns:
            return ""
        self._next_check_ns = now_ns + _CHECK_EVERY_NS
        self._keys.repair()
        for listener in self._listeners:
            for proof in listener.cut_removed():
                self._log.warning("key was taken away, its connection is closed", key=proof.name)
        for path, known in self._sockets.items():
            try:
                if not os.path.samestat(os.stat(path), known):
                    return f"{path} was replaced by another file"
            except FileNotFoundError:
                return f"{path} was removed"
            except OSError:
                continue  # the folder cannot be read now: not known to be lost
        return ""
