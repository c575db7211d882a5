"""Front contract at a time, and the times of its rolls. Pure: the caller passes the time.

The roll date is a session day. A root whose rule is `last_session_end` switches at the end of that session;
every other root at its start, which is the boundary that ends the day before (CME 17:00 New York). So all
platforms can be moved while the market is shut.

Sources: CME's lead-month procedure (Thursday eight days before the third Friday until June 2022, since then
Monday of the expiry week); B3 volumes, which stay in WIN's front contract until its last days.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

import msgspec

from ..errors import ConfigError
from .catalog import Catalog, RollRule
from .contract_code import Contract
from .expiry import ContractDates, contract_dates, front_chain, listed_contracts, nth_weekday
from .holiday_calendar import holiday_calendar
from .sessions import Sessions

_DAY = timedelta(days=1)
_FRIDAY = 4
_MONDAY_RULE_SINCE = (2022, 6)
"""First contract month that rolled by CME's Monday convention (trade date 2022-06-13)."""


class RollOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The user's own choices: a rule for a root, or the roll date or exact switch of one contract (code such as NQH25).

    `instants` have a time zone; one that lies inside a session rolls while the market trades. `before_end`: how long
    before the end of its last session a contract is left that would be left at that end; zero = at the end. Positions
    in it can be closed only while it trades.
    """

    rules: dict[str, RollRule] = {}
    dates: dict[str, date] = {}
    instants: dict[str, datetime] = {}
    before_end: timedelta = timedelta(0)


NO_OVERRIDES = RollOverrides()


class Roll(msgspec.Struct, frozen=True):
    """One change of the front contract. `switch_at` is UTC; from then on `new` is in front."""

    root: str
    old: Contract
    new: Contract
    roll_date: date
    switch_at: datetime
    last_session: date


class ContractRow(msgspec.Struct, frozen=True):
    """One line of a contract list; dates are ISO text. in_roll: whether it becomes front contract."""

    contract: str
    last_session: str
    maturity: str
    roll_date: str
    in_roll: bool


class RolloverRow(msgspec.Struct, frozen=True):
    """One line of a rollover plan; dates are ISO text, `switch_at` in UTC."""

    root: str
    old: str
    new: str
    roll_date: str
    switch_at: str
    last_session: str


class Rollover:
    """Roll dates and front contracts under one set of overrides. Immutable, safe to share."""

    def __init__(self, catalog: Catalog, sessions: Sessions, overrides: RollOverrides = NO_OVERRIDES) -> None:
        sessions.check_instruments(catalog.values())
        for root in overrides.rules:
            catalog.require(root).terms  # noqa: B018 # raises for an unknown root or one without contracts
        self._catalog = catalog
        self._sessions = sessions
        self._overrides = overrides

    def roll_date(self, contract: Contract) -> date:
        """Return the session day of the roll out of `contract`.

        Raises ConfigError when an override lies after the last session: a dead contract cannot be in front.
        """
        dates = contract_dates(self._catalog, contract)
        instant = self._overrides.instants.get(contract.code)
        if instant is not None:
            return self._sessions.session_day(self._catalog.require(contract.root), self._checked(instant, dates))
        chosen = self._overrides.dates.get(contract.code)
        if chosen is None:
            return self._roll_date_by_rule(dates)
        if chosen > dates.last_session:
            raise ConfigError(
                f"roll date of {contract.code} was {chosen}, after its last session {dates.last_session}; "
                "choose an earlier date"
            )
        return chosen

    def switch_at(self, contract: Contract) -> datetime:
        """Return the instant (UTC) from which `contract` is no longer in front."""
        instrument = self._catalog.require(contract.root)
        instant = self._overrides.instants.get(contract.code)
        if instant is not None:
            return self._checked(instant, contract_dates(self._catalog, contract))
        day = self.roll_date(contract)
        if self._rule(contract.root).rule != "last_session_end":
            return self._sessions.day_end(instrument, day - _DAY)
        stretches = self._sessions.intervals(instrument, day)
        if self._overrides.before_end and stretches:
            return stretches[-1].close - self._overrides.before_end
        return self._sessions.day_end(instrument, day)

    def last_session_start(self, contract: Contract) -> datetime:
        """Return the boundary (UTC) at which the last session of `contract` begins."""
        last_session = contract_dates(self._catalog, contract).last_session
        return self._sessions.day_end(self._catalog.require(contract.root), last_session - _DAY)

    def front_contract(self, root: str, at: datetime) -> Contract:
        """Return the contract in front at `at` (with a time zone). Raises InstrumentRefused."""
        instrument = self._catalog.require(root)
        day = self._sessions.session_day(instrument, at)
        for contract in front_chain(self._catalog, root, day.year, day.month):
            if at < self.switch_at(contract):
                return contract
        raise ConfigError(f"no contract of {root} is in front at {at}; the rules reach to the year 2099")

    def plan(self, roots: Iterable[str], start: datetime, until: date) -> list[Roll]:
        """Return every roll of `roots` after `start` with a roll date up to `until`, by time."""
        rolls: list[Roll] = []
        for root in roots:
            front = self.front_contract(root, start)
            chain = front_chain(self._catalog, root, front.year, front.month)
            old = next(chain)
            for new in chain:
                roll_date = self.roll_date(old)
                if roll_date > until:
                    break
                last_session = contract_dates(self._catalog, old).last_session
                rolls.append(Roll(root, old, new, roll_date, self.switch_at(old), last_session))
                old = new
        return sorted(rolls, key=lambda roll: (roll.switch_at, roll.root))

    def plan_rows(self, roots: Iterable[str], start: datetime, until: date) -> list[RolloverRow]:
        """Return the plan as plain text rows for the command line."""
        return [
            RolloverRow(
                roll.root,
                roll.old.code,
                roll.new.code,
                roll.roll_date.isoformat(),
                roll.switch_at.isoformat(),
                roll.last_session.isoformat(),
            )
            for roll in self.plan(roots, start, until)
        ]

    def contract_rows(self, root: str, first_year: int, last_year: int) -> list[ContractRow]:
        """Return all listed contracts of `root` with delivery months in these years, both included."""
        front_months = self._catalog.require(root).terms.front_months()
        rows: list[ContractRow] = []
        for contract in listed_contracts(self._catalog, root, first_year):
            if contract.year > last_year:
                break
            dates = contract_dates(self._catalog, contract)
            rows.append(
                ContractRow(
                    contract.code,
                    dates.last_session.isoformat(),
                    dates.maturity.isoformat(),
                    self.roll_date(contract).isoformat(),
                    contract.month in front_months,
                )
            )
        return rows

    def _checked(self, instant: datetime, dates: ContractDates) -> datetime:
        end = self._sessions.day_end(self._catalog.require(dates.contract.root), dates.last_session)
        if instant > end:
            raise ConfigError(
                f"switch of {dates.contract.code} was {instant.isoformat()}, after the end of its last session "
                f"{end.isoformat()}; choose an earlier one"
            )
        return instant

    def _rule(self, root: str) -> RollRule:
        return self._overrides.rules.get(root) or self._catalog.require(root).terms.roll

    def _roll_date_by_rule(self, dates: ContractDates) -> date:
        contract = dates.contract
        rule = self._rule(contract.root)
        if rule.rule == "cme_index":
            friday = nth_weekday(contract.year, contract.month, _FRIDAY, 3)
            days_before = 4 if contract.year_month >= _MONDAY_RULE_SINCE else 8
            return friday - days_before * _DAY
        if rule.rule == "maturity_day":
            return dates.maturity
        if rule.rule == "last_session_end":
            return dates.last_session
        calendar = holiday_calendar(self._catalog.require(contract.root).terms.expiry.holidays)
        if rule.rule == "before_last_session" or dates.first_notice is None:
            return calendar.add(dates.last_session, -rule.sessions)
        return calendar.add(dates.first_notice, -rule.sessions)
