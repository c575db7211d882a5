"""Signals and their legs."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct, field

from ...messages import Bracket, FanOutKind, Protection, RejectCode, Signal
from ...risk import MarketContext, UsdRate
from .orders import ZERO


class RollPlan(Struct, frozen=True, kw_only=True):
    """The fate of a leg whose contract was rolled: it is closed, and opened again in the new contract if so wanted."""

    root: str  # universal name that now means the new contract
    contract: str  # the new contract
    roll_over: bool  # True = its lots are opened again in `contract`; False = only closed
    price_shift: Decimal | None = None  # new price less old one, quote units on the tick; None = not known
    market: MarketContext | None = None  # the new contract as it was at the decision; None = it was not given


class LegRecord(Struct, kw_only=True):
    """A signal on one account and one contract."""

    target: int  # index of the signal's target that it trades for; part of the ClOrdID of its orders
    platform: str  # platform's name
    account: str  # Account (1)
    route: str  # key of that account, see `route_of`
    symbol: str  # universal name; the contract's own name once it was rolled
    sign: int  # side of its entries: +1 long, -1 short
    quantity: Decimal  # lots that it may open: no entry of it exceeds this
    market: MarketContext | None  # of its signal; while it holds lots, of the newest valuation; None = cannot trade
    protection: Protection = Protection.NONE  # who keeps stop and target: the platform, the gateway, or no one
    bracket: Bracket | None = None  # prices of stop and target, quote units; None = without
    hedge: bool = False  # True = trades against the primary leg (primary_then_hedge)
    orders: dict[str, None] = field(default_factory=dict)  # ClOrdIDs of all its orders, oldest first
    executions: dict[str, None] = field(default_factory=dict)  # keys of its executions, in order of arrival
    attempts: dict[str, int] = field(default_factory=dict)  # order role -> number of its next order
    open: Decimal = ZERO  # lots that it holds, signed: executions plus `external_qty`; 0 if reduce-only
    external_qty: Decimal = ZERO  # signed lots that other orders took off `open`: external, reduce-only, of a kill
    realized_usd: Decimal | None = ZERO  # result of what was opened and closed again, fees off; None = no rate
    unpriced: bool = False  # lots of it were closed at a price that is not known: `realized_usd` is not its result
    rate: UsdRate | None = None  # rate that `realized_usd` was converted with; None = USD, or there was none
    stale_rate: bool = False  # `rate` was too old for risk at that time
    closing: bool = False  # True = it is being closed, or was; entries and stops end
    exit_attempts: int = 0  # rounds of closing orders in an open market since closing was last requested
    fruitless_exits: int = 0  # of these, rounds in a row that have traded nothing: the pause between them grows
    exit_alert_ns: int = 0  # when it was last alerted that it does not close, engine's time; 0 = not
    clearing_since_ns: int = 0  # since when stop and target are cancelled for a closing order; 0 = they are not
    clearing_until_ns: int = 0  # until when their end is waited for; 0 = that time is over, or they are not cancelled
    closing_waits: str = ""  # why no closing order leaves now, or has traded yet, for people; empty = neither
    retry_ns: int = 0  # no next try (exit, hedge, roll-over) before this time, UTC ns; 0 = at once
    protect_retry_ns: int = 0  # when the next stop or target is due, UTC ns, the earlier of both; 0 = none waits
    look_again_ns: int = 0  # when time alone changes what its next step is, engine's time; 0 = it does not
    unprotected_since_ns: int = 0  # since when its stop does not cover what it holds, UTC ns; 0 = it does, or none is
    unprotected_ns: int = 0  # how long that was the case before, in all, ns
    unprotected_why: str = ""  # what forced it, for people; empty = it is covered, or no stop is wanted
    session_opened_ns: int = 0  # when its market was seen to open while it was held, UTC ns; 0 = not since its entry
    roll_out: RollPlan | None = None  # its contract was rolled, and it has to leave it; None = it was not
    rolls_over_from: int = -1  # index of the leg of an older contract whose lots this one takes over; -1 = none
    roll_over_until_ns: int = 0  # last time to open them, UTC ns; 0 = the older leg is still being closed
    roll_over_ended: bool = False  # True = nothing more is opened here, whether all lots came over or not
    code: RejectCode = RejectCode.NONE  # why it was refused, or stays as it is; NONE = neither
    text: str = ""  # the same in words, for people

    @property
    def roll_over_pending(self) -> bool:
        """Lots that were closed in an older contract may still be opened here."""
        return self.rolls_over_from >= 0 and not self.roll_over_ended and not self.closing


class SignalRecord(Struct, kw_only=True):
    """One signal and all that came of it."""

    signal: Signal  # as NEXUS sent it
    key: str  # short hash of the signal's id; part of the ClOrdID of its orders
    report_to: list[str]  # peers that have sent this id and get its reports, at most `MAX_PEERS`
    received_ns: int  # when it arrived, UTC ns
    legs: list[LegRecord]  # one a target, in their order; then those that roll-overs have added
    code: RejectCode = RejectCode.NONE  # why the whole signal was refused; NONE = it was not
    text: str = ""  # the same in words, for people
    decision: str = ""  # outcome of the fan-out policy: rejected, kept, flatten or found; empty = still open
    deadline_ns: int = 0  # when the fan-out policy decides or cancels what works, UTC ns; 0 = without
    revision: int = 0  # events that have changed it: a later report has a higher number, after a replay too
    done_ns: int = 0  # when it was over, UTC ns; 0 = not yet
    changed_ns: int = 0  # when `revision` last rose, by the wall clock

    @property
    def target_legs(self) -> list[LegRecord]:
        """One leg a target: without those that a roll-over has added."""
        return [leg for leg in self.legs if leg.rolls_over_from < 0]

    @property
    def hedged(self) -> bool:
        """True for primary_then_hedge, whose later legs trade the other way."""
        return self.signal.policy.kind is FanOutKind.PRIMARY_THEN_HEDGE
