"""Typed refusals: each carries a short code for reports and counters, and a text for a person."""

from __future__ import annotations

from ..errors import GatewayError

SYMBOL_UNKNOWN = "symbol_unknown"
SYMBOL_AMBIGUOUS = "symbol_ambiguous"
SYMBOL_NOT_TRADABLE = "symbol_not_tradable"
SYMBOL_NOT_OFFERED = "symbol_not_offered"
CONTRACT_NOT_LISTED = "contract_not_listed"
INSTRUMENT_UNKNOWN = "instrument_unknown"
OFF_GRID = "off_grid"
CURRENCY_MISMATCH = "currency_mismatch"
RATE_MISSING = "rate_missing"
RATE_STALE = "rate_stale"
RATE_IMPLAUSIBLE = "rate_implausible"


class InstrumentRefused(GatewayError):
    """A question about an instrument has no safe answer. `code` is one of the constants above."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class SymbolRefused(InstrumentRefused):
    """A platform name maps to nothing, to several things, or to something that cannot be traded.

    `candidates` holds the contract codes or instrument symbols it could have meant, if any.
    """

    def __init__(self, code: str, text: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(code, text)
        self.candidates = candidates


class RateRefused(InstrumentRefused):
    """No currency rate is good enough for risk or sizing: missing, stale or implausible."""
