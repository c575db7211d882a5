"""Call the MetaTrader5 module: check whose account it is, classify its errors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from .config import Config
from .constants import (
    ACCOUNT_REAL,
    AUTH_FAILED,
    CALL_FAILED,
    INITIALIZE_LIMIT_MS,
    INITIALIZE_TIMEOUT_MS,
    IPC_LOST,
    MARGIN_HEDGING,
    MODULE_RAISES,
    SEND_LIMIT_MS,
)
from .errors import CallFailed, TerminalLost, TooLate, WrongTerminal
from .fields import Body
from .log import Log


class Account:
    """The account that the terminal is logged in to."""

    def __init__(self, terminal: Any, account: Any) -> None:
        self.name = str(account.login)
        self.hedging: bool = account.margin_mode == MARGIN_HEDGING
        self.currency: str = account.currency
        self.simulated: bool = account.trade_mode != ACCOUNT_REAL
        self.build: int = terminal.build
        self.details = {
            "login": str(account.login),
            "server": account.server[:512],
            "company": account.company[:512],
            "path": terminal.path[:512],
            "build": str(terminal.build),
            "margin_mode": str(account.margin_mode),
            "leverage": str(account.leverage),
        }


class Fitness(NamedTuple):
    """`status` of the protocol: whether data and orders are up, and what the user must do."""

    data_up: bool
    orders_up: bool
    text: str


class Terminal:
    """The MetaTrader5 module with classified errors.

    Attributes:
        announce: called before a call that may be long, with its limit in ms and its name.
        error: code and text of the last failed call.
        account: None until connected.
    """

    def __init__(self, module: Any, config: Config, log: Log) -> None:
        self._module = module
        self._config = config
        self._log = log
        self.announce: Callable[[int, str], None] = lambda for_ms, doing: None
        self.error: tuple[int, str] = (1, "Success")
        self.account: Account | None = None

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a function of the module; its result, None when it failed (see `error`). Raises TerminalLost."""
        try:
            result = getattr(self._module, name)(*arguments, **keywords)
        except MODULE_RAISES as error:
            self.error = (CALL_FAILED, repr(error)[:200])
            return None
        if result is None or result is False:
            self.error = self._module.last_error()
            if self.error[0] in IPC_LOST:
                raise TerminalLost(f"{name}: {self.error[1]} ({self.error[0]})")
        return result

    def need(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """As `call`. Raises CallFailed where that returns None."""
        result = self.call(name, *arguments, **keywords)
        if result is None:
            raise CallFailed(f"{name}: {self.error[1]} ({self.error[0]})")
        return result

    def need_account(self) -> Any:
        """account_info, checked: the user may switch the account between any two calls.

        Raises:
            WrongTerminal: another login, server or company than configured.
            CallFailed, TerminalLost: see `need`.
        """
        account, config = self.need("account_info"), self._config
        found = [
            ("login", config.login, account.login),
            ("server", config.server, account.server),
            ("company", config.company, account.company),
        ]
        wrong = [
            f"{name} was {was!r}, the configuration names {wanted!r}"
            for name, wanted, was in found
            if wanted is not None and str(wanted).casefold() != str(was).casefold()
        ]
        if wrong:
            raise WrongTerminal(f"{'; '.join(wrong)}; log in there, or correct the configuration")
        return account

    def find(self, name: str, ticket: int) -> Any:
        """The order or position of this ticket, None when there is none.

        Args:
            name: orders_get or positions_get.

        Raises:
            CallFailed, TerminalLost, WrongTerminal: see `need_account`.
        """
        found = self.need(name, ticket=ticket)
        self.need_account()  # the answer could be about another account
        return found[0] if found else None

    def send(self, request: Body, not_after_ns: int = 0) -> Any:
        """Call order_send; its result, or None with `error`. Once it is called nothing is raised: the order may be out.

        Raises, with nothing sent:
            TooLate: `not_after_ns` has passed; 0 = no limit. Checked last: the account check may take long.
            CallFailed, TerminalLost, WrongTerminal: see `need_account`.
        """
        self.announce(SEND_LIMIT_MS, "order_send")
        self.need_account()
        if not_after_ns and time.time_ns() > not_after_ns:
            raise TooLate
        try:
            result = self._module.order_send(request)
        except MODULE_RAISES as error:
            # It may have failed before sending or while the answer was decoded: the outcome is unknown.
            self.error = (CALL_FAILED, repr(error)[:200])
            return None
        if result is None:
            self.error = self._module.last_error()
        return result

    def connect(self) -> Account:
        """Connect to the configured terminal, launching it if necessary, and check its account.

        Raises:
            TerminalLost: it cannot be reached now.
            WrongTerminal: another terminal or account than configured.
        """
        self.account = None
        config = self._config
        self.announce(INITIALIZE_LIMIT_MS, "initialize")
        self._module.shutdown()
        opened = self._module.initialize(
            path=config.terminal_path, portable=config.portable, timeout=INITIALIZE_TIMEOUT_MS
        )
        if not opened:
            code, text = self._module.last_error()
            cure = "; log in to it by hand once, with the password saved" if code == AUTH_FAILED else ""
            raise TerminalLost(f"{config.terminal_path}: {text} ({code}){cure}")
        account = Account(*self._read_identity())
        self._log.say("info", f"terminal connected: {account.details}")
        self.account = account
        return account

    def look(self) -> tuple[Fitness, Any]:
        """Check the switches of terminal and account; also returns account_info. Raises TerminalLost, WrongTerminal."""
        terminal, account = self._read_identity()
        wants = []
        if not terminal.connected:
            wants.append("the terminal has no connection to the broker")
        if not self._config.has_orders:
            wants.append("this bridge is for ticks alone (role)")
        else:
            if not terminal.trade_allowed:
                wants.append("press Algo Trading in the terminal")
            if terminal.tradeapi_disabled:
                wants.append("allow algo trading via the external Python API (Tools, Options, Expert Advisors)")
            if not account.trade_allowed:
                wants.append("trading is not allowed on this account: log in with the master password")
            if not account.trade_expert:
                wants.append("the broker forbids algo trading on this account")
        if self.account is not None and terminal.build != self.account.build:
            self._log.say("warning", f"the terminal is build {terminal.build} now, was {self.account.build}")
            self.account.build = terminal.build
        return Fitness(bool(terminal.connected), not wants, "; ".join(wants)), account

    def _read_identity(self) -> tuple[Any, Any]:
        try:
            terminal, account = self.need("terminal_info"), self.need_account()
        except CallFailed as error:
            raise TerminalLost(f"it tells nothing about itself: {error}") from None
        wanted_path = os.path.dirname(self._config.terminal_path)
        if _plain_path(terminal.path) != _plain_path(wanted_path):
            raise WrongTerminal(
                f"path was {terminal.path!r}, the configuration names {wanted_path!r}; log in there, or correct the "
                "configuration"
            )
        return terminal, account


def _plain_path(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
