"""The orders placed by the checks: their state, and their clean-up. External orders and positions are never touched."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Final

from ...core.errors import GatewayError
from ...core.messages import (
    AccountMode,
    Cancel,
    Fill,
    LegState,
    Order,
    OrderType,
    RejectCode,
    Side,
    Snapshot,
    WorkingOrder,
)
from .checks import ANSWER_S, CertifyRun

CLEAN_UP_S: Final = 30.0
_LATE_NS: Final = 10_000_000_000
_ORDER_LIVES_ON: Final = (RejectCode.CANCEL_REJECTED, RejectCode.REPLACE_REJECTED, RejectCode.UNSUPPORTED_REPLACE)


def clean_up(run: CertifyRun) -> str:
    """Cancel the orders and close the positions of the checks, and no others; returns what remains, empty = nothing."""
    bench = run.bench
    if not bench.orders:
        return ""
    bench.cleaning = True
    deadline = time.monotonic() + CLEAN_UP_S
    trouble = "the bridge is away"
    while time.monotonic() < deadline:
        try:
            if bench.adapter.session is None:
                bench.open(CLEAN_UP_S / 4)
            trouble = _clean_once(run)
            if not trouble:
                return ""
            bench.poll_for(0.5)
        except GatewayError as error:
            bench.adapter.close()
            trouble = str(error)
            time.sleep(0.2)
    return trouble


def _clean_once(run: CertifyRun) -> str:
    """Cancel the working orders, or close the positions; return what remains, empty = nothing."""
    bench = run.bench
    snapshot = bench.snapshot()
    # In an incomplete list a missing order proves nothing.
    if incomplete_parts(run, snapshot):
        return "the platform's list is not complete"
    alive = {
        row.client_order_id: row.platform_order_id
        for row in snapshot.working_orders.rows
        if row.client_order_id in bench.orders and not row.state.final
    }
    if not bench.capabilities.lists_orders:
        alive = {name: platform_order_id_of(run, each) for name, each in bench.orders.items() if is_working(run, each)}
    for name, platform_order_id in alive.items():
        bench.adapter.execute(make_cancel(run, bench.orders[name], platform_order_id))
    if alive:
        name, platform_order_id = next(iter(alive.items()))
        return f"order {name} ({platform_order_id}) works"
    open_ids = [order.client_order_id for order in bench.orders.values() if is_open(run, order)]
    if open_ids:
        # It may still arrive and trade: a position closed now would be opened again by it.
        return f"the outcome of order {open_ids[0]} is not known"
    if not bench.capabilities.lists_positions:
        lots = sum((fill.side.sign * fill.quantity for fill in _own_executions(run, snapshot)), Decimal(0))
        return f"the checks hold {lots:+} lots, and the platform lists no positions" if lots else ""
    return "" if close_own(run, snapshot) else "a position of ours is still open"


def incomplete_parts(run: CertifyRun, snapshot: Snapshot) -> list[str]:
    """Return the parts of a snapshot that the platform can list, and that are not complete in it."""
    able = run.bench.capabilities
    parts = (
        ("positions", able.lists_positions, snapshot.positions.complete),
        ("working orders", able.lists_orders, snapshot.working_orders.complete),
        ("executions", able.executions_history, snapshot.executions.complete),
    )
    return [name for name, is_listed, is_complete in parts if is_listed and not (snapshot.complete and is_complete)]


def is_working(run: CertifyRun, order: Order) -> bool:
    update = run.bench.update(order)
    return update is not None and update.state is LegState.WORKING


def is_final(run: CertifyRun, order: Order) -> bool:
    update = run.bench.update(order)
    return update is not None and update.state.final


def is_refused(run: CertifyRun, order: Order) -> bool:
    """Whether the order has ended without trading in full. Rejects of a cancel or replace do not end it."""
    update = run.bench.update(order)
    if update is not None and update.state.final:
        return update.state is not LegState.FILLED
    return any(reject.code not in _ORDER_LIVES_ON for reject in run.bench.rejects(order))


def filled(run: CertifyRun, order: Order) -> Decimal:
    return sum((fill.quantity for fill in run.bench.fills(order)), Decimal(0))


def platform_order_id_of(run: CertifyRun, order: Order) -> str:
    update = run.bench.update(order)
    return "" if update is None else update.platform_order_id


def make_cancel(run: CertifyRun, order: Order, platform_order_id: str = "") -> Cancel:
    return Cancel(
        client_order_id=order.client_order_id,
        platform=order.platform,
        account=order.account,
        symbol=order.symbol,
        platform_order_id=platform_order_id or platform_order_id_of(run, order),
    )


def is_alive(row: WorkingOrder, order: Order) -> bool:
    return row.client_order_id == order.client_order_id and not row.state.final


def _own_executions(run: CertifyRun, snapshot: Snapshot) -> list[Fill]:
    """Executions of the checks' orders, reported as events or only found in the snapshot."""
    reported = [event for event in run.bench.events if isinstance(event, Fill)]
    found = {fill.exec_id: fill for fill in (*reported, *snapshot.executions.rows)}
    return [fill for fill in found.values() if fill.client_order_id in run.bench.orders]


def is_open(run: CertifyRun, order: Order) -> bool:
    """Whether an order may still trade: it has no final state, and its time limit for sending is not long past."""
    if is_refused(run, order) or filled(run, order) >= order.quantity:
        return False
    return time.time_ns() < order.not_after_ns + _LATE_NS


def close_own(run: CertifyRun, snapshot: Snapshot) -> bool:
    """Close what the checks' executions have opened and the platform still holds; returns whether nothing is left.

    Closes no more than the platform shows: a person may have closed it at the terminal, and a further order would open
    a new position.
    """
    orders = []
    for ticket, lots in own_positions(run, snapshot).items():
        side = Side.SELL if lots > 0 else Side.BUY
        order = run.bench.make_order(side, abs(lots), OrderType.MARKET, close_ticket=ticket)
        run.bench.place(order)
        orders.append(order)
    if not orders:
        return True
    run.bench.until(lambda: all(not is_open(run, order) for order in orders), ANSWER_S)
    return not own_positions(run, run.bench.snapshot())


def own_positions(run: CertifyRun, snapshot: Snapshot) -> dict[str, Decimal]:
    """Return the open lots of the checks, signed, by ticket (netting: one entry, without a ticket)."""
    hedging = run.bench.account.mode is AccountMode.HEDGING
    there = lots_by_ticket(run, snapshot)
    # On a netting account a position of before has merged with ours; only the difference may be closed.
    if not hedging and run.baseline is not None:
        there[""] = there.get("", Decimal(0)) - lots_by_ticket(run, run.baseline).get("", Decimal(0))
    ours: dict[str, Decimal] = {}
    for fill in _own_executions(run, snapshot):
        ticket = fill.position_ticket if hedging else ""
        ours[ticket] = ours.get(ticket, Decimal(0)) + fill.side.sign * fill.quantity
    left = {}
    for ticket, lots in ours.items():
        have = there.get(ticket, Decimal(0))
        # Same side, and at most what is open: otherwise closing would open a position.
        if lots * have > 0:
            left[ticket] = lots if abs(lots) <= abs(have) else have
    return left


def lots_by_ticket(run: CertifyRun, snapshot: Snapshot) -> dict[str, Decimal]:
    hedging = run.bench.account.mode is AccountMode.HEDGING
    lots: dict[str, Decimal] = {}
    for row in snapshot.positions.rows:
        if row.symbol == run.bench.symbol.name:
            ticket = row.ticket if hedging else ""
            lots[ticket] = lots.get(ticket, Decimal(0)) + row.quantity
    return lots


def until_final(run: CertifyRun, order: Order) -> bool:
    return run.bench.until(lambda: is_final(run, order), ANSWER_S)
