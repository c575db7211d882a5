"""Adapters of MetaTrader 5 terminals, global and Brazil, over their bridge (bridges/mt5).

Of the bridge's hello they compare the account and the `details` `server`, `company` and `role`, and read
`utc_offset_minutes`, the offset of the broker's clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import msgspec

from ...core.errors import ConfigError
from ...core.instruments.catalog import load_catalog
from ...core.instruments.contract_code import parse_code
from ...core.instruments.refusals import SYMBOL_NOT_OFFERED, SymbolRefused
from ...core.instruments.sessions import load_sessions
from ...core.messages import AccountMode, Capabilities, Instrument, OrderType, StopPlace, TimeInForce
from ...shm.durations import NS_PER_S
from ...shm.symbols import Symbol
from ..base import LinkLostError
from ..bridge.adapter import BridgeAdapter
from ..bridge.messages import BridgeAccount, BridgeHello
from ..bridge.process import BridgeFiles
from ..bridge.quote_hours import QuoteHours
from ..bridge.settings import BridgeSettings
from ..bridge.token_file import ensure_token
from ..feed import TickFeed
from .settings import MAX_SYMBOL_CHARACTERS, Mt5BrazilSettings, Mt5GlobalSettings, Mt5Settings

_ORDER_TYPES: Final = tuple(OrderType)
_TIMES: Final = tuple(TimeInForce)
CAPABILITIES: Final = {
    # Each position of a hedging account has its own stop and target, and is closed by its ticket.
    AccountMode.HEDGING: Capabilities(
        order_types=_ORDER_TYPES,
        times_in_force=_TIMES,
        replace=True,
        replace_quantity=False,
        brackets=True,
        close_by_ticket=True,
        stops_at=StopPlace.SERVER,
    ),
    # A netting account has one position a symbol, with one stop and one target. Two signals would overwrite each
    # other's, so the gateway keeps stops and targets itself.
    AccountMode.NETTING: Capabilities(
        order_types=_ORDER_TYPES,
        times_in_force=_TIMES,
        replace=True,
        replace_quantity=False,
        stops_at=StopPlace.SERVER,
    ),
}
"""Upper limit of MetaTrader 5's capabilities, by account mode. No request changes the size of an order; no mode has OCO
or reduce-only orders. What a single symbol lacks (a filling mode, an expiration) the bridge rejects with a code.
"""


class Mt5Adapter(BridgeAdapter):
    """One terminal, one account. The configuration names `Mt5GlobalAdapter` or `Mt5BrazilAdapter`.

    With `settings.ticks_port` the terminal has two bridges: this session is for orders, and `_ticks_side`, a second
    adapter with its own session, publishes the ticks. Both connect and close together.
    """

    SETTINGS: ClassVar[type[BridgeSettings]] = Mt5Settings
    settings: Mt5Settings
    _ticks_side: Mt5Adapter | None = None

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        super().__init__(feed, settings)
        if self.settings.ticks_port is None:
            return
        self._ticks_side = type(self)(feed, {**settings, "port": self.settings.ticks_port, "ticks_port": None})
        self.get_ticks_from(self._ticks_side)

    def connect(self) -> None:
        self.close()
        if self.settings.makes_token:
            self._token = self._read_own_token()
        side = self._ticks_side
        if side is not None:
            side.names, side.catalog, side.sessions = self.names, self.catalog, self.sessions
            side.connect()
        super().connect()

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        if self._ticks_side is not None:
            self._ticks_side.subscribe(symbols)
        super().subscribe(symbols)

    def close(self) -> None:
        super().close()
        if self._ticks_side is not None:
            self._ticks_side.close()

    def resume_from(self, symbol: Symbol, event_ns: int) -> None:
        if self._ticks_side is not None:
            self._ticks_side.resume_from(symbol, event_ns)
        else:
            super().resume_from(symbol, event_ns)

    def read_token(self, where: str) -> str:
        if self.settings.makes_token:
            return ensure_token(BridgeFiles(self.feed.folder, self.feed.name).token)
        return super().read_token(where)

    def _read_own_token(self) -> str:
        """Read the token again, which the bridge reads at its start: the file may have been lost and made anew."""
        try:
            return self.read_token("")
        except ConfigError as error:
            raise LinkLostError(str(error)) from error

    def check_hello(self, hello: BridgeHello) -> None:
        # A bridge for ticks alone reports no account, but its terminal is logged in to one.
        found = hello.accounts[0].name if hello.accounts else hello.details.get("login", "")
        if not found:
            raise LinkLostError("the terminal is not logged in to any account; log in by hand, and save the password")
        if self.settings.account not in (None, found):
            raise self._refuse("account", found, self.settings.account)
        self._check_role(hello.details.get("role", "both"))
        for account in hello.accounts:
            self._check_account(account)
        for key, wanted in (("server", self.settings.server), ("company", self.settings.company)):
            if wanted is not None and hello.details.get(key, "").casefold() != wanted.casefold():
                raise self._refuse(key, hello.details.get(key, ""), wanted)

    def limit_capabilities(self, hello: BridgeHello) -> Capabilities:
        if not hello.accounts:
            return hello.capabilities
        most, reported = CAPABILITIES[hello.accounts[0].mode], hello.capabilities
        return Capabilities(
            order_types=tuple(each for each in reported.order_types if each in most.order_types),
            times_in_force=tuple(each for each in reported.times_in_force if each in most.times_in_force),
            replace=reported.replace and most.replace,
            replace_quantity=reported.replace_quantity and most.replace_quantity,
            brackets=reported.brackets and most.brackets,
            oco=reported.oco and most.oco,
            reduce_only=reported.reduce_only and most.reduce_only,
            close_by_ticket=reported.close_by_ticket and most.close_by_ticket,
            executions_history=reported.executions_history,
            lists_positions=reported.lists_positions,
            lists_orders=reported.lists_orders,
            flatten=reported.flatten and most.flatten,
            oco_shrinks=reported.oco_shrinks and most.oco_shrinks,
            stops_at=most.stops_at,
        )

    def correct_instrument(self, instrument: Instrument, hello: BridgeHello) -> Instrument:
        """Set an expiry to the end of its day by the server's clock, where that is another day in UTC.

        Only that day is meaningful (at XP the time is 22:15, which is the next day in UTC). Left as it is, the expiry
        would have a wrong date, or end the last session too early.
        """
        if not instrument.expiry_ns:
            return instrument
        try:
            offset = timedelta(minutes=int(hello.details.get("utc_offset_minutes", "0")))
        except ValueError:
            return instrument
        expiry = datetime.fromtimestamp(instrument.expiry_ns / NS_PER_S, UTC)
        day = (expiry + offset).date()
        if day == expiry.date():
            return instrument
        end = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)
        return msgspec.structs.replace(instrument, expiry_ns=int(end.timestamp()) * NS_PER_S)

    def name_at_platform(self, symbol: Symbol) -> str:
        """See `BridgeAdapter`. Names in `settings.names` are checked against the symbol mappings.

        Raises:
            ConfigError: the name there is that of another instrument.
            SymbolRefused: the name is too long, or that of another contract than the front one.
        """
        written = self.settings.names.get(symbol.name)
        name = self._mapped_name(symbol) if written is None else written
        if written is not None:
            self._check_written(symbol, written)
        if len(name) > MAX_SYMBOL_CHARACTERS:
            raise SymbolRefused(
                SYMBOL_NOT_OFFERED,
                f"name of {symbol.name} was {name!r}, {len(name)} characters; MetaTrader 5 allows "
                f"{MAX_SYMBOL_CHARACTERS}",
            )
        return name

    def _mapped_name(self, symbol: Symbol) -> str:
        return super().name_at_platform(symbol)

    def _check_written(self, symbol: Symbol, written: str) -> None:
        meaning = None if self.names is None else self.names.meaning_of(written)
        if meaning is None:
            return
        contract = parse_code(symbol.contract)
        wanted = symbol.name if contract is None else contract.root
        if meaning.instrument != wanted:
            raise ConfigError(
                f"platform {self.feed.name!r}: settings.names.{symbol.name} was {written!r}, which is a name of "
                f"{meaning.instrument}; correct it, or the symbol mappings"
            )
        if meaning.contract != contract:
            raise SymbolRefused(
                SYMBOL_NOT_OFFERED,
                f"settings.names.{symbol.name} was {written!r}, the contract in front is "
                f"{symbol.contract or 'not known yet'}; remove the line, so that the name follows each roll",
            )

    def _check_role(self, role: str) -> None:
        if (role == "orders") == (self._ticks_side is not None):
            return
        here = f"platform {self.feed.name!r}: the bridge at port {self._port} has role {role!r}"
        if role == "orders":
            raise ConfigError(
                f"{here}, so nobody gives ticks; start another with role ticks, and name its port in "
                "settings.ticks_port"
            )
        raise ConfigError(f"{here}, must be 'orders' beside settings.ticks_port; correct its configuration")

    def _check_account(self, account: BridgeAccount) -> None:
        settings = self.settings
        if settings.mode is not None and account.mode.value != settings.mode:
            raise self._refuse("mode", account.mode.value, settings.mode)
        if settings.currency is not None and account.currency != settings.currency:
            raise self._refuse("currency", account.currency, settings.currency)

    def _refuse(self, key: str, there: str, wanted: str | None) -> ConfigError:
        return ConfigError(
            f"platform {self.feed.name!r}: {key} at the terminal was {there or 'not named'!r}, must be {wanted!r}; log "
            f"in to the right account there, or correct settings.{key}; nothing was subscribed or sent"
        )


class Mt5GlobalAdapter(Mt5Adapter):
    """Names: `settings.names`, else the symbol mappings' with `settings.suffix` behind it ("US500" -> "US500.cash")."""

    SETTINGS: ClassVar[type[BridgeSettings]] = Mt5GlobalSettings
    settings: Mt5GlobalSettings

    def _mapped_name(self, symbol: Symbol) -> str:
        name = super()._mapped_name(symbol)
        # Futures have the exchange's name at every broker, without the broker's suffix.
        return name if symbol.contract else name + self.settings.suffix


class Mt5BrazilAdapter(Mt5Adapter):
    """Crossed quotes and those of closed hours do not reach the ring (counted: `bridge_quotes_gated`); trades do."""

    SETTINGS: ClassVar[type[BridgeSettings]] = Mt5BrazilSettings
    settings: Mt5BrazilSettings
    _hours: QuoteHours | None = None

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        if self._hours is None:
            self._hours = QuoteHours(
                self._intake,
                self.catalog or load_catalog(),
                self.sessions or load_sessions(),
                keep_closed=self.settings.quotes_outside_session,
            )
        self._hours.gate_symbols(symbols)
        super().subscribe(symbols)

    def _turn(self) -> int:
        if self._hours is not None:
            self._hours.turn()
        return super()._turn()
