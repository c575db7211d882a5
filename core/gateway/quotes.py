"""The newest quote of a symbol on a platform, and when its adapter last vouched for it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec import Struct

from ...shm.quotes import QuoteBoard
from ...shm.segment import SegmentError
from ...shm.symbols import SymbolDirectory
from ...shm.tick import TickFlag
from ..instruments.price_grid import decimal_of_float
from ..instruments.refusals import InstrumentRefused

DEAD_AFTER_NS: Final = 2_000_000_000
"""A writer without a heartbeat for this long counts as dead, and its quotes age; it beats about ten times a second."""


class BoardQuote(Struct, frozen=True):
    """Bid and ask in quote units, None = never seen. `true_ns`: when its adapter last vouched for it, UTC ns; 0 when
    the adapter has marked it as stale.

    While the adapter lives it vouches for each quote that it has not marked as stale, however old: a quiet market has
    no new quotes.
    """

    bid: Decimal | None
    ask: Decimal | None
    true_ns: int


class QuoteBoards:
    """The boards of a run folder's platforms. The gateway's thread reads them; call `refresh` about once a second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boards: dict[str, QuoteBoard] = {}
        self._directory: SymbolDirectory | None = None

    def refresh(self, platforms: list[str]) -> None:
        """Attach to new and replaced boards; one that does not exist yet is tried again at the next call."""
        try:
            if self._directory is None or self._directory.is_replaced():
                self._directory = SymbolDirectory.attach(self._folder)
        except SegmentError:
            self._directory = None
        for platform in platforms:
            board = self._boards.get(platform)
            try:
                if board is None or board.is_replaced():
                    self._boards[platform] = QuoteBoard(self._folder, platform)
            except SegmentError:
                self._boards.pop(platform, None)

    def contract(self, symbol: str) -> str:
        """Return a universal symbol's current contract from the symbol directory; empty when it has none, or when its
        entry was written only in part (`LiveContracts` mends it).
        """
        symbol_id = None if self._directory is None else self._directory.id_of(symbol)
        try:
            return "" if symbol_id is None or self._directory is None else self._directory.entry(symbol_id).contract
        except RuntimeError:
            return ""

    def latest(self, platform: str, symbol: str, now_ns: int) -> BoardQuote | None:
        """Return the newest quote; None when the platform has never had one."""
        board = self._boards.get(platform)
        symbol_id = None if self._directory is None else self._directory.id_of(symbol)
        if board is None or symbol_id is None or symbol_id >= board.rows:
            return None
        record = board.latest(symbol_id)
        if record is None:
            return None
        beat_age_ns = board.heartbeat_age_ns()
        true_ns = int(record["ts_recv_ns"])
        if record["flags"] & TickFlag.STALE:
            # The adapter published this record to say that the quote no longer holds.
            true_ns = 0
        elif beat_age_ns <= DEAD_AFTER_NS and not board.is_closed():
            true_ns = max(true_ns, now_ns - beat_age_ns)
        return BoardQuote(_price(float(record["bid"])), _price(float(record["ask"])), true_ns)


def _price(value: float) -> Decimal | None:
    try:
        return decimal_of_float(value)
    except InstrumentRefused:
        return None
