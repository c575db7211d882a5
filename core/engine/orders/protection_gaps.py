"""Measure for how long lots are held that no working stop covers, and name the reason."""

from __future__ import annotations

from typing import Final

from ...messages import LegState, OrderRole, Protection
from ..state import LegRecord, SignalRecord
from ..turn import Turn, bar_of, leg_orders
from .exposure import covered_lots, in_flux

_CLOSING, _CLEARING, _UNANSWERED = (
    "its closing order is on its way",
    "its stop ends before its closing order",
    "the platform has not answered about its stop",
)
PASSING_GAPS: Final = frozenset({_CLOSING, _CLEARING, _UNANSWERED})
"""Reasons for a gap in the protection that end with the platform's next answer: a leg's text does not mention them."""


def note_protection(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Measure for how long a leg holds lots that no working stop covers although it wants one, and note why."""
    leg = signal.legs[leg_number]
    why = _why_unprotected(turn, leg)
    if bool(why) is not bool(leg.unprotected_since_ns):
        turn.touch(signal.signal.signal_id)
    if why and not leg.unprotected_since_ns:
        leg.unprotected_since_ns = turn.now_ns
    elif not why and leg.unprotected_since_ns:
        leg.unprotected_ns += turn.now_ns - leg.unprotected_since_ns
        leg.unprotected_since_ns = 0
    leg.unprotected_why = why


def _why_unprotected(turn: Turn, leg: LegRecord) -> str:
    """Return what keeps a leg's stop from covering all that it holds; empty = it does, or none is wanted."""
    if not leg.open or leg.bracket is None or leg.bracket.stop_loss is None:
        return ""
    stops = [order for order in leg_orders(turn.state, leg) if order.role is OrderRole.STOP_LOSS]
    if leg.protection is Protection.PLATFORM and not stops and leg.open * leg.sign > 0:
        return ""  # it came with the entry, and the platform does not list it
    if leg.open * leg.sign > 0 and covered_lots(turn, leg) >= abs(leg.open):
        return ""
    route = turn.state.routes[leg.route]
    barred = bar_of(turn.state, leg.route, leg.symbol)
    if barred or not (route.up and route.ready):
        return barred or f"{leg.platform} is not connected and reconciled"
    if any(order.live and order.role is OrderRole.EXIT for order in leg_orders(turn.state, leg)):
        return _CLOSING
    if leg.clearing_since_ns:
        return _CLEARING
    if any(in_flux(order) for order in stops if order.live):
        return _UNANSWERED
    if stops and stops[-1].state is LegState.REJECTED:
        return f"the platform refused its stop: {stops[-1].text}"[:256]
    return "no stop of it works"
