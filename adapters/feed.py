"""An adapter's ticks on their way to its ring and quote board: published, counted, marked stale on a lost platform."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ..shm.counters import CountersPage
from ..shm.reader import TickReader
from ..shm.symbols import Symbol
from ..shm.tick import Platform, TickArray, TickFlag
from ..shm.writer import TickWriter, empty_ticks

COUNTERS: Final = (
    "ticks_published",
    "last_publish_utc_ns",
    "link_up",
    "connects",
    "connect_failures",
    "links_lost",
    "symbols_subscribed",
    "stale_marks",
    "silences",
    "rolls",
    "ticks_dropped_at_source",
    "decode_errors",
)
"""Counters of every adapter; an adapter may add its own."""

_BEAT_NS: Final = 100_000_000


class TickFeed:
    """Publishes the ticks of one adapter. Used by the adapter's thread.

    Attributes:
        name: of the ring and the process; a platform key for a real platform.
        counters: the counter page of the process.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        platform: Platform,
        counters: CountersPage,
        *,
        capacity: int,
        board_rows: int,
    ) -> None:
        """Raises SegmentInUseError when another live process feeds this ring."""
        self.folder = folder
        self.name = name
        self.platform = platform
        self.counters = counters
        self.writer = TickWriter(folder, name, platform, capacity=capacity, board_rows=board_rows)
        self._next_beat_ns = 0
        self._published = counters.counter("ticks_published")
        self._last_publish = counters.counter("last_publish_utc_ns")
        self._stale_marks = counters.counter("stale_marks")
        self._rolls = counters.counter("rolls")
        # A former process may have died between publishing and counting.
        self._published.set(max(self._published.value, self.ticks_since_start))

    def publish(self, ticks: TickArray, *, stamp: bool = True) -> None:
        """Publish ticks (TICK_DTYPE, contiguous) in order; see `TickWriter.publish`."""
        self.writer.publish(ticks, stamp=stamp)
        self._count(len(ticks))

    def publish_at(self, address: int, count: int, *, stamp: bool = True) -> None:
        """`publish` for ticks at a memory address."""
        self.writer.publish_at(address, count, stamp=stamp)
        self._count(count)

    def mark_stale(self, symbols: Sequence[Symbol]) -> None:
        """Publish each symbol's last tick again with the single flag STALE: it is no longer a live quote.

        Symbols without a tick, and those marked already, are skipped. Where a former process died while writing the
        board's row, the mark carries no prices, since half of the row may be old.
        """
        marks = [mark for mark in map(self._stale_mark, symbols) if mark is not None]
        if not marks:
            return
        ticks = np.concatenate(marks)
        # Counted first, and apart from ticks: after a crash between the two lines the next process would otherwise
        # count this mark as a tick, and a replay would skip one tick too many.
        self._stale_marks.add(len(ticks))
        self.writer.publish(ticks)

    def _stale_mark(self, symbol: Symbol) -> TickArray | None:
        mark = self.writer.board_row(symbol.id)
        if mark["seq"][0] == 0:
            if mark["ts_recv_ns"][0] == 0:
                return None
            mark = empty_ticks(1)
            mark["symbol"], mark["source"], mark["ts_event_ns"] = symbol.id, int(self.platform), time.time_ns()
        elif mark["flags"][0] & TickFlag.STALE:
            return None
        mark["flags"] = int(TickFlag.STALE)
        return mark

    def publish_roll(self, symbol_id: int, contract_id: int | None) -> None:
        """Publish the first tick of a symbol's new contract: its newest quote, flagged ROLL and SNAPSHOT.

        Args:
            contract_id: id under which the new contract was published before the roll. If it is None or has no tick,
                the price is unknown: the record then carries no prices and is flagged STALE.
        """
        if not self.writer.board_row(symbol_id)["seq"][0]:
            return  # this ring has no tick of the old contract: nothing changes for its readers
        tick = empty_ticks(1) if contract_id is None else self.writer.board_row(contract_id)
        flags = TickFlag.ROLL | TickFlag.SNAPSHOT
        if not tick["seq"][0]:
            tick = empty_ticks(1)
            tick["ts_event_ns"] = time.time_ns()
            flags |= TickFlag.STALE
        elif tick["flags"][0] & TickFlag.STALE:
            flags |= TickFlag.STALE
        else:
            flags |= TickFlag.BID | TickFlag.ASK
        tick["symbol"], tick["source"], tick["flags"] = symbol_id, int(self.platform), int(flags)
        self._rolls.add()
        self.writer.publish(tick)

    def read_published(self) -> TickArray:
        """Copy the ring's content, oldest first: the ticks of former processes, as long as this one has sent none."""
        reader = TickReader(self.folder, self.name, start="oldest")
        try:
            ticks = empty_ticks(reader.ready())
            reader.drain(ticks)
        finally:
            reader.close()
        return ticks

    @property
    def ticks_since_start(self) -> int:
        """Market ticks published into this ring by all processes so far, without stale marks and roll records."""
        return self.writer.tail - self._stale_marks.value - self._rolls.value

    def beat(self) -> None:
        """Heartbeat of the ring, by which readers tell a quiet market from a dead adapter.

        Call it in every iteration of the loop; it is written ten times a second at most.
        """
        now_ns = time.monotonic_ns()
        if now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + _BEAT_NS
            self.writer.beat()

    def close(self) -> None:
        """Close the writer; published ticks stay readable."""
        self.writer.close()

    def _count(self, count: int) -> None:
        self._published.add(count)
        self._last_publish.set(time.time_ns())
