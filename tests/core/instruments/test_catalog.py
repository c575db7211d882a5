"""The catalog: exact terms, strict loading, rounding on the tick and lot grid."""

import csv
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.price_grid import decimal_of_float
from nexus_gateway.core.instruments.refusals import InstrumentRefused

CATALOG = load_catalog()
SPECS = Path(__file__).resolve().parents[4] / "shared" / "data" / "reference" / "instrument_specs.csv"

REQUIRED = """
    ES NQ YM RTY MES MNQ MYM M2K CL MCL NG GC MGC SI HG 6E 6B 6J 6A 6C ZN ZB ZF ZT WIN IND WDO DOL
    NAS100 US500 US30 XAUUSD EURUSD USDBRL
"""

TICK_VALUES = {
    "ES": "12.50", "NQ": "5.00", "YM": "5.00", "RTY": "5.00", "MES": "1.25", "MNQ": "0.50", "MYM": "0.50",
    "M2K": "0.50", "NKD": "25.00", "CL": "10.00", "MCL": "1.00", "NG": "10.00", "GC": "10.00", "MGC": "1.00",
    "SI": "25", "SIL": "5", "HG": "12.50", "6E": "6.25", "6B": "6.25", "6J": "6.25", "6A": "5.00", "6C": "5.00",
    "ZN": "15.625", "ZB": "31.25", "ZF": "7.8125", "ZT": "7.8125", "BTC": "25", "MBT": "0.50",
    "WIN": "1.00", "IND": "5.00", "WDO": "5.00", "DOL": "25.00",
}  # fmt: skip


def test_every_required_instrument_is_there():
    assert set(REQUIRED.split()) <= set(CATALOG)


@pytest.mark.parametrize(("root", "value"), TICK_VALUES.items())
def test_money_per_tick_is_the_exchange_s(root, value):
    assert CATALOG[root].tick * CATALOG[root].point_value == Decimal(value)


def test_futures_match_the_published_specifications():
    if not SPECS.exists():
        pytest.skip(f"{SPECS} is not there")
    compared = 0
    with SPECS.open(newline="") as lines:
        for row in csv.DictReader(lines):
            if row["type"] != "future":
                continue
            ours = CATALOG[row["symbol"]]
            assert ours.exchange == row["market"].upper(), row
            assert ours.currency == row["quote_currency"], row
            assert ours.point_value == Decimal(row["contract_multiplier"]), row
            assert ours.tick == Decimal(row["minimum_price_variation"]), row
            compared += 1
    assert compared == 24


def test_pairs_match_the_published_specifications_by_unit():
    """The table counts one unit of the base currency, the catalog one lot of 100 000."""
    if not SPECS.exists():
        pytest.skip(f"{SPECS} is not there")
    with SPECS.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["type"] == "forex"]
    assert len(rows) == 4
    for row in rows:
        ours = CATALOG[row["symbol"]]
        assert (ours.currency, ours.tick) == (row["quote_currency"], Decimal(row["minimum_price_variation"]))
        assert ours.point_value == Decimal(row["contract_multiplier"]) * 100_000


def test_a_cfd_is_not_the_future():
    assert CATALOG["NAS100"].point_value != CATALOG["NQ"].point_value
    with pytest.raises(InstrumentRefused, match="no contracts"):
        _ = CATALOG["NAS100"].terms


GOOD = """
instruments:
  - symbol: XX
    kind: cfd
    description: test
    exchange: OTC
    currency: USD
    tick: "0.1"
    point_value: "1"
    sessions: otc_fx
"""


def test_a_user_file_adds_and_replaces(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD + GOOD.split("instruments:")[1].replace("XX", "NAS100").replace('"1"', '"20"'))
    catalog = load_catalog(path)
    assert catalog["XX"].tick == Decimal("0.1")
    assert catalog["NAS100"].point_value == 20
    assert catalog["ES"] == CATALOG["ES"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('tick: "0.1"', 'tick: "0"'), "tick was 0"),
        (('tick: "0.1"', 'tick: "NaN"'), "tick was NaN"),
        (('tick: "0.1"', "tick: .inf"), "tick was Infinity"),
        (('tick: "0.1"', 'tick: "1E-999999999"'), "tick was 1E-999999999; it must be a number above 0, with at most"),
        (('point_value: "1"', 'point_value: "-1"'), "point_value was -1"),
        (('tick: "0.1"', 'ticks: "0.1"'), "ticks"),
        (('tick: "0.1"', 'tick: "0.1"\n    tick: "0.2"'), "appears twice"),
        (('tick: "0.1"', 'tick: &t "0.1"'), "anchor or alias 't'"),
        (("instruments:", "instruments: " + "[" * 100 + "]" * 100 + "\nothers:"), "nested deeper than 32 levels"),
        (("currency: USD", "currency: usd"), "ISO code"),
        (("kind: cfd", "kind: future"), "'future' section"),
        (("kind: cfd", "kind: option"), "option"),
        (("sessions: otc_fx", 'sessions: otc_fx\n    lot_step: "0.3"'), "not a multiple of lot_step"),
        (("instruments:", "instruments: ["), "mine.yaml"),
        (("symbol: XX", "symbol: ''"), "symbol was ''"),
        (("symbol: XX", "symbol: X X"), "symbol was 'X X'"),
        (("symbol: XX", "symbol: NQH25"), "a contract of NQ"),
        (("symbol: XX", f"symbol: {'X' * 30}"), "29 at most"),
        (("symbol: XX\n    kind: cfd", "symbol: EURUSD\n    kind: fx\n    lot_step: '1'"), None),
        (("symbol: XX\n    kind: cfd", "symbol: USDBRL\n    kind: fx"), "the second one its currency"),
        (("symbol: XX\n    kind: cfd", "symbol: DOLAR\n    kind: fx"), "the second one its currency"),
    ],
)
def test_a_bad_user_file_is_refused_with_its_name(tmp_path, change, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace(*change))
    if complaint is None:
        assert "EURUSD" in load_catalog(path)
        return
    with pytest.raises(ConfigError, match=r"mine\.yaml") as refused:
        load_catalog(path)
    assert complaint in str(refused.value)


def test_a_missing_user_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_catalog(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ("months: MH, expiry: {rule: third_friday, holidays: b3}, roll: {rule: cme_index}", "in that order"),
        ("months: HA, expiry: {rule: third_friday, holidays: b3}, roll: {rule: cme_index}", "in that order"),
        ("months: '', expiry: {rule: third_friday, holidays: b3}, roll: {rule: cme_index}", "months is empty"),
        ("months: H, expiry: {rule: third_friday, holidays: mars}, roll: {rule: cme_index}", "mars"),
        ("months: H, expiry: {rule: third_sunday, holidays: b3}, roll: {rule: cme_index}", "third_sunday"),
        ("months: H, roll_months: Z, expiry: {rule: third_friday, holidays: b3}, roll: {rule: cme_index}", "lacks"),
        ("months: H, expiry: {rule: third_friday, holidays: b3}, roll: {rule: before_first_notice}", "first_notice"),
    ],
)
def test_bad_terms_of_a_future_are_refused(tmp_path, terms, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD.replace("kind: cfd", "kind: future") + f"    future: {{{terms}}}\n")
    with pytest.raises(ConfigError, match=complaint):
        load_catalog(path)


@given(
    st.sampled_from(sorted(CATALOG)),
    st.decimals(min_value=-100_000, max_value=100_000, allow_nan=False, places=9),
)
def test_rounding_brackets_the_price(symbol, price):
    instrument = CATALOG[symbol]
    down, up = instrument.round_price(price, "down"), instrument.round_price(price, "up")
    nearest = instrument.round_price(price)
    assert down <= price <= up
    assert up - down in (0, instrument.tick)
    assert abs(nearest - price) * 2 <= instrument.tick
    assert nearest in (down, up)


@given(st.sampled_from(sorted(CATALOG)), st.integers(-(10**6), 10**6), st.sampled_from(["nearest", "down", "up"]))
def test_a_price_on_the_grid_stays(symbol, ticks, rounding):
    price = ticks * CATALOG[symbol].tick
    assert CATALOG[symbol].round_price(price, rounding) == price


def test_half_a_tick_goes_up():
    assert CATALOG["ES"].round_price(Decimal("5000.125")) == Decimal("5000.25")
    assert CATALOG["CL"].round_price(Decimal("-37.635")) == Decimal("-37.63")


def test_sizes_never_grow_by_rounding():
    assert CATALOG["NAS100"].round_lots(Decimal("0.29")) == Decimal("0.2")
    assert CATALOG["DOL"].round_lots(14) == 10
    assert CATALOG["DOL"].round_lots(4) == 0
    with pytest.raises(InstrumentRefused, match="not negative"):
        CATALOG["ES"].round_lots(-1)


def test_floats_enter_by_one_gate_only():
    with pytest.raises(TypeError, match="decimal_of_float"):
        CATALOG["ES"].round_price(5000.25)  # type: ignore[arg-type]
    assert decimal_of_float(0.1) == Decimal("0.1")
    for bad in (float("nan"), float("inf")):
        with pytest.raises(InstrumentRefused):
            decimal_of_float(bad)
    with pytest.raises(InstrumentRefused):
        CATALOG["ES"].round_price(Decimal("NaN"))


@pytest.mark.processes
def test_importing_loads_nothing_heavy():
    """NEXUS imports this in its own process: no compiler, no sockets, no holiday tables before first use."""
    modules = ("catalog", "currency", "expiry", "identity", "money", "rollover", "sessions", "symbols")
    code = "import sys\n" + "".join(f"import nexus_gateway.core.instruments.{each}\n" for each in modules)
    code += "print([m for m in ('numba', 'zmq', 'numpy', 'holidays') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
