"""Bound sockets on which peers connect: a socket file, or a TCP port."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ...shm import host
from ..errors import ConfigError

_BACKLOG: Final = 1_024  # many connection attempts at once must not make an adapter that reconnects wait for a second
_RETRY_NS: Final = 1_000_000_000
_PAUSE_NS: Final = 100_000_000
_PASSING: Final = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, errno.EMFILE, errno.ENFILE)
"""EADDRNOTAVAIL: a network that is not up yet. EACCES: Windows' word for a port that another program has alone."""
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


def open_door(endpoint: str) -> Door | str:
    """Bind `ipc://PATH` or `tcp://HOST:PORT`. Returns why it cannot be bound now when another program has the port.

    Raises:
        ConfigError: it can never be bound like this.
    """
    try:
        return _bind_file(Path(endpoint.removeprefix(_IPC))) if endpoint.startswith(_IPC) else _bind_tcp(endpoint)
    except OSError as error:
        if error.errno in _PASSING and not endpoint.startswith(_IPC):
            if error.errno == errno.EADDRNOTAVAIL:
                return f"{error.strerror}; is the network of orders.host up?"
            return f"{error.strerror}; another program has the port: stop it, or change the port in gateway_config.yaml"
        raise ConfigError(
            f"{endpoint} cannot be bound: {error.strerror or error}; correct orders.host, orders.adapter_port and "
            "orders.nexus_port"
        ) from error


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


def _bind_tcp(endpoint: str) -> Door:
    host_name, _, port = endpoint.removeprefix(_TCP).rpartition(":")
    name = None if host_name == "*" else host_name.strip("[]")
    # A name means IPv4, as it does for libzmq at the other end.
    family = socket.AF_INET6 if name is not None and ":" in name else socket.AF_INET
    found = socket.getaddrinfo(name, int(port), family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    address = found[0][4]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        host.bind_exclusively(bound, address)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
        return Door(bound, f"{_TCP}{host_name}:{bound.getsockname()[1]}", None)
    except OSError:
        bound.close()
        raise


class Doors:
    """All doors of one port: those that could be bound, and those that another program has now.

    Attributes:
        doors: bound now.
        taken: endpoints that wait for another program to go.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        watcher: object,
        warn: Callable[[str, str], None],
        monotonic_ns: Callable[[], int],
    ) -> None:
        """`watcher`: registered with each door as `(watcher, door)`. `warn` is told a kind and a text."""
        self.doors: list[Door] = []
        self.taken: list[str] = []
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
        """Bind an endpoint, or remember it for later. Raises ConfigError: it can never be bound."""
        door = open_door(endpoint)
        if isinstance(door, str):
            self.taken.append(endpoint)
            self._retry_ns = self._monotonic_ns() + _RETRY_NS
            self._warn("port", f"{endpoint} cannot be bound, it is tried again each second: {door}")
            return
        self.doors.append(door)
        if not self._paused_until_ns:
            self._watch(door)

    def pause(self) -> None:
        """Accept nothing for 100 ms: without descriptors a door stays readable, and the loop would spin."""
        self._paused_until_ns = self._monotonic_ns() + _PAUSE_NS
        for door in self.doors:
            self._unwatch(door)

    def tick(self, now_ns: int) -> None:
        """Try again what was taken, end a pause. Call it regularly."""
        if self.taken and now_ns >= self._retry_ns:
            again, self.taken = self.taken, []
            for endpoint in again:
                self.open(endpoint)
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

    def _watch(self, door: Door) -> None:
        self._selector.register(door.socket, selectors.EVENT_READ, (self._watcher, door))

    def _unwatch(self, door: Door) -> None:
        if door.socket in self._selector.get_map():
            self._selector.unregister(door.socket)
