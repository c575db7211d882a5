"""Day calendars: on which dates an exchange or a country's banks do business.

The dates come from the package `holidays`; this file adds only what that package does not know, each line
with its reason. The package is imported on first use: it costs more than the rest of this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import cache

from ..errors import ConfigError, GatewayError

_SATURDAY, _SUNDAY = 5, 6
_OBSERVED = " (observed)"

GOOD_FRIDAY = "Good Friday"
CME_CLOSED = frozenset({"New Year's Day", GOOD_FRIDAY, "Christmas Day"})
"""Of the stock exchange's holidays, those on which CME has no session at all; on the others it closes early."""

_NYSE_REGULAR = CME_CLOSED | {
    "Martin Luther King Jr. Day",
    "Washington's Birthday",
    "Memorial Day",
    "Juneteenth National Independence Day",
    "Independence Day",
    "Labor Day",
    "Thanksgiving Day",
}


class HolidayCalendar:
    """Business days of one calendar: Monday to Friday without its holidays. Immutable, safe to share."""

    def __init__(self, name: str, holidays_of_year: Callable[[int], frozenset[date]]) -> None:
        self.name = name
        self._holidays_of_year = holidays_of_year

    def is_business_day(self, day: date) -> bool:
        """Whether `day` is a weekday and not a holiday."""
        return day.weekday() < _SATURDAY and day not in self._holidays_of_year(day.year)

    def add(self, day: date, count: int) -> date:
        """Return the business day `count` steps after `day` (before it when negative); `day` is not counted."""
        step = timedelta(days=1 if count > 0 else -1)
        for _ in range(abs(count)):
            day += step
            while not self.is_business_day(day):
                day += step
        return day

    def on_or_before(self, day: date) -> date:
        """Return `day`, or the last business day before it."""
        return day if self.is_business_day(day) else self.add(day, -1)

    def on_or_after(self, day: date) -> date:
        """Return `day`, or the first business day after it."""
        return day if self.is_business_day(day) else self.add(day, 1)


@cache
def stock_exchange_holidays(year: int) -> dict[date, str]:
    """Return every NYSE closure of a year with its plain name, without "(observed)". Treat as read-only."""
    import holidays

    found = holidays.financial_holidays("NYSE", years=year, language="en_US")
    return {day: name.removesuffix(_OBSERVED) for day, name in found.items()}


@cache
def us_exchange_holidays(year: int) -> dict[date, str]:
    """Return the yearly US exchange holidays by date, without one-off NYSE closures. Treat as read-only.

    Days of mourning and storms that shut the stock exchange did not shut the futures exchange: natural gas of
    November 2012 did expire on 29 October, with NYSE closed by the hurricane.
    """
    regular = {day: name for day, name in stock_exchange_holidays(year).items() if name in _NYSE_REGULAR}
    missing = _NYSE_REGULAR - set(regular.values()) - {"New Year's Day"}
    if year < 2022:
        missing -= {"Juneteenth National Independence Day"}
    if missing:
        raise GatewayError(
            f"NYSE holidays of {year} lack {', '.join(sorted(missing))}; install a version of the package "
            "'holidays' that has them, since contract dates would be wrong without"
        )
    return regular


def _us_stocks(year: int) -> frozenset[date]:
    return frozenset(stock_exchange_holidays(year))


def _us_exchange(year: int) -> frozenset[date]:
    return frozenset(us_exchange_holidays(year))


def _us_banks(year: int) -> frozenset[date]:
    # The Federal Reserve moves a Sunday holiday to Monday, and does not move a Saturday one.
    import holidays

    found = holidays.country_holidays("US", years=year, observed=False)
    return frozenset(day + timedelta(days=1) if day.weekday() == _SUNDAY else day for day in found)


def _us_and_london(year: int) -> frozenset[date]:
    """Days on which neither of the two does business."""
    import holidays

    return _us_exchange(year) & frozenset(holidays.country_holidays("GB", subdiv="ENG", years=year))


def _brazil(year: int) -> frozenset[date]:
    import holidays

    return frozenset(holidays.financial_holidays("BVMF", years=year))


def _b3(year: int) -> frozenset[date]:
    days = set(_brazil(year))
    # The package knows these two only from 2018; the exchange was closed on them before as well.
    days.add(date(year, 12, 24))
    last = date(year, 12, 31)
    while last.weekday() >= _SATURDAY:
        last -= timedelta(days=1)
    days.add(last)
    # Holidays of the city and the state of Sao Paulo: B3 trades on them since 2022, and did in the
    # pandemic's second half of 2020. 20 November is national, and so closed again, from 2024 (in the package).
    if year <= 2021:
        days.add(date(year, 1, 25))
        if year != 2020:
            days.add(date(year, 7, 9))
    if 2004 <= year <= 2021 and year != 2020:
        days.add(date(year, 11, 20))
    if year == 2014:
        days.add(date(2014, 6, 12))  # opening of the World Cup in Sao Paulo, a city holiday
    return frozenset(days)


def _new_year_and_christmas(year: int) -> frozenset[date]:
    return frozenset({date(year, 1, 1), date(year, 12, 25)})


_SOURCES: dict[str, tuple[Callable[[int], frozenset[date]], ...]] = {
    "us_stocks": (_us_stocks,),
    "us_exchange": (_us_exchange,),
    "us_bank_and_exchange": (_us_exchange, _us_banks),
    "us_or_london": (_us_and_london,),
    "b3": (_b3,),
    "new_year_and_christmas": (_new_year_and_christmas,),
}


@cache
def holiday_calendar(name: str) -> HolidayCalendar:
    """Return the calendar `name`. Raises ConfigError that lists the known ones."""
    sources = _SOURCES.get(name)
    if sources is None:
        raise ConfigError(f"holiday calendar was {name!r}; use one of {', '.join(sorted(_SOURCES))}")

    @cache
    def holidays_of_year(year: int) -> frozenset[date]:
        return frozenset().union(*(source(year) for source in sources))

    return HolidayCalendar(name, holidays_of_year)


@cache
def ash_wednesday(year: int) -> date:
    """Return Ash Wednesday, the day after the second carnival day."""
    return max(day for day in _brazil(year) if day.month in (2, 3) and day.weekday() == 1) + timedelta(days=1)
