"""Read orders, positions, history and deals of the account as one consistent view."""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from typing import Any, NamedTuple

from .constants import CLOCK_DOUBT_S, DAY_S, MS_PER_S, NS_PER_MS, NS_PER_S, ORDER_STATES, STABLE_READS
from .descriptions import has_ended
from .server_clock import ServerClock
from .terminal import Terminal


class View(NamedTuple):
    """Orders, positions, history and deals, read together.

    Attributes:
        history: orders that have ended.
        missing: tickets of live orders that are listed nowhere.
    """

    orders: Sequence[Any]
    positions: Sequence[Any]
    history: Sequence[Any]
    deals: Sequence[Any]
    missing: set[int]


class ViewReader:
    """Reads views of one account. `history_s`: how far back the regular views go."""

    def __init__(self, terminal: Terminal, clock: ServerClock, history_s: int) -> None:
        self._terminal = terminal
        self._clock = clock
        self._history_s = history_s
        # Ended orders older than the window that were looked up by ticket, and their deals.
        self._outside: dict[int, Any] = {}
        self._deals_outside: list[Any] = []
        self._until_s = 0

    @property
    def window_ns(self) -> int:
        """Begin of the regular views' history, UTC ns."""
        return time.time_ns() - self._history_s * NS_PER_S

    def read(self, from_ns: int, expected: Set[int]) -> View:
        """Read a view with history from `from_ns` on, and CLOCK_DOUBT_S earlier. `expected`: tickets of live orders.

        Deals are read last, so that they explain every quantity that an order shows as filled.

        Raises:
            CallFailed, TerminalLost: see `Terminal.need`.
        """
        need = self._terminal.need
        from_s = max(self._clock.to_server_ms(from_ns // NS_PER_MS) // MS_PER_S - CLOCK_DOUBT_S, 1)
        until_s = self._clock.to_server_ms(time.time_ns() // NS_PER_MS) // MS_PER_S + 2 * DAY_S
        # This computer's clock may have been set back: what was done before is in the history all the same.
        until_s = self._until_s = max(until_s, self._until_s)
        orders, positions = need("orders_get"), need("positions_get")
        listed = {order.ticket for order in orders}
        history = {
            order.ticket: order
            for order in need("history_orders_get", from_s, until_s)
            if has_ended(order) and not (ORDER_STATES[order.state] == "partially_filled" and order.ticket in listed)
        }
        missing = set(expected) - listed - history.keys() - self._outside.keys()
        for ticket in missing:
            for order in filter(has_ended, self.find_in_history(ticket)):
                self._outside[ticket] = order
                self._deals_outside += need("history_deals_get", ticket=ticket)
        return View(
            orders=orders,
            positions=positions,
            history=list({**self._outside, **history}.values()),
            deals=[*self._deals_outside, *need("history_deals_get", from_s, until_s)],
            missing=missing - self._outside.keys(),
        )

    def read_stable(self, from_ns: int, expected: Set[int]) -> tuple[View, bool]:
        """Read a view again until nothing has changed meanwhile; False after STABLE_READS attempts.

        Raises:
            CallFailed, TerminalLost: see `read`.
        """
        for _ in range(STABLE_READS):
            view = self.read(from_ns, expected)
            again = self.read_signature()
            if again == self.sign(view.orders, view.positions):
                return view, True
        return view, False

    def find_in_history(self, ticket: int) -> Sequence[Any]:
        """The history's orders with this ticket, none when the call fails. Raises TerminalLost."""
        found: Sequence[Any] = self._terminal.call("history_orders_get", ticket=ticket) or ()
        return found

    def read_signature(self) -> Any:
        """Signature of the current orders and positions. Raises CallFailed, TerminalLost."""
        need = self._terminal.need
        return self.sign(need("orders_get"), need("positions_get"))

    @staticmethod
    def sign(orders: Sequence[Any], positions: Sequence[Any]) -> Any:
        """Signature: two are equal when no order or position has changed between them."""
        return (
            [
                (each.ticket, each.state, each.volume_current, each.price_open, each.price_stoplimit, each.sl, each.tp)
                for each in orders
            ],
            [(each.ticket, each.type, each.volume, each.price_open, each.sl, each.tp) for each in positions],
        )
