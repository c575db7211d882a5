"""What the gateway must not send: closing orders beside a stop that works, too many of them, the cancel of a stop in a
shut market, OCO groups that are no pairs, closings that nothing asked for.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.turn import kill_level

from tests.simulation.book import PROTECTIVE, ZERO
from tests.simulation.schedule import MS
from tests.simulation.truth import AccountTruth, LegTruth

if TYPE_CHECKING:
    from tests.simulation.exposure import Exposure
    from tests.simulation.platform import FakePlatform

REFUSALS_TO_CLOSE: Final = 3
"""Stops refused in a row after which a leg may be closed, for it cannot be protected."""
SAYS_REFUSED: Final = "refused the "
"""In the text of a leg that is closed since its stop was refused."""


class SendRules:
    """`cancelled`: orders whose cancel has left."""

    def __init__(self, exposure: Exposure) -> None:
        self.exposure = exposure
        self.cancelled: set[str] = set()
        self.groups: dict[str, dict[m.OrderRole, str]] = {}
        self.group_of: dict[str, str] = {}
        self.sizes: dict[str, Decimal] = {}
        self.ended: set[str] = set()
        self.shut: dict[tuple[str, str], tuple[int, int]] = {}

    def check(self, platform: FakePlatform, account: AccountTruth, parts: m.OrderIdParts, message: object) -> None:
        leg = account.legs.get((parts.key, parts.leg, account.contract))
        if isinstance(message, m.Cancel):
            if leg is not None and parts.role is m.OrderRole.STOP_LOSS:
                self._check_shut(platform, account, leg, message)
            if leg is not None and parts.role in PROTECTIVE:
                leg.refused_at_cancel = max(leg.refused_at_cancel, *leg.refused.values(), 0)
            self.cancelled.add(message.client_order_id)
            return
        self.sizes[message.client_order_id] = message.quantity
        if not isinstance(message, m.Order):
            return
        if message.oco_group:
            self._check_group(platform, parts, message)
        if parts.role is m.OrderRole.EXIT and platform.is_netting and leg is not None:
            if not self.exposure.is_excused(platform):
                self._check_close(platform, account, leg, message)
            self._check_cause(platform, leg, parts)

    def _check_close(self, platform: FakePlatform, account: AccountTruth, leg: LegTruth, order: m.Order) -> None:
        """A closing order leaves when nothing else can close the same lots, and for no more than the leg holds."""
        works = sum((held.leaves for role in PROTECTIVE for held in platform.live_of(leg.key, role)), ZERO)
        if works and not order.reduce_only:
            self.exposure.report(
                f"both: {platform.name} {order.client_order_id} leaves while stop or target of {works} lots works, and "
                "the platform would let both fill"
            )
        closing = leg.exits + order.quantity
        room = max(-leg.lots * order.side.sign, ZERO)
        untold = leg.untold if order.side.sign != leg.sign else account.untold[order.side.sign]
        if closing > room + untold + leg.busted + account.foreign + account.closers:
            self.exposure.report(
                f"over-close: {platform.name} {order.client_order_id} makes {closing} closing of a leg that holds "
                f"{leg.lots:+f}"
            )
        held = max(-platform.net(account.contract) * order.side.sign, ZERO) + account.held[order.side.sign]
        all_closing = account.exits[order.side.sign] + order.quantity
        if all_closing > held + account.untold[order.side.sign] + account.doubtful + account.foreign + account.closers:
            self.exposure.report(
                f"over-close: {platform.name} {order.client_order_id} makes {all_closing} closing, {held} are held"
            )

    def _check_cause(self, platform: FakePlatform, leg: LegTruth, parts: m.OrderIdParts) -> None:
        """A leg is closed for want of a stop only when its stops were refused one after the other."""
        if parts.attempt or self.exposure.gateway.engine is None:
            return
        state = self.exposure.gateway.engine.state
        record = state.signals.get(self.exposure.nexus.by_key[parts.key].signal_id)
        for each in () if record is None else record.legs:
            if each.platform != platform.name or each.target != parts.leg or SAYS_REFUSED not in each.text:
                continue
            # A target whose cancel is refused may delay the close: by then another stop may stand.
            most = max(leg.refused_at_cancel, *leg.refused.values(), 0)
            if most < REFUSALS_TO_CLOSE and not self.exposure.gateway.sent.losses:
                what = f"{platform.name} {parts.client_order_id} closes a leg ({each.text})"
                self.exposure.report(f"refusals: {what} after {most} in a row")

    def _check_shut(self, platform: FakePlatform, account: AccountTruth, leg: LegTruth, cancel: m.Cancel) -> None:
        """In a market that is shut by the calendar which the engine was handed, the stop of what is held stays."""
        now_ns, gateway = platform.schedule.now_ns, self.exposure.gateway
        since_ns, crashes = self.shut.get((platform.name, cancel.symbol), (0, -1))
        known = since_ns and now_ns - since_ns > 20 * MS and crashes == gateway.crashes
        said = platform.hours.says_shut(now_ns) or platform.is_shut
        held = platform.orders.get(cancel.client_order_id)
        if not known or not said or held is None or not held.is_live or cancel.client_order_id in self.cancelled:
            return
        assert gateway.engine is not None
        level = kill_level(gateway.engine.state, f"{platform.name}|{platform.account}")
        lots = leg.lots * leg.sign
        unproven = gateway.faults.seen.get("flatten_unproven")  # a person's command, which cancels everything
        others = account.slack[leg.sign] or gateway.sent.losses or unproven
        if level is m.KillLevel.CANCEL_ALL or lots <= 0 or leg.cover > lots or others:
            return
        what = f"{platform.name} {cancel.client_order_id}, the stop of {leg.lots:+f}, is cancelled"
        self.exposure.report(f"shut: {what}, and the market is shut by the calendar that the engine has")

    def note_hours(self, event: e.MarketMoved) -> None:
        for market in event.markets:
            key = market.platform, market.symbol
            if market.session_open:
                self.shut.pop(key, None)
            else:
                self.shut.setdefault(key, (self.exposure.schedule.now_ns, self.exposure.gateway.crashes))

    def _check_group(self, platform: FakePlatform, parts: m.OrderIdParts, order: m.Order) -> None:
        """An OCO group is one stop and one target of one size, and is over when one of them has ended."""
        name = f"{platform.name} {order.oco_group}"
        who = f"{platform.name} {order.client_order_id} in the OCO group {order.oco_group}"
        group = self.groups.setdefault(name, {})
        if name in self.ended and not self.exposure.gateway.sent.losses:
            self.exposure.report(f"oco: {who}, of which an order has ended")
        if parts.role in group and not self.exposure.gateway.sent.losses:
            self.exposure.report(f"oco: {who}, which has another {parts.role.name.lower()}")
        for other in group.values():
            # After a torn journal an id that it has lost may be used again for another size.
            known = name not in self.ended and not self.exposure.gateway.sent.losses
            if self.sizes[other] != order.quantity and known:
                self.exposure.report(f"oco: {who} is of {order.quantity} lots, the other of {self.sizes[other]}")
        group[parts.role] = order.client_order_id
        self.group_of[order.client_order_id] = name

    def note_end(self, client_order_id: str) -> None:
        """The gateway was told that an order has ended."""
        group = self.group_of.get(client_order_id)
        if group is not None:
            self.ended.add(group)
