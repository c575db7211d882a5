"""Gates that keep untradable quotes out of the ring: crossed ones, and those of a market's closed hours.

Once the market is shut, feeds of B3 show crossed quotes, far from the last price. The kernel judges each tick by its
own time, so that ticks caught up after a pause are judged by the hour in which they happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from ...core.instruments.catalog import Catalog, Instrument
from ...core.instruments.contract_code import parse_code
from ...core.instruments.sessions import Sessions
from ...shm.durations import NS_PER_S
from ...shm.symbols import Symbol
from .ticks import TickIntake

_A_MOMENT: Final = timedelta(seconds=1)
_LOOK_BACK_DAYS: Final = 22
_NEVER_NS: Final = 1 << 62


class QuoteHours:
    """The gates of one adapter's symbols. Used by the adapter's thread.

    Call `gate_symbols` before each subscription and `turn` in every iteration (about 100 ns while no market opens or
    closes).
    """

    def __init__(
        self,
        intake: TickIntake,
        catalog: Catalog,
        sessions: Sessions,
        *,
        keep_closed: bool = False,
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`keep_closed`: let quotes of closed hours pass; crossed ones are still removed."""
        self._intake = intake
        self._catalog = catalog
        self._sessions = sessions
        self._keep_closed = keep_closed
        self._utc_ns = utc_ns
        self._symbols: tuple[Symbol, ...] = ()
        self._since_ns = self._until_ns = 0

    def gate_symbols(self, symbols: Sequence[Symbol]) -> None:
        """Set the gates of these symbols."""
        self._symbols = tuple(symbols)
        self._set_gates()

    def turn(self) -> None:
        """Set the gates again when a market has opened or closed, or the clock was set back."""
        if not self._since_ns <= self._utc_ns() < self._until_ns:
            self._set_gates()

    def _set_gates(self) -> None:
        self._since_ns = self._utc_ns()
        now = datetime.fromtimestamp(self._since_ns / NS_PER_S, UTC)
        self._until_ns = _NEVER_NS
        for symbol in self._symbols:
            market = self._market(symbol)
            if market is None or self._keep_closed:
                self._intake.gate(symbol.id, 0, 0, _NEVER_NS)
                continue
            closed, opened, closes = self._hours(market, now)
            self._intake.gate(symbol.id, closed, opened, closes)
            self._until_ns = min(self._until_ns, closes)

    def _market(self, symbol: Symbol) -> Instrument | None:
        contract = parse_code(symbol.contract)
        return self._catalog.get(symbol.name if contract is None else contract.root)

    def _hours(self, market: Instrument, now: datetime) -> tuple[int, int, int]:
        """Return the last close, the opening after it, and the close after that; while shut, the opening is ahead."""
        closes = self._sessions.next_close(market, now)
        day = self._sessions.session_day(market, closes - _A_MOMENT)  # the close itself may be the next day's
        opened = max(
            (each.open for each in self._sessions.intervals(market, day) if each.open < closes),
            default=closes,
        )
        closed = self._last_close(market, day, opened)
        return _to_ns(closed), _to_ns(opened), _to_ns(closes)

    def _last_close(self, market: Instrument, day: date, before: datetime) -> datetime:
        for offset in range(_LOOK_BACK_DAYS):
            ends = [each.close for each in self._sessions.intervals(market, day - timedelta(days=offset))]
            earlier = [each for each in ends if each <= before]
            if earlier:
                return max(earlier)
        return before


def _to_ns(at: datetime) -> int:
    return int(at.timestamp()) * NS_PER_S
