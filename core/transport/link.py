"""One session of a link, as one of its two ends sees it. Pure: bytes in, messages out, time is passed in.

All messages of a session are numbered from 1 in each direction, hello and heartbeats included. A sequence gap or a
repetition ends the session: both sides then start afresh with a hello and a snapshot. There is no resend: it would need
to know which messages the other side has already acted on, and the snapshot is right in any case.
A session also ends when its peer is unresponsive: it is silent, or it sends but does not read (its `last_seq_received`
stands still). A connection that swallows messages is found by the second.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ...shm.durations import NS_PER_MS
from ..errors import GatewayError
from ..messages import Envelope, Heartbeat, Message, MessageError, RejectCode, decode, encode
from .liveness import Liveness

MAX_ENVELOPES_PER_MESSAGE = 32
"""Most envelopes in one ZeroMQ message, one a frame. Events of one turn are sent as one message: it wakes the peer
once, and the peer handles them all in one turn. Bounded, since ZeroMQ bounds its queues by messages, not by frames."""
Ms = Annotated[int, Meta(gt=0, le=86_400_000)]


class LinkTiming(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of a link in ms; both ends should have the same.

    `mute_after_ms`: silence, or time without an acknowledgement, after which the peer is unresponsive and the session
    ends; set too low, a garbage collection cuts healthy links. `welcome_within_ms`: how long a hello waits for its
    answer before it is sent again on a new connection.
    """

    heartbeat_ms: Ms = 500
    mute_after_ms: Ms = 2_000
    welcome_within_ms: Ms = 5_000
    backoff_first_ms: Ms = 100
    backoff_max_ms: Ms = 5_000

    def __post_init__(self) -> None:
        if self.mute_after_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"mute_after_ms was {self.mute_after_ms}, must be at least twice heartbeat_ms {self.heartbeat_ms}; "
                "else one late heartbeat cuts the link"
            )
        if self.backoff_max_ms < self.backoff_first_ms:
            raise ValueError(
                f"backoff_max_ms was {self.backoff_max_ms}, must be at least backoff_first_ms {self.backoff_first_ms}"
            )


class LinkFault(GatewayError):
    """The session cannot be trusted any more and must be cut. `code` goes into the refusal that the peer is sent."""

    def __init__(self, text: str, code: RejectCode = RejectCode.LINK_DOWN) -> None:
        super().__init__(text)
        self.code = code


class _BodyIds(Struct, frozen=True):
    signal_id: str = ""
    client_order_id: str = ""


class EnvelopeIds(Struct, frozen=True):
    """Number and ids of a message that was refused: enough to name it in the answer. -1 and "" = not readable."""

    seq: int = -1
    last_seq_received: int = -1
    body: _BodyIds = _BodyIds()


_ids_decoder = msgspec.msgpack.Decoder(EnvelopeIds)


def peek_ids(data: bytes) -> EnvelopeIds:
    """Read number and ids of a message that does not decode, as far as possible. Never raises."""
    try:
        return _ids_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return EnvelopeIds()


class Link:
    """State of one session. Times are monotonic ns, except the stamps in envelopes, which are UTC ns.

    Attributes:
        liveness: the session's sequence numbers and silence.
    """

    def __init__(self, sender: str, timing: LinkTiming, now_ns: int) -> None:
        self.sender = sender
        self.liveness = Liveness(timing.heartbeat_ms, timing.mute_after_ms, now_ns)

    def frame(self, body: Message, now_ns: int, utc_ns: int) -> bytes:
        """Number a message and encode it. It counts as sent."""
        envelope = Envelope(
            sender=self.sender,
            seq=self.liveness.number_sent(now_ns),
            body=body,
            last_seq_received=self.liveness.last_seq_received,
            sent_ns=utc_ns,
        )
        return encode(envelope)

    def frame_heartbeat(self, now_ns: int, utc_ns: int, platform_up: bool = True, last_data_ns: int = 0) -> bytes:
        """Number and encode a heartbeat; the next one is due an interval later."""
        self.liveness.heartbeat_sent(now_ns)
        heartbeat = Heartbeat(
            last_seq_sent=self.liveness.last_seq_sent + 1,
            last_seq_received=self.liveness.last_seq_received,
            platform_up=platform_up,
            last_data_ns=last_data_ns,
        )
        return self.frame(heartbeat, now_ns, utc_ns)

    def receive(self, data: bytes, now_ns: int) -> Message:
        """Decode and count the peer's next message.

        Raises:
            MessageError: this one is bad, and nothing was lost: refuse it and go on.
            LinkFault: messages were lost or repeated; cut the link.
        """
        try:
            envelope = decode(data)
        except MessageError:
            # A message that cannot be read but carries the expected number is no gap: refusing it is enough.
            ids = peek_ids(data)
            self._count_received(ids.seq, now_ns)
            # It has been read by a peer that reads: one that says much that is refused is not cut as one that does not.
            if self.liveness.last_seq_acknowledged <= ids.last_seq_received <= self.liveness.last_seq_sent:
                self.liveness.acknowledge(ids.last_seq_received, now_ns)
            raise
        self._count_received(envelope.seq, now_ns)
        live = self.liveness
        if not live.last_seq_acknowledged <= envelope.last_seq_received <= live.last_seq_sent:
            raise LinkFault(
                f"the peer says that it has received message {envelope.last_seq_received}, must lie between "
                f"{live.last_seq_acknowledged} and {live.last_seq_sent}; it mixes two sessions up",
                RejectCode.MALFORMED,
            )
        live.acknowledge(envelope.last_seq_received, now_ns)
        return envelope.body

    def check(self, now_ns: int) -> bool:
        """Return whether a heartbeat is due. Call it regularly, after all messages that have arrived were received.

        Raises:
            LinkFault: the peer is unresponsive.
        """
        live = self.liveness
        live.note_check(now_ns)
        silent_ms, limit_ms = live.silent_ns(now_ns) // NS_PER_MS, live.limit_ns // NS_PER_MS
        if live.silent_ns(now_ns) > live.limit_ns:
            raise LinkFault(f"nothing received for {silent_ms} ms, limit {limit_ms}")
        if live.unanswered_ns(now_ns) > live.limit_ns:
            raise LinkFault(
                f"message {live.probe_seq} was not acknowledged within {limit_ms} ms: the peer does not read"
            )
        return now_ns >= live.heartbeat_due_ns

    @property
    def due_ns(self) -> int:
        """When `check` is needed next, monotonic ns."""
        return self.liveness.heartbeat_due_ns

    def _count_received(self, seq: int, now_ns: int) -> None:
        if not self.liveness.number_received(seq):
            expected = self.liveness.last_seq_received + 1
            raise LinkFault(f"message {expected} was expected, was {seq}: messages were lost or repeated")
        self.liveness.note_received(now_ns)
