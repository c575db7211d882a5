"""The gateway's two ports without sockets: what `LinkServer` promises, for peers that are functions."""

from __future__ import annotations

from collections.abc import Callable

from nexus_gateway.core import messages as m
from nexus_gateway.core.transport import LinkEvent, PeerDown, PeerMessage, PeerUp


class Port:
    """`deliver` is given what the gateway sends, `lost` a peer whose session the gateway has cut."""

    def __init__(self, deliver: Callable[[str, object], None], lost: Callable[[str], None]) -> None:
        self.sessions: dict[str, m.Hello] = {}
        self.counts: dict[str, int] = {}
        self._deliver, self._lost = deliver, lost
        self._events: list[LinkEvent] = []

    # What the gateway calls.

    @property
    def peers(self) -> list[str]:
        return list(self.sessions)

    def receive(self, at_most: int = 256) -> list[LinkEvent]:
        events, self._events = self._events[:at_most], self._events[at_most:]
        return events

    def tick(self) -> list[LinkEvent]:
        return []

    def send(self, peer: str, *bodies: object) -> bool:
        if peer not in self.sessions:
            return False
        for body in bodies:
            self._deliver(peer, body)
        return True

    def cut(self, peer: str, reason: str, code: m.RejectCode = m.RejectCode.NOT_ALLOWED) -> None:
        if peer in self.sessions:
            self.down(peer, reason)
            self._lost(peer)

    # What the peers do.

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def up(self, peer: str, hello: m.Hello) -> None:
        self.down(peer, "a new session of the same peer")
        self.sessions[peer] = hello
        self._events.append(PeerUp(peer, hello))
        if hello.role is m.Role.ADAPTER:
            alive = m.Heartbeat(last_seq_sent=0, last_seq_received=0, platform_up=True)
            self._events.append(PeerMessage(peer, hello, alive))

    def down(self, peer: str, reason: str) -> None:
        hello = self.sessions.pop(peer, None)
        if hello is not None:
            self._events.append(PeerDown(peer, hello, reason))

    def said(self, peer: str, body: object) -> None:
        hello = self.sessions.get(peer)
        if hello is not None:
            self._events.append(PeerMessage(peer, hello, body))


class Ports:
    """Both of them. Nothing is waited for: the simulation turns the gateway when something is there."""

    def __init__(self, adapters: Port, nexus: Port) -> None:
        self.adapters, self.nexus = adapters, nexus

    def wait(self, at_most_ms: int) -> None:
        pass
