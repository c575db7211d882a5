"""The adapter of every platform that is reached through a bridge (bridges/PROTOCOL.md).

It can be used as it is. The adapter of one platform is a subclass that overrides what differs there: settings, symbol
names, the check of the bridge's hello.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from ...core.config import convert_settings
from ...core.errors import ConfigError
from ...core.logs import process_log
from ...core.messages import (
    Account,
    Capabilities,
    Correction,
    Fill,
    Instrument,
    OrderType,
    OrderUpdate,
    Reject,
    Snapshot,
    SnapshotRequest,
    TimeInForce,
)
from ...shm.durations import NS_PER_S
from ...shm.symbols import Symbol
from ..base import Adapter, Command, LinkLostError, OrderEvent, PlatformAccount
from ..feed import TickFeed
from ..waiting import wait_readable
from .connection import BridgeConnection
from .counters import BRIDGE_COUNTERS, BridgeCounters
from .frames import FrameError
from .messages import BridgeHello, Error, FromBridge, Notice, Status, Subscribed, SymbolStatus
from .orders import make_command, make_refusal
from .session import BridgeSession
from .settings import BridgeSettings
from .snapshots import SnapshotInbox, check_snapshot, make_incomplete_snapshot, mark_incomplete
from .symbols import BridgeSymbols, name_symbols
from .ticks import TickIntake

_WAIT_S: Final = 0.05
_FLUSH_S: Final = 0.005
_ADOPT_NS: Final = 60 * NS_PER_S
"""Longest gap over which ticks are resumed after a restart; after a longer one only new ticks are requested."""


class BridgeAdapter(Adapter):
    """Session with one bridge. Used by the adapter's thread.

    Attributes:
        settings: an instance of `SETTINGS`.
        capabilities: those of the bridge's hello, once it has arrived.
        data_up, orders_up, state_text: state of the platform's own links, as last reported by the bridge.
    """

    OWN_COUNTERS = BRIDGE_COUNTERS

    SETTINGS: ClassVar[type[BridgeSettings]] = BridgeSettings
    """Type of the settings; a subclass adds its keys."""

    _companion: BridgeAdapter | None = None
    """Session with the platform's other bridge; each of the two serves both sockets whenever it waits."""

    _gives_ticks: bool = True
    """False: the companion's bridge sends the ticks."""

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        """Raises ConfigError: a setting is wrong, or the token cannot be read."""
        super().__init__(feed, settings)
        where = f"platform {feed.name!r}: settings"
        self.settings = convert_settings(self.SETTINGS, settings, where)
        self.capabilities = Capabilities(order_types=(OrderType.MARKET,), times_in_force=(TimeInForce.DAY,))
        self._port = self.settings.port_of(feed.platform)
        self._token = self.read_token(where)
        self._log = process_log(feed.name)
        self._intake = TickIntake(feed.platform)
        self._intake.adopt(feed.read_published(), time.time_ns() - _ADOPT_NS)
        self._counters = BridgeCounters(feed.counters, self._log)
        self._connection: BridgeConnection | None = None
        self._symbols = BridgeSymbols(self._intake)
        self._snapshots = SnapshotInbox()
        self._is_subscribed = False
        self._is_silent = False
        self._unnamed = 0
        self.orders_up = False
        self.data_up = False
        self.state_text = ""

    # Hooks for the adapter of one platform.

    def read_token(self, where: str) -> str:
        """Return the token shared with the bridge; `where` begins an error message. Raises ConfigError."""
        return self.settings.read_token(where)

    def name_at_platform(self, symbol: Symbol) -> str:
        """Return the platform's name of a symbol, its contract included. Raises SymbolRefused when there is none."""
        written = self.settings.names.get(symbol.name)
        if written is not None:
            return written
        if self.names is None:
            return symbol.contract or symbol.name
        return self.names.name_of(symbol, self.settings.connection).name

    def check_hello(self, hello: BridgeHello) -> None:
        """Check that terminal, login and server are those of the settings.

        Raises:
            ConfigError: they are others.
            LinkLostError: the platform is not logged in yet.
        """

    def limit_capabilities(self, hello: BridgeHello) -> Capabilities:
        """Return the capabilities that the gateway may use, of those that the bridge reports."""
        return hello.capabilities

    def correct_instrument(self, instrument: Instrument, hello: BridgeHello) -> Instrument:
        """Correct a bridge's description of an instrument where the platform's values have a meaning of their own."""
        return instrument

    @property
    def session(self) -> BridgeSession | None:
        """The session with the bridge, for inspection by checks; None while there is none."""
        return None if self._connection is None else self._connection.session

    def resume_from(self, symbol: Symbol, event_ns: int) -> None:
        """Let the next subscription start with a symbol's ticks from this time on, if the platform has a history."""
        self._intake.resume_from(symbol.id, event_ns)

    def get_ticks_from(self, companion: BridgeAdapter) -> None:
        """Use this session for orders alone; `companion`, with another bridge of the platform, publishes the ticks.

        Call it before `connect`. Connecting, subscribing and closing the companion stay with the caller.
        """
        self._companion, companion._companion = companion, self
        self._gives_ticks = False
        self._intake = TickIntake(self.feed.platform)  # empty: this bridge sends no ticks and resumes none
        self._counters = BridgeCounters(self.feed.counters, self._log, shows_link=False)

    # The contract of `Adapter`.

    def connect(self) -> None:
        self._end_session()
        self._begin_session()
        nonce = secrets.token_hex(16)
        session = BridgeSession(self.feed.name, self._token, nonce, self.settings.timing, time.monotonic_ns())
        self._connection = BridgeConnection(
            self.settings.host, self._port, self.settings.connect_timeout_s, session, self._intake, self.feed
        )
        timeout_s = self.settings.answer_timeout_s
        if not self._wait_until(lambda: session.is_open, timeout_s):
            raise LinkLostError(f"the bridge gave no hello within {timeout_s} s")
        assert session.hello is not None
        self._apply_hello(session.hello)

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        connection, answered = self._open(), self._symbols
        names = name_symbols(symbols, self.name_at_platform, self.feed.name, self._log)
        subscribe = answered.make_subscribe(symbols, names)
        self._is_subscribed, self._unnamed = False, len(symbols) - len(names)
        answered.sent(connection.session.send(subscribe, time.monotonic_ns()))
        self._wait_until(lambda: answered.complete, self.settings.answer_timeout_s)
        # An answer may be late (the bridge reads the history first): its symbol is reported now as without data, and
        # counts from `_handle` on when the answer arrives. Waiting for it would keep the others from trading.
        refusals = self._counters.report_answers(answered, names, self._unnamed)
        if refusals and len(refusals) == len(names):
            raise LinkLostError(f"the bridge gives none of the symbols: {next(iter(refusals.values()))}")
        self._is_subscribed = True
        self._update_account()

    def poll(self, timeout_s: float) -> int:
        connection = self._open()
        due_s = (connection.session.due_ns - time.monotonic_ns()) / NS_PER_S
        longest_s = _FLUSH_S if connection.session.outgoing else timeout_s
        self.wait(max(min(timeout_s, due_s, longest_s), 0.0), self._sockets())
        return self._turn_all()

    def execute(self, command: Command) -> None:
        connection = self._open()
        # The bridge would refuse it as well; refused here the outcome is certain, and no command can get stuck in it.
        if not self.orders_up:
            reason = self.state_text or "its link to the broker is down, or trading is switched off"
            refusal = make_refusal(command, f"the platform takes no orders now: {reason}"[:512])
            if self.orders is not None:
                self.orders.report(refusal)
            return
        session = connection.session
        session.send(make_command(command, session.clock), time.monotonic_ns())
        connection.flush()

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        connection, first = self._open(), not self._snapshots.requested
        numbered = self._snapshots.number(request)
        connection.session.send(numbered, time.monotonic_ns())
        # Later snapshots must be quick: the gateway gets no heartbeat while this waits.
        timeout_s = self.settings.answer_timeout_s if first else self.settings.snapshot_timeout_s
        self._wait_until(lambda: self._snapshots.has(numbered.request_id), timeout_s)
        snapshot = self._snapshots.pop(numbered.request_id)
        if snapshot is None:
            self._counters.snapshots_late.add()
            if first:
                raise LinkLostError(f"the bridge gave no snapshot within {timeout_s} s")
            return make_incomplete_snapshot(request)
        snapshot = msgspec.structs.replace(snapshot, request_id=request.request_id)
        # While the broker is away the platform lists what it remembers; absence in it proves nothing.
        return snapshot if self.orders_up else mark_incomplete(snapshot)

    def close(self) -> None:
        self._end_session()

    # Inside.

    def _end_session(self) -> None:
        if self._connection is not None:
            self._counters.commands_unanswered.add(self._connection.session.pending_commands)
            self._connection.close()
            self._connection = None

    def _begin_session(self) -> None:
        self._intake.begin_session()
        self._counters.begin_session()
        self._symbols = BridgeSymbols(self._intake)
        self._snapshots = SnapshotInbox()
        self.orders_up = self.data_up = self._is_subscribed = self._is_silent = False

    def _open(self) -> BridgeConnection:
        if self._connection is None:
            raise LinkLostError("there is no session with the bridge")
        return self._connection

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Serve the connection until the condition holds or the time is over; returns whether it holds.

        Heartbeats continue meanwhile: without them the launcher would kill this process as hung.
        """
        deadline = time.monotonic() + timeout_s
        connection = self._open()
        connection.flush()
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            wait_readable(min(left_s, _WAIT_S), self._sockets(), None)
            self._turn_all()
            self.feed.beat()
            self.feed.counters.beat()
        return True

    def _sockets(self) -> tuple[socket.socket, ...]:
        served = (self,) if self._companion is None else (self, self._companion)
        return tuple(each._connection.socket for each in served if each._connection is not None)

    def _turn_all(self) -> int:
        other = self._companion
        return self._turn() + (other._turn() if other is not None and other._connection is not None else 0)

    def _turn(self) -> int:
        connection = self._open()
        published = connection.turn(self._handle)
        self._counters.update(connection.session, self._intake)
        is_silent = connection.session.is_silent(time.monotonic_ns())
        if is_silent and not self._is_silent and self._gives_ticks:
            # A busy bridge keeps its session, since its call into the platform may take that long. Its quotes are old
            # all the same, and a strategy must not trade on them.
            self._log.warning("no word from the bridge, which is busy: its quotes are stale")
            self.feed.mark_stale(list(self._symbols.by_id.values()))
        self._is_silent = is_silent
        return published

    def _handle(self, body: FromBridge) -> None:
        match body:
            case OrderUpdate() | Fill() | Correction() | Reject() | Account():
                self._report(body)
            case Snapshot():
                check_snapshot(body, self.feed.name, "" if self.account is None else self.account.name)
                self._snapshots.receive(body)
            case Subscribed():
                answered = self._symbols.apply_answers(body)
                if self._is_subscribed:
                    # A late answer, behind a slow history: the symbol counts, and can be traded, from now on.
                    self._counters.report_answers(self._symbols, answered, self._unnamed)
                    self._update_account()
            case Status():
                self._apply_status(body)
            case SymbolStatus(live=False):
                symbol = self._symbols.by_id.get(body.symbol_id)
                if symbol is not None:
                    self._log.warning("symbol has stopped", symbol=symbol.name, reason=body.text)
                    self.feed.mark_stale([symbol])
            case Notice():
                self._counters.log_notice(body)
            case Error(code="wrong_token"):
                raise ConfigError(
                    f"platform {self.feed.name!r}: the bridge refused the token ({body.text}); give the same one to "
                    "both, in settings.token_file (or token_env) and in the bridge's own settings"
                )
            case Error():
                raise LinkLostError(f"the bridge ends the session, {body.code}: {body.text}")

    def _apply_hello(self, hello: BridgeHello) -> None:
        self.check_hello(hello)
        self.capabilities = self.limit_capabilities(hello)
        self.orders_up, self.data_up, self.state_text = hello.orders_up, hello.data_up, hello.text
        self._update_account()
        self._counters.log_hello(hello, self.settings.account, wants_orders=self.orders is not None)

    def _update_account(self) -> None:
        """Set account and instruments from the bridge's hello and its answers so far."""
        hello = self._open().session.hello
        assert hello is not None
        self.instruments = self._correct_all(hello, tradable=False)
        chosen, self.account = hello.choose_account(self.settings.account), None
        if chosen is not None:
            instruments = self._correct_all(hello, tradable=True)
            self.account = PlatformAccount(
                name=chosen.name, mode=chosen.mode, currency=chosen.currency, instruments=instruments
            )

    def _correct_all(self, hello: BridgeHello, *, tradable: bool) -> tuple[Instrument, ...]:
        described = self._symbols.instruments(tradable=tradable)
        return tuple(self.correct_instrument(instrument, hello) for instrument in described)

    def _apply_status(self, status: Status) -> None:
        self._log.warning("state of the platform", data=status.data_up, orders=status.orders_up, reason=status.text)
        if self.data_up and not status.data_up:
            self.feed.mark_stale(list(self._symbols.by_id.values()))
        returned = status.orders_up and not self.orders_up
        self.data_up, self.orders_up, self.state_text = status.data_up, status.orders_up, status.text
        if returned:
            # Orders may have filled or ended while the broker was away, without an event. A new session begins with a
            # snapshot, and makes the gateway reconcile.
            raise LinkLostError("the platform's broker is back: a new snapshot is needed")

    def _report(self, event: OrderEvent) -> None:
        if event.platform != self.feed.name:
            raise FrameError(f"an order event was of platform {event.platform!r}, must be of {self.feed.name!r}")
        if self.account is None or event.account != self.account.name:
            self._counters.events_elsewhere.add()  # the platform may be logged in to further accounts
        elif self._snapshots.requested and self.orders is not None:
            # Events before the first request are in its snapshot; reported before it, they would be booked twice.
            self.orders.report(event)
