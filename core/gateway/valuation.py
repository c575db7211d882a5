"""Which markets the engine is given from time to time: those of all that is held, by legs of ours or by others.

Legs are valued with them. Of a position without a leg (a person's, or one that was adopted) the engine only has to know
whether its market trades, so that `kill` leaves its stop alone while it cannot be closed. Each context is an event of
the journal, so one is given when it says something new: its session or contract has changed, the price has moved, or a
minute has passed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct

from ...shm.durations import NS_PER_S
from ..engine import EngineState
from ..risk import MarketContext
from .inbox import Inbox

_REPEAT_NS: Final = 60 * NS_PER_S
"""Between two contexts of a place while nothing of it has changed much."""
_MOVE: Final = Decimal("0.0005")
"""Share of the price that a quote of a leg's market moves by before it is given again ahead of that time."""
_Place = tuple[str, str]  # route and symbol


class _Given(Struct, frozen=True):
    session: tuple[bool, int, str]  # open, when that changes next, contract
    bid: Decimal | None
    ask: Decimal | None
    at_ns: int  # steady


class Valuation:
    """Used by the gateway's thread."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._given: dict[_Place, _Given] = {}

    def due(
        self, state: EngineState, wall_ns: int, steady_ns: int, *, always: bool = False
    ) -> tuple[MarketContext, ...]:
        """Return the contexts to give to the engine now; empty while nothing is held or has changed. `always`: all of
        them, whenever they were given last.
        """
        legs = (leg for signal_id in state.active for leg in state.signals[signal_id].legs)
        places = {(leg.route, leg.symbol): True for leg in legs if leg.open}
        for name, route in state.routes.items():
            for symbol, position in route.positions.items():
                if position.net:
                    places.setdefault((name, symbol), False)
        found = []
        for place, is_leg in places.items():
            for context in self._inbox.contexts_at((place,), wall_ns):
                if always or self._is_due(place, context, steady_ns, is_leg):
                    session = (context.session_open, context.session_change_ns, context.contract)
                    self._given[place] = _Given(session, context.bid, context.ask, steady_ns)
                    found.append(context)
        self._given = {place: given for place, given in self._given.items() if place in places}
        return tuple(found)

    def _is_due(self, place: _Place, context: MarketContext, steady_ns: int, is_leg: bool) -> bool:
        given = self._given.get(place)
        if given is None or steady_ns - given.at_ns >= _REPEAT_NS:
            return True
        if given.session != (context.session_open, context.session_change_ns, context.contract):
            return True
        return is_leg and (_has_moved(given.bid, context.bid) or _has_moved(given.ask, context.ask))


def _has_moved(before: Decimal | None, now: Decimal | None) -> bool:
    if before is None or now is None:
        return before is not now
    return abs(now - before) > abs(before) * _MOVE
