"""A gateway that answers signals as a test tells it: the real port and link, a book instead of an engine."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec import structs
from nexus_gateway.core.messages import (
    AdminResult,
    Hello,
    KillLevel,
    LegReport,
    LegState,
    Message,
    Positions,
    Protection,
    Query,
    QueryKind,
    Reject,
    RejectCode,
    Report,
    Role,
    Side,
    Signal,
    SignalState,
    Target,
    Welcome,
)
from nexus_gateway.core.transport import (
    KEYS_FOLDER,
    NEXUS_LINK,
    LinkServer,
    LinkTiming,
    PeerMessage,
    ServerSettings,
    server_endpoints,
)
from nexus_gateway.nexus_link.orders.book import BookTiming
from nexus_gateway.nexus_link.orders.options import LinkOptions, gateway_options

from .links import open_listener
from .patience import patient

FAST = LinkTiming(heartbeat_ms=50, mute_after_ms=1_000, welcome_within_ms=500, backoff_first_ms=10, backoff_max_ms=50)
PRICE = Decimal("21500.25")


def make_signal(signal_id: str, **fields: Any) -> Signal:
    values: dict[str, Any] = {
        "signal_id": signal_id,
        "symbol": "NQ",
        "side": Side.BUY,
        "created_ns": time.time_ns(),
        "targets": (Target(platform="nt8"),),
        "quantity": Decimal(1),
    }
    return Signal(**(values | fields))


def make_leg(signal: Signal, number: int = 0, **fields: Any) -> LegReport:
    target = signal.targets[number]
    quantity = target.quantity or signal.quantity or Decimal(1)
    values: dict[str, Any] = {
        "leg": number,
        "platform": target.platform,
        "account": "SIM",
        "client_order_id": "",
        "side": signal.side,
        "state": LegState.FILLED,
        "quantity": quantity,
        "filled": quantity,
        "open_quantity": quantity * signal.side.sign,
        "avg_price": PRICE,
        "slippage_points": None,
        "notional_usd": None,
        "realized_usd": None,
        "fees_usd": None,
        "missing_fills": Decimal(0),
        "protection": Protection.NONE,
        "code": RejectCode.NONE,
        "text": "",
    }
    return LegReport(**(values | fields))


def make_report(signal: Signal, state: SignalState = SignalState.FILLED, revision: int = 1, **fields: Any) -> Report:
    legs = tuple(make_leg(signal, number) for number in range(len(signal.targets)))
    filled = sum((leg.filled for leg in legs), Decimal(0))
    values: dict[str, Any] = {
        "signal_id": signal.signal_id,
        "symbol": signal.symbol,
        "side": signal.side,
        "state": state,
        "revision": revision,
        "code": RejectCode.NONE,
        "text": "",
        "quantity": filled,
        "filled": filled,
        "avg_price": PRICE,
        "avg_price_usd": None,
        "realized_usd": None,
        "fees_usd": None,
        "residual_quantity": filled * signal.side.sign,
        "residual_usd": None,
        "unknown_legs": 0,
        "duplicate": False,
        "legs": legs,
        "received_ns": time.time_ns(),
    }
    return Report(**(values | fields))


class ScriptedGateway:
    """Serves the NEXUS port of a run folder in a thread. Change the attributes at any time.

    Attributes:
        answer: makes the reports that answer a new signal.
        deaf: signals are taken in and executed, and nothing is said.
        reports: what has been executed, by id; hand it to a successor to be its journal.
        executed: how often each id was executed.
        heard: every message, in order.
    """

    def __init__(self, folder: Path, *, reports: dict[str, Report] | None = None, journal: Path | None = None) -> None:
        self.answer: Callable[[Signal], list[Report]] = lambda signal: [make_report(signal)]
        self.deaf = False
        self.delay_s = 0.0
        self.greeting = Welcome(
            accepted=True,
            gateway_boot_id=secrets.token_hex(4),
            stage=1,
            kill_level=KillLevel.NORMAL,
            heartbeat_ms=FAST.heartbeat_ms,
        )
        self.reports: dict[str, Report] = {} if reports is None else reports
        self.executed: dict[str, int] = {}
        self.heard: list[Message] = []
        self.positions: list[Positions] = []
        self._journal = journal
        self._orders: list[Callable[[], object]] = []
        self._stopping = self._silently = False
        if journal is not None and journal.exists():
            self.reports |= {name: make_report(make_signal(name)) for name in journal.read_text().split()}
        settings = ServerSettings(
            sender="gateway",
            boot_id=self.greeting.gateway_boot_id,
            roles=(Role.NEXUS, Role.ADMIN),
            timing=FAST,
        )
        endpoints = server_endpoints(folder, NEXUS_LINK, "127.0.0.1", 0)
        self._server = LinkServer(open_listener(endpoints, folder / KEYS_FOLDER), settings, self._greet)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def say(self, message: Message) -> None:
        """Send it to every NEXUS that is connected."""
        self._orders.append(lambda: [self._server.send(peer, message) for peer in self._server.peers])

    def cut(self) -> None:
        """End all sessions."""
        self._orders.append(lambda: [self._server.cut(peer, "the test says so") for peer in self._server.peers])

    def stop(self, *, silently: bool = True) -> None:
        """End; silently is what kill -9 looks like from outside."""
        self._silently, self._stopping = silently, True
        self._thread.join()

    def signals(self) -> list[str]:
        """Ids of all signals that came, repetitions included."""
        return [message.signal_id for message in list(self.heard) if isinstance(message, Signal)]

    def _greet(self, hello: Hello) -> Welcome:
        return self.greeting

    def _serve(self) -> None:
        while not self._stopping:
            self._server.listener.collect(min(self._server.wait_ms(), 5) / 1000)
            while self._orders:
                self._orders.pop(0)()
            for event in self._server.receive() + self._server.tick():
                if isinstance(event, PeerMessage):
                    self.heard.append(event.body)
                    self._take(event.peer, event.body)
        if self._silently:
            self._server.listener.close(0)
        else:
            self._server.close()

    def _take(self, peer: str, body: Message) -> None:
        if isinstance(body, Signal):
            reports = self._execute(body)
            if self.delay_s:
                time.sleep(self.delay_s)
            if not self.deaf:
                for report in reports:
                    self._server.send(peer, report)
        elif isinstance(body, Query):
            self._answer_query(peer, body)

    def _execute(self, signal: Signal) -> list[Report]:
        signal_id = signal.signal_id
        if signal_id in self.reports:
            return [structs.replace(self.reports[signal_id], duplicate=True)]
        reports = self.answer(signal)
        if not reports:
            return []
        self.executed[signal_id] = self.executed.get(signal_id, 0) + 1
        self.reports[signal_id] = reports[-1]
        if self._journal is not None:
            with self._journal.open("a") as file:
                file.write(f"{signal_id}\n")
        return reports

    def _answer_query(self, peer: str, query: Query) -> None:
        if query.what is QueryKind.REPORT and query.signal_id in self.reports:
            self._server.send(peer, self.reports[query.signal_id])
        elif query.what is QueryKind.POSITIONS:
            for positions in self.positions:
                self._server.send(peer, positions)
        else:
            known = query.what is QueryKind.STATUS
            code = RejectCode.NONE if known else RejectCode.UNKNOWN_SIGNAL
            self._server.send(peer, AdminResult(request_id=query.request_id, accepted=known, done=known, code=code))


def refuse(signal: Signal, code: RejectCode) -> Reject:
    return Reject(code=code, text=f"refused: {code}", signal_id=signal.signal_id)


def options_of(folder: Path, **fields: Any) -> LinkOptions:
    """Options of a NEXUS at the scripted gateway of this folder, with quick timing and its outbox in the folder."""
    changes = {key: fields.pop(key) for key in ("book_timing", "link_timing") if key in fields}
    fields.setdefault("outbox", folder / "nexus" / f"{fields.get('name', 'nexus')}.outbox")
    options = gateway_options(folder, port=0, **fields)
    quick = {"link_timing": FAST, "book_timing": BookTiming(send_again_ms=60_000, ask_again_ms=60_000)}
    return structs.replace(options, **(quick | changes))


@contextmanager
def short_folder() -> Iterator[Path]:
    """A private run folder whose path is short enough for a socket file."""
    with tempfile.TemporaryDirectory(prefix="nxg") as name:
        yield Path(name)


def until(true: Callable[[], object], patience_s: float = 30.0) -> None:
    """Wait; the patience is for a machine that is busy, not a bound on speed."""
    deadline_s = time.monotonic() + patient(patience_s)
    while not true():
        assert time.monotonic() < deadline_s, "what the test waits for did not happen"
        time.sleep(0.002)
