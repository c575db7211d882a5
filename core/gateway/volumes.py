"""Lots traded of two contracts of one root, counted from the rings while a roll approaches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np

from ...shm.fan_in import FanIn
from ...shm.reader import TickReader
from ...shm.segment import SegmentError
from ...shm.symbols import SymbolDirectory
from ...shm.tick import TICK_DTYPE, Platform, TickArray, TickFlag

_BATCH: Final = 8192
_MOST_BATCHES: Final = 64
_DAY_S: Final = 86_400.0


class TradedVolumes:
    """Reads nothing while no roll is near. Used by the gateway's thread; ticks that it misses count for neither. The
    sums begin anew each day: what is asked is where trade is, not where it was.
    """

    def __init__(
        self, folder: Path, platforms: Sequence[str], *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._monotonic_s = monotonic_s
        self._begin_anew_s = monotonic_s() + _DAY_S
        self._platforms = platforms
        self._watched: dict[str, tuple[int, int]] = {}
        self._lots: dict[tuple[int, int], float] = {}
        self._readers: dict[str, TickReader] = {}
        self._fan_in: FanIn | None = None
        self._out = np.zeros(0, TICK_DTYPE)

    def watch(self, root: str, new: str) -> None:
        """Count from now on. Raises SegmentError when there is no symbol directory."""
        directory = SymbolDirectory.attach(self._folder)
        ids = directory.id_of(root), directory.id_of(new)
        if ids[0] is not None and ids[1] is not None:
            self._watched[root] = (ids[0], ids[1])
            self._close()

    def unwatch(self, root: str) -> None:
        """Count no longer."""
        if self._watched.pop(root, None) is not None:
            self._close()

    def count(self) -> None:
        """Take in what the rings have."""
        if not self._watched:
            return
        if self._monotonic_s() >= self._begin_anew_s:
            self._begin_anew_s = self._monotonic_s() + _DAY_S
            self._lots.clear()
        if self._fan_in is None or any(reader.is_replaced() for reader in self._readers.values()):
            self._open()
        assert self._fan_in is not None
        for _ in range(_MOST_BATCHES):
            batch = self._out[: self._fan_in.drain(self._out)]
            self._add(batch[(batch["flags"] & int(TickFlag.TRADE)) != 0])
            if len(batch) < len(self._out):
                return

    def _add(self, trades: TickArray) -> None:
        """By whole arrays: at an opening there are thousands a second, and orders wait for this thread."""
        sizes = trades["last_size"].astype(np.float64)
        counted = np.isfinite(sizes) & (sizes > 0)  # a size that is none must not spoil the sum, or end the gateway
        keys = trades["source"].astype(np.int64) << 16 | trades["symbol"]
        found, places = np.unique(keys[counted], return_inverse=True)
        for key, lots in zip(found.tolist(), np.bincount(places, sizes[counted]).tolist(), strict=False):
            name = key >> 16, key & 0xFFFF
            self._lots[name] = self._lots.get(name, 0.0) + lots

    def of(self, platform: str, root: str) -> tuple[Decimal | None, Decimal | None]:
        """Lots of the old and the new contract today, since both are watched; None when they are not counted there."""
        ids = self._watched.get(root)
        if ids is None or platform not in self._readers:
            return None, None
        source = int(Platform.parse(platform))
        old, new = (Decimal(repr(round(self._lots.get((source, symbol), 0.0), 6))) for symbol in ids)
        return old, new

    def _open(self) -> None:
        self._close()
        for name in self._platforms:
            try:
                self._readers[name] = TickReader(self._folder, name)
            except SegmentError:
                continue  # not there yet: counted when the next roll is watched
        ids = [symbol for pair in self._watched.values() for symbol in pair]
        self._fan_in = FanIn(list(self._readers.values()), symbols=ids)
        self._out = np.zeros(_BATCH, TICK_DTYPE)

    def _close(self) -> None:
        if self._fan_in is not None:
            self._fan_in.close()
        self._fan_in = None
        self._readers = {}
