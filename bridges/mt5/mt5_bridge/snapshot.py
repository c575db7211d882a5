"""Build snapshots of orders, positions and executions."""

from __future__ import annotations

import time
from decimal import Decimal

from .constants import FINAL_STATES, MAX_ROWS, REASON_SL, REASON_TP
from .descriptions import Describer, is_trade
from .fields import Body
from .monitor import Monitor
from .server_clock import ServerClock
from .terminal import Terminal


def make_snapshot(
    terminal: Terminal,
    monitor: Monitor,
    describer: Describer,
    request: Body,
    clock: ServerClock,
    *,
    clock_is_right: bool,
) -> Body:
    """Build the snapshot of the current state; the monitor first reports the changes that it contains.

    Raises:
        CallFailed, TerminalLost, WrongTerminal: nothing can be said about the account.
    """
    from_ns = request["executions_from_ns"] or monitor.window_ns
    view, stable = monitor.read_stable(min(from_ns, monitor.window_ns))
    monitor.apply(view)
    now_ns = time.time_ns()
    deals = [each for each in view.deals if is_trade(each)]
    deals = sorted({each.ticket: each for each in deals}.values(), key=lambda each: (each.time_msc, each.ticket))
    if len(deals) > MAX_ROWS:
        # Begin at a whole millisecond: half of one would be missing without a trace.
        first_ms = deals[-MAX_ROWS - 1].time_msc
        deals = [each for each in deals if each.time_msc > first_ms]
        from_ns = max(from_ns, clock.to_utc_ns(first_ms + 1))
    executions = [describer.fill(each, *monitor.owners.order_of_deal(each)) for each in deals]
    orders = {order.ticket: describer.order(order) for order in view.orders if order.volume_initial > 0}
    for order in view.history:
        if order.volume_initial > 0:
            orders[order.ticket] = describer.order(order, has_ended=True)
    for order in view.history:
        if order.reason in (REASON_SL, REASON_TP) and monitor.owners.entry_of(order.position_id):
            orders.pop(order.ticket, None)
    rows = [orders[ticket] for ticket in sorted(orders)]
    rows += monitor.brackets.ended_rows(view).values()
    rows += [describer.child(each, child, "working", Decimal(0)) for each, child in monitor.brackets.live.items()]
    live = [row for row in rows if row["state"] not in FINAL_STATES]
    over = [row for row in rows if row["state"] in FINAL_STATES]
    room = MAX_ROWS - len(live)
    rows = (over[-room:] if room > 0 else []) + live
    positions = [describer.position(each) for each in view.positions]
    # While the lists change, or lag behind an order that was accepted, none of them proves that something is absent.
    complete = stable and clock_is_right and not view.missing
    parts = [
        describer.part("positions", positions[:MAX_ROWS], now_ns, complete and len(positions) <= MAX_ROWS),
        describer.part("working_orders", rows[:MAX_ROWS], now_ns, complete and len(rows) <= MAX_ROWS),
        describer.part("executions", executions, now_ns, complete),
    ]
    funds = describer.money(terminal.need_account(), now_ns)
    return describer.snapshot(request["request_id"], parts, from_ns, funds, complete)
