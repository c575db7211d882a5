"""Market data for NEXUS: the ticks and newest quotes of all rings in a run folder, by universal symbol name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..shm import host, run_folder
from ..shm.fan_in import FanIn
from ..shm.idle import Backoff, Idle
from ..shm.quotes import QuoteBoard
from ..shm.reader import Start, TickReader
from ..shm.segment import SegmentError
from ..shm.symbols import SymbolDirectory
from ..shm.tick import TickArray, TickFlag

DEAD_AFTER_S: Final = 2.0
"""Without a heartbeat for so long a writer counts as dead, its quotes as stale; it beats about ten times a second."""
_DEAD_AFTER_NS: Final = int(DEAD_AFTER_S * 1e9)
REFRESH_EVERY_S: Final = 1.0
_STALE: Final = int(TickFlag.STALE)


@dataclass(frozen=True, slots=True)
class Quote:
    """The newest tick of one symbol on one platform, copied.

    Attributes:
        bid, ask, last: quote units; NaN = never seen.
        age_s: time since the adapter published it, or since it was marked stale.
        is_stale: its adapter marked it so, or is dead, hangs or was closed. A quote in a quiet market is not stale; its
            `age_s` grows.
    """

    symbol: str
    platform: str
    bid: float
    ask: float
    last: float
    bid_size: float
    ask_size: float
    last_size: float
    ts_event_ns: int
    ts_recv_ns: int
    age_s: float
    is_stale: bool


@dataclass(frozen=True, slots=True)
class BestQuote:
    """Highest bid and lowest offer across platforms; None where no live platform has one. `spread` can be negative."""

    symbol: str
    bid: Quote | None
    offer: Quote | None

    @property
    def spread(self) -> float | None:
        """Offer minus bid in quote units, None when a side is missing."""
        if self.bid is None or self.offer is None:
            return None
        return self.offer.ask - self.bid.bid


class MarketView:
    """Attaches to the rings of a run folder and reads them; to be used by one thread of NEXUS.

    It cannot slow, block or damage an adapter. `refresh`, which `wait` calls about once a second, attaches rings that
    appear later or are recreated.

    Attributes:
        unknown_losses: how often the file of a ring was damaged, so that it is not known how many records in it were
            unread; these are not in `lost`.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        symbols: Iterable[str] | None = None,
        platforms: Sequence[str] | None = None,
        reader: str = "nexus",
        start: Start = "new",
        idle: Idle | None = None,
    ) -> None:
        """
        Args:
            folder: run folder; None = this user's default one.
            symbols: universal names wanted from `drain` and `run`; None = all. A name that no process has added yet is
                included as soon as one does.
            platforms: ring names to attach to; None = all.
            reader: name under which the cursors are published (monitoring, full-speed replay).
            start: where to begin in the rings that exist now, see `shm.reader.Start`; later ones are read from their
                first record.
        """
        self.folder = host.default_run_folder() if folder is None else folder
        self._symbols = None if symbols is None else tuple(symbols)
        self._platforms = platforms
        self._reader_name = reader
        self._start: Start = start
        self._latency = 0
        self._idle = Backoff() if idle is None else idle
        self._readers: dict[str, TickReader] = {}
        self._boards: dict[str, QuoteBoard] = {}
        self._directory: SymbolDirectory | None = None
        self._directory_size = 0
        # Rings published under ids of a directory that was lost, by name: `created_ns` of each. Never attached again.
        self._outdated: dict[str, int] = {}
        self._fan_in = FanIn([])
        self._compiled: set[Callable[[Any, Any], Any]] = set()
        self._detached_read = self._detached_lost = self._detached_torn = 0
        self.unknown_losses = 0
        self._next_refresh_s = 0.0
        self.refresh()
        # A ring that appears or is recreated from now on has only unread records: "new" would skip them uncounted.
        self._start = "first"
        host.release_code_pages("libllvmlite")  # the kernels are loaded: free the compiler's memory

    def refresh(self) -> None:
        """Attach to new and recreated rings, and include new symbols; some 50 us when nothing changed."""
        self._next_refresh_s = time.monotonic() + REFRESH_EVERY_S
        changed = self._follow_directory()
        # Without a directory no id has a name. After a loss the rings still there belong to the lost one.
        if self._directory is not None or not self._outdated:
            names = run_folder.ring_names(self.folder) if self._platforms is None else self._platforms
            for name in names:
                changed |= self._attach(name)
        size = 0 if self._directory is None else len(self._directory)
        if changed or (self._symbols is not None and size != self._directory_size):
            self._directory_size = size
            self._fan_in = FanIn(list(self._readers.values()), symbols=self._wanted_ids(), latency=self._latency)

    def latest(self, symbol: str, platform: str | None = None) -> Quote | None:
        """Newest quote of a symbol, from one platform or from all; None when there is none. 4 to 8 us a platform.

        Of all, live quotes go before stale ones: a stale mark has a newer time than the last tick of a quiet market.
        """
        if platform is not None:
            board = self._boards.get(platform)
            return None if board is None else self._quote(symbol, board)
        quotes = self._quotes(symbol)
        return max(quotes, key=lambda quote: (not quote.is_stale, quote.ts_recv_ns), default=None)

    def best(self, symbol: str) -> BestQuote:
        """Highest bid and lowest offer among the platforms that are not stale, each with its own age."""
        live = [quote for quote in self._quotes(symbol) if not quote.is_stale]
        # NaN is not equal to itself: a missing side drops out here.
        bids = [quote for quote in live if quote.bid == quote.bid]
        offers = [quote for quote in live if quote.ask == quote.ask]
        return BestQuote(
            symbol,
            max(bids, key=lambda quote: quote.bid, default=None),
            min(offers, key=lambda quote: quote.ask, default=None),
        )

    def drain(self, out: TickArray) -> int:
        """`FanIn.drain`: copy the next records of all rings into `out`, ordered by publication; never waits."""
        return self._fan_in.drain(out)

    def run(self, kernel: Callable[[Any, Any], Any], state: Any, limit: int = 1 << 62) -> int:
        """`FanIn.run`: your `@njit` `kernel(tick, state)` on each waiting record in place; never waits."""
        handled = self._fan_in.run(kernel, state, limit)
        if kernel not in self._compiled:
            self._compiled.add(kernel)
            host.release_code_pages("libllvmlite")  # the compiler was loaded again for this kernel
        return handled

    def measure_latency(self, histogram: int) -> None:
        """Record the times from publication to delivery, in ns, of all ticks that `drain` and `run` deliver.

        Args:
            histogram: its address, from `CountersPage.histogram_address`; 0 = stop.
        """
        self._latency = self._fan_in.latency = histogram

    def wait(self, timeout_s: float) -> bool:
        """Block until a record can be read (True) or `timeout_s` has passed (False), with the chosen idle strategy."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            # Inside the loop: the awaited record may come in a ring that appears or is recreated meanwhile.
            self.refresh_if_due()
            left_s = deadline_s - time.monotonic()
            if self.watch(min(left_s, REFRESH_EVERY_S)):
                return True
            if left_s <= REFRESH_EVERY_S:
                return False

    def refresh_if_due(self) -> None:
        """`refresh`, at most about once a second."""
        if time.monotonic() >= self._next_refresh_s:
            self.refresh()

    def watch(self, timeout_s: float) -> bool:
        """`wait` without `refresh`. It changes nothing, so another thread may call it; True can be premature."""
        return self._fan_in.wait(self._idle, timeout_s)

    def symbol_id(self, symbol: str) -> int | None:
        """Id in the `symbol` field of ticks; None when no process has added the name yet."""
        return None if self._directory is None else self._directory.id_of(symbol)

    @property
    def directory(self) -> SymbolDirectory | None:
        """Names, contracts and tick sizes by id; None until a process has created it."""
        return self._directory

    @property
    def platforms(self) -> list[str]:
        """Names of the rings attached to."""
        return list(self._readers)

    @property
    def read(self) -> int:
        """Records read from all rings since this object was made."""
        return self._fan_in.read + self._detached_read

    @property
    def lost(self) -> int:
        """Records that were overwritten, or left in a ring that was recreated, before they were read."""
        return self._fan_in.lost + self._detached_lost

    @property
    def torn(self) -> int:
        """Of the lost ones, those overwritten while `run` used them: drop a kernel state that was given one."""
        return self._fan_in.torn + self._detached_torn

    def close(self) -> None:
        """Remove the published cursors."""
        self._fan_in.close()

    def _follow_directory(self) -> bool:
        """Attach to the directory that the folder has now, and let go of rings of an earlier one; returns whether
        anything changed. Looked up by new ids in an old ring, a name would get another symbol's price.
        """
        changed = False
        if self._directory is not None and self._directory.is_replaced():
            # A directory is recreated only when no writer is left: each attached ring was published under the old ids.
            for name, reader in list(self._readers.items()):
                self._outdated[name] = reader.created_ns
                self._detach(name)
            self._directory = None
            changed = True
        if self._directory is None:
            try:
                self._directory = SymbolDirectory.attach(self.folder)
            except SegmentError:
                return changed  # the new one is not there yet; the next refresh looks again
            changed = True
            # Attached while there was no directory, and removed before this one was made.
            for name in [name for name, reader in self._readers.items() if reader.is_replaced()]:
                self._detach(name)
        return changed

    def _attach(self, name: str) -> bool:
        reader = self._readers.get(name)
        is_known = reader is not None and not reader.is_replaced()
        if is_known and not self._boards[name].is_replaced():
            return False
        try:
            # The board first: if it failed after the reader, the reader's cursor would stay, and a full-speed replay
            # would wait for it forever.
            board = QuoteBoard(self.folder, name)
            if is_known:
                self._boards[name] = board
                return False
            fresh = TickReader(self.folder, name, start=self._start, cursor=self._reader_name)
        except (SegmentError, FileNotFoundError):
            return False  # not there yet, or the folder has just gone; the next refresh looks again
        if self._outdated.get(name) == fresh.created_ns:
            fresh.close()
            return False
        if reader is not None:
            self._detach(name)
        self._readers[name] = fresh
        self._boards[name] = board
        return True

    def _detach(self, name: str) -> None:
        reader = self._readers.pop(name)
        del self._boards[name]
        self._detached_read += reader.read
        # Its unread records belong to an earlier run: they are not delivered, but counted as lost.
        unread = reader.unread()
        self._detached_lost += reader.lost + (unread or 0)
        self.unknown_losses += unread is None
        self._detached_torn += reader.torn
        reader.close()

    def _wanted_ids(self) -> list[int] | None:
        if self._symbols is None:
            return None
        ids = [self.symbol_id(name) for name in self._symbols]
        return [symbol_id for symbol_id in ids if symbol_id is not None]

    def _quotes(self, symbol: str) -> list[Quote]:
        quotes = [self._quote(symbol, board) for board in self._boards.values()]
        return [quote for quote in quotes if quote is not None]

    def _quote(self, symbol: str, board: QuoteBoard) -> Quote | None:
        symbol_id = self.symbol_id(symbol)
        record = None if symbol_id is None or symbol_id >= board.rows else board.latest(symbol_id)
        if record is None:
            return None
        # As plain Python values in one step: each field taken from numpy's record costs 0.2 us, a flag's test 4 us.
        _, ts_event_ns, ts_recv_ns, bid, ask, last, bid_size, ask_size, last_size, _, _, flags = record.item()
        # abs: a heartbeat from before a reboot lies in the future, and would make a dead writer look alive.
        is_silent = abs(board.heartbeat_age_ns()) > _DEAD_AFTER_NS
        is_stale = flags & _STALE != 0 or is_silent or board.is_closed()
        age_s = max(time.time_ns() - ts_recv_ns, 0) / 1e9  # not below 0 when the clock stepped back
        return Quote(
            *(symbol, board.name, bid, ask, last, bid_size, ask_size, last_size),
            *(ts_event_ns, ts_recv_ns, age_s, is_stale),
        )
