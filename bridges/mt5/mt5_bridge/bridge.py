"""The main loop: serve the sockets, then make one call to the terminal at a time, all in one thread."""

from __future__ import annotations

import hmac
import secrets
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from .acceptor import Acceptor
from .clock_watch import ClockWatch
from .config import Config
from .connection import Link
from .constants import COMPLAIN_S, LAG_S, LONGEST_WAIT_S, NS_PER_MS
from .descriptions import SymbolNames
from .errors import Breach, CallFailed, TerminalLost, WrongTerminal
from .fields import Body
from .greeting import make_hello
from .log import Log
from .order_service import OrderService
from .protocol import prove, read_message
from .pulse import Pulse
from .server_clock import MINUTE_MS, ServerClock
from .session import Session
from .subscriptions import Subscriptions
from .terminal import Terminal
from .terminal_keeper import TerminalKeeper


class Bridge:
    """Serves one adapter from one terminal, in one thread. Call `turn` in a loop."""

    def __init__(self, module: Any, config: Config, log: Log, listener: socket.socket) -> None:
        boot_id = secrets.token_hex(8)
        self._config = config
        self._log = log
        self._pulse = Pulse(config.pulse_file, boot_id)
        self._session = Session(log, self._pulse)
        self._session.on_end = self._clear
        self._clock = ServerClock(config.clock)
        names = SymbolNames()
        self._terminal = Terminal(module, config, log)
        self._terminal.announce = self._session.announce
        self._keeper = TerminalKeeper(config, self._terminal, self._clock, names, self._session)
        self._clock_watch = ClockWatch(self._terminal, self._clock, self._session)
        self._clock_watch.on_change = self._watch_soon
        self._subscriptions = Subscriptions(
            config, self._terminal, self._clock, names, self._clock_watch.gauge, self._session
        )
        self._orders = OrderService(config, self._terminal, self._clock, self._clock_watch, self._keeper, self._session)
        self._acceptor = Acceptor(listener, config.platform, boot_id, self._session)
        self._lag_due_s = 0.0
        self._complaint = ""
        self._complain_due_s = 0.0

    @property
    def is_hopeless(self) -> bool:
        """See `TerminalKeeper.is_hopeless`."""
        return self._keeper.is_hopeless

    def connect(self) -> None:
        """See `TerminalKeeper.connect`."""
        self._keeper.connect()

    def report(self) -> Body:
        """See `TerminalKeeper.report`."""
        return self._keeper.report()

    def turn(self) -> None:
        """Serve the sockets, then do the most urgent task that is due."""
        now_s = time.monotonic()
        self._pulse.beat(now_s)
        self._serve(now_s)
        try:
            self._do_next(time.monotonic())
        except (TerminalLost, WrongTerminal) as error:
            self._keeper.handle(error)
        except CallFailed as error:
            self._complain(str(error), now_s)
        if self._session.link is not None and self._session.link.is_excused:
            self._session.send({"type": "busy", "for_ms": 0, "doing": ""})  # the long call is over
        now_s = time.monotonic()
        for link in self._acceptor.links:
            link.flush(now_s)

    def _complain(self, text: str, now_s: float) -> None:
        if text != self._complaint or now_s >= self._complain_due_s:
            self._complaint, self._complain_due_s = text, now_s + COMPLAIN_S
            self._session.notice("error", f"orders or positions cannot be read: {text}")

    def stop(self) -> None:
        """Send `closing` to every connection and close all sockets."""
        now_s = time.monotonic()
        for link in self._acceptor.links:
            link.end("closing", "the bridge stops", now_s)
            link.flush(now_s)
            link.close()
        self._acceptor.listener.close()

    def _do_next(self, now_s: float) -> None:
        if self._keeper.trade is None:
            if now_s >= self._keeper.connect_due_s:
                self._keeper.reconnect()
            return
        if now_s >= self._keeper.watch_due_s or self._keeper.trade.desk.switches_doubtful:
            self._keeper.watch(now_s)
        elif self._session.link is None:
            return
        elif self._config.has_orders and (self._keeper.trade.monitor.at_once or now_s >= self._orders.look_due_s):
            self._orders.look(now_s)
        elif now_s >= self._lag_due_s:
            self._lag_due_s = now_s + LAG_S
            self._subscriptions.find_lags()
        elif now_s >= self._clock_watch.due_s:
            self._clock_watch.due_s = now_s + 1.0
            self._subscriptions.count_gated()
            self._clock_watch.compare(self._subscriptions.streams.values())
        else:
            self._subscriptions.poll(now_s)

    def _wait_s(self, now_s: float) -> float:
        """Seconds until the next task is due, at most LONGEST_WAIT_S."""
        due_s = [now_s + LONGEST_WAIT_S, *(link.due_s for link in self._acceptor.links)]
        if self._keeper.trade is None:
            due_s.append(self._keeper.connect_due_s)
        else:
            due_s.append(self._keeper.watch_due_s)
            if self._session.link is not None:
                due_s += [self._clock_watch.due_s, self._lag_due_s]
                if self._config.has_ticks:
                    due_s += [stream.due_s for stream in self._subscriptions.streams.values()]
                if self._config.has_orders:
                    due_s.append(0.0 if self._keeper.trade.monitor.at_once else self._orders.look_due_s)
        return max(min(due_s) - now_s, 0.0)

    def _serve(self, now_s: float) -> None:
        self._acceptor.drop_dead()
        writing = [link.socket for link in self._acceptor.links if link.wants_to_write]
        reading = [self._acceptor.listener, *(link.socket for link in self._acceptor.links)]
        readable, _, _ = select.select(reading, writing, [], self._wait_s(now_s))
        now_s = time.monotonic()
        if self._acceptor.listener in readable:
            self._acceptor.accept(now_s)
        for link in list(self._acceptor.links):
            if link.socket in readable:
                link.receive(now_s)
            self._handle_messages(link, now_s)
            link.flush(now_s)
        self._acceptor.drop_dead()

    def _handle_messages(self, link: Link, now_s: float) -> None:
        """Handle the received messages of a connection in order; end it when it breaks the protocol or is silent."""
        try:
            while not link.is_over and not link.is_ending:
                payload = link.frames.take()
                if payload is None:
                    break
                body = read_message(payload, link.received + 1)
                self._handle(link, body)
                link.received += 1
        except Breach as breach:
            self._log.say("warning", f"an adapter broke the protocol: {breach}")
            code = "wrong_version" if "version was" in str(breach) else "malformed"
            link.end(code, str(breach), now_s)
        silent_s = now_s - (link.received_s if link is self._session.link else link.opened_s)
        if silent_s > link.mute_after_s and not link.is_ending:
            link.end("mute", f"nothing heard for {silent_s:.1f} s", now_s)

    def _handle(self, link: Link, body: Body) -> None:
        kind = body["type"]
        if kind == "error":
            self._log.say("warning", f"the adapter ends the session, {body['code']}: {body['text']!r}")
            link.close()
        elif link is not self._session.link:
            if kind != "login":
                raise Breach(f"{kind} came before login")
            self._guarded(link, body, self._handle_login)
        elif kind == "heartbeat":
            link.echo = (body["sent_ns"], time.time_ns())
        elif kind == "subscribe":
            self._guarded(link, body, self._subscribe)
        elif kind == "snapshot_request":
            self._guarded(link, body, self._orders.answer_snapshot)
        elif kind in ("place", "cancel", "replace", "flatten"):
            self._orders.command(link, body)
        else:
            raise Breach(f"{kind} came a second time")

    def _guarded(self, link: Link, body: Body, deed: Callable[[Link, Body], None]) -> None:
        """Run a handler that calls the terminal. When the terminal fails, end this connection with `not_ready`."""
        try:
            deed(link, body)
        except (TerminalLost, WrongTerminal, CallFailed) as error:
            if not isinstance(error, CallFailed):
                self._keeper.handle(error)
            # A connection that is just logging in is not the session yet, so the keeper has not ended it.
            link.end("not_ready", str(error), time.monotonic())

    def _handle_login(self, link: Link, login: Body) -> None:
        now_s, received_ns = time.monotonic(), time.time_ns()
        token = self._config.token
        if not hmac.compare_digest(login["proof"], prove(token, "adapter", link.nonce, login["nonce"])):
            self._log.say("warning", "a login with a wrong token")
            link.end("wrong_token", "the token of the adapter is another one", now_s)
            return
        if login["platform"] != self._config.platform:
            raise Breach(f"platform was {login['platform']!r}, this bridge is for {self._config.platform!r}")
        if self._keeper.trade is None or self._keeper.unfit:
            link.end("not_ready", self._keeper.unfit, now_s)
            return
        self._keeper.watch(now_s)
        account = self._terminal.account
        assert account is not None
        self._keeper.trade.monitor.begin()
        if self._session.link is not None:
            self._session.link.end("replaced", "another adapter has logged in", now_s)
            self._session.link.flush(now_s)
            self._session.forget()
        details = {"utc_offset_minutes": str(self._offset_minutes()), "role": self._config.role}
        proof = prove(token, "bridge", login["nonce"], link.nonce)
        link.queue(make_hello(proof, login, received_ns, account, self._keeper.fitness, details))
        self._session.open(link, login)

    def _offset_minutes(self) -> int:
        return self._clock.offset_ms(time.time_ns() // NS_PER_MS) // MINUTE_MS

    def _subscribe(self, link: Link, body: Body) -> None:
        assert self._keeper.trade is not None
        self._subscriptions.subscribe(link, body, self._keeper.trade.desk.markets)

    def _clear(self) -> None:
        self._subscriptions.clear()
        if self._keeper.trade is not None:
            self._keeper.trade.desk.markets.clear()

    def _watch_soon(self) -> None:
        self._keeper.watch_due_s = 0.0
