"""The bridge."""

from __future__ import annotations

import hmac
import json
import math
import os
import secrets
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from .commands import Desk
from .config import Config, Log
from .connection import Link
from .constants import (
    COMPLAIN_S,
    DAY_S,
    HANG_LIMIT_MS,
    HISTORY_LIMIT_MS,
    LAG_S,
    LONGEST_BACKOFF_S,
    LONGEST_WAIT_S,
    MAX_BUSY_MS,
    MISSING_S,
    MONEY_S,
    MOST_STRANGERS,
    MOST_WAITING_TICKS,
    NS_PER_MS,
    PROGRAM,
    PULSE_S,
    SYNCHRONISE_S,
    VERSION,
    WAIT_S,
    WATCH_S,
)
from .descriptions import Describer, SymbolNames
from .errors import Breach, CallFailed, NotSynchronised, Refused, SymbolRefused, TerminalLost, WrongTerminal
from .monitor import Monitor, make_snapshot
from .order_ids import OrderIds
from .protocol import Body, prove, read_message
from .server_clock import MINUTE_MS, ClockGauge, ServerClock
from .symbols import SymbolFacts, describe_instrument, open_symbol
from .terminal import Account, Fitness, Terminal
from .ticks import HOLE, QuoteGate, Rows, Stream, TickReader


class Pulse:
    """The file in which a supervisor sees that the bridge turns, or until when it may stand still."""

    def __init__(self, path: str | None, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._due_s = 0.0

    def beat(self, now_s: float) -> None:
        """Once a second."""
        if now_s >= self._due_s:
            self.write(now_s, "turning")

    def write(self, now_s: float, doing: str) -> None:
        """From now on this may take HANG_LIMIT_MS."""
        self._due_s = now_s + PULSE_S
        if self._path is None:
            return
        now_ns = time.time_ns()
        line = {
            "pid": os.getpid(),
            "boot_id": self._boot_id,
            "at_ns": now_ns,
            "until_ns": now_ns + HANG_LIMIT_MS * NS_PER_MS,
            "doing": doing,
        }
        fresh = f"{self._path}.new"
        try:
            with open(fresh, "w", encoding="ascii") as target:
                target.write(json.dumps(line) + "\n")
            os.replace(fresh, self._path)
        except OSError:
            pass  # somebody reads it just now (Windows); the next one comes soon


class Trade:
    """What belongs to the account that the terminal is logged in to; made anew with each connection to the terminal."""

    def __init__(self, bridge: Bridge, account: Account) -> None:
        config = bridge.config
        self.ids = OrderIds(config.ids_file, hedging=account.hedging)
        self.describer = Describer(config.platform, account, bridge.clock, self.ids, bridge.names)
        self.monitor = Monitor(
            bridge.terminal, bridge.clock, self.ids, self.describer, config.history_days * DAY_S, bridge.tell
        )
        self.desk = Desk(
            bridge.terminal,
            bridge.clock,
            self.ids,
            self.describer,
            self.monitor,
            config.deviation_points,
            bridge.tell,
            bridge.log,
        )
        self.money: Body = {}


class Bridge:
    """One terminal, one adapter, one thread. `turn` for ever.

    Attributes:
        is_hopeless: since its start the terminal is another one than the configuration's, for `account_wait_s`: a
            terminal that was just opened may still be on its way to the right account.
    """

    def __init__(self, module: Any, config: Config, log: Log, listener: socket.socket) -> None:
        self.config = config
        self.log = log
        self.clock = ServerClock(config.clock)
        self.names = SymbolNames()
        self.terminal = Terminal(module, config, log)
        self.terminal.announce = self._announce
        self.boot_id = secrets.token_hex(8)
        self.is_hopeless = False
        self._pulse = Pulse(config.pulse_file, self.boot_id)
        self._gauge = ClockGauge()
        self._gate = QuoteGate(config.gate_locked, config.quote_hours)
        self._reader = TickReader(self.terminal, self.clock, self._gauge, self._gate, config.poll_s)
        self._listener = listener
        self._links: list[Link] = []
        self._session: Link | None = None
        self._streams: dict[int, Stream] = {}
        self._trade: Trade | None = None
        self._fitness = Fitness(False, False, "the terminal is not connected yet")
        self._unfit = self._fitness.text
        self._backoff_s = config.backoff_s
        self._right_until_s = time.monotonic() + config.account_wait_s
        self._connect_due_s = 0.0
        self._watch_due_s = 0.0
        self._look_due_s = 0.0
        self._money_due_s = 0.0
        self._gauge_due_s = 0.0
        self._lag_due_s = 0.0
        self._clock_trouble = ""
        self._complaint = ""
        self._complain_due_s = 0.0
        self._gated_told = 0
        self._crowded_out = 0
        self._crowd_due_s = 0.0

    # What the others use.

    def tell(self, body: Body) -> None:
        """An event for the adapter; without one it is left to the next snapshot."""
        if self._session is not None:
            self._session.queue(body)

    def notice(self, level: str, text: str) -> None:
        """For our log and the adapter's."""
        self.log.say(level, text)
        self.tell({"type": "notice", "level": level, "text": text[:512]})

    # The loop.

    def connect(self) -> None:
        """Raises TerminalLost, WrongTerminal, OSError (the file of ids)."""
        account = self.terminal.connect()
        self._trade = Trade(self, account)
        self._right_until_s = math.inf
        self._backoff_s = self.config.backoff_s
        self._watch_due_s = 0.0
        self._watch(time.monotonic())

    def turn(self) -> None:
        """Serve the sockets, then do the one thing that is most overdue."""
        now_s = time.monotonic()
        self._pulse.beat(now_s)
        self._serve(now_s)
        try:
            self._do_next(time.monotonic())
        except TerminalLost as error:
            self.lose_terminal(str(error))
        except WrongTerminal as error:
            self._become_unfit(str(error))
        except CallFailed as error:
            self._complain(str(error), now_s)
        if self._session is not None and self._session.is_excused:
            self.tell({"type": "busy", "for_ms": 0, "doing": ""})  # the long call is over
        now_s = time.monotonic()
        for link in self._links:
            link.flush(now_s)

    def _complain(self, text: str, now_s: float) -> None:
        if text != self._complaint or now_s >= self._complain_due_s:
            self._complaint, self._complain_due_s = text, now_s + COMPLAIN_S
            self.notice("error", f"orders or positions cannot be read: {text}")

    def stop(self) -> None:
        """Say so, and close."""
        now_s = time.monotonic()
        for link in self._links:
            link.end("closing", "the bridge stops", now_s)
            link.flush(now_s)
            link.close()
        self._listener.close()

    def report(self) -> Body:
        """What `--check` prints."""
        account = self.terminal.account
        assert account is not None
        return {
            "account": account.name,
            "mode": "hedging" if account.hedging else "netting",
            "currency": account.currency,
            "simulated": account.simulated,
            **account.details,
            "data_up": self._fitness.data_up,
            "orders_up": self._fitness.orders_up,
            "to_do": self._fitness.text,
        }

    def _do_next(self, now_s: float) -> None:
        if self._trade is None:
            if now_s >= self._connect_due_s:
                self._reconnect()
            return
        if now_s >= self._watch_due_s or self._trade.desk.switches_doubtful:
            self._watch(now_s)
        elif self._session is None:
            return
        elif self.config.has_orders and (self._trade.monitor.at_once or now_s >= self._look_due_s):
            self._look(now_s)
        elif now_s >= self._lag_due_s:
            self._lag_due_s = now_s + LAG_S
            self._find_lags()
        elif now_s >= self._gauge_due_s:
            self._gauge_due_s = now_s + 1.0
            self._compare_clocks()
        else:
            self._poll_ticks(now_s)

    def _wait_s(self, now_s: float) -> float:
        """How long nothing needs to be done."""
        due_s = [now_s + LONGEST_WAIT_S, *(link.due_s for link in self._links)]
        if self._trade is None:
            due_s.append(self._connect_due_s)
        else:
            due_s.append(self._watch_due_s)
            if self._session is not None:
                due_s += [self._gauge_due_s, self._lag_due_s]
                if self.config.has_ticks:
                    due_s += [stream.due_s for stream in self._streams.values()]
                if self.config.has_orders:
                    due_s.append(0.0 if self._trade.monitor.at_once else self._look_due_s)
        return max(min(due_s) - now_s, 0.0)

    def _serve(self, now_s: float) -> None:
        self._drop_dead()
        writing = [link.socket for link in self._links if link.wants_to_write]
        reading = [self._listener, *(link.socket for link in self._links)]
        readable, _, _ = select.select(reading, writing, [], self._wait_s(now_s))
        now_s = time.monotonic()
        if self._listener in readable:
            self._accept(now_s)
        for link in list(self._links):
            if link.socket in readable:
                link.receive(now_s)
            self._digest(link, now_s)
            link.flush(now_s)
        self._drop_dead()

    def _accept(self, now_s: float) -> None:
        try:
            connection, _ = self._listener.accept()
            link = Link(connection, now_s)
        except OSError:
            return  # gone again already
        strangers = [link for link in self._links if link is not self._session]
        if len(strangers) >= MOST_STRANGERS:
            strangers[0].close()
            self._crowded_out += 1
            if now_s >= self._crowd_due_s:
                self._crowd_due_s = now_s + COMPLAIN_S
                self.notice("warning", f"{self._crowded_out} connections were closed to make room, none had logged in")
        self._links.append(link)
        link.queue(
            {
                "type": "challenge",
                "nonce": link.nonce,
                "platform": self.config.platform,
                "bridge": PROGRAM,
                "bridge_version": VERSION,
                "boot_id": self.boot_id,
            }
        )

    def _drop_dead(self) -> None:
        for link in [each for each in self._links if each.is_over]:
            self._links.remove(link)
            if link is self._session:
                self._forget_session()

    def _forget_session(self) -> None:
        self._session = None
        self._streams.clear()
        self.names.set({})
        if self._trade is not None:
            self._trade.desk.markets.clear()
        self.log.say("info", "the adapter is gone; orders and positions stay as they are")

    def _digest(self, link: Link, now_s: float) -> None:
        """Act upon the link's messages, one by one."""
        try:
            while not link.is_over and not link.is_ending:
                payload = link.frames.take()
                if payload is None:
                    break
                body = read_message(payload, link.received + 1)
                self._act(link, body)
                link.received += 1
        except Breach as breach:
            self.log.say("warning", f"an adapter broke the protocol: {breach}")
            code = "wrong_version" if "version was" in str(breach) else "malformed"
            link.end(code, str(breach), now_s)
        silent_s = now_s - (link.heard_s if link is self._session else link.opened_s)
        if silent_s > link.mute_after_s and not link.is_ending:
            link.end("mute", f"nothing heard for {silent_s:.1f} s", now_s)

    def _act(self, link: Link, body: Body) -> None:
        kind = body["type"]
        if kind == "error":
            self.log.say("warning", f"the adapter ends the session, {body['code']}: {body['text']!r}")
            link.close()
        elif link is not self._session:
            if kind != "login":
                raise Breach(f"{kind} came before login")
            self._guarded(link, body, self._log_in)
        elif kind == "heartbeat":
            link.echo = (body["sent_ns"], time.time_ns())
        elif kind == "subscribe":
            self._guarded(link, body, self._subscribe)
        elif kind == "snapshot_request":
            self._guarded(link, body, self._answer_snapshot)
        elif kind in ("place", "cancel", "replace"):
            self._command(link, body)
        else:
            raise Breach(f"{kind} came a second time")

    def _guarded(self, link: Link, body: Body, deed: Callable[[Link, Body], None]) -> None:
        """The terminal may be lost on the way; then there is no session any more."""
        try:
            deed(link, body)
        except (TerminalLost, WrongTerminal, CallFailed) as error:
            if isinstance(error, TerminalLost):
                self.lose_terminal(str(error))
            elif isinstance(error, WrongTerminal):
                self._become_unfit(str(error))
            # Who is just logging in is no session yet; others have heard it already.
            link.end("not_ready", str(error), time.monotonic())

    # Sessions.

    def _log_in(self, link: Link, login: Body) -> None:
        now_s, received_ns = time.monotonic(), time.time_ns()
        token = self.config.token
        if not hmac.compare_digest(login["proof"], prove(token, "adapter", link.nonce, login["nonce"])):
            self.log.say("warning", "a login with a wrong token")
            link.end("wrong_token", "the token of the adapter is another one", now_s)
            return
        if login["platform"] != self.config.platform:
            raise Breach(f"platform was {login['platform']!r}, this bridge is for {self.config.platform!r}")
        if self._trade is None or self._unfit:
            link.end("not_ready", self._unfit, now_s)
            return
        self._watch(now_s)
        account = self.terminal.account
        assert account is not None
        self._trade.monitor.begin()
        if self._session is not None:
            self._session.end("replaced", "another adapter has logged in", now_s)
            self._session.flush(now_s)
            self._forget_session()
        self._session = link
        fitness = self._fitness
        link.queue(
            {
                "type": "hello",
                "proof": prove(token, "bridge", login["nonce"], link.nonce),
                "platform_version": f"MetaTrader 5 build {account.build}",
                "accounts": [self._describe_account(account)],
                "capabilities": self._capabilities(account),
                "data_up": fitness.data_up,
                "orders_up": fitness.orders_up,
                "login_sent_ns": login["sent_ns"],
                "login_received_ns": received_ns,
                "sent_ns": time.time_ns(),
                "text": fitness.text[:512],
                "details": {
                    **account.details,
                    "utc_offset_minutes": str(self._offset_minutes()),
                    "role": self.config.role,
                },
            }
        )
        link.open(self._make_heartbeat, login["heartbeat_ms"], login["mute_after_ms"])
        self.log.say("info", "an adapter has logged in")

    def _describe_account(self, account: Account) -> Body:
        return {
            "name": account.name,
            "mode": "hedging" if account.hedging else "netting",
            "currency": account.currency,
            "simulated": account.simulated,
        }

    def _capabilities(self, account: Account) -> Body:
        """Netting: one stop for the whole position, so brackets of single orders are not the platform's."""
        return {
            "order_types": ["market", "limit", "stop", "stop_limit"],
            "times_in_force": ["day", "gtc", "ioc", "fok", "gtd"],
            "replace": True,
            "replace_quantity": False,
            "brackets": account.hedging,
            "oco": False,
            "reduce_only": False,
            "close_by_ticket": account.hedging,
            "executions_history": True,
        }

    def _offset_minutes(self) -> int:
        return self.clock.offset_ms(time.time_ns() // NS_PER_MS) // MINUTE_MS

    def _make_heartbeat(self) -> Body:
        link = self._session
        assert link is not None
        echo_sent_ns, echo_received_ns = link.echo
        return {
            "type": "heartbeat",
            "sent_ns": time.time_ns(),
            "last_seq_received": link.received,
            "ticks_sent": link.ticks_sent,
            "ticks_dropped": link.ticks_dropped,
            "ticks_waiting": link.ticks_waiting,
            "busy_ms": 0,
            "echo_sent_ns": echo_sent_ns,
            "echo_received_ns": echo_received_ns,
        }

    def _announce(self, for_ms: int, doing: str) -> None:
        """A call follows that may block for so long: say so, and see to it that it has left."""
        now_s = time.monotonic()
        self._pulse.write(now_s, doing)
        link = self._session
        if link is None or link.is_over or for_ms < link.mute_after_s * 1000:
            return
        link.queue({"type": "busy", "for_ms": min(for_ms, MAX_BUSY_MS), "doing": doing})
        link.flush(now_s)

    def _subscribe(self, link: Link, body: Body) -> None:
        wanted = {each["symbol_id"]: each for each in body["symbols"]}
        if len(wanted) != len(body["symbols"]):
            raise Breach("a symbol_id came twice")
        assert self._trade is not None
        before, self._streams = self._streams, {}
        kept = {
            symbol_id
            for symbol_id, stream in before.items()
            if symbol_id in wanted and wanted[symbol_id]["platform_symbol"] == stream.name
        }
        link.forget_ticks(before.keys() - kept)
        markets = self._trade.desk.markets
        markets.clear()
        self.names.set({each["platform_symbol"]: each["symbol"] for each in body["symbols"]})
        until_s = time.monotonic() + SYNCHRONISE_S
        for symbol_id, each in wanted.items():
            answer, records = self._open_stream(each, before[symbol_id] if symbol_id in kept else None, until_s)
            link.queue({"type": "subscribed", "subscribe_seq": link.received + 1, "symbols": [answer]})
            if records is not None:
                link.queue_ticks(symbol_id, records)
            # History of the next one may take a while.
            link.flush(time.monotonic())

    def _open_symbol(self, wanted: Body, until_s: float) -> tuple[SymbolFacts, Body]:
        """What orders need to know of it, and `instrument` of the protocol. One that was just selected may take a
        moment to be synchronised. Raises SymbolRefused, ValueError.
        """
        assert self.terminal.account is not None
        currency = self.terminal.account.currency
        while True:
            now_ms = self.clock.to_server_ms(time.time_ns() // NS_PER_MS)
            info = open_symbol(self.terminal, wanted["platform_symbol"], now_ms)
            try:
                market = SymbolFacts(info)
                return market, describe_instrument(info, market, wanted["symbol"], currency, self.clock)
            except NotSynchronised:
                if time.monotonic() >= until_s:
                    raise
            time.sleep(WAIT_S)

    def _open_stream(self, wanted: Body, before: Stream | None, until_s: float) -> tuple[Body, Rows | None]:
        """Answer for one symbol, and its state."""
        assert self._trade is not None
        answer: Body = {"symbol_id": wanted["symbol_id"], "accepted": False}
        try:
            market, instrument = self._open_symbol(wanted, until_s)
        except (SymbolRefused, ValueError) as error:
            self.log.say("warning", f"{wanted['symbol']}: {error}")
            return {**answer, "text": str(error)[:512]}, None
        self._trade.desk.markets[wanted["symbol"]] = market
        if instrument["point_value"] is None and before is None:
            words = f"its profit is in {instrument['currency']}, which is not the account's currency"
            self.notice("warning", f"{wanted['symbol']}: what a point is worth is not known here ({words}), compare it")
        stream, resumed, text = before, False, ""
        if stream is None:
            cursor = None
            if self.config.has_ticks and self.clock.is_known:
                cursor, resumed, text = self._reader.begin(wanted)
            stream = Stream(wanted, cursor)
            if text:
                self.notice("warning", f"{wanted['symbol']} does not go on where it ended: {text}")
        else:
            resumed = True
            stream.symbol = wanted["symbol"]
        self._streams[stream.symbol_id] = stream
        # What goes on where it ended, or will, must not be overtaken by its own state.
        is_new = before is None and stream.cursor is not None and wanted["after_ns"] == 0
        records = self._reader.state(stream) if is_new else None
        answer.update(
            accepted=True, instrument=instrument, tradable=self.config.has_orders, resumed=resumed, text=text[:512]
        )
        return answer, records

    # Orders.

    def _command(self, link: Link, body: Body) -> None:
        assert self._trade is not None
        kind = body["type"]
        named = body["order"] if kind == "place" else body
        trouble: Exception | None = None
        try:
            self._check_route(named)
            handed_over = getattr(self._trade.desk, kind)(body)
        except (Refused, CallFailed, TerminalLost, WrongTerminal) as error:
            handed_over, trouble = False, error
            code = {"place": "platform_rejected", "cancel": "cancel_rejected", "replace": "replace_rejected"}[kind]
            if kind == "place" and isinstance(error, (TerminalLost, WrongTerminal)):
                code = "link_down"
            order_id, revision = named["client_order_id"], body.get("revision", 0)
            reject = self._trade.describer.reject(code, str(error), order_id, revision)
            # On the account's own route, whatever the command named: the adapter takes no other.
            self.tell(reject)
        link.queue({"type": "ack", "command_seq": link.received + 1, "handed_over": handed_over})
        link.flush(time.monotonic())
        if isinstance(trouble, TerminalLost):
            self.lose_terminal(str(trouble))
        elif isinstance(trouble, WrongTerminal):
            self._become_unfit(str(trouble))

    def _is_route(self, named: Body) -> bool:
        account = self.terminal.account
        return account is not None and (named["platform"], named["account"]) == (self.config.platform, account.name)

    def _check_route(self, named: Body) -> None:
        if not self._is_route(named):
            text = f"command was for {named['platform']}|{named['account']}, the terminal has another account"
            raise Refused("platform_rejected", text)
        if not self.config.has_orders:
            raise Refused("link_down", "this bridge is for ticks alone (role)")

    def _answer_snapshot(self, link: Link, body: Body) -> None:
        assert self._trade is not None
        self.terminal.announce(HISTORY_LIMIT_MS, "history")
        trade = self._trade
        if not self._is_route(body):
            raise Breach(f"a snapshot was asked for of {body['platform']}|{body['account']}")
        is_right = not self._clock_trouble
        link.queue(
            make_snapshot(self.terminal, trade.monitor, trade.describer, body, self.clock, clock_is_right=is_right)
        )

    def _look(self, now_s: float) -> None:
        assert self._trade is not None
        monitor, config = self._trade.monitor, self.config
        try:
            monitor.look(now_s)
            self._trade.desk.follow_up()
        finally:
            pause_s = config.monitor_busy_s if monitor.has_live_orders else config.monitor_idle_s
            self._look_due_s = time.monotonic() + pause_s
        if now_s >= self._money_due_s:
            self._money_due_s = now_s + MONEY_S
            money = self._trade.describer.money(self.terminal.need_account(), 0)
            if money != self._trade.money:
                self._trade.money = money
                self.tell({**money, "as_of_ns": time.time_ns()})

    # Ticks.

    def _poll_ticks(self, now_s: float) -> None:
        link = self._session
        assert link is not None
        if not self._streams or not self.config.has_ticks:
            return
        stream = min(self._streams.values(), key=lambda each: each.due_s)
        if stream.due_s > now_s:
            return
        if link.ticks_waiting > MOST_WAITING_TICKS or not self.clock.is_known:
            # The terminal keeps them.
            stream.due_s = now_s + 0.01
            return
        was_in_trouble = stream.trouble
        records = self._reader.poll(stream, now_s)
        if records is not None:
            link.queue_ticks(stream.symbol_id, records)
        if stream.trouble and stream.trouble != was_in_trouble:
            self._tell_stopped(stream, f"no ticks, {stream.trouble}")
        if stream.has_hole:
            stream.has_hole = False
            self.notice("error", f"{stream.symbol}: {HOLE}")
        if -math.inf < stream.missing_since_s < now_s - MISSING_S:
            assert stream.cursor is not None
            stream.missing_since_s = -math.inf  # told
            text = f"the terminal's history does not show {stream.cursor.missing} ticks any more that were sent"
            self.notice("warning", f"{stream.symbol}: {text}")
        late = 0 if stream.cursor is None else stream.cursor.late
        if late > stream.late_told:
            link.ticks_dropped += late - stream.late_told
            self.notice("warning", f"{stream.symbol}: {late - stream.late_told} ticks came too late to be sent")
            stream.late_told = late

    def _tell_stopped(self, stream: Stream, text: str) -> None:
        text = f"{stream.symbol}: {text}"
        self.notice("error", text)
        self.tell({"type": "symbol_status", "symbol_id": stream.symbol_id, "live": False, "text": text[:512]})

    def _find_lags(self) -> None:
        """A terminal may go on quoting while its history stands still. Twice in a row: a tick may just have come."""
        for stream in self._streams.values():
            stream.lagging = stream.lagging + 1 if self._reader.lags(stream) else 0
            if stream.lagging == 2:
                self._tell_stopped(stream, "the terminal has quotes, but no ticks in its history")

    def _compare_clocks(self) -> None:
        """What ticks show against what is believed."""
        if self._gate.gated > self._gated_told:
            count, self._gated_told = self._gate.gated - self._gated_told, self._gate.gated
            self.notice("info", f"{count} quotes were none (crossed, or outside the hours): sent as not known")
        now_ms = time.time_ns() // NS_PER_MS
        if not self.clock.is_known:
            self._sample_clock(now_ms)
        offset_ms = self._gauge.read(now_ms)
        if offset_ms is None:
            return
        believed_ms = self.clock.offset_ms(now_ms)
        self._gauge_due_s = time.monotonic() + 60.0
        if offset_ms == believed_ms and self.clock.is_known:
            self._clock_trouble = ""
            return
        words = f"the server's clock is {offset_ms // MINUTE_MS} minutes ahead of UTC"
        if self.clock.is_measured:
            self.clock.take(offset_ms, now_ms)
            self.notice("warning", f"{words} from now on (measured), was {believed_ms // MINUTE_MS}")
            self._watch_due_s = 0.0
        elif words != self._clock_trouble:
            self._clock_trouble = words
            text = f"{words}, configured are {believed_ms // MINUTE_MS}: times of ticks and fills are wrong"
            self.notice("error", f"{text}; correct `clock` in the bridge's configuration, or this computer's clock")

    def _sample_clock(self, now_ms: int) -> None:
        """Before the offset is known no ticks are read: the newest of each symbol serve instead."""
        for stream in self._streams.values():
            tick = self.terminal.call("symbol_info_tick", stream.name)
            newest_ms = 0 if tick is None else int(tick.time_msc)
            if stream.newest_ms and newest_ms > stream.newest_ms:
                self._gauge.add(newest_ms, now_ms)
            stream.newest_ms = newest_ms

    # The terminal's state.

    def _watch(self, now_s: float) -> None:
        """Look at the switches; tell when they have changed. Raises TerminalLost, WrongTerminal."""
        self._watch_due_s = now_s + WATCH_S
        if self._trade is not None:
            self._trade.desk.switches_doubtful = False
        found, _ = self.terminal.look()
        if not self.clock.is_known:
            found = Fitness(False, found.orders_up, "; ".join(filter(None, [found.text, "its clock is not known yet"])))
        self._unfit = ""
        if found != self._fitness:
            self._fitness = found
            self.log.say("warning", f"data {found.data_up}, orders {found.orders_up}: {found.text or 'all is well'}")
            self.tell({"type": "status", **found._asdict(), "text": found.text[:512]})

    def _become_unfit(self, text: str) -> None:
        """Somebody else is logged in: nothing is told of that account, until the right one is back."""
        if text != self._unfit:
            self.log.say("error", text)
        self._unfit = text
        self._end_session(text)
        if self._trade is None:
            self.is_hopeless = time.monotonic() >= self._right_until_s
            self.lose_terminal(text)

    def lose_terminal(self, text: str) -> None:
        """The pipe is broken: say so, and open everything anew."""
        self.log.say("error", f"the terminal is lost: {text}; next attempt in {self._backoff_s:.0f} s")
        self._end_session(f"the terminal is lost: {text}")
        self._trade = None
        self._fitness = Fitness(False, False, text)
        self._unfit = f"the terminal is not connected: {text}"
        self._connect_due_s = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)

    def _end_session(self, text: str) -> None:
        link, now_s = self._session, time.monotonic()
        if link is not None:
            self.tell({"type": "status", "data_up": False, "orders_up": False, "text": text[:512]})
            link.end("not_ready", text, now_s)
            link.flush(now_s)
            self._forget_session()

    def _reconnect(self) -> None:
        try:
            self.connect()
        except OSError as error:
            self.lose_terminal(str(error))
