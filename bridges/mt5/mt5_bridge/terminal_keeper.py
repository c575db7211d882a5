"""Keep the terminal connected: connect, check it regularly, reconnect after a pause."""

from __future__ import annotations

import math
import time

from .config import Config
from .constants import LONGEST_BACKOFF_S, WATCH_S
from .descriptions import SymbolNames
from .errors import TerminalLost, WrongTerminal
from .fields import Body
from .server_clock import ServerClock
from .session import Session
from .terminal import Fitness, Terminal
from .trade import Trade


class TerminalKeeper:
    """Holds the connection to the terminal and the objects of its account.

    Attributes:
        trade: None while the terminal is not connected.
        fitness: the last `status`.
        unfit: why logins are refused; empty when they are not.
        is_hopeless: the terminal or account was wrong from the start, and still is after `account_wait_s`. A terminal
            that was just launched may need that time to log in.
        connect_due_s, watch_due_s: when to connect and when to check the switches next, monotonic.
    """

    def __init__(
        self, config: Config, terminal: Terminal, clock: ServerClock, names: SymbolNames, session: Session
    ) -> None:
        self.trade: Trade | None = None
        self.fitness = Fitness(False, False, "the terminal is not connected yet")
        self.unfit = self.fitness.text
        self.is_hopeless = False
        self.connect_due_s = 0.0
        self.watch_due_s = 0.0
        self._config = config
        self._terminal = terminal
        self._clock = clock
        self._names = names
        self._session = session
        self._log = session.log
        self._backoff_s = config.backoff_s
        self._right_until_s = time.monotonic() + config.account_wait_s

    def connect(self) -> None:
        """Connect, create the objects of the account. Raises TerminalLost, WrongTerminal, OSError (the ids file)."""
        account = self._terminal.connect()
        self.trade = Trade(self._config, self._terminal, account, self._clock, self._names, self._session)
        self._right_until_s = math.inf
        self._backoff_s = self._config.backoff_s
        self.watch_due_s = 0.0
        self.watch(time.monotonic())

    def reconnect(self) -> None:
        """As `connect`; an OSError counts as a lost terminal. Raises TerminalLost, WrongTerminal."""
        try:
            self.connect()
        except OSError as error:
            self.lose(str(error))

    def watch(self, now_s: float) -> None:
        """Check the switches; report changes. Raises TerminalLost, WrongTerminal."""
        self.watch_due_s = now_s + WATCH_S
        if self.trade is not None:
            self.trade.desk.switches_doubtful = False
        found, _ = self._terminal.look()
        if not self._clock.is_known:
            found = Fitness(False, found.orders_up, "; ".join(filter(None, [found.text, "its clock is not known yet"])))
        self.unfit = ""
        if found != self.fitness:
            self.fitness = found
            self._log.say("warning", f"data {found.data_up}, orders {found.orders_up}: {found.text or 'all is well'}")
            self._session.send({"type": "status", **found._asdict(), "text": found.text[:512]})

    def become_unfit(self, text: str) -> None:
        """End the session: another account is logged in, and nothing about it may be reported."""
        if text != self.unfit:
            self._log.say("error", text)
        self.unfit = text
        self._session.end(text)
        if self.trade is None:
            self.is_hopeless = time.monotonic() >= self._right_until_s
            self.lose(text)

    def lose(self, text: str) -> None:
        """End the session and schedule a reconnect: the terminal is lost."""
        self._log.say("error", f"the terminal is lost: {text}; next attempt in {self._backoff_s:.0f} s")
        self._session.end(f"the terminal is lost: {text}")
        self.trade = None
        self.fitness = Fitness(False, False, text)
        self.unfit = f"the terminal is not connected: {text}"
        self.connect_due_s = time.monotonic() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)

    def handle(self, error: TerminalLost | WrongTerminal) -> None:
        """End the session; after TerminalLost schedule a reconnect, too."""
        if isinstance(error, TerminalLost):
            self.lose(str(error))
        else:
            self.become_unfit(str(error))

    def report(self) -> Body:
        """Account and state of the terminal, printed by `--check`."""
        account = self._terminal.account
        assert account is not None
        return {
            "account": account.name,
            "mode": "hedging" if account.hedging else "netting",
            "currency": account.currency,
            "simulated": account.simulated,
            **account.details,
            "data_up": self.fitness.data_up,
            "orders_up": self.fitness.orders_up,
            "to_do": self.fitness.text,
        }
