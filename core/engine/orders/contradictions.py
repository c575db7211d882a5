"""Contradictions: judge what a platform says, and bar an account and symbol while something there cannot be true.

What disagrees is never booked. It is alerted by name, its legs are unknown, and nothing of ours is sent to its account
for its symbols until a snapshot (`snapshots/settlement.py`) or the operator (`acknowledge`) has settled what is held.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct

from ....shm.durations import NS_PER_MS
from ...messages import Contradiction, ContradictionKind, Fill, RejectCode, WorkingOrder
from ...risk import is_multiple
from ..state import ZERO, ContradictionRecord, EngineState, ExecutionRecord, OrderRecord, RouteRecord, route_of
from ..turn import Turn
from .links import schedule_snapshot

STRIKES: Final = 2
"""Snapshots that must miss something, or differ by the same figure, before they are accepted."""
ACKNOWLEDGED: Final = "acknowledged"
"""An end with this beginning is an operator's: the same statement is not doubted again."""
MOST_PRICE_FACTOR: Final = 2
"""A price of more than this factor above or below the newest quote is none that the instrument can have: it is of
another instrument, or in another unit. No session moves a market that far."""
ANOTHER_DAY_NS: Final = 12 * 3_600_000 * NS_PER_MS
"""The time of one execution may come in two roundings, never this far apart: it is then of another day."""


class Doubt(Struct, frozen=True):
    """Why something said cannot be true."""

    kind: ContradictionKind
    said: str
    expected: str


def doubt_fill(turn: Turn, order: OrderRecord | None, fill: Fill, counted: Decimal = ZERO) -> Doubt | None:
    """Return why an execution cannot be one of this order; None when it can. `counted`: its lots in `cum_qty` already.

    An execution without an order of ours has nothing that it could disagree with.
    """
    if order is None:
        return None
    terms = order.order
    said = f"{fill.side} {fill.quantity} {fill.symbol} at {fill.price}"
    if fill.symbol != terms.symbol:
        return Doubt(ContradictionKind.WRONG_SYMBOL, said, f"an execution of {terms.symbol}, as its order is")
    if fill.side is not terms.side:
        return Doubt(ContradictionKind.WRONG_SIDE, said, f"a {terms.side}, as its order is")
    price_text = _doubt_price(turn, order, fill.price)
    if price_text:
        return Doubt(ContradictionKind.IMPOSSIBLE_PRICE, said, price_text)
    left = order.most_qty - order.cum_qty + counted
    if fill.quantity > left:
        text = f"at most {max(left, ZERO)} of {order.most_qty} lots, which its order has left"
        return Doubt(ContradictionKind.OVERFILL, said, text)
    return None


def doubt_ticket(route: RouteRecord, fill: Fill) -> Doubt | None:
    """Return why an execution without an order of ours cannot close a position of a hedging account by its ticket."""
    held = route.tickets.get(fill.symbol, {}).get(fill.position_ticket, ZERO) if fill.position_ticket else ZERO
    if held * fill.side.sign >= 0 or fill.quantity <= abs(held):
        return None
    said = f"{fill.side} {fill.quantity} {fill.symbol} of ticket {fill.position_ticket}"
    return Doubt(ContradictionKind.OVERFILL, said, f"at most {abs(held)} lots, which the ticket holds")


def _doubt_price(turn: Turn, order: OrderRecord, price: Decimal) -> str:
    """Return what price the instrument could have; empty when it can have this one, or nothing is known of it."""
    leg = turn.leg(order.signal_id, order.leg)
    market = None if leg is None else leg.market
    if market is None or not market.finite or market.tick_size <= 0:
        return ""  # a leg of such a market never traded, and what is said of it now cannot be judged
    if not is_multiple(price, market.tick_size):
        return f"a multiple of {market.tick_size}"
    quotes = [quote for quote in (market.bid, market.ask) if quote is not None]
    if not quotes or min(quotes) <= 0:
        return ""  # negative prices are legal, and near 0 no factor means anything
    low, high = min(quotes) / MOST_PRICE_FACTOR, max(quotes) * MOST_PRICE_FACTOR
    return "" if low <= price <= high else f"a price between {low} and {high}, by the newest quote"


def doubt_repetition(record: ExecutionRecord, fill: Fill, client_order_id: str, rows: int) -> Doubt | None:
    """Return why a fill with a known execution id cannot be the same execution; None when it can.

    `rows`: how many of the snapshot have this id; 0 = it comes from no snapshot. A snapshot lists corrections as they
    hold now: in the only row of an id another price or quantity is no doubt. A repeated live report may be older.
    """
    said = f"{fill.side} {fill.quantity} {fill.symbol} at {fill.price}, order {client_order_id or 'of none of ours'}"
    booked = (
        f"id {fill.exec_id} is booked as {'buy' if record.sign > 0 else 'sell'} {record.quantity} {record.symbol} at "
        f"{record.price}, order {record.client_order_id or 'of none of ours'}"
    )
    other_order = client_order_id and client_order_id != record.client_order_id  # without one it says nothing of it
    other_day = fill.ts_event_ns and record.ts_event_ns and abs(fill.ts_event_ns - record.ts_event_ns) > ANOTHER_DAY_NS
    other_terms = (fill.symbol, fill.side.sign) != (record.symbol, record.sign)
    restated = rows == 1 or (not rows and (record.restated or record.revision or record.presumed_busted))
    # An external execution may be reported again with another price or size: nothing of ours depends on them.
    is_ours = record.client_order_id or rows > 1
    other_size = is_ours and not restated and (fill.quantity, fill.price) != (record.quantity, record.price)
    if other_order or other_terms or other_size or other_day:
        return Doubt(ContradictionKind.REUSED_ID, said, f"{booked}{'; on another day' if other_day else ''}")
    return None


def doubt_row(record: OrderRecord, row: WorkingOrder) -> Doubt | None:
    """Return why an order status cannot be one of this order; None when it can."""
    terms = record.order
    said = f"{row.side} {row.quantity} {row.symbol}, {row.state}, {row.filled} filled"
    if row.symbol != terms.symbol or row.side is not terms.side:
        return Doubt(ContradictionKind.WRONG_ORDER, said, f"{terms.side} {terms.symbol}, as it was sent")
    most = max(record.most_qty, row.quantity, record.cum_qty) + record.written_off_qty
    if row.filled > most:
        return Doubt(ContradictionKind.WRONG_ORDER, said, f"at most {most} filled, which is its size")
    return None


def open_contradiction(
    turn: Turn,
    name: str,
    doubt: Doubt,
    symbols: list[str],
    *,
    exec_id: str = "",
    client_order_id: str = "",
    fill: Fill | None = None,
    legs: list[tuple[str, int]] | None = None,
) -> None:
    """Record a contradiction, alert it by name, and ask for a snapshot. One that stands already is only counted.

    One that the operator has ended by `acknowledge` does not open again when the platform goes on saying the same.
    """
    route = turn.state.routes[name]
    key = f"{doubt.kind}|{exec_id or client_order_id or symbols[0]}|{client_order_id}|{doubt.said}"
    known = route.contradictions.get(key)
    if known is not None:
        known.repeated += 1
        turn.count("contradiction_repeated")
        return
    ended = route.ended_contradictions.get(key)
    if ended is not None and ended.end.startswith(ACKNOWLEDGED):
        ended.repeated += 1
        turn.count("contradiction_repeated")
        return
    route.ended_contradictions.pop(key, None)
    record = route.contradictions[key] = ContradictionRecord(
        kind=doubt.kind,
        symbols=list(dict.fromkeys(symbols)),
        barred=list(dict.fromkeys(symbols)),
        said=doubt.said[:400],
        expected=doubt.expected[:400],
        exec_id=exec_id,
        client_order_id=client_order_id,
        fill=fill,
        legs=[leg for leg in dict.fromkeys(legs or []) if leg[0]],
        since_ns=turn.now_ns,
    )
    turn.count("contradiction")
    turn.count(f"contradiction_{doubt.kind}")
    what = f"execution {exec_id}" if exec_id else f"order {client_order_id}" if client_order_id else symbols[0]
    turn.alert(
        RejectCode.CONTRADICTION,
        f"{name}: {doubt.kind} of {what}: said {record.said}; expected {record.expected}; not booked, nothing is sent "
        f"for {', '.join(record.symbols)} there until {_what_ends(route, record)}"[:1_000],
        route.platform,
    )
    _touch(turn, route, record)
    schedule_snapshot(turn, route)


def end_contradiction(turn: Turn, name: str, key: str, end: str) -> None:
    """End a contradiction: its account may be traded again, once nothing else stands there."""
    route = turn.state.routes[name]
    record = route.contradictions.pop(key)
    record.ended_ns, record.end = turn.now_ns, end
    route.ended_contradictions[key] = record
    turn.count("contradiction_ended")
    subject = record.exec_id or record.client_order_id or record.symbols[0]
    turn.alert(RejectCode.NONE, f"{name}: {record.kind} of {subject} has ended: {end}", route.platform)
    _touch(turn, route, record)


def acknowledged_as(route: RouteRecord, exec_id: str, client_order_id: str, symbol: str) -> bool:
    """Whether an operator has ended a contradiction about this execution by typing what the symbol holds. Once only."""
    for key, record in list(route.ended_contradictions.items()):
        same = (record.exec_id, record.client_order_id) == (exec_id, client_order_id)
        about = same and symbol in record.symbols and record.fill is not None
        if about and record.end.startswith(ACKNOWLEDGED):
            del route.ended_contradictions[key]
            return True
    return False


def end_for_execution(turn: Turn, name: str, exec_id: str, end: str) -> None:
    """End what stands about an execution, since the platform has said something possible of it.

    A second use of its id stays: that the first one is listed does not say what became of the other.
    """
    contradictions = turn.state.routes[name].contradictions
    for key, each in list(contradictions.items()):
        if each.exec_id == exec_id and each.kind is not ContradictionKind.REUSED_ID:
            end_contradiction(turn, name, key, end)


def _touch(turn: Turn, route: RouteRecord, record: ContradictionRecord) -> None:
    """Make new reports of the signals that it is about or bars, and let what waited for it go on."""
    name = route_of(route.platform, route.account)
    for signal_id, _ in record.legs:
        turn.touch(signal_id)
    await_cancels(turn, route)
    turn.touch_route(name)
    for signal_id in route.active_signals:
        turn.mark_for_settle(signal_id)
        if any(leg.route == name and leg.symbol in record.symbols for leg in turn.state.signals[signal_id].legs):
            turn.touch(signal_id)


def await_cancels(turn: Turn, route: RouteRecord) -> None:
    """Give cancels that a bar has held up, and replaces that a snapshot was to resolve, a deadline again."""
    for order_id in route.live:
        order = turn.state.orders[order_id]
        if order.cancel_wanted or order.replace is not None:
            turn.await_answer(order_id)


def is_contradicted(state: EngineState, signal_id: str, number: int) -> bool:
    """Whether a contradiction stands about this leg: what it holds is not known."""
    leg = state.signals[signal_id].legs[number]
    route = state.routes.get(leg.route)
    return route is not None and any((signal_id, number) in each.legs for each in route.contradictions.values())


def describe(turn: Turn, route: RouteRecord, record: ContradictionRecord) -> Contradiction:
    """Return a contradiction as a message."""
    return Contradiction(
        kind=record.kind,
        platform=route.platform,
        account=route.account,
        symbol=record.barred[0],
        said=record.said,
        expected=record.expected,
        barred=f"nothing is sent for {', '.join(record.barred)} on this account, stops and closing orders included",
        ends=_what_ends(route, record),
        exec_id=record.exec_id,
        client_order_id=record.client_order_id,
        since_ns=turn.stamp(record.since_ns),
    )


def _what_ends(route: RouteRecord, record: ContradictionRecord) -> str:
    by_hand = (
        f"`acknowledge {record.barred[0]} --holds LOTS --platform {route.platform}`, or `kill --level flatten "
        f"--unproven {route.platform}`"
    )
    if record.kind is ContradictionKind.POSITION:
        return f"two snapshots show the same position, or {by_hand}"
    able = route.hello.capabilities
    if record.exec_id and able is not None and not (able.lists_positions and able.executions_history):
        return f"{by_hand}: this platform does not list all that could prove it"
    return f"a complete snapshot agrees with it or withdraws it, or {by_hand}"


def legs_of(order: OrderRecord | None, *records: ExecutionRecord) -> list[tuple[str, int]]:
    """Return the legs that a contradiction about this order and these executions makes unknown."""
    legs = [] if order is None else [(order.signal_id, order.leg)]
    return legs + [(each.signal_id, each.leg) for each in records]


def is_confirmable(turn: Turn, record: ContradictionRecord) -> bool:
    """Whether a snapshot may confirm an execution that was not booked: lots beyond the order's size, or an id that was
    used twice for executions which each agree with their own order. What is of the wrong side, symbol or price agrees
    with no order, whatever the position is.
    """
    if record.fill is None:
        return False
    if record.kind is ContradictionKind.OVERFILL:
        return True
    order = turn.state.orders.get(record.client_order_id)
    return record.kind is ContradictionKind.REUSED_ID and doubt_fill(turn, order, record.fill) is None
