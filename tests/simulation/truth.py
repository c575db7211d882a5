"""What each leg and account really holds, and what covers it, kept up with every event of the platforms.

Nothing here asks the engine: legs are told apart by the ClOrdIDs of their orders. Every update costs the same, however
much has happened before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from nexus_gateway.core import messages as m

from tests.simulation.book import OPENING, ZERO, Book, Execution, HeldOrder, LegKey

ExecutionKey = tuple[str, str, int]
CORRECTED = Decimal("0.25")
"""By which a correction moves a price: a snapshot may list it before the fill itself has come."""


@dataclass
class LegTruth:
    """`lots`: signed, by its own orders. `cover`: lots of its working stops. `untold`: lots that have closed it, and of
    which the gateway was not told. `refused`: stops and targets refused in a row, `refused_at_cancel`
    how many had been when one was cancelled; `refusals`, `refused_ns`: refusals of stops and of changes of them in a
    row, and when the last one was; `accepted_ns`: when its newest stop was accepted;
    `tries`: stops sent since one has stood, lost ones as well. `crossed`: lots that its entry has traded after it had
    turned over, while a closing order worked for the same lots.
    """

    key: LegKey
    sign: int
    wants_stop: bool
    lots: Decimal = ZERO
    cover: Decimal = ZERO
    targets: Decimal = ZERO
    exits: Decimal = ZERO
    untold: Decimal = ZERO
    busted: Decimal = ZERO
    over: Decimal = ZERO
    crossed: Decimal = ZERO
    has_exit_traded: bool = False
    refused: dict[m.OrderRole, int] = field(default_factory=dict)
    refused_at_cancel: int = 0
    refusals: int = 0
    refused_ns: int = 0
    accepted_ns: int = 0
    tries: int = 0

    @property
    def deficit(self) -> Decimal:
        return max(self.lots * self.sign - self.cover, ZERO) if self.wants_stop and self.lots * self.sign > 0 else ZERO


@dataclass
class AccountTruth:
    """One contract on one account. By direction (+1, -1): `held`, lots of legs that hold that way; `deficit`, those
    that no working stop covers; `slack`, lots that others than the legs have traded against them since the account
    was flat: on a netting account these may have closed any leg's lots.

    Since the start: `foreign`, lots that a person has traded, or beyond an order's size; `closers`, lots of orders of
    ours that belong to no leg, `reductions` those of reduce-only signals among them; `doubtful`, busted lots. Now, by
    side: `exits`, lots of working closing orders; `untold`, of fills on their way. `quiet_since_ns`: when
    anything has changed last.
    """

    platform: Book
    contract: str
    legs: dict[LegKey, LegTruth] = field(default_factory=dict)
    held: dict[int, Decimal] = field(default_factory=lambda: {1: ZERO, -1: ZERO})
    deficit: dict[int, Decimal] = field(default_factory=lambda: {1: ZERO, -1: ZERO})
    slack: dict[int, Decimal] = field(default_factory=lambda: {1: ZERO, -1: ZERO})
    foreign: Decimal = ZERO
    closers: Decimal = ZERO
    reductions: Decimal = ZERO
    doubtful: Decimal = ZERO
    over: Decimal = ZERO
    exits: dict[int, Decimal] = field(default_factory=lambda: {1: ZERO, -1: ZERO})
    untold: dict[int, Decimal] = field(default_factory=lambda: {1: ZERO, -1: ZERO})
    quiet_since_ns: int = 0

    @property
    def naked(self) -> Decimal:
        """Lots without a working stop: of legs, and of what the account holds, whoever has closed a part of it."""
        net = self.platform.net(self.contract)
        # Whose lots a person has closed is the gateway's to say: all that persons have traded is slack.
        bare = {d: max(min(self.deficit[d], net * d) - max(self.slack[d], self.foreign), ZERO) for d in (1, -1)}
        for d in (1, -1):
            if bare[d]:
                covered = sum((leg.cover for leg in self.legs.values() if leg.sign == d), ZERO)
                bare[d] = max(min(bare[d], net * d - covered), ZERO)
        return bare[1] + bare[-1]


@dataclass
class Truth:
    """`wants_stop`: whether the gateway keeps a stop for a leg that this order has opened; `owns`: whether the key is a
    signal's that opens (not one that only reduces).
    """

    wants_stop: Callable[[Book, HeldOrder], bool]
    owns: Callable[[str], bool]
    accounts: dict[tuple[str, str], AccountTruth] = field(default_factory=dict)
    untold: dict[str, dict[ExecutionKey, tuple[AccountTruth, LegTruth | None, Decimal]]] = field(default_factory=dict)

    def account(self, platform: Book, contract: str) -> AccountTruth:
        found = self.accounts.get((platform.name, contract))
        if found is None:
            found = self.accounts[platform.name, contract] = AccountTruth(platform, contract)
        return found

    def leg_of(self, account: AccountTruth, held: HeldOrder) -> LegTruth | None:
        """None: its orders belong to no leg that holds anything."""
        leg = account.legs.get(held.leg)
        if leg is None and held.parts.role in OPENING and self.owns(held.parts.key):
            wants = self.wants_stop(account.platform, held)
            leg = account.legs[held.leg] = LegTruth(held.leg, held.order.side.sign, wants)
        return leg

    def work(self, platform: Book, held: HeldOrder, change: Decimal) -> AccountTruth:
        """An order has come to work, has ended, or has another size: `change` of what it may still trade."""
        account = self.account(platform, held.contract)
        account.quiet_since_ns = platform.schedule.now_ns
        leg, role = self.leg_of(account, held), held.parts.role
        if role is m.OrderRole.EXIT:
            account.exits[held.order.side.sign] += change
        if leg is None:
            return account
        if role is m.OrderRole.STOP_LOSS:
            self._move(account, leg, cover=change)
        elif role is m.OrderRole.TAKE_PROFIT:
            leg.targets += change
        elif role is m.OrderRole.EXIT:
            leg.exits += change
        return account

    def trade(self, platform: Book, execution: Execution) -> tuple[AccountTruth, LegTruth | None, Decimal]:
        """Book an execution. Returns its account, its leg, and the leg's lots before."""
        account = self.account(platform, execution.contract)
        account.quiet_since_ns = platform.schedule.now_ns
        fill, held = execution.fill, execution.held
        leg = None if held is None else self.leg_of(account, held)
        before = ZERO if leg is None else leg.lots
        own = fill.quantity - execution.extra if leg is not None else ZERO
        others = fill.quantity - own
        if others:
            account.slack[-fill.side.sign] += others
            account.foreign += others if held is None else execution.extra
            if held is not None and leg is None:
                account.closers += fill.quantity - execution.extra
                account.reductions += fill.quantity if held.parts.role is m.OrderRole.ENTRY else ZERO
        if leg is not None:
            leg.untold += own if fill.side.sign != leg.sign else ZERO
            if held is not None and held.parts.role in OPENING:
                leg.crossed += max(min(own, -before * leg.sign, leg.exits), ZERO)
            self._move(account, leg, lots=own * fill.side.sign)
        account.untold[fill.side.sign] += fill.quantity
        key = fill.client_order_id, fill.exec_id, fill.ts_event_ns
        self.untold.setdefault(platform.name, {})[key] = account, leg, fill
        return account, leg, before

    def bust(self, platform: Book, execution: Execution) -> AccountTruth:
        account = self.account(platform, execution.contract)
        account.quiet_since_ns = platform.schedule.now_ns
        leg = None if execution.held is None else self.leg_of(account, execution.held)
        account.doubtful += execution.fill.quantity
        account.slack[1] += execution.extra
        account.slack[-1] += execution.extra
        if leg is not None:
            leg.busted += execution.fill.quantity
            self._move(account, leg, lots=-(execution.fill.quantity - execution.extra) * execution.fill.side.sign)
        return account

    def tell(self, platform: Book, fill: m.Fill) -> LegTruth | None:
        """The gateway was given this fill: its leg, when it had not been before. A lie about it does not count."""
        waiting = self.untold.get(platform.name)
        key = fill.client_order_id, fill.exec_id, fill.ts_event_ns
        found = waiting.get(key) if waiting else None
        if waiting is None or found is None:
            return None
        account, leg, true = found
        is_lie = (fill.quantity, fill.side) != (true.quantity, true.side) or abs(fill.price - true.price) > CORRECTED
        if is_lie:
            return None
        del waiting[key]
        account.untold[true.side.sign] -= true.quantity
        if leg is not None and true.side.sign != leg.sign:
            leg.untold = max(leg.untold - true.quantity, ZERO)
        return leg

    def forget(self) -> None:
        """No leg that is there wants a stop any more: the gateway does not know it."""
        for account in self.accounts.values():
            for leg in account.legs.values():
                account.deficit[leg.sign] -= leg.deficit
                leg.wants_stop = False

    def _move(self, account: AccountTruth, leg: LegTruth, lots: Decimal = ZERO, cover: Decimal = ZERO) -> None:
        account.deficit[leg.sign] -= leg.deficit
        if leg.lots:
            account.held[1 if leg.lots > 0 else -1] -= abs(leg.lots)
        leg.lots += lots
        leg.cover += cover
        if leg.lots:
            account.held[1 if leg.lots > 0 else -1] += abs(leg.lots)
        account.deficit[leg.sign] += leg.deficit
        if not (account.held[1] or account.held[-1] or account.platform.net(account.contract)):
            account.slack = {1: ZERO, -1: ZERO}
