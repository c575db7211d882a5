"""Translates link events to events of the engine. Checks which peer may send what, and keeps the linked adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import structs

from ..engine import AdapterSaid, AdminAsked, Event, LinkDown, LinkUp, NexusAsked, SignalArrived, route_of
from ..messages import (
    Account,
    AccountRetire,
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
from ..transport import LinkEvent, PeerDown, PeerMessage, PeerUp
from .markets import Markets

PlatformMessage = OrderUpdate | Fill | Correction | Reject | Snapshot | Account
ALLOWED_REQUESTS = {
    Role.NEXUS: (Signal, SignalCancel, SignalReplace, SignalClose, Query),
    Role.ADMIN: (Kill, Resume, Acknowledge, AccountRetire, StageChange, Query),
}
"""NEXUS trades, the operator commands. Neither may do the other's part: a strategy must not lift its own limits."""


class Refused(Exception):
    """A message that its sender may not send. `reject` is the answer, `counter` the name under which it is counted."""

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
        """`known_hellos`: the last hello of each route in the engine's state, linked or not. `known_legs`: route and
        symbol of each leg of a signal id.
        """
        self.adapters: dict[str, Hello] = {}
        self._markets = markets
        self.known_hellos = known_hellos
        self._known_legs = known_legs

    def translate(self, event: LinkEvent, now_ns: int) -> Event | None:
        """Return the engine's event; None when the engine does not need to know.

        Raises:
            Refused: answer with its reject.
        """
        if event.hello.role is Role.ADAPTER:
            return self._from_adapter(event)
        if isinstance(event, PeerMessage):
            return self._from_nexus_or_operator(event, now_ns)
        return None

    def _from_adapter(self, event: LinkEvent) -> Event | None:
        match event:
            case PeerUp():
                return None  # its first heartbeat says whether the platform behind it is connected
            case PeerDown():
                return self._link_down(event.peer, event.hello, event.reason)
            case PeerMessage(body=Heartbeat(platform_up=False)):
                return self._link_down(event.peer, event.hello, "the adapter says that its platform is gone")
            case PeerMessage(body=Heartbeat()):
                self.adapters[event.peer] = event.hello
                return LinkUp(hello=event.hello, key=event.key)
            case PeerMessage(body=Reject(client_order_id="")):
                # About a message of ours that it could not read. The order in it is unknown after its deadline.
                return None
            case PeerMessage(body=OrderUpdate() | Fill() | Correction() | Reject() | Snapshot() | Account() as body):
                return self._platform_event(event, body)
            case PeerMessage():
                raise _not_allowed(event.body, event.hello.role)

    def _platform_event(self, event: PeerMessage, body: PlatformMessage) -> Event:
        hello = event.hello
        if isinstance(body, Reject) and not body.platform:
            # The link's own route, so that an adapter can never reject another account's order by naming its id.
            body = structs.replace(body, platform=hello.platform, account=hello.account)
        if (body.platform, body.account) != (hello.platform, hello.account):
            text = (
                f"message was of {body.platform}|{body.account}, this link is of {event.peer}; use one link an account"
            )
            raise Refused("messages_of_wrong_route", Reject(code=RejectCode.NOT_ALLOWED, text=text))
        if isinstance(body, Snapshot):
            _check_snapshot(body, event.peer)
        return AdapterSaid(message=self._markets.stand_ins.inward(body), account=hello.account)

    def _link_down(self, route: str, hello: Hello, reason: str) -> Event | None:
        if self.adapters.pop(route, None) is None:
            return None
        return LinkDown(platform=hello.platform, account=hello.account, reason=reason[:512])

    def _from_nexus_or_operator(self, event: PeerMessage, now_ns: int) -> Event:
        if not isinstance(event.body, ALLOWED_REQUESTS[event.hello.role]):
            raise _not_allowed(event.body, event.hello.role)
        match event.body:
            case Signal() as signal:
                markets = self.contexts_of(signal, now_ns)
                return SignalArrived(
                    signal=signal,
                    markets=markets,
                    peer=event.peer,
                    key=event.key,
                    enter_by_ns=signal.entry_deadline_ns,
                )
            case SignalReplace() | SignalClose() as request:
                markets = self.contexts_of_legs(request.signal_id, now_ns)
                return NexusAsked(request=request, peer=event.peer, markets=markets, key=event.key)
            case SignalCancel() as cancel:
                return NexusAsked(request=cancel, peer=event.peer, key=event.key)
            case Kill() | Resume() | Acknowledge() | AccountRetire() | StageChange() | Query() as request:
                return AdminAsked(request=request, peer=event.peer, key=event.key)
            case _:
                raise _not_allowed(event.body, event.hello.role)

    def contexts_of(self, signal: Signal, now_ns: int) -> tuple[MarketContext, ...]:
        """Return the market of a signal at each account that its targets may mean."""
        contexts = []
        hellos = self.known_hellos() | self.adapters
        for target in signal.targets:
            for hello in hellos.values():
                if hello.platform == target.platform and target.account in ("", hello.account):
                    context = self._markets.context(hello, signal.symbol, now_ns)
                    if context is not None:
                        contexts.append(context)
        return tuple(contexts)

    def contexts_of_legs(self, signal_id: str, now_ns: int) -> tuple[MarketContext, ...]:
        """Return the markets of a known signal's legs, of those whose adapter is linked."""
        return self.contexts_at(self._known_legs(signal_id), now_ns)

    def contexts_at(self, places: Iterable[tuple[str, str]], now_ns: int) -> tuple[MarketContext, ...]:
        """Return the market at each pair of route and symbol, of those whose adapter is linked."""
        contexts = [
            self._markets.context(self.adapters[route], symbol, now_ns)
            for route, symbol in places
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
