"""Book executions. Positions and money are sums over executions, and over nothing else.

The key is (platform, account, ExecID), and the highest revision wins: so duplicates, resends after a reconnect and any
order of arrival give the same sums. An order status never adds a lot; it can only show that executions are missing.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import structs

from ...messages import (
    AccountMode,
    ContradictionKind,
    Correction,
    CorrectionKind,
    Fill,
    RejectCode,
    Side,
    find_client_order_id,
)
from ..effects import FinishedExecution
from ..state import ZERO, ContradictionRecord, EngineState, ExecutionRecord, route_of
from ..turn import Turn
from .booking import book_execution, booked_lots, rebook
from .contradictions import (
    STRIKES,
    Doubt,
    acknowledged_as,
    doubt_fill,
    doubt_repetition,
    doubt_ticket,
    end_for_execution,
    legs_of,
    open_contradiction,
)
from .links import schedule_snapshot
from .recognition import find_own_id, recognise


def execution_key(platform: str, account: str, exec_id: str) -> str:
    """Return the key under which an execution is booked once."""
    return f"{route_of(platform, account)}|{exec_id}"


def fill_of(key: str, execution: ExecutionRecord | FinishedExecution) -> Fill:
    """Return a booked execution as a message; `key`: its `execution_key`."""
    platform, account, exec_id = key.split("|", 2)
    return Fill(
        platform=platform,
        account=account,
        exec_id=exec_id,
        client_order_id=execution.client_order_id,
        symbol=execution.symbol,
        side=Side.BUY if execution.sign > 0 else Side.SELL,
        quantity=execution.quantity,
        price=execution.price,
        ts_event_ns=execution.ts_event_ns,
        position_ticket=execution.ticket,
        fee=execution.fee,
        fee_currency=execution.fee_currency,
    )


def booked_key(state: EngineState, fill: Fill) -> str:
    """Return the key of an execution: that of its id, or its own if it was confirmed as another use of this id."""
    key = execution_key(fill.platform, fill.account, fill.exec_id)
    second = f"{key}{second_use(fill)}"
    return second if second in state.executions else key


def second_use(fill: Fill) -> str:
    """Name another execution of a known id by what it is. Not by its time, which may come in two roundings."""
    return f"@{fill.client_order_id}/{fill.symbol}/{fill.side}/{fill.quantity}/{fill.price}"


def apply_fill(turn: Turn, fill: Fill, rows: int = 0, since_ns: int = 0) -> None:
    """Book an execution once, if it agrees with its order and with what its id stands for; else it is a contradiction.

    `rows`: how many rows of a snapshot, which reaches back to `since_ns`, have this id; 0 = a live report. A duplicate
    only raises a counter. A snapshot may correct what was booked: the only row of an id holds for an external execution
    whatever was first reported.
    """
    name = route_of(fill.platform, fill.account)
    route = turn.state.routes.get(name)
    if route is None:
        turn.count("fill_from_unknown_route")
        return
    key = booked_key(turn.state, fill)
    record = turn.state.executions.get(key)
    parts = find_own_id(turn, name, fill.client_order_id)
    known = None if parts is None else turn.state.orders.get(parts.client_order_id)
    # The executions of a signal's orders are evicted with the orders. One of a known order is new, whatever its stamp:
    # the platform's clock may have been set back.
    is_old = fill.ts_event_ns <= route.evicted_until_ns and not (known is not None and known.signal_id)
    if record is None and rows and is_old:
        # Booked long ago and evicted since: it is in `net` already, and would be added a second time.
        turn.count("evicted_fill")
        return
    if parts is None and record is None and (copied := find_client_order_id(fill.client_order_id)) is not None:
        text = f"{name}: execution {fill.exec_id} names order {copied.client_order_id} of another account"
        text += "; it is external here: look whether a trade copier made it, or the account is wrong"
        turn.alert(RejectCode.IDENTITY_MISMATCH, text, route.platform)
    order_id = "" if parts is None else parts.client_order_id
    if record is not None and record.seen:
        doubt = doubt_repetition(record, fill, order_id, rows)
        if doubt is None:
            _apply_repetition(turn, key, record, fill, rows > 0)
            return
        of_order = turn.state.orders.get(record.client_order_id)
        is_bound = of_order is not None and key in of_order.executions
        if rows != 1 or record.ts_event_ns < since_ns or is_bound:
            order = None if parts is None else recognise(turn, route, parts, fill)
            symbols = [fill.symbol, record.symbol]
            _refuse_fill(turn, name, doubt, fill, symbols, order_id, legs_of(order, record))
            return
        _take_out(turn, key, record)
    order = None if parts is None else recognise(turn, route, parts, fill)
    # A correction that has overtaken its fill says what holds; a bust, that nothing does.
    held = fill if record is None or record.busted else structs.replace(fill, **_corrected(record))
    doubt = doubt_fill(turn, order, held) if order is not None else doubt_ticket(route, held)
    if doubt is not None and not (record is not None and record.busted):
        symbols = [fill.symbol if order is None else order.order.symbol, fill.symbol]
        _refuse_fill(turn, name, doubt, held, symbols, order_id, legs_of(order))
        return
    if record is None:
        record = turn.state.executions[key] = ExecutionRecord(route=name)
        route.executions[key] = None
    record.missed_snapshots = 0
    end_for_execution(turn, name, fill.exec_id, "the platform now reports it as its order is")
    was_acknowledged = acknowledged_as(route, fill.exec_id, order_id, fill.symbol)
    book_execution(turn, key, record, fill, order, order_id)
    if was_acknowledged and record.signed:
        # The operator's figure has counted these lots already, as external ones: they are the leg's from now on.
        position = turn.position(name, fill.symbol)
        position.net -= record.signed
        position.external -= record.signed
        if order is not None:
            order.written_off_qty = max(order.written_off_qty - record.quantity, ZERO)


def _take_out(turn: Turn, key: str, record: ExecutionRecord) -> None:
    """Take an external execution out of position and money again, before it is booked as the snapshot lists it."""
    before = booked_lots(record)
    record.busted = True
    rebook(turn, key, record, before)
    leg = turn.leg(record.signal_id, record.leg)
    if leg is not None:
        leg.executions.pop(key, None)  # it was the leg's by its position ticket
    record.signal_id, record.leg = "", -1
    record.busted = record.presumed_busted = record.seen = False
    record.revision = 0
    turn.count("execution_changed_at_platform")


def _corrected(record: ExecutionRecord) -> dict[str, Decimal]:
    return {"quantity": record.quantity, "price": record.price} if record.revision and record.quantity else {}


def _refuse_fill(
    turn: Turn, name: str, doubt: Doubt, fill: Fill, symbols: list[str], order_id: str, legs: list[tuple[str, int]]
) -> None:
    open_contradiction(turn, name, doubt, symbols, exec_id=fill.exec_id, client_order_id=order_id, fill=fill, legs=legs)


def _apply_repetition(turn: Turn, key: str, record: ExecutionRecord, fill: Fill, from_snapshot: bool) -> None:
    record.missed_snapshots = 0
    if from_snapshot:
        _apply_snapshot_row(turn, key, record, fill)
    else:
        turn.count("duplicate_fill")


def apply_correction(turn: Turn, correction: Correction) -> None:
    """Bust or correct an execution, also one that has not arrived yet. An older revision only raises a counter."""
    name = route_of(correction.platform, correction.account)
    if name not in turn.state.routes:
        turn.count("fill_from_unknown_route")
        return
    key = execution_key(correction.platform, correction.account, correction.exec_id)
    record = turn.state.executions.get(key)
    quantity, price = correction.quantity, correction.price
    is_newer = record is not None and record.seen and correction.revision > record.revision
    if record is not None and is_newer and quantity is not None and price is not None:
        possible = _may_restate(turn, name, key, record, quantity, price)
        if not possible:
            return
    if record is None:
        record = turn.state.executions[key] = ExecutionRecord(route=name)
        turn.state.routes[name].executions[key] = None
    if correction.revision <= record.revision:
        turn.count("duplicate_correction")
        return
    before = booked_lots(record)
    record.revision = correction.revision
    record.restated = True
    record.presumed_busted = False
    if correction.kind is CorrectionKind.BUST:
        record.busted = True
    else:
        assert quantity is not None
        assert price is not None
        record.busted = False
        record.quantity, record.price, record.beyond = quantity, price, ZERO
    turn.count("correction")
    turn.alert(RejectCode.NONE, f"execution {correction.exec_id}: {correction.kind}", correction.platform)
    waiting = [each for each in _refused_fills(turn, name, correction.exec_id) if not record.seen]
    if record.busted:
        end_for_execution(turn, name, correction.exec_id, "the platform has taken it back")
    rebook(turn, key, record, before)
    if waiting and not record.busted:
        apply_fill(turn, waiting[0])  # it was not booked as it was first reported: as corrected it may be possible


def _refused_fills(turn: Turn, name: str, exec_id: str) -> list[Fill]:
    contradictions = turn.state.routes[name].contradictions.values()
    return [each.fill for each in contradictions if each.exec_id == exec_id and each.fill is not None]


def _may_restate(turn: Turn, name: str, key: str, record: ExecutionRecord, quantity: Decimal, price: Decimal) -> bool:
    """Whether an execution may be changed to this quantity and price; False: it is a contradiction."""
    order = turn.state.orders.get(record.client_order_id)
    if order is None:
        return True
    stated = structs.replace(fill_of(key, record), quantity=quantity, price=price)
    doubt = doubt_fill(turn, order, stated, counted=record.own_quantity if record.counts else ZERO)
    if doubt is None:
        return True
    doubt = structs.replace(doubt, said=f"corrected to {doubt.said}")
    open_contradiction(
        turn,
        name,
        doubt,
        [record.symbol, order.order.symbol],
        exec_id=stated.exec_id,
        client_order_id=record.client_order_id,
        legs=legs_of(order, record),
    )
    return False


def book_confirmed(turn: Turn, name: str, record: ContradictionRecord) -> Decimal:
    """Book an execution that was refused, now that snapshots or the operator have confirmed it. Returns its lots beyond
    the order's size: they belong to the account and to no leg.

    A second execution of an id is booked under a key of its own. On a hedging account all lots are the position's that
    the order has opened or reduced, and end with its ticket.
    """
    fill = record.fill
    assert fill is not None
    key = execution_key(fill.platform, fill.account, fill.exec_id)
    if record.kind is ContradictionKind.REUSED_ID:
        key = f"{key}{second_use(fill)}"
    order = turn.state.orders.get(record.client_order_id)
    beyond = ZERO
    if order is not None and turn.state.routes[name].hello.account_mode is AccountMode.NETTING:
        # Judged now: others that were refused with it may have filled the order meanwhile.
        beyond = max(fill.quantity - max(order.most_qty - order.cum_qty, ZERO), ZERO)
    execution = turn.state.executions.setdefault(key, ExecutionRecord(route=name))
    turn.state.routes[name].executions[key] = None
    book_execution(turn, key, execution, fill, order, record.client_order_id, beyond)
    return beyond


def presume_bust(turn: Turn, key: str, record: ExecutionRecord) -> None:
    """Take an execution that the platform no longer lists out of position and money, as if it were busted."""
    before = booked_lots(record)
    record.busted = True
    record.presumed_busted = True
    turn.count("bust_inferred")
    turn.alert(RejectCode.NONE, f"execution {key} is no longer listed by the platform: presumed busted")
    rebook(turn, key, record, before)


def _apply_snapshot_row(turn: Turn, key: str, record: ExecutionRecord, fill: Fill) -> None:
    changed = record.quantity != fill.quantity or record.price != fill.price
    # A snapshot that was read before a correction does not undo it; two of them in a row were read after it.
    record.differing_snapshots = record.differing_snapshots + 1 if changed and record.revision else 0
    is_older = changed and 0 < record.differing_snapshots < STRIKES
    if is_older and not record.presumed_busted:
        schedule_snapshot(turn, turn.state.routes[record.route], turn.state.settings.retry_ms)
        return
    if not record.presumed_busted and not changed:
        end_for_execution(turn, record.route, fill.exec_id, "the snapshot lists it as it is booked")
        return
    if changed and not _may_restate(turn, record.route, key, record, fill.quantity, fill.price):
        return
    end_for_execution(turn, record.route, fill.exec_id, "the snapshot lists it as its order is")
    before = booked_lots(record)
    record.busted = record.presumed_busted = False
    record.restated, record.differing_snapshots = True, 0
    if changed:
        record.quantity, record.price, record.beyond = fill.quantity, fill.price, ZERO
    turn.count("execution_changed_at_platform")
    rebook(turn, key, record, before)
