"""The normalized tick: 64 bytes, one cache line, little endian; its flags and its sources.

The same 64 bytes are the slot of a ring, the element of a recording, the row of a quote board and the payload of
a bridge's tick frame, so a tick is never re-encoded on its way.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from . import layout

TickArray: TypeAlias = npt.NDArray[np.void]
"""One-dimensional array of ticks, dtype TICK_DTYPE."""

TICK_DTYPE: Final = layout.TICK.dtype
"""Fields, units and offsets: see `layout.TICK`. It is the dtype of every array of ticks in the product."""


class TickFlag(IntFlag):
    """Sides that the record changed, and marks on its quality (field `flags`)."""

    BID = 1  # bid or bid size changed
    ASK = 2  # ask or ask size changed
    TRADE = 4  # last and last_size are a new trade; without it they repeat the last one seen
    BUYER = 8  # the aggressor bought
    SELLER = 16  # the aggressor sold
    SNAPSHOT = 32  # state at subscription or reconnect, not a change
    ROLL = 64  # first tick of a new contract under this symbol
    STALE = 128  # the adapter knows that its source has stopped


class Platform(IntEnum):
    """Field `source`. The names are those of the configuration; ids never change once published."""

    NONE = 0
    MT5 = 1
    MT5_BR = 2
    NT8 = 3
    SIERRA = 4
    BOOKMAP = 5
    QUANTOWER = 6
    SIM = 7
    REPLAY = 8

    @property
    def key(self) -> str:
        """Name as written in the configuration, in run-folder file names and on the command line."""
        return self.name.lower()

    @classmethod
    def parse(cls, key: str) -> Platform:
        """Platform of a configuration name.

        Raises:
            ValueError: unknown name; the text lists the valid ones.
        """
        for platform in cls:
            if platform.key == key and platform is not cls.NONE:
                return platform
        valid = ", ".join(p.key for p in cls if p is not cls.NONE)
        raise ValueError(f"unknown platform: was {key!r}; use one of {valid}")
