"""Checks of orders: far from the market, where nothing can trade; a round trip at the market only with `--trade`.

Orders go through the adapter as the gateway's do. Each is recorded before it is sent, and `clean_up` cancels or closes
what is left of them.
"""

from __future__ import annotations

import contextlib
import time
from decimal import ROUND_DOWN, Decimal

import msgspec

from ...core.messages import (
    AccountMode,
    LegState,
    Order,
    OrderType,
    Reject,
    RejectCode,
    Replace,
    Side,
)
from ..base import LinkLostError
from .checks import ANSWER_S, CertifyRun, Found, failed, passed, skipped, unknown
from .own_orders import (
    clean_up,
    close_own,
    filled,
    is_alive,
    is_final,
    is_refused,
    is_working,
    lots_by_ticket,
    make_cancel,
    platform_order_id_of,
    until_final,
)
from .session_checks import session_of

_CLOSED_WORDS = ("10018", "market closed", "market is closed")
_RECONNECT_S = 150.0


class NotPlaced(Exception):
    """The order that a check needs could not be placed; `found` gives the reason."""

    def __init__(self, found: Found) -> None:
        super().__init__(found.measured)
        self.found = found


def check_reject(run: CertifyRun) -> Found:
    """An order beside the tick grid is refused, with a code, and leaves nothing at the platform."""
    order = _far_order(run)
    assert order.limit_price is not None
    step = _tick_size(run)
    wrong = msgspec.structs.replace(order, limit_price=order.limit_price + step / 2)
    run.bench.place(wrong)
    rejects = run.bench.until(lambda: run.bench.rejects(wrong), ANSWER_S)
    update = run.bench.update(wrong)
    # A bridge may answer with a reject, the platform itself with an update: both are right. Only an accepted order, or
    # no answer, is a failure.
    if rejects:
        return passed(f"price {wrong.limit_price} beside the step {step}: {rejects[0].code.value}, {rejects[0].text}")
    if update is not None and update.state is LegState.REJECTED:
        return passed(f"price {wrong.limit_price} beside the step {step}: rejected, {update.text}")
    if update is not None:
        return failed(f"the platform took the price {wrong.limit_price}, step {step}", "compare the tick size")
    return failed("no answer at all", "look into the bridge's log")


def check_too_late(run: CertifyRun) -> Found:
    """An order past its time limit is refused before the platform sees it."""
    order = msgspec.structs.replace(_far_order(run), not_after_ns=time.time_ns() - 5_000_000_000)
    run.bench.place(order)
    rejects = run.bench.until(lambda: run.bench.rejects(order), ANSWER_S)
    if rejects and rejects[0].code is RejectCode.TOO_LATE_TO_SEND:
        return passed("refused: too_late_to_send")
    if run.bench.update(order) is not None:
        return failed("it was placed", "keep this report: the gateway relies on this refusal")
    return failed(f"answer was {rejects or 'none'}", "keep this report: the gateway relies on this refusal")


def check_far_order(run: CertifyRun) -> Found:
    """A limit order far from the market is accepted and works."""
    order, ack_ms, working_ms = _place_far(run)
    number = platform_order_id_of(run, order)
    found = passed(
        f"{order.side.value} {order.quantity} at {order.limit_price}: ack after {ack_ms:.0f} ms, working after "
        f"{working_ms:.0f} ms, number {number}"
    )
    return found if number else failed("it works, without a number", "use the bridge of this release")


def check_idempotent(run: CertifyRun) -> Found:
    """The same order a second time is answered, and not placed."""
    # Sent to the adapter directly, past `OrderChannel`, which would answer it: the bridge has to recognise it as well.
    order = _working(run)
    seen = len(run.bench.answers(order))
    run.bench.adapter.execute(order)
    run.bench.until(lambda: len(run.bench.answers(order)) > seen, ANSWER_S)
    rows = [row for row in run.bench.snapshot().working_orders.rows if is_alive(row, order)]
    is_listed = run.bench.capabilities.lists_orders
    if is_listed and len(rows) != 1:
        return failed(f"{len(rows)} orders of this id work at the platform", "cancel them; keep this report")
    if len(run.bench.answers(order)) == seen:
        return failed("the repetition was not answered", "use the bridge of this release")
    return passed("answered again, " + ("one order at the platform" if is_listed else "look there: it lists no orders"))


def check_replace(run: CertifyRun) -> Found:
    """A working order's price is changed in place."""
    if not run.bench.capabilities.replace:
        return skipped("this platform changes no orders")
    order = _working(run)
    assert order.limit_price is not None
    step = _tick_size(run) * (1 if order.side is Side.SELL else -1)
    replace = Replace(
        client_order_id=order.client_order_id,
        platform=order.platform,
        account=order.account,
        symbol=order.symbol,
        revision=1,
        quantity=order.quantity,
        platform_order_id=platform_order_id_of(run, order),
        limit_price=order.limit_price + step,
    )
    began = time.monotonic()
    run.bench.adapter.execute(replace)

    def answer() -> bool:
        update = run.bench.update(order)
        return bool(run.bench.rejects(order)) or (update is not None and update.replace_revision == 1)

    run.bench.until(answer, ANSWER_S)
    took_ms = (time.monotonic() - began) * 1000
    update = run.bench.update(order)
    rejects = run.bench.rejects(order)
    if rejects:
        return failed(f"refused: {rejects[-1].text}", run.cure_of(rejects[-1].text, "see the platform's own words"))
    if update is None or update.replace_revision != 1:
        return failed("no answer to the change", "look into the bridge's log")
    if update.limit_price != replace.limit_price:
        return failed(f"price is {update.limit_price}, wanted was {replace.limit_price}", "keep this report")
    return passed(f"price {order.limit_price} -> {update.limit_price} after {took_ms:.0f} ms")


def check_cancel(run: CertifyRun) -> Found:
    """A working order is cancelled, and is gone from the platform's list."""
    order = _working(run)
    began = time.monotonic()
    run.bench.adapter.execute(make_cancel(run, order))
    until_final(run, order)
    took_ms = (time.monotonic() - began) * 1000
    update = run.bench.update(order)
    if update is None or update.state is not LegState.CANCELLED:
        state = "unknown" if update is None else update.state.value
        return failed(f"state is {state} after {took_ms:.0f} ms", "look into the bridge's log")
    if any(is_alive(row, order) for row in run.bench.snapshot().working_orders.rows):
        return failed("cancelled, but still in the platform's list", "keep this report")
    return passed(f"cancelled after {took_ms:.0f} ms")


def check_cancel_again(run: CertifyRun) -> Found:
    """A cancel of an order that has ended is harmless, and is acknowledged."""
    order = next((each for each in run.bench.orders.values() if is_final(run, each)), None)
    if order is None:
        return skipped("no order was cancelled before")
    seen, session = len(run.bench.answers(order)), session_of(run)
    run.bench.adapter.execute(make_cancel(run, order))
    run.bench.until(lambda: not session.pending_commands and len(run.bench.answers(order)) > seen, ANSWER_S)
    if session.pending_commands:
        return failed("the bridge has not acknowledged it", "look into the bridge's log")
    answers = run.bench.answers(order)[seen:]
    words = [each.code.value if isinstance(each, Reject) else type(each).__name__ for each in answers]
    return passed(f"acknowledged; {', '.join(words) or 'nothing more to say'}")


def check_bracket(run: CertifyRun) -> Found:
    """A far order with stop loss and take profit is accepted, and cancelled again."""
    if not run.bench.capabilities.brackets:
        return skipped("the gateway keeps stop and target itself on this account")
    order = _far_order(run)
    assert order.limit_price is not None
    distance = _to_grid(order.limit_price * run.distance, _tick_size(run))
    order = msgspec.structs.replace(
        order, stop_loss=order.limit_price - distance, take_profit=order.limit_price + distance
    )
    _, working_ms = _send_and_wait(run, order)
    run.bench.adapter.execute(make_cancel(run, order))
    if not until_final(run, order):
        return failed("it works, but was not cancelled", "cancel it at the platform by hand")
    return passed(f"stop {order.stop_loss}, target {order.take_profit}, working after {working_ms:.0f} ms, cancelled")


def check_restart(run: CertifyRun) -> Found:
    """After a restart of the bridge its orders are recognised by their id, and can be cancelled."""
    before = session_of(run).challenge
    assert before is not None
    if not run.bench.capabilities.lists_orders:
        return skipped("this platform lists no orders, so what a new bridge knows does not show")
    if run.restart is None and not run.restart_wait_s:
        return skipped("the bridge is not started from here", "add --restart-wait 120, and restart it when asked")
    order, _, _ = _place_far(run)
    if run.restart is not None:
        run.bench.adapter.close()
        run.restart()
    else:
        run.say(f"restart the bridge now; there are {run.restart_wait_s:g} s for it")
    deadline = time.monotonic() + (_RECONNECT_S if run.restart is not None else run.restart_wait_s)
    # The old bridge may still answer for a moment: only another boot id proves that a new one is there.
    while True:
        with contextlib.suppress(LinkLostError):
            run.bench.open(5.0)
            after = session_of(run).challenge
            if after is not None and after.boot_id != before.boot_id:
                break
            run.bench.poll_for(1.0)
        if time.monotonic() > deadline:
            return failed("no new bridge came", "restart it by hand, and look into its log")
    rows = [row for row in run.bench.snapshot().working_orders.rows if is_alive(row, order)]
    if len(rows) != 1:
        return failed(
            f"{len(rows)} orders with the id {order.client_order_id} in the new bridge's snapshot",
            "look for the order at the platform; keep this report",
        )
    run.bench.adapter.execute(make_cancel(run, order, rows[0].platform_order_id))
    if not until_final(run, order):
        return failed("recognised, but not cancelled", "cancel it at the platform by hand")
    return passed(f"a new bridge knows order {rows[0].platform_order_id} as {order.client_order_id}; cancelled")


def check_round_trip(run: CertifyRun) -> Found:
    """One market order, its fill in the platform's executions, and the close of the position."""
    if not run.trade:
        return skipped("not asked for", "add --trade to buy and sell the smallest size at the market")
    if not run.bench.capabilities.lists_positions:
        return skipped("this platform lists no positions, so the close could not be checked", "try it by hand")
    # On a netting account the order would merge with a position of the owner, and the close could reduce that one.
    if run.bench.account.mode is AccountMode.NETTING and any(lots_by_ticket(run, run.bench.snapshot()).values()):
        return skipped(f"the account holds {run.bench.symbol.name} already", "close it by hand first")
    quote = run.bench.quote()
    if quote is None:
        return unknown("there is no quote", "run it while the market is open")
    order = run.bench.make_order(Side.BUY, run.lots, OrderType.MARKET)
    began = time.monotonic()
    run.bench.place(order)
    run.bench.until(lambda: filled(run, order) >= order.quantity or is_refused(run, order), ANSWER_S)
    took_ms = (time.monotonic() - began) * 1000
    if filled(run, order) != order.quantity:
        raise NotPlaced(_not_taken(run, order))
    snapshot = run.bench.snapshot()
    # The gateway reconciles by the snapshot's executions: a fill that is missing there would be booked as a bust.
    listed = {row.exec_id for row in snapshot.executions.rows}
    fills = run.bench.fills(order)
    if run.bench.capabilities.executions_history and not all(fill.exec_id in listed for fill in fills):
        return failed("a fill is not among the executions of the snapshot", "keep this report")
    price = sum((fill.price * fill.quantity for fill in fills), Decimal(0)) / order.quantity
    slip_ticks = (price - quote[1]) / _tick_size(run)
    closed = close_own(run, snapshot)
    text = (
        f"bought {order.quantity} at {price} ({slip_ticks:+.1f} ticks from the ask {quote[1]}), {len(fills)} "
        f"execution(s) after {took_ms:.0f} ms, fees {sum((fill.fee for fill in fills), Decimal(0))}"
    )
    if not closed:
        return failed(f"{text}; the position is still open", "close it at the platform by hand")
    return passed(f"{text}; closed again")


def check_nothing_left(run: CertifyRun) -> Found:
    """No order of the checks works, and the position is as before."""
    trouble = clean_up(run)
    if trouble:
        return failed(trouble, "look at the platform, and cancel or close it there by hand")
    return passed(f"{len(run.bench.orders)} orders were sent, none is left; the position is as before")


# Inside.


def _far_order(run: CertifyRun) -> Order:
    """Return a buy far below the market, on the tick grid. Raises NotPlaced when there is no quote."""
    run.bench.until(lambda: run.bench.quote() is not None, ANSWER_S / 2)
    quote = run.bench.quote()
    if quote is None:
        raise NotPlaced(unknown("there is no quote to be far from", "run it while the market is open"))
    price = _to_grid(quote[0] * (1 - run.distance), _tick_size(run))
    return run.bench.make_order(Side.BUY, run.lots, OrderType.LIMIT, limit_price=price)


def _tick_size(run: CertifyRun) -> Decimal:
    step = None if run.instrument is None else run.instrument.tick_size
    if step is None:
        raise NotPlaced(failed("the platform names no tick size", "use the bridge of this release"))
    return step


def _to_grid(price: Decimal, step: Decimal) -> Decimal:
    return (price / step).to_integral_value(ROUND_DOWN) * step


def _place_far(run: CertifyRun) -> tuple[Order, float, float]:
    order = _far_order(run)
    return order, *_send_and_wait(run, order)


def _send_and_wait(run: CertifyRun, order: Order) -> tuple[float, float]:
    """Place an order; return the milliseconds until its ack, and until it worked. Raises NotPlaced if it does not."""
    session, began = session_of(run), time.monotonic()
    run.bench.place(order)
    run.bench.until(lambda: not session.pending_commands, ANSWER_S)
    ack_ms = (time.monotonic() - began) * 1000
    run.bench.until(lambda: is_working(run, order) or is_final(run, order) or is_refused(run, order), ANSWER_S)
    if not is_working(run, order):
        raise NotPlaced(_not_taken(run, order))
    return ack_ms, (time.monotonic() - began) * 1000


def _working(run: CertifyRun) -> Order:
    """Return a working far order: an earlier one, or a new one."""
    for order in run.bench.orders.values():
        if is_working(run, order):
            return order
    return _place_far(run)[0]


def _not_taken(run: CertifyRun, order: Order) -> Found:
    update, rejects = run.bench.update(order), run.bench.rejects(order)
    words = rejects[-1].text if rejects else "" if update is None else update.text
    if not words and update is None:
        return failed("no word on the order: its outcome is unknown", "look for it at the platform, and into the logs")
    text = f"not taken: {words or (update.state.value if update is not None else '')}"
    code = rejects[-1].code if rejects else RejectCode.NONE
    if code is RejectCode.SESSION_CLOSED or any(word in words.casefold() for word in _CLOSED_WORDS):
        return unknown(text, "run it while the market is open")
    return failed(text, run.cure_of(words, "see the platform's own words; --quantity, where the size is refused"))
