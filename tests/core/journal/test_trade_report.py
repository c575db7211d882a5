"""The figures of `report`, recomputed by hand from trades that an engine has journaled."""

from __future__ import annotations

import math
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.journal import Journal, JournalError
from nexus_gateway.core.journal.finished.results import SignalResult
from nexus_gateway.core.journal.signal_results import read_results, replay_all
from nexus_gateway.core.journal.store import open_database
from nexus_gateway.core.journal.trade_report import Trade, TradeReport, read_trades

from tests.support.finished_desk import FinishedDesk
from tests.support.orders import MS, Desk, wide_limits

D = Decimal
DAY_MS = 86_400_000
LIMITS = wide_limits()


class JournaledDesk(Desk):
    """`finished_after_ms`: signals become rows then; None = never, as in journals of before there were rows."""

    def __init__(self, path: Path, finished_after_ms: int | None) -> None:
        self.path = path
        self.journal = Journal(path)
        settings = e.EngineSettings(client_order_id_chars=22, finished_after_ms=finished_after_ms)
        super().__init__("a", limits=LIMITS, settings=settings)

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
        after_ms = self.settings.finished_after_ms
        if after_ms is not None:
            self.wait(after_ms + 1_000)
            assert not any(record.done_ns for record in self.engine.state.signals.values()), "all that is over has left"
        return read_trades(self.path, LIMITS)


@pytest.fixture(params=[None, 60_000], ids=["replayed", "rows"])
def desk(tmp_path: Path, request: pytest.FixtureRequest):
    desk = JournaledDesk(tmp_path / "orders.sqlite", request.param)
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


def replay_results(path: Path) -> dict[str, SignalResult]:
    with closing(open_database(path, read_only=True)) as connection:
        return replay_all(connection, LIMITS)


def test_rows_give_what_a_replay_gives(tmp_path):
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a", limits=LIMITS)
    for number in range(12):
        desk.trade(f"s{number}")
        if number % 3 == 0:
            desk.finish()
    desk.signal(signal_id="open", quantity=D(1))
    desk.fill(desk.only())
    desk.signal(signal_id="refused", quantity=D(100))
    rows, replayed = read_results(desk.path, LIMITS), replay_results(desk.path)
    assert set(desk.engine.state.signals) < set(rows), "some are in the state, the others are rows"
    assert {name: unclosed(result) for name, result in rows.items()} == {
        name: unclosed(result) for name, result in replayed.items()
    }
    desk.journal.close()


def unclosed(result: SignalResult) -> SignalResult:
    """Without the time of its last report: a replay has made one more when it was refused or repeated."""
    return structs.replace(result, closed_ns=0)


def test_a_bust_of_a_finished_signal_changes_its_result(tmp_path):
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a", limits=LIMITS)
    fills = desk.trade()
    desk.finish()
    before = read_results(desk.path, LIMITS)["s1"]
    assert before.is_trade
    bust = m.Correction(platform="a", account="acc", exec_id=fills[1].exec_id, kind=m.CorrectionKind.BUST, revision=1)
    desk.give(e.AdapterSaid(message=bust))
    assert desk.recalled() == ["s1"]
    after = read_results(desk.path, LIMITS)["s1"]
    assert not after.is_trade
    assert after.is_open
    desk.journal.close()


def test_signals_of_before_there_were_rows_are_replayed(tmp_path):
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a", limits=LIMITS)
    desk.trade("old")
    desk.finish()
    old_seq = desk.journal.last_seq
    desk.trade("new")
    desk.finish()
    whole = read_results(desk.path, LIMITS)
    connection = desk.journal.connection
    for table in ("finished", "finished_records", "finished_executions"):
        connection.execute(f"DELETE FROM {table} WHERE signal_id = 'old'")
    assert set(read_results(desk.path, LIMITS)) == {"new"}
    connection.execute("UPDATE meta SET value = ? WHERE name = 'rows_since'", (str(old_seq),))
    found = read_results(desk.path, LIMITS)
    assert {name: unclosed(each) for name, each in found.items()} == {
        name: unclosed(each) for name, each in whole.items()
    }
    desk.journal.close()


def test_a_damaged_result_is_named(tmp_path):
    desk = FinishedDesk(tmp_path / "orders.sqlite", "a", limits=LIMITS)
    desk.trade()
    desk.finish()
    desk.journal.connection.execute("UPDATE finished SET result = ?", (b"\xff",))
    with pytest.raises(JournalError, match="result of signal s1 cannot be read"):
        read_trades(desk.path, LIMITS)
    desk.journal.close()
