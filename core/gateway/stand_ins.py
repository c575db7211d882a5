"""Stand-ins: instruments traded in place of another. A signal for NQ trades the future, but NAS100 on MetaTrader 5.

For NEXUS, the engine and the limits it is NQ everywhere; only messages to and from that platform say NAS100. An
instrument stands in for one root only, the first that symbol_mappings.json lists for it: otherwise a position in it
could not be attributed to one symbol.
"""

from __future__ import annotations

from msgspec import structs

from ..config import GatewayConfig
from ..messages import (
    Account,
    Cancel,
    Correction,
    Fill,
    Flatten,
    Order,
    OrderUpdate,
    Reject,
    Replace,
    Snapshot,
    SnapshotRequest,
)

_FromAdapter = OrderUpdate | Fill | Correction | Reject | Snapshot | Account
_ToAdapter = Order | Cancel | Replace | Flatten | SnapshotRequest


class StandIns:
    """Immutable; pure."""

    def __init__(self, config: GatewayConfig) -> None:
        self._traded: dict[str, dict[str, str]] = {}
        self._root: dict[str, dict[str, str]] = {}
        for name, platform in config.platforms.items():
            traded, root = self._traded.setdefault(name, {}), self._root.setdefault(name, {})
            for symbol, instrument in config.stand_ins.get(name, {}).items():
                # A platform that trades the future itself needs no stand-in.
                if symbol not in platform.symbols and instrument in platform.symbols and instrument not in root:
                    traded[symbol], root[instrument] = instrument, symbol

    def traded(self, platform: str, symbol: str) -> str:
        """Return the instrument that an order for a universal symbol trades on a platform."""
        return self._traded.get(platform, {}).get(symbol, symbol)

    def root(self, platform: str, instrument: str) -> str:
        """Return the universal symbol of a platform's instrument."""
        return self._root.get(platform, {}).get(instrument, instrument)

    def outward(self, message: _ToAdapter) -> _ToAdapter:
        """Return a command with the platform's instrument in place of the universal symbol."""
        if isinstance(message, SnapshotRequest | Flatten):
            return message
        instrument = self.traded(message.platform, message.symbol)
        return message if instrument == message.symbol else structs.replace(message, symbol=instrument)

    def inward(self, message: _FromAdapter) -> _FromAdapter:
        """Return an adapter's message with the universal symbol in place of the platform's instrument."""
        if isinstance(message, OrderUpdate | Fill):
            root = self.root(message.platform, message.symbol)
            return message if root == message.symbol else structs.replace(message, symbol=root)
        if isinstance(message, Snapshot) and self._root.get(message.platform):
            return self._snapshot(message)
        return message

    def _snapshot(self, snapshot: Snapshot) -> Snapshot:
        def rename(symbol: str) -> str:
            return self.root(snapshot.platform, symbol)

        positions = tuple(structs.replace(row, symbol=rename(row.symbol)) for row in snapshot.positions.rows)
        orders = tuple(structs.replace(row, symbol=rename(row.symbol)) for row in snapshot.working_orders.rows)
        fills = tuple(structs.replace(row, symbol=rename(row.symbol)) for row in snapshot.executions.rows)
        return structs.replace(
            snapshot,
            positions=structs.replace(snapshot.positions, rows=positions),
            working_orders=structs.replace(snapshot.working_orders, rows=orders),
            executions=structs.replace(snapshot.executions, rows=fills),
        )
