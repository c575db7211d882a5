"""Convert the terminal's orders, deals, positions and money to messages of the protocol."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from .constants import DEAL_BUY, DEAL_SELL, ENDED_STATES, ORDER_STATES, ORDER_TYPES
from .decimals import exact, write, write_or_none
from .fields import Body
from .order_ids import STOP_LOSS, OrderIds
from .server_clock import ServerClock
from .symbols import name_external
from .terminal import Account


class SymbolNames:
    """Maps the terminal's symbol names to the gateway's."""

    def __init__(self) -> None:
        self._universal: dict[str, str] = {}

    def set(self, universal: dict[str, str]) -> None:
        """Set the subscribed symbols: terminal's name -> gateway's name."""
        self._universal = universal

    def of(self, platform_symbol: str) -> str:
        """The gateway's name; one made by the protocol's rule for a symbol that is not subscribed."""
        found = self._universal.get(platform_symbol)
        return found if found is not None else name_external(platform_symbol, self._universal.values())


class Child(NamedTuple):
    """A position's stop loss or take profit, reported as an order of its own."""

    ticket: int
    role: str
    symbol: str
    side: str
    price: float
    lots: float


def is_trade(deal: Any) -> bool:
    """Whether the deal is a trade in force: not a deposit, fee, dividend or cancelled trade."""
    return deal.type in (DEAL_BUY, DEAL_SELL) and deal.volume > 0


def has_ended(order: Any) -> bool:
    """Whether an order in the history has really ended: the terminal may list it there too early."""
    return order.state in ENDED_STATES


def prices_of(order: Any) -> tuple[str | None, str | None]:
    """Limit price and stop price of an order, as the protocol formats them."""
    kind = ORDER_TYPES.get(order.type, ("buy", "market"))[1]
    if kind == "limit":
        return write_or_none(order.price_open), None
    if kind == "stop":
        return None, write_or_none(order.price_open)
    if kind == "stop_limit":
        return write_or_none(order.price_stoplimit), write_or_none(order.price_open)
    return None, None


class Describer:
    """Builds messages of the protocol for one account from the terminal's structs."""

    def __init__(self, platform: str, account: Account, clock: ServerClock, ids: OrderIds, names: SymbolNames) -> None:
        self._route = {"platform": platform, "account": account.name}
        self._currency = account.currency
        self._hedging = account.hedging
        self._clock = clock
        self._ids = ids
        self._names = names

    def order(self, order: Any, *, has_ended: bool = False) -> Body:
        """Row of `working_orders`; `update` makes an `order_update` of it."""
        side, kind = ORDER_TYPES.get(order.type, ("buy", "market"))
        limit_price, stop_price = prices_of(order)
        filled = exact(order.volume_initial) - exact(order.volume_current)
        state = ORDER_STATES.get(order.state, "unknown")
        if state == "working" and filled > 0:
            state = "partially_filled"
        if state == "partially_filled" and has_ended:
            state = "cancelled"
        return {
            "client_order_id": self._ids.of_order(order),
            "symbol": self._names.of(order.symbol),
            "side": side,
            "state": state,
            "quantity": write(exact(order.volume_initial)),
            "filled": write(filled),
            "platform_order_id": str(order.ticket),
            "order_type": kind,
            "limit_price": limit_price,
            "stop_price": stop_price,
        }

    def child(self, order_id: str, child: Child, state: str, filled: Decimal) -> Body:
        """Row of `working_orders` for a stop loss or take profit."""
        price = write_or_none(child.price)
        is_stop = child.role == STOP_LOSS
        return {
            "client_order_id": order_id,
            "symbol": self._names.of(child.symbol),
            "side": child.side,
            "state": state,
            "quantity": write(exact(child.lots)),
            "filled": write(filled),
            "platform_order_id": f"{child.ticket}:{child.role}",
            "order_type": "stop" if is_stop else "limit",
            "limit_price": None if is_stop else price,
            "stop_price": price if is_stop else None,
        }

    def update(self, row: Body, ts_event_ns: int, revision: int = 0, text: str = "") -> Body:
        """`order_update` made of a row."""
        extra = {"replace_revision": revision, "text": text[:512], "ts_event_ns": ts_event_ns}
        return {"type": "order_update", **self._route, **row, **extra}

    def order_time_ns(self, order: Any) -> int:
        """When the order ended, else when it was placed; UTC ns."""
        return self._clock.to_utc_ns(order.time_done_msc or order.time_setup_msc)

    def fill(self, deal: Any, order_id: str, child: Child | None) -> Body:
        """`fill` of a deal. `child`: the stop or target that traded, if one did."""
        return {
            "type": "fill",
            **self._route,
            "exec_id": str(deal.ticket),
            "client_order_id": order_id,
            "symbol": self._names.of(deal.symbol),
            "side": "buy" if deal.type == DEAL_BUY else "sell",
            "quantity": write(exact(deal.volume)),
            "price": write(exact(deal.price)),
            "ts_event_ns": self._clock.to_utc_ns(deal.time_msc),
            "platform_order_id": str(deal.order) if child is None else f"{child.ticket}:{child.role}",
            "contract": "",
            "position_ticket": str(deal.position_id) if self._hedging else "",
            "fee": write(-exact(deal.commission) - exact(deal.fee)),
            "fee_currency": self._currency,
        }

    def correction(self, deal: Any, revision: int) -> Body:
        """`correction` of a deal that has changed since it was reported."""
        busted = not is_trade(deal)
        return {
            "type": "correction",
            **self._route,
            "exec_id": str(deal.ticket),
            "kind": "bust" if busted else "correct",
            "revision": revision,
            "quantity": None if busted else write(exact(deal.volume)),
            "price": None if busted else write(exact(deal.price)),
            "ts_event_ns": self._clock.to_utc_ns(deal.time_msc),
        }

    def position(self, position: Any) -> Body:
        """Row of `positions`; the quantity of a short position is negative."""
        sign = 1 if position.type == 0 else -1
        return {
            "symbol": self._names.of(position.symbol),
            "quantity": write(sign * exact(position.volume)),
            "avg_price": write_or_none(position.price_open),
            "contract": "",
            "ticket": str(position.ticket) if self._hedging else "",
        }

    def money(self, account: Any, now_ns: int) -> Body:
        """`account` message: balance, equity, margin."""
        return {
            "type": "account",
            **self._route,
            "currency": self._currency,
            "balance": write(exact(account.balance)),
            "equity": write(exact(account.equity)),
            "margin_used": write(exact(account.margin)),
            "day_start_equity": None,
            "realized_today": None,
            "as_of_ns": now_ns,
        }

    def reject(self, code: str, text: str, order_id: str, revision: int = 0) -> Body:
        """`reject` of a command; `revision`: of a replace."""
        return {
            "type": "reject",
            "code": code,
            "text": text[:512],
            "client_order_id": order_id,
            **self._route,
            "replace_revision": revision,
        }

    def part(self, kind: str, rows: list[Body], now_ns: int, complete: bool) -> Body:
        """One part of a snapshot; `kind`: positions, working_orders or executions; `complete`: nothing is missing."""
        return {"type": kind, **self._route, "rows": rows, "as_of_ns": now_ns, "complete": complete}

    def snapshot(self, request_id: int, parts: list[Body], from_ns: int, funds: Body | None, complete: bool) -> Body:
        """`snapshot` of three parts: positions, working orders, executions from `from_ns` on."""
        positions, orders, executions = parts
        return {
            "type": "snapshot",
            "request_id": request_id,
            **self._route,
            "positions": positions,
            "working_orders": orders,
            "executions": {**executions, "from_ns": from_ns},
            "funds": funds,
            "complete": complete,
        }
