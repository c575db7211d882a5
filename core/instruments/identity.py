"""Checks at each connect, before any order, that the platform's symbol is the instrument of the catalog.

A leg with a wrong multiplier risks a multiple of the intended amount; a wrong expiry trades another contract.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from .catalog import Instrument
from .expiry import ContractDates

_FLOAT_NOISE = Decimal("1e-9")
"""Relative difference allowed: platforms report binary floats, some of them quotients of two others."""


class ReportedIdentity(msgspec.Struct, frozen=True):
    """Properties of a symbol as the platform reports them; None = not reported.

    point_value: money of `currency` per 1.0 of price for one lot (MT5: tick value / tick size, when the account
    has that currency). expiry: last trading day or maturity. contract_month: (year, month), for platforms
    that report a month only.
    """

    point_value: Decimal | None = None
    tick: Decimal | None = None
    currency: str | None = None
    expiry: date | None = None
    contract_month: tuple[int, int] | None = None


class IdentityMismatch(msgspec.Struct, frozen=True):
    """One disagreement; both values as text."""

    field: str
    expected: str
    reported: str

    def __str__(self) -> str:
        return f"{self.field} was {self.reported} at the platform, {self.expected} in the catalog"


def compare_identity(
    instrument: Instrument, dates: ContractDates | None, reported: ReportedIdentity
) -> tuple[IdentityMismatch, ...]:
    """Return every disagreement between platform and catalog; empty means that the identity holds.

    `dates` are the contract's, None for a CFD or pair. Numbers compare by value, float noise aside. For expiry
    both last session and maturity are right: platforms differ in which one they report.
    """
    found: list[IdentityMismatch] = []
    if _differs(reported.point_value, instrument.point_value):
        found.append(IdentityMismatch("multiplier", str(instrument.point_value), str(reported.point_value)))
    if _differs(reported.tick, instrument.tick):
        found.append(IdentityMismatch("tick", str(instrument.tick), str(reported.tick)))
    if reported.currency is not None and reported.currency != instrument.currency:
        found.append(IdentityMismatch("currency", instrument.currency, reported.currency))
    found += _compare_expiry(dates, reported)
    return tuple(found)


def _differs(reported: Decimal | None, expected: Decimal) -> bool:
    return reported is not None and abs(reported - expected) > expected * _FLOAT_NOISE


def _compare_expiry(dates: ContractDates | None, reported: ReportedIdentity) -> list[IdentityMismatch]:
    found: list[IdentityMismatch] = []
    if dates is None:
        if reported.expiry is not None:
            found.append(IdentityMismatch("expiry", "none", reported.expiry.isoformat()))
        return found
    allowed = {dates.last_session, dates.maturity}
    if reported.expiry is not None and reported.expiry not in allowed:
        expected = " or ".join(sorted(each.isoformat() for each in allowed))
        found.append(IdentityMismatch("expiry", expected, reported.expiry.isoformat()))
    if reported.contract_month is not None and reported.contract_month != dates.contract.year_month:
        found.append(
            IdentityMismatch(
                "contract month",
                "{}-{:02d}".format(*dates.contract.year_month),
                "{}-{:02d}".format(*reported.contract_month),
            )
        )
    return found
