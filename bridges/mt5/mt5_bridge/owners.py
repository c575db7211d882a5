"""Find the order id that a position or a deal belongs to."""

from __future__ import annotations

from typing import Any

from .constants import DEAL_BUY, DEAL_BUY_CANCELED, REASON_SL, REASON_TP
from .descriptions import Child
from .order_ids import OPENING_ROLES, ROLE_AT, STOP_LOSS, TAKE_PROFIT, OrderIds, child_id
from .terminal import Terminal


class Owners:
    """Finds the order id of positions and deals; asks the terminal for tickets that are not known yet."""

    def __init__(self, terminal: Terminal, ids: OrderIds) -> None:
        self._terminal = terminal
        self._ids = ids
        self._entries: dict[int, str] = {}

    def entry_of(self, ticket: int, position: Any = None) -> str:
        """Order id of the entry that opened a position; empty for an external one, and on a netting account."""
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
            if found and found[ROLE_AT] not in OPENING_ROLES:
                found = ""
            self._entries[ticket] = found
        return found

    def order_of_deal(self, deal: Any) -> tuple[str, Child | None]:
        """Order id behind a deal, empty for an external one; and the stop or target that traded, if one did."""
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
            # The deal is newer than the orders that were read.
            found = self._terminal.call("history_orders_get", ticket=deal.order) or self._terminal.call(
                "orders_get", ticket=deal.order
            )
            known = self._ids.of_order(found[0]) if found else self._ids.of_tag(deal.order, deal.magic, deal.comment)
        return known, None
