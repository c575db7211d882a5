"""The symbols that a platform must subscribe to, the platform's names for them, and their description in the catalog.

The symbol directory in shared memory is the source: a universal name stands for the front contract, and a contract that
is needed beside it (the next one before a roll, the last one after it) has an entry under its own name. One write to
the directory rolls all platforms; each adapter sees it within 50 ms.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from ..core.errors import ConfigError
from ..core.instruments.catalog import Catalog, load_catalog
from ..core.instruments.contract_code import parse_code
from ..core.instruments.expiry import contract_dates
from ..core.instruments.refusals import SYMBOL_NOT_OFFERED, SYMBOL_UNKNOWN, InstrumentRefused, SymbolRefused
from ..core.instruments.sessions import Sessions, load_sessions
from ..core.instruments.symbols import PlatformSymbol, SymbolFile
from ..core.logs import Log
from ..core.messages import Instrument
from ..shm import host
from ..shm.durations import NS_PER_S
from ..shm.symbols import Symbol, SymbolDirectory

_CHECK_EVERY_S: Final = 0.05
_CHECK_NAMES_EVERY_S: Final = 2.0


class ContractWatch:
    """Watches the symbols of one platform in the directory. Used by the adapter's thread.

    Attributes:
        symbols: to subscribe to: the platform's own, then contracts under their own names.
    """

    def __init__(
        self,
        folder: Path,
        platform: str,
        names: Sequence[str],
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            names: the platform's symbols; each must have an id in the directory.

        Raises:
            ConfigError: one has none.
        """
        self._directory = SymbolDirectory.attach(folder)
        missing = [name for name in names if self._directory.id_of(name) is None]
        if missing:
            raise ConfigError(f"platform {platform!r}: no symbol id for {', '.join(missing)}; add them to `symbols`")
        self._names = tuple(names)
        self._monotonic_s = monotonic_s
        self._next_check_s = 0.0
        # Kept in a file: after a restart the next process must know the contract of the last ticks in the ring, or it
        # would miss a roll that happened in between.
        self._path = folder / f"{platform}.contracts"
        self.symbols = self._read()
        self._published = self._load()

    def refresh(self) -> bool:
        """Read the directory again, twenty times a second at most; returns whether `symbols` has changed."""
        now_s = self._monotonic_s()
        if now_s < self._next_check_s:
            return False
        self._next_check_s = now_s + _CHECK_EVERY_S
        symbols = self._read()
        # Compared as text: an unknown tick size is NaN, which is never equal to itself.
        changed = repr(symbols) != repr(self.symbols)
        self.symbols = symbols
        return changed

    def rolled(self) -> list[tuple[Symbol, int | None]]:
        """List the symbols whose newest published ticks are of another contract, each with the id under which the new
        contract was published before the roll (None = it was not).
        """
        found = []
        for symbol in self.symbols:
            before = self._published.get(symbol.name, "")
            if before and symbol.contract and symbol.contract != before:
                found.append((symbol, self._directory.id_of(symbol.contract)))
        return found

    def record_published(self) -> None:
        """Record that the ring's ticks are of the contracts in `symbols` from now on."""
        fronts = {symbol.name: symbol.contract for symbol in self.symbols if symbol.name in self._names}
        if fronts != self._published:
            self._published = fronts
            host.replace_private(self._path, msgspec.json.encode(fronts))

    def _load(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(host.read_regular(self._path), type=dict[str, str])
        except (FileNotFoundError, host.NotRegularError, msgspec.DecodeError):
            return {}

    def _read(self) -> list[Symbol]:
        entries = {symbol.name: symbol for symbol in self._directory.entries()}
        symbols = [entries[name] for name in self._names]
        listed = {*self._names, *(symbol.contract for symbol in symbols)}
        for symbol in entries.values():
            contract = parse_code(symbol.name) if symbol.contract == symbol.name else None
            if contract is not None and contract.root in self._names and symbol.name not in listed:
                symbols.append(symbol)
        return symbols


class PlatformNames:
    """The platform's own names of symbols, from symbol_mappings.json; reloaded when the file changes."""

    def __init__(
        self,
        path: Path,
        platform: str,
        catalog: Catalog,
        log: Log,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigError when the file is not valid, since there is no former version to keep."""
        self._file = SymbolFile(path, catalog)
        self._platform = platform
        self._log = log
        self._monotonic_s = monotonic_s
        self._next_check_s = 0.0

    def name_of(self, symbol: Symbol, connection: str | None = None) -> PlatformSymbol:
        """Return the platform's name of a symbol, its contract included.

        Args:
            connection: form of the names, such as that of a data feed; None = the file's default.

        Raises:
            SymbolRefused: the platform has no name for it, its contract is not known yet, or the platform trades
                another instrument in its place.
        """
        contract = parse_code(symbol.contract)
        found = self._file.book.name_of(self._platform, contract or symbol.name, connection)
        wanted = symbol.name if contract is None else contract.root
        if found.instrument != wanted:
            raise SymbolRefused(
                SYMBOL_NOT_OFFERED,
                f"{wanted} was listed for {self._platform}, which trades {found.instrument} in its place; list that "
                "one, or remove it from stands_for in the symbol mappings",
            )
        return found

    def meaning_of(self, name: str) -> PlatformSymbol | None:
        """Return the instrument that a platform's name stands for; None when the mappings do not know it.

        Raises:
            SymbolRefused: it stands for no single instrument, such as a continuous series.
        """
        try:
            return self._file.book.parse(name, self._platform)
        except SymbolRefused as refusal:
            if refusal.code == SYMBOL_UNKNOWN:
                return None
            raise

    def reload_if_changed(self) -> bool:
        """Load a changed file, at most every two seconds. A faulty file is refused whole and logged.

        Returns:
            Whether names may have changed.
        """
        now_s = self._monotonic_s()
        if now_s < self._next_check_s:
            return False
        self._next_check_s = now_s + _CHECK_NAMES_EVERY_S
        try:
            changes = self._file.reload_if_changed()
        except ConfigError as error:
            self._log.error("symbol mappings refused, the old ones stay", reason=str(error))
            return False
        if changes:
            self._log.warning("symbol mappings changed", changes=[str(change) for change in changes])
        return bool(changes)


def describe_from_catalog(
    symbols: Sequence[Symbol], catalog: Catalog | None = None, sessions: Sessions | None = None
) -> dict[str, Instrument]:
    """Describe each symbol from the catalog, in the form in which a platform describes it.

    Defaults where catalog and directory know nothing: lot step 1, tick size 0.01.
    """
    catalog = catalog or load_catalog()
    sessions = sessions or load_sessions()
    return {symbol.name: _describe(symbol, catalog, sessions) for symbol in symbols}


def _describe(symbol: Symbol, catalog: Catalog, sessions: Sessions) -> Instrument:
    contract = parse_code(symbol.contract)
    known = catalog.get(symbol.name) or (None if contract is None else catalog.get(contract.root))
    expiry_ns = 0
    if contract is not None and known is not None and known.future is not None:
        try:
            last_session = contract_dates(catalog, contract).last_session
        except InstrumentRefused:
            pass  # a contract that its exchange does not list has no expiry; the gateway refuses it
        else:
            expiry_ns = int(sessions.last_trade(known, last_session).timestamp()) * NS_PER_S
    tick_size = Decimal(repr(symbol.tick_size)) if math.isfinite(symbol.tick_size) else Decimal("0.01")
    return Instrument(
        symbol=symbol.name,
        platform_symbol=symbol.contract or symbol.name,
        contract=symbol.contract,
        tick_size=tick_size,
        lot_step=Decimal(1) if known is None else known.lot_step,
        point_value=None if known is None else known.point_value,
        currency="" if known is None else known.currency,
        expiry_ns=expiry_ns,
    )


class MarketHours:
    """Whether any market of a platform is open; while all are shut, a feed without ticks is no fault."""

    def __init__(
        self, names: Sequence[str], catalog: Catalog, sessions: Sessions, *, utc_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._markets = {catalog[name].sessions for name in names if name in catalog}
        # A symbol without hours in the catalog may trade at any time.
        self._always = any(name not in catalog for name in names) or not names
        self._sessions = sessions
        self._utc_ns = utc_ns
        self._open = True
        self._since_ns = self._until_ns = 0

    def is_open(self) -> bool:
        """Return the cached state, which is updated at the next opening or close, and when the clock was set back.

        Takes about 0.2 us.
        """
        if self._always:
            return True
        now_ns = self._utc_ns()
        if not self._since_ns <= now_ns < self._until_ns:
            self._since_ns = now_ns
            at = datetime.fromtimestamp(now_ns / NS_PER_S, UTC)
            self._open = any(self._sessions.is_open(market, at) for market in self._markets)
            self._until_ns = int(min(self._changes(at)).timestamp()) * NS_PER_S
        return self._open

    def _changes(self, at: datetime) -> Iterator[datetime]:
        for market in self._markets:
            yield self._sessions.next_close(market, at)
            yield self._sessions.next_open(market, at)
