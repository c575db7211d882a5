"""Makes market contexts for the engine: quote, instrument, contract, rate and session of one platform and symbol."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from ...shm.durations import NS_PER_S
from ..config import GatewayConfig
from ..engine import route_of
from ..errors import GatewayError
from ..instruments.catalog import Catalog, Instrument, load_catalog
from ..instruments.contract_code import parse_code
from ..instruments.expiry import ContractDates, contract_dates
from ..instruments.identity import ReportedIdentity, compare_identity
from ..instruments.rollover import Rollover, RollOverrides
from ..instruments.sessions import Sessions, load_sessions
from ..logs import Log
from ..messages import Hello
from ..messages import Instrument as PlatformInstrument
from ..risk import MarketContext, UsdRate
from .quotes import QuoteBoards
from .rates import RateFile, UsdRates
from .stand_ins import StandIns

_TERMS_AGE_NS: Final = 60_000_000_000
_ALWAYS_OPEN: Final = ("nexus_gateway.adapters.simulator:", "nexus_gateway.adapters.replay:")
"""Adapters whose market is open whenever they run: trading in a simulation at a weekend is no mistake."""


class _Terms(Struct):
    """The part of a context that rarely changes; computed again after a minute, a new session, or a roll. `quoted`: the
    symbol under which the platform's quotes are published.
    """

    instrument: Instrument
    quoted: str
    lot_step: Decimal
    contract: str
    expiry_ns: int
    identity_error: str
    hello: Hello
    front: str
    until_ns: int


class _Hours(Struct):
    """Whether a market trades, and until when that holds, UTC ns; 0 = for ever."""

    is_open: bool
    until_ns: int


class Markets:
    """Makes market contexts. The gateway's thread; call `refresh` about once a second.

    Attributes:
        catalog, rollover: the instruments and their roll dates, including the user's own.
        boards: the platforms' newest quotes.
        stand_ins: which instrument is traded in place of another, and where.
    """

    def __init__(self, config: GatewayConfig, run_folder: Path, log: Log | None = None) -> None:
        """
        Raises:
            ConfigError: the user's file of instruments, hours or rates is wrong.
        """
        self._config = config
        self.catalog: Catalog = load_catalog(config.orders.instruments_path)
        self._sessions: Sessions = load_sessions(config.orders.hours_path)
        rolls = config.rollover
        overrides = RollOverrides(dates=rolls.roll_dates, instants=rolls.switch_times, before_end=rolls.before_end)
        self.rollover = Rollover(self.catalog, self._sessions, overrides)
        self.boards = QuoteBoards(run_folder)
        self.stand_ins = StandIns(config)
        platforms = {name: each.symbols for name, each in config.platforms.items()}
        path, most_s = config.orders.rates_path, config.orders.rates_file_age_h * 3_600
        file = None if path is None else RateFile(path, most_s, log)
        self._rates = UsdRates(platforms, self.catalog, config.orders.usd_rates, config.limits.max_rate_age_ms, file)
        self._terms: dict[tuple[str, str], _Terms] = {}
        self._hours: dict[str, _Hours] = {}
        self._refreshed_ns = 0

    def refresh(self, now_ns: int) -> None:
        """Attach to new quote boards and read the newest rates."""
        if now_ns < self._refreshed_ns:  # the clock was set back: what is kept until a time would be kept too long
            self._terms.clear()
            self._hours.clear()
        self._refreshed_ns = now_ns
        self.boards.refresh(list(self._config.platforms))
        self._rates.refresh(self.boards, now_ns)

    def usd_rate(self, currency: str, now_ns: int) -> UsdRate | None:
        """See `UsdRates.usd_rate`."""
        return self._rates.usd_rate(currency, now_ns)

    def context(self, hello: Hello, symbol: str, now_ns: int) -> MarketContext | None:
        """Return the market of a universal symbol at the account of `hello`; None for a symbol not in the catalog.

        Where the platform trades a stand-in (a CFD for a future), point value, lot, tick and quote are the stand-in's.
        """
        terms = self._terms_of(hello, symbol, now_ns)
        if terms is None:
            return None
        instrument = terms.instrument
        quote = self.boards.latest(hello.platform, terms.quoted, now_ns)
        rate = self._rates.usd_rate(instrument.currency, now_ns)
        hours = self._hours_of(hello.platform, instrument, now_ns)
        return MarketContext(
            platform=hello.platform,
            account=hello.account,
            symbol=symbol,
            tick_size=instrument.tick,
            lot_step=terms.lot_step,
            point_value=instrument.point_value,
            currency=instrument.currency,
            contract=terms.contract,
            **_rate_fields(rate),
            bid=None if quote is None else quote.bid,
            ask=None if quote is None else quote.ask,
            quote_ns=0 if quote is None else quote.true_ns,
            expiry_ns=terms.expiry_ns,
            session_open=hours.is_open,
            session_change_ns=hours.until_ns,
            identity_error=terms.identity_error,
        )

    def currency_context(self, hello: Hello, currency: str, now_ns: int) -> MarketContext | None:
        """Return a context with only a currency's rate, for an account in that currency; None without a rate."""
        rate = self._rates.usd_rate(currency, now_ns)
        if rate is None:
            return None
        one = Decimal(1)
        return MarketContext(
            platform=hello.platform,
            account=hello.account,
            symbol=currency,
            tick_size=one,
            lot_step=one,
            point_value=one,
            currency=currency,
            **_rate_fields(rate),
        )

    def contract_fault(self, hello: Hello, code: str) -> str:
        """Return why a contract cannot be traded at this account; empty = the platform's description of it matches.

        Empty as well for an adapter that describes no instrument at all: there is nothing to compare.
        """
        if not hello.instruments:
            return ""
        reported = _find_reported(hello, (code,))
        contract = parse_code(code)
        if reported is None or contract is None:
            return f"has not described {code} yet"
        try:
            dates = contract_dates(self.catalog, contract)
        except GatewayError as error:
            return str(error)
        instrument = self.catalog[contract.root]
        return "; ".join(f"{code}: {each}" for each in compare_identity(instrument, dates, _identity_of(reported)))

    def expiry_ns(self, code: str) -> int:
        """Return when a contract stops trading, UTC ns; 0 for a name that is no contract of the catalog."""
        contract = parse_code(code)
        if contract is None or contract.root not in self.catalog:
            return 0
        return self._expiry_ns(self.catalog[contract.root], contract_dates(self.catalog, contract))

    def _terms_of(self, hello: Hello, symbol: str, now_ns: int) -> _Terms | None:
        key = (route_of(hello.platform, hello.account), symbol)
        terms = self._terms.get(key)
        front = self.boards.contract(symbol)
        if terms is None or now_ns >= terms.until_ns or terms.hello is not hello or terms.front != front:
            terms = self._make_terms(hello, symbol, front, now_ns)
            if terms is None:
                return None
            self._terms[key] = terms
        return terms

    def _make_terms(self, hello: Hello, symbol: str, front: str, now_ns: int) -> _Terms | None:
        traded = self.stand_ins.traded(hello.platform, symbol)
        instrument = self.catalog.get(traded)
        if instrument is None:
            month = parse_code(traded)
            instrument = None if month is None else self.catalog.get(month.root)
            if instrument is None or instrument.future is None:
                return None
            front = traded  # named by contract: one that was rolled out of, or the next one
        reported = _find_reported(hello, (symbol, traded))
        contract, dates, error = self._contract(instrument, reported, front, now_ns)
        root = self.stand_ins.root(hello.platform, symbol)
        if root != symbol:
            error = f"symbol was {symbol}, which {hello.platform} trades in place of {root}; signal {root}"
        if reported is not None and not error:
            error = "; ".join(map(str, compare_identity(instrument, dates, _identity_of(reported))))
        lot_step = instrument.lot_step
        if reported is not None and reported.lot_step is not None:
            lot_step = reported.lot_step
        return _Terms(
            instrument,
            traded,
            lot_step,
            contract,
            0 if dates is None else self._expiry_ns(instrument, dates),
            error[:512],
            hello,
            self.boards.contract(symbol),
            now_ns + _TERMS_AGE_NS,
        )

    def _contract(
        self, instrument: Instrument, reported: PlatformInstrument | None, ours: str, now_ns: int
    ) -> tuple[str, ContractDates | None, str]:
        """Return contract code, its dates, and what is wrong with it; all empty for a CFD or currency pair."""
        if instrument.future is None:
            return "", None, ""
        theirs = "" if reported is None else reported.contract
        if ours and theirs and ours != theirs:
            return theirs, None, f"contract was {theirs} at the platform, {ours} is the current one here"
        code = ours or theirs
        try:
            if not code:
                front = self.rollover.front_contract(instrument.symbol, _utc(now_ns))
                return front.code, contract_dates(self.catalog, front), ""
            contract = parse_code(code)
            if contract is None or contract.root != instrument.symbol:
                return code, None, f"contract was {code!r}, which is no contract of {instrument.symbol}"
            return code, contract_dates(self.catalog, contract), ""
        except (GatewayError, ValueError) as error:
            return code, None, str(error)

    def _expiry_ns(self, instrument: Instrument, dates: ContractDates) -> int:
        return int(self._sessions.last_trade(instrument, dates.last_session).timestamp()) * NS_PER_S

    def _hours_of(self, platform: str, instrument: Instrument, now_ns: int) -> _Hours:
        configured = self._config.platforms.get(platform)
        if configured is not None and configured.adapter.startswith(_ALWAYS_OPEN):
            return _Hours(is_open=True, until_ns=0)
        hours = self._hours.get(instrument.sessions)
        if hours is None or now_ns >= hours.until_ns:
            at = _utc(now_ns)
            is_open = self._sessions.is_open(instrument, at)
            change = self._sessions.next_close(instrument, at) if is_open else self._sessions.next_open(instrument, at)
            hours = self._hours[instrument.sessions] = _Hours(is_open, int(change.timestamp()) * NS_PER_S)
        return hours


def _rate_fields(rate: UsdRate | None) -> dict[str, Any]:
    """Return a rate as the fields of a market context."""
    if rate is None:
        return {}
    return {
        "usd_rate": rate.value,
        "usd_rate_ns": rate.true_ns,
        "usd_rate_until_ns": rate.until_ns,
        "usd_rate_source": rate.source,
    }


def _utc(now_ns: int) -> datetime:
    return datetime.fromtimestamp(now_ns / NS_PER_S, UTC)


def _find_reported(hello: Hello, symbols: tuple[str, ...]) -> PlatformInstrument | None:
    for symbol in symbols:
        for each in hello.instruments:
            if each.symbol == symbol:
                return each
    return None


def _identity_of(reported: PlatformInstrument) -> ReportedIdentity:
    return ReportedIdentity(
        point_value=reported.point_value,
        tick=reported.tick_size,
        currency=reported.currency or None,
        expiry=_utc(reported.expiry_ns).date() if reported.expiry_ns else None,
    )
