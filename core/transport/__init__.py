"""ZeroMQ links between the gateway, the adapters, NEXUS and the operator's commands (docs/protocol.md).

`LinkClient` connects, `LinkServer` is bound; both are thin shells over `Link`, which knows no socket. What the links do
not promise: that a message arrives. What they do: that a lost, doubled or reordered one ends the session at once.
"""

from __future__ import annotations

from .access import ADAPTER_LINK, NEXUS_LINK, TOKEN_FILE, client_endpoint, ensure_token, read_token, server_endpoints
from .client import LinkClient, LinkState
from .link import MOST_TOGETHER, Link, LinkFault, LinkTiming
from .server import LinkEvent, LinkServer, PeerDown, PeerSaid, PeerUp, ServerSettings, peer_of
from .sockets import (
    ClientKeys,
    ServerKeys,
    check_host,
    create_keys,
    make_client_socket,
    make_server_socket,
    read_client_keys,
    read_server_keys,
    start_authenticator,
)

__all__ = [
    "ADAPTER_LINK",
    "MOST_TOGETHER",
    "NEXUS_LINK",
    "TOKEN_FILE",
    "ClientKeys",
    "Link",
    "LinkClient",
    "LinkEvent",
    "LinkFault",
    "LinkServer",
    "LinkState",
    "LinkTiming",
    "PeerDown",
    "PeerSaid",
    "PeerUp",
    "ServerKeys",
    "ServerSettings",
    "check_host",
    "client_endpoint",
    "create_keys",
    "ensure_token",
    "make_client_socket",
    "make_server_socket",
    "peer_of",
    "read_client_keys",
    "read_server_keys",
    "read_token",
    "server_endpoints",
    "start_authenticator",
]
