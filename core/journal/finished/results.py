"""What the trade report needs of one signal: a row's column, so that a report decodes no whole record."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Struct

from ...engine.state import SignalRecord
from ...messages import LegState, RejectCode, Report, SignalState

_ZERO: Final = Decimal(0)
_ENDED: Final = (SignalState.CLOSED, SignalState.FLATTENED)


class CurrencyResult(Struct, frozen=True):
    """Result of the legs in one currency other than USD, after fees. `usd_rate`: USD for one unit, as used; with its
    time (UTC ns) and source. `stale_rate`: it was older than risk may use.
    """

    currency: str
    realized: Decimal
    usd_rate: Decimal
    usd_rate_ns: int = 0
    usd_rate_source: str = ""
    stale_rate: bool = False


class SignalResult(Struct, frozen=True, array_like=True, kw_only=True):
    """One signal as of its last report. Lots and money are exact; money in USD, after fees; times UTC ns.

    `realized_usd`, `fees_usd`: None = there was no rate. `is_open`: lots of it are held. `is_trade`: it was opened and
    closed again, and its whole result is known. `closed_elsewhere`: other orders have closed it, in whole or in part.
    `codes`: why its legs, or the whole of it, were refused. Fields are only ever added, with a default.
    """

    signal_id: str
    symbol: str
    side: str
    platforms: tuple[str, ...]
    opened_ns: int
    closed_ns: int
    filled: Decimal
    realized_usd: Decimal | None
    fees_usd: Decimal | None
    sent_lots: Decimal
    filled_lots: Decimal
    is_open: bool
    is_trade: bool
    closed_elsewhere: bool
    stale_rates: bool
    unknown_legs: int
    codes: tuple[str, ...]
    currencies: tuple[CurrencyResult, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(SignalResult)


def write_result(result: SignalResult) -> bytes:
    """Encode a result for its row."""
    return _encoder.encode(result)


def read_result(data: bytes) -> SignalResult:
    """Decode a row's result. Raises: msgspec.MsgspecError, ValueError or ArithmeticError when it is damaged."""
    return _decoder.decode(data)


def make_result(report: Report, record: SignalRecord | None) -> SignalResult:
    """Return the result of a signal from its last report, and from what the engine's state has of it (None = nothing).

    A result in another currency is converted back at the rate that the engine itself used, not at a newer one.
    """
    legs = report.legs
    elsewhere = record is not None and any(leg.external_qty for leg in record.legs)
    ended = report.state in _ENDED and report.filled > 0
    return SignalResult(
        signal_id=report.signal_id,
        symbol=report.symbol,
        side=report.side.value,
        platforms=tuple(dict.fromkeys(leg.platform for leg in legs if leg.filled)),
        opened_ns=min((leg.first_fill_ns for leg in legs if leg.first_fill_ns), default=report.received_ns),
        closed_ns=report.changed_ns,
        filled=report.filled,
        realized_usd=report.realized_usd,
        fees_usd=report.fees_usd,
        sent_lots=sum((leg.quantity for leg in legs if leg.sent_ns), _ZERO),
        filled_lots=sum((leg.filled for leg in legs), _ZERO),
        is_open=bool(report.residual_quantity),
        is_trade=ended and report.realized_usd is not None and not elsewhere,
        closed_elsewhere=elsewhere,
        stale_rates=bool(report.stale_rates),
        unknown_legs=sum(leg.state is LegState.UNKNOWN for leg in legs),
        codes=_codes(report),
        currencies=() if record is None else _currencies(record),
    )


def _codes(report: Report) -> tuple[str, ...]:
    codes = [leg.code for leg in report.legs if leg.code is not RejectCode.NONE]
    if not codes and report.code is not RejectCode.NONE:
        codes = [report.code]
    return tuple(code.value for code in codes)


def _currencies(record: SignalRecord) -> tuple[CurrencyResult, ...]:
    found: dict[str, CurrencyResult] = {}
    for leg in record.legs:
        if leg.market is None or leg.rate is None or not leg.realized_usd:
            continue
        currency, rate = leg.market.currency, leg.rate
        before = found.get(currency)
        found[currency] = CurrencyResult(
            currency,
            (_ZERO if before is None else before.realized) + leg.realized_usd / rate.value,
            rate.value,
            rate.true_ns,
            rate.source,
            leg.stale_rate or (before is not None and before.stale_rate),
        )
    return tuple(found.values())
