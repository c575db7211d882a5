"""What a port of the gateway says of its connections, and of the peers that have a session on them."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ..messages import Hello, Message, Role
from .keys import Proof
from .link import LinkTiming

OPERATOR_PLACES: Final = 8
"""Connections and sessions kept for the operator beyond the bounds of a port."""
CONNECTION_COUNTERS: Final = (
    "handshakes_failed",
    "keys_refused",
    "strangers_evicted",
    "connections_refused",
)
LINK_COUNTERS: Final = (
    "links_opened",
    "links_cut",
    "links_refused",
    "bad_messages",
    "wrong_versions",
    "giant_messages",
    "stranger_messages",
    "overflows",
    "messages_received",
    "messages_sent",
)


class ListenerSettings(Struct, frozen=True, kw_only=True):
    """Bounds of one port. `queue_messages`: messages that wait to be sent to one peer. `max_connections`: with a proof.
    `max_unproven`: without one. `handshake_ms`: a connection that has proved nothing by then is closed.
    """

    queue_messages: int = 4_096
    max_connections: int = 512
    max_unproven: int = 64
    handshake_ms: int = 5_000


class Received(Struct, frozen=True):
    """A whole message of a peer. `connection` names it for `send`; it is never used for another one."""

    connection: int
    proof: Proof
    frames: list[bytes]


class Closed(Struct, frozen=True):
    """A connection that had proved its key is gone."""

    connection: int
    reason: str


class QueueFullError(Exception):
    """Too much waits to be sent to this peer: it does not read."""


class ServerSettings(Struct, frozen=True, kw_only=True):
    """`sender`: this side's name in envelopes. `max_peers`: sessions at the same time."""

    sender: str
    boot_id: str
    roles: tuple[Role, ...]
    timing: LinkTiming = LinkTiming()
    max_peers: int = 256


class PeerUp(Struct, frozen=True):
    """A hello was accepted and answered. An older session of the same `peer` has ended before this event. `key`:
    name of the key that its connection has proved.
    """

    peer: str
    hello: Hello
    key: str = ""


class PeerMessage(Struct, frozen=True):
    """A message from a peer; `key` as in `PeerUp`. Heartbeats only of adapters, and only when `platform_up` changes."""

    peer: str
    hello: Hello
    body: Message
    key: str = ""


class PeerDown(Struct, frozen=True):
    """A session has ended: its peer was unresponsive or is gone, or it was cut or replaced."""

    peer: str
    hello: Hello
    reason: str


LinkEvent = PeerUp | PeerMessage | PeerDown


def peer_of(hello: Hello) -> str:
    """Return the name by which the gateway knows a peer: an adapter's platform and account, else role and name.

    It stays the same over the peer's restarts, so that a report reaches the NEXUS that sent the signal.
    """
    if hello.role is Role.ADAPTER:
        return f"{hello.platform}|{hello.account}"
    return f"{hello.role.value}|{hello.name}"
