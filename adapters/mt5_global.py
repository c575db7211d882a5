"""MetaTrader 5 at a global broker: CFDs and currency pairs under the broker's own names."""

from __future__ import annotations

from typing import ClassVar

from ..shm.symbols import Symbol
from .bridge.settings import BridgeSettings
from .mt5.adapter import Mt5Adapter
from .mt5.settings import Mt5GlobalSettings


class Mt5GlobalAdapter(Mt5Adapter):
    """Names: `settings.names`, else the symbol mappings' with `settings.suffix` behind it ("US500" -> "US500.cash")."""

    SETTINGS: ClassVar[type[BridgeSettings]] = Mt5GlobalSettings
    settings: Mt5GlobalSettings

    def _mapped_name(self, symbol: Symbol) -> str:
        name = super()._mapped_name(symbol)
        # A future has its exchange's name at every broker.
        return name if symbol.contract else name + self.settings.suffix
