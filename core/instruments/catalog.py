"""The instruments the gateway knows, with exact tick, lot, point value and currency.

A CFD or a currency pair is an instrument of its own, never "the future under another name": its point value
and lot differ, and differ between brokers. The data ships as `catalog.yaml`; a user's own file of the same
form adds instruments or replaces whole entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from ..bounds import MAX_DECIMAL_PLACES, MAX_MAGNITUDE, is_bounded, show_decimal
from ..errors import ConfigError
from .contract_code import FIRST_YEAR, LAST_YEAR, MONTH_LETTERS, Contract, month_of_letter, parse_code
from .data_file import read_packaged_yaml, read_yaml
from .holiday_calendar import holiday_calendar
from .price_grid import Rounding, round_to_steps
from .refusals import CONTRACT_NOT_LISTED, INSTRUMENT_UNKNOWN, OFF_GRID, InstrumentRefused

_MOST_CHARACTERS = 29
"""Most characters of a symbol: with month and year of a contract behind it, it still fits into a name of the symbol
directory. A signal cannot name a symbol with other characters.
"""
_SYMBOL = re.compile(rf"[A-Z0-9][A-Za-z0-9._/-]{{0,{_MOST_CHARACTERS - 1}}}")
_ROOT = re.compile(rf"[A-Z0-9]{{1,{_MOST_CHARACTERS}}}")
_PAIR = re.compile(r"[A-Z]{6}")

Kind = Literal["future", "cfd", "fx"]

ExpiryRuleName = Literal[
    "third_friday",
    "before_second_friday",
    "last_friday",
    "before_third_wednesday",
    "before_25th_of_prior_month",
    "before_first_of_month",
    "last_business_days",
    "last_business_day_of_prior_month",
    "wednesday_nearest_15th",
    "first_session_of_month",
]
RollRuleName = Literal["cme_index", "before_first_notice", "before_last_session", "maturity_day", "last_session_end"]


class ExpiryRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rule for last session and maturity from the contract month; `days` is the rule's own count.

    ends: time of day at the exchange at which trading stops on the last session; None = when that session ends.
    """

    rule: ExpiryRuleName
    holidays: str
    days: int = 0
    ends: time | None = None


class RollRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rule for the roll to the next front contract; `sessions` counts back from the rule's date."""

    rule: RollRuleName
    sessions: int = 0


class FutureTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Terms that only a dated contract has. Months are strings of month letters in calendar order.

    months: the regular cycle. serial_months: also listed, thinly traded. roll_months: those that become
    front contract (default: `months`). first_notice: whether longs can be given delivery from the last
    business day of the month before the contract month on.
    """

    months: str
    expiry: ExpiryRule
    roll: RollRule
    serial_months: str = ""
    roll_months: str = ""
    first_notice: bool = False

    def listed_months(self) -> tuple[int, ...]:
        """All listed months as numbers 1-12, ascending."""
        return tuple(sorted(month_of_letter(letter) for letter in set(self.months + self.serial_months)))

    def front_months(self) -> tuple[int, ...]:
        """The months that become front contract, ascending."""
        return tuple(month_of_letter(letter) for letter in self.roll_months or self.months)


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tradable thing, or for a future one root of contracts.

    tick and price are in quote units, `point_value` is the money of `currency` per 1.0 of price for one lot.
    `sessions` names a calendar of calendars.yaml.
    """

    symbol: str
    kind: Kind
    description: str
    exchange: str
    currency: str
    tick: Decimal
    point_value: Decimal
    sessions: str
    lot_step: Decimal = Decimal(1)
    min_lots: Decimal = Decimal(1)
    future: FutureTerms | None = None

    @property
    def terms(self) -> FutureTerms:
        """The futures terms. Raises InstrumentRefused for a CFD or pair, which has no contracts."""
        if self.future is None:
            raise InstrumentRefused(CONTRACT_NOT_LISTED, f"{self.symbol} is a {self.kind}: it has no contracts")
        return self.future

    def round_price(self, price: Decimal | int, rounding: Rounding = "nearest") -> Decimal:
        """Return the nearest, next lower or next higher price on the tick grid."""
        return round_to_steps(price, self.tick, rounding, f"{self.symbol} price") * self.tick

    def round_lots(self, lots: Decimal | int, rounding: Rounding = "down") -> Decimal:
        """Return a size on the lot grid, by default never larger; below the minimum it is 0."""
        if lots < 0:
            raise InstrumentRefused(OFF_GRID, f"{self.symbol} lots was {lots}; a size is not negative")
        rounded = round_to_steps(lots, self.lot_step, rounding, f"{self.symbol} lots") * self.lot_step
        return rounded if rounded >= self.min_lots else Decimal(0)


class _CatalogFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instruments: list[Instrument]


class Catalog(Mapping[str, Instrument]):
    """Read-only instruments by symbol; the key of a future is its root."""

    def __init__(self, instruments: Mapping[str, Instrument]) -> None:
        self._by_symbol = dict(instruments)

    def __getitem__(self, symbol: str) -> Instrument:
        """Return the instrument. Raises KeyError; `require` raises a refusal a person can read."""
        return self._by_symbol[symbol]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_symbol)

    def __len__(self) -> int:
        return len(self._by_symbol)

    def require(self, symbol: str) -> Instrument:
        """Return the instrument or raise InstrumentRefused with the cure."""
        found = self._by_symbol.get(symbol)
        if found is None:
            raise InstrumentRefused(
                INSTRUMENT_UNKNOWN,
                f"instrument was {symbol!r}, which is not in the catalog; add it to your own catalog file",
            )
        return found

    def futures(self) -> tuple[Instrument, ...]:
        """All futures roots, in file order."""
        return tuple(each for each in self._by_symbol.values() if each.kind == "future")

    def contract(self, root: str, year: int, month: int) -> Contract:
        """Return the contract of a listed month. Raises InstrumentRefused for a month that is not listed."""
        months = self.require(root).terms.listed_months()
        if month not in months or not FIRST_YEAR <= year <= LAST_YEAR:
            letters = "".join(MONTH_LETTERS[each - 1] for each in months)
            raise InstrumentRefused(
                CONTRACT_NOT_LISTED,
                f"{root} of {year}-{month:02d} is not listed: its months are {letters}, {FIRST_YEAR}-{LAST_YEAR}",
            )
        return Contract(root, year, month)


def load_catalog(user_file: Path | None = None) -> Catalog:
    """Return the shipped catalog, with the user's own instruments added or replaced whole.

    Raises ConfigError naming the file and the entry.
    """
    instruments = _checked(read_packaged_yaml("catalog.yaml", _CatalogFile).instruments, "catalog.yaml")
    if user_file is not None:
        instruments |= _checked(read_yaml(user_file, _CatalogFile).instruments, str(user_file))
        _refuse_contract_names(instruments, str(user_file))
    return Catalog(instruments)


def _refuse_contract_names(instruments: Mapping[str, Instrument], origin: str) -> None:
    for symbol in instruments:
        contract = parse_code(symbol)
        if contract is not None and contract.root in instruments and instruments[contract.root].future is not None:
            raise ConfigError(
                f"{origin}: {symbol} is also the name of a contract of {contract.root}; give the instrument another"
            )


def _checked(instruments: list[Instrument], origin: str) -> dict[str, Instrument]:
    by_symbol: dict[str, Instrument] = {}
    for each in instruments:
        where = f"{origin}: {each.symbol}"
        allowed = _ROOT if each.kind == "future" else _SYMBOL
        if not allowed.fullmatch(each.symbol):
            raise ConfigError(
                f"{origin}: symbol was {each.symbol!r}; begin with a capital or digit, then letters, digits, ._/- "
                f"({_MOST_CHARACTERS} at most); for a future capital letters and digits only"
            )
        if each.symbol in by_symbol:
            raise ConfigError(f"{where}: appears twice; keep one entry")
        for name in ("tick", "point_value", "lot_step", "min_lots"):
            value: Decimal = getattr(each, name)
            if not is_bounded(value) or value <= 0:
                raise ConfigError(
                    f"{where}: {name} was {show_decimal(value)}; it must be a number above 0, with at most "
                    f"{MAX_DECIMAL_PLACES} decimals, up to {MAX_MAGNITUDE:f}"
                )
        if each.min_lots % each.lot_step:
            raise ConfigError(f"{where}: min_lots was {each.min_lots}, not a multiple of lot_step {each.lot_step}")
        if len(each.currency) != 3 or not each.currency.isupper():
            raise ConfigError(f"{where}: currency was {each.currency!r}; use an ISO code such as USD")
        if each.kind == "fx" and not (_PAIR.fullmatch(each.symbol) and each.symbol.endswith(each.currency)):
            raise ConfigError(
                f"{where}: currency was {each.currency}; a pair is named by two ISO codes, the second one its "
                "currency, for rates are read from it; else its kind is cfd"
            )
        if (each.kind == "future") != (each.future is not None):
            raise ConfigError(f"{where}: kind is {each.kind}; exactly futures have a 'future' section")
        if each.future is not None:
            _check_terms(each.future, where)
        by_symbol[each.symbol] = each
    return by_symbol


def _check_terms(terms: FutureTerms, where: str) -> None:
    try:
        holiday_calendar(terms.expiry.holidays)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    for name in ("months", "serial_months", "roll_months"):
        letters: str = getattr(terms, name)
        if list(letters) != sorted(set(letters), key=MONTH_LETTERS.find) or set(letters) - set(MONTH_LETTERS):
            raise ConfigError(f"{where}: {name} was {letters!r}; use letters of {MONTH_LETTERS}, in that order")
    if not terms.months:
        raise ConfigError(f"{where}: months is empty; a future has at least one month")
    if set(terms.roll_months) - set(terms.months):
        raise ConfigError(f"{where}: roll_months {terms.roll_months!r} has letters that months lacks")
    if terms.roll.rule == "before_first_notice" and not terms.first_notice:
        raise ConfigError(f"{where}: rolls before first notice, but first_notice is false")
