"""Tick frames of a bridge, checked and put together by one kernel for all frames that have arrived.

No Python runs for a tick or a frame of ticks. What the kernel lets through cannot harm a reader: known symbols, sound
numbers, our own platform id. The ring sets number and time of arrival.
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
        ("gated", "<i8"),  # 1: its quotes count only uncrossed, and within the market's hours, which are:
        ("closed_ns", "<i8"),  # shut from here
        ("open_ns", "<i8"),  # to here,
        ("close_ns", "<i8"),  # and from here on
    ]
)
_INTAKE: Final = np.dtype(
    [
        ("symbols", "<i8"),  # address of the table of _SYMBOL, CAPACITY rows by symbol id
        ("platform", "<i8"),
        ("first", "<i8"),  # address of the sound records of this turn
        ("sound", "<i8"),  # how many of them
        ("received", "<i8"),  # of the session
        ("refused", "<i8"),  # of the session
        ("faults", "<i8"),  # TickFault bits seen in the session
        ("blanked", "<i8"),  # quotes of the session that the gate took out
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
    """A TickFault bit, 0 for a sound record, which is noted in its symbol's row."""
    record = carray(as_pointer(record_address), 1, TICK_DTYPE)[0]
    symbol = int(record.symbol)
    if symbol >= CAPACITY:
        return _BAD_SYMBOL
    row = carray(as_pointer(symbols), CAPACITY, _SYMBOL)[symbol]
    if row.wanted == 0:
        return _BAD_SYMBOL
    if np.isinf(record.bid) or np.isinf(record.ask) or np.isinf(record.last):
        return _BAD_NUMBER
    # A NaN passes: neither comparison is true.
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
    if flags & _NO_EVENT == 0:
        if event_ns > row.newest_ns:
            row.newest_ns = event_ns
            row.count = 1
        elif event_ns == row.newest_ns:
            row.count += 1
    return 0


@kernel("int64(int64, int64)", brief=True)
def _gate_quote(record_address: int, row_address: int) -> int:
    """Take the quote out of a record when nobody could trade on it; a trade in it stays. Returns 1 when it did."""
    row = carray(as_pointer(row_address), 1, _SYMBOL)[0]
    record = carray(as_pointer(record_address), 1, TICK_DTYPE)[0]
    event_ns = record.ts_event_ns
    shut = (row.closed_ns <= event_ns and event_ns < row.open_ns) or event_ns >= row.close_ns
    # One side alone is a quote, too: the comparison with a NaN is false.
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
    """Take the complete frames of ticks at the beginning of `size` bytes at address `start`.

    Sound records are moved together, in place, to follow the first frame's header. Ends at whatever is no well-formed,
    complete frame of ticks; Python looks at that.

    Returns:
        Bytes used up.
    """
    intake = carray(as_pointer(intake_address), 1, _INTAKE)[0]
    latest_ns = utc_ns() + _AHEAD_NS
    intake.first = start + HEADER_BYTES
    target = intake.first
    used = 0
    while size - used >= HEADER_BYTES:
        header = carray(as_pointer(start + used), 1, _HEADER)[0]
        length = int(header.length)
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
                record.source = intake.platform
                row = intake.symbols + int(record.symbol) * _ROW_BYTES
                if carray(as_pointer(row), 1, _SYMBOL)[0].gated != 0:
                    intake.blanked += _gate_quote(source, row)
                if target != source:
                    # Word by word upwards, for the two overlap after the first frame.
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
    """The subscribed symbols, and what has come of each. One adapter's; outlives its sessions.

    Attributes:
        first, sound: address and number of the records that `take` has found sound, in their order; they lie in the
            buffer that was taken from and are good until its next change.
    """

    def __init__(self, platform: Platform) -> None:
        self._symbols = np.zeros(CAPACITY, _SYMBOL)
        self._meanings: dict[int, str] = {}
        self._state = np.zeros(1, _INTAKE)
        self._state["symbols"] = self._symbols.ctypes.data
        self._state["platform"] = int(platform)
        self._address = int(self._state.ctypes.data)

    def allow(self, symbol_id: int) -> None:
        """Let this symbol's ticks through."""
        self._symbols["wanted"][symbol_id] = 1

    def forbid(self, symbol_id: int) -> None:
        """Refuse this symbol's ticks."""
        self._symbols["wanted"][symbol_id] = 0

    def gate(self, symbol_id: int, closed_ns: int, open_ns: int, close_ns: int) -> None:
        """Take quotes out of this symbol's records (bid and ask become NaN, a trade stays) that are crossed or locked,
        or of a time from `closed_ns` to `open_ns`, or from `close_ns` on. UTC ns; replaces what was said before.
        """
        row = self._symbols[symbol_id]
        row["closed_ns"], row["open_ns"], row["close_ns"], row["gated"] = closed_ns, open_ns, close_ns, 1

    def forbid_all(self) -> None:
        """Refuse all ticks."""
        self._symbols["wanted"] = 0

    def begin_symbol(self, symbol_id: int, meaning: str) -> tuple[int, int]:
        """Time of a symbol's newest tick (UTC ns, 0 = none yet), and how many had just this time.

        Args:
            meaning: whatever tells one instrument from another; when it has changed, both begin anew.
        """
        row = self._symbols[symbol_id]
        if self._meanings.setdefault(symbol_id, meaning) != meaning:
            self._meanings[symbol_id] = meaning
            row["newest_ns"] = row["count"] = 0
        return int(row["newest_ns"]), int(row["count"])

    def adopt(self, ticks: TickArray, earliest_ns: int) -> None:
        """Begin where a predecessor has ended; call it before the first subscription.

        Args:
            ticks: shape (n,), TICK_DTYPE: what it has published.
            earliest_ns: a symbol whose newest tick is older, UTC ns, begins anew: what came since is too much.
        """
        events = ticks[(ticks["flags"] & _NO_EVENT == 0) & (ticks["ts_event_ns"] >= earliest_ns)]
        for symbol_id in np.unique(events["symbol"]):
            stamps = events["ts_event_ns"][events["symbol"] == symbol_id]
            row = self._symbols[symbol_id]
            row["newest_ns"] = stamps.max()
            row["count"] = np.count_nonzero(stamps == stamps.max())

    def resume_from(self, symbol_id: int, event_ns: int) -> None:
        """As if the newest tick were the last one before this time, UTC ns."""
        self._symbols["newest_ns"][symbol_id], self._symbols["count"][symbol_id] = event_ns, 0

    def begin_session(self) -> None:
        """Counts begin anew; what each symbol's newest tick was is kept."""
        for name in ("received", "refused", "faults", "blanked"):
            self._state[name] = 0

    def process_frames(self, address: int, size: int) -> int:
        """Use up the frames of ticks at the beginning of `size` bytes; see `first` and `sound`. Returns the bytes."""
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
        """Records of this session that have lost their quote to `gate`."""
        return int(self._state["blanked"][0])

    @property
    def faults(self) -> TickFault:
        """Everything that was wrong with refused records of this session."""
        return TickFault(int(self._state["faults"][0]))
