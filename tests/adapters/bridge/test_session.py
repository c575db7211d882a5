"""The session with a bridge without sockets or clocks: greeting, numbers, heartbeats, silence, clocks."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from nexus_gateway.adapters.bridge import messages as bm
from nexus_gateway.adapters.bridge.frames import FrameBuffer, FrameError
from nexus_gateway.adapters.bridge.orders import make_command, make_place
from nexus_gateway.adapters.bridge.session import BridgeSession, BridgeTiming, ClockOffset, prove
from nexus_gateway.adapters.bridge.snapshots import check_snapshot, make_incomplete_snapshot
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages.order_id import LENGTH, OLD_LENGTH
from nexus_gateway.shm.durations import NS_PER_MS

from tests.reference_bridge import vectors, wire

TIMING = BridgeTiming(heartbeat_ms=100, mute_after_ms=1000, command_timeout_ms=3000)
TOKEN = vectors.TOKEN
MS = NS_PER_MS


class Peer:
    """The bridge's side, and the time."""

    def __init__(self) -> None:
        self.now_ns = 10**12
        self.utc_ns = vectors.T0
        self.session = BridgeSession("nt8", TOKEN, vectors.ADAPTER_NONCE, TIMING, self.now_ns)
        self.seq = 0
        self.ticks = 0
        self._frames = wire.FrameReader()

    def say(self, kind: str, *, seq: int | None = None, **changes: object) -> object:
        """A message like that of the golden vectors, changed."""
        self.seq = self.seq + 1 if seq is None else seq
        body = next(body for _, body in vectors.FROM_BRIDGE if body["type"] == kind) | changes
        payload = wire.pack_message(self.seq, body)[8:]
        self.session.note_received(self.now_ns)
        return self.session.receive(payload, self.ticks, self.now_ns, self.utc_ns)

    def beat(self, **changes: object) -> None:
        values = {"ticks_sent": self.ticks, "last_seq_received": 0, "ticks_dropped": 0, "echo_sent_ns": 0}
        self.say("heartbeat", **(values | changes))

    def wait(self, ms: float) -> None:
        """Time passes in small steps, as in the adapter's loop."""
        end_ns = self.now_ns + int(ms * MS)
        while self.now_ns < end_ns:
            self.now_ns = min(self.now_ns + 20 * MS, end_ns)
            self.utc_ns += 20 * MS
            self.session.check(self.ticks, self.now_ns, self.utc_ns)

    def heard(self) -> list[bm.ToBridge]:
        frames = self._frames.feed(bytes(self.session.outgoing))
        self.session.outgoing.clear()
        return [bm.decode_from_adapter(payload).body for _, payload in frames]

    def open(self) -> Peer:
        self.say("challenge")
        self.say("hello")
        self.heard()
        return self


@pytest.fixture
def peer() -> Peer:
    return Peer()


def test_greeting_is_that_of_the_golden_vectors(peer):
    peer.say("challenge")
    (login,) = peer.heard()
    assert login.proof == vectors.FROM_ADAPTER[0][1]["proof"]
    assert not peer.session.is_open
    hello = peer.say("hello")
    assert peer.session.hello is hello
    assert wire.prove(TOKEN, "bridge", "a", "b") == prove(TOKEN, "bridge", "a", "b")


def test_the_token_does_not_cross_the_wire(peer):
    peer.say("challenge")
    assert TOKEN.encode() not in peer.session.outgoing


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("challenge", {"platform": "bookmap"}, "was for 'bookmap', must be for 'nt8'"),
        ("hello", {}, "hello came before challenge"),
        ("fill", {}, "fill came before challenge"),
        ("heartbeat", {}, "heartbeat came before challenge"),
    ],
)
def test_a_wrong_greeting_ends_the_session(peer, kind, changes, text):
    with pytest.raises(FrameError, match=text):
        peer.say(kind, **changes)


def test_somebody_else_on_the_port_is_not_believed(peer):
    peer.say("challenge")
    with pytest.raises(FrameError, match="does not know the token"):
        peer.say("hello", proof="00" * 32)
    # Nor is our own proof, sent back to us.
    peer = Peer()
    peer.say("challenge")
    (login,) = peer.heard()
    with pytest.raises(FrameError, match="does not know the token"):
        peer.say("hello", proof=login.proof)


def test_a_second_greeting_ends_the_session(peer):
    peer.open()
    with pytest.raises(FrameError, match="challenge came a second time"):
        peer.say("challenge")


@pytest.mark.parametrize("seq", [2, 4, 0, 10**12])
def test_a_gap_or_a_repetition_ends_the_session(peer, seq):
    peer.open()
    with pytest.raises(FrameError, match=f"message 3 was expected, was {seq}"):
        peer.say("fill", seq=seq)


def test_what_the_bridge_counts_must_be_what_came(peer):
    peer.open()
    peer.ticks = 5
    peer.beat()
    with pytest.raises(FrameError, match="has sent 6 ticks, 5 have come"):
        peer.beat(ticks_sent=6)
    peer.beat(ticks_dropped=4)
    with pytest.raises(FrameError, match="ticks_dropped was 3 after 4"):
        peer.beat(ticks_dropped=3)
    with pytest.raises(FrameError, match="has received message 999"):
        peer.beat(ticks_dropped=4, last_seq_received=999)


def test_heartbeats_go_out_at_their_pace_and_say_how_far(peer):
    peer.open()
    for _ in range(10):
        peer.beat(last_seq_received=peer.session.liveness.last_seq_sent)
        peer.wait(100)
    beats = [body for body in peer.heard() if isinstance(body, bm.AdapterHeartbeat)]
    assert 9 <= len(beats) <= 11
    assert beats[-1].last_seq_received == peer.seq


def test_silence_ends_the_session(peer):
    peer.open()
    with pytest.raises(FrameError, match="nothing heard"):
        peer.wait(1200)


def test_a_bridge_that_talks_but_does_not_listen(peer):
    peer.open()

    def talk() -> None:
        for _ in range(30):
            peer.beat(last_seq_received=1)
            peer.wait(100)

    with pytest.raises(FrameError, match="does not listen"):
        talk()


def test_busy_buys_time_once(peer):
    peer.open()
    peer.say("busy", for_ms=60_000)
    peer.wait(60_500)
    peer.beat(last_seq_received=peer.session.liveness.last_seq_sent)
    with pytest.raises(FrameError, match="nothing heard"):
        peer.wait(1200)


def test_what_was_sent_while_it_was_busy_need_not_be_heard_at_once(peer):
    peer.open()
    number = place(peer)
    peer.say("busy", for_ms=60_000)
    peer.wait(5_000)
    peer.say("ack", command_seq=number, handed_over=True)  # its heartbeat comes a moment later
    peer.wait(200)
    peer.beat(last_seq_received=peer.session.liveness.last_seq_sent)
    peer.wait(200)
    place(peer)
    with pytest.raises(FrameError, match="does not listen"):
        talk_on(peer, 1_200)


def test_busy_is_not_for_ever(peer):
    peer.open()
    peer.say("busy", for_ms=5_000)
    with pytest.raises(FrameError, match="nothing heard"):
        peer.wait(6_500)


def test_our_own_sleep_is_not_the_bridges_silence(peer):
    peer.open()
    peer.wait(100)
    peer.now_ns += 3600 * 1000 * MS  # the machine was suspended
    peer.session.check(peer.ticks, peer.now_ns, peer.utc_ns)
    with pytest.raises(FrameError, match="nothing heard"):
        peer.wait(1200)


def place(peer: Peer) -> int:
    command = m.Cancel(client_order_id="x", platform="nt8", account="Sim101", symbol="NQ")
    return peer.session.send(command, peer.now_ns)


def talk_on(peer: Peer, ms: int) -> None:
    for _ in range(ms // 100):
        peer.say("notice", level="info", text="talks on")
        peer.wait(100)


def keep_alive(peer: Peer, ms: int) -> None:
    for _ in range(ms // 100):
        peer.beat(last_seq_received=peer.session.liveness.last_seq_sent)
        peer.wait(100)


def test_a_command_without_an_ack_is_counted_once_and_never_sent_again(peer):
    peer.open()
    answered, lost = place(peer), place(peer)
    peer.say("ack", command_seq=answered)
    assert peer.session.pending_commands == 1
    keep_alive(peer, 5000)
    assert (peer.session.unanswered, peer.session.pending_commands) == (1, 0)
    sent = [body for body in peer.heard() if isinstance(body, m.Cancel)]
    assert len(sent) == 2
    peer.say("ack", command_seq=lost)  # late: no harm
    with pytest.raises(FrameError, match="ack for command 999"):
        peer.say("ack", command_seq=999)


def test_clock_offset_is_that_of_the_shortest_round_trip():
    clock = ClockOffset()
    assert clock.latest_at_bridge(50) == 50
    clock.add(1000, 6000, 6100, 1300)  # 5 us ahead, 200 ns on the way
    assert (clock.offset_ns, clock.round_trip_ns) == (4900, 200)
    clock.add(2000, 9000, 9000, 5000)  # slow: 3000 on the way
    assert clock.offset_ns == 4900
    clock.add(2000, 1000, 9000, 2500)  # impossible: a clock was set
    assert clock.offset_ns == 4900
    assert clock.latest_at_bridge(10_000) == 10_000 + 4900 - 100
    assert clock.latest_at_bridge(0) == 0, "no limit stays no limit"


@pytest.mark.parametrize("step_ns", [-3_600 * 10**9, 3_600 * 10**9])
def test_a_clock_that_was_set_is_measured_anew_at_once(step_ns):
    """Else closing orders would be refused as too late, or let through an hour late, until 16 exchanges have passed."""
    clock, utc_ns = ClockOffset(), 10**18
    clock.add(utc_ns, utc_ns + 5100, utc_ns + 5100, utc_ns + 200)
    utc_ns += step_ns
    clock.add(utc_ns, utc_ns - step_ns + 8000, utc_ns - step_ns + 8000, utc_ns + 6000)
    assert (clock.offset_ns, clock.round_trip_ns) == (5000 - step_ns, 6000)


@pytest.mark.parametrize("length", [LENGTH, OLD_LENGTH])
def test_an_order_carries_its_limit_by_the_bridges_clock_and_names_for_its_children(length):
    clock = ClockOffset()
    clock.add(1000, 6000, 6100, 1300)
    entry = m.Order(
        client_order_id=m.client_order_id(m.signal_key("s"), 2, m.OrderRole.ENTRY, 5, length),
        platform="nt8",
        account="Sim101",
        symbol="NQ",
        contract="NQZ26",
        side=m.Side.BUY,
        quantity=Decimal(1),
        order_type=m.OrderType.MARKET,
        stop_loss=Decimal(17990),
        not_after_ns=10_000,
    )
    made = make_place(entry, clock)
    assert made.order.not_after_ns == 14_800
    assert made.stop_loss_id == m.client_order_id(m.signal_key("s"), 2, m.OrderRole.STOP_LOSS, 5, length)
    assert made.take_profit_id == ""


def test_a_flatten_carries_its_time_limit_by_the_bridges_clock():
    clock = ClockOffset()
    clock.add(100, 5_000, 5_000, 300)
    flatten = m.Flatten(request_id=5, platform="nt8", account="Sim101", not_after_ns=10_000)
    assert make_command(flatten, clock) == msgspec.structs.replace(flatten, not_after_ns=clock.latest_at_bridge(10_000))
    unlimited = msgspec.structs.replace(flatten, not_after_ns=0)
    assert make_command(unlimited, clock) == unlimited
    cancel = m.Cancel(client_order_id="x", platform="nt8", account="Sim101", symbol="NQ")
    assert make_command(cancel, clock) is cancel


def test_a_snapshot_of_another_account_is_a_breach():
    request = m.SnapshotRequest(request_id=1, platform="nt8", account="Sim101")
    snapshot = make_incomplete_snapshot(request)
    parts = (snapshot, snapshot.positions, snapshot.working_orders, snapshot.executions)
    assert not any(part.complete for part in parts)
    check_snapshot(snapshot, "nt8", "Sim101")
    with pytest.raises(FrameError, match=r"of nt8\|Sim101, asked for was nt8\|Live"):
        check_snapshot(snapshot, "nt8", "Live")


def test_timing_that_cuts_healthy_links_is_refused():
    with pytest.raises(ValueError, match="mute_after_ms was 150"):
        BridgeTiming(heartbeat_ms=100, mute_after_ms=150)


def test_ticks_before_hello_are_a_breach():
    buffer = FrameBuffer()
    data = wire.pack_ticks([wire.pack_tick(vectors.TICKS[0])])
    buffer.space()[: len(data)] = data
    buffer.received(len(data))
    with pytest.raises(FrameError, match="ticks came before hello"):
        buffer.pop_message()
