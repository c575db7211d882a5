"""Errors."""

from __future__ import annotations


class Breach(Exception):
    """The other side broke the protocol: its bytes cannot be trusted from here on."""


class ConfigError(Exception):
    """What was wrong, and its cure. Starting again does not help."""


class TerminalLost(Exception):
    """The terminal is gone, or the pipe to it: everything has to be opened anew."""


class WrongTerminal(Exception):
    """It is another terminal, login, server or company than the configuration names."""


class CallFailed(Exception):
    """The terminal refused a call that nothing can go on without."""


class TooLate(Exception):
    """The time until which an order may be sent has passed."""


class BadNumber(CallFailed, ValueError):
    """The terminal gave something for a number that is none."""


class SymbolRefused(Exception):
    """Why a symbol is not given."""


class NotSynchronised(SymbolRefused):
    """The terminal knows the symbol, but its terms have not come from the broker yet."""


class Refused(Exception):
    """The bridge itself says no: nothing has reached the terminal. `code`: the protocol's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
