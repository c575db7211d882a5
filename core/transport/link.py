"""One session of a link, as one of its two ends sees it. Pure: bytes in, messages out, time is passed in.

Everything that travels after the hello is numbered from 1 in each direction, heartbeats included. A number that is
missing or comes twice ends the session: both sides then start afresh with a hello and a snapshot, which is always
right, where sending again would need to know what the other side has already acted on. A session also ends when the
peer is silent, or when it talks but does not take in what it is sent (`last_seq_received` stands still): a link that
is connected and mute.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ...shm.durations import NS_PER_MS
from ..errors import GatewayError
from ..messages import Envelope, Heartbeat, Message, MessageError, RejectCode, decode, encode
from .liveness import Liveness

MOST_TOGETHER = 32
"""Envelopes that may travel as the frames of one ZeroMQ message: what belongs together costs one wake-up of the peer,
and is there for one turn of it. Bounded, since a queue counts messages, not frames."""
Ms = Annotated[int, Meta(gt=0, le=86_400_000)]


class LinkTiming(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of a link in ms; both ends should have the same.

    `mute_after_ms`: silence, or messages not taken in, after which the session is given up; too low and a garbage
    collection cuts healthy links. `welcome_within_ms`: how long a hello waits for its answer before it is said anew.
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
    """The session cannot be trusted any more; cut it. `code` is for the refusal that tells the peer."""

    def __init__(self, text: str, code: RejectCode = RejectCode.LINK_DOWN) -> None:
        super().__init__(text)
        self.code = code


class _GlimpseBody(Struct, frozen=True):
    signal_id: str = ""
    client_order_id: str = ""


class Glimpse(Struct, frozen=True):
    """What can still be read of a message that was refused: enough to name it in the answer."""

    seq: int = -1
    body: _GlimpseBody = _GlimpseBody()


_glimpse_decoder = msgspec.msgpack.Decoder(Glimpse)


def glimpse(data: bytes) -> Glimpse:
    """Number and ids of a refused message, as far as they can be read. Never raises."""
    try:
        return _glimpse_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Glimpse()


class Link:
    """State of one session. Times are monotonic ns, except the stamps in envelopes, which are UTC ns.

    Attributes:
        liveness: the session's sequence numbers and silence.
    """

    def __init__(self, sender: str, timing: LinkTiming, now_ns: int) -> None:
        self.sender = sender
        self.liveness = Liveness(timing.heartbeat_ms, timing.mute_after_ms, now_ns)

    def frame(self, body: Message, now_ns: int, utc_ns: int) -> bytes:
        """Number a message and make its bytes. It counts as sent."""
        envelope = Envelope(
            sender=self.sender,
            seq=self.liveness.number_sent(now_ns),
            body=body,
            last_seq_received=self.liveness.last_seq_received,
            sent_ns=utc_ns,
        )
        return encode(envelope)

    def frame_heartbeat(self, now_ns: int, utc_ns: int, platform_up: bool = True, last_data_ns: int = 0) -> bytes:
        """The next heartbeat's bytes; the one after it is due a heartbeat later."""
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
            self._count_received(glimpse(data).seq, now_ns)
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
        """Whether a heartbeat is due. Call it regularly, after everything that has arrived was received.

        Raises:
            LinkFault: the peer is unresponsive.
        """
        live = self.liveness
        live.note_check(now_ns)
        silent_ms, limit_ms = live.silent_ns(now_ns) // NS_PER_MS, live.limit_ns // NS_PER_MS
        if live.silent_ns(now_ns) > live.limit_ns:
            raise LinkFault(f"nothing heard for {silent_ms} ms, limit {limit_ms}")
        if live.unanswered_ns(now_ns) > live.limit_ns:
            raise LinkFault(f"message {live.probe_seq} was not taken in within {limit_ms} ms: the peer does not read")
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
