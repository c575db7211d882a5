"""The limits file, the trading day, sizing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.risk import DayCounters, Limits, day_bounds, floor_to_lot, lots_for_risk, read_limits, risk_usd

from tests.support.orders import CONFIG, SECOND, T0, market


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("stage: 1\n", "stage: 9\n", "stage was 9"),
        ("max_daily_loss_usd: 500", "max_daily_loss_usd: .nan", "finite"),
        ("max_daily_loss_usd: 500", "max_daily_loss_usd: 0", "above zero"),
        ("max_daily_loss_usd: 500", "max_daily_los_usd: 500", "max_daily_los"),
        ("collar_ticks: 200", "collar_ticks: -1", "collar_ticks"),
        ("max_traded_notional_usd: null", "max_traded_notional_usd: .nan", "finite number above zero, one was NaN"),
        ("max_traded_notional_usd: null", "max_traded_notional_usd: .inf", "finite number above zero, one was Inf"),
        ("max_traded_notional_usd: null", "max_traded_notional_usd: 0", "above zero, one was 0"),
        ("max_traded_notional_usd: null", 'max_traded_notional_usd: "1E999999999"', "one was 1E.999999999; at most 12"),
        ("max_traded_notional_usd: null", "max_traded_notional_usd: -5", "above zero, one was -5"),
        ("max_working_orders: 1000", "max_working_orders: 0", r"max_working_orders"),
        ("max_working_orders: 1000", "max_working_orders: 1.5", r"max_working_orders"),
        ("max_working_orders_per_platform: 250", "max_working_orders_per_platform: -1", "max_working_orders_per_plat"),
        ("max_messages_per_fill: 100", "max_messages_per_fill: 0", "max_messages_per_fill"),
        ("max_messages_per_fill: 100", "max_messages_per_fill: .nan", "max_messages_per_fill"),
        ("messages_before_ratio: 1000", "messages_before_ratio: -1", "messages_before_ratio"),
        ("messages_before_ratio: 1000", "messages_before_ratio: null", "messages_before_ratio"),
        ("repeated_entries_latch: true", "repeated_entries_latch: 1", "repeated_entries_latch"),
        ("repeated_entries_latch: true", "repeated_entries_latch: null", "repeated_entries_latch"),
        ("max_messages_per_fill: 100\n", "", "missing max_messages_per_fill; every limit must be written, null"),
        ("max_signal_age_ms: 10000\n", "", "missing max_signal_age_ms"),
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


@pytest.mark.parametrize(
    "key", ["max_working_orders", "max_working_orders_per_platform", "max_traded_notional_usd", "max_messages_per_fill"]
)
def test_each_cap_can_be_off_and_none_is_off_by_omission(tmp_path, key):
    lines = CONFIG.read_text().splitlines()
    path = tmp_path / "risk_limits.yaml"
    path.write_text("\n".join(f"{key}: null" if line.startswith(f"{key}:") else line for line in lines))
    assert getattr(read_limits(path), key) is None
    path.write_text("\n".join(line for line in lines if not line.startswith(f"{key}:")))
    with pytest.raises(ConfigError, match=f"missing {key};"):
        read_limits(path)


def test_limits_of_a_journal_that_did_not_know_these_have_them_off():
    plain = msgspec.to_builtins(read_limits(CONFIG))
    new = {"repeated_entries_latch", "max_working_orders", "max_working_orders_per_platform", "messages_before_ratio",
           "max_traded_notional_usd", "max_messages_per_fill"}  # fmt: skip
    former = {key: value for key, value in plain.items() if key not in new}
    limits = msgspec.msgpack.decode(msgspec.msgpack.encode(former), type=Limits)
    assert {getattr(limits, key) for key in new} == {None, False}


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
