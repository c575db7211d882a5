"""Last session, maturity and first notice of a contract, by each root's rule over its day calendar.

Rules, not lists: published tables are for the tests. Sources: CME Group and B3 contract specifications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import msgspec

from .catalog import Catalog, ExpiryRule
from .contract_code import LAST_YEAR, Contract
from .holiday_calendar import HolidayCalendar, holiday_calendar

_WEDNESDAY, _FRIDAY = 2, 4

LastAndMaturity = tuple[date, date]


class ContractDates(msgspec.Struct, frozen=True):
    """The dates of one contract.

    last_session: the last day on which it trades. maturity: the day the exchange settles it; for WDO and DOL
    one session later, on which the contract is still listed but dead. first_notice: from this day on a long
    position can be given delivery; None where last trade comes first or settlement is in cash.
    """

    contract: Contract
    last_session: date
    maturity: date
    first_notice: date | None


def contract_dates(catalog: Catalog, contract: Contract) -> ContractDates:
    """Return the dates of a listed contract. Raises InstrumentRefused when it is not listed."""
    catalog.contract(contract.root, contract.year, contract.month)
    terms = catalog.require(contract.root).terms
    calendar = holiday_calendar(terms.expiry.holidays)
    last_session, maturity = _RULES[terms.expiry.rule](calendar, contract.year, contract.month, terms.expiry)
    first_notice = None
    if terms.first_notice:
        first_notice = calendar.add(date(contract.year, contract.month, 1), -1)
    return ContractDates(contract, last_session, maturity, first_notice)


def listed_contracts(catalog: Catalog, root: str, year: int, month: int = 1) -> Iterator[Contract]:
    """Yield the listed contracts of `root` from the given month on, without end short of the year 2099."""
    months = catalog.require(root).terms.listed_months()
    return _contracts_of_months(root, months, year, month)


def front_chain(catalog: Catalog, root: str, year: int, month: int = 1) -> Iterator[Contract]:
    """Yield the contracts that take turns as front contract, from the given month on."""
    months = catalog.require(root).terms.front_months()
    return _contracts_of_months(root, months, year, month)


def _contracts_of_months(root: str, months: tuple[int, ...], year: int, month: int) -> Iterator[Contract]:
    for each_year in range(year, LAST_YEAR + 1):
        for each_month in months:
            if (each_year, each_month) >= (year, month):
                yield Contract(root, each_year, each_month)


def nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    """Return the nth weekday (Monday 0) of a month, e.g. the third Friday."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def _next_month(year: int, month: int) -> date:
    return date(year + month // 12, month % 12 + 1, 1)


def _settled_on_last_session(day: date) -> LastAndMaturity:
    return day, day


def _third_friday(calendar: HolidayCalendar, year: int, month: int, _: ExpiryRule) -> LastAndMaturity:
    return _settled_on_last_session(calendar.on_or_before(nth_weekday(year, month, _FRIDAY, 3)))


def _before_second_friday(calendar: HolidayCalendar, year: int, month: int, rule: ExpiryRule) -> LastAndMaturity:
    return _settled_on_last_session(calendar.add(nth_weekday(year, month, _FRIDAY, 2), -rule.days))


def _last_friday(calendar: HolidayCalendar, year: int, month: int, _: ExpiryRule) -> LastAndMaturity:
    last = _next_month(year, month) - timedelta(days=1)
    friday = last - timedelta(days=(last.weekday() - _FRIDAY) % 7)
    return _settled_on_last_session(calendar.on_or_before(friday))


def _before_third_wednesday(calendar: HolidayCalendar, year: int, month: int, rule: ExpiryRule) -> LastAndMaturity:
    return _settled_on_last_session(calendar.add(nth_weekday(year, month, _WEDNESDAY, 3), -rule.days))


def _before_25th_of_prior_month(calendar: HolidayCalendar, year: int, month: int, rule: ExpiryRule) -> LastAndMaturity:
    prior = date(year, month, 1) - timedelta(days=1)
    # When the 25th is no business day the count starts at the business day before it: one day more.
    start = calendar.on_or_before(date(prior.year, prior.month, 25))
    return _settled_on_last_session(calendar.add(start, -rule.days))


def _before_first_of_month(calendar: HolidayCalendar, year: int, month: int, rule: ExpiryRule) -> LastAndMaturity:
    return _settled_on_last_session(calendar.add(date(year, month, 1), -rule.days))


def _last_business_days(calendar: HolidayCalendar, year: int, month: int, rule: ExpiryRule) -> LastAndMaturity:
    return _settled_on_last_session(calendar.add(_next_month(year, month), -rule.days))


def _last_business_day_of_prior_month(
    calendar: HolidayCalendar, year: int, month: int, _: ExpiryRule
) -> LastAndMaturity:
    return _settled_on_last_session(calendar.add(date(year, month, 1), -1))


def _wednesday_nearest_15th(calendar: HolidayCalendar, year: int, month: int, _: ExpiryRule) -> LastAndMaturity:
    # The third Wednesday is a week late when the nearest falls on the 12th, 13th or 14th.
    wednesday = nth_weekday(year, month, _WEDNESDAY, 1)
    while wednesday < date(year, month, 12):
        wednesday += timedelta(days=7)
    return _settled_on_last_session(calendar.on_or_after(wednesday))


def _first_session_of_month(calendar: HolidayCalendar, year: int, month: int, _: ExpiryRule) -> LastAndMaturity:
    maturity = calendar.on_or_after(date(year, month, 1))
    return calendar.add(maturity, -1), maturity


_RULES: dict[str, Callable[[HolidayCalendar, int, int, ExpiryRule], LastAndMaturity]] = {
    "third_friday": _third_friday,
    "before_second_friday": _before_second_friday,
    "last_friday": _last_friday,
    "before_third_wednesday": _before_third_wednesday,
    "before_25th_of_prior_month": _before_25th_of_prior_month,
    "before_first_of_month": _before_first_of_month,
    "last_business_days": _last_business_days,
    "last_business_day_of_prior_month": _last_business_day_of_prior_month,
    "wednesday_nearest_15th": _wednesday_nearest_15th,
    "first_session_of_month": _first_session_of_month,
}
