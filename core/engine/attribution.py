"""Lots that somebody else traded against ours: on a netting account they close our legs, whoever meant what."""

from __future__ import annotations

from decimal import Decimal

from ..messages import AccountMode
from .state import LegRecord
from .turn import Turn


def absorb_external(turn: Turn, route: str, symbol: str, lots: Decimal) -> None:
    """Let foreign lots (signed) reduce our open legs on the other side, those first that opened first.

    Without this, closing such a leg later would send an order for lots that are gone, and open the opposite.
    On hedging accounts positions are separate and this does nothing.
    """
    holders = turn.state.routes[route].holders
    if turn.state.routes[route].hello.account_mode is not AccountMode.NETTING:
        return
    for signal_id in list(holders):
        for leg in turn.state.signals[signal_id].legs:
            if not lots:
                return
            if leg.route != route or leg.symbol != symbol or leg.open * lots >= 0:
                continue
            taken = min(abs(leg.open), abs(lots)).copy_sign(lots)
            _take_from_leg(turn, signal_id, leg, taken)
            lots -= taken
            turn.touch(signal_id)


def absorb_lost_tickets(turn: Turn, signal_id: str, leg: LegRecord, held: Decimal) -> None:
    """A hedging leg whose tickets are no longer there was closed by somebody: only `held` lots are left."""
    gone = abs(leg.open) - held
    if gone > 0:
        _take_from_leg(turn, signal_id, leg, gone.copy_sign(-leg.open))


def _take_from_leg(turn: Turn, signal_id: str, leg: LegRecord, lots: Decimal) -> None:
    turn.shift_open(signal_id, leg, lots)
    leg.adjusted += lots
    turn.position(leg.route, leg.symbol).external -= lots
    turn.count("closed_by_other_hand")
