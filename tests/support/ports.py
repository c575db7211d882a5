"""Ports for listeners that start a moment later: no other worker of the test run may be given the same one."""

from __future__ import annotations

import os
import random
import socket
from typing import Final

_FIRST: Final = 12_000
_A_WORKER: Final = 1_000
"""Ports of one worker. All lie below those that the system gives to outgoing connections (from 32,768 on Linux, 49,152
on Windows): a port that was free a moment ago would else be another test's by now."""
_tried = random.Random(os.getpid()).randrange(_A_WORKER)


def free_port() -> int:
    """Return a port of this worker's on loopback that nobody listens on; each call returns another one."""
    global _tried
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    first = _FIRST + worker * _A_WORKER
    for _ in range(_A_WORKER):
        _tried = (_tried + 1) % _A_WORKER
        port = first + _tried
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"no port from {first} on is free, of {_A_WORKER}")
