"""Paper mode around another adapter: its ticks are traded, its own orders never reached, the account is kept."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.adapters.base import OrderEvent
from nexus_gateway.adapters.feed import COUNTERS, TickFeed
from nexus_gateway.adapters.paper.adapter import PAPER_COUNTERS, PaperAdapter
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.adapters.replay.adapter import ReplayAdapter
from nexus_gateway.core import messages as m
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.tick import Platform, TickFlag

from tests.support.feeds import ScriptedAdapter, close_feed, make_symbols, publish_quote

D = Decimal
ES = 2


class Desk:
    def __init__(self) -> None:
        self.reports: list[OrderEvent] = []
        self.waited_s: list[float] = []

    def report(self, event: OrderEvent) -> None:
        self.reports.append(event)

    def wait(self, timeout_s: float, sockets: object) -> bool:
        self.waited_s.append(timeout_s)
        return False


class Market(ScriptedAdapter):
    """Publishes (symbol, bid, ask, flags, last) rows, one poll a list."""

    def poll(self, timeout_s: float) -> int:
        rows = self.script.pop(0) if self.script else []
        for row in rows:
            publish_quote(self.feed, *row)
        if not rows:
            self.wait(timeout_s)
        return len(rows)

    def execute(self, command: object) -> None:
        raise AssertionError("an order reached the platform")


class Bench:
    def __init__(self, folder: Path, *, board_rows: int = 64, **settings: object) -> None:
        self.folder = folder
        page = CountersPage.create(folder, "nt8", (*COUNTERS, *PAPER_COUNTERS))
        self.feed = TickFeed(folder, "nt8", Platform.NT8, page, capacity=64, board_rows=board_rows)
        self.inner = Market(self.feed, [])
        self.adapter = PaperAdapter(self.inner, PaperSettings(**settings), folder / "account" / "nt8.paper")
        self.desk = Desk()
        self.adapter.orders = self.desk
        self.adapter.connect()
        self.adapter.subscribe(make_symbols(folder, "NQ", "ES"))

    def poll(self, *rows: tuple) -> None:
        self.inner.script.append(list(rows))
        self.adapter.poll(0.0)

    def place(self, quantity: int = 1, **terms: object) -> m.Order:
        order = m.Order(
            **(
                {
                    "client_order_id": m.client_order_id(m.signal_key(f"{quantity}{terms}"), 0, m.OrderRole.ENTRY, 0),
                    "platform": "nt8",
                    "account": "PAPER-nt8",
                    "symbol": "NQ",
                    "contract": "",
                    "side": m.Side.BUY,
                    "quantity": D(quantity),
                    "order_type": m.OrderType.MARKET,
                }
                | terms
            )
        )
        self.adapter.execute(order)
        return order

    def fills(self) -> list[tuple[Decimal, Decimal]]:
        return [(each.quantity, each.price) for each in self.desk.reports if isinstance(each, m.Fill)]

    def count(self, name: str) -> int:
        return self.feed.counters.values()[name]

    def close(self) -> None:
        self.adapter.close()
        self.adapter.close_account()
        close_feed(self.feed)


@pytest.fixture
def bench(tmp_path: Path):
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_the_account_describes_itself_by_catalog_and_directory(bench):
    account = bench.adapter.account
    assert (account.name, account.mode, account.currency) == ("PAPER-nt8", m.AccountMode.NETTING, "USD")
    nq, _ = account.instruments
    assert (nq.symbol, nq.tick_size, nq.lot_step, nq.point_value) == ("NQ", D("0.25"), 1, 20)


def test_a_market_order_trades_the_newest_quote_of_the_board(bench):
    bench.poll((1, 100.0, 100.25), (1, 101.0, 101.25), (ES, 50.0, 50.25))
    bench.place()
    assert bench.fills() == [(1, D("101.25"))]


def test_a_resting_order_meets_every_tick_not_only_the_last(bench):
    bench.poll((1, 100.0, 100.25))
    bench.place(order_type=m.OrderType.STOP, stop_price=D(102))
    # Up and down again within one batch.
    bench.poll((ES, 10.0, 10.25), (1, 101.75, 102.0), (1, 100.0, 100.25))
    assert bench.fills() == [(1, D(102))]
    assert bench.count("paper_trades") == 1


def test_stale_and_impossible_quotes_trade_nothing(bench):
    bench.poll((1, 100.0, 100.25), (1, 100.0, 100.25, int(TickFlag.STALE)))
    bench.place()
    bench.poll((1, 101.0, 100.0), (1, 0.0, 0.0))
    assert bench.fills() == []
    assert bench.count("paper_quotes_refused") == 2
    bench.poll((1, 100.0, 100.25))
    assert bench.fills() == [(1, D("100.25"))]


def test_a_feed_of_trades_alone_is_traded_at_the_last_price(bench):
    nan = float("nan")
    bench.place()
    bench.poll((1, nan, nan, int(TickFlag.TRADE), 99.75))
    assert bench.fills() == [(1, D("99.75"))]


def test_ticks_that_were_overwritten_before_they_were_seen_are_counted(bench):
    bench.place(order_type=m.OrderType.LIMIT, limit_price=D(10))
    bench.poll(*[(1, 100.0, 100.25)] * 100)
    assert bench.count("paper_ticks_missed") > 0


def test_a_poll_waits_no_longer_than_the_exchange_has_something_due(tmp_path):
    bench = Bench(tmp_path, latency_ms=40.0)
    bench.poll((1, 100.0, 100.25))
    bench.place()
    assert bench.desk.reports == []
    bench.adapter.poll(5.0)
    assert 0 < bench.desk.waited_s[-1] <= 0.04
    bench.close()


def test_the_account_outlives_the_adapter(tmp_path):
    first = Bench(tmp_path)
    first.poll((1, 100.0, 100.25))
    order = first.place(3)
    first.close()
    second = Bench(tmp_path)
    request = m.SnapshotRequest(request_id=1, platform="nt8", account="PAPER-nt8")
    snapshot = second.adapter.snapshot(request)
    assert [row.quantity for row in snapshot.positions.rows] == [3]
    second.adapter.execute(order)
    assert second.fills() == []
    assert [each.state.value for each in second.desk.reports] == ["filled"]
    assert (tmp_path / "account" / "nt8.paper").stat().st_mode & 0o077 == 0
    second.close()


def test_an_account_is_of_one_kind_for_life(tmp_path):
    first = Bench(tmp_path)
    first.place()
    first.close()
    with pytest.raises(ConfigError, match="made as netting, USD"):
        Bench(tmp_path, mode="hedging")


def test_replayed_quotes_are_traded_each_of_them_also_at_full_speed(tmp_path):
    path = tmp_path / "NQH0.csv.gz"
    with gzip.open(path, "wt") as file:
        rows = [f"{1_576_500_000_000 + number},{8000 + number / 4},1" for number in range(400)]
        file.write("\n".join(("epoch_ms,price,size", *rows)) + "\n")
    page = CountersPage.create(tmp_path, "nt8", (*COUNTERS, *PAPER_COUNTERS, *ReplayAdapter.OWN_COUNTERS))
    feed = TickFeed(tmp_path, "nt8", Platform.NT8, page, capacity=1024, board_rows=64)
    inner = ReplayAdapter(feed, {"files": [{"path": str(path)}], "speed": 0, "wait_for_readers": 0})
    adapter = PaperAdapter(inner, PaperSettings(), tmp_path / "nt8.paper")
    adapter.orders = desk = Desk()
    adapter.connect()
    adapter.subscribe(make_symbols(tmp_path, "NQ"))
    values = {"platform": "nt8", "account": "PAPER-nt8", "symbol": "NQ", "contract": "", "quantity": D(1)}
    for role, side, kind, price in (
        (m.OrderRole.ENTRY, m.Side.BUY, m.OrderType.STOP, {"stop_price": D(8010)}),
        (m.OrderRole.TAKE_PROFIT, m.Side.SELL, m.OrderType.LIMIT, {"limit_price": D("8020.25")}),
    ):
        order_id = m.client_order_id(m.signal_key("replayed"), 0, role, 0)
        adapter.execute(m.Order(client_order_id=order_id, side=side, order_type=kind, **values, **price))
    for _ in range(100):
        adapter.poll(0.001)
    assert feed.counters.values()["replay_finished"] == 1
    fills = [(each.side, each.price) for each in desk.reports if isinstance(each, m.Fill)]
    assert fills == [(m.Side.BUY, D(8010)), (m.Side.SELL, D("8020.25"))]
    assert feed.counters.values()["paper_ticks_missed"] == 0
    adapter.close()
    adapter.close_account()
    close_feed(feed)


def test_without_a_quote_board_there_is_no_paper(tmp_path):
    bench = Bench(tmp_path, board_rows=0)
    with pytest.raises(ConfigError, match="board_rows"):
        bench.place()
    bench.close()
