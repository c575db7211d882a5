"""Simulated connection to a platform, controlled by a file in the run folder.

`<name>.platform.json`, to rehearse a lost platform (docs/adapters.md):

    {"running": false}                      as if the program had been closed
    {"accepts_login": false}                as if the password were wrong
    {"mute": true}                          connected, but sends nothing
    {"quotes": [["NQ", 18000, 18000.25, 5, 5]]}   bid, ask and sizes; published once, each time the file changes
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ...core.errors import ConfigError
from ...shm import host
from ..base import LinkLostError

_CHECK_EVERY_S: Final = 0.05
Number = float | None


class SimulatedState(Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file. `quotes`: symbol, bid, ask, bid size, ask size; null = not a number. `number`: increase it
    to publish the same quotes again.
    """

    running: bool = True
    accepts_login: bool = True
    mute: bool = False
    quotes: tuple[tuple[str, Number, Number, Number, Number], ...] = ()
    number: int = 0


class SimulatedLink:
    """State of the connection. Reads the file at most twenty times a second."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.platform.json"
        self._state = SimulatedState()
        self._content = b""
        self._next_check_s = 0.0
        self._connected = False
        self._published = b""

    def connect(self) -> None:
        """Open the connection. Raises LinkLostError; for a refused login ConfigError."""
        self._reload(now=True)
        if not self._state.running:
            raise LinkLostError("the simulated platform is not running")
        if not self._state.accepts_login:
            raise ConfigError(f"the simulated platform refused the login; correct {self._path}")
        self._connected = True

    def check(self) -> bool:
        """Return whether the platform sends data. Raises LinkLostError when it has ended."""
        self._reload()
        if self._connected and not self._state.running:
            raise LinkLostError("the simulated platform has ended")
        return not self._state.mute

    def pop_quotes(self) -> tuple[tuple[str, Number, Number, Number, Number], ...]:
        """Return the scripted quotes, once for each version of the file."""
        if self._published == self._content:
            return ()
        self._published = self._content
        return self._state.quotes

    def close(self) -> None:
        """Close the connection."""
        self._connected = False

    def _reload(self, *, now: bool = False) -> None:
        now_s = time.monotonic()
        if not now and now_s < self._next_check_s:
            return
        self._next_check_s = now_s + _CHECK_EVERY_S
        try:
            content = host.read_regular(self._path)
        except FileNotFoundError:
            content = b""
        if content == self._content:
            return
        try:
            self._state = msgspec.json.decode(content or b"{}", type=SimulatedState)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{self._path}: {error}; see docs/adapters.md for what it may hold") from error
        self._content = content
