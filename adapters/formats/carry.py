"""Fill the missing sides of recorded ticks with the last known values of their symbol."""

from __future__ import annotations

from typing import Final

import numpy as np

from ...shm.jit import kernel
from ...shm.tick import TickArray, TickFlag
from .recording import new_ticks

_BID: Final = int(TickFlag.BID)
_ASK: Final = int(TickFlag.ASK)
_TRADE: Final = int(TickFlag.TRADE)


def make_carry_state(symbols: int) -> TickArray:
    """Return an empty state for `carry_forward`: one row for each symbol id below `symbols`, 64 bytes each."""
    return new_ticks(symbols)


@kernel()
def carry_forward(ticks: TickArray, state: TickArray) -> None:
    """Fill the sides (price and size together) that a tick does not have, in place, and store those it has.

    A side that is flagged, or has a price, is the tick's own. Its size stays NaN if it is unknown, since the last size
    belonged to another price.

    Args:
        ticks: dtype TICK_DTYPE, in the order of publication, chunk after chunk.
        state: from `make_carry_state`, larger than every symbol id in `ticks`; updated. Keep it across chunks and
            files; make a new one when time starts again, as in a loop.

    Raises:
        IndexError: a symbol id that has no row in `state`.
    """
    for i in range(ticks.size):
        tick = ticks[i]
        if tick.symbol >= state.size:
            raise IndexError("symbol id beyond the carry state: make it larger")
        known = state[tick.symbol]
        if tick.flags & _BID or not np.isnan(tick.bid):
            known.bid = tick.bid
            known.bid_size = tick.bid_size
        else:
            tick.bid = known.bid
            tick.bid_size = known.bid_size
        if tick.flags & _ASK or not np.isnan(tick.ask):
            known.ask = tick.ask
            known.ask_size = tick.ask_size
        else:
            tick.ask = known.ask
            tick.ask_size = known.ask_size
        if tick.flags & _TRADE or not np.isnan(tick.last):
            known.last = tick.last
            known.last_size = tick.last_size
        else:
            tick.last = known.last
            tick.last_size = known.last_size
