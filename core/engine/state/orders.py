"""Orders and executions of ours, and orders that carry our id but are missing in the journal."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import Struct, field

from ...messages import LegState, Order, OrderRole, RejectCode, Replace, WorkingOrder
from ...messages.terms import FINAL_STATES

ZERO = Decimal(0)
OPENING: Final = (OrderRole.ENTRY, OrderRole.HEDGE, OrderRole.ROLL)
"""Roles of orders that open a position."""


class ExecutionRecord(Struct, kw_only=True):
    """One execution (a fill), booked once; its key in `EngineState.executions` is platform|account|ExecID (17)."""

    route: str  # key of the account that traded, see `route_of`
    symbol: str = ""  # universal name; the contract's own name once it was rolled
    client_order_id: str = ""  # ClOrdID (11) of our order; empty = not an order of ours
    signal_id: str = ""  # signal that it belongs to; empty = none, so it counts as external
    leg: int = -1  # index of the leg in that signal; -1 = none
    sign: int = 0  # Side (54): +1 buy, -1 sell; 0 until the fill itself has arrived
    quantity: Decimal = ZERO  # LastQty (32), lots; the corrected figure after a correction
    beyond: Decimal = ZERO  # lots of `quantity` beyond its order's size: external, none of the order's or of a leg's
    price: Decimal = ZERO  # LastPx (31), quote units; the corrected figure after a correction
    fee: Decimal = ZERO  # cost in `fee_currency`; positive is a cost
    fee_currency: str = ""  # ISO code; empty = the instrument's currency
    ticket: str = ""  # id of the position that it opened or reduced, on a hedging account; empty = none
    ts_event_ns: int = 0  # TransactTime (60), UTC ns, by the platform's clock
    booked_ns: int = 0  # when it was first booked, engine's time
    revision: int = 0  # number of the newest correction or bust applied; 0 = as first reported
    seen: bool = False  # the fill itself has arrived; False while only a correction of it came
    busted: bool = False  # taken back by the platform (trade bust), or presumed so
    restated: bool = False  # quantity or price were changed since it was first reported
    differing_snapshots: int = 0  # snapshots in a row that list other terms than its newest correction
    missed_snapshots: int = 0  # snapshots that should list it and do not, since it was last reported
    presumed_busted: bool = False  # busted because snapshots miss it, not by a message; undone when it is listed again

    @property
    def counts(self) -> bool:
        """True when its quantity is part of position and money."""
        return self.seen and not self.busted

    @property
    def signed(self) -> Decimal:
        """Lots it adds to the position; zero when it does not count."""
        return self.quantity * self.sign if self.counts else ZERO

    @property
    def own_quantity(self) -> Decimal:
        """Lots that belong to its order and leg."""
        return self.quantity - self.beyond

    @property
    def own_signed(self) -> Decimal:
        """Lots that it adds to its leg; zero when it does not count."""
        return self.own_quantity * self.sign if self.counts else ZERO


class OrderRecord(Struct, kw_only=True):
    """One order that was sent, or may have been; its key in `EngineState.orders` is ClOrdID (11)."""

    order: Order  # as it was sent, or as a platform showed it after its loss; `symbol` follows a roll
    signal_id: str  # signal that it belongs to; empty = a closing order of the kill switch
    leg: int  # index of the leg in that signal; -1 = none
    role: OrderRole  # entry, hedge, roll, exit, stop loss or take profit; part of the ClOrdID
    attempt: int  # number of this order among those of one target and role, from 0; part of the ClOrdID
    state: LegState  # OrdStatus (39); UNKNOWN = sent, and the platform has not said what became of it
    sent_ns: int  # when it was sent, UTC ns; of a recovered order: when it was found at the platform
    quantity: Decimal  # OrderQty (38), lots, as the platform last confirmed it
    most_qty: Decimal  # the largest size that it may have had: sent, replaced to, or listed; executions exceed none
    limit_price: Decimal | None  # Price (44), quote units, as the platform last confirmed it
    stop_price: Decimal | None  # StopPx (99), quote units, as the platform last confirmed it
    cum_qty: Decimal = ZERO  # CumQty (14) by its executions: the sum of those that count, lots
    platform_cum_qty: Decimal = ZERO  # CumQty (14) by order status: the highest stated, until snapshots disprove it
    written_off_qty: Decimal = ZERO  # lots of CumQty by order status that are none of its leg: overfills, never listed
    executions: dict[str, None] = field(default_factory=dict)  # keys of its executions, in order of arrival
    platform_order_id: str = ""  # OrderID (37), the platform's own
    acked_ns: int = 0  # when the platform first confirmed it, UTC ns; 0 = not yet
    first_fill_ns: int = 0  # TransactTime (60) of the first fill that arrived, UTC ns; 0 = none
    last_fill_ns: int = 0  # the latest TransactTime (60) of its fills, UTC ns; 0 = none
    last_news_ns: int = 0  # when it was sent, acknowledged or traded last, engine's time
    unknown_since_ns: int = 0  # when `state` became UNKNOWN, UTC ns; 0 = it is not
    missed_snapshots: int = 0  # complete snapshots that do not list it, since it was last confirmed as working
    presumed_ended: bool = False  # ended because snapshots miss it, not by a message: a late answer may revive it
    qty_mismatch_snapshots: int = 0  # complete snapshots with `unreported_qty` > 0 since `platform_cum_qty` last rose
    cancel_wanted: bool = False  # to be cancelled; the cancel is sent, and sent again, until the order has ended
    cancel_sent_ns: int = 0  # when its last cancel was sent, UTC ns; 0 = none, or it is listed since: the next goes now
    cancels_sent: int = 0  # cancels sent; in a state of layout 6 or before: since it was last listed in spite of one
    replace: Replace | None = None  # replace that was sent and is not answered yet; one at a time
    replace_sent_ns: int = 0  # when the last replace was sent, UTC ns; 0 = none
    revision: int = 0  # number of the last replace sent, from 1; 0 = none
    replaced_revision: int = 0  # number of the last replace that the platform confirmed; 0 = none
    code: RejectCode = RejectCode.NONE  # why it ended, or its last replace was refused; NONE = no reason given
    text: str = ""  # the same in words, for people
    ended_ns: int = 0  # when it reached a final state, UTC ns; 0 = not yet

    # The next five are read some hundred times an order: they call nothing.

    @property
    def live(self) -> bool:
        """May still trade."""
        return self.state not in FINAL_STATES

    @property
    def max_cum_qty(self) -> Decimal:
        """The higher of both CumQty figures, lots: a bound must hold even while executions are on their way."""
        return self.cum_qty if self.cum_qty >= self.platform_cum_qty else self.platform_cum_qty

    @property
    def leaves_qty(self) -> Decimal:
        """LeavesQty (151): lots that may still trade; the larger size counts while a replace is not answered."""
        if self.state in FINAL_STATES:
            return ZERO
        size = self.quantity if self.replace is None else max(self.quantity, self.replace.quantity)
        traded = self.cum_qty if self.cum_qty >= self.platform_cum_qty else self.platform_cum_qty
        return size - traded if size > traded else ZERO

    @property
    def unreported_qty(self) -> Decimal:
        """Lots that the platform counts as filled and for which no execution has come."""
        return self.platform_cum_qty - self.cum_qty if self.platform_cum_qty > self.cum_qty else ZERO

    @property
    def unsettled(self) -> bool:
        """May still trade, or has traded lots whose executions are on their way: what is held is not known yet."""
        return self.state not in FINAL_STATES or self.platform_cum_qty > self.cum_qty


class OrphanRecord(Struct, kw_only=True):
    """An order with our id that the journal does not know: its record was lost with a torn or missing journal.

    Its key in `EngineState.orphans` is ClOrdID (11).
    """

    route: str  # key of the account that it is on, see `route_of`
    key: str  # short hash of its signal's id, from the ClOrdID
    target: int  # index of the signal's target that it trades for, from the ClOrdID
    role: OrderRole  # what it is for, from the ClOrdID
    row: WorkingOrder | None = None  # as the platform last listed it; None = not listed
    symbol: str = ""  # universal name
    found_ns: int = 0  # when it was found, UTC ns
    cancel_sent_ns: int = 0  # when its last cancel was sent, UTC ns; 0 = none
