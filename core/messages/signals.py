"""Messages between NEXUS and the gateway: signals, changes of a signal, and the reports that come back."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, Struct, structs

from .account import Contradiction
from .codes import RejectCode
from .fields import (
    AccountName,
    ClientOrderId,
    Contract,
    Count,
    OptionalPlatform,
    Platform,
    SignalId,
    Symbol,
    Text,
    TimeNs,
    check_computed,
    check_distance,
    check_good_till,
    check_money,
    check_price,
    check_prices,
    check_quantity,
)
from .order_id import MAX_LEGS
from .terms import (
    Allocation,
    FanOutKind,
    LegState,
    OrderType,
    Protection,
    Side,
    SignalState,
    StopPlace,
    TimeInForce,
)


class Bracket(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop loss and take profit of a signal, in quote units; when one fills, the other is cancelled.

    Each is given as a price, or as a distance from the leg's own entry: its limit or stop price, else the ask (buy) or
    bid (sell) of its platform. Distances suit legs that trade at different price levels; the price is rounded towards
    the entry onto the platform's tick grid.
    """

    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    stop_distance: Decimal | None = None
    take_profit_distance: Decimal | None = None

    def __post_init__(self) -> None:
        check_price("stop_loss", self.stop_loss)
        check_price("take_profit", self.take_profit)
        check_distance("stop_distance", self.stop_distance)
        check_distance("take_profit_distance", self.take_profit_distance)
        if self.stop_loss is not None and self.stop_distance is not None:
            raise ValueError(f"stop_loss was {self.stop_loss} and stop_distance {self.stop_distance}; give one of them")
        if self.take_profit is not None and self.take_profit_distance is not None:
            raise ValueError(
                f"take_profit was {self.take_profit} and take_profit_distance {self.take_profit_distance}; "
                "give one of them"
            )
        if not self.has_stop and self.take_profit is None and self.take_profit_distance is None:
            raise ValueError("a bracket needs a stop, a target or both")

    @property
    def has_stop(self) -> bool:
        """Whether it has a stop loss."""
        return self.stop_loss is not None or self.stop_distance is not None


class FanOut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fan-out policy: which legs must fill for the others to stay open.

    `quorum`: number of legs that must fill, for `quorum` only. `decide_within_ms`: after this time unfilled legs are
    cancelled and the policy is applied; 0 = no limit.
    """

    kind: FanOutKind = FanOutKind.BEST_EFFORT
    quorum: Annotated[int, Meta(ge=0, le=MAX_LEGS)] = 0
    decide_within_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0

    def __post_init__(self) -> None:
        if (self.quorum > 0) != (self.kind is FanOutKind.QUORUM):
            raise ValueError(f"quorum was {self.quorum}, which does not fit policy {self.kind}")


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One platform of a signal. `account`: empty = the one that is linked. `quantity`, `bracket`: this leg's
    own, in place of the signal's; a bracket replaces the signal's as a whole.
    """

    platform: Platform
    account: AccountName = ""
    quantity: Decimal | None = None
    bracket: Bracket | None = None

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)


MARKET_WITHIN_NS: Final = 1_000_000_000
"""A market order was decided on the price of its moment: held up by more than this, it would trade another one."""
RESTING_WITHIN_NS: Final = 10_000_000_000


class Signal(Struct, tag="signal", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A trade decision of NEXUS, executed as one leg on each target.

    Exactly one of `quantity` (lots; per leg, or split among the legs: `allocation`) and `risk_usd` (per leg; converted
    to lots by the distance to the leg's stop). `reduce_only`: never opens or reverses a position. `created_ns`: when
    NEXUS decided; `tick_ns`: time of the tick that it decided on; both UTC ns. `enter_by_ns`: an entry that was not
    sent by then is not sent any more, UTC ns; 0 = `MARKET_WITHIN_NS` after `created_ns` for a market order, else
    `RESTING_WITHIN_NS`. It does not hold for `reduce_only`.
    """

    signal_id: SignalId
    symbol: Symbol
    side: Side
    created_ns: TimeNs
    targets: Annotated[tuple[Target, ...], Meta(min_length=1, max_length=MAX_LEGS)]
    quantity: Decimal | None = None
    risk_usd: Decimal | None = None
    allocation: Allocation = Allocation.EACH
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    good_till_ns: TimeNs = 0
    bracket: Bracket | None = None
    policy: FanOut = FanOut()
    reduce_only: bool = False
    tick_ns: TimeNs = 0
    strategy: Text = ""
    enter_by_ns: TimeNs = 0

    @property
    def entry_deadline_ns(self) -> int:
        """`enter_by_ns`, or what stands for it; 0 = none."""
        if self.reduce_only or self.enter_by_ns:
            return 0 if self.reduce_only else self.enter_by_ns
        return self.created_ns + (MARKET_WITHIN_NS if self.order_type is OrderType.MARKET else RESTING_WITHIN_NS)

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        if self.enter_by_ns and self.enter_by_ns <= self.created_ns:
            late_ms = (self.created_ns - self.enter_by_ns) // 1_000_000
            raise ValueError(f"enter_by_ns lies {late_ms} ms before created_ns, must lie behind it")
        check_money("risk_usd", self.risk_usd)
        if (self.quantity is None) == (self.risk_usd is None):
            raise ValueError("a signal needs exactly one of quantity and risk_usd")
        if self.risk_usd is not None:
            if self.risk_usd <= 0:
                raise ValueError(f"risk_usd must be above zero, was {self.risk_usd}")
            brackets = [target.bracket or self.bracket for target in self.targets]
            if any(bracket is None or not bracket.has_stop for bracket in brackets):
                raise ValueError("risk_usd needs a bracket with a stop for each target: else the size has no measure")
        check_prices(self.order_type, self.limit_price, self.stop_price)
        check_good_till(self.time_in_force, self.good_till_ns)
        if self.policy.quorum > len(self.targets):
            raise ValueError(f"quorum was {self.policy.quorum} with {len(self.targets)} targets")
        if self.policy.kind is FanOutKind.PRIMARY_THEN_HEDGE and len(self.targets) < 2:
            raise ValueError("primary_then_hedge needs at least two targets: the primary and a hedge")
        if len({(t.platform, t.account) for t in self.targets}) != len(self.targets):
            raise ValueError("each (platform, account) may be a target once; use quantity for a larger leg")


class SignalCancel(Struct, tag="signal_cancel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cancel the working orders of a signal, on one platform or (empty) on all. Positions stay."""

    signal_id: SignalId
    platform: OptionalPlatform = ""


class SignalReplace(Struct, tag="signal_replace", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change the working entry orders of a signal; `quantity` is the total including what has filled."""

    signal_id: SignalId
    platform: OptionalPlatform = ""
    quantity: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None

    def __post_init__(self) -> None:
        check_quantity("quantity", self.quantity)
        check_price("limit_price", self.limit_price)
        check_price("stop_price", self.stop_price)
        if self.quantity is None and self.limit_price is None and self.stop_price is None:
            raise ValueError("a replace needs a quantity, a limit_price or a stop_price")


class SignalClose(Struct, tag="signal_close", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cancel a signal's working orders and close the positions of its legs, each on its own account."""

    signal_id: SignalId
    platform: OptionalPlatform = ""


class LegReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One leg in the gateway's state. Quantities in lots, prices in quote units, money in USD.

    `filled`: cumulative quantity of the entry (FIX CumQty). `open_quantity`: the leg's open position, signed, in
    `contract` (empty for instruments without contracts). A position that was rolled is a leg of its own, behind those
    of the targets. `missing_fills`: lots that the platform reports as filled but has sent no execution for. The `_ns`
    stamps are those of the entry order; 0 = not yet. `usd_rate`: USD for one unit of the leg's currency as last used,
    None for USD or without a rate; `usd_rate_ns`: its time; `stale_rate`: it was older than risk may use. `stop_at`:
    where its working stop lives. `unprotected_since_ns`: since when no stop of it works for all that is open although
    one is wanted, 0 = it is covered; `unprotected_ms`: for how long that was so before, in all.
    """

    leg: Count
    platform: Platform
    account: AccountName
    contract: Contract = ""
    client_order_id: ClientOrderId
    side: Side
    state: LegState
    quantity: Decimal
    filled: Decimal
    open_quantity: Decimal
    avg_price: Decimal | None
    slippage_points: Decimal | None
    notional_usd: Decimal | None
    realized_usd: Decimal | None
    fees_usd: Decimal | None
    missing_fills: Decimal
    protection: Protection
    code: RejectCode
    text: Text
    sent_ns: TimeNs = 0
    acked_ns: TimeNs = 0
    first_fill_ns: TimeNs = 0
    last_fill_ns: TimeNs = 0
    usd_rate: Decimal | None = None
    usd_rate_ns: TimeNs = 0
    usd_rate_source: Text = ""
    stale_rate: bool = False
    stop_at: StopPlace = StopPlace.UNKNOWN
    unprotected_since_ns: TimeNs = 0
    unprotected_ms: Count = 0

    def __post_init__(self) -> None:
        check_computed(
            quantity=self.quantity,
            filled=self.filled,
            open_quantity=self.open_quantity,
            avg_price=self.avg_price,
            slippage_points=self.slippage_points,
            notional_usd=self.notional_usd,
            realized_usd=self.realized_usd,
            fees_usd=self.fees_usd,
            missing_fills=self.missing_fills,
            usd_rate=self.usd_rate,
        )


class Report(Struct, tag="report", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of a whole signal, sent at each change; `revision` counts up.

    `avg_price` weights the entry fills of all legs by quantity, `avg_price_usd` by point value in USD: points of
    different instruments cannot be averaged. `residual_quantity`: signed sum of the legs' open positions;
    `residual_usd`: its value. Money is None when a currency rate is missing, never converted 1:1. `stale_rates`: number
    of legs converted at a rate too old for risk. `contradictions`: what platforms have said about these legs and cannot
    be true; such a leg is `unknown`.
    """

    signal_id: SignalId
    symbol: Symbol
    side: Side
    state: SignalState
    revision: Count
    code: RejectCode
    text: Text
    quantity: Decimal
    filled: Decimal
    avg_price: Decimal | None
    avg_price_usd: Decimal | None
    realized_usd: Decimal | None
    fees_usd: Decimal | None
    residual_quantity: Decimal
    residual_usd: Decimal | None
    unknown_legs: Count
    duplicate: bool
    legs: Annotated[tuple[LegReport, ...], Meta(max_length=MAX_LEGS)]
    received_ns: TimeNs = 0
    changed_ns: TimeNs = 0
    stale_rates: Count = 0
    contradictions: Annotated[tuple[Contradiction, ...], Meta(max_length=100)] = ()

    def __post_init__(self) -> None:
        check_computed(
            quantity=self.quantity,
            filled=self.filled,
            avg_price=self.avg_price,
            avg_price_usd=self.avg_price_usd,
            realized_usd=self.realized_usd,
            fees_usd=self.fees_usd,
            residual_quantity=self.residual_quantity,
            residual_usd=self.residual_usd,
        )

    def has_same_content(self, other: Report) -> bool:
        """Whether two reports of one signal differ at most in `revision`, `changed_ns` and `duplicate`."""
        return self == structs.replace(
            other, revision=self.revision, changed_ns=self.changed_ns, duplicate=self.duplicate
        )
