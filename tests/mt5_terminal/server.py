"""The stand-in's process: sockets of the module's clients and of the tests, timers, the terminal's life."""

from __future__ import annotations

import heapq
import itertools
import json
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.mt5_terminal.answers import Answer
from tests.mt5_terminal.broker import Broker
from tests.mt5_terminal.module.MetaTrader5.pipe import HEADER, LAUNCH_FILE, OPTIONS_FILE, PORT_FILE
from tests.mt5_terminal.terminal import Terminal

CONTROL_FILE = "control.port"
EXE = "terminal64.exe"
_HOUSEKEEPING_MS = 50


class Connection:
    """A client of the module, or a test.

    Attributes:
        pid: the client's process, once it has said hello.
        waiting: its calls that the terminal has not begun.
        unsent: what its socket would not take yet; a paused client must not stop the market.
    """

    def __init__(self, line: socket.socket, is_control: bool) -> None:
        self.line = line
        self.is_control = is_control
        self.is_open = True
        self.pid = 0
        self.waiting: list[tuple[dict[str, Any], bytes]] = []
        self.unsent = bytearray()
        self._received = bytearray()

    def read(self) -> bool:
        """Take in what has come; False when the other end is gone."""
        try:
            chunk = self.line.recv(1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._received += chunk
        while len(self._received) >= HEADER.size:
            json_bytes, raw_bytes = HEADER.unpack_from(self._received)
            end = HEADER.size + json_bytes + raw_bytes
            if len(self._received) < end:
                break
            body = json.loads(self._received[HEADER.size : HEADER.size + json_bytes])
            self.waiting.append((body, bytes(self._received[HEADER.size + json_bytes : end])))
            del self._received[:end]
        return bool(chunk)

    def flush(self) -> None:
        """Send as much as the socket takes."""
        try:
            del self.unsent[: self.line.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.unsent.clear()  # it died meanwhile; the reading end finds out


class Server:
    """Everything of one stand-in. `run` ends when the last test has gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.options: dict[str, Any] = json.loads((self.folder / OPTIONS_FILE).read_text())
        self.broker = Broker(self.options, self.later)
        self.terminal: Terminal | None = None
        self.stay_down = False
        self.is_hung = False
        self.launches: list[str] = []
        self.calls: Counter[str] = Counter()
        self.slow_ms: dict[str, list[int]] = {}
        self._clients_max = int(self.options.get("clients_max", 8))
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._clients: list[Connection] = []
        self._unanswered: list[tuple[Connection, Answer]] = []
        self._terminal_socket: socket.socket | None = None
        self._control_socket = socket.create_server(("127.0.0.1", 0))
        self._selector.register(self._control_socket, selectors.EVENT_READ, self._accept_control)
        self._controls = 0
        self._ended = False
        self._desk: Callable[[str, dict[str, Any], bytes], tuple[Any, bytes]] | None = None

    def serve(self, desk: Callable[[str, dict[str, Any], bytes], tuple[Any, bytes]]) -> None:
        """Run until the last test has closed its connection; `desk` answers the tests."""
        self._desk = desk
        if self.options.get("running", True):
            self.launch_terminal()
        self._keep_house()
        _publish_port(self.folder / CONTROL_FILE, self._control_socket)
        while not self._ended:
            pause_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(pause_s):
                key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
        self.kill_terminal()

    def later(self, delay_ms: int, function: Callable[[], None]) -> None:
        """Run `function` then."""
        heapq.heappush(self._timers, (time.monotonic() + delay_ms / 1000, next(self._numbers), function))

    def launch_terminal(self, build: int | None = None) -> None:
        """Start the program, unless it runs."""
        self.stay_down = False
        if self.terminal is not None:
            return
        self.terminal = Terminal(self.broker, self.folder, build or int(self.options.get("build", 5833)))
        self.is_hung = False
        self._terminal_socket = socket.create_server(("127.0.0.1", 0))
        self._selector.register(self._terminal_socket, selectors.EVENT_READ, self._accept_client)
        _publish_port(self.folder / PORT_FILE, self._terminal_socket)

    def kill_terminal(self) -> None:
        """The program dies; nothing that it was doing is finished or answered."""
        if self._terminal_socket is not None:
            (self.folder / PORT_FILE).unlink(missing_ok=True)
            self._selector.unregister(self._terminal_socket)
            self._terminal_socket.close()
            self._terminal_socket = None
        self.drop_clients()
        self.terminal = None

    def drop_clients(self) -> None:
        """Every connection of the module breaks."""
        for client in list(self._clients):
            self._drop(client)

    def hang(self, seconds: float | None) -> None:
        """No call is begun any more, for so long or until `release`."""
        self.is_hung = True
        if seconds is not None:
            self.later(int(seconds * 1000), self.release)

    def release(self) -> None:
        """What waited is done now, and what was never answered is answered."""
        self.is_hung = False
        unanswered, self._unanswered = self._unanswered, []
        for client, answer in unanswered:
            answer.fate = ""
            self._reply(client, answer)
        for client in list(self._clients):
            self._serve(client)

    def _keep_house(self) -> None:
        self.broker.expire_orders()
        request = self.folder / LAUNCH_FILE
        if request.exists():
            self.launches.append(request.read_text())
            request.unlink()
            if self.options.get("launches", True) and not self.stay_down:
                self.launch_terminal()
        self.later(_HOUSEKEEPING_MS, self._keep_house)

    def _accept_client(self) -> None:
        assert self._terminal_socket is not None
        self._clients.append(self._accept(self._terminal_socket, is_control=False))

    def _accept_control(self) -> None:
        self._accept(self._control_socket, is_control=True)
        self._controls += 1

    def _accept(self, listener: socket.socket, *, is_control: bool) -> Connection:
        line, _ = listener.accept()
        line.setblocking(False)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(line, is_control)
        self._watch(connection)
        return connection

    def _watch(self, connection: Connection) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        if connection.line not in self._selector.get_map():
            self._selector.register(connection.line, events, lambda: self._turn(connection))
        elif self._selector.get_key(connection.line).events != events:
            self._selector.modify(connection.line, events, lambda: self._turn(connection))

    def _turn(self, connection: Connection) -> None:
        """The socket can be read or written."""
        if connection.unsent:
            self._write(connection)
        if connection.is_open:
            self._read(connection)

    def _write(self, connection: Connection, message: bytes = b"") -> None:
        connection.unsent += message
        connection.flush()
        self._watch(connection)

    def _read(self, connection: Connection) -> None:
        is_alive = connection.read()
        if connection.is_control:
            self._serve_control(connection)
        elif is_alive:
            self._serve(connection)
        if not is_alive:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        connection.is_open = False
        self._selector.unregister(connection.line)
        connection.line.close()
        if connection.is_control:
            self._controls -= 1
            self._ended = self._controls == 0
            return
        self._clients.remove(connection)
        for client in list(self._clients):
            self._serve(client)  # one that found the terminal busy may be let in now

    def _serve_control(self, connection: Connection) -> None:
        assert self._desk is not None
        while connection.waiting:
            body, raw = connection.waiting.pop(0)
            try:
                value, answer_raw = self._desk(body["call"], body["arguments"], raw)
            except Exception as error:
                self._write(connection, _pack({"error": f"{type(error).__name__}: {error}"}))
            else:
                self._write(connection, _pack({"value": value}, answer_raw))

    def _serve(self, client: Connection) -> None:
        """Begin the next call of a client, when it may."""
        is_known = client.pid or sum(each.pid != 0 for each in self._clients) < self._clients_max
        if not client.waiting or self.is_hung or self.terminal is None or not is_known:
            return
        body, _ = client.waiting.pop(0)
        name, arguments = body["call"], body["arguments"]
        if name == "hello":
            client.pid = arguments[0]
            self._reply(client, Answer(True))
            return
        self.calls[name] += 1
        if self.slow_ms.get(name):
            self.later(self.slow_ms[name].pop(), lambda: self._do(client, name, arguments))
        else:
            self._do(client, name, arguments)

    def _do(self, client: Connection, name: str, arguments: list[Any]) -> None:
        if not client.is_open or self.terminal is None:
            return
        self._reply(client, self.terminal.answer(name, arguments, client.pid))

    def _reply(self, client: Connection, answer: Answer) -> None:
        if not client.is_open:
            return
        if answer.begin is not None:
            begin = answer.begin
            self.later(answer.after_ms, lambda: self._reply(client, begin()))
        elif answer.fate == "break":
            self._drop(client)
        elif answer.fate == "never":
            self._unanswered.append((client, answer))
        elif answer.after_ms:
            delay_ms, answer.after_ms = answer.after_ms, 0
            self.later(delay_ms, lambda: self._reply(client, answer))
        else:
            body = {"code": answer.code, "text": answer.text, "value": answer.value}
            self._write(client, _pack(body, answer.raw))


def _pack(body: dict[str, Any], raw: bytes = b"") -> bytes:
    text = json.dumps(body).encode()
    return HEADER.pack(len(text), len(raw)) + text + raw


def _publish_port(path: Path, listener: socket.socket) -> None:
    """Whole or not at all: a client may look at any moment."""
    fresh = path.with_suffix(".new")
    fresh.write_text(str(listener.getsockname()[1]))
    fresh.replace(path)
