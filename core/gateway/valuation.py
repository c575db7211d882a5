"""Which markets the engine is given from time to time: those of open legs, and those of all that an account holds.

Legs are valued with them. Of a position without a leg (a person's, or one that was adopted) the engine only has to know
whether its market trades, so that `kill` leaves its stop alone while it cannot be closed: that changes twice a day, and
each context is an event of the journal.
"""

from __future__ import annotations

from typing import Final

from ...shm.durations import NS_PER_S
from ..engine import EngineState
from ..risk import MarketContext
from .inbox import Inbox

_POSITION_NS: Final = 60 * NS_PER_S
"""Between two contexts of a position without legs, while its session does not change."""
_Place = tuple[str, str]  # route and symbol


class Valuation:
    """Used by the gateway's thread."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._given: dict[_Place, tuple[bool, int, int]] = {}  # session_open, session_change_ns, when: steady ns

    def due(
        self, state: EngineState, wall_ns: int, steady_ns: int, *, always: bool = False
    ) -> tuple[MarketContext, ...]:
        """Return the contexts to give to the engine now; empty while nothing is held. `always`: those of positions too,
        whenever they were given last.
        """
        legs = (leg for signal_id in state.active for leg in state.signals[signal_id].legs)
        of_legs = dict.fromkeys((leg.route, leg.symbol) for leg in legs if leg.open)
        others: dict[_Place, None] = {}
        for name, route in state.routes.items():
            for symbol, position in route.positions.items():
                if position.net and (name, symbol) not in of_legs:
                    others[name, symbol] = None
        found = list(self._inbox.contexts_at(of_legs, wall_ns))
        for place in others:
            for context in self._inbox.contexts_at((place,), wall_ns):
                if always or self._is_due(place, context, steady_ns):
                    self._given[place] = (context.session_open, context.session_change_ns, steady_ns)
                    found.append(context)
        self._given = {place: given for place, given in self._given.items() if place in others}
        return tuple(found)

    def _is_due(self, place: _Place, context: MarketContext, steady_ns: int) -> bool:
        given = self._given.get(place)
        return (
            given is None
            or given[:2] != (context.session_open, context.session_change_ns)
            or steady_ns - given[2] >= _POSITION_NS
        )
