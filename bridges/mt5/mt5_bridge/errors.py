"""Exceptions that more than one module of the bridge raises or catches."""

from __future__ import annotations


class Breach(Exception):
    """The adapter broke the protocol: nothing that it sends after this can be trusted."""


class ConfigError(Exception):
    """The configuration is wrong; the text names the cure. A restart does not help."""


class TerminalLost(Exception):
    """The terminal or the pipe to it is gone: it must be connected again."""


class WrongTerminal(Exception):
    """The terminal, login, server or company is not the one in the configuration."""


class CallFailed(Exception):
    """The terminal returned no result for a call whose result is required."""


class TooLate(Exception):
    """The latest time at which the order may be sent has passed; it was not sent."""


class BadNumber(CallFailed, ValueError):
    """The terminal returned a number that is not finite."""


class SymbolRefused(Exception):
    """The symbol cannot be subscribed; the text says why."""


class NotSynchronised(SymbolRefused):
    """The terminal has not received the symbol's terms from the broker yet; a later attempt may succeed."""


class Refused(Exception):
    """The bridge rejects a command; nothing was sent. `code`: reject code of the protocol."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
