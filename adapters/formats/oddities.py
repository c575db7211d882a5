"""Counters of irregular data in recordings. Such ticks are counted and kept; nothing is dropped silently."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from ...shm.jit import kernel
from ...shm.tick import TICK_DTYPE, TickArray, TickFlag

_BID: Final = int(TickFlag.BID)
_ASK: Final = int(TickFlag.ASK)
_TRADE: Final = int(TickFlag.TRADE)

PROBLEMS_KEPT: Final = 5
EXACT_SIZE_LIMIT: Final = 2**24
"""Largest integer up to which a float32 size is exact."""


@dataclass
class Oddities:
    """Counters of one recording. The caller owns them; a decoder only adds, so several passes add up.

    The first group is counted on the ticks themselves, file by file (in an archive member by member), before files
    are merged. "The tick before" is the one before it in the same file.
    """

    rows: int = 0  # ticks decoded
    equal_timestamps: int = 0  # same ts_event_ns as the tick before
    stepped_back: int = 0  # ts_event_ns before that of the tick before
    crossed: int = 0  # bid above ask, on ticks that carry both
    locked: int = 0  # bid equal to ask, on ticks that carry both
    repeated_quotes: int = 0  # both sides carried, prices and sizes equal to those of the quote before
    zero_size: int = 0  # trades of size 0
    negative_latency: int = 0  # received before it happened: one of the two clocks is wrong

    suspicious: int = 0  # marked so by the vendor
    sizes_inexact: int = 0  # sizes above 2**24, which float32 rounds
    off_grid: int = 0  # float32 prices that are no multiple of the tick size they were given
    flags_without_value: int = 0  # a side said to have changed whose price is blank
    split_trades: int = 0  # records that are parts of one larger trade
    other_messages: int = 0  # messages of a feed that are no ticks (depth changes, snapshots)
    messages_stepped_back: int = 0  # exchange time before that of the message before, all messages of the feed
    broken_chains: int = 0  # depth updates that do not continue the one before: the recorder lost some
    bad_lines: int = 0  # lines or records left out because they are broken (on_error="count")
    damaged_ends: int = 0  # files that could not be read to their end (on_error="count")
    unended_lines: int = 0  # files whose last line has no line end: it may have been cut

    problems: list[str] = field(default_factory=list)
    """Texts of the first few bad lines and damaged ends."""

    def add_problem(self, text: str) -> None:
        """Keep the text of a counted problem, of the first few."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(text)


_AUDITED: Final = (
    "rows",
    "equal_timestamps",
    "stepped_back",
    "crossed",
    "locked",
    "repeated_quotes",
    "zero_size",
    "negative_latency",
)
assert {each.name for each in fields(Oddities)} > set(_AUDITED)

AUDIT_STATE: Final = np.dtype(
    [
        *((name, "<i8") for name in _AUDITED),
        ("ts_event_ns", "<i8"),  # of the tick before; valid once rows > 0
        ("bid", "<f8"),
        ("ask", "<f8"),
        ("bid_size", "<f4"),
        ("ask_size", "<f4"),
    ]
)


@kernel()
def count_oddities(ticks: TickArray, states: npt.NDArray[np.void]) -> None:
    """Add one chunk of a file to states[0], dtype AUDIT_STATE: counters and the tick before."""
    state = states[0]
    for i in range(ticks.size):
        tick = ticks[i]
        if state.rows > 0:
            state.equal_timestamps += tick.ts_event_ns == state.ts_event_ns
            state.stepped_back += tick.ts_event_ns < state.ts_event_ns
        state.ts_event_ns = tick.ts_event_ns
        state.rows += 1
        state.negative_latency += tick.ts_recv_ns < tick.ts_event_ns
        if tick.flags & _TRADE:
            state.zero_size += tick.last_size == 0
        if tick.flags & _BID and tick.flags & _ASK:
            state.crossed += tick.bid > tick.ask
            state.locked += tick.bid == tick.ask
            same_sizes = (tick.bid_size == state.bid_size or np.isnan(tick.bid_size)) and (
                tick.ask_size == state.ask_size or np.isnan(tick.ask_size)
            )
            state.repeated_quotes += tick.bid == state.bid and tick.ask == state.ask and same_sizes
            state.bid = tick.bid
            state.ask = tick.ask
            state.bid_size = tick.bid_size
            state.ask_size = tick.ask_size


class Audit:
    """Counts the irregular ticks of one file, chunk by chunk."""

    def __init__(self, oddities: Oddities) -> None:
        self._oddities = oddities
        self._state = np.zeros(1, AUDIT_STATE)
        for name in ("bid", "ask"):
            self._state[name] = np.nan
        self._counted = dict.fromkeys(_AUDITED, 0)

    def add(self, ticks: TickArray) -> None:
        """Count a chunk, dtype TICK_DTYPE, C-contiguous, in file order."""
        assert ticks.dtype == TICK_DTYPE
        count_oddities(ticks, self._state)
        for name in _AUDITED:
            total = int(self._state[name][0])
            setattr(self._oddities, name, getattr(self._oddities, name) + total - self._counted[name])
            self._counted[name] = total


def set_sizes(ticks: TickArray, name: str, sizes: npt.NDArray[np.float64], oddities: Oddities) -> None:
    """Store sizes as float32 in the tick field `name`; those that are too large to stay exact are counted."""
    oddities.sizes_inexact += int(np.count_nonzero(sizes > EXACT_SIZE_LIMIT))
    ticks[name] = sizes
