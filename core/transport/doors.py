"""Bound sockets on which peers connect: a socket file, or a TCP port."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...shm import host
from ..errors import ConfigError

_BACKLOG: Final = 1_024  # many connection attempts at once must not make an adapter that reconnects wait for a second
_RETRY_NS: Final = 1_000_000_000
_PAUSE_NS: Final = 100_000_000
_PASSING: Final = (
    errno.EADDRINUSE,
    errno.EADDRNOTAVAIL,  # a network that is not up yet
    errno.EMFILE,
    errno.ENFILE,
    *((errno.EACCES,) if host.IS_WINDOWS else ()),  # there the word for a port that another program has alone
)
_TCP: Final = "tcp://"
_IPC: Final = "ipc://"


class Door:
    """One bound, listening, non-blocking socket.

    Attributes:
        endpoint: with the port that was chosen.
        path: of a socket file; None for TCP.
    """

    def __init__(self, bound: socket.socket, endpoint: str, path: Path | None) -> None:
        self.socket = bound
        self.endpoint = endpoint
        self.path = path
        self._status = None if path is None else os.stat(path)

    def accept(self) -> tuple[socket.socket, str]:
        """Accept a connection, non-blocking; returns it and where it comes from.

        Raises:
            BlockingIOError: none waits.
            OSError: the connection is gone again, or there are no descriptors.
        """
        accepted, address = self.socket.accept()
        accepted.setblocking(False)
        if self.path is None:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return accepted, f"{address[0]}:{address[1]}"
        return accepted, "the socket file"

    def close(self) -> None:
        """Close it; a socket file is removed if it is still this one."""
        self.socket.close()
        if self.path is not None and self._status is not None:
            try:
                if os.path.samestat(os.stat(self.path), self._status):
                    self.path.unlink()
            except OSError:
                pass  # gone already


class Address(NamedTuple):
    """An endpoint with what its name was resolved to: `place` is None for a socket file."""

    endpoint: str
    family: int = 0
    place: tuple[Any, ...] | None = None


def resolve(endpoint: str) -> Address:
    """Find the address behind `ipc://PATH` or `tcp://HOST:PORT`, once: a resolver may take seconds.

    Raises:
        ConfigError: there is none.
    """
    if endpoint.startswith(_IPC):
        return Address(endpoint)
    host_name, _, port = endpoint.removeprefix(_TCP).rpartition(":")
    name = None if host_name == "*" else host_name.strip("[]")
    # A name means IPv4, as it does for libzmq at the other end.
    family = socket.AF_INET6 if name is not None and ":" in name else socket.AF_INET
    try:
        found = socket.getaddrinfo(name, int(port), family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"{endpoint} has no address: {error.strerror}; correct orders.host") from error
    return Address(endpoint, family, found[0][4])


def open_door(address: Address) -> Door:
    """Bind an address. Raises OSError."""
    if address.place is None:
        return _bind_file(Path(address.endpoint.removeprefix(_IPC)))
    return _bind_tcp(address)


def _bind_file(path: Path) -> Door:
    # The journal's lock has shown that no other gateway runs here: what lies there was left by one that was killed.
    path.unlink(missing_ok=True)
    bound = host.make_file_socket()
    try:
        bound.bind(str(path))
        os.chmod(path, 0o600)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
        return Door(bound, f"{_IPC}{path}", path)
    except OSError:
        bound.close()
        raise


def _bind_tcp(address: Address) -> Door:
    assert address.place is not None
    bound = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        host.bind_exclusively(bound, address.place)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
        return Door(bound, f"{address.endpoint.rpartition(':')[0]}:{bound.getsockname()[1]}", None)
    except OSError:
        bound.close()
        raise


class Doors:
    """All doors of one port: those that could be bound, and those that another program has now.

    Attributes:
        doors: bound now.
        taken: what waits for another program to go.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        watcher: object,
        warn: Callable[[str, str], None],
        monotonic_ns: Callable[[], int],
    ) -> None:
        """`watcher`: registered with each door as `(watcher, door)`. `warn` is called with a kind and a text."""
        self.doors: list[Door] = []
        self.taken: list[Address] = []
        self._selector = selector
        self._watcher = watcher
        self._warn = warn
        self._monotonic_ns = monotonic_ns
        self._retry_ns = 0
        self._paused_until_ns = 0

    @property
    def endpoints(self) -> Sequence[str]:
        """What is bound now, with the ports that were chosen."""
        return tuple(door.endpoint for door in self.doors)

    @property
    def socket_files(self) -> Sequence[Path]:
        """The socket files that are bound."""
        return tuple(door.path for door in self.doors if door.path is not None)

    def open(self, endpoint: str) -> None:
        """Bind an endpoint; a TCP port that another program has is tried again later.

        Raises:
            ConfigError: it can never be bound.
        """
        address = resolve(endpoint)
        try:
            self._add(open_door(address))
        except OSError as error:
            if address.place is None or error.errno not in _PASSING:
                raise ConfigError(
                    f"{endpoint} cannot be bound: {error.strerror or error}; correct orders.host, orders.adapter_port "
                    "and orders.nexus_port"
                ) from error
            self._set_aside(address, error)

    def pause(self) -> None:
        """Accept nothing for 100 ms: without descriptors a door stays readable, and the loop would spin."""
        self._paused_until_ns = self._monotonic_ns() + _PAUSE_NS
        for door in self.doors:
            self._unwatch(door)

    def tick(self, now_ns: int) -> None:
        """Try again what was taken, end a pause. Call it regularly."""
        if self.taken and now_ns >= self._retry_ns:
            again, self.taken = self.taken, []
            for address in again:
                try:
                    self._add(open_door(address))
                except OSError as error:  # whatever it is: a gateway that runs is not ended by a port
                    self._set_aside(address, error)
        if self._paused_until_ns and now_ns >= self._paused_until_ns:
            self._paused_until_ns = 0
            for door in self.doors:
                self._watch(door)

    def close(self) -> None:
        """Close all."""
        for door in self.doors:
            self._unwatch(door)
            door.close()
        self.doors.clear()
        self.taken.clear()

    def _add(self, door: Door) -> None:
        self.doors.append(door)
        if not self._paused_until_ns:
            self._watch(door)

    def _set_aside(self, address: Address, error: OSError) -> None:
        self.taken.append(address)
        self._retry_ns = self._monotonic_ns() + _RETRY_NS
        cure = "is the network of orders.host up?"
        if error.errno != errno.EADDRNOTAVAIL:
            cure = "does another program have the port? stop it, or change the port in gateway_config.yaml"
        reason = error.strerror or str(error)
        self._warn("port", f"{address.endpoint} cannot be bound, it is tried again each second: {reason}; {cure}")

    def _watch(self, door: Door) -> None:
        self._selector.register(door.socket, selectors.EVENT_READ, (self._watcher, door))

    def _unwatch(self, door: Door) -> None:
        if door.socket in self._selector.get_map():
            self._selector.unregister(door.socket)
