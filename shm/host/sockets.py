"""Sockets that a process listens on."""

from __future__ import annotations

import socket
import sys
from typing import Any, Final

MAX_WAITED_SOCKETS: Final = 512 if sys.platform == "win32" else 1 << 20
"""How many sockets one call can wait for; beyond it, it raises."""


def bind_exclusively(listener: socket.socket, address: tuple[Any, ...]) -> None:
    """Bind a TCP socket so that no other program can take connections to its port.

    Raises:
        OSError: another program has it.
    """
    if sys.platform == "win32":
        # There SO_REUSEADDR would let another program bind the same port beside this one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        # Here it only frees the port of connections that have ended and are still remembered.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)


def make_file_socket() -> socket.socket:
    """An unbound socket for a socket file. Raises OSError on Windows, where Python has none."""
    if sys.platform == "win32":
        raise OSError("there are no socket files on Windows; write a port")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
