"""The keys folder as the gateway keeps it: made at its first start, and whole while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ...shm import host
from ..errors import ConfigError
from .curve import make_key_pair
from .keys import (
    ALLOWED_FOLDER,
    GATEWAY,
    NEXUS,
    OF_GATEWAY,
    OPERATOR,
    PUBLIC,
    SECRET,
    KeyPair,
    NotPrivateError,
    adapter_key,
    read_pair,
    read_public,
    write_pair,
    write_public,
)

_ONCE_ALLOWED: Final = "once-allowed"
"""Names of the keys that were made and allowed here."""


class KeyFolder:
    """Used by the gateway's thread, and by `nexus-gateway keys` when no gateway has run yet.

    Attributes:
        folder: see `keys.py`.
        own: the gateway's pair. It stays the same while the process runs, whatever becomes of its file.
        names: of the keys that are made here, for the processes of this machine.
    """

    def __init__(self, folder: Path, platforms: Iterable[str], warn: Callable[[str], None]) -> None:
        """Make what is missing. `platforms`: of the configured adapters. `warn`: called with what was made again.

        Raises:
            ConfigError: the folder or a file is not private, or cannot be written.
        """
        self.folder = folder
        self.names = (NEXUS, OPERATOR, *map(adapter_key, platforms))
        self._warn = warn
        self._signature: object = None
        self._trouble = ""
        try:
            host.make_private_folder(folder)
            self.own = self._open_own()
            self._make_clients()
        except OSError as error:
            raise ConfigError(
                f"keys folder {folder} cannot be used: {error.strerror or error}; correct it, or orders.keys_folder"
            ) from error
        self._signature = self._sign()

    def repair(self) -> None:
        """Make again what was removed or damaged since the last call. A few stats when nothing was.

        A public key that was taken out of `allowed` stays away: that is how a person ends its sessions.
        """
        if self._sign() == self._signature:
            return
        try:
            host.make_private_folder(self.folder)
            if self._read_own() != self.own:
                write_pair(self.folder / GATEWAY, self.own)
                self._warn(f"{self.folder / GATEWAY} was changed or removed; the same keys were written again")
            self._make_clients()
        except (OSError, ConfigError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._warn(f"{self.folder} cannot be written again, it is tried twice a second: {error}")
            return  # with the former signature, so that the next call tries again
        self._trouble = ""
        self._signature = self._sign()

    def _sign(self) -> object:
        found: list[tuple[int, ...] | None] = []
        for name in (GATEWAY, *self.names):
            for file in (SECRET, PUBLIC, OF_GATEWAY):
                try:
                    status = os.stat(self.folder / name / file, follow_symlinks=False)
                    found.append((status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns))
                except OSError:
                    found.append(None)
        return found

    def _open_own(self) -> KeyPair:
        if not os.path.lexists(self.folder / GATEWAY / SECRET):
            return write_pair(self.folder / GATEWAY)
        try:
            return read_pair(self.folder / GATEWAY)
        except NotPrivateError:
            raise  # a person has to judge whether another program can pose as this gateway now
        except ConfigError as error:
            self._warn(f"the gateway has a new key, which each other machine has to trust: {error}")
            return write_pair(self.folder / GATEWAY)

    def _read_own(self) -> KeyPair | None:
        try:
            return read_pair(self.folder / GATEWAY)
        except ConfigError:
            return None

    def _make_clients(self) -> None:
        allowed = self.folder / ALLOWED_FOLDER
        # Keys that were allowed once are not allowed again, unless the whole folder is gone: a person may have taken
        # one away, and its pair as well.
        once_allowed = self._read_once_allowed() if allowed.exists() else set[str]()
        allowed.mkdir(mode=0o700, exist_ok=True)
        for name in self.names:
            folder, public_file = self.folder / name, allowed / f"{name}.key"
            pair = self._read_pair(name)
            is_new = pair is None
            pair = pair or KeyPair(*make_key_pair())
            # Before the pair: one that is on disk has been allowed, even if this process ends in between.
            if name not in once_allowed or (is_new and public_file.exists()):
                write_public(public_file, pair.public)
            if is_new:
                write_pair(folder, pair)
            if self._differs(folder / PUBLIC, pair.public):
                write_public(folder / PUBLIC, pair.public)
            if self._differs(folder / OF_GATEWAY, self.own.public):
                write_public(folder / OF_GATEWAY, self.own.public)
        if not once_allowed.issuperset(self.names):
            content = "".join(f"{name}\n" for name in sorted(once_allowed | set(self.names)))
            host.replace_private(self.folder / _ONCE_ALLOWED, content.encode("ascii"))

    def _read_pair(self, name: str) -> KeyPair | None:
        folder = self.folder / name
        if not os.path.lexists(folder / SECRET):
            return None
        try:
            return read_pair(folder)
        except ConfigError as error:
            # Damaged, or others could read it. All its users are on this machine, and read it again.
            self._warn(f"key {name} was made again: {error}")
            return None

    def _read_once_allowed(self) -> set[str]:
        try:
            return set(host.read_regular(self.folder / _ONCE_ALLOWED).decode("ascii").split())
        except (OSError, UnicodeDecodeError):
            return {name for name in self.names if os.path.lexists(self.folder / name / SECRET)}

    @staticmethod
    def _differs(path: Path, public: bytes) -> bool:
        try:
            return read_public(path) != public
        except ConfigError:
            return True
