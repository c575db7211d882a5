"""The files by which the gateway's clients find it: its token and its socket files, watched while it runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..errors import ConfigError
from ..logs import Log
from ..transport import read_token, write_token

_SOCKET: Final = "ipc://"
_CHECK_EVERY_NS: Final = 500_000_000


class PortFiles:
    """Used by the gateway's thread. Make it when the ports are open."""

    def __init__(self, token_path: Path, token: str, endpoints: Sequence[str], log: Log) -> None:
        self._token_path = token_path
        self._token = token
        self._log = log
        paths = [Path(each.removeprefix(_SOCKET)) for each in endpoints if each.startswith(_SOCKET)]
        self._sockets = {path: os.stat(path) for path in paths}
        self._next_check_ns = 0
        self._trouble = ""

    def check(self, now_ns: int) -> str:
        """Write the token again if its file was lost; twice a second at most. `now_ns`: monotonic.

        It stays the same token, so a client that has read it stays linked.

        Returns:
            A socket file that was removed or replaced, in words; empty = none. Nobody can connect through it any more,
            and ZeroMQ binds it again only in a new process.
        """
        if now_ns < self._next_check_ns:
            return ""
        self._next_check_ns = now_ns + _CHECK_EVERY_NS
        self._keep_token()
        for path, known in self._sockets.items():
            try:
                if not os.path.samestat(os.stat(path), known):
                    return f"{path} was replaced by another file"
            except FileNotFoundError:
                return f"{path} was removed"
            except OSError:
                continue  # the folder cannot be read now: not known to be lost
        return ""

    def _keep_token(self) -> None:
        try:
            found = read_token(self._token_path)
            # Another token was written on purpose, and stays; a part of ours is a damaged file.
            lost, reason = self._token.startswith(found), "it was cut"
            if found == self._token:
                lost, reason = False, ""
            elif not lost:
                reason = "it holds another token, which the gateway takes at its next start"
        except ConfigError as error:
            lost, reason = True, str(error)
        is_written = False
        if lost:
            try:
                write_token(self._token_path, self._token)
                is_written, reason = True, f"{reason}; the same token was written again"
            except OSError as error:
                reason = f"{reason}; it cannot be written again, and is tried twice a second: {error}"
        if reason and reason != self._trouble:
            self._log.warning("token file was removed or changed", file=str(self._token_path), reason=reason)
        # A token that was written again may be lost in the same way again; a trouble that lasts is logged once.
        self._trouble = "" if is_written else reason
