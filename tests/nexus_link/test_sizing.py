"""Lots from money at risk: exact, floored, and refused with a code where they cannot be measured."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some
from nexus_gateway.core.config.default_symbols import DEFAULT_PLATFORM_SYMBOLS, DEFAULT_STAND_INS
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.currency import CurrencyConverter, Rate
from nexus_gateway.core.messages import RejectCode
from nexus_gateway.nexus_link.sizing import InstrumentTable, SizingRefused, size_position

CATALOG = load_catalog()
NOW_NS = 1_700_000_000_000_000_000
D = Decimal


def rates(*each: Rate) -> CurrencyConverter:
    converter = CurrencyConverter()
    for rate in each:
        converter.put(rate)
    return converter


def usdbrl(age_s: int = 0) -> Rate:
    return Rate("USD", "BRL", D("5.50"), "test", NOW_NS - age_s * 10**9, 60 * 10**9)


@pytest.mark.parametrize(
    ("symbol", "risk_usd", "distance", "lots", "risk"),
    [
        ("MNQ", "50", "20", "1", "40"),  # 2 USD a point: 40 a lot
        ("MNQ", "50", "12.5", "2", "50"),  # exactly the budget is allowed
        ("NQ", "1000", "20", "2", "800"),
        ("EURUSD", "50", "0.00200", "0.25", "50"),  # 100,000 a point, lot step 0.01
    ],
)
def test_known_sizes(symbol, risk_usd, distance, lots, risk):
    sizing = size_position(D(risk_usd), D(distance), CATALOG[symbol], rates(), NOW_NS)
    assert (sizing.lots, sizing.risk_usd) == (D(lots), D(risk))
    assert sizing.rates == ()


def test_another_currency_needs_its_rate():
    win = CATALOG["WIN"]  # 0.20 BRL a point
    sizing = size_position(D(50), D(500), win, rates(usdbrl()), NOW_NS)
    # 100 BRL a lot are 18.18 USD: two lots
    assert sizing.lots == 2
    assert sizing.risk_usd.quantize(D("0.0001")) == D("36.3636")
    assert sizing.rates == (usdbrl(),)


@pytest.mark.parametrize(("converter", "what"), [(rates(), "missing"), (rates(usdbrl(61)), "stale")])
def test_a_rate_that_is_missing_or_stale_refuses_and_is_never_one(converter, what):
    with pytest.raises(SizingRefused, match=f"WIN is in BRL, whose rate is {what}") as refused:
        size_position(D(50), D(500), CATALOG["WIN"], converter, NOW_NS)
    assert refused.value.code is RejectCode.STALE_RATE


def test_below_one_lot_step_is_refused_with_the_numbers():
    with pytest.raises(SizingRefused, match=r"1 lots of NQ risk 400\.00 USD over 20 points .* budget is 50 USD") as no:
        size_position(D(50), D(20), CATALOG["NQ"], rates(), NOW_NS)
    assert no.value.code is RejectCode.SIZE_BELOW_LOT


@pytest.mark.parametrize("bad", [D(0), D(-1), D("NaN"), D("Infinity"), 20.0])
def test_what_is_no_number_above_zero_is_refused(bad):
    for risk, distance in ((bad, D(20)), (D(50), bad)):
        with pytest.raises(SizingRefused) as refused:
            size_position(risk, distance, CATALOG["MNQ"], rates(), NOW_NS)
        assert refused.value.code is RejectCode.RISK_NOT_MEASURABLE


@pytest.mark.parametrize("bad", [D(0), D(-1), D("NaN"), 2])
def test_a_bound_that_is_none_is_refused_with_its_value(bad):
    with pytest.raises(SizingRefused, match=f"max_lots was {bad!r}".replace("(", r"\(").replace(")", r"\)")) as refused:
        size_position(D(5000), D(20), CATALOG["NQ"], rates(), NOW_NS, bad)
    assert refused.value.code is RejectCode.RISK_NOT_MEASURABLE


def test_a_bound_on_lots_is_floored_to_the_step():
    assert size_position(D(5000), D(20), CATALOG["NQ"], rates(), NOW_NS, D("2.9")).lots == 2
    with pytest.raises(SizingRefused, match=r"at most 0\.5 lots"):
        size_position(D(5000), D(20), CATALOG["NQ"], rates(), NOW_NS, D("0.5"))


@given(
    symbol=some.sampled_from(["MNQ", "NQ", "EURUSD", "NAS100", "WIN", "CL"]),
    risk=some.decimals("0.01", "100000", places=2),
    distance=some.decimals("0.00001", "5000", places=5),
)
def test_the_size_is_the_largest_that_fits(symbol, risk, distance):
    instrument = CATALOG[symbol]
    converter = rates(usdbrl())
    if distance < instrument.tick:
        with pytest.raises(SizingRefused, match="no stop can lie there"):
            size_position(risk, distance, instrument, converter, NOW_NS)
        return
    per_point = instrument.point_value / (D("5.50") if instrument.currency == "BRL" else 1)
    if instrument.min_lots * distance * per_point > risk * D("1.000000001"):
        with pytest.raises(SizingRefused, match="use a nearer stop"):
            size_position(risk, distance, instrument, converter, NOW_NS)
        return
    try:
        sizing = size_position(risk, distance, instrument, converter, NOW_NS)
    except SizingRefused:
        return  # within the rounding of this test's own arithmetic
    assert sizing.lots % instrument.lot_step == 0
    assert sizing.lots >= instrument.min_lots
    assert sizing.risk_usd <= risk
    assert (sizing.lots + instrument.lot_step) * sizing.risk_per_lot_usd > risk


def test_a_platform_may_trade_another_instrument_in_its_place():
    table = InstrumentTable(CATALOG, DEFAULT_PLATFORM_SYMBOLS, DEFAULT_STAND_INS)
    assert table.traded("nt8", "NQ") == "NQ"
    assert table.traded("mt5", "NQ") == "NAS100"
    assert table.require("mt5", "NQ").symbol == "NAS100"
    with pytest.raises(SizingRefused, match="'XYZ', which is not in the catalog"):
        table.require("mt5", "XYZ")
