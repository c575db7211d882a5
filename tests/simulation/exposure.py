"""The rules of exits, judged after every event by what the platforms really hold: nothing is closed twice, nothing is
without a stop for longer than its platform forces, and tries come more and more rarely. `sends.py` has what must not
be sent.

The engine is asked for excuses only: whether it knows that it may not send (`_excuse`). Each breach is a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m

from tests.simulation.book import OPENING, PROTECTIVE, SYMBOL, ZERO, Book, Execution, HeldOrder, Watcher
from tests.simulation.excuses import counts_a_bust, excuse
from tests.simulation.gateway import SimulatedGateway
from tests.simulation.links import ON_ITS_WAY_NS, Links
from tests.simulation.naked import REACTION, NakedTimes
from tests.simulation.nexus import Nexus
from tests.simulation.platform import FakePlatform
from tests.simulation.schedule import SECOND, Schedule
from tests.simulation.sends import SendRules
from tests.simulation.truth import AccountTruth, LegTruth, Truth

STOOD_NS: Final = 10 * SECOND
"""A stop that has worked for this long has stood."""
REST_NS: Final = 5 * SECOND
MOST_TOLD: Final = 5
FAST: Final = 40
SLOW: Final = 4
"""Orders of one leg and role that may be refused in a minute: at all, and after a platform has refused for a minute."""


class Exposure(Watcher):
    """Watches all platforms of a run. `is_linked`: whether a platform's link is up."""

    def __init__(
        self,
        schedule: Schedule,
        gateway: SimulatedGateway,
        nexus: Nexus,
        wants_stop: Callable[[Book, HeldOrder], bool],
        is_linked: Callable[[str], bool],
    ) -> None:
        self.schedule, self.gateway, self.nexus, self.is_linked = schedule, gateway, nexus, is_linked
        self.truth = Truth(wants_stop, lambda key: key in nexus.by_key and key not in nexus.reducing)
        self.links: dict[str, Links] = {}
        self.naked = NakedTimes(schedule, self._excuse, self.report)
        self.sends = SendRules(self)
        self.attempts: dict[tuple[str, str, int, bool], int] = {}
        self.commands: dict[int, int] = {}
        self.counts: dict[str, int] = {}
        self.breaches: dict[str, int] = {}
        self.forgot_ns = -1
        self.contradicted: set[str] = set()
        """Routes on which a contradiction has ended. The engine forgets that with time, its books keep the lots."""

    def report(self, text: str) -> None:
        """Each rule a few times: the first breach is the one to look at."""
        rule = text.split(":")[0]
        self.breaches[rule] = self.breaches.get(rule, 0) + 1
        if self.breaches[rule] <= MOST_TOLD:
            self.gateway.broken.append(text)

    def count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def link(self, name: str) -> Links:
        return self.links.setdefault(name, Links())

    def is_excused(self, platform: Book) -> bool:
        """Its lies, or a lost journal, explain what it holds: no rule about sizes can be judged there."""
        faults = self.gateway.faults
        lies = ("lie", "lie_about_order", "lie_about_position", "reused_id", "incomplete_part", "flatten_unproven")
        return self.gateway.sent.losses > 0 or any(faults.seen.get(kind) for kind in lies)

    def tick(self) -> None:
        """Once a second: time passes, too."""
        engine = self.gateway.engine
        routes = {} if engine is None else engine.state.routes
        self.contradicted |= {name for name, route in routes.items() if route.ended_contradictions}
        for account in self.truth.accounts.values():
            self.naked.look(account)
        self.schedule.at(SECOND, self.tick)

    def note_command(self) -> None:
        """A command, or a new link: what waits for its next try may go at once."""
        minute = self.schedule.now_ns // (60 * SECOND)
        self.commands[minute] = self.commands.get(minute, 0) + 1

    # What the platforms do.

    def accepted(self, platform: Book, held: HeldOrder) -> None:
        account = self.truth.work(platform, held, held.quantity)
        leg = account.legs.get(held.leg)
        if leg is not None:
            leg.refused[held.parts.role] = 0
            if held.parts.role is m.OrderRole.STOP_LOSS:
                leg.accepted_ns = self.schedule.now_ns
        self.naked.look(account)

    def changed(self, platform: Book, held: HeldOrder, leaves_before: Decimal) -> None:
        account = self.truth.work(platform, held, held.leaves - leaves_before)
        leg = account.legs.get(held.leg)
        if leg is not None and held.parts.role is m.OrderRole.STOP_LOSS and not held.leaves:
            # One that the platform ends at once did not stand: it counts as one more refusal.
            now_ns = self.schedule.now_ns
            stood = held.filled or held.order.client_order_id in self.sends.cancelled
            if stood or now_ns - leg.accepted_ns >= STOOD_NS:
                # One from before the refusals does not say that the platform takes another one now.
                if leg.accepted_ns >= leg.refused_ns:
                    leg.refusals = leg.tries = 0
            elif leg.refusals:
                leg.refusals, leg.refused_ns = leg.refusals + 1, now_ns
        self.naked.look(account)

    def change_refused(self, platform: Book, held: HeldOrder | None) -> None:
        leg = None if held is None else self.truth.account(platform, held.contract).legs.get(held.leg)
        if leg is not None and held is not None and held.parts.role is m.OrderRole.STOP_LOSS:
            leg.refusals += 1
            leg.refused_ns = self.schedule.now_ns

    def refused(self, platform: Book, order: m.Order, code: m.RejectCode) -> None:
        parts = m.find_client_order_id(order.client_order_id)
        assert parts is not None
        contract = platform.contract_of(order.symbol)
        account = self.truth.account(platform, contract)
        leg = account.legs.get((parts.key, parts.leg, contract))
        if leg is not None and parts.role in PROTECTIVE:
            leg.refused[parts.role] = leg.refused.get(parts.role, 0) + 1
            if parts.role is m.OrderRole.STOP_LOSS:
                leg.refusals += 1
                leg.refused_ns = self.schedule.now_ns
        if leg is not None and isinstance(platform, FakePlatform):
            self._check_pace(platform, leg, parts.role)

    def _check_pace(self, platform: FakePlatform, leg: LegTruth, role: m.OrderRole) -> None:
        """While a platform refuses for minutes, new tries come ever more rarely, and never in a flood."""
        now_ns = self.schedule.now_ns
        scope = platform.refusals.scope_of(role, now_ns)
        long = bool(scope) and now_ns - platform.refusals.spans[scope][0] > 60 * SECOND
        minute = now_ns // (60 * SECOND)
        key = (platform.name, f"{role.name} {leg.key[0]} {leg.key[1]}", minute, long)
        self.attempts[key] = self.attempts.get(key, 0) + 1
        allowed = SLOW if long else FAST
        allowed += self.commands.get(minute, 0) + self.commands.get(minute - 1, 0)
        if self.attempts[key] == allowed + 1:
            self.report(f"pace: {platform.name} {key[1]}: more than {allowed} orders refused in a minute")

    def traded(self, platform: Book, execution: Execution) -> None:
        account, leg, before = self.truth.trade(platform, execution)
        if execution.held is not None and (leg is None or execution.held.parts.role not in OPENING):
            self._check_size(platform, account, leg, execution, before)
        self.naked.look(account)

    def _check_size(
        self, platform: Book, account: AccountTruth, leg: LegTruth | None, execution: Execution, before: Decimal
    ) -> None:
        """No closing order, stop or target has left a leg on the other side, or an account."""
        held, lots = execution.held, execution.fill.quantity - execution.extra
        assert held is not None
        if not platform.is_netting or self.is_excused(platform):
            return
        side = execution.fill.side.sign
        if leg is not None:
            over = min(max(lots - max(-before * side, ZERO), ZERO), lots)
            leg.has_exit_traded |= held.parts.role is m.OrderRole.EXIT
            if (
                over
                and not held.order.reduce_only
                and over > leg.busted + leg.crossed + account.foreign + account.closers
            ):
                # Stop and target that both work can both trade: the platform has allowed it, nobody could prevent it.
                if held.parts.role in PROTECTIVE and not leg.has_exit_traded:
                    self.count("stop and target both filled")
                else:
                    name = held.order.client_order_id
                    self.report(f"over-close: {platform.name} {name} traded {lots} of a leg that held {before:+f}")
            leg.over += over
        # On the account: what the other legs hold that way counts as held there.
        net_before = platform.net(account.contract) - execution.signed
        opposed = account.held[side] - (ZERO if leg is None else max(leg.lots * side, ZERO))
        room = max(-net_before * side, ZERO) + opposed
        over = max(lots - room, ZERO)
        account.over += over
        # A trade of others that turns a leg over counts twice: it and the leg beside it are closed each for itself.
        explained = (
            2 * (account.foreign + account.reductions)
            + account.doubtful
            + sum((each.over + each.busted for each in account.legs.values()), ZERO)
        )
        if over and account.over > explained:
            self.report(
                f"over-close: {platform.name} {held.order.client_order_id} traded {lots} against {net_before:+f} held"
            )

    def busted(self, platform: Book, execution: Execution) -> None:
        self.naked.look(self.truth.bust(platform, execution))

    # What the links do.

    def lost(self, name: str) -> None:
        self.link(name).lost_ns = self.schedule.now_ns

    def late(self, name: str, delay_ns: int) -> None:
        link = self.link(name)
        link.late_until_ns = max(link.late_until_ns, self.schedule.now_ns + delay_ns + SECOND)

    def told(self, platform: FakePlatform, message: object) -> None:
        """A message has reached the gateway."""
        link = self.link(platform.name)
        match message:
            case m.Fill():
                leg = self.truth.tell(platform, message)
                parts = m.find_client_order_id(message.client_order_id)
                if leg is not None and parts is not None and parts.role is m.OrderRole.STOP_LOSS:
                    self.schedule.at(REST_NS, lambda: self._check_rest(platform, leg, 0))
            case m.OrderUpdate() | m.Reject():
                name = message.client_order_id
                is_final = isinstance(message, m.Reject) or message.state.final
                waiting = link.pending.get(name)
                if waiting is not None and (waiting[0] != "cancel" or is_final):
                    del link.pending[name]
                code = message.code if isinstance(message, m.Reject) else m.RejectCode.NONE
                if is_final and code not in (m.RejectCode.CANCEL_REJECTED, m.RejectCode.REPLACE_REJECTED):
                    self.sends.note_end(name)
                    for account in self.truth.accounts.values():
                        if account.platform is platform:
                            account.quiet_since_ns = self.schedule.now_ns
            case m.Snapshot():
                for fill in message.executions.rows:
                    self.truth.tell(platform, fill)
                if message.complete:
                    link.proofs = [link.proofs[1], link.requested.get(message.request_id, 0)]
            case _:
                return
        for contract in platform.nets:
            account = self.truth.accounts.get((platform.name, contract))
            if account is not None:
                self.naked.look(account)

    def sent(self, platform: FakePlatform, message: object) -> None:
        """A message leaves the gateway."""
        now_ns, link = self.schedule.now_ns, self.link(platform.name)
        if isinstance(message, m.SnapshotRequest):
            link.requested[message.request_id] = now_ns
            return
        parts = m.find_client_order_id(message.client_order_id)
        if parts is None:
            return
        account = self.truth.account(platform, platform.contract_of(message.symbol))
        self.sends.check(platform, account, parts, message)
        kind = {m.OrderRole.STOP_LOSS: "stop", m.OrderRole.EXIT: "exit"}.get(parts.role, "")
        if isinstance(message, m.Cancel):
            kind = {m.OrderRole.STOP_LOSS: "cancel", m.OrderRole.EXIT: "exit"}.get(parts.role, "")
        if kind:
            link.pending[message.client_order_id] = kind, now_ns
        leg = account.legs.get((parts.key, parts.leg, account.contract))
        if kind == "stop" and leg is not None:
            leg.tries += 1
        if kind == "stop" and leg is not None and leg.refusals:
            # The pause before the next try begins with this one, when it is answered or known to be lost.
            leg.refused_ns = now_ns + ON_ITS_WAY_NS
        account.quiet_since_ns = now_ns
        self.naked.look(account)

    def forget(self) -> None:
        """The journal has lost its tail: what it held is held by no leg that the gateway knows."""
        self.forgot_ns = self.schedule.wall_ns
        self.truth.forget()

    def handled(self, event: e.Event) -> None:
        """The engine has taken an event. Quotes and hours of what it holds, and commands, are noted."""
        if isinstance(event, e.MarketMoved):
            self.sends.note_hours(event)
        elif isinstance(event, e.NexusAsked | e.AdminAsked):
            self.note_command()

    def _check_rest(self, platform: FakePlatform, leg: LegTruth, tries: int) -> None:
        """The stop of what has filled was hit: the rest of the entry must not fill any more."""
        account = self.truth.account(platform, leg.key[2])
        entries = platform.live_of(leg.key, m.OrderRole.ENTRY)
        entries = [held for held in entries if held.order.client_order_id not in self.sends.cancelled]
        if not entries or self.is_excused(platform):
            return
        if self._excuse(account) != REACTION and tries < 10:
            self.schedule.at(REST_NS, lambda: self._check_rest(platform, leg, tries + 1))
            return
        name = entries[0].order.client_order_id
        self.report(f"rest: {platform.name} {name} works on after the stop of what it had filled was hit")

    def reported(self, report: m.Report) -> None:
        """A reduce-only signal finds what no closing order is about to close: a stop only protects it."""
        issued_ns = self.nexus.issued_ns.get(report.signal_id, 0)
        if m.signal_key(report.signal_id) not in self.nexus.reducing:
            return
        for leg in report.legs:
            if leg.code is not m.RejectCode.NOTHING_TO_CLOSE:
                continue
            for account in self.truth.accounts.values():
                platform, side = account.platform, self.nexus.signals[report.signal_id].side.sign
                is_front = account.contract == platform.front == self._chosen(platform)
                is_meant = platform.name == leg.platform and is_front
                room = -platform.net(account.contract) * side - _working(account, side)
                is_quiet = (
                    account.quiet_since_ns < issued_ns
                    and not any(account.untold.values())
                    and not self._awaits_news(platform)
                    and not self._counts_a_bust(platform)
                    and not self.is_excused(platform)
                )
                if is_meant and is_quiet and room > 0 and not self.link(platform.name).is_dark(self.schedule.now_ns):
                    held = f"{platform.name} holds {platform.net(account.contract):+f}, nothing closes {room} of it"
                    self.report(f"reduction: {held}, and {report.signal_id} was told: {leg.text}")

    def _chosen(self, platform: FakePlatform) -> str:
        """The contract that the gateway means by the root's name: a platform may have gone back to the one before."""
        engine = self.gateway.engine
        chosen = None if engine is None else engine.state.contracts.get(SYMBOL)
        return platform.front if chosen is None else chosen.contract

    def _awaits_news(self, platform: FakePlatform) -> bool:
        """Whether the engine waits for executions that the platform counts, or for the end of an order: a crash may
        have cost it that message, and snapshots prove the end only bit by bit.
        """
        engine = self.gateway.engine
        route = None if engine is None else engine.state.routes.get(f"{platform.name}|{platform.account}")
        if route is None:
            return False
        orders = (platform.orders.get(order_id) for order_id in route.live)
        return bool(route.unreported_orders) or any(held is None or not held.is_live for held in orders)

    def _counts_a_bust(self, platform: FakePlatform) -> bool:
        engine = self.gateway.engine
        return engine is not None and counts_a_bust(platform, engine.state)

    def _excuse(self, account: AccountTruth) -> str:
        return excuse(self, account)


def _working(account: AccountTruth, side: int) -> Decimal:
    """Lots of this side that work on an account, stops and targets left out."""
    live = account.platform.live.values()
    mine = [held for held in live if held.contract == account.contract and held.order.side.sign == side]
    return sum((held.leaves for held in mine if held.parts.role not in PROTECTIVE), ZERO)
