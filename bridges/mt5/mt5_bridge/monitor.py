"""Find changes of orders, positions and deals by polling: the terminal sends no events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from .brackets import Brackets
from .constants import DEAL_BUY, DEAL_SELL, DEALS_S, LATE_VERDICT_S, REASON_SL, REASON_TP
from .descriptions import Describer, has_ended, is_trade
from .fields import Body
from .order_ids import OrderIds
from .order_reports import OrderReports
from .order_view import View, ViewReader
from .owners import Owners
from .server_clock import ServerClock
from .terminal import Terminal


class Monitor:
    """Reports what has changed since the last view. Executions come from deals alone, each one once, by its ticket.

    Attributes:
        latest: order id -> its newest update, see `OrderReports`.
        wanted: ticket, or id of a stop or target -> a change that must show, see `OrderReports`.
        children: working stops and targets of our positions, by order id.
        at_once: a request was sent: `look` must come before any other task.
    """

    def __init__(
        self,
        terminal: Terminal,
        clock: ServerClock,
        ids: OrderIds,
        describer: Describer,
        history_s: int,
        send: Callable[[Body], None],
    ) -> None:
        reports = OrderReports(send)
        self.owners = Owners(terminal, ids)
        self.brackets = Brackets(ids, self.owners, describer, reports)
        self.latest = reports.latest
        self.wanted = reports.wanted
        self.children = self.brackets.live
        self.at_once = False
        self._terminal = terminal
        self._ids = ids
        self._describer = describer
        self._reports = reports
        self._reader = ViewReader(terminal, clock, history_s)
        # Ticket -> last reported state of a live order; empty while it is accepted and not listed yet.
        self._reported: dict[int, tuple[Any, ...]] = {}
        self._missing_since: dict[int, float] = {}
        self._over: set[int] = set()
        self._deals: dict[int, tuple[Any, ...]] = {}
        self._revisions: dict[int, int] = {}
        self._signature: Any = None
        self._deals_due_s = 0.0

    @property
    def has_live_orders(self) -> bool:
        """Whether any order, stop or target is working."""
        return bool(self._reported or self.children)

    def expect(self, ticket: int) -> None:
        """Treat this order as live until the terminal shows its end: the server has accepted it."""
        self._reported.setdefault(ticket, ())

    def is_over(self, ticket: int) -> bool:
        """Whether an order that is not listed as working has ended; if not, it may still be listed."""
        return ticket in self._over or any(map(has_ended, self._reader.find_in_history(ticket)))

    @property
    def window_ns(self) -> int:
        """Begin of the history that each `look` reads, UTC ns."""
        return self._reader.window_ns

    def read_stable(self, from_ns: int) -> tuple[View, bool]:
        """See `ViewReader.read_stable`."""
        return self._reader.read_stable(from_ns, self._reported.keys())

    def begin(self) -> None:
        """Read the state at the begin of a session without reporting it: the first snapshot will contain it.

        Raises:
            CallFailed, TerminalLost: see `ViewReader.read`.
        """
        self.wanted.clear()
        self._missing_since.clear()
        self._reports.is_muted = True
        try:
            self.apply(self._read())
        finally:
            self._reports.is_muted = False

    def look(self, now_s: float) -> None:
        """Poll once: orders and positions each time, history when they have changed or every DEALS_S.

        Raises:
            CallFailed, TerminalLost: see `ViewReader.read`.
            WrongTerminal: see `apply`.
        """
        if not self.at_once and now_s < self._deals_due_s and self._reader.read_signature() == self._signature:
            return
        self.at_once = False
        self._deals_due_s = now_s + DEALS_S
        self.apply(self._read())

    def _read(self) -> View:
        return self._reader.read(self.window_ns, self._reported.keys())

    def apply(self, view: View) -> None:
        """Compare with the last view and report new orders, executions, changes and ends.

        Raises:
            WrongTerminal: nothing was reported.
        """
        self._terminal.need_account()
        self._signature = self._reader.sign(view.orders, view.positions)
        for order in sorted([*view.history, *view.orders], key=lambda each: each.ticket):
            self._ids.of_order(order)  # of several orders with one id the oldest owns it
        over = {order.ticket for order in view.history}
        live = [order for order in view.orders if order.ticket not in over and order.volume_initial > 0]
        for order in live:
            if order.ticket not in self._reported:
                self._report_live(order)
        for deal in view.deals:
            self._report_deal(deal)
        for order in live:
            self._report_live(order)
        for order in view.history:
            if order.ticket not in self._over and order.volume_initial > 0:
                self._report_ended(order)
        self._report_missing(view)
        self.brackets.apply(view)

    def _report_live(self, order: Any) -> None:
        row = self._describer.order(order)
        if row["state"] == "sent":
            return  # not confirmed by the server yet
        revision = self._reports.pop_revision(order.ticket, row)
        state = tuple(row.values())
        if revision or self._reported.get(order.ticket) != state:
            self._reported[order.ticket] = state
            self._reports.send_order(self._describer.update(row, self._describer.order_time_ns(order), revision))

    def _report_ended(self, order: Any) -> None:
        row = self._describer.order(order, has_ended=True)
        self._over.add(order.ticket)
        self._reported.pop(order.ticket, None)
        self.wanted.pop(order.ticket, None)
        if order.reason in (REASON_SL, REASON_TP) and self.owners.entry_of(order.position_id):
            return  # reported as a stop or target, see Brackets
        self._reports.send_order(self._describer.update(row, self._describer.order_time_ns(order)))

    def _report_deal(self, deal: Any) -> None:
        now = (deal.type, deal.volume, deal.price)
        before = self._deals.get(deal.ticket)
        if now == before:
            return
        self._deals[deal.ticket] = now
        if before is None:
            if is_trade(deal):
                order_id, child = self.owners.order_of_deal(deal)
                self._reports.send(self._describer.fill(deal, order_id, child))
        elif before[0] in (DEAL_BUY, DEAL_SELL):
            revision = self._revisions[deal.ticket] = self._revisions.get(deal.ticket, 0) + 1
            self._reports.send(self._describer.correction(deal, revision))

    def _report_missing(self, view: View) -> None:
        """Report orders that are listed nowhere for LATE_VERDICT_S: their state is unknown, no snapshot is complete."""
        now_s = time.monotonic()
        self._missing_since = {ticket: self._missing_since.get(ticket, now_s) for ticket in view.missing}
        for ticket, since_s in self._missing_since.items():
            if now_s - since_s >= LATE_VERDICT_S:
                self._missing_since[ticket] = math.inf  # reported once
                text = f"order {ticket} is neither among the terminal's orders nor in its history: its state is unknown"
                self._reports.send({"type": "notice", "level": "error", "text": text})
