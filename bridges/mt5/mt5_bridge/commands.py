"""Execute the commands `place`, `cancel` and `replace` at the terminal."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

from .constants import (
    ACCEPTED,
    ACTION_REMOVE,
    ACTION_SLTP,
    AGAIN_AT_FRESH_PRICE,
    AMBIGUOUS,
    INVALID_FILL,
    IPC_LOST,
    NO_CHANGES,
    NOTHING_WAS_SENT,
    ORDER_TYPES,
    REJECT_CODES,
    REQUOTE_RETRIES,
    RETCODES,
    SWITCHED_OFF,
)
from .decimals import exact
from .descriptions import Child, Describer
from .errors import Refused, TooLate
from .fields import Body
from .log import Log
from .monitor import Monitor
from .order_ids import STOP_LOSS, OrderIds
from .order_reports import Wanted
from .order_requests import MARKET, PENDING, RequestMaker
from .server_clock import ServerClock
from .symbols import SymbolFacts
from .terminal import Terminal


class Desk:
    """Executes commands. Each returns whether it was handed over to the terminal; the monitor reports the outcome.

    Attributes:
        markets: subscribed symbols, by the gateway's name.
        switches_doubtful: trading as such was refused, so the switches must be checked at once.
    """

    def __init__(
        self,
        terminal: Terminal,
        clock: ServerClock,
        ids: OrderIds,
        describer: Describer,
        monitor: Monitor,
        deviation_points: int,
        send: Callable[[Body], None],
        log: Log,
    ) -> None:
        self.switches_doubtful = False
        self._requests = RequestMaker(terminal, clock, ids, deviation_points)
        self.markets = self._requests.markets
        self._terminal = terminal
        self._ids = ids
        self._describer = describer
        self._monitor = monitor
        self._send = send
        self._log = log
        self._cancels_waiting: set[tuple[str, int]] = set()

    def place(self, body: Body) -> bool:
        """Send a new order. A known client order id is not sent again: its newest update is repeated.

        Raises:
            CallFailed, TerminalLost, WrongTerminal: nothing was handed over.
        """
        order = body["order"]
        order_id = order["client_order_id"]
        if self._ids.is_known(order_id) or order_id in self._monitor.latest:
            latest = self._monitor.latest.get(order_id)
            if latest is not None:
                self._send(latest)
            return True
        try:
            self._requests.check_ids(body)
            market = self._requests.check_order(order)
            kind = MARKET if order["order_type"] == "market" else PENDING
            request = (
                self._requests.make_pending(order, market)
                if kind == PENDING
                else self._requests.make_deal(order, market)
            )
            self._note(order_id)
        except Refused as refusal:
            self._reject(refusal.code, str(refusal), order_id)
            return False
        return self._hand_over(order, request, market, kind)

    def cancel(self, body: Body) -> bool:
        """Remove a working order, a stop or a target. Cancels of orders that are not listed yet wait for them.

        Raises:
            CallFailed, TerminalLost, WrongTerminal: nothing was handed over.
        """
        order_id = body["client_order_id"]
        child = self._monitor.children.get(order_id)
        if child is not None:
            return self._change_child(child, 0.0, lambda text: self._refuse_cancel(order_id, text))
        ticket = self._ticket_of(body)
        if ticket is None:
            may_come = self._ids.is_known(order_id) and order_id not in self._monitor.latest
        elif self._terminal.find("orders_get", ticket) is not None:
            self._remove(ticket, order_id)
            return True
        else:
            is_ours_or_seen = self._ids.is_known(order_id) or self._ids.of_ticket(ticket) is not None
            may_come = is_ours_or_seen and not self._monitor.is_over(ticket)
        self._monitor_soon()
        if may_come:
            # Handed over and not listed yet: if the cancel were refused now, the order could still trade.
            self._cancels_waiting.add((order_id, ticket or 0))
            return True
        self._refuse_cancel(order_id, "the terminal has no such working order")
        return False

    def replace(self, body: Body) -> bool:
        """Change the prices of a working order, a stop or a target.

        Raises:
            CallFailed, TerminalLost, WrongTerminal: nothing was handed over.
        """
        order_id, revision = body["client_order_id"], body["revision"]

        def refuse(text: str) -> None:
            self._send(self._describer.reject("replace_rejected", text, order_id, revision))

        child = self._monitor.children.get(order_id)
        if child is not None:
            return self._replace_child(order_id, child, body, refuse)
        ticket = self._ticket_of(body)
        order = None if ticket is None else self._terminal.find("orders_get", ticket)
        if order is None:
            refuse("the terminal has no such working order")
            return False
        kind = ORDER_TYPES.get(order.type, ("", MARKET))[1]
        try:
            market = self._requests.facts_of(body["symbol"], order.symbol)
            self._requests.check_replace(order, body, kind, market)
        except Refused as refusal:
            refuse(str(refusal))
            return False
        if self._change(self._requests.make_modify(order, body, kind), refuse):
            self._monitor.wanted[order.ticket] = Wanted(revision, body["limit_price"], body["stop_price"])
        return True

    def follow_up(self) -> None:
        """Retry the waiting cancels; call it after each `Monitor.look`. Raises as `cancel`; what failed still waits."""
        for waiting in list(self._cancels_waiting):
            order_id, ticket = waiting[0], waiting[1] or self._ids.tickets.get(waiting[0], 0)
            if not ticket:
                continue
            if self._terminal.find("orders_get", ticket) is not None:
                self._remove(ticket, order_id)
            elif self._monitor.is_over(ticket):
                self._refuse_cancel(order_id, f"order {ticket} had ended before it could be cancelled")
            else:
                continue
            self._cancels_waiting.discard(waiting)

    def _note(self, order_id: str) -> None:
        try:
            self._ids.note(order_id)
        except OSError as error:
            raise Refused("platform_rejected", f"the bridge cannot note the order's id on disk: {error}") from None

    def _hand_over(self, order: Body, request: Body, market: SymbolFacts, kind: str) -> bool:
        """Send the request once; again only when the server has confirmed that it did not trade."""
        order_id = order["client_order_id"]
        # IOC and FOK are the order's own terms: another filling mode could fill in part or leave a rest working.
        is_filling_ours = order["time_in_force"] not in ("ioc", "fok")
        retries = 0
        tried: set[int] = set()
        while True:
            try:
                result = self._terminal.send(request, order["not_after_ns"])
            except TooLate:
                self._reject("too_late_to_send", "the order came after the time it had to be sent by", order_id)
                return bool(retries or tried)
            if result is None:
                return self._handle_no_result(order_id)
            retcode = result.retcode
            if retcode in ACCEPTED:
                if tried:
                    self._requests.remember_filling(market, kind, request["type_filling"])
                if result.order:
                    self._ids.own(result.order, order_id)
                    self._monitor.expect(result.order)
                self._monitor_soon()
                return True
            if retcode in AMBIGUOUS or retcode not in RETCODES:
                self._log.say("warning", f"outcome of {order_id} unknown: retcode {retcode} {result.comment}")
                self._monitor_soon()
                return True
            self.switches_doubtful = self.switches_doubtful or retcode in SWITCHED_OFF
            if retcode in AGAIN_AT_FRESH_PRICE and kind == MARKET and retries < REQUOTE_RETRIES:
                retries += 1
                if "price" not in request:
                    continue
                try:
                    request["price"] = self._requests.fresh_price(market.name, ORDER_TYPES[request["type"]][0])
                    continue
                except Refused:
                    pass  # no price to retry with: report the server's refusal
            if retcode == INVALID_FILL and is_filling_ours:
                tried.add(request["type_filling"])
                filling = self._requests.next_filling(market, kind, tried)
                if filling is not None:
                    request["type_filling"] = filling
                    continue
            code = REJECT_CODES.get(retcode, "platform_rejected")
            self._reject(code, self._words(result), order_id)
            return True

    def _handle_no_result(self, order_id: str) -> bool:
        code, text = self._terminal.error
        if code in NOTHING_WAS_SENT:
            self.switches_doubtful = True
            self._reject("link_down" if code in IPC_LOST else "platform_rejected", f"{text} ({code})", order_id)
            return False
        self._log.say("warning", f"outcome of {order_id} unknown: {text} ({code})")
        self._monitor_soon()
        return True

    def _change(self, request: Body, refuse: Callable[[str], None]) -> bool:
        """Send a modification or removal; False when it was refused, after `refuse` was called."""
        result = self._terminal.send(request)
        self._monitor_soon()
        if result is None:
            code, text = self._terminal.error
            if code in NOTHING_WAS_SENT:
                self.switches_doubtful = True
                refuse(f"{text} ({code})")
                return False
            return True
        retcode = result.retcode
        if retcode in ACCEPTED or retcode in AMBIGUOUS or retcode == NO_CHANGES or retcode not in RETCODES:
            return True
        self.switches_doubtful = self.switches_doubtful or retcode in SWITCHED_OFF
        refuse(self._words(result))
        return False

    def _remove(self, ticket: int, order_id: str) -> None:
        request = {"action": ACTION_REMOVE, "order": ticket}
        self._change(request, functools.partial(self._refuse_cancel, order_id))

    def _change_child(self, child: Child, price: float, refuse: Callable[[str], None]) -> bool:
        """Set the stop or target of a position; price 0 removes it."""
        position = self._terminal.find("positions_get", child.ticket)
        if position is None:
            self._monitor_soon()
            refuse(f"position {child.ticket} is closed")
            return False
        is_stop = child.role == STOP_LOSS
        request = {
            "action": ACTION_SLTP,
            "position": child.ticket,
            "symbol": child.symbol,
            "sl": price if is_stop else float(position.sl),
            "tp": float(position.tp) if is_stop else price,
        }
        return self._change(request, refuse) or True

    def _replace_child(self, order_id: str, child: Child, body: Body, refuse: Callable[[str], None]) -> bool:
        price = body["stop_price"] if child.role == STOP_LOSS else body["limit_price"]
        if body["quantity"] != exact(child.lots) or price is None:
            refuse(f"a stop or target is of the whole position ({child.lots}) and has one price")
            return False
        try:
            self._requests.check_price(price, "price", self._requests.facts_of(body["symbol"], child.symbol))
        except Refused as refusal:
            refuse(str(refusal))
            return False
        wanted = Wanted(body["revision"], body["limit_price"], body["stop_price"])
        self._monitor.wanted[order_id] = wanted

        def refuse_and_forget(text: str) -> None:
            self._monitor.wanted.pop(order_id, None)
            refuse(text)

        return self._change_child(child, float(price), refuse_and_forget)

    def _ticket_of(self, body: Body) -> int | None:
        ticket = self._ids.tickets.get(body["client_order_id"])
        if ticket is not None:
            return ticket
        named = body["platform_order_id"]
        return int(named) if re.match(r"^[0-9]{1,19}$", named) else None

    def _refuse_cancel(self, order_id: str, text: str) -> None:
        self._send(self._describer.reject("cancel_rejected", text, order_id))

    def _reject(self, code: str, text: str, order_id: str) -> None:
        body = self._describer.reject(code, text, order_id)
        self._monitor.latest[order_id] = body
        self._send(body)

    def _monitor_soon(self) -> None:
        self._monitor.at_once = True

    @staticmethod
    def _words(result: Any) -> str:
        name = RETCODES.get(result.retcode, "")
        return f"retcode {result.retcode} {name} {result.comment}".strip()
