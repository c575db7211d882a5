"""Answer commands and snapshot requests of the adapter; poll orders and money."""

from __future__ import annotations

import time

from .clock_watch import ClockWatch
from .config import Config
from .connection import Link
from .constants import HISTORY_LIMIT_MS, MONEY_S
from .errors import Breach, CallFailed, Refused, TerminalLost, WrongTerminal
from .fields import Body
from .server_clock import ServerClock
from .session import Session
from .snapshot import make_snapshot
from .terminal import Terminal
from .terminal_keeper import TerminalKeeper

_REFUSAL = {
    "place": "platform_rejected",
    "cancel": "cancel_rejected",
    "replace": "replace_rejected",
    "flatten": "unsupported_type",
}
"""Reject code of a command that was not handed over."""


class OrderService:
    """Serves the order messages of the session.

    Attributes:
        look_due_s: when to poll orders next, monotonic.
    """

    def __init__(
        self,
        config: Config,
        terminal: Terminal,
        clock: ServerClock,
        clock_watch: ClockWatch,
        keeper: TerminalKeeper,
        session: Session,
    ) -> None:
        self.look_due_s = 0.0
        self._config = config
        self._terminal = terminal
        self._clock = clock
        self._clock_watch = clock_watch
        self._keeper = keeper
        self._session = session
        self._money_due_s = 0.0

    def command(self, link: Link, body: Body) -> None:
        """Execute a `place`, `cancel` or `replace` and acknowledge it; refuse a `flatten`, which no terminal has."""
        assert self._keeper.trade is not None
        kind = body["type"]
        named = body["order"] if kind == "place" else body
        trouble: Exception | None = None
        try:
            self._check_route(named)
            if kind == "flatten":
                raise Refused(_REFUSAL[kind], "MetaTrader 5 has no flatten of its own; close by orders, or there")
            handed_over = getattr(self._keeper.trade.desk, kind)(body)
        except (Refused, CallFailed, TerminalLost, WrongTerminal) as error:
            handed_over, trouble = False, error
            code = _REFUSAL[kind]
            if kind == "place" and isinstance(error, (TerminalLost, WrongTerminal)):
                code = "link_down"
            order_id, revision = named.get("client_order_id", ""), body.get("revision", 0)
            reject = self._keeper.trade.describer.reject(code, str(error), order_id, revision)
            # Names the terminal's account, not the one in the command: the adapter accepts no other.
            self._session.send(reject)
        link.queue({"type": "ack", "command_seq": link.received + 1, "handed_over": handed_over})
        link.flush(time.monotonic())
        if isinstance(trouble, (TerminalLost, WrongTerminal)):
            self._keeper.handle(trouble)

    def answer_snapshot(self, link: Link, body: Body) -> None:
        """Send a snapshot. Raises Breach, CallFailed, TerminalLost, WrongTerminal."""
        assert self._keeper.trade is not None
        self._terminal.announce(HISTORY_LIMIT_MS, "history")
        trade = self._keeper.trade
        if not self._is_route(body):
            raise Breach(f"a snapshot was asked for of {body['platform']}|{body['account']}")
        is_right = not self._clock_watch.trouble
        link.queue(
            make_snapshot(self._terminal, trade.monitor, trade.describer, body, self._clock, clock_is_right=is_right)
        )

    def look(self, now_s: float) -> None:
        """Poll orders, retry waiting cancels, send the money when it has changed.

        Raises:
            CallFailed, TerminalLost, WrongTerminal: see `Monitor.look`.
        """
        assert self._keeper.trade is not None
        monitor, config = self._keeper.trade.monitor, self._config
        try:
            monitor.look(now_s)
            self._keeper.trade.desk.follow_up()
        finally:
            pause_s = config.monitor_busy_s if monitor.has_live_orders else config.monitor_idle_s
            self.look_due_s = time.monotonic() + pause_s
        if now_s >= self._money_due_s:
            self._money_due_s = now_s + MONEY_S
            money = self._keeper.trade.describer.money(self._terminal.need_account(), 0)
            if money != self._keeper.trade.money:
                self._keeper.trade.money = money
                self._session.send({**money, "as_of_ns": time.time_ns()})

    def _is_route(self, named: Body) -> bool:
        account = self._terminal.account
        return account is not None and (named["platform"], named["account"]) == (self._config.platform, account.name)

    def _check_route(self, named: Body) -> None:
        if not self._is_route(named):
            text = f"command was for {named['platform']}|{named['account']}, the terminal has another account"
            raise Refused("platform_rejected", text)
        if not self._config.has_orders:
            raise Refused("link_down", "this bridge is for ticks alone (role)")
