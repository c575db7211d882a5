"""Lots that no leg of ours has traded: what they take off our legs is booked here.

On a netting account lots of other orders (external ones, reduce-only signals, closing orders of a kill) close our legs,
too. Otherwise closing such a leg later would send an order for lots that are gone, and open the opposite position.
"""

from __future__ import annotations

from decimal import Decimal

from ...messages import AccountMode
from ..state import ZERO, LegRecord
from ..turn import Turn
from .exposure import held_with


def add_external(turn: Turn, route: str, symbol: str, lots: Decimal) -> None:
    """Book lots (signed) that no leg of ours has traded: they close external lots of the other side, then ours."""
    position = turn.position(route, symbol)
    before = position.external
    position.external += lots
    beyond = lots
    if before * lots < 0:
        left = abs(lots) - abs(before)
        beyond = left.copy_sign(lots) if left > 0 else ZERO
    absorb_external(turn, route, symbol, beyond)


def absorb_external(turn: Turn, route: str, symbol: str, lots: Decimal) -> None:
    """Let lots (signed) that no leg of ours has traded reduce our open legs on the other side, the oldest first.

    On hedging accounts positions are separate, and this does nothing.
    """
    holders = turn.state.routes[route].holding_signals
    if turn.state.routes[route].hello.account_mode is not AccountMode.NETTING:
        return
    for signal_id in list(holders):
        for leg in turn.state.signals[signal_id].legs:
            if not lots:
                return
            if leg.route != route or leg.symbol != symbol or leg.open * lots >= 0:
                continue
            taken = min(abs(leg.open), abs(lots)).copy_sign(lots)
            _reduce_leg(turn, signal_id, leg, taken)
            lots -= taken
            turn.touch(signal_id)


def absorb_lost_tickets(turn: Turn, signal_id: str, leg: LegRecord, held: Decimal) -> None:
    """Reduce a leg on a hedging account to the `held` lots of its tickets: the rest was closed at the platform."""
    lost = abs(leg.open) - held
    if lost > 0:
        _reduce_leg(turn, signal_id, leg, lost.copy_sign(-leg.open))


def net_with_external(turn: Turn, signal_id: str, leg: LegRecord) -> None:
    """Let lots of a leg that its netting account does not hold close external lots on the other side.

    An order of ours that closed too much has traded against them: the account holds the difference, and a closing order
    for these lots would make its position larger.
    """
    external = turn.position(leg.route, leg.symbol).external
    if external * leg.open >= 0:
        return
    lots = min(abs(leg.open), abs(leg.open) - held_with(turn, leg), abs(external))
    if lots > 0:
        _reduce_leg(turn, signal_id, leg, lots.copy_sign(-leg.open))


def _reduce_leg(turn: Turn, signal_id: str, leg: LegRecord, lots: Decimal) -> None:
    turn.shift_open(signal_id, leg, lots)
    leg.external_qty += lots
    turn.position(leg.route, leg.symbol).external -= lots
    turn.count("closed_externally")
