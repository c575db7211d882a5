"""The gateway's two ports: one for adapters, one for NEXUS and operators."""

from __future__ import annotations

import zmq

from ..transport import LinkServer


class Ports:
    """Owned by the gateway's thread."""

    def __init__(self, adapters: LinkServer, nexus: LinkServer) -> None:
        self.adapters = adapters
        self.nexus = nexus
        self._poller = zmq.Poller()
        for server in (adapters, nexus):
            self._poller.register(server.socket, zmq.POLLIN)

    def wait(self, at_most_ms: int) -> None:
        """Wait until a message is there, or one of the links has something to do."""
        self._poller.poll(max(0, min(at_most_ms, self.adapters.wait_ms(), self.nexus.wait_ms())))
