"""Monitor: the terminal pushes nothing, so orders, positions and deals are read again and again, and compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from .constants import (
    CLOCK_DOUBT_S,
    DAY_S,
    DEAL_BUY,
    DEAL_BUY_CANCELED,
    DEAL_SELL,
    DEALS_S,
    ENTRY_IN,
    FINAL_STATES,
    LATE_VERDICT_S,
    MAX_ROWS,
    MS_PER_S,
    NS_PER_MS,
    NS_PER_S,
    ORDER_STATES,
    REASON_SL,
    REASON_TP,
    STABLE_READS,
)
from .decimals import exact, write
from .descriptions import Child, Describer, View, Wanted, has_ended, is_trade
from .order_ids import _OPENING_ROLES, _ROLE_AT, STOP_LOSS, TAKE_PROFIT, OrderIds, child_id
from .protocol import Body
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
        self.latest: dict[str, Body] = {}
        self.wanted: dict[Any, Wanted] = {}
        self.children: dict[str, Child] = {}
        self.at_once = False
        self._terminal = terminal
        self._clock = clock
        self._ids = ids
        self._describer = describer
        self._history_s = history_s
        self._tell = tell
        # Ticket -> what was told of an order that lives; nothing yet of one that was accepted and never seen.
        self._told: dict[int, tuple[Any, ...]] = {}
        # Ended orders that the history of the window does not show, and their deals.
        self._outside: dict[int, Any] = {}
        self._deals_outside: list[Any] = []
        self._missing_since: dict[int, float] = {}
        self._over: set[int] = set()
        self._deals: dict[int, tuple[Any, ...]] = {}
        self._revisions: dict[int, int] = {}
        self._entries: dict[int, str] = {}
        self._ending: dict[str, float] = {}
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
        return ticket in self._over or any(map(has_ended, self._find_in_history(ticket)))

    @property
    def window_ns(self) -> int:
        """Where history begins that is read all the time, UTC."""
        return time.time_ns() - self._history_s * NS_PER_S

    def read(self, from_ns: int) -> View:
        """History since then and some more. Deals last: no order has traded more than the deals that are read.

        Raises:
            CallFailed, TerminalLost: see `Terminal.need`.
        """
        need = self._terminal.need
        from_s = max(self._clock.to_server_ms(from_ns // NS_PER_MS) // MS_PER_S - CLOCK_DOUBT_S, 1)
        until_s = self._clock.to_server_ms(time.time_ns() // NS_PER_MS) // MS_PER_S + 2 * DAY_S
        orders, positions = need("orders_get"), need("positions_get")
        listed = {order.ticket for order in orders}
        history = {
            order.ticket: order
            for order in need("history_orders_get", from_s, until_s)
            if has_ended(order) and not (ORDER_STATES[order.state] == "partially_filled" and order.ticket in listed)
        }
        missing = self._told.keys() - listed - history.keys() - self._outside.keys()
        for ticket in missing:
            for order in filter(has_ended, self._find_in_history(ticket)):
                self._outside[ticket] = order
                self._deals_outside += need("history_deals_get", ticket=ticket)
        return View(
            orders=orders,
            positions=positions,
            history=list({**self._outside, **history}.values()),
            deals=[*self._deals_outside, *need("history_deals_get", from_s, until_s)],
            missing=missing - self._outside.keys(),
        )

    def _find_in_history(self, ticket: int) -> Sequence[Any]:
        found: Sequence[Any] = self._terminal.call("history_orders_get", ticket=ticket) or ()
        return found

    def read_stable(self, from_ns: int) -> tuple[View, bool]:
        """All parts of one moment, and whether that could be had. Raises CallFailed, TerminalLost."""
        for _ in range(STABLE_READS):
            view = self.read(from_ns)
            again = self._sign(self._terminal.need("orders_get"), self._terminal.need("positions_get"))
            if again == self._sign(view.orders, view.positions):
                return view, True
        return view, False

    def begin(self) -> None:
        """A session begins: what is there now is in its first snapshot. Raises CallFailed, TerminalLost."""
        self.wanted.clear()
        self._missing_since.clear()
        tell, self._tell = self._tell, lambda body: None
        try:
            self.take(self.read(self.window_ns))
        finally:
            self._tell = tell

    def look(self, now_s: float) -> None:
        """One cycle: orders and positions always, history when they changed or once in a while.

        Raises:
            CallFailed, TerminalLost: see `read`.
        """
        need = self._terminal.need
        if not self.at_once and now_s < self._deals_due_s:
            signature = self._sign(need("orders_get"), need("positions_get"))
            if signature == self._signature:
                return
        self.at_once = False
        self._deals_due_s = now_s + DEALS_S
        self.take(self.read(self.window_ns))

    def take(self, view: View) -> None:
        """Compare, and tell: new orders, executions, changes, ends. Raises WrongTerminal before it tells anything."""
        self._terminal.need_account()
        self._signature = self._sign(view.orders, view.positions)
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
        self._take_children(view)

    def order_of_deal(self, deal: Any) -> tuple[str, Child | None]:
        """The id of the order that made this deal; with the child when it was a stop or target."""
        if deal.reason in (REASON_SL, REASON_TP):
            role = STOP_LOSS if deal.reason == REASON_SL else TAKE_PROFIT
            entry_id = self.entry_of(deal.position_id)
            if not entry_id:
                return "", None
            side = "buy" if deal.type in (DEAL_BUY, DEAL_BUY_CANCELED) else "sell"
            child = Child(deal.position_id, role, deal.symbol, side, 0.0, deal.volume)
            return child_id(entry_id, role), child
        known = self._ids.of_ticket(deal.order)
        if known is None:
            # So new that the orders were read before it.
            found = self._terminal.call("history_orders_get", ticket=deal.order) or self._terminal.call(
                "orders_get", ticket=deal.order
            )
            known = self._ids.of_order(found[0]) if found else self._ids.of_tag(deal.order, deal.magic, deal.comment)
        return known, None

    def ended_children(self, view: View) -> dict[str, Body]:
        """Rows of the stops and targets that have traded, by id."""
        rows: dict[str, Body] = {}
        for deal in view.deals:
            if is_trade(deal) and deal.reason in (REASON_SL, REASON_TP):
                order_id, child = self.order_of_deal(deal)
                if child is not None and order_id not in self.children:
                    before = Decimal(rows[order_id]["filled"]) if order_id in rows else Decimal(0)
                    filled = before + exact(deal.volume)
                    row = self._describer.child(order_id, child, "filled", filled)
                    rows[order_id] = {**row, "quantity": write(filled)}
        return rows

    @staticmethod
    def _sign(orders: Sequence[Any], positions: Sequence[Any]) -> Any:
        return (
            [
                (each.ticket, each.state, each.volume_current, each.price_open, each.price_stoplimit, each.sl, each.tp)
                for each in orders
            ],
            [(each.ticket, each.type, each.volume, each.price_open, each.sl, each.tp) for each in positions],
        )

    def _say(self, body: Body) -> None:
        if body["client_order_id"]:
            self.latest[body["client_order_id"]] = body
        self._tell(body)

    def _take_live(self, order: Any) -> None:
        row = self._describer.order(order)
        if row["state"] == "sent":
            return  # not the platform's word yet
        wanted = self.wanted.get(order.ticket)
        revision = 0
        if wanted is not None and self._shows(row, wanted):
            revision = wanted.revision
            del self.wanted[order.ticket]
        said = tuple(row.values())
        if revision or self._told.get(order.ticket) != said:
            self._told[order.ticket] = said
            self._say(self._describer.update(row, self._describer.order_time_ns(order), revision))

    def _take_ended(self, order: Any) -> None:
        row = self._describer.order(order, has_ended=True)
        self._over.add(order.ticket)
        self._told.pop(order.ticket, None)
        self.wanted.pop(order.ticket, None)
        if order.reason in (REASON_SL, REASON_TP) and self.entry_of(order.position_id):
            return  # told as the stop or target that it was
        self._say(self._describer.update(row, self._describer.order_time_ns(order)))

    def _take_deal(self, deal: Any) -> None:
        now = (deal.type, deal.volume, deal.price)
        before = self._deals.get(deal.ticket)
        if now == before:
            return
        self._deals[deal.ticket] = now
        if before is None:
            if is_trade(deal):
                order_id, child = self.order_of_deal(deal)
                self._tell(self._describer.fill(deal, order_id, child))
        elif before[0] in (DEAL_BUY, DEAL_SELL):
            revision = self._revisions[deal.ticket] = self._revisions.get(deal.ticket, 0) + 1
            self._tell(self._describer.correction(deal, revision))

    def _take_missing(self, view: View) -> None:
        """Of an order that is listed nowhere nothing is known: no snapshot is complete, and a person is told why."""
        now_s = time.monotonic()
        self._missing_since = {ticket: self._missing_since.get(ticket, now_s) for ticket in view.missing}
        for ticket, since_s in self._missing_since.items():
            if now_s - since_s >= LATE_VERDICT_S:
                self._missing_since[ticket] = math.inf  # told
                text = f"order {ticket} is neither among the terminal's orders nor in its history: its state is unknown"
                self._tell({"type": "notice", "level": "error", "text": text})

    def _take_children(self, view: View) -> None:
        now_ns = time.time_ns()
        shown = {}
        if self._ids.hedging:
            for position in view.positions:
                entry_id = self.entry_of(position.ticket, position)
                for role, price in ((STOP_LOSS, position.sl), (TAKE_PROFIT, position.tp)):
                    if entry_id and price:
                        side = "sell" if position.type == 0 else "buy"
                        child = Child(position.ticket, role, position.symbol, side, price, position.volume)
                        shown[child_id(entry_id, role)] = child
        for order_id, child in shown.items():
            row = self._describer.child(order_id, child, "working", Decimal(0))
            wanted = self.wanted.get(order_id)
            revision = 0
            if wanted is not None and self._shows(row, wanted):
                revision = wanted.revision
                del self.wanted[order_id]
            if revision or self.children.get(order_id) != child:
                self.children[order_id] = child
                self._ending.pop(order_id, None)
                self._say(self._describer.update(row, now_ns, revision))
        open_tickets = {position.ticket for position in view.positions}
        for order_id in [each for each in self.children if each not in shown]:
            self._end_child(order_id, self.children[order_id], view, open_tickets, now_ns)

    def _end_child(self, order_id: str, child: Child, view: View, open_tickets: set[int], now_ns: int) -> None:
        closing = [
            each
            for each in view.deals
            if is_trade(each) and each.position_id == child.ticket and each.entry != ENTRY_IN
        ]
        if child.ticket not in open_tickets and sum(each.volume for each in closing) + 1e-9 < child.lots:
            # The position has gone and its deal is not listed yet: what it was decides between filled and cancelled.
            began_s = self._ending.setdefault(order_id, time.monotonic())
            if time.monotonic() - began_s < LATE_VERDICT_S:
                return
        reason = REASON_SL if child.role == STOP_LOSS else REASON_TP
        struck = sum((exact(each.volume) for each in closing if each.reason == reason), Decimal(0))
        del self.children[order_id]
        self._ending.pop(order_id, None)
        self.wanted.pop(order_id, None)
        row = self._describer.child(order_id, child, "filled" if struck else "cancelled", struck)
        self._say(self._describer.update(row, now_ns))

    def entry_of(self, ticket: int, position: Any = None) -> str:
        """The id of the order that opened a position, empty when it is not one of ours, or on a netting account."""
        if not self._ids.hedging:
            return ""
        found = self._entries.get(ticket)
        if found is None:
            found = self._ids.of_ticket(ticket)
            if found is None and position is not None:
                found = self._ids.of_tag(ticket, position.magic, position.comment)
            if found is None:
                orders = self._terminal.call("history_orders_get", position=ticket) or ()
                opening = [each for each in orders if each.ticket == ticket]
                found = self._ids.of_order(opening[0]) if opening else ""
            if found and found[_ROLE_AT] not in _OPENING_ROLES:
                found = ""
            self._entries[ticket] = found
        return found

    @staticmethod
    def _shows(row: Body, wanted: Wanted) -> bool:
        return all(
            price is None or (row[name] is not None and Decimal(row[name]) == price)
            for name, price in (("limit_price", wanted.limit_price), ("stop_price", wanted.stop_price))
        )


def make_snapshot(
    terminal: Terminal,
    monitor: Monitor,
    describer: Describer,
    request: Body,
    clock: ServerClock,
    *,
    clock_is_right: bool,
) -> Body:
    """What is true now. Tells first what it contains. Raises CallFailed, TerminalLost, WrongTerminal."""
    from_ns = request["executions_from_ns"] or monitor.window_ns
    view, stable = monitor.read_stable(min(from_ns, monitor.window_ns))
    monitor.take(view)
    now_ns = time.time_ns()
    deals = [each for each in view.deals if is_trade(each)]
    deals = sorted({each.ticket: each for each in deals}.values(), key=lambda each: (each.time_msc, each.ticket))
    if len(deals) > MAX_ROWS:
        # From a whole millisecond on, or some of it would be missing.
        first_ms = deals[-MAX_ROWS - 1].time_msc
        deals = [each for each in deals if each.time_msc > first_ms]
        from_ns = max(from_ns, clock.to_utc_ns(first_ms + 1))
    executions = [describer.fill(each, *monitor.order_of_deal(each)) for each in deals]
    orders = {order.ticket: describer.order(order) for order in view.orders if order.volume_initial > 0}
    for order in view.history:
        if order.volume_initial > 0:
            orders[order.ticket] = describer.order(order, has_ended=True)
    for order in view.history:
        if order.reason in (REASON_SL, REASON_TP) and monitor.entry_of(order.position_id):
            orders.pop(order.ticket, None)
    rows = [orders[ticket] for ticket in sorted(orders)]
    rows += monitor.ended_children(view).values()
    rows += [describer.child(each, child, "working", Decimal(0)) for each, child in monitor.children.items()]
    live = [row for row in rows if row["state"] not in FINAL_STATES]
    over = [row for row in rows if row["state"] in FINAL_STATES]
    room = MAX_ROWS - len(live)
    rows = (over[-room:] if room > 0 else []) + live
    positions = [describer.position(each) for each in view.positions]
    complete = stable and clock_is_right and not view.missing
    complete = complete and len(rows) <= MAX_ROWS and len(positions) <= MAX_ROWS
    parts = [
        describer.part("positions", positions[:MAX_ROWS], now_ns),
        describer.part("working_orders", rows[:MAX_ROWS], now_ns),
        describer.part("executions", executions, now_ns),
    ]
    funds = describer.money(terminal.need_account(), now_ns)
    return describer.snapshot(request["request_id"], parts, from_ns, funds, complete)
