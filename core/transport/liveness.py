"""Sequence numbers and silence of one session: whether its peer still sends, and whether it still reads. Pure.

Shared by the ZeroMQ links (`link.py`) and the bridge sessions (`adapters/bridge/session.py`). Each decides by itself
what a gap or an unresponsive peer means for it, and words the fault; here is only the arithmetic.

A peer that sends heartbeats but reads nothing looks alive, so its acknowledgements are measured too. One message at a
time is the *probe*: the newest one that was sent while none was being measured. It is answered when the peer says that
it has received it. To measure each message would cost a queue, and the oldest unanswered one would be stale anyway
while the peer is busy; one probe finds the same fault at most one limit later.
"""

from __future__ import annotations

from ...shm.durations import NS_PER_MS


class Liveness:
    """All times are monotonic ns. Used by the one thread that owns the session.

    Attributes:
        last_seq_sent: number of the newest message of ours; they count from 1.
        last_seq_received: number of the newest message of the peer's.
        last_seq_acknowledged: the newest of ours that the peer has said it received.
        probe_seq: number of the message whose acknowledgement is measured; 0 = everything is acknowledged.
        heartbeat_due_ns: when the next heartbeat is to be sent.
        limit_ns: silence, or time without the probe's acknowledgement, after which the peer is unresponsive.
    """

    __slots__ = (
        "_checked_ns",
        "_heartbeat_ns",
        "_probe_ns",
        "_received_ns",
        "heartbeat_due_ns",
        "last_seq_acknowledged",
        "last_seq_received",
        "last_seq_sent",
        "limit_ns",
        "probe_seq",
    )

    def __init__(self, heartbeat_ms: int, unresponsive_after_ms: int, now_ns: int) -> None:
        self.last_seq_sent = 0
        self.last_seq_received = 0
        self.last_seq_acknowledged = 0
        self.probe_seq = 0
        self.heartbeat_due_ns = now_ns
        self.limit_ns = unresponsive_after_ms * NS_PER_MS
        self._heartbeat_ns = heartbeat_ms * NS_PER_MS
        self._probe_ns = 0
        self._received_ns = now_ns
        self._checked_ns = now_ns

    def number_sent(self, now_ns: int) -> int:
        """Number the next message of ours; it counts as sent now. It becomes the probe when there is none."""
        self.last_seq_sent += 1
        if not self.probe_seq:
            self.probe_seq, self._probe_ns = self.last_seq_sent, now_ns
        return self.last_seq_sent

    def heartbeat_sent(self, now_ns: int) -> None:
        """Make the next heartbeat due one interval from now."""
        self.heartbeat_due_ns = now_ns + self._heartbeat_ns

    def number_received(self, seq: int) -> bool:
        """Count a message of the peer's. False, and nothing changes, on a sequence gap or a repetition."""
        if seq != self.last_seq_received + 1:
            return False
        self.last_seq_received = seq
        return True

    def note_received(self, now_ns: int) -> None:
        """Something has come from the peer: its silence ends now."""
        self._received_ns = now_ns

    def acknowledge(self, seq: int, now_ns: int) -> None:
        """The peer has received our messages up to `seq`. What was sent behind the probe becomes the next one."""
        self.last_seq_acknowledged = seq
        if self.probe_seq and seq >= self.probe_seq:
            is_behind = seq < self.last_seq_sent
            self.probe_seq, self._probe_ns = (self.last_seq_sent, now_ns) if is_behind else (0, 0)

    def drop_probe(self) -> None:
        """Measure the next message that is sent instead of the present one."""
        self.probe_seq = 0

    def restart_probe(self, now_ns: int) -> None:
        """Measure the present probe from `now_ns` on: before that the peer had said that it cannot read."""
        self._probe_ns = max(self._probe_ns, now_ns)

    def note_check(self, now_ns: int) -> None:
        """Call at each regular check, before `silent_ns` and `unanswered_ns` are asked.

        A check that comes late means that this process itself was stopped (a full disk, a suspended machine). That time
        is no silence of the peer's: counted as such, every link would be cut at each wake-up.
        """
        late_ns = now_ns - self._checked_ns - self._heartbeat_ns
        if late_ns > 0:
            self._received_ns += late_ns
            self._probe_ns += late_ns
        self._checked_ns = now_ns

    def silent_ns(self, now_ns: int) -> int:
        """How long nothing has come from the peer."""
        return now_ns - self._received_ns

    def unanswered_ns(self, now_ns: int) -> int:
        """How long the probe has waited for its acknowledgement; 0 without a probe."""
        return now_ns - self._probe_ns if self.probe_seq else 0
