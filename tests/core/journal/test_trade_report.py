"""The figures of `report`, recomputed by hand from trades that an engine has journaled."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.journal import Journal
from nexus_gateway.core.journal.trade_report import Trade, TradeReport, read_trades

from tests.support.orders import MS, Desk, wide_limits

D = Decimal
DAY_MS = 86_400_000
LIMITS = wide_limits()


class JournaledDesk(Desk):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path)
        super().__init__("a", limits=LIMITS)

    def give(self, event: e.Event) -> list:
        effects = super().give(event)
        self.journal.append(event, self.now_ns, effects)
        self.journal.commit()
        return effects

    def open(self, name: str, lots: int = 1, filled: int | None = None) -> m.Order:
        """Buy at 21000, in part when `filled` says so."""
        self.signal(signal_id=name, quantity=D(lots))
        self.fill(self.only(), filled or lots, fee=D("0.50"), fee_currency="USD")
        return self.only()

    def close(self, name: str, points: str) -> None:
        """Close it so many points higher."""
        self.ask(m.SignalClose(signal_id=name))
        if self.engine.report(name).legs[0].open_quantity and self.sent(m.Cancel):
            self.update(self.only(), m.LegState.CANCELLED, filled=self.engine.report(name).filled)
        self.fill(self.only(role=m.OrderRole.EXIT), price=D(21000) + D(points), fee=D("0.50"), fee_currency="USD")

    def read(self) -> tuple[TradeReport, list[Trade]]:
        self.journal.commit()
        return read_trades(self.path, LIMITS)


@pytest.fixture
def desk(tmp_path: Path):
    desk = JournaledDesk(tmp_path / "orders.sqlite")
    yield desk
    desk.journal.close()


def test_every_figure_by_hand(desk):
    """2 USD a point; a fee of half a dollar an execution. Two days, one of them with two trades."""
    for number, points in enumerate(("10", "-5", "-2.25", "4")):
        desk.open(f"s{number}")
        desk.close(f"s{number}", points)
        desk.now_ns += (DAY_MS if number == 1 else 60_000) * MS
    desk.open("half", lots=2, filled=1)
    page, trades = desk.read()
    results = [D(19), D(-11), D("-5.5"), D(7)]
    assert [trade.realized_usd for trade in trades] == results
    assert (page.trades, page.wins, page.open_signals, page.signals) == (4, 2, 1, 5)
    assert page.pnl_usd == sum(results) - D("0.50"), "what is open has cost its fee already"
    assert page.fees_usd == D("4.50")
    assert page.win_rate == 0.5
    # Wilson, n = 4, 2 wins: (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n), z = 1.96
    assert page.win_rate_low == pytest.approx(0.1500, abs=5e-5)
    assert page.win_rate_high == pytest.approx(0.8500, abs=5e-5)
    assert page.profit_factor == pytest.approx(26 / 16.5)
    assert page.max_drawdown_usd == D("16.5")  # from 19 down to 2.5
    first, second = 8.0, 1.5
    spread = abs(first - second) / math.sqrt(2)  # the deviation of two values, n - 1 below
    assert page.sharpe == pytest.approx((first + second) / 2 / spread * math.sqrt(252))
    assert page.days == 2
    assert page.fill_rate == pytest.approx(5 / 6)
    assert (page.unpriced, page.closed_elsewhere, page.unknown_legs, page.rejects) == (0, 0, 0, {})


def test_figures_that_cannot_be_had_are_none_and_never_zero(desk):
    page, trades = desk.read()
    assert trades == []
    names = ("win_rate", "win_rate_low", "win_rate_high", "profit_factor", "sharpe", "fill_rate")
    assert [getattr(page, name) for name in names] == [None] * 6
    desk.open("s")
    desk.close("s", "10")
    page, _ = desk.read()
    assert page.profit_factor is None, "nothing was lost yet"
    assert page.sharpe is None, "one day has no spread"
    assert page.win_rate == 1.0
    assert page.win_rate_low < 0.25, "one trade shows next to nothing"


def test_what_another_hand_has_closed_is_no_trade_with_a_made_up_result(desk):
    """Its price is in no execution of the signal: counted as closed at a loss of the fee, it would spoil every rate."""
    desk.open("ours")
    desk.close("ours", "10")
    entry = desk.open("theirs")
    foreign = desk.make_fill(entry, side=m.Side.SELL, price=D(21100), client_order_id="")
    desk.give(e.AdapterSaid(message=foreign))
    assert desk.engine.report("theirs").state is m.SignalState.CLOSED
    page, trades = desk.read()
    assert [trade.signal_id for trade in trades] == ["ours"]
    assert (page.trades, page.wins, page.closed_elsewhere, page.open_signals) == (1, 1, 1, 0)
    assert page.win_rate == 1.0
    assert page.pnl_usd == D("18.50")
