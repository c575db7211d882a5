"""An exchange with its adapter, played by the test on a real link: a ledger of its own, and trouble on request.

Market orders trade at once, stops and limits rest until the test lets them trade. What it can do is a `Habits`; what
goes wrong with it is a `Trouble`. The ledger is always true, keeps every moment, and names each trade of our orders
that has put a position on the wrong side.
"""

from __future__ import annotations

import itertools
import time
from decimal import Decimal

from msgspec.structs import replace
from nexus_gateway.core.messages import (
    Cancel,
    Fill,
    LegState,
    Order,
    OrderRole,
    OrderType,
    RejectCode,
    Replace,
    Side,
    SnapshotRequest,
    WorkingOrder,
    find_client_order_id,
)

from .patience import patient
from .trading_floor import Floor
from .venue_adapter import ZERO, D, Habits, Moment, Resting, VenueAdapter, role_of

PRICE = D(21_000)
PROTECTIVE = (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT)
OPENING = (OrderRole.ENTRY, OrderRole.ROLL, OrderRole.HEDGE)
_HEARD_WITHIN_S = 0.25
"""The gateway hears of a trade within this."""


class Venue(VenueAdapter):
    """One account at one exchange. `sides`: the side of each symbol's position as long as nothing is closed twice.

    Attributes: `placed`: orders that have come, in order. `one_by_one`: market orders trade lot by lot. `moments`: the
    ledger over time. `wrong`: trades of our orders that have put a position on the other side. `dead_groups`,
    `reused_groups`: OCO groups that have ended, and those that came again all the same.
    """

    def __init__(self, floor: Floor, name: str, habits: Habits, *, account: str = "SIM1") -> None:
        super().__init__(floor, name, habits, account)
        self.sides = {"NQ": 1, "ES": -1}
        self.one_by_one = False
        self.placed: list[Order] = []
        self.moments: list[Moment] = []
        self.wrong: list[str] = []
        self.dead_groups: set[str] = set()
        self.reused_groups: list[str] = []
        self._raced: set[str] = set()
        self._numbers = itertools.count(1)

    # What the test does and asks.

    def stop_lots(self, symbol: str = "NQ") -> Decimal:
        return sum((_leaves(each) for each in self.working(OrderRole.STOP_LOSS, symbol=symbol)), ZERO)

    def turned_over(self) -> dict[str, Decimal]:
        """Positions that are on the wrong side."""
        return {symbol: lots for symbol, lots in self.net.items() if lots * self.sides[symbol] < 0}

    def is_covered(self) -> bool:
        """Whether stops work for exactly the lots that are held, symbol by symbol."""
        return all(abs(lots) == self.stop_lots(symbol) for symbol, lots in self.net.items())

    def of_role(self, role: OrderRole) -> list[Order]:
        """Orders of a role that have come, those that were refused as well."""
        return [order for order in self.placed if role_of(order) is role]

    def trade(self, resting: Resting, lots: Decimal | None = None) -> None:
        """Let a resting order trade, whole or in part."""
        self._execute(resting, _leaves(resting) if lots is None else lots)

    def turn(self) -> None:
        for body in self.client.receive():
            match body:
                case Order():
                    self._place(body)
                case Cancel():
                    self._cancel(body)
                case Replace():
                    self._replace(body)
                case SnapshotRequest():
                    self.requests += 1
                    self._waiting = body
        self._answer()
        self.client.tick()

    # The exchange.

    def _place(self, order: Order) -> None:
        assert order.client_order_id not in {each.client_order_id for each in self.placed}, "an order was sent twice"
        self.placed.append(order)
        role = role_of(order)
        if role.value in self.trouble.refuses:
            return self._refuse(order.client_order_id, RejectCode.PLATFORM_REJECTED, "no order is taken now")
        if time.time_ns() > order.not_after_ns > 0:
            return self._refuse(order.client_order_id, RejectCode.TOO_LATE_TO_SEND, "it has come too late")
        if order.oco_group in self.dead_groups:
            self.reused_groups.append(order.oco_group)
            return self._refuse(order.client_order_id, RejectCode.PLATFORM_REJECTED, "the OCO ID cannot be reused")
        stops = self.working(OrderRole.STOP_LOSS, symbol=order.symbol)
        if role is OrderRole.EXIT and stops and self.trouble.stop_first:
            self.trouble.stop_first -= 1
            self.trade(stops[0])
        if order.close_ticket and order.close_ticket not in self.tickets:
            return self._refuse(order.client_order_id, RejectCode.PLATFORM_REJECTED, "no such position")
        resting = self._rest(order, order.client_order_id, role, order.close_ticket)
        if order.order_type is not OrderType.MARKET:
            return None
        if role is OrderRole.EXIT and self.trouble.lots_an_order is not None:
            self._execute(resting, min(order.quantity, self.trouble.lots_an_order))
            return self._end(resting)
        for lots in [D(1)] * int(order.quantity) if self.one_by_one else [order.quantity]:
            self._execute(resting, lots)
        return None

    def _rest(self, order: Order, name: str, role: OrderRole, ticket: str = "", parent: str = "") -> Resting:
        row = WorkingOrder(
            client_order_id=name, symbol=order.symbol, side=order.side, state=LegState.WORKING,
            quantity=order.quantity, filled=ZERO, platform_order_id=f"P{next(self._numbers)}",
            order_type=order.order_type, limit_price=order.limit_price, stop_price=order.stop_price,
        )  # fmt: skip
        self.orders[name] = resting = Resting(order, row, role, ticket, parent)
        self._update(resting)
        self._note(f"{role.name.lower()} rests", order.symbol)
        return resting

    def _execute(self, resting: Resting, lots: Decimal) -> None:
        order, symbol, sign = resting.order, resting.row.symbol, resting.row.side.sign
        if order.reduce_only and self.habits.reduce_only:
            lots = min(lots, max(-self.net.get(symbol, ZERO) * sign, ZERO))
        if resting.ticket:
            lots = min(lots, abs(self.tickets.get(resting.ticket, ("", ZERO))[1]))
        if not lots:
            return self._end(resting)
        ticket = self._book(resting, lots)
        filled = resting.row.filled + lots
        state = LegState.FILLED if filled >= resting.row.quantity else LegState.PARTIALLY_FILLED
        resting.row = replace(resting.row, filled=filled, state=state)
        fill = Fill(
            platform=self.name, account=self.account, exec_id=f"{self.name}-{next(self._numbers)}",
            client_order_id=resting.row.client_order_id, symbol=symbol, side=resting.row.side, quantity=lots,
            price=PRICE, ts_event_ns=time.time_ns(), position_ticket=ticket, fee_currency="USD",
        )  # fmt: skip
        self.executions.append(fill)
        self._say(self.trouble.lies.pop(0)(fill) if self.trouble.lies else fill)
        self._update(resting)
        self._note(f"{resting.role.name.lower()} traded {lots}", symbol)
        self._follow(resting, ticket)
        return None

    def _book(self, resting: Resting, lots: Decimal) -> str:
        """Move the ledger by one trade of ours; returns its ticket on a hedging account."""
        symbol, signed = resting.row.symbol, lots * resting.row.side.sign
        net = self.net[symbol] = self.net.get(symbol, ZERO) + signed
        ticket = ""
        if self.habits.hedging:
            ticket = resting.ticket or f"T{resting.row.platform_order_id}"
            held = self.tickets.pop(ticket, (symbol, ZERO))[1] + signed
            if held:
                self.tickets[ticket] = (symbol, held)
            if held * self.sides[symbol] < 0:
                self.wrong.append(f"{self.name}: {resting.row.client_order_id} made ticket {ticket} {held} {symbol}")
        if net * self.sides[symbol] < 0 and not self._is_forced(resting):
            self.wrong.append(f"{self.name}: {resting.row.client_order_id} has made the position {net} {symbol}")
        return ticket

    def _is_forced(self, resting: Resting) -> bool:
        """Whether two orders have crossed where reduce-only is ignored, so that both close. The gateway closes the
        excess again. Either a stop has traded just before its cancel, which left when a reduce-only signal had traded;
        or a stop or target has just traded, and the gateway had not heard of it when it sent a reduce-only signal.
        """
        symbol = resting.row.symbol
        heard_s = time.monotonic() - patient(_HEARD_WITHIN_S)
        if self.habits.reduce_only:
            return False
        if resting.role is OrderRole.ENTRY:
            traded = [f"{each.name.lower()} traded" for each in PROTECTIVE]
            return any(
                each.symbol == symbol and each.at_s >= heard_s and each.what.startswith(tuple(traded))
                for each in self.moments
            )
        reduced = any(
            each.role is OrderRole.ENTRY and each.row.filled and each.row.side.sign * self.sides[symbol] < 0
            for each in self.orders.values()
            if each.row.symbol == symbol
        )
        return resting.row.client_order_id in self._raced and reduced

    def _follow(self, resting: Resting, ticket: str) -> None:
        """What the exchange does by itself after a trade: brackets, OCO siblings, orders of a ticket that is gone."""
        if resting.role in OPENING and self.habits.brackets:
            self._attach_bracket(resting, ticket)
        if ticket:
            held = abs(self.tickets.get(ticket, ("", ZERO))[1])
            for each in [each for each in self.working(*PROTECTIVE) if each.ticket == ticket]:
                if not held:
                    self._end(each)
                elif each is not resting and _leaves(each) != held:
                    self._resize(each, each.row.filled + held)
        elif resting.parent:
            for each in [each for each in self.working(*PROTECTIVE) if each.parent == resting.parent]:
                if each is not resting and resting.row.state.final:
                    self._end(each)
        self._end_group(resting)

    def _attach_bracket(self, entry: Resting, ticket: str) -> None:
        parts = find_client_order_id(entry.row.client_order_id)
        assert parts is not None
        prices = (entry.order.stop_loss, entry.order.take_profit)
        for role, price in zip(PROTECTIVE, prices, strict=True):
            name = parts.id_of(role)
            if price is None:
                continue
            if name in self.orders:
                if not ticket and not self.orders[name].row.state.final:
                    self._resize(self.orders[name], entry.row.filled)
                continue
            is_stop = role is OrderRole.STOP_LOSS
            child = replace(
                entry.order, quantity=entry.row.filled, side=Side.SELL if entry.row.side is Side.BUY else Side.BUY,
                order_type=OrderType.STOP if is_stop else OrderType.LIMIT,
                stop_price=price if is_stop else None, limit_price=None if is_stop else price,
                stop_loss=None, take_profit=None,
            )  # fmt: skip
            self._rest(child, name, role, ticket, entry.row.client_order_id)

    def _resize(self, resting: Resting, quantity: Decimal) -> None:
        resting.row = replace(resting.row, quantity=quantity)
        self._update(resting)
        self._note(f"{resting.role.name.lower()} is {quantity}", resting.row.symbol)

    def _end(self, resting: Resting) -> None:
        if not resting.row.state.final:
            resting.row = replace(resting.row, state=LegState.CANCELLED)
            self._update(resting)
            self._note(f"{resting.role.name.lower()} cancelled", resting.row.symbol)
            self._end_group(resting)

    def _end_group(self, resting: Resting) -> None:
        """A group dies with its first order that ends."""
        group = resting.order.oco_group
        if group and self.habits.oco and resting.row.state.final and group not in self.dead_groups:
            self.dead_groups.add(group)
            for each in self.working():
                if each.order.oco_group == group:
                    self._end(each)

    def _cancel(self, cancel: Cancel) -> None:
        resting = self.orders.get(cancel.client_order_id)
        if resting is None:
            return self._refuse(cancel.client_order_id, RejectCode.CANCEL_REJECTED, "no such order")
        if self.trouble.swallows:
            self.trouble.swallows -= 1
            return None
        if self.trouble.stop_first and resting.role is OrderRole.STOP_LOSS and not resting.row.state.final:
            self.trouble.stop_first -= 1
            self._raced.add(cancel.client_order_id)
            self.trade(resting)
        if resting.row.state.final or "C" in self.trouble.refuses:
            return self._refuse(cancel.client_order_id, RejectCode.CANCEL_REJECTED, "it cannot be cancelled")
        return self._end(resting)

    def _replace(self, change: Replace) -> None:
        resting = self.orders.get(change.client_order_id)
        over = resting is None or resting.row.state.final or change.quantity <= resting.row.filled
        if over or "P" in self.trouble.refuses or not self.habits.replace:
            code = RejectCode.REPLACE_REJECTED
            return self._refuse(change.client_order_id, code, "it cannot be changed", change.revision)
        assert resting is not None
        resting.row = replace(
            resting.row, quantity=change.quantity, limit_price=change.limit_price, stop_price=change.stop_price
        )
        self._update(resting, change.revision)
        self._note(f"{resting.role.name.lower()} is {change.quantity}", resting.row.symbol)
        return None

    def _note(self, what: str, symbol: str) -> None:
        net = self.net.get(symbol, ZERO)
        self.moments.append(Moment(time.monotonic(), what, symbol, net, self.stop_lots(symbol)))


def _leaves(resting: Resting) -> Decimal:
    return resting.row.quantity - resting.row.filled
