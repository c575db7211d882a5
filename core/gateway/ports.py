"""The gateway's two ports: one for adapters, one for NEXUS and operators."""

from __future__ import annotations

from ..transport import LinkServer


class Ports:
    """Owned by the gateway's thread. Their listeners share one selector."""

    def __init__(self, adapters: LinkServer, nexus: LinkServer) -> None:
        self.adapters = adapters
        self.nexus = nexus

    def wait(self, at_most_ms: int) -> None:
        """Wait until a message is there, or one of the links has something to do."""
        wait_ms = max(0, min(at_most_ms, self.adapters.wait_ms(), self.nexus.wait_ms()))
        self.adapters.listener.collect(wait_ms / 1000)
