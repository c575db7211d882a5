"""ZeroMQ links between the gateway, the adapters, NEXUS and the operator's commands (docs/protocol.md).

`LinkClient` connects, `LinkServer` is bound; both are thin layers over `Link`, which is pure. A link does not guarantee
that a message arrives. It guarantees that a lost, repeated or reordered message ends the session at once.
"""

from __future__ import annotations

from .access import (
    ADAPTER_LINK as ADAPTER_LINK,
    NEXUS_LINK as NEXUS_LINK,
    TOKEN_FILE as TOKEN_FILE,
    client_endpoint as client_endpoint,
    ensure_token as ensure_token,
    read_token as read_token,
    server_endpoints as server_endpoints,
    write_token as write_token,
)
from .client import LinkClient as LinkClient, LinkState as LinkState
from .link import (
    MAX_ENVELOPES_PER_MESSAGE as MAX_ENVELOPES_PER_MESSAGE,
    Link as Link,
    LinkFault as LinkFault,
    LinkTiming as LinkTiming,
)
from .server import (
    LinkEvent as LinkEvent,
    LinkServer as LinkServer,
    PeerDown as PeerDown,
    PeerMessage as PeerMessage,
    PeerUp as PeerUp,
    ServerSettings as ServerSettings,
    peer_of as peer_of,
)
from .sockets import (
    ClientKeys as ClientKeys,
    ServerKeys as ServerKeys,
    check_host as check_host,
    create_keys as create_keys,
    make_client_socket as make_client_socket,
    make_server_socket as make_server_socket,
    read_client_keys as read_client_keys,
    read_server_keys as read_server_keys,
    start_authenticator as start_authenticator,
)
