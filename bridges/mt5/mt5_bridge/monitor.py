"""Monitor: the terminal pushes nothing, so orders, positions and deals are read again and again, and compared."""

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
    """Tells what has changed since the last look. Executions come from deals alone, each once by its ticket.

    Attributes:
        latest: id -> the newest word on that order, to be repeated.
        wanted: ticket, or id of a child -> a change that must show.
        children: stops and targets of our positions that were told and live, by id.
        at_once: something was sent: look again before anything else.
    """

    def __init__(
        self,
        terminal: Terminal,
        clock: ServerClock,
        ids: OrderIds,
        describer: Describer,
        history_s: int,
        tell: Callable[[Body], None],
    ) -> None:
        reports = OrderReports(tell)
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
        # Ticket -> what was told of an order that lives; nothing yet of one that was accepted and never seen.
        self._told: dict[int, tuple[Any, ...]] = {}
        self._missing_since: dict[int, float] = {}
        self._over: set[int] = set()
        self._deals: dict[int, tuple[Any, ...]] = {}
        self._revisions: dict[int, int] = {}
        self._signature: Any = None
        self._deals_due_s = 0.0

    @property
    def has_live_orders(self) -> bool:
        return bool(self._told or self.children)

    def expect(self, ticket: int) -> None:
        """The server has accepted this order: it lives until the terminal shows its end."""
        self._told.setdefault(ticket, ())

    def is_over(self, ticket: int) -> bool:
        """Whether this order, which is not listed as working, is known to have ended; else it may still come."""
        return ticket in self._over or any(map(has_ended, self._reader.find_in_history(ticket)))

    @property
    def window_ns(self) -> int:
        """Where history begins that is read all the time, UTC."""
        return self._reader.window_ns

    def read_stable(self, from_ns: int) -> tuple[View, bool]:
        """See `ViewReader.read_stable`."""
        return self._reader.read_stable(from_ns, self._told.keys())

    def begin(self) -> None:
        """A session begins: what is there now is in its first snapshot. Raises CallFailed, TerminalLost."""
        self.wanted.clear()
        self._missing_since.clear()
        self._reports.is_muted = True
        try:
            self.take(self._read())
        finally:
            self._reports.is_muted = False

    def look(self, now_s: float) -> None:
        """One cycle: orders and positions always, history when they changed or once in a while.

        Raises:
            CallFailed, TerminalLost: see `read`.
        """
        if not self.at_once and now_s < self._deals_due_s and self._reader.read_signature() == self._signature:
            return
        self.at_once = False
        self._deals_due_s = now_s + DEALS_S
        self.take(self._read())

    def _read(self) -> View:
        return self._reader.read(self.window_ns, self._told.keys())

    def take(self, view: View) -> None:
        """Compare, and tell: new orders, executions, changes, ends. Raises WrongTerminal before it tells anything."""
        self._terminal.need_account()
        self._signature = self._reader.sign(view.orders, view.positions)
        for order in sorted([*view.history, *view.orders], key=lambda each: each.ticket):
            self._ids.of_order(order)  # the oldest of several that bear an id is the one
        over = {order.ticket for order in view.history}
        live = [order for order in view.orders if order.ticket not in over and order.volume_initial > 0]
        for order in live:
            if order.ticket not in self._told:
                self._take_live(order)
        for deal in view.deals:
            self._take_deal(deal)
        for order in live:
            self._take_live(order)
        for order in view.history:
            if order.ticket not in self._over and order.volume_initial > 0:
                self._take_ended(order)
        self._take_missing(view)
        self.brackets.take(view)

    def _take_live(self, order: Any) -> None:
        row = self._describer.order(order)
        if row["state"] == "sent":
            return  # not the platform's word yet
        revision = self._reports.pop_revision(order.ticket, row)
        said = tuple(row.values())
        if revision or self._told.get(order.ticket) != said:
            self._told[order.ticket] = said
            self._reports.tell_order(self._describer.update(row, self._describer.order_time_ns(order), revision))

    def _take_ended(self, order: Any) -> None:
        row = self._describer.order(order, has_ended=True)
        self._over.add(order.ticket)
        self._told.pop(order.ticket, None)
        self.wanted.pop(order.ticket, None)
        if order.reason in (REASON_SL, REASON_TP) and self.owners.entry_of(order.position_id):
            return  # told as the stop or target that it was
        self._reports.tell_order(self._describer.update(row, self._describer.order_time_ns(order)))

    def _take_deal(self, deal: Any) -> None:
        now = (deal.type, deal.volume, deal.price)
        before = self._deals.get(deal.ticket)
        if now == before:
            return
        self._deals[deal.ticket] = now
        if before is None:
            if is_trade(deal):
                order_id, child = self.owners.order_of_deal(deal)
                self._reports.tell(self._describer.fill(deal, order_id, child))
        elif before[0] in (DEAL_BUY, DEAL_SELL):
            revision = self._revisions[deal.ticket] = self._revisions.get(deal.ticket, 0) + 1
            self._reports.tell(self._describer.correction(deal, revision))

    def _take_missing(self, view: View) -> None:
        """Of an order that is listed nowhere nothing is known: no snapshot is complete, and a person is told why."""
        now_s = time.monotonic()
        self._missing_since = {ticket: self._missing_since.get(ticket, now_s) for ticket in view.missing}
        for ticket, since_s in self._missing_since.items():
            if now_s - since_s >= LATE_VERDICT_S:
                self._missing_since[ticket] = math.inf  # told
                text = f"order {ticket} is neither among the terminal's orders nor in its history: its state is unknown"
                self._reports.tell({"type": "notice", "level": "error", "text": text})
