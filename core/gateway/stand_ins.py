"""Instruments that are traded in another's place: one signal of NQ is the future on most platforms, and NAS100 on MT5.

Towards NEXUS, in the engine and in the limits it is NQ everywhere; towards that platform it is NAS100. So that a
position there has one name, an instrument stands for one root only: the first that symbol_mappings.json lists for it.
"""

from __future__ import annotations

from msgspec import structs

from ..config import GatewayConfig
from ..messages import Account, Cancel, Correction, Fill, Order, OrderUpdate, Reject, Replace, Snapshot, SnapshotRequest

_FromAdapter = OrderUpdate | Fill | Correction | Reject | Snapshot | Account
_ToAdapter = Order | Cancel | Replace | SnapshotRequest


class StandIns:
    """Immutable; pure."""

    def __init__(self, config: GatewayConfig) -> None:
        self._traded: dict[str, dict[str, str]] = {}
        self._root: dict[str, dict[str, str]] = {}
        for name, platform in config.platforms.items():
            traded, root = self._traded.setdefault(name, {}), self._root.setdefault(name, {})
            for symbol, instrument in config.stand_ins.get(name, {}).items():
                # A platform that has the future itself needs nothing in its place.
                if symbol not in platform.symbols and instrument in platform.symbols and instrument not in root:
                    traded[symbol], root[instrument] = instrument, symbol

    def traded(self, platform: str, symbol: str) -> str:
        """The instrument that an order of a universal symbol trades on a platform."""
        return self._traded.get(platform, {}).get(symbol, symbol)

    def root(self, platform: str, instrument: str) -> str:
        """The universal symbol under which a platform's instrument is known here."""
        return self._root.get(platform, {}).get(instrument, instrument)

    def outward(self, message: _ToAdapter) -> _ToAdapter:
        """A command in the platform's own terms."""
        if isinstance(message, SnapshotRequest):
            return message
        instrument = self.traded(message.platform, message.symbol)
        return message if instrument == message.symbol else structs.replace(message, symbol=instrument)

    def inward(self, message: _FromAdapter) -> _FromAdapter:
        """What an adapter says, in universal terms."""
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
