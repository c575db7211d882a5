"""The only place that makes ZeroMQ sockets: their options, CURVE keys, and the addresses that may be bound.

Queues are bounded on both sides. Sending into a full one fails, and the caller cuts the link. A socket that drops
messages silently, as PUB does, would lose orders and fills without a trace.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import uuid
from collections.abc import Sequence
from pathlib import Path

import zmq
import zmq.auth
from msgspec import Struct
from zmq.auth.thread import ThreadAuthenticator

from ..errors import ConfigError
from ..messages import MAX_MESSAGE_BYTES

MAX_FRAME_BYTES = 2 * MAX_MESSAGE_BYTES
"""ZeroMQ ends a connection that sends more than this. A message between the two limits is read, counted and refused."""
_UNIX_PATH_BYTES = 100
_HANDSHAKE_MS = 5_000
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_BACKLOG = 1_024  # many connection attempts at once must not make an adapter that reconnects wait for a second
_RECONNECT_MS = 50
_RECONNECT_MAX_MS = 500


class ServerKeys(Struct, frozen=True):
    """A server's CURVE keys, Z85. `clients_folder` holds one public `.key` file for each peer that may connect."""

    public: bytes
    secret: bytes
    clients_folder: Path

    def __repr__(self) -> str:
        return f"ServerKeys(public={self.public!r})"


class ClientKeys(Struct, frozen=True):
    """A client's CURVE keys and its server's public key, Z85."""

    public: bytes
    secret: bytes
    server: bytes

    def __repr__(self) -> str:
        return f"ClientKeys(public={self.public!r})"


def read_server_keys(secret_file: Path, clients_folder: Path) -> ServerKeys:
    """Raises ConfigError: a file is missing, damaged, or readable by others."""
    public, secret = _read_secret(secret_file)
    if not clients_folder.is_dir():
        raise ConfigError(
            f"folder of allowed CURVE clients was {clients_folder}, must exist; put each client's .key file into it"
        )
    return ServerKeys(public, secret, clients_folder)


def read_client_keys(secret_file: Path, server_file: Path) -> ClientKeys:
    """Raises ConfigError: a file is missing, damaged, or readable by others."""
    public, secret = _read_secret(secret_file)
    return ClientKeys(public, secret, _load_certificate(server_file)[0])


def create_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make `<name>.key` (public) and `<name>.key_secret` (0600). Returns both paths.

    Raises:
        ConfigError: they exist already, or cannot be written.
    """
    if (folder / f"{name}.key_secret").exists():
        raise ConfigError(f"{folder / name}.key_secret exists; choose another name, or remove it first")
    old_mask = os.umask(0o077)
    try:
        public, secret = zmq.auth.create_certificates(folder, name)
    except OSError as error:
        raise ConfigError(f"keys cannot be written to {folder}: {error.strerror}; name another folder") from error
    finally:
        os.umask(old_mask)
    return Path(public), Path(secret)


def check_host(host: str, keys: ServerKeys | None) -> None:
    """Raises ConfigError when the port could be reached over the network without CURVE keys."""
    if keys is None and not _is_loopback(host):
        raise ConfigError(
            f"orders.host was {host!r}, without CURVE keys it must be a loopback address: else the whole network could "
            "trade; write 127.0.0.1, or make keys and name them under orders.curve"
        )


def tcp_endpoint(host: str, port: int) -> str:
    """Return the TCP endpoint in ZeroMQ's notation."""
    return f"tcp://{f'[{host}]' if ':' in host else host}:{port}"


def ipc_endpoint(folder: Path, name: str) -> str | None:
    """Return the endpoint of a socket file in the run folder; None on Windows, or when the path is too long for one."""
    path = folder / f"{name}.ipc"
    usable = zmq.has("ipc") and os.name == "posix" and len(os.fsencode(path)) <= _UNIX_PATH_BYTES
    return f"ipc://{path}" if usable else None


def make_server_socket(
    endpoints: Sequence[str], queue_messages: int, keys: ServerKeys | None = None
) -> zmq.Socket[bytes]:
    """Make a ROUTER bound to all endpoints. `queue_messages`: bound of each peer's queue, each way.

    Raises:
        ConfigError: an endpoint cannot be bound.
    """
    socket = _make(zmq.ROUTER, queue_messages)
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    # Without this ZeroMQ silently drops a message to a peer that is gone or whose queue is full.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    for endpoint in endpoints:
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(0)
            raise ConfigError(
                f"{endpoint} cannot be bound: {zmq.strerror(error.errno or 0)}; is another gateway running? "
                "stop it, or change orders.adapter_port and orders.nexus_port"
            ) from error
    return socket


class FailedHandshakes:
    """Counts connections whose CURVE handshake failed: a wrong key, or none where one is needed.

    They never send a message, so only ZeroMQ's socket monitor sees them. One per server socket, owned by its thread.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        endpoint = f"inproc://handshakes-{uuid.uuid4().hex}"
        socket.monitor(endpoint, _HANDSHAKE_FAILED)
        self._watched = socket
        self._events: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.setsockopt(zmq.RCVHWM, 0)  # unbounded: a full queue would block ZeroMQ's I/O thread
        self._events.connect(endpoint)

    def pop_count(self, at_most: int = 1_000) -> int:
        """Return how many failed since the last call; the count of more than `at_most` goes on with the next call."""
        for count in range(at_most):
            try:
                self._events.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return count
        return at_most

    def close(self) -> None:
        """Stop watching. Call it before the watched socket is closed."""
        self._watched.disable_monitor()
        self._events.close(0)

    def __del__(self) -> None:
        # For a server that is dropped without `close`, as tests do to simulate a crash.
        self._events.close(0)


def make_client_socket(endpoint: str, queue_messages: int, keys: ClientKeys | None = None) -> zmq.Socket[bytes]:
    """Make a DEALER that connects to `endpoint` in the background, as soon as a server is bound there.

    Raises:
        ConfigError: the endpoint is not valid.
    """
    socket = _make(zmq.DEALER, queue_messages)
    socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        raise ConfigError(f"endpoint was {endpoint!r}: {zmq.strerror(error.errno or 0)}; correct it") from error
    return socket


def start_authenticator(keys: ServerKeys) -> ThreadAuthenticator:
    """Start the thread that lets only the clients in `keys.clients_folder` through. One a process; `stop()` it."""
    authenticator = ThreadAuthenticator(zmq.Context.instance())
    authenticator.start()
    authenticator.configure_curve(domain="*", location=str(keys.clients_folder))
    return authenticator


def _make(kind: int, queue_messages: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, queue_messages)
    socket.setsockopt(zmq.RCVHWM, queue_messages)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    return socket


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_secret(path: Path) -> tuple[bytes, bytes]:
    public, secret = _load_certificate(path)
    if secret is None:
        raise ConfigError(f"{path} holds no secret key; name the .key_secret file")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path} may be read by others, allowed is mode 0600; run: chmod 600 {path}")
    return public, secret


def _load_certificate(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"CURVE key file {path} cannot be read: {error}; make one with `nexus-gateway keys`"
        ) from error
