"""The bridge itself: one listener, one session at a time, one writer with three queues. Standard library only.

A platform is anything with the methods of `Platform`; it hands what happens there to `BridgeServer.send` and
`send_ticks`, from any thread, and is never blocked by a slow adapter.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections import deque
from typing import Any, Protocol

from tests.reference_bridge import wire

LOGIN_WITHIN_S = 5.0
MAX_URGENT = 10_000
CONFLATE_FROM = 2_000
MAX_TICKS = 20_000
TICKS_PER_FRAME = 256

Body = dict[str, Any]


class Platform(Protocol):
    """What the server needs of the platform. Called from the session's reader thread."""

    key: str
    version: str

    def describe(self) -> Body:
        """`accounts`, `capabilities`, `data_up`, `orders_up` of the hello."""

    def subscribe(self, wanted: list[Body]) -> list[Body]:
        """The answer for each wanted symbol; ticks of these and no others from now on."""

    def states(self, symbol_ids: set[int]) -> list[wire.Tick]:
        """The newest tick of each of these symbols that has one."""

    def place(self, place: Body) -> bool:
        """Whether it was handed over; when not, a reject was sent. A known id is repeated, never placed again."""

    def cancel(self, cancel: Body) -> bool:
        """As `place`."""

    def replace(self, replace: Body) -> bool:
        """As `place`."""

    def flatten(self, flatten: Body) -> bool:
        """Cancel all orders and close all positions of the account, those of others too; else as `place`."""

    def snapshot(self, request: Body) -> Body:
        """What is true now; every event that it contains was sent before."""

    def forget(self) -> None:
        """The adapter is gone: no ticks for anybody. Orders stay as they are."""


class BridgeServer:
    """Listens on the loopback until `stop`. `mute`: connected, and not a word any more (for tests)."""

    def __init__(self, platform: Platform, token: str, port: int = 0) -> None:
        self.platform = platform
        self.token = token
        self.mute = False
        self.boot_id = secrets.token_hex(8)
        self._session: _Session | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=8)
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def send(self, body: Body) -> None:
        """An order event or a status: never dropped, overtakes ticks. Without a session it is left to the snapshot."""
        session = self._session
        if session is not None:
            session.queue(body)

    def send_ticks(self, ticks: list[wire.Tick]) -> None:
        """Ticks in their order."""
        session = self._session
        if session is not None:
            session.queue_ticks(ticks)

    @property
    def has_session(self) -> bool:
        return self._session is not None

    def stop(self) -> None:
        """As if the program had been closed."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        self.cut()

    def cut(self) -> None:
        """End the session without a word."""
        session = self._session
        if session is not None:
            session.cut()

    def take_over(self, session: _Session) -> None:
        """This session has proved the token: it is the one; the older one is told."""
        with self._lock:
            older, self._session = self._session, session
        if older is not None:
            older.end("replaced", "another adapter has logged in")

    def leave(self, session: _Session) -> None:
        """This session is over."""
        with self._lock:
            if self._session is not session:
                return
            self._session = None
        self.platform.forget()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Session(self, connection)


class _Session:
    """One connection: a reader thread, which calls the platform, and a writer thread, which owns the sending."""

    def __init__(self, server: BridgeServer, connection: socket.socket) -> None:
        self._server = server
        self._socket = connection
        self._wake = threading.Condition()
        self._urgent: deque[Body] = deque()
        self._ticks: deque[list[Any]] = deque()  # [record as bytes, may be conflated]
        self._newest: dict[int, list[Any]] = {}
        self._names: dict[int, str] = {}
        self._over = False
        self._opened = False
        self._sent = 0
        self._received = 0
        self._ticks_sent = 0
        self._ticks_dropped = 0
        self._heartbeat_s = 1.0
        self._mute_after_s = 5.0
        self._echo = (0, 0)
        self._nonce = secrets.token_hex(16)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def queue(self, body: Body) -> None:
        with self._wake:
            self._urgent.append(body)
            if len(self._urgent) > MAX_URGENT:
                self._over = True  # rather a new session with a snapshot than an event less
            self._wake.notify()

    def queue_ticks(self, ticks: list[wire.Tick]) -> None:
        with self._wake:
            for tick in ticks:
                self._queue_tick(tick)
            self._wake.notify()

    def end(self, code: str = "", text: str = "") -> None:
        """Let the writer send what is urgent, a last word included, and close."""
        with self._wake:
            if code:
                self._urgent.append({"type": "error", "code": code, "text": text})
            self._over = True
            self._wake.notify()

    def cut(self) -> None:
        """Close at once, without a word."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.end()

    def _queue_tick(self, tick: wire.Tick) -> None:
        is_quote = not tick.flags & wire.TRADE
        newest = self._newest.get(tick.symbol_id)
        if is_quote and len(self._ticks) >= CONFLATE_FROM and newest is not None and newest[1]:
            # Conflated: the newer state in the place of the older, with what both have changed.
            newest[0] = wire.pack_tick(tick._replace(flags=tick.flags | newest[0][63]))
            self._ticks_dropped += 1
            return
        entry = [wire.pack_tick(tick), is_quote]
        self._newest[tick.symbol_id] = entry
        self._ticks.append(entry)
        if len(self._ticks) > MAX_TICKS:
            self._ticks.popleft()[1] = False
            self._ticks_dropped += 1

    # The reader's side.

    def _read(self) -> None:
        frames = wire.FrameReader()
        self._socket.settimeout(LOGIN_WITHIN_S)
        self.queue(
            {
                "type": "challenge",
                "nonce": self._nonce,
                "platform": self._server.platform.key,
                "bridge": "reference bridge",
                "bridge_version": "1",
                "boot_id": self._server.boot_id,
            }
        )
        try:
            while not self._over:
                data = self._socket.recv(65_536)
                if not data:
                    break
                for kind, payload in frames.feed(data):
                    if kind != wire.MESSAGE:
                        raise wire.Breach("an adapter sends no ticks")
                    body = wire.unpack_message(payload, self._received + 1)
                    self._take(body)
                    self._received += 1
        except TimeoutError:
            self.end("mute", f"nothing heard for {self._socket.gettimeout()} s")
        except wire.Breach as breach:
            self.end("malformed", str(breach)[:500])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            self.end("malformed", repr(error)[:500])
        except OSError:
            pass
        self.end()
        self._server.leave(self)

    def _take(self, body: Body) -> None:
        kind, platform = body["type"], self._server.platform
        if not self._opened:
            self._log_in(body)
        elif kind == "heartbeat":
            self._echo = (body["sent_ns"], time.time_ns())
        elif kind == "subscribe":
            self._subscribe(body["symbols"])
        elif kind in ("place", "cancel", "replace", "flatten"):
            handed_over = getattr(platform, kind)(body)
            self.queue({"type": "ack", "command_seq": self._received + 1, "handed_over": handed_over})
        elif kind == "snapshot_request":
            self.queue(platform.snapshot(body))
        elif kind == "error":
            self.end()
        else:
            raise wire.Breach(f"message type was {kind!r}")

    def _subscribe(self, wanted: list[Body]) -> None:
        names = {each["symbol_id"]: each["platform_symbol"] for each in wanted}
        changed = {symbol_id for symbol_id, name in names.items() if self._names.get(symbol_id) != name}
        self._names = names
        answers = self._server.platform.subscribe(wanted)
        with self._wake:
            # What waits is of the instrument before, and would arrive behind the answer.
            self._ticks = deque(each for each in self._ticks if _symbol_of(each[0]) in names.keys() - changed)
            self._newest = {symbol_id: each for symbol_id, each in self._newest.items() if symbol_id not in changed}
        self.queue({"type": "subscribed", "subscribe_seq": self._received + 1, "symbols": answers})
        states = self._server.platform.states(changed)
        self.queue_ticks([state._replace(flags=state.flags | wire.SNAPSHOT) for state in states])

    def _log_in(self, login: Body) -> None:
        received_ns = time.time_ns()
        server = self._server
        if login["type"] != "login":
            raise wire.Breach("no login")
        if not secrets.compare_digest(login["proof"], wire.prove(server.token, "adapter", self._nonce, login["nonce"])):
            self.end("wrong_token", "the adapter's token is another one")
            return
        if server.mute:
            return
        self._heartbeat_s, self._mute_after_s = login["heartbeat_ms"] / 1000, login["mute_after_ms"] / 1000
        self._socket.settimeout(self._mute_after_s)
        described = server.platform.describe()
        with self._wake:
            self._opened = True  # from here on heartbeats go out, behind the hello
            self._urgent.append(
                {
                    "type": "hello",
                    "proof": wire.prove(server.token, "bridge", login["nonce"], self._nonce),
                    "platform_version": server.platform.version,
                    "login_sent_ns": login["sent_ns"],
                    "login_received_ns": received_ns,
                    "sent_ns": time.time_ns(),
                    **described,
                }
            )
            self._wake.notify()
        server.take_over(self)  # and events

    # The writer's side.

    def _write(self) -> None:
        beat_due_s = time.monotonic()
        try:
            while True:
                while self._server.mute and not self._over:
                    time.sleep(0.02)
                with self._wake:
                    while not (self._urgent or self._ticks or self._over or time.monotonic() >= beat_due_s):
                        self._wake.wait(max(beat_due_s - time.monotonic(), 0.0))
                    bodies = list(self._urgent)
                    self._urgent.clear()
                    over, opened = self._over, self._opened
                    records = [self._ticks.popleft() for _ in range(min(len(self._ticks), TICKS_PER_FRAME))]
                    for record in records:
                        record[1] = False  # on its way: nothing takes its place any more
                    dropped, waiting = self._ticks_dropped, len(self._ticks)
                for body in bodies:
                    self._send(body)
                if over:
                    break
                if opened and time.monotonic() >= beat_due_s:
                    beat_due_s = time.monotonic() + self._heartbeat_s
                    self._beat(dropped, waiting)
                elif not opened:
                    beat_due_s = time.monotonic() + 0.05
                if records:
                    self._socket.sendall(wire.pack_ticks([record for record, _ in records]))
                    self._ticks_sent += len(records)
        except OSError:
            pass
        self._over = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _beat(self, dropped: int, waiting: int) -> None:
        echo_sent_ns, echo_received_ns = self._echo
        self._send(
            {
                "type": "heartbeat",
                "sent_ns": time.time_ns(),
                "last_seq_received": self._received,
                "ticks_sent": self._ticks_sent,
                "ticks_dropped": dropped,
                "ticks_waiting": waiting,
                "busy_ms": 0,
                "echo_sent_ns": echo_sent_ns,
                "echo_received_ns": echo_received_ns,
            }
        )

    def _send(self, body: Body) -> None:
        self._sent += 1
        self._socket.sendall(wire.pack_message(self._sent, body))


def _symbol_of(record: bytes) -> int:
    return int.from_bytes(record[60:62], "little")
