"""From what came over the links to events of the engine. Decides who may say what; keeps which adapters are there."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from ..engine import AdapterSaid, AdminAsked, Event, LinkDown, LinkUp, NexusAsked, SignalArrived, route_of
from ..messages import (
    Account,
    Acknowledge,
    Correction,
    Fill,
    Heartbeat,
    Hello,
    Kill,
    Message,
    OrderUpdate,
    Query,
    Reject,
    RejectCode,
    Resume,
    Role,
    Signal,
    SignalCancel,
    SignalClose,
    SignalReplace,
    Snapshot,
    StageChange,
)
from ..risk import MarketContext
from ..transport import LinkEvent, PeerDown, PeerSaid, PeerUp
from .markets import Markets

MAY_BE_ASKED_BY = {
    Role.NEXUS: (Signal, SignalCancel, SignalReplace, SignalClose, Query),
    Role.ADMIN: (Kill, Resume, Acknowledge, StageChange, Query),
}
"""NEXUS trades, the operator commands; neither does the other's part, so that a strategy cannot lift its own limits."""


class Refused(Exception):
    """A message that its sender may not send; `reject` is the answer."""

    def __init__(self, counter: str, reject: Reject) -> None:
        super().__init__(reject.text)
        self.counter = counter
        self.reject = reject


class Inbox:
    """Used by the gateway's thread.

    Attributes:
        adapters: hello of each route whose adapter is linked and whose platform is up.
    """

    def __init__(
        self,
        markets: Markets,
        known_hellos: Callable[[], dict[str, Hello]],
        known_legs: Callable[[str], list[tuple[str, str]]],
    ) -> None:
        """`known_hellos`: the last hello of each route that the engine remembers, for those whose adapter is away.
        `known_legs`: route and symbol of each leg of a signal id.
        """
        self.adapters: dict[str, Hello] = {}
        self._markets = markets
        self._known_hellos = known_hellos
        self._known_legs = known_legs

    def translate(self, event: LinkEvent, now_ns: int) -> Event | None:
        """The engine's event; None when it is nothing to the engine.

        Raises:
            Refused: answer with its reject.
        """
        if event.hello.role is Role.ADAPTER:
            return self._of_adapter(event)
        if isinstance(event, PeerSaid):
            return self._of_asker(event, now_ns)
        return None

    def _of_adapter(self, event: LinkEvent) -> Event | None:
        hello, route = event.hello, event.peer
        if isinstance(event, PeerUp):
            return None  # the first heartbeat says whether its platform is there
        if isinstance(event, PeerDown):
            return self._down(route, hello, event.reason)
        body = event.body
        if isinstance(body, Heartbeat):
            if not body.platform_up:
                return self._down(route, hello, "the adapter says that its platform is gone")
            self.adapters[route] = hello
            return LinkUp(hello=hello)
        if isinstance(body, OrderUpdate | Fill | Correction | Reject | Snapshot | Account):
            if isinstance(body, Reject) and not body.client_order_id:
                return None  # about a message of ours that it could not read; the deadline of what was sent holds
            if isinstance(body, Reject) and not body.platform:
                # Of this account's orders only, whatever id it names.
                body = structs.replace(body, platform=hello.platform, account=hello.account)
            if (body.platform, body.account) != (hello.platform, hello.account):
                other = route_of(body.platform, body.account)
                text = f"message was of {other}, this link is of {route}; use one link an account"
                raise Refused("messages_of_wrong_route", Reject(code=RejectCode.NOT_ALLOWED, text=text))
            if isinstance(body, Snapshot):
                _check_snapshot(body, route)
            return AdapterSaid(message=self._markets.stand_ins.inward(body), account=hello.account)
        raise _not_allowed(body, hello.role)

    def _down(self, route: str, hello: Hello, reason: str) -> Event | None:
        if self.adapters.pop(route, None) is None:
            return None
        return LinkDown(platform=hello.platform, account=hello.account, reason=reason[:512])

    def _of_asker(self, event: PeerSaid, now_ns: int) -> Event:
        body = event.body
        if not isinstance(body, MAY_BE_ASKED_BY[event.hello.role]):
            raise _not_allowed(body, event.hello.role)
        if isinstance(body, Signal):
            return SignalArrived(signal=body, markets=self.contexts_of(body, now_ns), peer=event.peer)
        if isinstance(body, SignalCancel | SignalReplace | SignalClose):
            markets = self.contexts_of_legs(body.signal_id, now_ns) if isinstance(body, SignalReplace) else ()
            return NexusAsked(request=body, peer=event.peer, markets=markets)
        assert isinstance(body, Kill | Resume | Acknowledge | StageChange | Query)
        return AdminAsked(request=body, peer=event.peer)

    def contexts_of(self, signal: Signal, now_ns: int) -> tuple[MarketContext, ...]:
        """The markets that a signal's targets name, at each account that a target may mean."""
        contexts = []
        hellos = self._known_hellos() | self.adapters
        for target in signal.targets:
            for hello in hellos.values():
                if hello.platform == target.platform and target.account in ("", hello.account):
                    context = self._markets.context(hello, signal.symbol, now_ns)
                    if context is not None:
                        contexts.append(context)
        return tuple(contexts)

    def contexts_of_legs(self, signal_id: str, now_ns: int) -> tuple[MarketContext, ...]:
        """The markets in which a signal that is known trades, where an adapter is there."""
        contexts = [
            self._markets.context(self.adapters[route], symbol, now_ns)
            for route, symbol in self._known_legs(signal_id)
            if route in self.adapters
        ]
        return tuple(context for context in contexts if context is not None)


def _check_snapshot(snapshot: Snapshot, route: str) -> None:
    for part in (snapshot.positions, snapshot.working_orders, snapshot.executions, snapshot.funds):
        if part is not None and (part.platform, part.account) != (snapshot.platform, snapshot.account):
            other = route_of(part.platform, part.account)
            text = f"a part of the snapshot of {route} was of {other}; all parts are of one account"
            raise Refused("messages_of_wrong_route", Reject(code=RejectCode.NOT_ALLOWED, text=text))


def _not_allowed(body: Message, role: Role) -> Refused:
    kind = str(body.__struct_config__.tag)
    text = f"message was a {kind}, which a peer of role {role.value} may not send"
    signal_id = body.signal_id if isinstance(body, Signal) else ""
    return Refused("messages_not_allowed", Reject(code=RejectCode.NOT_ALLOWED, text=text, signal_id=signal_id))
