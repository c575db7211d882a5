"""Bugs of exits and protection, planted on purpose: one for each rule, to see that the rule notices its breach.

The functions of the engine that they change are named in `NAMES` alone. When the engine's functions move, only that
changes: a plant wraps whatever stands there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from msgspec import structs
from nexus_gateway.core.engine.orders import closing, protection
from nexus_gateway.core.engine.signals import fanout, reduction
from nexus_gateway.core.engine.state import ZERO, LegRecord, OrderRecord
from nexus_gateway.core.engine.turn import Turn, leg_orders
from nexus_gateway.core.messages import LegState, OrderRole

from tests.simulation.plants import Plants

NAMES: Final[dict[str, tuple[tuple[Any, str], ...]]] = {
    "take the next step towards flat (turn, signal, leg_number)": ((fanout, "drive_close"),),
    "place a closing order (turn, signal, leg_number, role, terms)": ((closing, "place_for_leg"),),
    "place a stop or target (turn, signal, leg_number, role, terms)": ((protection, "place_for_leg"),),
    "cancel an order (turn, record)": ((closing, "want_cancel"), (protection, "want_cancel"), (fanout, "want_cancel")),
    "why a leg is closed after refusals (turn, leg, role)": ((protection, "_judge_refusals"),),
    "lots that a reduce-only leg may close (turn, leg, without)": ((reduction, "reducible"),),
}
"""Module and name of each function, wherever it is called from."""


def _wrap(patch: pytest.MonkeyPatch, what: str, make: Callable[[Any], Any]) -> None:
    (places,) = [places for name, places in NAMES.items() if name.startswith(what)]
    for module, name in places:
        patch.setattr(module, name, make(getattr(module, name)))


def _orders(turn: Turn, leg: LegRecord, *roles: OrderRole) -> list[OrderRecord]:
    return [order for order in leg_orders(turn.state, leg) if order.role in roles]


def give_up(patch: pytest.MonkeyPatch) -> None:
    """Closing ends after five orders."""

    def make(true: Any) -> Any:
        def drive(turn: Turn, signal: Any, number: int, **ways: bool) -> None:
            if len(_orders(turn, signal.legs[number], OrderRole.EXIT)) < 5:
                true(turn, signal, number, **ways)

        return drive

    _wrap(patch, "take the next step", make)


def cancel_in_a_shut_market(patch: pytest.MonkeyPatch) -> None:
    """The stop of a leg that is closing is cancelled, though nothing can be closed now."""

    def make(true: Any) -> Any:
        def drive(turn: Turn, signal: Any, number: int, **ways: bool) -> None:
            leg = signal.legs[number]
            if leg.open and leg.market is not None and not leg.market.session_open:
                for order in _orders(turn, leg, OrderRole.STOP_LOSS):
                    closing.want_cancel(turn, order)
            true(turn, signal, number, **ways)

        return drive

    _wrap(patch, "take the next step", make)


def count_the_stop(patch: pytest.MonkeyPatch) -> None:
    """A working stop counts as a closing order, so that nothing is left for a reduce-only signal."""

    def make(true: Any) -> Any:
        def reducible(turn: Turn, leg: LegRecord, without: str = "") -> Any:
            live = [turn.state.orders[name] for name in turn.state.routes[leg.route].live]
            stops = [order for order in live if order.role is OrderRole.STOP_LOSS and order.order.symbol == leg.symbol]
            return max(true(turn, leg, without) - sum((order.leaves_qty for order in stops), ZERO), ZERO)

        return reducible

    _wrap(patch, "lots that a reduce-only", make)


def leave_the_stop_away(patch: pytest.MonkeyPatch) -> None:
    """After its first closing order a leg gets no stop any more, whatever becomes of that order."""

    def make(true: Any) -> Any:
        def place(turn: Turn, signal: Any, number: int, role: OrderRole, terms: Any) -> Any:
            exits = _orders(turn, signal.legs[number], OrderRole.EXIT)
            if role is OrderRole.STOP_LOSS and exits:
                return exits[-1]
            return true(turn, signal, number, role, terms)

        return place

    _wrap(patch, "place a stop", make)


def keep_one_group(patch: pytest.MonkeyPatch) -> None:
    """All stops and targets of a leg are in one OCO group, for ever."""

    def make(true: Any) -> Any:
        def place(turn: Turn, signal: Any, number: int, role: OrderRole, terms: Any) -> Any:
            return true(turn, signal, number, role, structs.replace(terms, oco_group=f"{signal.key}-{number}"))

        return place

    _wrap(patch, "place a stop", make)


def close_more(patch: pytest.MonkeyPatch) -> None:
    """Closing orders are not bounded by what is held."""

    def make(true: Any) -> Any:
        def place(turn: Turn, signal: Any, number: int, role: OrderRole, terms: Any) -> Any:
            more = structs.replace(terms, quantity=terms.quantity + 1, reduce_only=False)
            return true(turn, signal, number, role, more if role is OrderRole.EXIT else terms)

        return place

    _wrap(patch, "place a closing order", make)


def close_beside_the_stop(patch: pytest.MonkeyPatch) -> None:
    """The closing order does not wait for the end of the stop: that is not cancelled, and does not count as live."""

    def make(true: Any) -> Any:
        def drive(turn: Turn, signal: Any, number: int, **ways: bool) -> None:
            leg = signal.legs[number]
            stops = _orders(turn, leg, OrderRole.STOP_LOSS)
            for order in stops:
                del leg.orders[order.order.client_order_id]
            true(turn, signal, number, **ways)
            for order in stops:
                leg.orders[order.order.client_order_id] = None

        return drive

    _wrap(patch, "take the next step", make)


def let_the_rest_fill(patch: pytest.MonkeyPatch) -> None:
    """The rest of an entry works on after the stop of what had filled was hit."""

    def make(true: Any) -> Any:
        def want_cancel(turn: Turn, record: OrderRecord) -> None:
            leg = turn.leg(record.signal_id, record.leg) if record.signal_id else None
            is_entry = record.role is OrderRole.ENTRY and leg is not None and not leg.closing
            if not is_entry or not any(order.max_cum_qty for order in _orders(turn, leg, OrderRole.STOP_LOSS)):
                true(turn, record)

        return want_cancel

    _wrap(patch, "cancel an order", make)


def add_refusals_up(patch: pytest.MonkeyPatch) -> None:
    """Every stop that was ever refused counts, also when others have worked since."""

    def make(true: Any) -> Any:
        def judge(turn: Turn, leg: LegRecord, role: OrderRole) -> tuple[str, int]:
            refused = [order for order in _orders(turn, leg, role) if order.state is LegState.REJECTED]
            if role is OrderRole.STOP_LOSS and len(refused) >= 3:
                return "the platform refused the stop_loss; the leg is closed", 0
            why, pause_ends_ns = true(turn, leg, role)
            return str(why), int(pause_ends_ns)

        return judge

    _wrap(patch, "why a leg is closed", make)


def nothing(patch: pytest.MonkeyPatch) -> None:
    """The plant is in the gateway's process."""


EXIT_PLANTS: Final[dict[str, tuple[Callable[[pytest.MonkeyPatch], None], tuple[str, ...], Plants | None]]] = {
    "closing gives up": (give_up, ("should be flat", "naked: "), None),
    "the stop is cancelled in a shut market": (cancel_in_a_shut_market, ("shut: ",), None),
    "the stop counts as a closing order": (count_the_stop, ("reduction: ",), None),
    "the stop does not come back": (leave_the_stop_away, ("naked: ",), None),
    "one OCO group for ever": (keep_one_group, ("oco: ",), None),
    "more is closed than is held": (close_more, ("over-close: p",), None),
    "the close does not wait for the stop": (close_beside_the_stop, ("both: ",), None),
    "the rest of an entry works on": (let_the_rest_fill, ("rest: ",), None),
    "refusals hours apart add up": (add_refusals_up, ("refusals: ",), None),
    "deadlines on the wall clock": (nothing, ("should be flat", "naked: "), Plants(deadlines_on_wall=True)),
}
"""What it is called, what plants it, what is said of it (one of these), and what is planted in the process."""
