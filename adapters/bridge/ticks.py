"""Tick frames of a bridge: one kernel call validates and compacts all frames that have arrived.

No Python code runs per tick or per frame. Records that pass cannot harm a reader: known symbols, valid numbers, our own
platform id. The ring sets sequence number and time of arrival.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

import numpy as np
from numba import carray

from ...shm.atomics import as_pointer
from ...shm.clock import utc_ns
from ...shm.jit import entry_point, kernel
from ...shm.layout import TICK_BYTES
from ...shm.symbols import CAPACITY
from ...shm.tick import TICK_DTYPE, Platform, TickArray, TickFlag
from .frames import HEADER_BYTES, MAX_FRAME_TICKS, TICKS, VERSION

_WORDS: Final = TICK_BYTES // 8
_MAX_BYTES: Final = MAX_FRAME_TICKS * TICK_BYTES
_EARLIEST_NS: Final = 946_684_800_000_000_000  # 2000-01-01: older is a platform's zero or a time in other units
_AHEAD_NS: Final = 86_400_000_000_000
_TRADE: Final = int(TickFlag.TRADE)
_BOTH_SIDES: Final = int(TickFlag.BUYER | TickFlag.SELLER)
_NO_EVENT: Final = int(TickFlag.SNAPSHOT | TickFlag.STALE)

_HEADER: Final = np.dtype([("length", "<u4"), ("kind", "u1"), ("flags", "u1"), ("version", "<u2")])
assert _HEADER.itemsize == HEADER_BYTES
_SYMBOL: Final = np.dtype(
    [
        ("wanted", "<i8"),
        ("newest_ns", "<i8"),
        ("count", "<i8"),
        ("gated", "<i8"),  # 1: remove quotes that are crossed, or of closed hours, which are:
        ("closed_ns", "<i8"),  # shut from this time
        ("open_ns", "<i8"),  # until this time,
        ("close_ns", "<i8"),  # and again from this time on
    ]
)
_INTAKE: Final = np.dtype(
    [
        ("symbols", "<i8"),  # address of the table of _SYMBOL, CAPACITY rows by symbol id
        ("platform", "<i8"),
        ("first", "<i8"),  # address of the valid records of the last call
        ("sound", "<i8"),  # number of them
        ("received", "<i8"),  # records of the session
        ("refused", "<i8"),  # records of the session that were refused
        ("faults", "<i8"),  # TickFault bits seen in the session
        ("blanked", "<i8"),  # records of the session whose quote the gate removed
    ]
)
_ROW_BYTES: Final = _SYMBOL.itemsize


class TickFault(IntFlag):
    """Why records were refused."""

    SYMBOL = 1
    NUMBER = 2
    FLAGS = 4
    TIME = 8


_BAD_SYMBOL: Final = int(TickFault.SYMBOL)
_BAD_NUMBER: Final = int(TickFault.NUMBER)
_BAD_FLAGS: Final = int(TickFault.FLAGS)
_BAD_TIME: Final = int(TickFault.TIME)


@kernel("int64(int64, int64, int64)", brief=True)
def _find_fault(record_address: int, symbols: int, latest_ns: int) -> int:
    """Return a TickFault bit; 0 for a valid record, whose time is then stored as its symbol's newest."""
    record = carray(as_pointer(record_address), 1, TICK_DTYPE)[0]
    symbol = int(record.symbol)
    if symbol >= CAPACITY:
        return _BAD_SYMBOL
    row = carray(as_pointer(symbols), CAPACITY, _SYMBOL)[symbol]
    if row.wanted == 0:
        return _BAD_SYMBOL
    if np.isinf(record.bid) or np.isinf(record.ask) or np.isinf(record.last):
        return _BAD_NUMBER
    # Unknown sizes are NaN, and pass: no comparison with NaN is true.
    if record.bid_size < 0 or record.ask_size < 0 or record.last_size < 0:
        return _BAD_NUMBER
    if np.isinf(record.bid_size) or np.isinf(record.ask_size) or np.isinf(record.last_size):
        return _BAD_NUMBER
    flags = int(record.flags)
    if (flags & _TRADE and np.isnan(record.last)) or flags & _BOTH_SIDES == _BOTH_SIDES:
        return _BAD_FLAGS
    event_ns = record.ts_event_ns
    if event_ns < _EARLIEST_NS or event_ns > latest_ns:
        return _BAD_TIME
    # Where to resume after a reconnect: the newest time, and how many ticks had it. Snapshots and stale marks are no
    # events of the market; counting them would make the platform's history skip real ticks of the same time.
    if flags & _NO_EVENT == 0:
        if event_ns > row.newest_ns:
            row.newest_ns = event_ns
            row.count = 1
        elif event_ns == row.newest_ns:
            row.count += 1
    return 0


@kernel("int64(int64, int64)", brief=True)
def _gate_quote(record_address: int, row_address: int) -> int:
    """Remove the quote from a record when it is crossed or of closed hours; a trade in it stays. Returns 1 if so."""
    row = carray(as_pointer(row_address), 1, _SYMBOL)[0]
    record = carray(as_pointer(record_address), 1, TICK_DTYPE)[0]
    event_ns = record.ts_event_ns
    shut = (row.closed_ns <= event_ns and event_ns < row.open_ns) or event_ns >= row.close_ns
    # A quote of one side is kept while the market is open: the comparison with NaN is false.
    if not shut and not record.bid >= record.ask:
        return 0
    if np.isnan(record.bid) and np.isnan(record.ask):
        return 0
    record.bid = np.nan
    record.ask = np.nan
    record.bid_size = 0
    record.ask_size = 0
    return 1


@kernel("int64(int64, int64, int64)", brief=True)
def _process_frames(intake_address: int, start: int, size: int) -> int:
    """Process the complete frames of ticks at the beginning of the `size` bytes at address `start`.

    Valid records are moved together in place, behind the first frame's header. Stops at the first bytes that are not a
    complete, well-formed frame of ticks; the Python code decides what they are.

    Returns:
        Number of bytes processed.
    """
    intake = carray(as_pointer(intake_address), 1, _INTAKE)[0]
    latest_ns = utc_ns() + _AHEAD_NS
    intake.first = start + HEADER_BYTES
    target = intake.first
    used = 0
    while size - used >= HEADER_BYTES:
        header = carray(as_pointer(start + used), 1, _HEADER)[0]
        length = int(header.length)
        # Malformed headers also end here: `FrameBuffer` checks them again and raises, with the reason in words.
        if header.kind != TICKS or header.flags != 0 or header.version != VERSION:
            break
        if length == 0 or length > _MAX_BYTES or length % TICK_BYTES != 0 or size - used < HEADER_BYTES + length:
            break
        source = start + used + HEADER_BYTES
        used += HEADER_BYTES + length
        intake.received += length // TICK_BYTES
        for _ in range(length // TICK_BYTES):
            fault = _find_fault(source, intake.symbols, latest_ns)
            if fault:
                intake.refused += 1
                intake.faults |= fault
            else:
                record = carray(as_pointer(source), 1, TICK_DTYPE)[0]
                # The platform id is set here, whatever the bridge wrote: it cannot pose as another platform.
                record.source = intake.platform
                row = intake.symbols + int(record.symbol) * _ROW_BYTES
                if carray(as_pointer(row), 1, _SYMBOL)[0].gated != 0:
                    intake.blanked += _gate_quote(source, row)
                if target != source:
                    # Copied upwards word by word, since source and target may overlap.
                    words, moved = (
                        carray(as_pointer(source), _WORDS, np.int64),
                        carray(as_pointer(target), _WORDS, np.int64),
                    )
                    for i in range(_WORDS):
                        moved[i] = words[i]
                target += TICK_BYTES
            source += TICK_BYTES
    intake.sound = (target - intake.first) // TICK_BYTES
    return used


_process = entry_point(_process_frames)


class TickIntake:
    """The subscribed symbols of one adapter with the newest tick of each; kept over reconnects.

    Attributes:
        first, sound: address and number of the valid records of the last `process_frames`, in order. They lie in the
            caller's buffer and are valid until it changes.
    """

    def __init__(self, platform: Platform) -> None:
        self._symbols = np.zeros(CAPACITY, _SYMBOL)
        self._meanings: dict[int, str] = {}
        self._state = np.zeros(1, _INTAKE)
        self._state["symbols"] = self._symbols.ctypes.data
        self._state["platform"] = int(platform)
        self._address = int(self._state.ctypes.data)

    def allow(self, symbol_id: int) -> None:
        """Accept this symbol's ticks."""
        self._symbols["wanted"][symbol_id] = 1

    def forbid(self, symbol_id: int) -> None:
        """Refuse this symbol's ticks."""
        self._symbols["wanted"][symbol_id] = 0

    def gate(self, symbol_id: int, closed_ns: int, open_ns: int, close_ns: int) -> None:
        """Remove quotes from this symbol's records (bid and ask become NaN, a trade stays) that are crossed or locked,
        or of a time from `closed_ns` to `open_ns`, or from `close_ns` on. UTC ns; replaces the former gate.
        """
        row = self._symbols[symbol_id]
        row["closed_ns"], row["open_ns"], row["close_ns"], row["gated"] = closed_ns, open_ns, close_ns, 1

    def forbid_all(self) -> None:
        """Refuse all ticks."""
        self._symbols["wanted"] = 0

    def begin_symbol(self, symbol_id: int, meaning: str) -> tuple[int, int]:
        """Return the time of a symbol's newest tick (UTC ns, 0 = none yet), and how many ticks had this time.

        Args:
            meaning: identifies the instrument; when it has changed, both are reset to 0.
        """
        row = self._symbols[symbol_id]
        if self._meanings.setdefault(symbol_id, meaning) != meaning:
            self._meanings[symbol_id] = meaning
            row["newest_ns"] = row["count"] = 0
        return int(row["newest_ns"]), int(row["count"])

    def adopt(self, ticks: TickArray, earliest_ns: int) -> None:
        """Resume where a former process has ended; call it before the first subscription.

        Args:
            ticks: shape (n,), TICK_DTYPE: the ticks that it published.
            earliest_ns: UTC ns; a symbol whose newest tick is older is not resumed, the gap would be too long.
        """
        events = ticks[(ticks["flags"] & _NO_EVENT == 0) & (ticks["ts_event_ns"] >= earliest_ns)]
        for symbol_id in np.unique(events["symbol"]):
            stamps = events["ts_event_ns"][events["symbol"] == symbol_id]
            row = self._symbols[symbol_id]
            row["newest_ns"] = stamps.max()
            row["count"] = np.count_nonzero(stamps == stamps.max())

    def resume_from(self, symbol_id: int, event_ns: int) -> None:
        """Set the symbol's newest time: the next subscription asks for all ticks from `event_ns` (UTC ns) on."""
        self._symbols["newest_ns"][symbol_id], self._symbols["count"][symbol_id] = event_ns, 0

    def begin_session(self) -> None:
        """Reset the counts of the session; the newest tick of each symbol is kept."""
        for name in ("received", "refused", "faults", "blanked"):
            self._state[name] = 0

    def process_frames(self, address: int, size: int) -> int:
        """Process the frames of ticks at the beginning of the `size` bytes; see `first` and `sound`.

        Returns the number of bytes processed.
        """
        return int(_process(self._address, address, size))

    @property
    def first(self) -> int:
        return int(self._state["first"][0])

    @property
    def sound(self) -> int:
        return int(self._state["sound"][0])

    @property
    def received(self) -> int:
        """Records of this session, refused ones included."""
        return int(self._state["received"][0])

    @property
    def refused(self) -> int:
        """Records of this session that were refused."""
        return int(self._state["refused"][0])

    @property
    def blanked(self) -> int:
        """Records of this session whose quote was removed by `gate`."""
        return int(self._state["blanked"][0])

    @property
    def faults(self) -> TickFault:
        """All faults of the refused records of this session."""
        return TickFault(int(self._state["faults"][0]))
