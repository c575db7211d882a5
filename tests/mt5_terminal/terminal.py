"""The terminal program: what it shows of the broker, its switches, and its answer to every call of the module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mt5_terminal.answers import NOT_FOUND, Answer, refuse
from tests.mt5_terminal.broker import Broker
from tests.mt5_terminal.history import bars_of, in_range
from tests.mt5_terminal.ledger import sign_of
from tests.mt5_terminal.market import Symbol, matches_group
from tests.mt5_terminal.module.MetaTrader5 import constants as mt5
from tests.mt5_terminal.records import Record, request_record
from tests.mt5_terminal.trading import Trading


@dataclass
class Cache:
    """What the terminal goes on showing while the broker is out of reach."""

    account: list[Any]
    orders: list[Record]
    positions: list[Record]
    history_orders: list[Record]
    deals: list[Record]
    ticks: dict[str, int]
    quotes: dict[str, Record]


def _copy(record: Record) -> Record:
    return Record(**vars(record))


class Terminal:
    """One run of the program.

    Attributes:
        connected: to the broker.
        cache: what it shows instead of the truth, None while it hears from the broker.
    """

    def __init__(self, broker: Broker, folder: Path, build: int) -> None:
        self.broker = broker
        self.folder = folder
        self.build = build
        self.connected = True
        self.cache: Cache | None = None
        self.trade_allowed, self.tradeapi_disabled, self.dlls_allowed = True, False, True
        self.trading = Trading(broker)
        self._books: set[str] = set()

    def answer(self, name: str, arguments: list[Any], pid: int) -> Answer:
        """Answer one call of the module."""
        if name == "order_send":
            return self._order_send(request_record(arguments[0]), pid)
        call: Callable[..., Answer] = getattr(self, f"call_{name}")
        return call(*arguments)

    def freeze(self) -> None:
        """From now on show what is known now."""
        ledger = self.broker.ledger
        now_ms = self.broker.clock.now_ms()
        self.cache = Cache(
            account=ledger.account.row(),
            orders=[_copy(each) for each in ledger.orders.values()],
            positions=[_copy(each) for each in ledger.positions.values()],
            history_orders=[_copy(each) for each in ledger.history_orders.values() if each.listed_ms <= now_ms],
            deals=[_copy(each) for each in ledger.deals.values() if each.listed_ms <= now_ms],
            ticks={name: symbol.ticks.count for name, symbol in self.broker.symbols.items()},
            quotes={name: _copy(symbol.info) for name, symbol in self.broker.symbols.items()},
        )

    def thaw(self) -> None:
        """Hear from the broker again."""
        self.cache = None

    # The program and the account.

    def call_login(self, login: int, password: str, server: str) -> Answer:
        account = self.broker.ledger.account
        is_other = (login and login != account.login) or (server and server != account.server)
        return Answer("refused" if is_other or password == "wrong" else self.broker.login_state)

    def call_state(self) -> Answer:
        return Answer(self.broker.login_state)

    def call_version(self) -> Answer:
        return Answer([500, self.build, "12 Nov 2026"])

    def call_terminal_info(self) -> Answer:
        info = Record("TerminalInfo", connected=self.connected, build=self.build, path=str(self.folder))
        info.trade_allowed, info.tradeapi_disabled = self.trade_allowed, self.tradeapi_disabled
        info.dlls_allowed, info.maxbars, info.ping_last = self.dlls_allowed, 100_000, 8_000 if self.connected else 0
        info.name, info.company, info.language = "MetaTrader 5", self.broker.ledger.account.company, "English"
        info.data_path = info.commondata_path = str(self.folder)
        return Answer(info.row())

    def call_account_info(self) -> Answer:
        return Answer(self.cache.account if self.cache else self.broker.ledger.account.row())

    # Symbols and ticks.

    def call_symbols_total(self) -> Answer:
        return Answer(len(self.broker.symbols))

    def call_symbols_get(self, group: str) -> Answer:
        names = [name for name in self.broker.symbols if not group or matches_group(name, group)]
        return Answer([self._info(self.broker.symbols[name]).row() for name in names])

    def call_symbol_info(self, name: str) -> Answer:
        symbol = self.broker.symbols.get(name)
        return refuse(NOT_FOUND) if symbol is None else Answer(self._info(symbol).row())

    def call_symbol_info_tick(self, name: str) -> Answer:
        symbol = self._watched(name)
        if symbol is None:
            return refuse(NOT_FOUND)
        count = self._visible(symbol)
        if not count:
            return Answer(Record("Tick").row())
        row = symbol.ticks.rows[count - 1]
        return Answer(Record("Tick", **{field: row[field].item() for field in row.dtype.names}).row())

    def call_symbol_select(self, name: str, is_wanted: bool) -> Answer:
        symbol = self.broker.symbols.get(name)
        if symbol is None:
            return refuse(NOT_FOUND)
        if not is_wanted and any(held.symbol == name for held in self.broker.ledger.positions.values()):
            return refuse((-1, "Terminal: Call failed"))
        symbol.watched = symbol.info.select = symbol.info.visible = is_wanted
        return Answer(True)

    def call_copy_ticks_from(self, name: str, first_s: int, count: int, kind: int) -> Answer:
        return self._ticks(name, first_s, None, count, kind)

    def call_copy_ticks_range(self, name: str, first_s: int, last_s: int, kind: int) -> Answer:
        return self._ticks(name, first_s, last_s, None, kind)

    def call_copy_rates_from(self, name: str, timeframe: int, date_s: int, count: int) -> Answer:
        return self._bars(name, timeframe, lambda bars: bars[bars["time"] <= date_s][-count:])

    def call_copy_rates_from_pos(self, name: str, timeframe: int, start: int, count: int) -> Answer:
        return self._bars(name, timeframe, lambda bars: bars[: len(bars) - start][-count:])

    def call_copy_rates_range(self, name: str, timeframe: int, first_s: int, last_s: int) -> Answer:
        return self._bars(name, timeframe, lambda bars: bars[(bars["time"] >= first_s) & (bars["time"] <= last_s)])

    def call_market_book_add(self, name: str) -> Answer:
        if self._watched(name) is None:
            return refuse(NOT_FOUND)
        self._books.add(name)
        return Answer(True)

    def call_market_book_release(self, name: str) -> Answer:
        if name not in self._books:
            return refuse(NOT_FOUND)
        self._books.remove(name)
        return Answer(True)

    def call_market_book_get(self, name: str) -> Answer:
        symbol = self._watched(name)
        if symbol is None or name not in self._books:
            return refuse(NOT_FOUND)
        return Answer([[int(kind), price, int(lots), float(lots)] for kind, price, lots in symbol.depth])

    # Orders, positions, history.

    def call_orders_total(self) -> Answer:
        return Answer(len(self._orders()))

    def call_positions_total(self) -> Answer:
        return Answer(len(self._positions()))

    def call_orders_get(self, key: str, value: Any) -> Answer:
        return _chosen(self._orders(), key, value)

    def call_positions_get(self, key: str, value: Any) -> Answer:
        return _chosen(self._positions(), key, value)

    def call_history_orders_total(self, first_s: int, last_s: int) -> Answer:
        return Answer(len(in_range(self._history_orders(), "time_done", first_s, last_s, "")))

    def call_history_deals_total(self, first_s: int, last_s: int) -> Answer:
        return Answer(len(in_range(self._deals(), "time", first_s, last_s, "")))

    def call_history_orders_get(self, key: str, *values: Any) -> Answer:
        orders = self._history_orders()
        if key == "range":
            orders = in_range(orders, "time_done", *values)
        else:
            field = "ticket" if key == "ticket" else "position_id"
            orders = [order for order in orders if getattr(order, field) == values[0]]
        return Answer([order.row() for order in orders])

    def call_history_deals_get(self, key: str, *values: Any) -> Answer:
        deals = self._deals()
        if key == "range":
            deals = in_range(deals, "time", *values)
        else:
            # MetaQuotes: the ticket is that of an order, whose deals are wanted.
            field = "order" if key == "ticket" else "position_id"
            deals = [deal for deal in deals if getattr(deal, field) == values[0]]
        return Answer([deal.row() for deal in deals for _ in range(deal.copies)])

    def call_order_calc_margin(self, action: int, name: str, volume: float, price: float) -> Answer:
        symbol = self._watched(name)
        return refuse(NOT_FOUND) if symbol is None else Answer(self.broker.ledger.margin(symbol, volume, price))

    def call_order_calc_profit(self, action: int, name: str, volume: float, first: float, last: float) -> Answer:
        symbol = self._watched(name)
        if symbol is None:
            return refuse(NOT_FOUND)
        return Answer(round(symbol.money((last - first) * sign_of(action), volume), 2))

    def call_order_check(self, row: list[Any]) -> Answer:
        return self.trading.check(row)

    def _order_send(self, request: Record, pid: int) -> Answer:
        if self.tradeapi_disabled:
            return refuse((-8, "Auto-Trading using Python API disabled in Terminal"))
        account = self.broker.ledger.account
        for is_off, retcode in (
            (not self.trade_allowed, mt5.TRADE_RETCODE_CLIENT_DISABLES_AT),
            (not self.connected, mt5.TRADE_RETCODE_CONNECTION),
            (not account.trade_allowed, mt5.TRADE_RETCODE_TRADE_DISABLED),
            (not account.trade_expert, mt5.TRADE_RETCODE_SERVER_DISABLES_AT),
        ):
            if is_off:
                return self.trading.result(request, retcode)
        return self.trading.send(request, pid, self._mute)

    def _mute(self, milliseconds: int) -> None:
        self.freeze()
        self.broker.later(milliseconds, self.thaw)

    # What is shown.

    def _info(self, symbol: Symbol) -> Record:
        info = symbol.info if self.cache is None else self.cache.quotes[symbol.name]
        if symbol.watched:
            return info
        unseen = _copy(info)
        unseen.bid = unseen.ask = unseen.last = 0.0
        unseen.time = 0
        return unseen

    def _watched(self, name: str) -> Symbol | None:
        symbol = self.broker.symbols.get(name)
        return symbol if symbol is not None and symbol.watched else None

    def _visible(self, symbol: Symbol) -> int:
        return symbol.ticks.count if self.cache is None else self.cache.ticks.get(symbol.name, 0)

    def _ticks(self, name: str, first_s: int, last_s: int | None, count: int | None, kind: int) -> Answer:
        symbol = self._watched(name)
        if symbol is None:
            return refuse(NOT_FOUND)
        rows = symbol.ticks.select(first_s, last_s, count, kind, self._visible(symbol))
        return Answer(len(rows), rows.tobytes())

    def _bars(self, name: str, timeframe: int, choose: Callable[[Any], Any]) -> Answer:
        symbol = self._watched(name)
        if symbol is None:
            return refuse(NOT_FOUND)
        bars = choose(bars_of(symbol, self._visible(symbol), timeframe))
        return Answer(len(bars), bars.tobytes())

    def _orders(self) -> list[Record]:
        if self.cache:
            return self.cache.orders
        now_ms = self.broker.clock.now_ms()
        return [order for order in self.broker.ledger.orders.values() if order.listed_ms <= now_ms]

    def _positions(self) -> list[Record]:
        return self.cache.positions if self.cache else list(self.broker.ledger.positions.values())

    def _history_orders(self) -> list[Record]:
        if self.cache:
            return self.cache.history_orders
        now_ms = self.broker.clock.now_ms()
        return [order for order in self.broker.ledger.history_orders.values() if order.listed_ms <= now_ms]

    def _deals(self) -> list[Record]:
        if self.cache:
            return self.cache.deals
        now_ms = self.broker.clock.now_ms()
        return [deal for deal in self.broker.ledger.deals.values() if deal.listed_ms <= now_ms]


def _chosen(records: list[Record], key: str, value: Any) -> Answer:
    if key in ("ticket", "symbol"):
        records = [record for record in records if getattr(record, key) == value]
    elif key == "group":
        records = [record for record in records if matches_group(record.symbol, value)]
    return Answer([record.row() for record in records])
