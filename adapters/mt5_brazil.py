"""MetaTrader 5 at a Brazilian broker: futures of B3, traded at the exchange, on an account in reais.

A universal symbol is subscribed as the contract in front ("WIN" -> "WINZ26"), as the gateway has decided for all
platforms; a continuous series ("WIN$") is refused, for it cannot be traded and has no quotes. An order that the
exchange has taken (PLACED) has no fill yet: fills come as deals, later, in the bridge's own events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..core.instruments.catalog import load_catalog
from ..core.instruments.sessions import load_sessions
from ..shm.symbols import Symbol
from .bridge.quote_hours import QuoteHours
from .bridge.settings import BridgeSettings
from .mt5.adapter import Mt5Adapter
from .mt5.settings import Mt5BrazilSettings


class Mt5BrazilAdapter(Mt5Adapter):
    """Crossed quotes and those of closed hours do not reach the ring (counted: `bridge_quotes_gated`); trades do."""

    SETTINGS: ClassVar[type[BridgeSettings]] = Mt5BrazilSettings
    settings: Mt5BrazilSettings
    _hours: QuoteHours | None = None

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        if self._hours is None:
            self._hours = QuoteHours(
                self._intake,
                self.catalog or load_catalog(),
                self.sessions or load_sessions(),
                keep_closed=self.settings.quotes_outside_session,
            )
        self._hours.follow(symbols)
        super().subscribe(symbols)

    def _turn(self) -> int:
        if self._hours is not None:
            self._hours.turn()
        return super()._turn()
