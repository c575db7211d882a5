"""Money, conversion with sourced rates, published settlements and quotients to the cent."""

import csv
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError, DataFormatError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.currency import CurrencyConverter, Rate, live_rate
from nexus_gateway.core.instruments.money import Money, position_profit
from nexus_gateway.core.instruments.rate_history import RateHistory
from nexus_gateway.core.instruments.refusals import InstrumentRefused, RateRefused

CATALOG = load_catalog()
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
SECOND = 1_000_000_000
NOW = 1_800_000_000 * SECOND
BRL_20 = Money(Decimal(20), "BRL")


def rate(value="5.50", source="live", age=0, limit=10, rank=0, pair="USDBRL"):
    return Rate(pair[:3], pair[3:], Decimal(value), source, NOW - age * SECOND, limit * SECOND, rank)


def converter(*rates):
    made = CurrencyConverter()
    for each in rates:
        made.put(each)
    return made


def test_twenty_reais_are_3_dollars_64_at_5_50():
    conversion = converter(rate()).convert(BRL_20, "USD", NOW)
    assert conversion.amount.rounded() == Money(Decimal("3.64"), "USD")
    assert conversion.rates[0].source == "live"


def test_a_win_position_in_reais_and_dollars():
    profit = position_profit(CATALOG["WIN"], 1, Decimal(130_000), Decimal(130_100))
    assert profit == Money(Decimal("20.00"), "BRL")
    assert str(converter(rate()).convert(profit, "USD", NOW).amount) == "3.64 USD"
    assert position_profit(CATALOG["WIN"], -3, Decimal(130_000), Decimal(130_100)).amount == -60


def test_settlements_of_b3_to_the_cent():
    path = DATA / "reference" / "b3_daily_2018-01-02.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with path.open(newline="") as lines:
        rows = {row["contract"]: row for row in csv.DictReader(lines)}
    for code, expected in (("WING18", "294.00"), ("WDOG18", "-453.40")):
        row = rows[code]
        profit = position_profit(CATALOG[code[:3]], 1, Decimal(row["previous_settlement"]), Decimal(row["settlement"]))
        assert str(profit) == f"{expected} BRL"


def test_every_published_ecb_quotient():
    path = DATA / "rates" / "ecb_usd_brl_2019_2024.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    history = RateHistory(path)
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(history.days()) == 1538
    for row in rows:
        rates = history.rates_on(date.fromisoformat(row["date"]), None)
        converted = converter(*rates).convert(Money(Decimal(1), "USD"), "BRL", NOW).amount
        assert converted.currency == "BRL"
        assert converted.amount.quantize(Decimal("0.000001")) == Decimal(row["brl_per_usd"]), row


def test_a_day_without_a_row_gives_the_last_one_with_its_age():
    path = DATA / "rates" / "ecb_usd_brl_2019_2024.csv"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    rates = RateHistory(path).rates_on(date(2024, 12, 25), 86_400 * SECOND)
    assert rates[0].time_ns == int(datetime(2024, 12, 24, 13, 15, tzinfo=UTC).timestamp()) * SECOND
    with pytest.raises(RateRefused) as refused:
        RateHistory(path).rates_on(date(2018, 12, 31), None)
    assert refused.value.code == "rate_missing"


@pytest.mark.parametrize(
    "text",
    [
        "date,brl\n2024-01-02,5\n",
        "date,usd_per_eur\n2024-01-02,abc\n",
        "date,usd_per_eur\n2024-01-02,-1\n",
        "date,usd_per_eur\n2024-01-02\n",
        "date,usd_per_eur\n2024-01-02,1.1\n2024-01-02,1.1\n",
        "date,usd_per_eur\n2024-13-02,1.1\n",
        "date,usd_per_eur\n2024-01-02,NaN\n",
    ],
)
def test_a_broken_rate_file_names_the_place(tmp_path, text):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(DataFormatError, match=r"rates\.csv"):
        RateHistory(path)


def test_a_rate_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"rates\.csv: cannot be read"):
        RateHistory(tmp_path / "rates.csv")


def test_rates_of_a_file_stand_between_live_and_configured_ones(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("date,usd_per_eur,brl_per_eur\n2026-12-31,1.10,6.05\n")
    rates = RateHistory(path).rates_on(date(2027, 1, 1), None)
    fixed = Rate("USD", "BRL", Decimal("5.00"), "configured", 0, None, 2)
    reais = converter(fixed, *rates).convert(Money(Decimal(1), "USD"), "BRL", NOW)
    assert reais.amount.amount == Decimal("5.50")
    assert converter(fixed, *rates, rate("5.40")).convert(BRL_20, "USD", NOW).rates[0].source == "live"


def test_a_missing_rate_is_refused_for_risk_and_flagged_in_reports():
    empty = CurrencyConverter()
    with pytest.raises(RateRefused, match="BRL and USD") as refused:
        empty.convert(BRL_20, "USD", NOW)
    assert refused.value.code == "rate_missing"
    reported = empty.convert_for_report(BRL_20, "USD", NOW)
    assert (reported.amount, reported.quality) == (None, "missing")


def test_a_stale_rate_is_refused_for_risk_and_flagged_in_reports():
    stale = converter(rate(age=11))
    with pytest.raises(RateRefused, match=r"11\.0 s old, limit 10\.0 s") as refused:
        stale.convert(BRL_20, "USD", NOW)
    assert refused.value.code == "rate_stale"
    reported = stale.convert_for_report(BRL_20, "USD", NOW)
    assert reported.quality == "stale"
    assert str(reported.amount) == "3.64 USD"


def test_a_rate_from_the_future_is_not_fresh():
    with pytest.raises(RateRefused):
        converter(rate(age=-11)).convert(BRL_20, "USD", NOW)
    assert converter(rate(age=-1)).convert(BRL_20, "USD", NOW).quality == "fresh"


def test_live_before_file_before_configured_and_never_a_stale_one_while_another_is_fresh():
    live, file = rate("5.40", "live"), rate("5.45", "file", rank=1)
    fixed = Rate("USD", "BRL", Decimal("5.50"), "configured", 0, None, 2)
    assert converter(fixed, file, live).convert(BRL_20, "USD", NOW).rates == (live,)
    old = rate("5.40", "live", age=60)
    assert converter(fixed, file, old).convert(BRL_20, "USD", NOW).rates == (file,)
    assert converter(fixed, old).convert(BRL_20, "USD", NOW).rates == (fixed,)


def test_an_older_value_of_the_same_source_does_not_replace_a_newer():
    made = converter(rate("5.60"), rate("5.50", age=5))
    assert [each.value for each in made.rates()] == [Decimal("5.60")]


def test_a_rate_that_is_ahead_of_a_clock_set_back_gives_way_to_the_next():
    made = converter(rate("5.60", age=-3_600))
    made.put(rate("5.50"))
    assert [each.value for each in made.rates()] == [Decimal("5.60")]  # without a clock it is the newer one
    made.put(rate("5.50"), NOW)
    assert made.convert(BRL_20, "USD", NOW).quality == "fresh"
    made.put(rate("5.40", age=5), NOW)
    assert [each.value for each in made.rates()] == [Decimal("5.50")]


def test_crossing_a_third_currency_is_as_old_as_its_oldest_rate():
    eur_brl, eur_usd = rate("6.00", pair="EURBRL"), rate("1.20", pair="EURUSD", age=11)
    assert str(converter(eur_brl, rate("1.20", pair="EURUSD")).convert(BRL_20, "USD", NOW).amount) == "4.00 USD"
    with pytest.raises(RateRefused, match="EURUSD"):
        converter(eur_brl, eur_usd).convert(BRL_20, "USD", NOW)


def test_the_same_currency_needs_no_rate():
    conversion = CurrencyConverter().convert(BRL_20, "BRL", NOW)
    assert (conversion.amount, conversion.rates) == (BRL_20, ())


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=2), st.decimals("0.01", "1000", places=4))
def test_there_and_back_is_exact_to_the_cent(amount, value):
    made = converter(rate(str(value)))
    there = made.convert(Money(amount, "BRL"), "USD", NOW).amount
    assert made.convert(there, "BRL", NOW).amount.rounded().amount == amount


def test_wdo_gives_the_dollar_rate():
    made = live_rate("USD", "BRL", 5183.5, 5184.5, "WDON26", NOW, 10 * SECOND, divisor=1000)
    assert made.value == Decimal("5.184")


@pytest.mark.parametrize(
    ("bid", "ask"),
    [(192490.0, 157495.0), (float("nan"), 5.5), (0.0, 5.5), (5.0, 5.5), (-5.5, -5.4), (5.5, float("inf"))],
)
def test_a_nonsense_quote_gives_no_rate(bid, ask):
    with pytest.raises(RateRefused) as refused:
        live_rate("USD", "BRL", bid, ask, "USDBRL", NOW, SECOND)
    assert refused.value.code == "rate_implausible"


def test_a_rate_is_above_zero_and_between_two_currencies():
    for value, pair in (("0", "USDBRL"), ("-1", "USDBRL"), ("NaN", "USDBRL"), ("1", "USDUSD")):
        with pytest.raises(RateRefused):
            rate(value, pair=pair)


def test_currencies_do_not_mix_and_floats_do_not_enter():
    usd = Money(Decimal(1), "USD")
    for operation in (lambda: BRL_20 + usd, lambda: BRL_20 - usd, lambda: usd < BRL_20, lambda: usd <= BRL_20):
        with pytest.raises(InstrumentRefused, match="different currencies"):
            operation()
    for wrong in (lambda: Money(1.0, "USD"), lambda: usd * 0.5):
        with pytest.raises(TypeError, match="Decimal"):
            wrong()
    with pytest.raises(TypeError, match="entry_price"):
        position_profit(CATALOG["WIN"], 1, 130_000.0, Decimal(130_100))
    with pytest.raises(ValueError, match="finite"):
        Money(Decimal("Infinity"), "USD")


def test_money_arithmetic_and_rounding():
    usd = Money(Decimal("1.005"), "USD")
    assert usd.rounded().amount == Decimal("1.01")
    assert (-usd).rounded().amount == Decimal("-1.01")
    assert usd + usd == usd * 2
    assert (usd - usd).amount == 0
    assert usd < usd * 2
    assert usd <= usd
    assert str(Money(Decimal("150.6"), "JPY")) == "151 JPY"
