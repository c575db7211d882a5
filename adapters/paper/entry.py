"""The platform's checks of new orders and replaces, and the order's entry in the book. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from ...core.messages import AccountMode, Instrument, Order, Replace, TimeInForce
from .book import ZERO, PaperBook, PaperOrder
from .scenarios import Plan


def refuse_order(
    order: Order, plan: Plan, instrument: Instrument | None, book: PaperBook, mode: AccountMode, now_ns: int
) -> str:
    """Return why the platform rejects this order; empty when it accepts it."""
    if plan.reject:
        return "refused by the platform, as the scenario says"
    if instrument is None:
        return f"symbol was {order.symbol}, which this account does not trade"
    if order.contract and instrument.contract and order.contract != instrument.contract:
        return f"contract was {order.contract}, {order.symbol} is {instrument.contract} now"
    if order.time_in_force is TimeInForce.GTD and order.good_till_ns <= now_ns:
        return f"good_till_ns was {order.good_till_ns}, it is {now_ns} already"
    text = _off_grid(instrument, order.quantity, order.limit_price, order.stop_price)
    text = text or _off_grid(instrument, order.quantity, order.stop_loss, order.take_profit)
    if text:
        return text
    signed = order.quantity * order.side.sign
    if order.close_ticket:
        position = book.positions.get(order.close_ticket)
        held = position.quantity if position is not None and position.ticket else ZERO
        if held * signed >= 0 or abs(signed) > abs(held):
            return f"ticket {order.close_ticket} holds {held} lots, which {order.side} {order.quantity} does not reduce"
    elif order.reduce_only:
        net = book.net(order.symbol)
        if mode is AccountMode.HEDGING:
            return "a hedging account reduces a position by its ticket only"
        if net * signed >= 0:
            return f"position is {net} lots, which {order.side} {order.quantity} does not reduce"
    return ""


def refuse_replace(replace: Replace, order: PaperOrder | None, instruments: Mapping[str, Instrument]) -> str:
    """Return why the platform rejects this replace; empty when it accepts it."""
    if order is None:
        return "no such order"
    if not order.live:
        return f"the order is {order.state}"
    if replace.quantity <= order.filled:
        return f"quantity was {replace.quantity}, {order.filled} have traded already"
    wanted, present = (replace.limit_price, replace.stop_price), (order.limit_price, order.stop_price)
    if [price is None for price in wanted] != [price is None for price in present]:
        return f"the prices do not fit a {order.order_type} order"
    return _off_grid(instruments[order.symbol], replace.quantity, replace.limit_price, replace.stop_price)


def make_order(order: Order, plan: Plan, book: PaperBook, now_ns: int) -> PaperOrder:
    """Add an accepted order to the book and return it."""
    accepted = PaperOrder(
        platform_order_id=book.next_id("O"),
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        contract=order.contract,
        side=order.side,
        order_type=order.order_type,
        quantity=order.quantity,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        time_in_force=order.time_in_force,
        good_till_ns=order.good_till_ns,
        stop_loss=order.stop_loss,
        take_profit=order.take_profit,
        reduce_only=order.reduce_only,
        close_ticket=order.close_ticket,
        group=order.oco_group,
        plan=plan,
        accepted_ns=now_ns,
    )
    book.add_order(accepted)
    return accepted


def _off_grid(instrument: Instrument, lots: Decimal, *prices: Decimal | None) -> str:
    if instrument.lot_step is not None and lots % instrument.lot_step:
        return f"quantity was {lots}, must be a multiple of {instrument.lot_step}"
    for price in prices:
        if price is not None and instrument.tick_size is not None and price % instrument.tick_size:
            return f"price was {price}, must be a multiple of {instrument.tick_size}"
    return ""
