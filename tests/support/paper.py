"""A paper exchange with a clock of its own, driven by hand."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any, TypeVar

from nexus_gateway.adapters.paper.book import PaperBook
from nexus_gateway.adapters.paper.exchange import PaperExchange, new_book
from nexus_gateway.adapters.paper.matching import make_quote
from nexus_gateway.adapters.paper.scenarios import SCENARIOS
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.core import messages as m

MS = 1_000_000
NOON_NS = 1_760_011_200_000_000_000  # 2025-10-09 12:00 UTC
TICK, STEP = Decimal("0.25"), Decimal(1)

T = TypeVar("T")
_numbers = itertools.count(1)


def instrument(symbol: str, currency: str = "USD") -> m.Instrument:
    return m.Instrument(
        symbol=symbol,
        platform_symbol=symbol,
        contract=f"{symbol}Z25",
        tick_size=TICK,
        lot_step=STEP,
        point_value=Decimal(20),
        currency=currency,
    )


class PaperDesk:
    """`heard`: all reports so far."""

    def __init__(self, platform: str = "nt8", book: PaperBook | None = None, **settings: Any) -> None:
        self.settings = PaperSettings(**settings)
        self.platform, self.account = platform, f"PAPER-{platform}"
        self.now_ns = NOON_NS
        self.instruments = {"NQ": instrument("NQ"), "ES": instrument("ES"), "WIN": instrument("WIN", "BRL")}
        self.book = book or new_book(platform, self.settings, self.now_ns)
        self.exchange = PaperExchange(platform, self.account, self.settings, self.instruments, self.book)
        self.heard: list[m.Message] = []

    def order(self, quantity: object = 1, side: m.Side = m.Side.BUY, **terms: Any) -> m.Order:
        terms.setdefault("order_type", m.OrderType.MARKET)
        terms.setdefault("symbol", "NQ")
        role = terms.pop("role", m.OrderRole.ENTRY)
        key = m.signal_key(f"paper {next(_numbers)}")
        prices = {
            name: None if terms.get(name) is None else Decimal(str(terms.pop(name)))
            for name in ("limit_price", "stop_price", "stop_loss", "take_profit")
        }
        terms = {name: value for name, value in terms.items() if name not in prices}
        return m.Order(
            client_order_id=m.client_order_id(key, 0, role, 0),
            platform=self.platform,
            account=self.account,
            contract="",
            side=side,
            quantity=Decimal(str(quantity)),
            **prices,
            **terms,
        )

    def place(self, quantity: object = 1, side: m.Side = m.Side.BUY, **terms: Any) -> m.Order:
        order = self.order(quantity, side, **terms)
        self.exchange.place(order, self.now_ns)
        self.listen()
        return order

    def provoke(self, scenario: str, **terms: Any) -> m.Order:
        return self.place(SCENARIOS[scenario][0], **terms)

    def cancel(self, order: m.Order) -> None:
        cancel = m.Cancel(
            client_order_id=order.client_order_id, platform=self.platform, account=self.account, symbol=order.symbol
        )
        self.exchange.cancel(cancel, self.now_ns)
        self.listen()

    def replace(self, order: m.Order, revision: int = 1, **terms: Any) -> None:
        wanted = {"quantity": order.quantity, "limit_price": order.limit_price, "stop_price": order.stop_price}
        replace = m.Replace(
            client_order_id=order.client_order_id,
            platform=self.platform,
            account=self.account,
            symbol=order.symbol,
            revision=revision,
            **(wanted | {name: Decimal(str(value)) for name, value in terms.items()}),
        )
        self.exchange.replace(replace, self.now_ns)
        self.listen()

    def quote(self, bid: float, ask: float, bid_size: float = 0, ask_size: float = 0, symbol: str = "NQ") -> None:
        quote = make_quote(bid, ask, bid_size, ask_size, TICK, STEP)
        self.exchange.set_quote(symbol, quote, self.now_ns)
        self.listen()

    def wait(self, ms: float) -> None:
        """Let time pass, a millisecond or a report at a time."""
        end_ns = self.now_ns + int(ms * MS)
        while self.now_ns < end_ns:
            self.now_ns = min(max(self.exchange.next_due_ns, self.now_ns + 1), end_ns)
            self.exchange.advance(self.now_ns)
            self.listen()

    def listen(self) -> None:
        self.heard += self.exchange.pop_reports(self.now_ns)

    def of(self, kind: type[T], order: m.Order | None = None) -> list[T]:
        return [
            each
            for each in self.heard
            if isinstance(each, kind)
            and (order is None or getattr(each, "client_order_id", "") == order.client_order_id)
        ]

    def states(self, order: m.Order) -> list[str]:
        return [update.state.value for update in self.of(m.OrderUpdate, order)]

    def fills(self, order: m.Order) -> list[tuple[Decimal, Decimal]]:
        return [(fill.quantity, fill.price) for fill in self.of(m.Fill, order)]

    def snapshot(self) -> m.Snapshot:
        request = m.SnapshotRequest(request_id=1, platform=self.platform, account=self.account)
        return self.exchange.snapshot(request, self.now_ns)

    def net(self, symbol: str = "NQ") -> Decimal:
        return self.book.net(symbol)
