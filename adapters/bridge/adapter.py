"""The adapter of every platform that is reached through a bridge (bridges/PROTOCOL.md).

One class serves them all, and can be used as it is for a platform of one's own; the adapter of one platform derives
from it what differs there: settings, names, and what it checks in the bridge's hello.
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
from ...core.instruments.refusals import SymbolRefused
from ...core.logs import process_log
from ...core.messages import (
    Account,
    Capabilities,
    Correction,
    Fill,
    Instrument,
    Order,
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
from .orders import check_snapshot, make_incomplete_snapshot, make_place, make_refusal
from .session import BridgeSession
from .settings import BridgeSettings
from .symbols import BridgeSymbols
from .ticks import TickIntake

_NOTICE_EVERY_NS: Final = NS_PER_S
_WAIT_S: Final = 0.05
_FLUSH_S: Final = 0.005
_ADOPT_NS: Final = 60 * NS_PER_S
"""So much of what a dead predecessor has missed is asked for; after a longer pause ticks begin anew."""


class BridgeAdapter(Adapter):
    """Speaks with one bridge. Used by the adapter's thread.

    Attributes:
        settings: typed; of `SETTINGS`.
        capabilities: those of the bridge's hello, once there was one.
        data_up, orders_up, state_text: the platform's links as the bridge has told them last.
    """

    OWN_COUNTERS = BRIDGE_COUNTERS

    SETTINGS: ClassVar[type[BridgeSettings]] = BridgeSettings
    """Type of the settings; a platform's own adds its keys."""

    _beside: tuple[BridgeAdapter, ...] = ()
    """Sessions with further bridges of the same platform, served along with this one."""

    _gives_ticks: bool = True
    """False: one of `_beside` does."""

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
        self._snapshots: dict[int, Snapshot] = {}
        self._snapshot_id = 0
        self._wants_events = False
        self._is_subscribed = False
        self._is_silent = False
        self._unnamed = 0
        self.orders_up = False
        self.data_up = False
        self.state_text = ""
        self._notice_due_ns = 0

    # What a platform's own adapter may change.

    def read_token(self, where: str) -> str:
        """The token that the bridge knows, too; `where` opens a message. Raises ConfigError."""
        return self.settings.read_token(where)

    def name_at_platform(self, symbol: Symbol) -> str:
        """The platform's own name of a symbol, its contract included. Raises SymbolRefused when there is none."""
        written = self.settings.names.get(symbol.name)
        if written is not None:
            return written
        if self.names is None:
            return symbol.contract or symbol.name
        return self.names.name_of(symbol, self.settings.connection).name

    def check_hello(self, hello: BridgeHello) -> None:
        """Whether this is the terminal, login and server that the settings mean.

        Raises:
            ConfigError: it is another one.
            LinkLostError: not yet.
        """

    def limit_capabilities(self, hello: BridgeHello) -> Capabilities:
        """What the gateway may send, of what the bridge says that the platform can."""
        return hello.capabilities

    def correct_instrument(self, instrument: Instrument, hello: BridgeHello) -> Instrument:
        """An instrument as the bridge has described it, where its platform means something by that of its own."""
        return instrument

    @property
    def session(self) -> BridgeSession | None:
        """The session with the bridge, for whoever looks into it; None while there is none."""
        return None if self._connection is None else self._connection.session

    def resume_from(self, symbol: Symbol, event_ns: int) -> None:
        """Have the next subscription begin with all of a symbol's ticks from this time on, where the platform keeps
        them.
        """
        self._intake.resume_from(symbol.id, event_ns)

    # The contract.

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
        names = self._name_all(symbols)
        subscribe = answered.make_subscribe(symbols, names)
        self._is_subscribed, self._unnamed = False, len(symbols) - len(names)
        answered.sent(connection.session.send(subscribe, time.monotonic_ns()))
        self._wait_until(lambda: answered.complete, self.settings.answer_timeout_s)
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
        if not self.orders_up:
            reason = self.state_text or "its link to the broker is down, or trading is switched off"
            refusal = make_refusal(command, f"the platform takes no orders now: {reason}"[:512])
            if self.orders is not None:
                self.orders.report(refusal)
            return
        session = connection.session
        body = make_place(command, session.clock) if isinstance(command, Order) else command
        session.send(body, time.monotonic_ns())
        connection.flush()

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        connection, first = self._open(), not self._wants_events
        # Events of before belong to nobody yet: the first snapshot has all of them.
        self._wants_events = True
        self._snapshot_id += 1
        number = self._snapshot_id
        # By our own number: that of an answer that came too late must not be another request's.
        connection.session.send(msgspec.structs.replace(request, request_id=number), time.monotonic_ns())
        timeout_s = self.settings.answer_timeout_s if first else self.settings.snapshot_timeout_s
        self._wait_until(lambda: number in self._snapshots, timeout_s)
        snapshot = self._snapshots.pop(number, None)
        if snapshot is None:
            self._counters.snapshots_late.add()
            if first:
                raise LinkLostError(f"the bridge gave no snapshot within {timeout_s} s")
            return make_incomplete_snapshot(request)
        complete = snapshot.complete and self.orders_up
        return msgspec.structs.replace(snapshot, request_id=request.request_id, complete=complete)

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
        self._snapshots.clear()
        self._snapshot_id = 0
        self._wants_events = self.orders_up = self.data_up = self._is_subscribed = self._is_silent = False

    def _open(self) -> BridgeConnection:
        if self._connection is None:
            raise LinkLostError("there is no session with the bridge")
        return self._connection

    def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Turn until the condition holds, or the time is over. Signs of life go on: to wait is not to hang."""
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
        return tuple(each._connection.socket for each in (self, *self._beside) if each._connection is not None)

    def _turn_all(self) -> int:
        return self._turn() + sum(each._turn() for each in self._beside if each._connection is not None)

    def _turn(self) -> int:
        connection = self._open()
        published = connection.turn(self._handle)
        self._counters.update(connection.session, self._intake)
        is_silent = connection.session.is_silent(time.monotonic_ns())
        if is_silent and not self._is_silent and self._gives_ticks:
            # Its call may take that long, and still nobody may take the quotes of before for live.
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
                if body.request_id == self._snapshot_id:
                    self._snapshots[body.request_id] = body
            case Subscribed():
                answered = self._symbols.apply_answers(body)
                if self._is_subscribed:
                    # History that was slow to come: these symbols count, and are traded, from now on.
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
                self._log_notice(body)
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
        self._log.info(
            "bridge is there", platform_version=hello.platform_version, text=hello.text, details=dict(hello.details)
        )
        if not hello.data_up or not (hello.orders_up or self.orders is None):
            self._log.warning("platform is not fit", data=hello.data_up, orders=hello.orders_up, reason=hello.text)
        self._update_account()
        if self.account is None:
            self._log.warning(
                "no account to trade",
                wanted=self.settings.account,
                accounts=[each.name for each in hello.accounts],
                cure="log in to it at the platform, or name one of these in settings.account",
            )

    def _update_account(self) -> None:
        """Account and instruments as the bridge has described them so far."""
        hello = self._open().session.hello
        assert hello is not None
        self.instruments = self._correct_all(hello, tradable=False)
        accounts = {each.name: each for each in hello.accounts}
        name = self.settings.account or (next(iter(accounts)) if len(accounts) == 1 else "")
        self.account = None
        if name in accounts:
            chosen, instruments = accounts[name], self._correct_all(hello, tradable=True)
            self.account = PlatformAccount(
                name=name, mode=chosen.mode, currency=chosen.currency, instruments=instruments
            )

    def _correct_all(self, hello: BridgeHello, *, tradable: bool) -> tuple[Instrument, ...]:
        said = self._symbols.instruments(tradable=tradable)
        return tuple(self.correct_instrument(instrument, hello) for instrument in said)

    def _name_all(self, symbols: Sequence[Symbol]) -> dict[str, str]:
        """The platform's name of each symbol that has one there."""
        names: dict[str, str] = {}
        for symbol in symbols:
            try:
                name = self.name_at_platform(symbol)
            except SymbolRefused as refusal:
                self._log.warning("symbol without a name at the platform", symbol=symbol.name, reason=str(refusal))
                continue
            if name in names.values():
                raise ConfigError(
                    f"platform {self.feed.name!r}: {name!r} would be two of our symbols, {symbol.name} the second; "
                    "correct settings.names or the symbol mappings"
                )
            names[symbol.name] = name
        return names

    def _apply_status(self, status: Status) -> None:
        self._log.warning("state of the platform", data=status.data_up, orders=status.orders_up, reason=status.text)
        if self.data_up and not status.data_up:
            self.feed.mark_stale(list(self._symbols.by_id.values()))
        returned = status.orders_up and not self.orders_up
        self.data_up, self.orders_up, self.state_text = status.data_up, status.orders_up, status.text
        if returned:
            raise LinkLostError("the platform's broker is back: what happened meanwhile must be asked anew")

    def _log_notice(self, notice: Notice) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self._notice_due_ns:
            self._notice_due_ns = now_ns + _NOTICE_EVERY_NS
            write = {"info": self._log.info, "warning": self._log.warning, "error": self._log.error}[notice.level]
            write("the bridge says", text=notice.text)

    def _report(self, event: OrderEvent) -> None:
        if event.platform != self.feed.name:
            raise FrameError(f"an order event was of platform {event.platform!r}, must be of {self.feed.name!r}")
        if self.account is None or event.account != self.account.name:
            self._counters.events_elsewhere.add()
        elif self._wants_events and self.orders is not None:
            self.orders.report(event)
