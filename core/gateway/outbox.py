"""Carries effects out: the last step of a turn, after the commit."""

from __future__ import annotations

from collections.abc import Iterable

from ..engine import (
    Alert,
    AnswerAdmin,
    CutLink,
    Effect,
    RiskChecked,
    SendToPlatform,
    SignalFinished,
    TellNexus,
    route_of,
)
from ..logs import Log
from ..messages import Cancel, Flatten, Message, Order, Reject, RejectCode, Replace
from ..risk import first_failure
from ..transport import MAX_ENVELOPES_PER_MESSAGE, LinkServer
from .counters import GatewayCounters
from .stand_ins import StandIns

_SENT = {Order: "orders_sent", Cancel: "cancels_sent", Replace: "replaces_sent", Flatten: "flattens_sent"}


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
        """Carry the effects out in their order. Returns whether an order has left."""
        order_left = False
        for effect in effects:
            match effect:
                case SendToPlatform():
                    order_left |= self._send(effect)
                case TellNexus():
                    self.send_reports((effect,))
                case AnswerAdmin():
                    self._nexus.send(effect.peer, effect.message)
                case CutLink():
                    reason = "severed by the operator; resume first"
                    self._adapters.cut(route_of(effect.platform, effect.account), reason, RejectCode.KILL_SWITCH)
                case SignalFinished():
                    pass  # its rows are in the journal by now
                case RiskChecked():
                    self._log_refusal(effect)
                case Alert():
                    self._counters.add("alerts")
                    self._log.warning("alert", code=effect.code.value, reason=effect.text, platform=effect.platform)
        return order_left

    def send_reports(self, effects: Iterable[TellNexus]) -> None:
        """Send each NEXUS its reports and refusals, as few messages as possible: each one wakes it up.

        A report for a NEXUS that is not connected is dropped and counted. It gets the newest one when it connects.
        """
        by_peer: dict[str, list[Message]] = {}
        for effect in effects:
            by_peer.setdefault(effect.peer, []).append(effect.message)
            if isinstance(effect.message, Reject):
                self._counters.reject(effect.message.code)
        for peer, messages in by_peer.items():
            for first in range(0, len(messages), MAX_ENVELOPES_PER_MESSAGE):
                batch = messages[first : first + MAX_ENVELOPES_PER_MESSAGE]
                if not self._nexus.send(peer, *batch):
                    self._counters.add("reports_without_link", len(batch))

    def _send(self, effect: SendToPlatform) -> bool:
        # Without a link the message is dropped, never kept for later: an order is unknown after its deadline, and the
        # snapshot of the next session shows whether it ever arrived.
        message = effect.message
        sent = self._adapters.send(route_of(message.platform, message.account), self._stand_ins.outward(message))
        name = _SENT.get(type(message))
        if name is not None:
            self._counters.add(name if sent else "orders_without_link")
        return sent and isinstance(message, Order)

    def _log_refusal(self, checked: RiskChecked) -> None:
        failed = first_failure(list(checked.findings))
        if failed is not None:
            self._log.info(
                "risk check refused an order",
                signal=checked.signal_id,
                platform=checked.platform,
                code=failed.code.value,
                measured=failed.measured,
                limit=failed.limit,
                stage=failed.stage,
            )
