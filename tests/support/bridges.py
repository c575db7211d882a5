"""An adapter in this process with its ring, and what it is put against: the reference bridge, or a liar."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nexus_gateway.adapters.base import LinkLostError
from nexus_gateway.adapters.bridge.adapter import BRIDGE_COUNTERS, BridgeAdapter
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.adapters.paper.adapter import PAPER_COUNTERS
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.adapters.waiting import wait_readable
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import convert_settings
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import Platform, TickArray
from nexus_gateway.shm.writer import empty_ticks

from tests.reference_bridge import vectors, wire
from tests.reference_bridge.paper_platform import PaperPlatform, describe_nq
from tests.reference_bridge.server import BridgeServer
from tests.support.patience import patient

TOKEN = vectors.TOKEN
NQ = Symbol(3, "NQ", "NQZ26", 0.25)
FAST = {"heartbeat_ms": 50, "mute_after_ms": 5000, "command_timeout_ms": 300}
PATIENCE_S = 20.0
RING_SLOTS = 1 << 16


class Desk:
    """Where the adapter reports to. `ticks_before`: how many ticks were published before each event."""

    def __init__(self, feed: TickFeed) -> None:
        self.events: list[Any] = []
        self.ticks_before: list[int] = []
        self._feed = feed

    def report(self, event: Any) -> None:
        self.events.append(event)
        self.ticks_before.append(self._feed.writer.tail)

    def wait(self, timeout_s: float, sockets: Any) -> bool:
        return wait_readable(timeout_s, sockets, None)


class Bench:
    """An adapter, its feed, its desk."""

    def __init__(
        self,
        folder: Path,
        port: int,
        *,
        adapter_class: type[BridgeAdapter] = BridgeAdapter,
        platform: Platform = Platform.NT8,
        **settings: Any,
    ) -> None:
        token_file = folder / "bridge.token"
        if not token_file.exists():
            token_file.touch(0o600)
            token_file.write_text(TOKEN)
        name = platform.key
        self.page = CountersPage.create(folder, name, (*COUNTERS, *PAPER_COUNTERS, *BRIDGE_COUNTERS))
        self.feed = TickFeed(folder, name, platform, self.page, capacity=RING_SLOTS, board_rows=64)
        self.reader = TickReader(folder, name, start="oldest")
        base = {"port": port, "token_file": str(token_file), "names": {"NQ": "NQ 12-26"}, "timing": FAST}
        self.adapter = adapter_class(self.feed, base | {"answer_timeout_s": 2.0, "snapshot_timeout_s": 0.2} | settings)
        self.desk = Desk(self.feed)
        self.adapter.orders = self.desk

    def open(self, *symbols: Symbol) -> m.Snapshot:
        """Connect, subscribe, first snapshot, as the base does."""
        self.adapter.connect()
        self.adapter.subscribe(symbols or (NQ,))
        return self.snapshot()

    def snapshot(self) -> m.Snapshot:
        assert self.adapter.account is not None
        return self.adapter.snapshot(
            m.SnapshotRequest(request_id=77, platform=self.feed.name, account=self.adapter.account.name)
        )

    def until(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + patient(PATIENCE_S)
        while (value := condition()) is None or value is False or (not hasattr(value, "shape") and not value):
            assert time.monotonic() < deadline, f"never came; events {self.desk.events[-5:]}"
            self.adapter.poll(0.005)
        return value

    def until_lost(self) -> str:
        """Until the session is over; why."""
        try:
            self.until(lambda: False)
        except LinkLostError as error:
            return str(error)
        raise AssertionError("unreachable")

    def meet(self, condition: Callable[[], Any] = lambda: False) -> str:
        """Open a session and keep it until it is over, or the condition holds; why it was over.

        A lie may come at once, before `open` is done.
        """
        try:
            self.open()
            self.until(condition)
        except LinkLostError as error:
            return str(error)
        return ""

    def listen(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.adapter.poll(0.005)

    def ticks(self) -> TickArray:
        """Those that have come since the last call."""
        out = empty_ticks(RING_SLOTS)
        return out[: self.reader.drain(out)]

    def ticks_or_none(self) -> TickArray | None:
        """`ticks`, None when there are none."""
        ticks = self.ticks()
        return ticks if len(ticks) else None

    def count(self, name: str) -> int:
        return self.page.values()[name]

    def close(self) -> None:
        self.adapter.close()
        self.feed.close()
        self.page.close()


@contextlib.contextmanager
def reference_bridge(
    key: str = "nt8", names: Mapping[str, m.Instrument] | None = None, **settings: Any
) -> Iterator[tuple[PaperPlatform, BridgeServer]]:
    """The paper platform and its bridge. `names`: its instruments, None = NQ."""
    paper = convert_settings(PaperSettings, {"rehearse": True, **settings}, "test")
    platform = PaperPlatform(key, paper, names or {"NQ 12-26": describe_nq(), "NQ 03-27": describe_nq()})
    server = platform.server = BridgeServer(platform, TOKEN)
    try:
        yield platform, server
    finally:
        platform.server = None
        server.stop()
        platform.close()


class Liar:
    """A bridge that begins well and then does what `deed` does with its socket. One connection after another.

    Attributes:
        connections: how many have come.
        wanted: the symbols of the newest subscription.
    """

    def __init__(self, deed: Callable[[Liar, socket.socket], None], *, greet: bool = True) -> None:
        self.connections = 0
        self.seq = 0
        self.wanted: list[dict[str, Any]] = []
        self._deed = deed
        self._greet = greet
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, connection: socket.socket, kind: str, **changes: Any) -> None:
        body = next(body for _, body in vectors.FROM_BRIDGE if body["type"] == kind) | changes
        self.seq += 1
        connection.sendall(wire.pack_message(self.seq, body))

    def hear(self, connection: socket.socket, kind: str) -> tuple[int, dict[str, Any]]:
        """Number and body of the next message of this kind."""
        while True:
            for _, payload in self._frames.feed(connection.recv(1 << 16)):
                self._heard += 1
                body = wire.unpack_message(payload, self._heard)
                if body["type"] == kind:
                    return self._heard, body

    def greet(self, connection: socket.socket) -> None:
        """Up to the answered subscription and an empty snapshot."""
        self.say(connection, "challenge")
        _, login = self.hear(connection, "login")
        proof = wire.prove(TOKEN, "bridge", login["nonce"], vectors.BRIDGE_NONCE)
        self.say(connection, "hello", proof=proof)
        number, subscribe = self.hear(connection, "subscribe")
        self.wanted = subscribe["symbols"]
        instrument = vectors.INSTRUMENT
        answers = [
            {"symbol_id": each["symbol_id"], "accepted": True, "instrument": instrument, "tradable": True}
            for each in subscribe["symbols"]
        ]
        self.say(connection, "subscribed", subscribe_seq=number, symbols=answers)
        self.answer_snapshot(connection)

    def answer_snapshot(self, connection: socket.socket, **changes: Any) -> None:
        _, request = self.hear(connection, "snapshot_request")
        self.say(connection, "snapshot", request_id=request["request_id"], **changes)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(patient(PATIENCE_S))
        for connection in self._open:
            connection.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            self.connections += 1
            self.seq = self._heard = 0
            self._frames = wire.FrameReader()
            with contextlib.suppress(OSError, wire.Breach):
                if self._greet:
                    self.greet(connection)
                self._deed(self, connection)


def tick_frame(*bids: float, symbol_id: int = NQ.id, **changes: Any) -> bytes:
    """One frame of quotes at these bids, happening now."""
    now_ns = time.time_ns()
    ticks = [
        wire.Tick(symbol_id, now_ns, wire.BID | wire.ASK, bid, bid + 0.25, bid_size=1, ask_size=1)._replace(**changes)
        for bid in bids
    ]
    return wire.pack_ticks([wire.pack_tick(tick) for tick in ticks])
