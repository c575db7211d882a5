"""Carries effects out: the last step of a turn, after the disk has what the engine was told."""

from __future__ import annotations

from collections.abc import Iterable

from ..engine import Alert, AnswerAdmin, CutLink, Effect, RiskChecked, SendToPlatform, TellNexus, route_of
from ..logs import Log
from ..messages import Cancel, Message, Order, Reject, RejectCode, Replace
from ..transport import MOST_TOGETHER, LinkServer
from .counters import GatewayCounters
from .stand_ins import StandIns

_SENT = {Order: "orders_sent", Cancel: "cancels_sent", Replace: "replaces_sent"}


class Outbox:
    """Used by the gateway's thread."""

    def __init__(
        self, adapters: LinkServer, nexus: LinkServer, stand_ins: StandIns, counters: GatewayCounters, log: Log
    ) -> None:
        self._stand_ins = stand_ins
        self._adapters = adapters
        self._nexus = nexus
        self._counters = counters
        self._log = log

    def carry_out(self, effects: list[Effect]) -> bool:
        """Do what the engine wants, in order. Returns whether an order has left."""
        order_left = False
        for effect in effects:
            if isinstance(effect, SendToPlatform):
                order_left |= self._send(effect)
            elif isinstance(effect, TellNexus):
                self.tell((effect,))
            elif isinstance(effect, AnswerAdmin):
                self._nexus.send(effect.peer, effect.message)
            elif isinstance(effect, CutLink):
                reason = "severed by the operator; resume first"
                self._adapters.cut(route_of(effect.platform, effect.account), reason, RejectCode.KILL_SWITCH)
            elif isinstance(effect, RiskChecked):
                failed = next((finding for finding in effect.findings if not finding.passed), None)
                if failed is not None:
                    self._log.info(
                        "risk check refused an order",
                        signal=effect.signal_id,
                        platform=effect.platform,
                        code=failed.code.value,
                        measured=failed.measured,
                        limit=failed.limit,
                        stage=failed.stage,
                    )
            else:
                self._alert(effect)
        return order_left

    def _send(self, effect: SendToPlatform) -> bool:
        message = effect.message
        sent = self._adapters.send(route_of(message.platform, message.account), self._stand_ins.outward(message))
        name = _SENT.get(type(message))
        if name is not None:
            self._counters.add(name if sent else "orders_without_link")
        return sent and isinstance(message, Order)

    def tell(self, told: Iterable[TellNexus]) -> None:
        """Give each NEXUS its reports and refusals, together."""
        by_peer: dict[str, list[Message]] = {}
        for effect in told:
            by_peer.setdefault(effect.peer, []).append(effect.message)
            if isinstance(effect.message, Reject):
                self._counters.reject(effect.message.code)
        for peer, messages in by_peer.items():
            for first in range(0, len(messages), MOST_TOGETHER):
                together = messages[first : first + MOST_TOGETHER]
                if not self._nexus.send(peer, *together):
                    self._counters.add("reports_without_link", len(together))

    def _alert(self, effect: Alert) -> None:
        self._counters.add("alerts")
        self._log.warning("alert", code=effect.code.value, reason=effect.text, platform=effect.platform)
