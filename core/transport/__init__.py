"""ZeroMQ links between the gateway, the adapters, NEXUS and the operator's commands (docs/protocol.md).

`LinkClient` connects, `LinkServer` listens; both are thin layers over `Link`, which is pure. Both ends prove a key
before anything else is read (`keys.py`, `curve.py`). A link does not guarantee that a message arrives. It guarantees
that a lost, repeated or reordered message ends the session at once.
"""

from __future__ import annotations

from .access import (
    ADAPTER_LINK as ADAPTER_LINK,
    KEYS_FOLDER as KEYS_FOLDER,
    NEXUS_LINK as NEXUS_LINK,
    check_host as check_host,
    client_endpoint as client_endpoint,
    is_loopback as is_loopback,
    server_endpoints as server_endpoints,
    tcp_endpoint as tcp_endpoint,
)
from .client import LinkClient as LinkClient, LinkState as LinkState
from .key_folder import KeyFolder as KeyFolder
from .key_ring import KeyRing as KeyRing
from .keys import (
    ALLOWED_FOLDER as ALLOWED_FOLDER,
    GATEWAY as GATEWAY,
    NEXUS as NEXUS,
    OPERATOR as OPERATOR,
    ClientKeys as ClientKeys,
    KeyPair as KeyPair,
    Proof as Proof,
    adapter_key as adapter_key,
    key_text as key_text,
    make_client_keys as make_client_keys,
    parse_key as parse_key,
    parse_key_name as parse_key_name,
    read_client_keys as read_client_keys,
    read_public as read_public,
    trust_gateway as trust_gateway,
    write_public as write_public,
)
from .link import (
    MAX_ENVELOPES_PER_MESSAGE as MAX_ENVELOPES_PER_MESSAGE,
    Link as Link,
    LinkFault as LinkFault,
    LinkTiming as LinkTiming,
)
from .listener import Listener as Listener
from .peers import (
    CONNECTION_COUNTERS as CONNECTION_COUNTERS,
    LINK_COUNTERS as LINK_COUNTERS,
    LinkEvent as LinkEvent,
    ListenerSettings as ListenerSettings,
    PeerDown as PeerDown,
    PeerMessage as PeerMessage,
    PeerUp as PeerUp,
    ServerSettings as ServerSettings,
    peer_of as peer_of,
)
from .server import LinkServer as LinkServer
