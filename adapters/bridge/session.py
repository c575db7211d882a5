"""Protocol state of one connection with a bridge: greeting, numbers, heartbeats, commands. No sockets, no clock.

Bytes to send are collected in `outgoing`; received messages go to `receive`. A breach of the protocol, silence, or a
bridge that sends but does not read ends the session; the next one begins with a snapshot. `ClockOffset` measures how
far the bridge's clock is ahead of ours.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from typing import Annotated, Final

from msgspec import Meta, Struct

from ...core.messages import Cancel, Flatten, Replace
from ...core.transport.liveness import Liveness
from ...shm.durations import NS_PER_MS
from ...shm.steps import STEP_NS
from .frames import MESSAGE, FrameError, pack_frame
from .messages import (
    Ack,
    AdapterEnvelope,
    AdapterHeartbeat,
    BridgeHeartbeat,
    BridgeHello,
    Busy,
    Challenge,
    Error,
    FromBridge,
    Login,
    Notice,
    Place,
    ToBridge,
    decode_from_bridge,
    encode_message,
)

_Ms = Annotated[int, Meta(ge=10, le=600_000)]


class BridgeTiming(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time limits of a session.

    `mute_after_ms`: the session ends after so long without any bytes, or with a message that the bridge does not read.
    `command_timeout_ms`: the outcome of a command without an ack counts as unknown after this time.
    """

    heartbeat_ms: _Ms = 1_000
    mute_after_ms: _Ms = 5_000
    command_timeout_ms: _Ms = 10_000

    def __post_init__(self) -> None:
        if self.mute_after_ms < 2 * self.heartbeat_ms:
            raise ValueError(
                f"mute_after_ms was {self.mute_after_ms}, must be at least twice heartbeat_ms {self.heartbeat_ms}; "
                "else one late heartbeat cuts the link"
            )


def prove(token: str, side: str, first_nonce: str, second_nonce: str) -> str:
    """Return `mac` of PROTOCOL.md 3.1, which proves knowledge of the token; `side`: adapter or bridge."""
    return hmac.new(token.encode(), f"{side}|{first_nonce}|{second_nonce}".encode(), hashlib.sha256).hexdigest()


class BridgeSession:
    """State of one connection. `now_ns` is monotonic, `utc_ns` the wall clock.

    Attributes:
        outgoing: bytes to be sent; whoever sends takes them away.
        hello: the bridge's, once the session is open.
        heartbeat: the bridge's newest.
        clock: of the bridge.
        liveness: the session's sequence numbers and silence.
        unanswered: commands so far whose outcome counts as unknown.
    """

    def __init__(self, platform: str, token: str, nonce: str, timing: BridgeTiming, now_ns: int) -> None:
        """`nonce`: fresh random hex, 32 digits or more."""
        self.outgoing = bytearray()
        self.hello: BridgeHello | None = None
        self.heartbeat: BridgeHeartbeat | None = None
        self.clock = ClockOffset()
        self.liveness = Liveness(timing.heartbeat_ms, timing.mute_after_ms, now_ns)
        self.unanswered = 0
        self._platform = platform
        self._token = token
        self._nonce = nonce
        self._timing = timing
        self._challenge: Challenge | None = None
        self._busy_until_ns = 0
        self._commands: dict[int, int] = {}  # number -> when it was sent

    @property
    def is_open(self) -> bool:
        return self.hello is not None

    @property
    def challenge(self) -> Challenge | None:
        """The bridge's first message: its program and boot id; None before it has arrived."""
        return self._challenge

    @property
    def pending_commands(self) -> int:
        """Number of commands without an ack that are not timed out."""
        return len(self._commands)

    @property
    def due_ns(self) -> int:
        """When `check` is needed next, monotonic."""
        return self.liveness.heartbeat_due_ns

    def send(self, body: ToBridge, now_ns: int) -> int:
        """Put a message into `outgoing`. Returns its number."""
        seq = self.liveness.number_sent(now_ns)
        if isinstance(body, Place | Cancel | Replace | Flatten):
            self._commands[seq] = now_ns
        self.outgoing += pack_frame(MESSAGE, encode_message(AdapterEnvelope(seq=seq, body=body)))
        return seq

    def note_received(self, now_ns: int) -> None:
        """Bytes have come, whatever they are."""
        self.liveness.note_received(now_ns)

    def is_silent(self, now_ns: int) -> bool:
        """Whether nothing has come for `mute_after_ms`; that ends no session while the bridge has said it is busy."""
        return self.liveness.silent_ns(now_ns) > self.liveness.limit_ns

    def receive(self, payload: bytes, ticks_received: int, now_ns: int, utc_ns: int) -> FromBridge | None:
        """The message in a frame, None when it was for the session alone.

        Args:
            ticks_received: records of this session that came before it.

        Raises:
            FrameError: it is no message, or none that may come now.
        """
        envelope = decode_from_bridge(payload)
        if not self.liveness.number_received(envelope.seq):
            expected = self.liveness.last_seq_received + 1
            raise FrameError(f"message {expected} was expected, was {envelope.seq}: messages were lost or repeated")
        body = envelope.body
        if self._busy_until_ns:
            # While it was busy it could not read; whether it does is measured from here on.
            self.liveness.restart_probe(min(now_ns, self._busy_until_ns))
            self._busy_until_ns = 0
        if isinstance(body, Busy):
            self._busy_until_ns = now_ns + body.for_ms * NS_PER_MS
            return None
        if isinstance(body, Notice | Error):
            return body
        if self.hello is None:
            return self._greet(body, now_ns, utc_ns)
        if isinstance(body, BridgeHeartbeat):
            self._apply_heartbeat(body, ticks_received, now_ns, utc_ns)
            return None
        if isinstance(body, Ack):
            if not 0 < body.command_seq <= self.liveness.last_seq_sent:
                raise FrameError(f"ack for command {body.command_seq}, the newest was {self.liveness.last_seq_sent}")
            self._commands.pop(body.command_seq, None)  # a late one was given up already
            return None
        if isinstance(body, Challenge | BridgeHello):
            raise FrameError(f"{type(body).__struct_config__.tag} came a second time")
        return body

    def check(self, ticks_received: int, now_ns: int, utc_ns: int) -> None:
        """Heartbeats and time-outs. Call it regularly, after everything that has arrived was taken.

        Raises:
            FrameError: the bridge is unresponsive, or does not read what is sent to it.
        """
        live = self.liveness
        live.note_check(now_ns)
        # The end of the time for which the bridge said it is busy counts as received and as an acknowledgement.
        excused_ns = now_ns - self._busy_until_ns
        if min(live.silent_ns(now_ns), excused_ns) > live.limit_ns:
            raise FrameError(f"nothing heard of the bridge for {live.silent_ns(now_ns) // NS_PER_MS} ms")
        if self.hello is None:
            return
        if min(live.unanswered_ns(now_ns), excused_ns) > live.limit_ns:
            raise FrameError(
                f"message {live.probe_seq} was not taken in for {live.unanswered_ns(now_ns) // NS_PER_MS} ms: "
                "the bridge does not listen"
            )
        timeout_ns = self._timing.command_timeout_ms * NS_PER_MS
        for seq in [seq for seq, sent_ns in self._commands.items() if now_ns - sent_ns > timeout_ns]:
            del self._commands[seq]
            self.unanswered += 1
        if now_ns >= live.heartbeat_due_ns:
            live.heartbeat_sent(now_ns)
            beat = AdapterHeartbeat(
                sent_ns=utc_ns, last_seq_received=live.last_seq_received, ticks_received=ticks_received
            )
            self.send(beat, now_ns)

    def _greet(self, body: FromBridge, now_ns: int, utc_ns: int) -> FromBridge:
        if self._challenge is None:
            if not isinstance(body, Challenge):
                raise FrameError(f"{type(body).__struct_config__.tag} came before challenge")
            if body.platform != self._platform:
                raise FrameError(
                    f"the bridge was for {body.platform!r}, must be for {self._platform!r}; correct settings.port"
                )
            self._challenge = body
            login = Login(
                nonce=self._nonce,
                proof=prove(self._token, "adapter", body.nonce, self._nonce),
                platform=self._platform,
                heartbeat_ms=self._timing.heartbeat_ms,
                mute_after_ms=self._timing.mute_after_ms,
                sent_ns=utc_ns,
            )
            self.send(login, now_ns)
            return body
        if not isinstance(body, BridgeHello):
            raise FrameError(f"{type(body).__struct_config__.tag} came before hello")
        wanted = prove(self._token, "bridge", self._nonce, self._challenge.nonce)
        if not hmac.compare_digest(body.proof, wanted):
            raise FrameError("the peer at this port does not know the token; is it really the bridge?")
        self.clock.add(body.login_sent_ns, body.login_received_ns, body.sent_ns, utc_ns)
        self.hello = body
        # A bridge acknowledges by heartbeats, and sends none before its hello: the login was not to be measured.
        self.liveness.drop_probe()
        return body

    def _apply_heartbeat(self, beat: BridgeHeartbeat, ticks_received: int, now_ns: int, utc_ns: int) -> None:
        if beat.ticks_sent != ticks_received:
            raise FrameError(f"the bridge says that it has sent {beat.ticks_sent} ticks, {ticks_received} have come")
        if self.heartbeat is not None and beat.ticks_dropped < self.heartbeat.ticks_dropped:
            raise FrameError(f"ticks_dropped was {beat.ticks_dropped} after {self.heartbeat.ticks_dropped}")
        newest = self.liveness.last_seq_sent
        if beat.last_seq_received > newest:
            raise FrameError(f"the bridge has received message {beat.last_seq_received}, the newest is {newest}")
        self.heartbeat = beat
        self.liveness.acknowledge(beat.last_seq_received, now_ns)
        if beat.echo_sent_ns:
            self.clock.add(beat.echo_sent_ns, beat.echo_received_ns, beat.sent_ns, utc_ns)


_SAMPLES: Final = 16


class ClockOffset:
    """Offset of the bridge's clock, from the exchange with the shortest round trip among the newest ones: it has the
    smallest error.

    Attributes:
        offset_ns: bridge's clock minus ours; 0 before the first sample.
        round_trip_ns: of the sample that was used; the error of the offset is at most half of it.
    """

    def __init__(self) -> None:
        self.offset_ns = 0
        self.round_trip_ns = 0
        self._samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES)

    def add(self, sent_ns: int, bridge_received_ns: int, bridge_sent_ns: int, received_ns: int) -> None:
        """Add one exchange: our times of sending and receiving by our clock, the bridge's by its own."""
        round_trip_ns = (received_ns - sent_ns) - (bridge_sent_ns - bridge_received_ns)
        if round_trip_ns < 0:
            return  # a clock was adjusted meanwhile
        offset_ns = ((bridge_received_ns - sent_ns) + (bridge_sent_ns - received_ns)) // 2
        if abs(offset_ns - self.offset_ns) > (round_trip_ns + self.round_trip_ns) // 2 + STEP_NS:
            self._samples.clear()  # a clock was set: with the older offset, orders would be refused as too late
        self._samples.append((round_trip_ns, offset_ns))
        self.round_trip_ns, self.offset_ns = min(self._samples)

    def latest_at_bridge(self, utc_ns: int) -> int:
        """Convert our time to the bridge's clock; when in doubt the result is too early, never too late. 0 stays 0."""
        return max(utc_ns + self.offset_ns - self.round_trip_ns // 2, 1) if utc_ns else 0
