"""Paper mode of any adapter: its live market data with simulated fills.

The wrapped adapter is used for market data only; its `execute` and `snapshot` are never called.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from ...core.config import paper_account_name
from ...core.errors import ConfigError
from ...core.messages import Cancel, Instrument, Order, Replace, Snapshot, SnapshotRequest
from ...shm.durations import NS_PER_S
from ...shm.reader import TickReader
from ...shm.steps import StepWatch
from ...shm.symbols import Symbol
from ...shm.tick import TickFlag
from ..base import Adapter, Command, OrderDesk, PlatformAccount
from ..symbol_watch import describe_from_catalog
from .exchange import PaperExchange, new_book
from .matching import make_quote
from .settings import PaperSettings
from .store import PaperStore

PAPER_COUNTERS: Final = ("paper_trades", "paper_quotes_refused", "paper_ticks_missed", "paper_reports_muted")
_DEATH_EXIT_CODE: Final = 70
_QUOTED: Final = int(TickFlag.BID | TickFlag.ASK)


class PaperAdapter(Adapter):
    """Wraps another adapter and trades against its quotes. The account is a file, and survives the process.

    Live orders are matched against every tick of their symbol, read from the adapter's own ring. Ticks are missed, and
    counted, only when one batch is larger than the ring.
    """

    def __init__(self, inner: Adapter, settings: PaperSettings, account_path: Path) -> None:
        """
        Args:
            account_path: the account's file; created when it is missing.

        Raises:
            ConfigError: the account's file is damaged, or of another mode or currency.
        """
        super().__init__(inner.feed, {})
        self._inner = inner
        self._settings = settings
        self._symbols: dict[str, Symbol] = {}
        self._described: dict[str, Instrument] = {}
        self._from_platform: tuple[Instrument, ...] = ()
        self._instruments: dict[str, Instrument] = {}
        self._shown_seq: dict[str, int] = {}
        platform = inner.feed.name
        self.capabilities = settings.capabilities(platform)
        self.account = self._describe_account()
        self._store = PaperStore(account_path)
        self._clock = StepWatch()
        book = self._store.load() or new_book(platform, settings, self._clock.read()[0])
        made_as = (book.funds.mode, book.funds.currency)
        if made_as != (self.account.mode, self.account.currency):
            self._store.close()
            raise ConfigError(
                f"paper account {account_path} was made as {', '.join(made_as)}, paper.mode and paper.currency are now "
                f"{self.account.mode}, {self.account.currency}; put them back, or stop the gateway and remove the file"
            )
        self._exchange = PaperExchange(platform, self.account.name, settings, self._instruments, book)
        self._reader = TickReader(inner.feed.folder, platform)
        counters = inner.feed.counters
        self._trades = counters.counter("paper_trades")
        self._refused = counters.counter("paper_quotes_refused")
        self._missed = counters.counter("paper_ticks_missed")
        self._muted = counters.counter("paper_reports_muted")

    @property
    def orders(self) -> OrderDesk | None:
        return self._inner.orders

    @orders.setter
    def orders(self, desk: OrderDesk | None) -> None:
        self._inner.orders = desk

    def connect(self) -> None:
        self._inner.connect()

    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        self._inner.subscribe(symbols)
        self._symbols = {symbol.name: symbol for symbol in symbols}
        self._described = describe_from_catalog(symbols, self._inner.catalog, self._inner.sessions)
        self._apply_instruments()

    def poll(self, timeout_s: float) -> int:
        due_s = (self._exchange.next_due_ns - self._now_ns()) / NS_PER_S
        published = self._inner.poll(min(timeout_s, max(due_s, 0.0)))
        if self._inner.instruments is not self._from_platform:
            self._apply_instruments()
        self._follow_market()
        self._advance_and_report()
        return published

    def _apply_instruments(self) -> None:
        """Use the platform's own description of its instruments, so that paper refuses what real orders would."""
        self._from_platform = self._inner.instruments
        self._instruments.clear()
        self._instruments.update(self._described)
        for each in self._from_platform:
            if each.symbol in self._described:
                self._instruments[each.symbol] = _complete(each, self._described[each.symbol])
        self._exchange.apply_rolls()
        self._store.save(self._exchange.book)
        self.account = self._describe_account()

    def close(self) -> None:
        self._inner.close()

    def close_account(self) -> None:
        """Close the account's file, at the end of the process; the account stays."""
        self._store.close()

    def execute(self, command: Command) -> None:
        self._follow_market()
        now_ns = self._now_ns()
        match command:
            case Order():
                self._refresh_quote(command.symbol, now_ns)
                self._exchange.place(command, now_ns)
            case Cancel():
                self._exchange.cancel(command, now_ns)
            case Replace():
                self._exchange.replace(command, now_ns)
        self._advance_and_report()

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        self._follow_market()
        now_ns = self._now_ns()
        for position in list(self._exchange.book.positions.values()):
            self._refresh_quote(position.symbol, now_ns)
        self._advance_and_report()
        return self._exchange.snapshot(request, now_ns)

    def _now_ns(self) -> int:
        """Return the wall clock. What waits at the exchange follows its steps: none may hold up a closing order."""
        now_ns, step_ns = self._clock.read()
        if step_ns:
            self._exchange.follow_step(step_ns)
        return now_ns

    def _advance_and_report(self) -> None:
        """Run what is due, save it, then report it. Saved first: what was reported must still be true after a crash."""
        now_ns = self._now_ns()
        exchange = self._exchange
        exchange.advance(now_ns)
        self._store.save(exchange.book)
        if exchange.timeline.is_dead:
            os._exit(_DEATH_EXIT_CODE)  # like a crash: nothing is flushed, closed or reported
        self._muted.set(exchange.timeline.lost_reports)
        self._trades.set(len(exchange.book.executions))
        if self.orders is not None:
            for report in exchange.pop_reports(now_ns):
                self.orders.report(report)

    def _follow_market(self) -> None:
        """Pass each new tick of the symbols with live orders to the exchange."""
        while self._reader.ready():
            # The symbol of a live order may be unsubscribed at the moment (a roll): the order waits for its quotes.
            names = self._exchange.symbols_with_orders() & self._symbols.keys()
            wanted = {self._symbols[name].id: self._symbols[name] for name in names}
            batches = [view[np.isin(view["symbol"], list(wanted))] for view in self._reader.views()]
            self._reader.confirm()  # this thread is the ring's writer, so nothing was overwritten meanwhile
            now_ns = self._now_ns()
            for batch in batches:
                for tick in batch:
                    self._show_tick(wanted[int(tick["symbol"])], tick, now_ns)
        self._missed.set(self._reader.lost)

    def _refresh_quote(self, name: str, now_ns: int) -> None:
        symbol = self._symbols.get(name)
        if symbol is None:
            return
        try:
            row = self.feed.writer.board_row(symbol.id)
        except ValueError as error:
            raise ConfigError(f"paper orders need quote boards: {error}; set board_rows above {symbol.id}") from error
        # Each quote is used once: lots that have traded against it are gone until the next quote.
        if int(row["seq"][0]) > self._shown_seq.get(name, 0):
            self._show_tick(symbol, row[0], now_ns, must_be_quote=False)

    def _show_tick(self, symbol: Symbol, tick: np.void, now_ns: int, *, must_be_quote: bool = True) -> None:
        self._shown_seq[symbol.name] = int(tick["seq"])
        flags = int(tick["flags"])
        bid, ask = float(tick["bid"]), float(tick["ask"])
        if flags & TickFlag.STALE:
            self._exchange.set_quote(symbol.name, None, now_ns)
            return
        sizes = (float(tick["bid_size"]), float(tick["ask_size"]))
        if math.isnan(bid) and math.isnan(ask):
            # A feed without quotes: use the last trade's price.
            bid = ask = float(tick["last"])
            sizes = (0.0, 0.0)
        elif must_be_quote and not flags & _QUOTED:
            return  # a trade repeats the former quote, whose size may have been traded already
        instrument = self._instruments[symbol.name]
        assert instrument.tick_size is not None
        assert instrument.lot_step is not None
        quote = make_quote(bid, ask, *sizes, instrument.tick_size, instrument.lot_step)
        if quote is None:
            self._refused.add()
        self._exchange.set_quote(symbol.name, quote, now_ns)

    def _describe_account(self) -> PlatformAccount:
        platform = self.feed.name
        return PlatformAccount(
            name=paper_account_name(platform),
            mode=self._settings.account_mode(platform),
            currency=self._settings.account_currency(platform),
            instruments=tuple(self._instruments.values()),
        )


def _complete(described: Instrument, known: Instrument) -> Instrument:
    """Fill the gaps of a platform's description from the catalog's."""
    names = described.__struct_fields__
    given = {name: value for name in names if (value := getattr(described, name)) not in (None, "", 0)}
    return msgspec.structs.replace(known, **given)
