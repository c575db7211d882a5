"""The command `acknowledge`: the operator has seen at the platform what it holds, and types the figure."""

from __future__ import annotations

from decimal import Decimal

from ...messages import Acknowledge, AdminResult, LegState, RejectCode
from ..effects import AnswerAdmin
from ..orders.contradictions import ACKNOWLEDGED, STRIKES, await_cancels, end_contradiction, is_confirmable
from ..orders.executions import book_confirmed
from ..orders.lifecycle import end_order, record_unreported
from ..orders.overfills import note_overfill
from ..orders.snapshots.positions import adopt_position
from ..orders.snapshots.settlement import signed_lots
from ..orders.wakes import wake_all
from ..state import ZERO, ContradictionRecord, OrderRecord, PositionRecord, RouteRecord
from ..turn import Turn, live_orders, reported_now


def apply_acknowledge(turn: Turn, command: Acknowledge, peer: str) -> None:
    """Take the operator's figure of a position, end what contradicts itself there, unblock it, and end orders that the
    platform does not list.

    The figure must be the platform's own where it reports one: a slip of the finger must not become a position. Without
    a figure (journals of 0.1) only what a snapshot has settled already is unblocked, and unknown orders are ended.
    """
    symbol = command.symbol
    waiting = [
        name
        for name, route in turn.state.routes.items()
        if command.platform in ("", route.platform)
        and command.account in ("", route.account)
        and _waits(turn, route, symbol, command.quantity is not None)
    ]
    refusal = ""
    if not waiting:
        refusal = f"nothing of {symbol} waits for you: no position that differs, no contradiction, no unknown order"
        refusal += " that the platform has twice not listed"
    elif command.quantity is not None and len(waiting) > 1:
        refusal = f"{symbol} waits on {', '.join(waiting)}: name one with --platform, and --account"
    elif command.quantity is not None:
        refusal = _refuse_figure(turn.state.routes[waiting[0]], symbol, command.quantity)
    found: list[str] = []
    for name in [] if refusal else waiting:
        route = turn.state.routes[name]
        if command.quantity is not None:
            found += _take_figure(turn, name, route, symbol, command.quantity, command.by)
        position = route.positions.get(symbol)
        if position is not None and position.blocked:
            position.blocked = False
            found.append(f"{name}: {symbol} holds {position.net}")
        for order in _unlisted_orders(turn, route, symbol):
            text = f"not at the platform, acknowledged by {command.by}"
            end_order(turn, order, LegState.CANCELLED, RejectCode.GONE_AT_PLATFORM, text, presumed=True)
            found.append(f"{name}: order {order.order.client_order_id} is presumed ended")
    if found:
        turn.alert(RejectCode.NONE, f"acknowledged by {command.by}: {'; '.join(found[:5])}"[:1_000], command.platform)
        wake_all(turn)  # what waited for this goes on
    result = AdminResult(
        request_id=command.request_id,
        accepted=not refusal,
        done=not refusal,
        code=RejectCode.NOT_ALLOWED if refusal else RejectCode.NONE,
        text=refusal[:512],
        lines=tuple(found[:500]),
    )
    turn.effects.append(AnswerAdmin(result, peer))


def _waits(turn: Turn, route: RouteRecord, symbol: str, has_figure: bool) -> bool:
    position = route.positions.get(symbol)
    if position is not None and (position.blocked or (has_figure and position.mismatch_snapshots)):
        return True
    contradicted = any(symbol in each.barred for each in route.contradictions.values())
    return (has_figure and contradicted) or bool(_unlisted_orders(turn, route, symbol))


def _unlisted_orders(turn: Turn, route: RouteRecord, symbol: str) -> list[OrderRecord]:
    """Unknown orders that enough snapshots have missed, or that the platform cannot list: a slow answer to any other
    arrives by itself, and may be a fill.
    """
    able = route.hello.capabilities
    lists_orders = able is None or able.lists_orders
    return [
        order
        for order in live_orders(turn.state, route)
        if order.order.symbol == symbol
        and order.state is LegState.UNKNOWN
        and (order.missed_snapshots >= STRIKES or not lists_orders)
    ]


def _refuse_figure(route: RouteRecord, symbol: str, figure: Decimal) -> str:
    """Return why the typed figure is not taken; empty when it is."""
    position = route.positions.get(symbol, PositionRecord())
    able = route.hello.capabilities
    reports = route.up and not route.overdue_since_ns and able is not None and able.lists_positions
    if not reports or (position.reported is None and not route.ready):
        return ""
    held = reported_now(position)  # a complete snapshot that does not list the symbol has reported 0
    if figure == held:
        return ""
    return (
        f"the platform itself has last reported {held} {symbol}, fills since included, you typed {figure}; look at the "
        "platform again, and type what it shows once a snapshot shows the same"
    )


def _take_figure(turn: Turn, name: str, route: RouteRecord, symbol: str, figure: Decimal, by: str) -> list[str]:
    position = turn.position(name, symbol)
    standing = {key: each for key, each in route.contradictions.items() if symbol in each.barred}
    if not standing and not position.mismatch_snapshots:
        return []
    gap = figure - position.net
    # An id that was used twice, or lots beyond an order's size, are booked as executions where they explain the figure.
    lots = [each for each in standing.values() if _explains(turn, each, symbol)]
    if gap == sum((signed_lots(each) for each in lots), ZERO):
        gap = ZERO
        for each in lots:
            beyond = book_confirmed(turn, name, each)
            if beyond:
                note_overfill(turn, name, each, beyond)
    if gap:
        _adopt_figure(turn, name, route, symbol, gap)
    position.mismatch, position.mismatch_snapshots = ZERO, 0
    position.reported, position.reported_net = figure, position.net
    route.flatten_sent_ns = 0
    await_cancels(turn, route)
    for order_id in dict.fromkeys(each.client_order_id for each in standing.values()):
        order = turn.state.orders.get(order_id)
        if order is not None and order.order.symbol == symbol:
            _write_off(turn, order, [each for each in standing.values() if each.client_order_id == order_id])
    for key, each in standing.items():
        each.barred.remove(symbol)
        if not each.barred:
            end_contradiction(turn, name, key, f"{ACKNOWLEDGED} by {by}: {symbol} holds {figure}")
    return [f"{name}: {symbol} holds {figure}"]


def _adopt_figure(turn: Turn, name: str, route: RouteRecord, symbol: str, gap: Decimal) -> None:
    """Adopt the figure. A leg that loses lots by it shows that their closing price, and so its result, is not known."""
    before = {
        id(leg): (signal_id, leg, leg.external_qty)
        for signal_id in route.holding_signals
        for leg in turn.state.signals[signal_id].legs
        if leg.route == name and leg.symbol == symbol
    }
    adopt_position(turn, route, symbol, gap, block=False)
    for signal_id, leg, was in before.values():
        if leg.external_qty != was:
            leg.unpriced = True
            leg.code = RejectCode.CONTRADICTION
            leg.text = f"{abs(leg.external_qty - was)} lots closed by an operator's figure: their result is not known"
            turn.touch(signal_id)


def _write_off(turn: Turn, order: OrderRecord, standing: list[ContradictionRecord]) -> None:
    """Let nothing wait for executions of an order that the figure holds as external lots."""
    refused = [each.fill for each in standing if each.fill is not None and each.exec_id not in _booked_ids(turn, order)]
    lots = sum((min(fill.quantity, order.most_qty) for fill in refused), ZERO)
    order.written_off_qty += max(lots, order.unreported_qty)
    order.platform_cum_qty = order.cum_qty
    record_unreported(turn, order)


def _booked_ids(turn: Turn, order: OrderRecord) -> list[str]:
    return [key.rsplit("|", 1)[1].split("@")[0] for key in order.executions if turn.state.executions[key].counts]


def _explains(turn: Turn, record: ContradictionRecord, symbol: str) -> bool:
    return record.fill is not None and record.fill.symbol == symbol and is_confirmable(turn, record)
