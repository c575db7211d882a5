"""Both ends of a link in one test: a hello, a server on a socket file, and a loop that turns them."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zmq
from nexus_gateway.core.messages import (
    AccountMode,
    Capabilities,
    Hello,
    KillLevel,
    Message,
    OrderType,
    Role,
    TimeInForce,
    Welcome,
)
from nexus_gateway.core.transport import (
    LinkClient,
    LinkEvent,
    LinkServer,
    LinkTiming,
    ServerKeys,
    ServerSettings,
    make_server_socket,
)

from .patience import patient

TOKEN = "let-me-in"
FAST = LinkTiming(
    heartbeat_ms=20, mute_after_ms=int(patient(100)), welcome_within_ms=300, backoff_first_ms=10, backoff_max_ms=50
)
CAN_ALL = Capabilities(
    order_types=tuple(OrderType),
    times_in_force=tuple(TimeInForce),
    replace=True,
    brackets=True,
    oco=True,
    reduce_only=True,
)

_boots = itertools.count(1)


def adapter_hello(platform: str = "nt8", account: str = "SIM1", token: str = TOKEN, **fields: object) -> Hello:
    values: dict[str, object] = {
        "role": Role.ADAPTER,
        "name": platform,
        "boot_id": f"boot-{next(_boots)}",
        "platform": platform,
        "account": account,
        "account_mode": AccountMode.NETTING,
        "capabilities": CAN_ALL,
        "token": token,
    }
    return Hello(**(values | fields))  # type: ignore[arg-type]  # a test names the field it wants to break


def nexus_hello(name: str = "nexus", token: str = TOKEN, role: Role = Role.NEXUS) -> Hello:
    return Hello(role=role, name=name, boot_id=f"boot-{next(_boots)}", token=token)


def accept(hello: Hello) -> Welcome:
    return Welcome(
        accepted=True, gateway_boot_id="gateway-1", stage=1, kill_level=KillLevel.NORMAL, heartbeat_ms=FAST.heartbeat_ms
    )


def short_folder() -> Path:
    """A folder whose path is short enough for a socket file; pytest's own is not always."""
    return Path(tempfile.mkdtemp(prefix="nxg"))


class Ends:
    """A server and its clients, turned together."""

    def __init__(
        self,
        endpoints: list[str],
        *,
        timing: LinkTiming = FAST,
        roles: tuple[Role, ...] = tuple(Role),
        queue_messages: int = 1_000,
        max_peers: int = 16,
        greet: Callable[[Hello], Welcome] = accept,
        keys: ServerKeys | None = None,
    ) -> None:
        self.endpoint = endpoints[0]
        self.socket = make_server_socket(endpoints, queue_messages, keys)
        settings = ServerSettings(
            sender="gateway", boot_id="gateway-1", roles=roles, token=TOKEN, timing=timing, max_peers=max_peers
        )
        self.server = LinkServer(self.socket, settings, greet)
        self.timing = timing
        self.clients: list[LinkClient] = []
        self.paused: set[LinkClient] = set()
        self.events: list[LinkEvent] = []
        self.heard: dict[LinkClient, list[Message]] = {}
        self._raw: list[zmq.Socket[bytes]] = []

    def client(self, hello: Hello, **options: object) -> LinkClient:
        client = LinkClient(self.endpoint, hello, self.timing, **options)  # type: ignore[arg-type]
        self.clients.append(client)
        self.heard[client] = []
        return client

    def stranger(self) -> zmq.Socket[bytes]:
        """A bare DEALER that sends what it likes."""
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self.endpoint)
        self._raw.append(socket)
        return socket

    def turn(self) -> None:
        self.events += self.server.receive()
        self.events += self.server.tick()
        for client in set(self.clients) - self.paused:
            self.heard[client] += client.receive()
            client.tick()

    def until(self, true: Callable[[], object], patience_s: float = 20.0) -> None:
        """Turn everything until `true`; the patience is for a machine that is busy, not a bound on speed."""
        deadline = time.monotonic() + patient(patience_s)
        while not true():
            assert time.monotonic() < deadline, "what the test waits for did not happen"
            self.turn()
            time.sleep(0.001)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for socket in self._raw:
            socket.close(0)
        self.server.close()
