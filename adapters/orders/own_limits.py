"""The adapter's own limits: checked after the gateway's, with numbers of the adapter's own.

The gateway's limits explain and plan; these stop a gateway that is wrong, or a program in its place. They judge by
`LotCount`. What only closes lots that the platform holds, by that count, is never held back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, Struct

from ...core.messages import Capabilities, Order, RejectCode, Replace, Side, Snapshot
from ...core.messages.fields import check_quantity
from ..base import Command, OrderEvent, PlatformAccount
from .lot_count import LotCount, Purpose, purpose_of

_WINDOW_S: Final = 1.0


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Key `limits` in a platform's settings.

    Attributes:
        max_order_lots: largest order.
        max_orders_per_s: orders and replaces in any second.
        max_position_lots: largest position in one symbol and direction, with everything that may still fill.
    """

    max_order_lots: Decimal = Decimal(50)
    max_orders_per_s: Annotated[int, Meta(ge=1, le=10_000)] = 100
    max_position_lots: Decimal = Decimal(100)

    def __post_init__(self) -> None:
        check_quantity("max_order_lots", self.max_order_lots)
        check_quantity("max_position_lots", self.max_position_lots)


class OwnLimits:
    """Judges orders and replaces of one session, and counts what becomes of them. Used by the adapter's thread."""

    def __init__(
        self, settings: LimitSettings, platform: str, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._platform = platform
        self._monotonic_s = monotonic_s
        self._lots = LotCount()
        self._sent_s: deque[float] = deque(maxlen=settings.max_orders_per_s)

    def begin(self, account: PlatformAccount, capabilities: Capabilities) -> None:
        """Begin the count of an account; its first snapshot follows."""
        self._lots = LotCount(
            account.mode, lists_positions=capabilities.lists_positions, lists_orders=capabilities.lists_orders
        )

    def refuse(self, command: Command) -> tuple[RejectCode, str]:
        """Return code and text of the reject; code NONE when no limit is passed.

        A refused replace leaves its order alive, so its code is `replace_rejected` and its text names `adapter_limit`.
        """
        if isinstance(command, Order):
            text = self._refuse_order(command)
            return (RejectCode.ADAPTER_LIMIT, text) if text else (RejectCode.NONE, "")
        if isinstance(command, Replace):
            text = self._refuse_replace(command)
            return (RejectCode.REPLACE_REJECTED, f"adapter_limit: {text}") if text else (RejectCode.NONE, "")
        return RejectCode.NONE, ""

    def add_sent(self, command: Command) -> None:
        """Count a command that is about to be given to the platform."""
        if isinstance(command, Order):
            self._lots.add_order(command)
        elif isinstance(command, Replace):
            self._lots.add_replace(command)
        else:
            return
        self._sent_s.append(self._monotonic_s())

    def apply_event(self, event: OrderEvent) -> None:
        """Count an order event of the platform."""
        self._lots.apply_event(event)

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Count by a snapshot of the platform."""
        self._lots.apply_snapshot(snapshot)

    def _refuse_order(self, order: Order) -> str:
        symbol, side = order.symbol, order.side
        purpose = purpose_of(order.client_order_id, closes=order.reduce_only or bool(order.close_ticket))
        if self._only_closes(symbol, side, purpose, order.close_ticket, order.quantity):
            return ""
        reached = self._lots.reached_with(symbol, side, purpose) + order.quantity
        return self._refuse_size(order.quantity) or self._refuse_rate() or self._refuse_position(symbol, reached)

    def _refuse_replace(self, replace: Replace) -> str:
        live = self._lots.live_order(replace.client_order_id)
        if live is None:
            # The platform refuses it, or it is an order that the snapshots do not list: only its size can be judged.
            return self._refuse_size(replace.quantity) or self._refuse_rate()
        added = max(replace.quantity - live.size, Decimal(0))
        if self._only_closes(live.symbol, live.side, live.purpose, live.ticket, added):
            return ""
        if not added:
            return self._refuse_rate()
        reached = self._lots.reached_with(live.symbol, live.side, live.purpose) + added
        return self._refuse_size(replace.quantity) or self._refuse_rate() or self._refuse_position(live.symbol, reached)

    def _only_closes(self, symbol: str, side: Side, purpose: Purpose, ticket: str, lots: Decimal) -> bool:
        if purpose is Purpose.OPEN:
            return False
        return not lots or lots <= self._lots.left_to_close(symbol, side, purpose, ticket)

    def _refuse_size(self, lots: Decimal) -> str:
        limit = self._settings.max_order_lots
        if lots <= limit:
            return ""
        return (
            f"the order was {lots:f} lots, {self._platform}'s adapter passes at most {limit:f}; {_cure('order_lots')}"
        )

    def _refuse_rate(self) -> str:
        limit, sent_s = self._settings.max_orders_per_s, self._sent_s
        if len(sent_s) < limit or self._monotonic_s() - sent_s[0] >= _WINDOW_S:
            return ""
        return (
            f"{limit} orders and replaces were sent in the last second, {self._platform}'s adapter passes no more; "
            f"{_cure('orders_per_s')}"
        )

    def _refuse_position(self, symbol: str, lots: Decimal) -> str:
        limit = self._settings.max_position_lots
        if lots <= limit:
            return ""
        return (
            f"{symbol} could reach {lots:f} lots in that direction by the adapter's own count of {self._platform}, "
            f"which passes at most {limit:f}; {_cure('position_lots')}"
        )


def _cure(limit: str) -> str:
    return f"if that is meant, raise settings.limits.max_{limit} of the platform"
