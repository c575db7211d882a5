"""Commands."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .config import Log
from .constants import (
    ACCEPTED,
    ACTION_DEAL,
    ACTION_MODIFY,
    ACTION_PENDING,
    ACTION_REMOVE,
    ACTION_SLTP,
    AGAIN_AT_FRESH_PRICE,
    AMBIGUOUS,
    EXECUTION_EXCHANGE,
    EXECUTION_INSTANT,
    EXECUTION_REQUEST,
    EXPIRES_DAY,
    EXPIRES_GTC,
    EXPIRES_SPECIFIED,
    FILLING_FOK,
    FILLING_IOC,
    FILLING_RETURN,
    INVALID_FILL,
    IPC_LOST,
    MASK_FOK,
    MASK_IOC,
    MS_PER_S,
    NO_CHANGES,
    NOTHING_WAS_SENT,
    NS_PER_MS,
    ORDER_MODES,
    ORDER_TYPES,
    REJECT_CODES,
    REQUOTE_RETRIES,
    RETCODES,
    SWITCHED_OFF,
    TIME_DAY,
    TIME_GTC,
    TIME_SPECIFIED,
    TYPE_NUMBERS,
)
from .decimals import exact, is_multiple
from .descriptions import Child, Describer, Wanted
from .errors import Refused, TooLate
from .monitor import Monitor
from .order_ids import STOP_LOSS, TAKE_PROFIT, OrderIds, child_id, find_order_id, magic_number
from .protocol import Body
from .server_clock import ServerClock
from .symbols import SymbolFacts
from .terminal import Terminal

MARKET, PENDING = "market", "pending"


class Desk:
    """place, cancel, replace. Each returns whether the terminal was asked; what then is true the monitor tells.

    Attributes:
        markets: what is subscribed, by the gateway's name.
        switches_doubtful: the terminal or the account has refused to trade at all: look at the switches.
    """

    def __init__(
        self,
        terminal: Terminal,
        clock: ServerClock,
        ids: OrderIds,
        describer: Describer,
        monitor: Monitor,
        deviation_points: int,
        tell: Callable[[Body], None],
        log: Log,
    ) -> None:
        self.markets: dict[str, SymbolFacts] = {}
        self.switches_doubtful = False
        self._terminal = terminal
        self._clock = clock
        self._ids = ids
        self._describer = describer
        self._monitor = monitor
        self._deviation_points = deviation_points
        self._tell = tell
        self._log = log
        self._fillings: dict[tuple[str, str], int] = {}
        self._cancels_waiting: set[tuple[str, int]] = set()

    def place(self, body: Body) -> bool:
        """Raises CallFailed, TerminalLost, WrongTerminal, with nothing handed over."""
        order = body["order"]
        order_id = order["client_order_id"]
        if self._ids.is_known(order_id) or order_id in self._monitor.latest:
            latest = self._monitor.latest.get(order_id)
            if latest is not None:
                self._tell(latest)
            return True
        try:
            self._check_ids(body)
            market = self._market_of(order)
            kind = MARKET if order["order_type"] == "market" else PENDING
            request = self._make_pending(order, market) if kind == PENDING else self._make_deal(order, market)
            self._note(order_id)
        except Refused as refusal:
            self._reject(refusal.code, str(refusal), order_id)
            return False
        return self._hand_over(order, request, market, kind)

    def cancel(self, body: Body) -> bool:
        """Raises CallFailed, TerminalLost, WrongTerminal, with nothing handed over."""
        order_id = body["client_order_id"]
        child = self._monitor.children.get(order_id)
        if child is not None:
            return self._change_child(child, 0.0, lambda text: self._refuse_cancel(order_id, text))
        ticket = self._ticket_of(body)
        if ticket is None:
            may_come = self._ids.is_known(order_id) and order_id not in self._monitor.latest
        elif self._find("orders_get", ticket) is not None:
            self._remove(ticket, order_id)
            return True
        else:
            is_ours_or_seen = self._ids.is_known(order_id) or self._ids.of_ticket(ticket) is not None
            may_come = is_ours_or_seen and not self._monitor.is_over(ticket)
        self._monitor_soon()
        if may_come:
            # Handed over and not listed yet: refused now, it would trade all the same.
            self._cancels_waiting.add((order_id, ticket or 0))
            return True
        self._refuse_cancel(order_id, "the terminal has no such working order")
        return False

    def replace(self, body: Body) -> bool:
        """Raises CallFailed, TerminalLost, WrongTerminal, with nothing handed over."""
        order_id, revision = body["client_order_id"], body["revision"]

        def refuse(text: str) -> None:
            self._tell(self._describer.reject("replace_rejected", text, order_id, revision))

        child = self._monitor.children.get(order_id)
        if child is not None:
            return self._replace_child(order_id, child, body, refuse)
        ticket = self._ticket_of(body)
        order = None if ticket is None else self._find("orders_get", ticket)
        if order is None:
            refuse("the terminal has no such working order")
            return False
        kind = ORDER_TYPES.get(order.type, ("", MARKET))[1]
        try:
            market = self._facts_of(body["symbol"], order.symbol)
            self._check_replace(order, body, kind, market)
        except Refused as refusal:
            refuse(str(refusal))
            return False
        if self._change(self._make_modify(order, body, kind), refuse):
            self._monitor.wanted[order.ticket] = Wanted(revision, body["limit_price"], body["stop_price"])
        return True

    def follow_up(self) -> None:
        """After each look of the monitor: cancels that waited for their order. Raises as `cancel`; they still wait."""
        for waiting in list(self._cancels_waiting):
            order_id, ticket = waiting[0], waiting[1] or self._ids.tickets.get(waiting[0], 0)
            if not ticket:
                continue
            if self._find("orders_get", ticket) is not None:
                self._remove(ticket, order_id)
            elif self._monitor.is_over(ticket):
                self._refuse_cancel(order_id, f"order {ticket} had ended before it could be cancelled")
            else:
                continue
            self._cancels_waiting.discard(waiting)

    def _find(self, name: str, ticket: int) -> Any:
        """The order or position of this ticket, None when there is none. Raises CallFailed, WrongTerminal."""
        found = self._terminal.need(name, ticket=ticket)
        self._terminal.need_account()  # what another account has says nothing
        return found[0] if found else None

    # Making requests.

    def _check_ids(self, body: Body) -> None:
        order_id = body["order"]["client_order_id"]
        if find_order_id(order_id) != order_id:
            raise Refused("platform_rejected", f"client_order_id was {order_id!r}, must be one of the gateway's")
        for role, key in ((STOP_LOSS, "stop_loss_id"), (TAKE_PROFIT, "take_profit_id")):
            if body[key] not in ("", child_id(order_id, role)):
                raise Refused("unsupported_bracket", f"{key} was {body[key]!r}, must follow from the entry's id")

    def _facts_of(self, symbol: str, platform_symbol: str = "") -> SymbolFacts:
        market = self.markets.get(symbol)
        if market is None or platform_symbol not in ("", market.name):
            raise Refused("identity_mismatch", f"symbol was {symbol}, which is not subscribed as {platform_symbol}")
        return market

    def _market_of(self, order: Body) -> SymbolFacts:
        """What is traded, once the order fits it. Raises Refused: nothing is rounded here."""
        market = self._facts_of(order["symbol"])
        quantity = order["quantity"]
        if not is_multiple(quantity, market.lot_step):
            raise Refused("not_on_lot_step", f"quantity was {quantity}, {market.name} is traded in {market.lot_step}")
        if not market.least_lots <= quantity <= market.most_lots:
            raise Refused(
                "platform_rejected",
                f"quantity was {quantity}, {market.name} takes {market.least_lots} to {market.most_lots}",
            )
        for name in ("limit_price", "stop_price", "stop_loss", "take_profit"):
            self._check_price(order[name], name, market)
        mode = ORDER_MODES[order["order_type"]]
        if market.order_mode and not market.order_mode & mode:
            raise Refused("unsupported_type", f"{market.name} takes no {order['order_type']} orders")
        if order["oco_group"] or order["reduce_only"]:
            raise Refused("unsupported_type", "the terminal has neither OCO groups nor reduce-only orders")
        brackets = order["stop_loss"] is not None or order["take_profit"] is not None
        if brackets and not self._ids.hedging:
            raise Refused("unsupported_bracket", "on a netting account a position has one stop for all its orders")
        return market

    @staticmethod
    def _check_price(price: Decimal | None, name: str, market: SymbolFacts) -> None:
        if price is not None and not is_multiple(price, market.tick_size):
            raise Refused("not_on_tick", f"{name} was {price}, the tick of {market.name} is {market.tick_size}")

    def _make_request(self, action: int, order: Body, market: SymbolFacts) -> Body:
        order_id = order["client_order_id"]
        request = {
            "action": action,
            "symbol": market.name,
            "volume": float(order["quantity"]),
            "type": TYPE_NUMBERS[(order["side"], order["order_type"])],
            "magic": magic_number(order_id),
            "comment": order_id,
        }
        for name, key in (("stop_loss", "sl"), ("take_profit", "tp")):
            if order[name] is not None:
                request[key] = float(order[name])
        return request

    def _make_deal(self, order: Body, market: SymbolFacts) -> Body:
        tif = order["time_in_force"]
        if tif == "gtd":
            raise Refused("unsupported_tif", "a market order has no end")
        request = self._make_request(ACTION_DEAL, order, market)
        request["type_time"] = TIME_GTC
        request["type_filling"] = self._choose_filling(market, MARKET, tif)
        if order["close_ticket"]:
            request["position"] = self._check_position(order, market)
        if market.execution in (EXECUTION_REQUEST, EXECUTION_INSTANT):
            request["price"] = self._fresh_price(market.name, order["side"])
            request["deviation"] = self._deviation_points
        return request

    def _make_pending(self, order: Body, market: SymbolFacts) -> Body:
        tif, kind = order["time_in_force"], order["order_type"]
        if order["close_ticket"]:
            raise Refused("unsupported_type", "a position is closed at market")
        needs = {"day": EXPIRES_DAY, "gtc": EXPIRES_GTC, "gtd": EXPIRES_SPECIFIED}.get(tif)
        if needs is None:
            raise Refused("unsupported_tif", f"a pending order is not {tif}")
        if market.expiration_mode and not market.expiration_mode & needs:
            raise Refused("unsupported_tif", f"{market.name} takes no {tif} orders")
        request = self._make_request(ACTION_PENDING, order, market)
        request["type_time"] = {"day": TIME_DAY, "gtc": TIME_GTC, "gtd": TIME_SPECIFIED}[tif]
        request["type_filling"] = self._choose_filling(market, PENDING, tif)
        if tif == "gtd":
            # Whole seconds: it ends less than one second too early, never too late.
            request["expiration"] = self._clock.to_server_ms(order["good_till_ns"] // NS_PER_MS) // MS_PER_S
        request["price"] = float(order["limit_price"] if kind == "limit" else order["stop_price"])
        if kind == "stop_limit":
            request["stoplimit"] = float(order["limit_price"])
        return request

    def _make_modify(self, order: Any, body: Body, kind: str) -> Body:
        request = {
            "action": ACTION_MODIFY,
            "order": order.ticket,
            "symbol": order.symbol,
            "sl": float(order.sl),
            "tp": float(order.tp),
            "type_time": order.type_time,
            "price": float(body["limit_price"] if kind == "limit" else body["stop_price"]),
        }
        if kind == "stop_limit":
            request["stoplimit"] = float(body["limit_price"])
        if order.time_expiration:
            request["expiration"] = int(order.time_expiration)
        return request

    def _choose_filling(self, market: SymbolFacts, kind: str, tif: str) -> int:
        """SYMBOL_FILLING_* is a mask, ORDER_FILLING_* a number: they must not be mixed up."""
        mask = market.filling_mask
        if kind == MARKET and tif in ("ioc", "fok"):
            wanted, bit = (FILLING_IOC, MASK_IOC) if tif == "ioc" else (FILLING_FOK, MASK_FOK)
            if not mask & bit:
                raise Refused("unsupported_tif", f"{market.name} fills no {tif} orders (mask {mask})")
            return wanted
        cached = self._fillings.get((market.name, kind))
        if cached is not None:
            return cached
        order = self._fillings_of(market, kind)
        if not order:
            raise Refused("unsupported_tif", f"{market.name} names no filling mode (mask {mask}) for {kind} orders")
        return order[0]

    @staticmethod
    def _fillings_of(market: SymbolFacts, kind: str) -> list[int]:
        """Those that may be tried, best first."""
        by_mask = [
            mode for bit, mode in ((MASK_FOK, FILLING_FOK), (MASK_IOC, FILLING_IOC)) if market.filling_mask & bit
        ]
        if kind == PENDING:
            return [FILLING_RETURN, *by_mask]
        if market.execution in (EXECUTION_REQUEST, EXECUTION_INSTANT):
            return by_mask or [FILLING_FOK]
        return by_mask + ([FILLING_RETURN] if market.execution == EXECUTION_EXCHANGE else [])

    def _check_position(self, order: Body, market: SymbolFacts) -> int:
        ticket = order["close_ticket"]
        if not self._ids.hedging or not re.match(r"^[0-9]{1,19}$", ticket):
            raise Refused("unsupported_type", f"close_ticket was {ticket!r}, must be a position of a hedging account")
        position = self._find("positions_get", int(ticket))
        if position is None:
            raise Refused("platform_rejected", f"there is no position {ticket}")
        closes = "sell" if position.type == 0 else "buy"
        if position.symbol != market.name or order["side"] != closes:
            raise Refused("platform_rejected", f"position {ticket} is of {position.symbol}, a {closes} closes it")
        if order["quantity"] > exact(position.volume):
            raise Refused("platform_rejected", f"quantity was {order['quantity']}, the position has {position.volume}")
        return int(ticket)

    def _fresh_price(self, name: str, side: str) -> float:
        tick = self._terminal.call("symbol_info_tick", name)
        price = 0.0 if tick is None else float(tick.ask if side == "buy" else tick.bid)
        if price <= 0:
            raise Refused("platform_rejected", f"{name} has no price to {side} at")
        return price

    def _note(self, order_id: str) -> None:
        try:
            self._ids.note(order_id)
        except OSError as error:
            raise Refused("platform_rejected", f"the bridge cannot note the order's id on disk: {error}") from None

    # Sending.

    def _hand_over(self, order: Body, request: Body, market: SymbolFacts, kind: str) -> bool:
        """Send it once; again only where the server has said that it did nothing."""
        order_id = order["client_order_id"]
        # Another mode would be another order: one that may fill in part, or whose rest may stay.
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
                return self._take_no_result(order_id)
            retcode = result.retcode
            if retcode in ACCEPTED:
                if tried:
                    self._fillings[(market.name, kind)] = request["type_filling"]
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
                    request["price"] = self._fresh_price(market.name, ORDER_TYPES[request["type"]][0])
                    continue
                except Refused:
                    pass  # no price: the server's word stands
            if retcode == INVALID_FILL and is_filling_ours:
                tried.add(request["type_filling"])
                others = [mode for mode in self._fillings_of(market, kind) if mode not in tried]
                if others and len(tried) == 1:
                    request["type_filling"] = others[0]
                    continue
            code = REJECT_CODES.get(retcode, "platform_rejected")
            self._reject(code, self._words(result), order_id)
            return True

    def _take_no_result(self, order_id: str) -> bool:
        code, text = self._terminal.error
        if code in NOTHING_WAS_SENT:
            self.switches_doubtful = True
            self._reject("link_down" if code in IPC_LOST else "platform_rejected", f"{text} ({code})", order_id)
            return False
        self._log.say("warning", f"outcome of {order_id} unknown: {text} ({code})")
        self._monitor_soon()
        return True

    def _change(self, request: Body, refuse: Callable[[str], None]) -> bool:
        """Send a modification or removal; False when it was refused, and said so."""
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
        """Set the stop or target of a position; 0 takes it away."""
        position = self._find("positions_get", child.ticket)
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
            self._check_price(price, "price", self._facts_of(body["symbol"], child.symbol))
        except Refused as refusal:
            refuse(str(refusal))
            return False
        wanted = Wanted(body["revision"], body["limit_price"], body["stop_price"])
        self._monitor.wanted[order_id] = wanted

        def refuse_and_forget(text: str) -> None:
            self._monitor.wanted.pop(order_id, None)
            refuse(text)

        return self._change_child(child, float(price), refuse_and_forget)

    def _check_replace(self, order: Any, body: Body, kind: str, market: SymbolFacts) -> None:
        if kind == "market":
            raise Refused("replace_rejected", "a market order cannot be changed")
        if body["quantity"] != exact(order.volume_initial):
            raise Refused(
                "replace_rejected",
                f"quantity was {body['quantity']}, the order has {order.volume_initial}: MetaTrader changes prices, "
                "not sizes; cancel the order and place another",
            )
        prices = (body["limit_price"], body["stop_price"])
        needs = (kind in ("limit", "stop_limit"), kind in ("stop", "stop_limit"))
        if tuple(price is not None for price in prices) != needs:
            raise Refused("replace_rejected", f"the prices do not fit a {kind} order")
        for name in ("limit_price", "stop_price"):
            self._check_price(body[name], name, market)

    def _ticket_of(self, body: Body) -> int | None:
        ticket = self._ids.tickets.get(body["client_order_id"])
        if ticket is not None:
            return ticket
        named = body["platform_order_id"]
        return int(named) if re.match(r"^[0-9]{1,19}$", named) else None

    def _refuse_cancel(self, order_id: str, text: str) -> None:
        self._tell(self._describer.reject("cancel_rejected", text, order_id))

    def _reject(self, code: str, text: str, order_id: str) -> None:
        body = self._describer.reject(code, text, order_id)
        self._monitor.latest[order_id] = body
        self._tell(body)

    def _monitor_soon(self) -> None:
        self._monitor.at_once = True

    @staticmethod
    def _words(result: Any) -> str:
        name = RETCODES.get(result.retcode, "")
        return f"retcode {result.retcode} {name} {result.comment}".strip()
