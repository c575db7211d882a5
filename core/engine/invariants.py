"""What is always true of the engine's state, whatever platforms, NEXUS and operator send.

`check` looks at everything: the tests call it after every event. `check_touched` looks at the orders, legs and
positions that one event has moved, and runs after every event in production, too. Its cost does not grow with what is
open: a position is compared by what moved it, and what has more than `MOST_SUMMED` executions is not summed. Each
sentence that they return means a fault of this program and names what disagrees; the caller adds the event.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ..messages import Cancel, LegState, Order, OrderRole, Replace
from .effects import SendToPlatform
from .orders.exposure import PROTECTIVE
from .state import ZERO, EngineState, LegRecord, OrderRecord, RouteRecord, SignalRecord, route_of
from .turn import Turn, closes_lots, live_closing

MOST_SUMMED: Final = 100
"""Executions of one leg or order that production sums up after an event."""


def check(state: EngineState) -> list[str]:
    """Return what is not as it must be, a sentence each; empty = all is well. Looks at every record."""
    found: list[str] = []
    every = len(state.executions)
    for signal_id, record in state.signals.items():
        _check_signal(state, signal_id, record, every, found)
    for order_id, order in state.orders.items():
        if not order.signal_id:  # a closing order of the kill switch, which belongs to no signal
            _check_order(state, order_id, order, every, found)
    for name, route in state.routes.items():
        _check_route(state, name, route, found)
    return found


def check_touched(turn: Turn) -> list[str]:
    """As `check`, for the orders, legs and positions that this turn has moved."""
    state = turn.state
    found: list[str] = []
    for order_id in turn.touched_orders:
        order = state.orders.get(order_id)
        if order is None:
            continue
        _check_order(state, order_id, order, MOST_SUMMED, found)
        if not order.signal_id:
            continue  # a closing order of the kill switch
        leg = turn.leg(order.signal_id, order.leg)
        if leg is None or order_id not in leg.orders:
            found.append(f"order: {order_id} is of {order.signal_id} {order.leg}, which does not list it")
        if leg is not None and order.role is OrderRole.ENTRY:
            _check_entries(state, order.signal_id, order.leg, leg, found)
        if order.live and order.signal_id not in state.active:
            found.append(f"active: {order.signal_id} has {order_id}, which may trade, and is taken for over")
    _check_sent(turn, found)
    moved: dict[tuple[str, str], Decimal] = {}
    for signal_id, leg, lots in turn.shifts:
        key = leg.route, leg.symbol
        moved[key] = moved.get(key, ZERO) + lots
        record = state.signals[signal_id]
        number = next(index for index, each in enumerate(record.legs) if each is leg)
        if len(leg.executions) <= MOST_SUMMED:
            _check_leg_sum(state, signal_id, number, leg, record.signal.reduce_only, found)
        _check_holder(state, signal_id, record, leg, found)
    for key in dict.fromkeys([*turn.positions_before, *moved]):
        _check_move(turn, key, moved.get(key, ZERO), found)
    return list(dict.fromkeys(found))


def _check_sent(turn: Turn, found: list[str]) -> None:
    """Nothing leaves for a symbol about which its platform contradicts itself, but for the one command of a person."""
    for effect in turn.effects:
        if not isinstance(effect, SendToPlatform) or not isinstance(effect.message, Order | Cancel | Replace):
            continue
        message = effect.message
        name = route_of(message.platform, message.account)
        standing = turn.state.routes[name].contradictions.values()
        older = [each for each in standing if message.symbol in each.barred and each.since_ns < turn.now_ns]
        if older and name != turn.unproven:
            found.append(
                f"barred: {message.client_order_id} leaves while {older[0].kind} stands about {message.symbol}"
            )
        if isinstance(message, Order) and message.not_after_ns:
            _check_close(turn, name, message, found)


def _check_close(turn: Turn, name: str, sent: Order, found: list[str]) -> None:
    """On a netting account a leg's closing orders close no more than its other orders may have filled, and all of them
    no more than the account holds, lots that opposed legs hold there included. On a hedging account those of a ticket
    close no more than the ticket holds.
    """
    record = turn.state.orders.get(sent.client_order_id)
    if record is None or not closes_lots(turn.state, record):
        return
    side, route = sent.side.sign, turn.state.routes[name]
    closing = [each for each in live_closing(turn.state, route) if each.order.side.sign == side]
    lots = sum((each.leaves_qty for each in closing if each.order.symbol == sent.symbol), ZERO)
    if sent.close_ticket:
        lots = sum((each.leaves_qty for each in closing if each.order.close_ticket == sent.close_ticket), ZERO)
        held = abs(route.tickets.get(sent.symbol, {}).get(sent.close_ticket, ZERO))
        if lots > held:
            found.append(
                f"over-close: {sent.client_order_id} makes {lots} closing of the {held} of {sent.close_ticket}"
            )
        return
    leg = turn.leg(record.signal_id, record.leg)
    if leg is not None and record.role is OrderRole.EXIT:
        orders = [turn.state.orders[order_id] for order_id in leg.orders]
        entered = sum((each.max_cum_qty for each in orders if each.order.side.sign != side), ZERO)
        entered += max(-leg.external_qty * side, ZERO)  # lots of others that left the leg on the other side
        # A standing stop is no closing order. It stands beside one only where the platform lets but one of them fill.
        beside = [each for each in orders if each.live and each.role in PROTECTIVE and each.order.side is sent.side]
        if not all(each.order.reduce_only and sent.reduce_only for each in beside):
            found.append(f"over-close: {sent.client_order_id} leaves while {beside[0].order.client_order_id} works")
        closed = sum((each.max_cum_qty for each in orders if each.order.side.sign == side), ZERO)
        closed += sum(
            (each.leaves_qty for each in orders if each.role is OrderRole.EXIT and each.order.side is sent.side), ZERO
        )
        if closed > entered:
            found.append(f"over-close: {sent.client_order_id} of {sent.quantity} makes {closed} closed of {entered}")
    if name == turn.unproven:
        return
    position = route.positions.get(sent.symbol)
    held = ZERO if position is None else -position.net * side
    if lots <= held:
        return  # what opposed legs hold would only be more
    for signal_id in route.holding_signals:
        for other in turn.state.signals[signal_id].legs:
            if (other.route, other.symbol) == (name, sent.symbol) and other.open * side > 0:
                held += abs(other.open)
    if lots > held:
        found.append(f"over-close: {sent.client_order_id} of {sent.quantity} makes {lots} closing, {held} are held")


def _check_move(turn: Turn, key: tuple[str, str], legs: Decimal, found: list[str]) -> None:
    """A position has moved by what its account's legs and the external lots have moved."""
    position = turn.state.routes[key[0]].positions.get(key[1])
    net, external = (ZERO, ZERO) if position is None else (position.net, position.external)
    net_before, external_before = turn.positions_before.get(key, (net, external))
    if net - net_before != legs + external - external_before:
        found.append(
            f"position: {key[0]} {key[1]} moved from {net_before} to {net}; legs moved by {legs}, external lots from "
            f"{external_before} to {external}"
        )


def _check_signal(state: EngineState, signal_id: str, record: SignalRecord, most: int, found: list[str]) -> None:
    is_live = False
    for number, leg in enumerate(record.legs):
        if len(leg.executions) <= most:
            _check_leg_sum(state, signal_id, number, leg, record.signal.reduce_only, found)
        _check_entries(state, signal_id, number, leg, found)
        for order_id in leg.orders:
            order = state.orders[order_id]
            is_live |= order.live
            _check_order(state, order_id, order, most, found)
            if (order.signal_id, order.leg) != (signal_id, number):
                text = f"order: {order_id} is of {order.signal_id} {order.leg}, and listed by {signal_id} {number}"
                found.append(text)
        _check_holder(state, signal_id, record, leg, found)
        route = state.routes.get(leg.route)
        if route is not None and leg.orders and (signal_id in route.active_signals) is not (signal_id in state.active):
            found.append(f"active: {signal_id} has a leg on {leg.route}, which lists it otherwise")
    if signal_id in state.active and signal_id in state.over:
        found.append(f"active: {signal_id} is listed as open and as over")
    if signal_id not in state.active and (is_live or any(leg.open for leg in record.legs)):
        found.append(f"active: {signal_id} has an order that may trade, or holds lots, and is taken for over")


def _check_holder(state: EngineState, signal_id: str, record: SignalRecord, leg: LegRecord, found: list[str]) -> None:
    """An account lists the signals that hold lots there, and no others."""
    route = state.routes.get(leg.route)
    if route is not None:
        holds = any(other.open for other in record.legs if other.route == leg.route)
        if holds is not (signal_id in route.holding_signals):
            found.append(f"holders: {signal_id} holds {leg.open} on {leg.route}, which lists it otherwise")


def _check_leg_sum(
    state: EngineState, signal_id: str, number: int, leg: LegRecord, reduce_only: bool, found: list[str]
) -> None:
    """What a leg holds is the sum of what it traded; a reduce-only one closes lots of others, and holds nothing."""
    traded = ZERO
    for key in leg.executions:
        execution = state.executions.get(key)
        if execution is None or (execution.signal_id, execution.leg) != (signal_id, number):
            found.append(f"execution: {key} is listed by {signal_id} {number}, and is not its")
            continue
        traded += execution.own_signed
    held = ZERO if reduce_only else traded + leg.external_qty
    if leg.open != held:
        found.append(
            f"open: {signal_id} {number} on {leg.route} holds {leg.open}, its executions are {traded} and others took "
            f"{leg.external_qty}"
        )


def _check_entries(state: EngineState, signal_id: str, number: int, leg: LegRecord, found: list[str]) -> None:
    """A leg has one entry, which asks for no more than the leg may open."""
    entries = [order for order_id in leg.orders if (order := state.orders[order_id]).role is OrderRole.ENTRY]
    # An order that was found at the platform has no size of its own: it was not sent by this engine.
    asked = [order.order.quantity for order in entries if order.order.not_after_ns]
    # One that was made larger at the platform may shrink to more than its leg.
    replaces = [(order.replace.quantity, order.quantity) for order in entries if order.replace is not None]
    asked += [wanted for wanted, now in replaces if wanted >= now]
    if len(entries) > 1 or any(quantity > leg.quantity for quantity in asked):
        entered = f"its {len(entries)} entries ask for {asked}"
        found.append(f"parent: {signal_id} {number} may open {leg.quantity}, {entered}")


def _check_order(state: EngineState, order_id: str, record: OrderRecord, most: int, found: list[str]) -> None:
    """State and figures of one order agree with each other and with its account's lists."""
    order, status, live = record.order, record.state, record.live
    name = route_of(order.platform, order.account)
    route = state.routes[name]
    if len(record.executions) <= most:
        known = [each for key in record.executions if (each := state.executions.get(key)) is not None and each.seen]
        booked = sum((each.own_quantity for each in known if each.counts), ZERO)
        # Some may be evicted before their order is, and a late correction leaves an empty record of one.
        if booked != record.cum_qty and len(known) == len(record.executions):
            found.append(f"cum_qty: {order_id} says {record.cum_qty}, its executions are {booked}")
    if live is not (order_id in route.live):
        found.append(f"live: {order_id} is {status}, and {'not ' if live else ''}listed as live")
    if (live and closes_lots(state, record)) is not (order_id in route.live_closing):
        found.append(f"live: {order_id} is {status}, and listed otherwise by those that close lots")
    if status is LegState.FILLED and record.cum_qty < record.quantity:
        found.append(f"filled: {order_id} is called filled with {record.cum_qty} of {record.quantity}")
    if (status is LegState.UNKNOWN) is not bool(record.unknown_since_ns):
        found.append(f"unknown: {order_id} is {status}, unknown since {record.unknown_since_ns}")
    if (status is LegState.UNKNOWN) is not (order_id in route.unknown_orders):
        found.append(f"unknown: {order_id} is {status}, and {name} lists it otherwise")
    if not live and (not record.ended_ns or record.replace is not None):
        found.append(f"ended: {order_id} is {status}, ended at {record.ended_ns}, and a replace of it may be pending")
    if bool(record.unreported_qty) is not (order_id in route.unreported_orders):
        found.append(f"unreported: {order_id} misses {record.unreported_qty} lots, and {name} lists it otherwise")


def _check_route(state: EngineState, name: str, route: RouteRecord, found: list[str]) -> None:
    """The legs of an account and what is external add up to its positions, and its lists name what there is."""
    held: dict[str, Decimal] = {}
    for signal_id in route.holding_signals:
        record = state.signals.get(signal_id)
        legs = [] if record is None else [leg for leg in record.legs if leg.route == name and leg.open]
        if not legs:
            found.append(f"holders: {name} lists {signal_id}, which holds nothing there")
        for leg in legs:
            held[leg.symbol] = held.get(leg.symbol, ZERO) + leg.open
    for symbol in dict.fromkeys([*route.positions, *held]):
        position = route.positions.get(symbol)
        net, external = (ZERO, ZERO) if position is None else (position.net, position.external)
        if held.get(symbol, ZERO) + external != net:
            found.append(f"position: {name} {symbol} is {net}; legs hold {held.get(symbol, ZERO)}, external {external}")
    strays = [order_id for order_id in (*route.live, *route.live_closing) if order_id not in state.orders]
    if strays:
        found.append(f"live: {name} lists {strays[:3]}, which are no orders")
