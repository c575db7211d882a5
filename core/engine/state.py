"""All that the engine knows, as plain mutable structs: written to a checkpoint and read back without loss.

Dicts keep their insertion order and stand in for sets, since the order in which orders leave must not depend
on hashing: the same journal has to give the same bytes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct, field

from ..messages import (
    Account,
    Bracket,
    FanOutKind,
    Hello,
    Kill,
    KillLevel,
    LegState,
    Order,
    OrderRole,
    Protection,
    RejectCode,
    Replace,
    Signal,
    WorkingOrder,
)
from ..messages.terms import FINAL_STATES
from ..risk import DayCounters, Limits, MarketContext, UsdRate
from .settings import EngineSettings

ZERO = Decimal(0)
OPENING: Final = (OrderRole.ENTRY, OrderRole.HEDGE, OrderRole.ROLL)
"""Roles of orders that open a position."""
STATE_LAYOUT: Final = 4
"""Raised with each change of a field: then add a converter (`state_layouts.py`) and a golden journal (tests)."""


def route_of(platform: str, account: str) -> str:
    """The key of one account on one platform."""
    return f"{platform}|{account}"


class ExecutionRecord(Struct, kw_only=True):
    """One execution, counted once. `revision` 0 is as first reported; `seen` is False while only a correction
    came.

    `absent`: snapshots in a row that should have listed it and did not; `bust_inferred`: it was dropped for
    that.
    """

    route: str
    symbol: str = ""
    order_id: str = ""
    signal_id: str = ""
    leg: int = -1
    sign: int = 0
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    fee: Decimal = ZERO
    fee_currency: str = ""
    ticket: str = ""
    ts_event_ns: int = 0
    revision: int = 0
    seen: bool = False
    busted: bool = False
    absent: int = 0
    bust_inferred: bool = False

    @property
    def counts(self) -> bool:
        """True when its quantity is part of position and money."""
        return self.seen and not self.busted

    @property
    def signed(self) -> Decimal:
        """Lots it adds to the position; zero when it does not count."""
        return self.quantity * self.sign if self.counts else ZERO


class OrderRecord(Struct, kw_only=True):
    """One order that left, or may have left. `filled` is the sum of its executions, `reported` the platform's
    figure.
    """

    order: Order
    signal_id: str
    leg: int
    role: OrderRole
    attempt: int
    state: LegState
    sent_ns: int
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    filled: Decimal = ZERO
    reported: Decimal = ZERO
    executions: dict[str, None] = field(default_factory=dict)
    platform_order_id: str = ""
    acked_ns: int = 0
    first_fill_ns: int = 0
    last_fill_ns: int = 0
    unknown_since_ns: int = 0
    absent: int = 0
    inferred_end: bool = False
    missing_confirmed: int = 0
    cancel_wanted: bool = False
    cancel_sent_ns: int = 0
    cancels: int = 0
    replace: Replace | None = None
    replace_sent_ns: int = 0
    revision: int = 0
    replaced_revision: int = 0
    code: RejectCode = RejectCode.NONE
    text: str = ""
    ended_ns: int = 0

    # The next four are asked for some hundred times an order: no calls in them.

    @property
    def live(self) -> bool:
        """May still trade."""
        return self.state not in FINAL_STATES

    @property
    def done(self) -> Decimal:
        """Lots traded by the higher of both figures: a bound must hold even while executions are on their
        way.
        """
        return self.filled if self.filled >= self.reported else self.reported

    @property
    def remaining(self) -> Decimal:
        """Lots that may still trade; the larger size counts while a replace is on its way."""
        if self.state in FINAL_STATES:
            return ZERO
        size = self.quantity if self.replace is None else max(self.quantity, self.replace.quantity)
        done = self.filled if self.filled >= self.reported else self.reported
        return size - done if size > done else ZERO

    @property
    def missing(self) -> Decimal:
        """Lots that the platform says have traded and for which no execution has come."""
        return self.reported - self.filled if self.reported > self.filled else ZERO


class RollPlan(Struct, frozen=True, kw_only=True):
    """What becomes of a leg whose contract was rolled. `carry`: its lots go on in `contract`, under the name `root`.

    `shift`: new price less old one, on the tick; None = not known. `market`: the new contract as it was at the
    decision; None = not told.
    """

    root: str
    contract: str
    carry: bool
    shift: Decimal | None = None
    market: MarketContext | None = None


class LegRecord(Struct, kw_only=True):
    """A signal on one account and one contract. `quantity` bounds every entry of it. `adjusted`: lots closed by
    somebody else's hand. `session_ns`: when its market was seen to open, 0 = not since it was entered.

    `target`: the signal's target that it trades for, whose number its orders have. `leaving`: its contract was rolled,
    and it is to be closed. `carries`: the leg of an older contract whose lots this one takes over, -1 = none;
    `carry_until_ns`: the last moment to open, 0 while the older leg is still being closed; `carried`: nothing more is
    opened. `rate`: what `realized_usd` was reckoned with, None for USD; `stale_rate`: it was too old for risk then.
    """

    target: int
    platform: str
    account: str
    route: str
    symbol: str
    sign: int
    quantity: Decimal
    market: MarketContext | None
    protection: Protection = Protection.NONE
    bracket: Bracket | None = None
    hedge: bool = False
    orders: dict[str, None] = field(default_factory=dict)
    executions: dict[str, None] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    open: Decimal = ZERO
    adjusted: Decimal = ZERO
    realized_usd: Decimal | None = ZERO
    rate: UsdRate | None = None
    stale_rate: bool = False
    closing: bool = False
    exit_failures: int = 0
    retry_ns: int = 0
    session_ns: int = 0
    leaving: RollPlan | None = None
    carries: int = -1
    carry_until_ns: int = 0
    carried: bool = False
    code: RejectCode = RejectCode.NONE
    text: str = ""

    @property
    def carry_pending(self) -> bool:
        """Lots that were closed in an older contract may still be opened here."""
        return self.carries >= 0 and not self.carried and not self.closing


class SignalRecord(Struct, kw_only=True):
    """One signal and all that came of it. `decision`: what the fan-out policy has settled on, empty while
    open. `revision`: events that have changed it; a later report has a higher one, also after a replay.
    `peers`: whoever has sent this id hears of it.
    """

    signal: Signal
    key: str
    peers: list[str]
    received_ns: int
    legs: list[LegRecord]
    code: RejectCode = RejectCode.NONE
    text: str = ""
    decision: str = ""
    deadline_ns: int = 0
    revision: int = 0
    done_ns: int = 0

    @property
    def own_legs(self) -> list[LegRecord]:
        """One leg a target: without those that carry the lots of another one over a roll."""
        return [leg for leg in self.legs if leg.carries < 0]

    @property
    def hedged(self) -> bool:
        """True for primary_then_hedge, whose later legs trade the other way."""
        return self.signal.policy.kind is FanOutKind.PRIMARY_THEN_HEDGE


class PositionRecord(Struct, kw_only=True):
    """Net lots of one symbol. `net` is what should be there, `external` the part that no leg of ours
    explains.
    """

    net: Decimal = ZERO
    external: Decimal = ZERO
    mismatch: Decimal = ZERO
    mismatches: int = 0
    blocked: bool = False
    contract: str = ""


class RouteRecord(Struct, kw_only=True):
    """One account on one platform. `ready`: its snapshot has been reconciled since the link came up. `retired`:
    contract that was rolled -> the root under whose name it went before. `holders`: signals of which a leg on this
    route is open, in the order in which they opened. `forgotten_ns`: the newest execution here that was counted long
    ago and dropped from memory since.
    """

    platform: str
    account: str
    hello: Hello
    up: bool = False
    ready: bool = False
    known_before: bool = False
    request_id: int = 0
    request_sent_ns: int = 0
    request_pending: bool = False
    snapshot_due_ns: int = 0
    proof_ns: int = 0
    snapshots: int = 0
    positions: dict[str, PositionRecord] = field(default_factory=dict)
    tickets: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    external_orders: list[WorkingOrder] = field(default_factory=list)
    live: dict[str, None] = field(default_factory=dict)
    unsettled: dict[str, None] = field(default_factory=dict)
    executions: dict[str, None] = field(default_factory=dict)
    ticket_owner: dict[str, tuple[str, int]] = field(default_factory=dict)
    funds: Account | None = None
    severed: bool = False
    retired: dict[str, str] = field(default_factory=dict)
    holders: dict[str, None] = field(default_factory=dict)
    forgotten_ns: int = 0


class OrphanRecord(Struct, kw_only=True):
    """An order with our prefix that the journal does not know: its record was lost with a torn or missing
    journal.
    """

    route: str
    key: str
    leg: int
    role: OrderRole
    row: WorkingOrder | None = None
    symbol: str = ""
    since_ns: int = 0
    cancel_sent_ns: int = 0


class KillRecord(Struct, kw_only=True):
    """A rung of the ladder on one route. `proof_request`: the first snapshot that may prove it. `others_ns`: when
    others' orders were last cancelled.
    """

    level: KillLevel = KillLevel.NORMAL
    own_only: bool = True
    asked_ns: int = 0
    verified: bool = True
    proof_request: int = 0
    attempts: int = 0
    retry_ns: int = 0
    others_ns: int = 0
    text: str = ""
    command: Kill | None = None
    peer: str = ""


class ContractRecord(Struct, kw_only=True):
    """The contract in front of a root, the one before (empty = none), and since when, UTC ns."""

    contract: str
    previous: str = ""
    chosen_ns: int = 0


class EngineState(Struct, kw_only=True):
    """The whole. `counts` are for people: duplicates, late answers, stale updates and so on."""

    layout: Literal[4]
    settings: EngineSettings
    limits: Limits
    stage: int
    now_ns: int = 0
    boot_id: str = ""
    waiting_for: dict[str, None] = field(default_factory=dict)
    signals: dict[str, SignalRecord] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    seen_keys: dict[str, int] = field(default_factory=dict)
    active: dict[str, None] = field(default_factory=dict)
    orders: dict[str, OrderRecord] = field(default_factory=dict)
    orphans: dict[str, OrphanRecord] = field(default_factory=dict)
    executions: dict[str, ExecutionRecord] = field(default_factory=dict)
    routes: dict[str, RouteRecord] = field(default_factory=dict)
    day: DayCounters = field(default_factory=DayCounters)
    kill: KillLevel = KillLevel.NORMAL
    kills: dict[str, KillRecord] = field(default_factory=dict)
    kill_own_only: bool = False
    last_entries: dict[str, tuple[int, str]] = field(default_factory=dict)
    usd_rates: dict[str, UsdRate] = field(default_factory=dict)
    contracts: dict[str, ContractRecord] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
