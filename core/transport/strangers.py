"""The connections of a port that have proved nothing yet, and which of them makes room for another one."""

from __future__ import annotations

from collections import Counter

from .peer_socket import PeerSocket


class Strangers:
    """Bounded by the listener: it asks who goes, and closes that one. Used by its thread."""

    def __init__(self, most: int) -> None:
        """`most`: connections without a proof at the same time."""
        self._most = most
        self._peers: dict[int, PeerSocket] = {}  # in the order of their arrival: the first is the oldest

    def __contains__(self, connection: int) -> bool:
        return connection in self._peers

    def __len__(self) -> int:
        return len(self._peers)

    @property
    def is_full(self) -> bool:
        """Whether one has to go before another one comes."""
        return len(self._peers) >= self._most

    def add(self, peer: PeerSocket) -> None:
        """A connection was accepted."""
        self._peers[peer.id] = peer

    def discard(self, connection: int) -> None:
        """It has proved its key, or is closed."""
        self._peers.pop(connection, None)

    def choose(self) -> PeerSocket | None:
        """Of those that have come least far, the oldest connection of the address that has most.

        So a crowd that says nothing, or nothing that fits, drives out nobody who is about to prove a key; and a flood
        from one address none of another, whose proof takes as long as its network.
        """
        if not self._peers:
            return None
        least = min(peer.connection.progress for peer in self._peers.values())
        candidates = [peer for peer in self._peers.values() if peer.connection.progress == least]
        numbers = Counter(peer.host for peer in candidates)
        return max(candidates, key=lambda peer: numbers[peer.host])  # the first of equals is the oldest

    def before(self, time_ns: int) -> list[PeerSocket]:
        """Those that were accepted before then, monotonic."""
        return [peer for peer in self._peers.values() if peer.since_ns <= time_ns]
