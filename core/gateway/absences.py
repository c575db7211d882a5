"""Programs of NEXUS whose session has ended: lost to the engine after `orders.cancel_on_disconnect_ms`.

Measured in steady time. A peer's name stays the same over its restarts (`peer_of`), so its next process ends the wait.
"""

from __future__ import annotations

from ...shm.durations import NS_PER_MS
from ..engine import EngineState, NexusLost
from ..engine.signals.disconnect import entries_of
from ..messages import Role
from ..transport import LinkEvent, PeerDown, PeerUp


class Absences:
    """Used by the gateway's thread."""

    def __init__(self, wait_ms: int | None) -> None:
        """`wait_ms`: a NEXUS that is gone for this long is lost; None: it never is."""
        self._wait_ns = None if wait_ms is None else wait_ms * NS_PER_MS
        self._since_ns: dict[str, int] = {}

    def begin(self, state: EngineState, now_ns: int) -> None:
        """Count every NEXUS with an active signal as gone: after a start of the gateway it has to connect again."""
        peers = (peer for signal_id in state.active for peer in state.signals[signal_id].report_to)
        self._since_ns = {peer: now_ns for peer in peers if peer}

    def note(self, event: LinkEvent, now_ns: int) -> None:
        """Follow the sessions of NEXUS. `now_ns`: steady time."""
        if event.hello.role is not Role.NEXUS:
            return
        if isinstance(event, PeerUp):
            self._since_ns.pop(event.peer, None)
        elif isinstance(event, PeerDown):
            self._since_ns.setdefault(event.peer, now_ns)

    def pop_lost(self, state: EngineState, now_ns: int) -> list[NexusLost]:
        """Return an event for each NEXUS that has been gone for long enough and has working entries.

        Without working entries there is none, and the journal stays small. The wait then begins again: an order whose
        end was presumed wrongly may come back while its NEXUS is still gone.
        """
        if self._wait_ns is None:
            return []
        lost = []
        for peer, since_ns in self._since_ns.items():
            if now_ns - since_ns >= self._wait_ns and next(entries_of(state, peer), None) is not None:
                self._since_ns[peer] = now_ns
                lost.append(NexusLost(peer=peer))
        return lost
