"""Wait for the order link and for an adapter's own sockets at the same time."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Protocol

import zmq


class Readable(Protocol):
    """A socket, or anything else that `select` accepts; on Windows sockets only."""

    def fileno(self) -> int: ...


def wait_readable(timeout_s: float, sockets: Sequence[Readable], link: zmq.Socket[bytes] | None) -> bool:
    """Sleep until one of `sockets` or `link` can be read, at most `timeout_s`. Returns whether one can.

    Uses `select`, not ZeroMQ's poller, whose time-outs are whole milliseconds: pauses between ticks are shorter.
    """
    waited_for: list[Readable | int] = list(sockets)
    if link is not None:
        # The descriptor of a ZeroMQ socket is edge-triggered: it does not signal a message that is already there.
        # Without this check the message would wait until the next one arrives.
        if _has_message(link):
            return True
        waited_for.append(int(link.getsockopt(zmq.FD)))
    if not waited_for:
        time.sleep(timeout_s)
        return False
    ready, _, _ = select.select(waited_for, (), (), timeout_s)
    return any(each in sockets for each in ready) or (link is not None and _has_message(link))


def _has_message(link: zmq.Socket[bytes]) -> bool:
    return bool(int(link.getsockopt(zmq.EVENTS)) & zmq.POLLIN)
