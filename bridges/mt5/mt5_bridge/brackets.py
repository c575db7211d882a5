"""Report stop losses and take profits of positions on hedging accounts as orders of their own."""

from __future__ import annotations

import time
from decimal import Decimal

from .constants import ENTRY_IN, LATE_VERDICT_S, REASON_SL, REASON_TP
from .decimals import exact, write
from .descriptions import Child, Describer, is_trade
from .fields import Body
from .order_ids import STOP_LOSS, TAKE_PROFIT, OrderIds, child_id
from .order_reports import OrderReports
from .order_view import View
from .owners import Owners


class Brackets:
    """Reports the stops and targets of our positions when they appear, change, trade or go.

    Attributes:
        live: reported as working, by order id.
    """

    def __init__(self, ids: OrderIds, owners: Owners, describer: Describer, reports: OrderReports) -> None:
        self.live: dict[str, Child] = {}
        self._ids = ids
        self._owners = owners
        self._describer = describer
        self._reports = reports
        # Order id -> monotonic time since when its position is closed without a listed deal.
        self._ending: dict[str, float] = {}

    def apply(self, view: View) -> None:
        """Compare with the view and report changes and ends. Raises CallFailed, TerminalLost."""
        now_ns = time.time_ns()
        shown = {}
        if self._ids.hedging:
            for position in view.positions:
                entry_id = self._owners.entry_of(position.ticket, position)
                for role, price in ((STOP_LOSS, position.sl), (TAKE_PROFIT, position.tp)):
                    if entry_id and price:
                        side = "sell" if position.type == 0 else "buy"
                        child = Child(position.ticket, role, position.symbol, side, price, position.volume)
                        shown[child_id(entry_id, role)] = child
        for order_id, child in shown.items():
            row = self._describer.child(order_id, child, "working", Decimal(0))
            revision = self._reports.pop_revision(order_id, row)
            if revision or self.live.get(order_id) != child:
                self.live[order_id] = child
                self._ending.pop(order_id, None)
                self._reports.send_order(self._describer.update(row, now_ns, revision))
        open_tickets = {position.ticket for position in view.positions}
        for order_id in [each for each in self.live if each not in shown]:
            self._end_child(order_id, self.live[order_id], view, open_tickets, now_ns)

    def ended_rows(self, view: View) -> dict[str, Body]:
        """Rows of the filled stops and targets, by order id."""
        rows: dict[str, Body] = {}
        for deal in view.deals:
            if is_trade(deal) and deal.reason in (REASON_SL, REASON_TP):
                order_id, child = self._owners.order_of_deal(deal)
                if child is not None and order_id not in self.live:
                    before = Decimal(rows[order_id]["filled"]) if order_id in rows else Decimal(0)
                    filled = before + exact(deal.volume)
                    row = self._describer.child(order_id, child, "filled", filled)
                    rows[order_id] = {**row, "quantity": write(filled)}
        return rows

    def _end_child(self, order_id: str, child: Child, view: View, open_tickets: set[int], now_ns: int) -> None:
        closing = [
            each
            for each in view.deals
            if is_trade(each) and each.position_id == child.ticket and each.entry != ENTRY_IN
        ]
        if child.ticket not in open_tickets and sum(each.volume for each in closing) + 1e-9 < child.lots:
            # The position is closed and the closing deal is not listed yet: it decides between filled and cancelled.
            began_s = self._ending.setdefault(order_id, time.monotonic())
            if time.monotonic() - began_s < LATE_VERDICT_S:
                return
        reason = REASON_SL if child.role == STOP_LOSS else REASON_TP
        struck = sum((exact(each.volume) for each in closing if each.reason == reason), Decimal(0))
        del self.live[order_id]
        self._ending.pop(order_id, None)
        self._reports.wanted.pop(order_id, None)
        row = self._describer.child(order_id, child, "filled" if struck else "cancelled", struck)
        self._reports.send_order(self._describer.update(row, now_ns))
