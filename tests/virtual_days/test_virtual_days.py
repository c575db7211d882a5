"""What the benchmarks of growth and the kills on day two stand on: a disagreement after virtual days would be seen."""

from __future__ import annotations

import time

import pytest
from nexus_gateway.core.messages import SignalState

from benchmarks.growth import rig
from tests.virtual_days.days import VirtualDays
from tests.virtual_days.trader import DAY_NS

HOUR_NS = DAY_NS // 24


@pytest.fixture
def days(tmp_path):
    with VirtualDays(rig.make_config(tmp_path), rig.PRICES, time.time_ns() - DAY_NS) as made:
        yield made


def test_hours_of_trading_leave_signals_gateway_and_platforms_in_agreement(days):
    days.trader.trade(240)
    days.run_for(HOUR_NS)
    days.trader.rest()
    days.run_for(HOUR_NS)
    assert days.faults() == []
    assert [report.state for report in days.trader.reports.values()] == [SignalState.CLOSED] * 10
    assert {len(platform.book.executions) for platform in days.platforms.values()} == {20}
    assert days.connection.execute("SELECT max(seq) FROM events").fetchone() == (days.last_seq,)


def test_lots_that_a_platform_has_lost_would_be_seen(days):
    days.trader.trade(240, hold_ns=DAY_NS)
    days.run_for(HOUR_NS)
    days.trader.rest()
    days.run_for(10 * 10**9)
    assert days.faults() == []
    del days.platforms["nt8"].book.positions["NQ"]
    assert any("nt8 holds {}" in fault for fault in days.faults())


def test_a_signal_without_a_report_would_be_seen(days):
    days.trader.trade(240)
    days.run_for(HOUR_NS)
    days.trader.rest()
    days.run_for(HOUR_NS)
    del days.trader.reports["v3"]
    assert "10 signals have 9 reports" in days.faults()


def test_accounts_are_written_as_the_adapters_read_them(days, tmp_path):
    days.trader.trade(240)
    days.run_for(HOUR_NS)
    days.save_accounts(tmp_path)
    for name, platform in days.platforms.items():
        assert platform.read(tmp_path / f"orders.{name}.paper").executions == platform.book.executions
