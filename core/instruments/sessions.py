"""Trading hours: whether a market is open, its next opening and close, and the session day of an instant.

Used to distinguish an expected silence from a dead feed, and to refuse orders outside the session. Times passed in
must carry a time zone; times returned are UTC. Hours come from calendars.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from ..errors import ConfigError
from .catalog import Instrument
from .data_file import read_packaged_yaml, read_yaml
from .holiday_calendar import (
    CME_CLOSED,
    GOOD_FRIDAY,
    ash_wednesday,
    holiday_calendar,
    us_exchange_holidays,
)

_DAY = timedelta(days=1)
_SATURDAY = 5
_SEARCH_DAYS = 22
"""Days looked ahead: three weeks hold the next close and opening of any market of the catalog, one without
daily breaks included. Reaching the end means broken data, not a long holiday."""
_NEW_YORK = "America/New_York"


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """Regular hours from one date on. close_us_summer replaces close while New York keeps daylight time."""

    since: date
    open: time
    close: time
    open_day: Literal["same", "previous"] = "same"
    close_us_summer: time | None = None


class Pause(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """A halt inside each session between two dates, both included."""

    since: date
    until: date
    start: time
    end: time


class SpecialDay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours of one date that no rule gives; None keeps the regular time."""

    closed: bool = False
    open: time | None = None
    close: time | None = None


class SessionCalendar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hours of one market; times are local. See calendars.yaml for each field."""

    timezone: str
    day_boundary: time
    holidays: str
    hours: list[Hours]
    pauses: list[Pause] = []
    holiday_close: time | None = None
    early_close: time | None = None
    good_friday_jobs_close: time | None = None
    ash_wednesday_open: time | None = None
    special_days: dict[date, SpecialDay] = {}


class Interval(msgspec.Struct, frozen=True):
    """One stretch of trading in UTC: open included, close excluded."""

    open: datetime
    close: datetime


class _CalendarFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sessions: dict[str, SessionCalendar]


class Sessions:
    """Trading hours of every calendar of the data file. Immutable, safe to share."""

    def __init__(self, calendars: dict[str, SessionCalendar]) -> None:
        self._calendars = calendars
        for name, calendar in calendars.items():
            _check(name, calendar)

    def is_open(self, market: Instrument | str, at: datetime) -> bool:
        """Whether `market` (an instrument or a calendar's name) trades at `at`."""
        return any(each.open <= at < each.close for each in self._around(market, at))

    def next_open(self, market: Instrument | str, at: datetime) -> datetime:
        """Return the first opening after `at`, the end of a pause included."""
        return next(each.open for each in self._joined(market, at) if each.open > at)

    def next_close(self, market: Instrument | str, at: datetime) -> datetime:
        """Return the first close after `at`, the start of a pause included."""
        return next(each.close for each in self._joined(market, at) if each.close > at)

    def session_day(self, market: Instrument | str, at: datetime) -> date:
        """Return the session day that `at` belongs to; between sessions, the coming one.

        For CME the day changes at 17:00 New York, never at midnight UTC.
        """
        calendar = self._calendar(market)
        local = _aware(at).astimezone(ZoneInfo(calendar.timezone))
        day = local.date() + _DAY if local.time() >= calendar.day_boundary else local.date()
        for offset in range(_SEARCH_DAYS):
            if self._day(calendar, day + offset * _DAY):
                return day + offset * _DAY
        raise ConfigError(f"no session within {_SEARCH_DAYS} days of {day}; check the calendar's special_days")

    def day_end(self, market: Instrument | str, day: date) -> datetime:
        """Return the boundary in UTC at which the session day `day` gives way to the next."""
        calendar = self._calendar(market)
        return _utc(day, calendar.day_boundary, calendar)

    def intervals(self, market: Instrument | str, day: date) -> list[Interval]:
        """Return the trading stretches of the session day `day`; empty when closed."""
        return self._day(self._calendar(market), day)

    def last_trade(self, instrument: Instrument, last_session: date) -> datetime:
        """Return the instant (UTC) from which a contract with this last session trades no more."""
        calendar = self._calendar(instrument)
        stretches = self._day(calendar, last_session)
        end = stretches[-1].close if stretches else self.day_end(instrument, last_session)
        ends = instrument.terms.expiry.ends
        return end if ends is None else min(end, _utc(last_session, ends, calendar))

    def check_instruments(self, instruments: Iterable[Instrument]) -> None:
        """Check at start that each instrument has its calendar. Raises ConfigError."""
        for instrument in instruments:
            try:
                self._calendar(instrument)
            except ConfigError as error:
                raise ConfigError(f"{instrument.symbol}: {error}") from error

    def _calendar(self, market: Instrument | str) -> SessionCalendar:
        name = market if isinstance(market, str) else market.sessions
        calendar = self._calendars.get(name)
        if calendar is None:
            raise ConfigError(f"session calendar was {name!r}; use one of {', '.join(sorted(self._calendars))}")
        return calendar

    def _around(self, market: Instrument | str, at: datetime) -> Iterator[Interval]:
        calendar = self._calendar(market)
        today = _aware(at).astimezone(ZoneInfo(calendar.timezone)).date()
        for offset in range(-1, _SEARCH_DAYS):
            yield from self._day(calendar, today + offset * _DAY)

    def _joined(self, market: Instrument | str, at: datetime) -> Iterator[Interval]:
        """Yield intervals with touching ones made one: a market without a break does not close daily."""
        pending: Interval | None = None
        for each in self._around(market, at):
            if pending is not None and pending.close == each.open:
                pending = Interval(pending.open, each.close)
                continue
            if pending is not None:
                yield pending
            pending = each
        raise ConfigError(f"no opening and close within {_SEARCH_DAYS} days of {at}; check special_days")

    def _day(self, calendar: SessionCalendar, day: date) -> list[Interval]:
        times = _open_and_close(calendar, day)
        if times is None:
            return []
        hours, opening, closing = times
        open_day = day - _DAY if hours.open_day == "previous" else day
        start, end = _utc(open_day, opening, calendar), _utc(day, closing, calendar)
        stretches: list[Interval] = []
        for pause in calendar.pauses:
            if pause.since <= day <= pause.until:
                halt = _utc(day, pause.start, calendar)
                if start < halt < end:
                    stretches.append(Interval(start, halt))
                    start = _utc(day, pause.end, calendar)
        if start < end:
            stretches.append(Interval(start, end))
        return stretches


def load_sessions(user_file: Path | None = None) -> Sessions:
    """Return the shipped calendars, those of the user's file added or replaced whole. Raises ConfigError."""
    calendars = dict(read_packaged_yaml("calendars.yaml", _CalendarFile).sessions)
    if user_file is not None:
        calendars |= read_yaml(user_file, _CalendarFile).sessions
    return Sessions(calendars)


def _open_and_close(calendar: SessionCalendar, day: date) -> tuple[Hours, time, time] | None:
    """Return the hours in force and the day's opening and closing time, or None when closed."""
    in_force = [each for each in calendar.hours if each.since <= day]
    special = calendar.special_days.get(day, SpecialDay())
    if not in_force or special.closed or day.weekday() >= _SATURDAY:
        return None
    hours = in_force[-1]
    opening, closing = hours.open, hours.close
    if hours.close_us_summer is not None and _is_us_summer(day):
        closing = hours.close_us_summer
    if calendar.holidays == "cme":
        early = _cme_close(calendar, day)
        if early == "closed":
            return None
        closing = early or closing
    elif not holiday_calendar(calendar.holidays).is_business_day(day):
        return None
    if calendar.ash_wednesday_open is not None and day == ash_wednesday(day.year):
        opening = calendar.ash_wednesday_open
    return hours, special.open or opening, special.close or closing


def _cme_close(calendar: SessionCalendar, day: date) -> time | Literal["closed"] | None:
    """Return the early close of a US holiday or half day, "closed", or None for a regular day."""
    holidays = us_exchange_holidays(day.year)
    name = holidays.get(day)
    if name == GOOD_FRIDAY and day.day <= 7 and calendar.good_friday_jobs_close is not None:
        # On the month's first Friday the employment report comes out, and some markets open for it.
        return calendar.good_friday_jobs_close
    if name in CME_CLOSED:
        return "closed"
    if name is not None:
        return calendar.holiday_close
    day_after_thanksgiving = holidays.get(day - _DAY) == "Thanksgiving Day"
    christmas_eve = (day.month, day.day) == (12, 24)
    before_independence_day = (day.month, day.day) == (7, 3) and (day + _DAY) in holidays
    if day_after_thanksgiving or christmas_eve or before_independence_day:
        return calendar.early_close
    return None


@lru_cache(maxsize=1024)
def _is_us_summer(day: date) -> bool:
    noon = datetime.combine(day, time(12), ZoneInfo(_NEW_YORK))
    return bool(noon.dst())


def _utc(day: date, at: time, calendar: SessionCalendar) -> datetime:
    return datetime.combine(day, at, ZoneInfo(calendar.timezone)).astimezone(UTC)


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"time was {at.isoformat()} without a time zone; pass one with tzinfo, e.g. UTC")
    return at


def _check(name: str, calendar: SessionCalendar) -> None:
    where = f"session calendar {name}"
    try:
        ZoneInfo(calendar.timezone)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{where}: timezone was {calendar.timezone!r}, which is not known") from error
    if calendar.holidays != "cme":
        holiday_calendar(calendar.holidays)
    starts = [each.since for each in calendar.hours]
    if not starts or starts != sorted(set(starts)):
        raise ConfigError(f"{where}: hours need at least one line, with rising 'from' dates")
    for hours in calendar.hours:
        for close in (hours.close, hours.close_us_summer or hours.close):
            if hours.open_day == "same" and hours.open >= close:
                raise ConfigError(f"{where}: open {hours.open} is not before close {close}")
            if hours.open_day == "previous" and hours.open < close:
                raise ConfigError(f"{where}: open {hours.open} of the day before is earlier than close {close}")
    newest = calendar.hours[-1]
    if newest.close > calendar.day_boundary:
        # Otherwise the last minutes would belong to the next session, and a contract would be left while it trades.
        raise ConfigError(
            f"{where}: day_boundary was {calendar.day_boundary}, before the close {newest.close}; write that or later"
        )
    for pause in calendar.pauses:
        if pause.start >= pause.end:
            raise ConfigError(f"{where}: pause from {pause.start} does not end after it, at {pause.end}")
