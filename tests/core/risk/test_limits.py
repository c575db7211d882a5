"""The limits file, the trading day, sizing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.risk import DayCounters, day_bounds, floor_to_lot, lots_for_risk, read_limits, risk_usd

from tests.support.orders import CONFIG, SECOND, T0, market


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("stage: 1\n", "stage: 9\n", "stage was 9"),
        ("max_daily_loss_usd: 500", "max_daily_loss_usd: .nan", "finite"),
        ("max_daily_loss_usd: 500", "max_daily_loss_usd: 0", "above zero"),
        ("max_daily_loss_usd: 500", "max_daily_los_usd: 500", "max_daily_los"),
        ("collar_ticks: 200", "collar_ticks: -1", "collar_ticks"),
        ("collar_ticks: 200", "collar_ticks: many", "collar_ticks"),
        ("size_unit: micro", "size_unit: tons", "size_unit"),
        ('day_starts: "17:00"', 'day_starts: "25:00"', "day_starts"),
        ("America/Chicago", "America/Atlantis", "Atlantis"),
        ("stages:", "stages: [", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_whole_and_by_name(tmp_path, old, new, named):
    text = CONFIG.read_text()
    assert old in text
    path = tmp_path / "risk_limits.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=named):
        read_limits(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml"):
        read_limits(tmp_path / "no.yaml")


def test_null_switches_a_check_off(tmp_path):
    path = tmp_path / "risk_limits.yaml"
    path.write_text(CONFIG.read_text().replace("collar_ticks: 200", "collar_ticks: null"))
    assert read_limits(path).collar_ticks is None


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("moment", "start", "end"),
    [
        ("2025-01-15T12:00:00", "2025-01-14T23:00:00", "2025-01-15T23:00:00"),
        ("2025-01-15T23:00:00", "2025-01-15T23:00:00", "2025-01-16T23:00:00"),
        ("2025-07-15T21:59:59", "2025-07-14T22:00:00", "2025-07-15T22:00:00"),
        ("2025-03-09T12:00:00", "2025-03-08T23:00:00", "2025-03-09T22:00:00"),  # 23 hours
        ("2025-11-02T12:00:00", "2025-11-01T22:00:00", "2025-11-02T23:00:00"),  # 25 hours
    ],
)
def test_the_trading_day_follows_the_exchanges_clock(moment, start, end):
    assert day_bounds(ns(moment), "America/Chicago", "17:00") == (ns(start), ns(end))


def test_a_new_day_starts_clean_but_keeps_the_peak():
    day = DayCounters()
    day.roll(T0, "America/Chicago", "17:00")
    day.trades["k"] = 1
    day.realized_usd = D(-100)
    day.set_equity("a", D(1000), None)
    day.set_equity("a", D(900), None)
    assert not day.roll(day.ends_ns - 1, "America/Chicago", "17:00")
    assert day.loss_usd() == 100
    assert day.roll(day.ends_ns, "America/Chicago", "17:00")
    assert (day.trades, day.loss_usd(), day.drawdown_usd()) == ({}, D(0), D(100))


def test_the_stricter_day_start_wins():
    day = DayCounters()
    day.set_equity("a", D(900), D(1000))  # a lost journal: the platform still knows where the day began
    assert day.loss_usd() == 100
    day.set_equity("a", D(900), D(950))
    assert day.loss_usd() == 100


@given(st.decimals("0.01", 10_000, places=2), st.decimals("0.25", 500, places=2), st.sampled_from(["1", "0.1", "0.01"]))
def test_sizing_never_risks_more_than_asked(budget, distance, step):
    context = market("a", T0, lot_step=D(step))
    lots = lots_for_risk(budget, distance, context)
    assert lots is not None
    assert lots % D(step) == 0
    assert risk_usd(lots, distance, context) <= budget
    assert risk_usd(lots + D(step), distance, context) > budget


def test_sizing_without_a_rate_or_a_distance_has_no_answer():
    assert lots_for_risk(D(50), D(10), market("a", T0, currency="BRL")) is None
    assert lots_for_risk(D(50), D(0), market("a", T0)) is None
    assert lots_for_risk(D(50), D(10), market("a", T0, currency="BRL", usd_rate=D("0.2"))) == 12


def test_floor_to_lot():
    assert floor_to_lot(D("1.29"), D("0.1")) == D("1.2")
    assert floor_to_lot(D("0.9"), D(1)) == 0
    for found in (floor_to_lot(D("1E+1"), D(1)), floor_to_lot(D("19"), D("1E+1")), floor_to_lot(D("10.00"), D("1.00"))):
        assert found == 10
        assert found.as_tuple().exponent <= 0


def test_a_size_from_risk_has_no_exponent():
    # 500 / 50.00 is 1E+1: an exact quotient takes the exponent nearest to that of its terms.
    assert str(D(500) / D("50.00")) == "1E+1"
    found = lots_for_risk(D(500), D("25.00"), market("a", T0))  # a point is worth 2
    assert str(found) == "10"
