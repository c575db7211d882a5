"""A connection that has proved a key, byte by byte: it can send what libzmq never would."""

from __future__ import annotations

import socket as plain

from nexus_gateway.core.transport import read_client_keys

from .curve_client import GREETING, CurveClient, data_of_command
from .links import Ends
from .shm_processes import wait_for


def prove_by_hand(ends: Ends, role: str = "nexus") -> tuple[plain.socket, CurveClient]:
    """A connection that has proved NEXUS's key, for what libzmq does not send: a message that is not whole."""
    client = CurveClient(read_client_keys(ends.keys / role))
    if ends.endpoint.startswith("ipc://"):
        connection = plain.socket(plain.AF_UNIX)
        connection.connect(ends.endpoint.removeprefix("ipc://"))
    else:
        connection = plain.create_connection(("127.0.0.1", int(ends.endpoint.rpartition(":")[2])))
    heard = bytearray()

    def has(name: bytes) -> bool:
        ends.turn()
        connection.setblocking(False)
        try:
            heard.extend(connection.recv(4_096))
        except BlockingIOError:
            pass
        connection.setblocking(True)
        return name in heard

    connection.sendall(GREETING + client.hello())
    wait_for(lambda: has(b"WELCOME"), "the listener's WELCOME")
    connection.sendall(client.initiate(data_of_command(bytes(heard), b"WELCOME")))
    wait_for(lambda: has(b"READY"), "the listener's READY")
    return connection, client
