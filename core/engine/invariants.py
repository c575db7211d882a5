"""What is always true of the engine's state, whatever platforms, NEXUS and operator send.

`check` looks at everything: the tests call it after every event. `check_touched` looks at the signals and accounts that
one event has touched, and runs after every event in production, too; what has more than `MOST_SUMMED` executions is not
summed there, or each fill of a large order would cost more than the one before. A sentence of theirs is a fault of this
program. It names what disagrees; who calls it adds the event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from ..messages import LegState, OrderRole
from .state import ZERO, EngineState, LegRecord, OrderRecord, RouteRecord, SignalRecord, route_of
from .turn import Turn

MOST_SUMMED: Final = 100
"""Executions of one leg or order that production sums up after an event."""


def check(state: EngineState) -> list[str]:
    """Return what is not as it must be, a sentence each; empty = all is well. Looks at every record."""
    every = len(state.executions)
    found = list(_check(state, state.signals, state.routes, every))
    for order_id, order in state.orders.items():
        if not order.signal_id:  # a closing order of the kill switch, which belongs to no signal
            found += _check_order(state, order_id, order, every)
    for name, route in state.routes.items():
        strays = [order_id for order_id in route.live if order_id not in state.orders]
        if strays:
            found.append(f"live: {name} lists {strays[:3]}, which are no orders")
    return found


def check_touched(turn: Turn) -> list[str]:
    """As `check`, for the signals and accounts that this turn has touched."""
    return list(_check(turn.state, turn.dirty, turn.dirty_routes, MOST_SUMMED))


def _check(state: EngineState, signals: Iterable[str], routes: Iterable[str], most: int) -> Iterator[str]:
    for signal_id in signals:
        record = state.signals.get(signal_id)
        if record is not None:
            yield from _check_signal(state, signal_id, record, most)
    for name in routes:
        yield from _check_route(state, name, state.routes[name])


def _check_signal(state: EngineState, signal_id: str, record: SignalRecord, most: int) -> Iterator[str]:
    is_live = False
    for number, leg in enumerate(record.legs):
        if len(leg.executions) <= most:
            yield from _check_leg_sum(state, signal_id, number, leg, record.signal.reduce_only)
        yield from _check_leg(state, signal_id, number, leg)
        for order_id in leg.orders:
            order = state.orders[order_id]
            is_live |= order.live
            yield from _check_order(state, order_id, order, most)
            if (order.signal_id, order.leg) != (signal_id, number):
                yield f"order: {order_id} is of {order.signal_id} {order.leg}, and listed by {signal_id} {number}"
    if signal_id not in state.active and (is_live or any(leg.open for leg in record.legs)):
        yield f"active: {signal_id} has an order that may trade, or holds lots, and is taken for over"


def _check_leg_sum(state: EngineState, signal_id: str, number: int, leg: LegRecord, reduce_only: bool) -> Iterator[str]:
    """What a leg holds is the sum of what it traded; a reduce-only one closes lots of others, and holds nothing."""
    traded = ZERO
    for key in leg.executions:
        execution = state.executions.get(key)
        if execution is None or (execution.signal_id, execution.leg) != (signal_id, number):
            yield f"execution: {key} is listed by {signal_id} {number}, and is not its"
            continue
        traded += execution.signed
    held = ZERO if reduce_only else traded + leg.external_qty
    if leg.open != held:
        yield (
            f"open: {signal_id} {number} on {leg.route} holds {leg.open}, its executions are {traded} and others took "
            f"{leg.external_qty}"
        )


def _check_leg(state: EngineState, signal_id: str, number: int, leg: LegRecord) -> Iterator[str]:
    """No entry asks for more than its leg may open, and who holds lots is listed as holding them."""
    entries = [state.orders[order_id] for order_id in leg.orders if state.orders[order_id].role is OrderRole.ENTRY]
    # An order that was found at the platform has no size of its own: it was not sent by this engine.
    asked = [order.order.quantity for order in entries if order.order.not_after_ns]
    replaces = [(order.replace.quantity, order.quantity) for order in entries if order.replace is not None]
    asked += [wanted for wanted, now in replaces if wanted >= now]  # one made larger at the platform may shrink
    if len(entries) > 1 or any(quantity > leg.quantity for quantity in asked):
        yield f"parent: {signal_id} {number} may open {leg.quantity}, its {len(entries)} entries ask for {asked}"
    route = state.routes.get(leg.route)
    if leg.open and (route is None or signal_id not in route.holding_signals):
        yield f"holders: {signal_id} holds {leg.open} on {leg.route}, which does not list it"


def _check_order(state: EngineState, order_id: str, record: OrderRecord, most: int) -> Iterator[str]:
    """States and figures of one order agree with each other and with its account's lists."""
    name = route_of(record.order.platform, record.order.account)
    route = state.routes[name]
    if len(record.executions) <= most:
        known = [each for key in record.executions if (each := state.executions.get(key)) is not None and each.seen]
        booked = sum((each.quantity for each in known if each.counts), ZERO)
        # Some may be evicted before their order is, and a late correction leaves an empty record of one.
        if booked != record.cum_qty and len(known) == len(record.executions):
            yield f"cum_qty: {order_id} says {record.cum_qty}, its executions are {booked}"
    if record.live is not (order_id in route.live):
        yield f"live: {order_id} is {record.state}, and {'listed' if order_id in route.live else 'not listed'} as live"
    if record.state is LegState.FILLED and record.cum_qty < record.quantity:
        yield f"filled: {order_id} is called filled with {record.cum_qty} of {record.quantity}"
    if (record.state is LegState.UNKNOWN) is not bool(record.unknown_since_ns):
        yield f"unknown: {order_id} is {record.state}, unknown since {record.unknown_since_ns}"
    if not record.live and (not record.ended_ns or record.replace is not None):
        yield f"ended: {order_id} is {record.state}, ended at {record.ended_ns}, and a replace of it may be pending"
    if bool(record.unreported_qty) is not (order_id in route.unreported_orders):
        yield f"unreported: {order_id} misses {record.unreported_qty} lots, and {name} lists it otherwise"


def _check_route(state: EngineState, name: str, route: RouteRecord) -> Iterator[str]:
    """The legs of an account and what is external add up to its positions, and its holders hold something."""
    held: dict[str, Decimal] = {}
    for signal_id in route.holding_signals:
        record = state.signals.get(signal_id)
        legs = [] if record is None else [leg for leg in record.legs if leg.route == name and leg.open]
        if not legs:
            yield f"holders: {name} lists {signal_id}, which holds nothing there"
        for leg in legs:
            held[leg.symbol] = held.get(leg.symbol, ZERO) + leg.open
    for symbol in dict.fromkeys([*route.positions, *held]):
        position = route.positions.get(symbol)
        net, external = (ZERO, ZERO) if position is None else (position.net, position.external)
        if held.get(symbol, ZERO) + external != net:
            yield f"position: {name} {symbol} is {net}; legs hold {held.get(symbol, ZERO)}, external is {external}"
