"""Read ticks from the terminal's history without loss or duplicates, and convert them to records."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import numpy as np

from .constants import (
    ASK,
    BID,
    BUYER,
    COPY_TICKS_ALL,
    FIRST_COUNT,
    LAG_MS,
    MOST_COUNT,
    MS_PER_S,
    NS_PER_MS,
    RECORD,
    ROW,
    SELLER,
    SNAPSHOT,
    TICK_FLAG_ASK,
    TICK_FLAG_BID,
    TICK_FLAG_BUY,
    TICK_FLAG_LAST,
    TICK_FLAG_SELL,
    TICK_FLAG_VOLUME,
    TRADE,
    WAIT_S,
    WARM_UP_LIMIT_MS,
)
from .fields import Body
from .server_clock import MINUTE_MS, ClockGauge, ServerClock
from .terminal import Terminal

Rows = Any
"""An array of ROW, or of RECORD once converted; shape (n,)."""
HOLE = "ticks are others than before at the place to go on at: there may be a hole"


class TickCursor:
    """Read position in one symbol's history: no row is skipped, none is returned twice.

    The terminal returns rows from a whole second on; many rows share a millisecond, and they have no sequence numbers.
    So the second of the newest row is read again each time, and the rows already taken must be the first ones in it.

    Attributes:
        second: read from here on, whole seconds of the server's clock.
        count: how many rows to ask for.
        late: count of rows that appeared before rows already taken; not sent, since ticks are sent in order.
        missing: count of taken rows that the history does not show at the moment.
        is_behind: more rows can be read at once.
        is_warm: the history was read once; the first read may take long.
    """

    def __init__(self, after_ms: int, after_count: int | None) -> None:
        """`after_count`: number of rows at exactly `after_ms` that were taken; None = all."""
        self.second = max(after_ms // MS_PER_S, 1)
        self.count = FIRST_COUNT
        self.late = 0
        self.missing = 0
        self.is_behind = False
        self.is_warm = False
        self._after_ms = after_ms
        self._after_count = after_count
        self._known: Rows | None = None

    @property
    def newest_ms(self) -> int:
        """Time stamp of the newest row taken, or of the position to resume at; server's clock."""
        known = self._known
        return self._after_ms if known is None or not len(known) else int(known["time_msc"][-1])

    @property
    def has_begun(self) -> bool:
        """Whether the position to resume at was found, or is known to be missing."""
        return self._known is not None

    def begin(self, rows: Rows) -> bool | None:
        """Find the position to resume at in the first rows read.

        Returns:
            True: found. False: it is missing, so ticks may be lost. None: not in these rows; read again, at once with
            the larger `count` when `is_behind`, else later: a terminal that has just started loads its history slowly.
        """
        stamps = rows["time_msc"]
        newest_ms = int(stamps[-1]) if len(rows) else 0
        before = int(np.searchsorted(stamps, self._after_ms, "left"))
        equal = int(np.searchsorted(stamps, self._after_ms, "right")) - before
        wanted = equal if self._after_count is None else self._after_count
        self.is_behind = len(rows) >= self.count and newest_ms <= self._after_ms
        if self.is_behind:
            self.count *= 2
        if self.is_behind or newest_ms < self._after_ms or (newest_ms == self._after_ms and equal < wanted):
            return None
        self._known = rows[: before + min(equal, wanted)].copy()
        return equal >= wanted

    def take(self, rows: Rows) -> Rows:
        """The new ones among the rows read since `second`; they count as taken from now on."""
        known = self._known
        assert known is not None, "begin comes first"
        size = len(known)
        full = len(rows) >= self.count
        if len(rows) >= size and np.array_equal(rows[:size].view(np.uint8), known.view(np.uint8)):
            self.missing = 0
            fresh = rows[size:]
        else:
            fresh, rows = self._take_changed(rows, known)
        self.is_behind = full
        if len(rows) > size or full:
            self._advance(rows, full)
        return fresh

    def _advance(self, rows: Rows, full: bool) -> None:
        """Move on to the second of the newest row. `rows`: all rows taken since `second`."""
        stamps = rows["time_msc"]
        second = int(stamps[-1]) // MS_PER_S
        if full and (second == self.second or self.count < MOST_COUNT):
            self.count *= 2
        start = int(np.searchsorted(stamps, second * MS_PER_S, "left"))
        self.second = second
        self._known = rows[start:].copy()

    def _take_changed(self, rows: Rows, known: Rows) -> tuple[Rows, Rows]:
        """Find new rows one by one, when the rows already taken are not the first ones read.

        Returns:
            The new rows; and all rows taken, including those missing now: they may reappear, and must not count as
            new then.
        """
        shown = Counter(row.tobytes() for row in rows)
        is_missing = np.zeros(len(known), bool)
        for i, row in enumerate(known):
            key = row.tobytes()
            is_missing[i] = shown[key] == 0
            shown[key] -= not is_missing[i]
        newest_ms = int(known["time_msc"][-1])
        is_fresh = np.zeros(len(rows), bool)
        # From the end: among equal rows the first ones are those already taken.
        for i in range(len(rows) - 1, -1, -1):
            key = rows[i].tobytes()
            if shown[key] > 0:
                shown[key] -= 1
                is_fresh[i] = int(rows["time_msc"][i]) >= newest_ms
                self.late += not is_fresh[i]
        self.missing = int(np.count_nonzero(is_missing))
        taken = np.concatenate([rows, known[is_missing]])
        return rows[is_fresh], taken[np.argsort(taken["time_msc"], kind="stable")]


class QuoteGate:
    """Replaces invalid quotes (crossed, or outside the hours) by NaN, and counts them in `gated`."""

    def __init__(self, gate_locked: bool, hours: tuple[int, int] | None) -> None:
        self.gated = 0
        self._gate_locked = gate_locked
        self._hours = hours

    def apply(self, records: Rows, server_ms: Rows) -> None:
        """Change records in place; `server_ms`: their time stamps, server's clock."""
        bid, ask = records["bid"], records["ask"]
        bad = bid >= ask if self._gate_locked else bid > ask
        if self._hours is not None:
            first, last = self._hours
            minute = server_ms // MINUTE_MS % (24 * 60)
            is_open = (minute >= first) & (minute < last)
            if first > last:
                is_open = (minute >= first) | (minute < last)
            bad = bad | (~is_open & ~(np.isnan(bid) & np.isnan(ask)))
        count = int(np.count_nonzero(bad))
        if count:
            self.gated += count
            records["bid"][bad] = math.nan
            records["ask"][bad] = math.nan


def _price(column: Rows) -> Rows:
    """Prices with the terminal's 0, which means none, replaced by NaN."""
    return np.where((column == 0) | ~np.isfinite(column), math.nan, column)


def make_records(rows: Rows, symbol_id: int, clock: ServerClock, gate: QuoteGate) -> Rows:
    """Convert rows to records, one each. Only documented flags are used; feeds set others, too."""
    records = np.zeros(len(rows), RECORD)
    if not len(rows):
        return records
    records["ts_event_ns"] = clock.all_to_utc_ms(rows["time_msc"]) * NS_PER_MS
    for name in ("bid", "ask", "last"):
        records[name] = _price(rows[name])
    real = rows["volume_real"]
    records["last_size"] = np.where(np.isfinite(real) & (real > 0), real, rows["volume"].astype(np.float64))
    flags = rows["flags"]
    traded = (flags & (TICK_FLAG_LAST | TICK_FLAG_VOLUME | TICK_FLAG_BUY | TICK_FLAG_SELL) != 0) & ~np.isnan(
        records["last"]
    )
    bought, sold = flags & TICK_FLAG_BUY != 0, flags & TICK_FLAG_SELL != 0
    records["flags"] = (
        np.where(flags & TICK_FLAG_BID != 0, BID, 0)
        | np.where(flags & TICK_FLAG_ASK != 0, ASK, 0)
        | np.where(traded, TRADE, 0)
        # Both flags at once: the exchange does not publish the side of the trade.
        | np.where(traded & bought & ~sold, BUYER, 0)
        | np.where(traded & sold & ~bought, SELLER, 0)
    ).astype(np.uint8)
    records["symbol"] = symbol_id
    gate.apply(records, rows["time_msc"])
    return records


def make_state(tick: Any, symbol_id: int, clock: ServerClock, gate: QuoteGate) -> Rows:
    """Convert a Tick to one record with flag SNAPSHOT, the symbol's current state."""
    records = make_records(np.array([tuple(tick)], ROW), symbol_id, clock, gate)
    records["flags"] = SNAPSHOT
    return records


class Stream:
    """One subscribed symbol. `cursor` is None before its first tick, and while ticks are not read (clock, role)."""

    def __init__(self, wanted: Body, cursor: TickCursor | None) -> None:
        self.symbol_id: int = wanted["symbol_id"]
        self.symbol: str = wanted["symbol"]
        self.name: str = wanted["platform_symbol"]
        self.after: tuple[int, int] = (wanted["after_ns"], wanted["after_count"])
        self.cursor = cursor
        self.due_s = 0.0
        self.newest_ms = 0
        self.late_reported = 0
        self.lagging = 0
        self.missing_since_s = math.inf
        self.has_hole = False
        self.trouble = ""


class TickReader:
    """Reads new ticks of the subscribed symbols."""

    def __init__(
        self, terminal: Terminal, clock: ServerClock, gauge: ClockGauge, gate: QuoteGate, poll_s: float
    ) -> None:
        self._terminal = terminal
        self._clock = clock
        self._gauge = gauge
        self._gate = gate
        self._poll_s = poll_s

    def begin(self, wanted: Body) -> tuple[TickCursor | None, bool, str]:
        """Cursor for a symbol that was just opened; whether it resumes where the adapter asks; if not, why.

        While the terminal does not show that position (it has just started, or fails), the cursor stays there, and
        `poll` resumes once it is shown: any other position would lose or repeat ticks.
        """
        tick = self._terminal.call("symbol_info_tick", wanted["platform_symbol"])
        newest_ms = 0 if tick is None else int(tick.time_msc)
        if wanted["after_ns"] == 0:
            return (TickCursor(newest_ms, None) if newest_ms else None), False, ""
        cursor = self._cursor_after(wanted["after_ns"], wanted["after_count"])
        after_ms = cursor.newest_ms
        if newest_ms < after_ms:
            return cursor, False, f"the newest tick is of {newest_ms}, ticks go on once there are some after {after_ms}"
        while True:
            rows = self._read(wanted["platform_symbol"], cursor)
            if rows is None:
                return cursor, False, f"no history yet: {self._terminal.error[1]}"
            found = cursor.begin(rows)
            if found is None and not cursor.is_behind:
                return cursor, False, f"the history does not reach {after_ms} yet"
            if found is not None:
                return cursor, found, "" if found else HOLE

    def state(self, stream: Stream) -> Rows | None:
        """The symbol's current state as one record, None before its first tick. Raises TerminalLost."""
        tick = self._terminal.call("symbol_info_tick", stream.name)
        if tick is None or not tick.time_msc:
            return None
        return make_state(tick, stream.symbol_id, self._clock, self._gate)

    def lags(self, stream: Stream) -> bool:
        """Whether the symbol's quote is more than LAG_MS newer than its history. Raises TerminalLost."""
        cursor = stream.cursor
        if cursor is None or cursor.is_behind:
            return False
        tick = self._terminal.call("symbol_info_tick", stream.name)
        return tick is not None and int(tick.time_msc) > cursor.newest_ms + LAG_MS

    def poll(self, stream: Stream, now_s: float) -> Rows | None:
        """New records, None when there are none; sets when the stream is due next. Raises TerminalLost."""
        cursor = stream.cursor
        if cursor is None and stream.after[0]:
            # It was subscribed before the server's clock was known.
            cursor = stream.cursor = self._cursor_after(*stream.after)
        if cursor is None:
            stream.due_s = now_s + max(self._poll_s, WAIT_S)
            tick = self._terminal.call("symbol_info_tick", stream.name)
            if tick is None or not tick.time_msc:
                return None
            # The first tick ever: everything in its second is new.
            cursor = stream.cursor = TickCursor(int(tick.time_msc) // MS_PER_S * MS_PER_S - 1, None)
        rows = self._read(stream.name, cursor)
        spent_s = time.monotonic() - now_s
        # Ticks take at most half of the loop's time; the rest is for orders and the sockets.
        stream.due_s = now_s + spent_s + max(self._poll_s, spent_s)
        if rows is None:
            stream.trouble = f"{self._terminal.error[1]} ({self._terminal.error[0]})"
            stream.due_s += 0.25
            return None
        stream.trouble = ""
        if not cursor.has_begun:
            found = cursor.begin(rows)
            if found is None:
                stream.due_s = now_s if cursor.is_behind else stream.due_s + WAIT_S
                return None
            stream.has_hole = not found
        was_live = not cursor.is_behind
        fresh = cursor.take(rows)
        stream.missing_since_s = min(stream.missing_since_s, now_s) if cursor.missing else math.inf
        if cursor.is_behind:
            stream.due_s = now_s
        if not len(fresh):
            return None
        if was_live and not cursor.is_behind:
            self._gauge.add(int(fresh["time_msc"][-1]), time.time_ns() // NS_PER_MS)
        return make_records(fresh, stream.symbol_id, self._clock, self._gate)

    def _cursor_after(self, after_ns: int, after_count: int) -> TickCursor:
        return TickCursor(self._clock.to_server_ms(after_ns // NS_PER_MS), after_count)

    def _read(self, name: str, cursor: TickCursor) -> Rows | None:
        if not cursor.is_warm:
            self._terminal.announce(WARM_UP_LIMIT_MS, "copy_ticks_from")
        rows = self._terminal.call("copy_ticks_from", name, cursor.second, cursor.count, COPY_TICKS_ALL)
        cursor.is_warm = rows is not None
        return None if rows is None else np.ascontiguousarray(rows, ROW)
