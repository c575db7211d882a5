"""`python -m benchmarks.bridge_path`: from a bridge's socket into the ring, on to a reader; beside bare loopback TCP.

Throughput: one core runs the adapter as it is (session, checks, ring, board), the other sends frames made beforehand.
Latency: the process that sends a tick is also the one that reads the ring, so both stamps are of one clock; the
adapter is the other process. Bare TCP is half of a round trip of the same 72 bytes. Each figure checks its own answer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from nexus_gateway.adapters.bridge import messages as bm
from nexus_gateway.adapters.bridge.adapter import BRIDGE_COUNTERS, BridgeAdapter
from nexus_gateway.adapters.bridge.frames import MESSAGE, TICKS, FrameBuffer, pack_frame
from nexus_gateway.adapters.bridge.session import prove
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.core import messages as m
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import empty_ticks

from benchmarks import machine
from benchmarks.between_processes import Percentiles, folder

TOKEN = "0123456789abcdef-of-the-benchmark"
CAPACITY = 1 << 13
CHUNK_TICKS = 1 << 16
SYMBOL = Symbol(1, "NQ", "NQZ26")


class Bridge:
    """The smallest bridge that an adapter accepts."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sent = 0
        self._ticks_sent = 0

    def accept(self) -> None:
        """Accept the adapter and answer its login and subscription."""
        self._socket, _ = self._listener.accept()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = FrameBuffer()
        nonce = "00" * 16
        self._say(bm.Challenge(nonce=nonce, platform="sim", bridge="benchmark", bridge_version="1", boot_id="1"))
        login = self._receive().body
        hello = bm.BridgeHello(
            proof=prove(TOKEN, "bridge", login.nonce, nonce),
            platform_version="1",
            accounts=(bm.BridgeAccount(name="none", mode=m.AccountMode.NETTING, currency="USD"),),
            capabilities=m.Capabilities(order_types=(), times_in_force=()),
            data_up=True,
            orders_up=True,
            login_sent_ns=login.sent_ns,
            login_received_ns=login.sent_ns,
            sent_ns=login.sent_ns,
        )
        self._say(hello)
        while not isinstance((subscribe := self._receive()).body, bm.Subscribe):
            pass
        (wanted,) = subscribe.body.symbols
        instrument = m.Instrument(symbol=wanted.symbol, platform_symbol=wanted.platform_symbol)
        answer = bm.SubscribedSymbol(symbol_id=wanted.symbol_id, accepted=True, instrument=instrument)
        self._say(bm.Subscribed(subscribe_seq=subscribe.seq, symbols=(answer,)))

    def send(self, data: bytes, ticks: int) -> None:
        self._socket.sendall(data)
        self._ticks_sent += ticks

    def beat(self) -> None:
        """Send the heartbeats that the adapter expects."""
        while select.select([self._socket], (), (), 0)[0]:
            if not self._socket.recv(1 << 16):
                break
        self._say(bm.BridgeHeartbeat(sent_ns=1, last_seq_received=0, ticks_sent=self._ticks_sent))

    def close(self) -> None:
        """Call it after the adapter has ended: with its heartbeats unread, TCP would drop the last frames."""
        self._socket.shutdown(socket.SHUT_WR)
        while self._socket.recv(1 << 16):
            pass
        self._socket.close()
        self._listener.close()

    def _say(self, body: Any) -> None:
        self._sent += 1
        self._socket.sendall(pack_frame(MESSAGE, bm.encode_message(bm.BridgeEnvelope(seq=self._sent, body=body))))

    def _receive(self) -> Any:
        while (payload := self._buffer.pop_message()) is None:
            self._buffer.received(self._socket.recv_into(self._buffer.space()))
        return bm.decode_from_adapter(payload)


@contextlib.contextmanager
def adapter(path: Path, port: int) -> Any:
    """A connected and subscribed adapter with its ring."""
    page = CountersPage.create(path, "sim", (*COUNTERS, *BRIDGE_COUNTERS))
    feed = TickFeed(path, "sim", Platform.SIM, page, capacity=CAPACITY, board_rows=64)
    token = path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    made = BridgeAdapter(feed, {"port": port, "token_file": str(token), "timing": {"mute_after_ms": 60_000}})
    made.connect()
    made.subscribe([SYMBOL])
    try:
        yield made
    finally:
        made.close()
        feed.close()
        page.close()


def numbered_ticks(count: int) -> Any:
    ticks = empty_ticks(count)
    ticks["symbol"], ticks["flags"] = SYMBOL.id, int(TickFlag.BID | TickFlag.ASK)
    ticks["ts_event_ns"] = time.time_ns() + np.arange(count)
    ticks["bid"], ticks["ask"] = np.arange(count), np.arange(count) + 0.25
    return ticks


def _pour(bridge: Bridge, frame_ticks: int, chunks: int) -> None:
    ticks = numbered_ticks(CHUNK_TICKS)
    starts = range(0, CHUNK_TICKS, frame_ticks)
    data = b"".join(pack_frame(TICKS, ticks[start : start + frame_ticks].tobytes()) for start in starts)
    bridge.accept()
    for _ in range(chunks):
        bridge.send(data, CHUNK_TICKS)
    bridge.close()


def ticks_per_second(frame_ticks: int, chunks: int) -> float:
    """Ticks a second from the socket into the ring, on one core."""
    bridge, total = Bridge(), chunks * CHUNK_TICKS
    with folder() as name, machine.partner(_pour, bridge, frame_ticks, chunks):
        path = Path(name)
        with adapter(path, bridge.port) as made:
            writer = made.feed.writer
            while not writer.tail:
                made.poll(1.0)
            first, begun = writer.tail, time.perf_counter()
            while writer.tail < total:
                made.poll(1.0)
            took_s = time.perf_counter() - begun
            out, reader = empty_ticks(CAPACITY), TickReader(path, "sim", start="oldest")
            kept = out[: reader.drain(out)]
            _expect((writer.tail, made.feed.counters.values()["bridge_ticks_refused"]), (total, 0))
            _expect(kept["bid"].tolist(), np.arange(CHUNK_TICKS - len(kept), CHUNK_TICKS).tolist())
    return (total - first) / took_s


def _adapt(path: Path, port: int, ticks: int) -> None:
    with adapter(path, port) as made:
        while made.feed.writer.tail < ticks:
            made.poll(1.0)


def bridge_to_reader(ticks: int, pause_s: float) -> Percentiles:
    """Nanoseconds from before a bridge's send until a reader of the ring has the tick; one tick at a time."""
    bridge = Bridge()
    with folder() as name, machine.partner(_adapt, Path(name), bridge.port, ticks):
        bridge.accept()
        reader = _attach(Path(name))
        record, seen, took_ns = numbered_ticks(1), empty_ticks(1), np.zeros(ticks)
        for i in range(ticks):
            time.sleep(pause_s)
            if i % 2000 == 0:
                bridge.beat()
            record["bid"] = i
            record["ts_event_ns"] = time.time_ns()
            data = pack_frame(TICKS, record.tobytes())
            before_ns = time.perf_counter_ns()
            bridge.send(data, 1)
            while not reader.drain(seen):
                pass
            took_ns[i] = time.perf_counter_ns() - before_ns
            _expect(float(seen["bid"][0]), float(i))
        bridge.close()
    return Percentiles.of(took_ns)


def _echo(listener: socket.socket, rounds: int) -> None:
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(rounds):
        connection.sendall(connection.recv(72))


def bare_tcp(rounds: int, pause_s: float) -> Percentiles:
    """Half of a round trip of 72 bytes over loopback TCP, blocking reads on both sides, with the same pauses."""
    listener = socket.create_server(("127.0.0.1", 0))
    with machine.partner(_echo, listener, rounds):
        connection = socket.create_connection(listener.getsockname())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        half_ns = np.zeros(rounds)
        for i in range(rounds):
            time.sleep(pause_s)
            payload = i.to_bytes(8, "little") + bytes(64)
            before_ns = time.perf_counter_ns()
            connection.sendall(payload)
            echo = connection.recv(72)
            half_ns[i] = (time.perf_counter_ns() - before_ns) / 2
            _expect(echo, payload)
        connection.close()
    listener.close()
    return Percentiles.of(half_ns)


def _attach(path: Path) -> TickReader:
    while True:
        try:
            return TickReader(path, "sim", start="first")
        except SegmentError:
            time.sleep(0.001)


def _expect(was: object, wanted: object) -> None:
    if was != wanted:
        raise RuntimeError(f"the benchmark's own check failed: was {str(was)[:200]}, wanted {str(wanted)[:200]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bridge_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; the best median is shown")
    parser.add_argument("--ticks", type=int, default=12_000, help="of each latency round")
    chosen = parser.parse_args()
    first, second = machine.cores_at_start
    print(machine.describe())
    print(
        f"pinned to cores {first} and {second}; load {os.getloadavg()[0]:.1f}; ring of {CAPACITY} slots, with board\n"
    )
    print("socket to ring, one core          M ticks/s")
    for frame_ticks in (1, 16, 256):
        rates = [ticks_per_second(frame_ticks, 100) for _ in range(chosen.rounds)]
        print(
            f"  frames of {frame_ticks:<4} ticks {'best, worst':>16} {max(rates) / 1e6:>8.1f} {min(rates) / 1e6:>7.1f}"
        )
    print(f"\n{'one way, ns, a tick each 100 us':<34} {'p50':>8} {'p99':>9} {'p99.9':>9} {'max':>10}")
    for label, measure in (("bridge -> ring -> reader", bridge_to_reader), ("bare loopback TCP", bare_tcp)):
        taken = min((measure(chosen.ticks, 0.0001) for _ in range(chosen.rounds)), key=lambda each: each.p50)
        print(f"{label:<34} {taken.p50:>8.0f} {taken.p99:>9.0f} {taken.p999:>9.0f} {taken.max:>10.0f}")


if __name__ == "__main__":
    main()
