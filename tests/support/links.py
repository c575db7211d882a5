"""Both ends of a link in one test: a hello, a server on a socket file, and a loop that turns them."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zmq
from nexus_gateway.core.config import PLATFORM_KEYS
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
    NEXUS,
    OPERATOR,
    KeyFolder,
    KeyRing,
    LinkClient,
    LinkEvent,
    LinkServer,
    LinkTiming,
    Listener,
    ListenerSettings,
    ServerSettings,
    adapter_key,
    read_client_keys,
)
from zmq.utils import z85

from .patience import patient

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


def adapter_hello(platform: str = "nt8", account: str = "SIM1", **fields: object) -> Hello:
    values: dict[str, object] = {
        "role": Role.ADAPTER,
        "name": platform,
        "boot_id": f"boot-{next(_boots)}",
        "platform": platform,
        "account": account,
        "account_mode": AccountMode.NETTING,
        "capabilities": CAN_ALL,
    }
    return Hello(**(values | fields))  # type: ignore[arg-type]  # a test names the field it wants to break


def nexus_hello(name: str = "nexus", role: Role = Role.NEXUS) -> Hello:
    return Hello(role=role, name=name, boot_id=f"boot-{next(_boots)}")


def make_key_folder(folder: Path) -> KeyFolder:
    """Keys as a gateway of all platforms makes them, in `folder`."""
    return KeyFolder(folder, PLATFORM_KEYS, lambda text: None)


def keys_for(keys: Path, hello: Hello) -> Path:
    """Where the keys for a hello are, in the gateway's keys folder."""
    name = {Role.NEXUS: NEXUS, Role.ADMIN: OPERATOR}.get(hello.role) or adapter_key(hello.platform)
    return keys / name


def open_listener(endpoints: list[str], keys: Path, settings: ListenerSettings | None = None) -> Listener:
    """The gateway's end, with the keys of a folder, which are made if they are missing."""
    return Listener(endpoints, make_key_folder(keys).own, KeyRing(keys, lambda text: None), settings)


def prove(socket: zmq.Socket[bytes], keys: Path) -> None:
    """Give a socket of the test the keys of a client's folder, before it connects."""
    found = read_client_keys(keys)
    socket.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(found.gateway))
    socket.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(found.own.public))
    socket.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(found.own.secret))


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
        keys: Path | None = None,
        bounds: ListenerSettings | None = None,
    ) -> None:
        self.keys = short_folder() / "keys" if keys is None else keys
        self.listener = open_listener(endpoints, self.keys, bounds or ListenerSettings(queue_messages=queue_messages))
        self.endpoint = self.listener.doors.endpoints[0]
        settings = ServerSettings(
            sender="gateway", boot_id="gateway-1", roles=roles, timing=timing, max_peers=max_peers
        )
        self.server = LinkServer(self.listener, settings, greet)
        self.timing = timing
        self.clients: list[LinkClient] = []
        self.paused: set[LinkClient] = set()
        self.events: list[LinkEvent] = []
        self.heard: dict[LinkClient, list[Message]] = {}
        self._raw: list[zmq.Socket[bytes]] = []

    def client(self, hello: Hello, **options: object) -> LinkClient:
        keys = options.pop("keys", None) or keys_for(self.keys, hello)
        client = LinkClient(self.endpoint, hello, keys, self.timing, **options)  # type: ignore[arg-type]
        self.clients.append(client)
        self.heard[client] = []
        return client

    def stranger(self) -> zmq.Socket[bytes]:
        """A bare DEALER that has proved to be NEXUS, and sends what it likes."""
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        prove(socket, self.keys / NEXUS)
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
