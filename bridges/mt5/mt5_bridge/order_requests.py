"""Check commands against symbol, account and positions, and build the requests for order_send."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from .constants import (
    ACTION_DEAL,
    ACTION_MODIFY,
    ACTION_PENDING,
    EXECUTION_EXCHANGE,
    EXECUTION_INSTANT,
    EXECUTION_REQUEST,
    EXPIRES_DAY,
    EXPIRES_GTC,
    EXPIRES_SPECIFIED,
    FILLING_FOK,
    FILLING_IOC,
    FILLING_RETURN,
    MASK_FOK,
    MASK_IOC,
    MS_PER_S,
    NS_PER_MS,
    ORDER_MODES,
    TIME_DAY,
    TIME_GTC,
    TIME_SPECIFIED,
    TYPE_NUMBERS,
)
from .decimals import exact, is_multiple
from .errors import Refused
from .fields import Body
from .order_ids import STOP_LOSS, TAKE_PROFIT, OrderIds, child_id, find_order_id, magic_number
from .server_clock import ServerClock
from .symbols import SymbolFacts
from .terminal import Terminal

MARKET, PENDING = "market", "pending"


class RequestMaker:
    """Builds the requests for one account. Methods raise Refused for a command that does not fit; nothing is rounded.

    Attributes:
        markets: subscribed symbols, by the gateway's name.
    """

    def __init__(self, terminal: Terminal, clock: ServerClock, ids: OrderIds, deviation_points: int) -> None:
        self.markets: dict[str, SymbolFacts] = {}
        self._terminal = terminal
        self._clock = clock
        self._ids = ids
        self._deviation_points = deviation_points
        self._fillings: dict[tuple[str, str], int] = {}

    def check_ids(self, body: Body) -> None:
        """Check the client order id of a `place` and those of its stop and target."""
        order_id = body["order"]["client_order_id"]
        if find_order_id(order_id) != order_id:
            raise Refused("platform_rejected", f"client_order_id was {order_id!r}, must be one of the gateway's")
        for role, key in ((STOP_LOSS, "stop_loss_id"), (TAKE_PROFIT, "take_profit_id")):
            if body[key] not in ("", child_id(order_id, role)):
                raise Refused("unsupported_bracket", f"{key} was {body[key]!r}, must follow from the entry's id")

    def check_order(self, order: Body) -> SymbolFacts:
        """Check an order against its symbol and the account; returns the symbol's facts."""
        market = self.facts_of(order["symbol"])
        quantity = order["quantity"]
        if not is_multiple(quantity, market.lot_step):
            raise Refused("not_on_lot_step", f"quantity was {quantity}, {market.name} is traded in {market.lot_step}")
        if not market.least_lots <= quantity <= market.most_lots:
            raise Refused(
                "platform_rejected",
                f"quantity was {quantity}, {market.name} takes {market.least_lots} to {market.most_lots}",
            )
        for name in ("limit_price", "stop_price", "stop_loss", "take_profit"):
            self.check_price(order[name], name, market)
        mode = ORDER_MODES[order["order_type"]]
        if market.order_mode and not market.order_mode & mode:
            raise Refused("unsupported_type", f"{market.name} takes no {order['order_type']} orders")
        if order["oco_group"] or order["reduce_only"]:
            raise Refused("unsupported_type", "the terminal has neither OCO groups nor reduce-only orders")
        brackets = order["stop_loss"] is not None or order["take_profit"] is not None
        if brackets and not self._ids.hedging:
            raise Refused("unsupported_bracket", "on a netting account a position has one stop for all its orders")
        return market

    def facts_of(self, symbol: str, platform_symbol: str = "") -> SymbolFacts:
        """Facts of a subscribed symbol, which must have this name at the terminal when one is given."""
        market = self.markets.get(symbol)
        if market is None or platform_symbol not in ("", market.name):
            raise Refused("identity_mismatch", f"symbol was {symbol}, which is not subscribed as {platform_symbol}")
        return market

    def check_replace(self, order: Any, body: Body, kind: str, market: SymbolFacts) -> None:
        """Check a `replace` against the working order; `kind`: its order type."""
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
            self.check_price(body[name], name, market)

    @staticmethod
    def check_price(price: Decimal | None, name: str, market: SymbolFacts) -> None:
        """Check that a price is on the tick."""
        if price is not None and not is_multiple(price, market.tick_size):
            raise Refused("not_on_tick", f"{name} was {price}, the tick of {market.name} is {market.tick_size}")

    def make_deal(self, order: Body, market: SymbolFacts) -> Body:
        """Request for a market order. Raises CallFailed, TerminalLost, WrongTerminal, too."""
        tif = order["time_in_force"]
        if tif == "gtd":
            raise Refused("unsupported_tif", "a market order has no end")
        request = self._make_request(ACTION_DEAL, order, market)
        request["type_time"] = TIME_GTC
        request["type_filling"] = self._choose_filling(market, MARKET, tif)
        if order["close_ticket"]:
            request["position"] = self._check_position(order, market)
        if market.execution in (EXECUTION_REQUEST, EXECUTION_INSTANT):
            request["price"] = self.fresh_price(market.name, order["side"])
            request["deviation"] = self._deviation_points
        return request

    def make_pending(self, order: Body, market: SymbolFacts) -> Body:
        """Request for a limit, stop or stop-limit order."""
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
            # Whole seconds, rounded down: the order ends less than one second early, never late.
            request["expiration"] = self._clock.to_server_ms(order["good_till_ns"] // NS_PER_MS) // MS_PER_S
        request["price"] = float(order["limit_price"] if kind == "limit" else order["stop_price"])
        if kind == "stop_limit":
            request["stoplimit"] = float(order["limit_price"])
        return request

    def make_modify(self, order: Any, body: Body, kind: str) -> Body:
        """Request that changes the prices of a working order and keeps everything else."""
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

    def next_filling(self, market: SymbolFacts, kind: str, tried: set[int]) -> int | None:
        """Filling mode to try after the first refusal; None when there is no other, or after the second refusal."""
        others = [mode for mode in self._fillings_of(market, kind) if mode not in tried]
        return others[0] if others and len(tried) == 1 else None

    def remember_filling(self, market: SymbolFacts, kind: str, filling: int) -> None:
        """Use this mode first from now on: the server has accepted it after it refused another."""
        self._fillings[(market.name, kind)] = filling

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

    def _choose_filling(self, market: SymbolFacts, kind: str, tif: str) -> int:
        """Choose ORDER_FILLING_*, a number; the symbol's SYMBOL_FILLING_* is a mask with other values."""
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
        """Filling modes to try, best first."""
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
        position = self._terminal.find("positions_get", int(ticket))
        if position is None:
            raise Refused("platform_rejected", f"there is no position {ticket}")
        closes = "sell" if position.type == 0 else "buy"
        if position.symbol != market.name or order["side"] != closes:
            raise Refused("platform_rejected", f"position {ticket} is of {position.symbol}, a {closes} closes it")
        if order["quantity"] > exact(position.volume):
            raise Refused("platform_rejected", f"quantity was {order['quantity']}, the position has {position.volume}")
        return int(ticket)

    def fresh_price(self, name: str, side: str) -> float:
        """Current ask to buy at, or bid to sell at."""
        tick = self._terminal.call("symbol_info_tick", name)
        price = 0.0 if tick is None else float(tick.ask if side == "buy" else tick.bid)
        if price <= 0:
            raise Refused("platform_rejected", f"{name} has no price to {side} at")
        return price
