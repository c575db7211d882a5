"""Consequences of a trade: brackets, OCO siblings, busts and corrections, scripted external trades."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Final

from ...core.messages import (
    Correction,
    CorrectionKind,
    Fill,
    LegState,
    OrderRole,
    OrderType,
    Side,
    TimeInForce,
    find_client_order_id,
)
from ...shm.durations import NS_PER_MS
from .book import ZERO, PaperBook, PaperExecution, PaperOrder
from .matching import floor_to_step
from .scenarios import SECOND_REPORT_MS, Plan
from .timeline import Timeline
from .trading import TradingFloor

_FAR: Final = Decimal("0.1")
"""Distance of a scripted external order from the market, as a fraction of the price."""


class Aftermath:
    """Called by the trading floor after each trade."""

    def __init__(self, timeline: Timeline, book: PaperBook, floor: TradingFloor) -> None:
        self._timeline = timeline
        self._book = book
        self._floor = floor
        floor.after_trade = self.follow_up

    def follow_up(self, order: PaperOrder, execution: PaperExecution, now_ns: int) -> None:
        """Apply all consequences of one trade."""
        plan = order.plan
        if order.group:
            self._reduce_siblings(order, execution.fill.quantity, now_ns)
        if order.stop_loss is not None or order.take_profit is not None:
            self._resize_bracket(order, now_ns)
        if order.ticket and order.ticket not in self._book.positions:
            self._drop_bracket(order, now_ns)
        # The first execution of the order: only that one is busted or corrected.
        if order.filled == execution.fill.quantity:
            for kind, after_ms in (
                (CorrectionKind.BUST, plan.bust_after_ms),
                (CorrectionKind.CORRECT, plan.correct_after_ms),
            ):
                if after_ms:
                    self._timeline.schedule(now_ns + after_ms * NS_PER_MS, partial(self._correct, execution, kind))
        if plan.by_hand and not order.live:
            self._timeline.schedule(now_ns + SECOND_REPORT_MS * NS_PER_MS, partial(self._act_externally, order))
        if plan.dies == "after_fill":
            self._timeline.die()

    def _correct(self, execution: PaperExecution, kind: CorrectionKind, now_ns: int) -> None:
        """Bust an execution, or correct its price by one tick upwards."""
        fill = execution.fill
        order = self._book.orders[execution.platform_order_id]
        signed = fill.quantity * fill.side.sign
        execution.revision += 1
        quantity = price = None
        refund = ZERO
        # Book the opposite trade, then (for a correction) the corrected one: position and result are as if only the
        # corrected execution had happened.
        points = self._book.book_trade(fill.symbol, fill.position_ticket, fill.contract, -signed, fill.price)
        if kind is CorrectionKind.BUST:
            execution.busted = True
            refund = fill.fee
            order.filled -= fill.quantity
            order.cost -= fill.quantity * fill.price
            # The lots of a bust do not work again; a filled order is therefore over as cancelled.
            if order.state is LegState.FILLED:
                order.state = LegState.CANCELLED
        else:
            quantity, price = fill.quantity, fill.price + self._floor.tick_size(fill.symbol)
            points += self._book.book_trade(fill.symbol, fill.position_ticket, fill.contract, signed, price)
            order.cost += quantity * (price - fill.price)
            execution.fill = _at_price(fill, price)
        self._book.add_money(points, self._floor.point_value(fill.symbol), -refund)
        self._book.add_execution(execution)
        self._book.touch_order(order)
        correction = Correction(
            platform=fill.platform,
            account=fill.account,
            exec_id=fill.exec_id,
            kind=kind,
            revision=execution.revision,
            quantity=quantity,
            price=price,
            ts_event_ns=now_ns,
        )
        self._timeline.report(correction, order.plan, now_ns)

    def place_external(
        self,
        symbol: str,
        side: Side,
        lots: Decimal,
        now_ns: int,
        *,
        limit_price: Decimal | None = None,
        close_ticket: str = "",
    ) -> None:
        """Place an external order: one without a client order id of ours."""
        order = PaperOrder(
            platform_order_id=self._book.next_id("O"),
            symbol=symbol,
            side=side,
            order_type=OrderType.MARKET if limit_price is None else OrderType.LIMIT,
            limit_price=limit_price,
            quantity=lots,
            close_ticket=close_ticket,
            accepted_ns=now_ns,
        )
        self._book.add_order(order)
        self._timeline.report_order(order, now_ns)
        self._floor.match_new(order, now_ns)

    def flatten(self, now_ns: int) -> None:
        """Cancel all orders, then close all positions by external market orders; one without a quote waits for it."""
        for order in [each for each in self._book.orders.values() if each.live]:
            self._floor.end(order, LegState.CANCELLED, now_ns, "the account is flattened")
        for each in list(self._book.positions.values()):
            side = Side.SELL if each.quantity > 0 else Side.BUY
            self.place_external(each.symbol, side, abs(each.quantity), now_ns, close_ticket=each.ticket)

    def _act_externally(self, order: PaperOrder, now_ns: int) -> None:
        if order.plan.by_hand == "trade":
            self.place_external(order.symbol, order.side, Decimal(1), now_ns)
        elif order.plan.by_hand == "close":
            lots, ticket = order.filled, order.ticket
            self.place_external(order.symbol, order.side.opposite, lots, now_ns, close_ticket=ticket)
        elif order.avg_price is not None:
            resting = order.avg_price * (1 - _FAR * order.side.sign)
            limit_price = floor_to_step(resting, self._floor.tick_size(order.symbol))
            self.place_external(order.symbol, order.side, Decimal(1), now_ns, limit_price=limit_price)

    def _resize_bracket(self, entry: PaperOrder, now_ns: int) -> None:
        """Create or resize the entry's stop and target, so that they cover exactly what it has filled."""
        for role, price in ((OrderRole.STOP_LOSS, entry.stop_loss), (OrderRole.TAKE_PROFIT, entry.take_profit)):
            if price is None:
                continue
            child = self._book.by_client_id.get(_child_id(entry, role))
            if child is not None:
                if child.live:
                    child.quantity = entry.filled
                    self._book.touch_order(child)
                    self._timeline.report_order(child, now_ns)
                continue
            child = PaperOrder(
                platform_order_id=self._book.next_id("O"),
                client_order_id=_child_id(entry, role),
                symbol=entry.symbol,
                contract=entry.contract,
                side=entry.side.opposite,
                order_type=OrderType.STOP if role is OrderRole.STOP_LOSS else OrderType.LIMIT,
                quantity=entry.filled,
                limit_price=price if role is OrderRole.TAKE_PROFIT else None,
                stop_price=price if role is OrderRole.STOP_LOSS else None,
                time_in_force=TimeInForce.GTC,
                # Reduce-only: the order ends with the position it protects. In the scenario `late_sibling` it does not,
                # so that stop and target can both trade.
                reduce_only=not entry.plan.late_cancel_ms,
                close_ticket=entry.ticket,
                group=entry.platform_order_id,
                parent=entry.platform_order_id,
                plan=Plan(late_cancel_ms=entry.plan.late_cancel_ms),
                accepted_ns=now_ns,
            )
            self._book.add_order(child)
            self._timeline.report_order(child, now_ns)
            self._floor.match_new(child, now_ns)

    def _reduce_siblings(self, order: PaperOrder, lots: Decimal, now_ns: int) -> None:
        """OCO: reduce the other orders of the group by the traded lots, late in the scenario `late_sibling`."""
        for sibling in self._floor.live_orders(order.symbol):
            if sibling.group != order.group or sibling is order:
                continue
            if sibling.plan.late_cancel_ms:
                due_ns = now_ns + sibling.plan.late_cancel_ms * NS_PER_MS
                self._timeline.schedule(due_ns, partial(self._reduce, sibling, lots))
            else:
                self._reduce(sibling, lots, now_ns)

    def _reduce(self, order: PaperOrder, lots: Decimal, now_ns: int) -> None:
        if lots >= order.remaining:
            self._floor.end(order, LegState.CANCELLED, now_ns, "the other order of its group has traded")
        else:
            order.quantity -= lots
            self._book.touch_order(order)
            self._timeline.report_order(order, now_ns)

    def _drop_bracket(self, order: PaperOrder, now_ns: int) -> None:
        """Cancel stop and target of a closed position, on a hedging account."""
        for child in self._floor.live_orders(order.symbol):
            if child.parent and child.close_ticket == order.ticket and not child.plan.late_cancel_ms:
                self._floor.end(child, LegState.CANCELLED, now_ns, "its position is closed")


def _child_id(entry: PaperOrder, role: OrderRole) -> str:
    """Return the client order id of an entry's stop or target: the one that the gateway would give and recognise."""
    parts = find_client_order_id(entry.client_order_id)
    if parts is None:
        return f"{entry.client_order_id}-{role.value}"[:64]
    return parts.id_of(role)


def _at_price(fill: Fill, price: Decimal) -> Fill:
    values = {name: getattr(fill, name) for name in Fill.__struct_fields__}
    return Fill(**{**values, "price": price})
