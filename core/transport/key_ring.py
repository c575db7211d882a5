"""Which keys may connect: the files of a folder, read again when they change."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import structs

from ..errors import ConfigError
from .keys import ALLOWED_FOLDER, Proof, key_text, parse_key_name, read_public

_MAX_ALLOWED: Final = 1_000


class KeyRing:
    """Used by the gateway's thread."""

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        """`folder`: the keys folder. `warn` is called with each file that holds no key, once."""
        self._folder = folder / ALLOWED_FOLDER
        self._warn = warn
        self._found: dict[bytes, Proof] = {}
        self._said: set[str] = set()
        self._signature: Sequence[tuple[str, int, int, int]] | None = None

    @property
    def proofs(self) -> Sequence[Proof]:
        """What the allowed keys prove."""
        return tuple(self._found.values())

    def find(self, public: bytes) -> Proof | None:
        """What a public key proves; None = it is not allowed. A file that has just been added counts."""
        if public not in self._found:
            self.reload()
        return self._found.get(public)

    def reload(self) -> None:
        """Read the folder again if it has changed. One that cannot be read now changes nothing."""
        try:
            names = [name for name in os.listdir(self._folder) if name.endswith(".key")]
        except OSError as error:
            self._say(f"{self._folder} cannot be read, the keys known so far stay: {error.strerror}")
            return
        listed = [(name, status) for name in names if (status := self._status(name)) is not None]
        files = sorted((name, each.st_ino, each.st_mtime_ns, each.st_ctime_ns) for name, each in listed)
        if files == self._signature:
            return
        self._signature = files
        found: dict[bytes, Proof] = {}
        for name, *_ in files[:_MAX_ALLOWED]:
            try:
                proof = parse_key_name(name.removesuffix(".key"))
                key = read_public(self._folder / name)
                if key in found:
                    raise ValueError(f"it holds the key of {found[key].name}, and a key proves one thing only")
            except (ConfigError, ValueError) as error:
                self._say(f"{self._folder / name} is not used: {error}")
                if isinstance(error.__cause__, OSError):
                    # Not readable now, for example without descriptors: what it proved stays, and it is read again.
                    self._signature = None
                    found |= {key: proof for key, proof in self._found.items() if f"{proof.name}.key" == name}
                continue
            found[key] = structs.replace(proof, key=key_text(key))
        if len(files) > _MAX_ALLOWED:
            self._say(f"{self._folder} holds {len(files)} keys, used are the first {_MAX_ALLOWED}")
        self._found = found

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(self._folder / name)
        except OSError:
            self._say(f"{self._folder / name} is not used: it cannot be read, or leads nowhere")
            return None

    def _say(self, text: str) -> None:
        if text not in self._said:
            if len(self._said) >= _MAX_ALLOWED:
                self._said.clear()
            self._said.add(text)
            self._warn(text)
