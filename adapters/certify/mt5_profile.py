"""The checks' profile of MetaTrader 5: details that its hello must contain, and cures for the texts of its faults."""

from __future__ import annotations

from typing import Final

from .checks import Profile

MT5: Final = Profile(
    resumes=True,
    details=("login", "server", "company", "path", "build"),
    cures={
        "press Algo Trading": "press the button Algo Trading in the terminal's tool bar, so that it is green",
        "10027": "press the button Algo Trading in the terminal's tool bar, so that it is green",
        "external Python API": "Tools, Options, Expert Advisors: take the tick from `Disable algo trading via external "
        "Python API`",
        "master password": "the terminal is logged in with the investor password: log in with the master password",
        "10017": "the account is read-only (investor password), or the symbol is switched off: ask the broker",
        "forbids algo trading": "ask the broker to allow algo trading on this account, or take another account",
        "10026": "the broker forbids algo trading on this account: ask for it, or take another account",
        "no connection to the broker": "look at the corner of the terminal's window; log in again",
        "10014": "the size is not allowed: --quantity with the symbol's smallest volume (its Specification says it)",
        "not_on_lot_step": "the size is not allowed: --quantity with the symbol's smallest volume",
        "10015": "price beside the tick size, or too far from the market for the exchange: --distance 0.01",
        "10016": "stops too near: the broker's stops level is larger than the distance; --distance 0.05",
        "10018": "the market is closed: run it while it is open",
        "10019": "not enough money: top up the demo account, or --quantity with a smaller size",
        "10030": "no filling mode of this symbol fits: keep this report",
        "10031": "the terminal has no connection to the broker: wait until it has, then run it again",
        "not_ready": "the bridge waits for its terminal: is it running, and logged in by hand once?",
        "no bridge at": "start the bridge beside the terminal (docs/platforms/mt5.md); is the port the same?",
    },
)
