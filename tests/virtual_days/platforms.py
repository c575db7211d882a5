"""A platform in virtual time: the product's paper exchange, answering as the paper adapter does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from nexus_gateway.adapters.paper.book import PaperBook
from nexus_gateway.adapters.paper.exchange import PaperExchange, new_book
from nexus_gateway.adapters.paper.matching import Quote
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.adapters.paper.store import PaperStore
from nexus_gateway.adapters.symbol_watch import describe_from_catalog
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import PlatformConfig, paper_account_name
from nexus_gateway.shm.symbols import Symbol


class VirtualPlatform:
    """Fills at once, at a quote that never moves. `account`, `route`: as of the paper adapter of that name."""

    def __init__(
        self,
        name: str,
        config: PlatformConfig,
        symbols: Sequence[Symbol],
        prices: dict[str, Decimal],
        now_ns: int,
    ) -> None:
        settings = msgspec.convert(config.settings.get("paper", {}), PaperSettings)
        self.name, self.account = name, paper_account_name(name)
        self.route = f"{name}|{self.account}"
        self._settings = settings
        self._instruments = describe_from_catalog(symbols)
        self.book = new_book(name, settings, now_ns)
        self._exchange = PaperExchange(name, self.account, settings, self._instruments, self.book)
        for symbol, price in prices.items():
            self._exchange.set_quote(symbol, Quote(price, price), now_ns)
        self.boots = 0

    def hello(self) -> m.Hello:
        self.boots += 1
        return m.Hello(
            role=m.Role.ADAPTER,
            name=self.name,
            boot_id=f"virtual{self.boots}",
            platform=self.name,
            account=self.account,
            account_mode=self._settings.account_mode(self.name),
            account_currency=self._settings.account_currency(self.name),
            capabilities=self._settings.capabilities(self.name),
            instruments=tuple(self._instruments.values()),
        )

    def receive(self, message: object, now_ns: int) -> list[Any]:
        """Carry a message of the gateway out and return what the adapter says, in its order."""
        match message:
            case m.Order():
                self._exchange.place(message, now_ns)
            case m.Cancel():
                self._exchange.cancel(message, now_ns)
            case m.Replace():
                self._exchange.replace(message, now_ns)
            case m.SnapshotRequest():
                return [*self.step(now_ns), self._exchange.snapshot(message, now_ns)]
        return self.step(now_ns)

    def step(self, now_ns: int) -> list[Any]:
        """Do what is due, and return the reports of it."""
        self._exchange.advance(now_ns)
        return list(self._exchange.pop_reports(now_ns))

    @staticmethod
    def read(path: Path) -> PaperBook | None:
        """An account as it is on disk."""
        with closing(PaperStore(path)) as store:
            return store.load()

    def save(self, path: Path) -> None:
        """Write the account as the paper adapter's file, in which a real adapter goes on."""
        with closing(PaperStore(path)) as store:
            store.save(self.book)
