"""Last session and maturity by rule, against published tables and the dates of the exchanges' pages."""

import csv
from datetime import date, timedelta
from pathlib import Path

import pytest
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.contract_code import Contract, month_of_letter, resolve_year
from nexus_gateway.core.instruments.expiry import contract_dates, listed_contracts
from nexus_gateway.core.instruments.holiday_calendar import (
    ash_wednesday,
    holiday_calendar,
    stock_exchange_holidays,
    us_exchange_holidays,
)
from nexus_gateway.core.instruments.refusals import InstrumentRefused

CATALOG = load_catalog()
REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "data" / "reference"


def dates_of(code):
    """Dates of a universal code such as NQH25."""
    return contract_dates(CATALOG, Contract(code[:-3], 2000 + int(code[-2:]), month_of_letter(code[-3])))


def pairs(table):
    """(contract month, date) of a table in text."""
    words = table.split()
    return [(code, date.fromisoformat(day)) for code, day in zip(words[::2], words[1::2], strict=True)]


def rows_of(name):
    path = REFERENCE / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_published_cme_date_to_2019():
    """The table has two MGC months that are not listed, and gives them the next listed month's date."""
    rows = rows_of("cme_last_trade_dates_to_2019.csv")
    wrong, next_listed = [], []
    for row in rows:
        year, month = map(int, row["contract_month"].split("-"))
        contract = next(listed_contracts(CATALOG, row["root"], year, month))
        if contract.year_month != (year, month):
            next_listed.append((row["root"], row["contract_month"]))
        ours = contract_dates(CATALOG, contract).last_session
        if ours.isoformat() != row["last_trade_date"]:
            wrong.append((row, ours))
    assert wrong == []
    assert next_listed == [("MGC", "2017-09"), ("MGC", "2018-03")]
    assert len(rows) == 231


def test_every_published_b3_date_of_2014():
    rows = rows_of("b3_contract_dates_2014.csv")
    for row in rows:
        ours = dates_of(row["contract"])
        assert ours.maturity.isoformat() == row["expiry_date"], row
        assert ours.last_session.isoformat() == row["last_trade_date"], row
    assert len(rows) == 26


B3_INDEX_MATURITIES = """
    J26 2026-04-15  M26 2026-06-17  Q26 2026-08-12  V26 2026-10-14  Z26 2026-12-16  G27 2027-02-17
    J27 2027-04-14  M27 2027-06-16  Q27 2027-08-18  V27 2027-10-13  Z27 2027-12-15  G28 2028-02-16
    J28 2028-04-12  Q25 2025-08-13  V25 2025-10-15  Z25 2025-12-17  G24 2024-02-14  G26 2026-02-18
"""


@pytest.mark.parametrize("root", ["WIN", "IND"])
def test_index_maturities_published_by_b3(root):
    for code, day in pairs(B3_INDEX_MATURITIES):
        dates = dates_of(root + code)
        assert dates.maturity == dates.last_session == day, code


DOLLAR_MATURITIES = """
    J26 2026-04-01  K26 2026-05-04  M26 2026-06-01  N26 2026-07-01  Q26 2026-08-03  U26 2026-09-01
    V26 2026-10-01  X26 2026-11-03  Z26 2026-12-01  F27 2027-01-04  H25 2025-03-05  G25 2025-02-03
"""


@pytest.mark.parametrize("root", ["WDO", "DOL"])
def test_dollar_maturities_published_by_b3(root):
    b3 = holiday_calendar("b3")
    for code, day in pairs(DOLLAR_MATURITIES):
        dates = dates_of(root + code)
        assert dates.maturity == day, code
        assert dates.last_session == b3.add(dates.maturity, -1), code


def test_the_dollar_dies_one_session_before_its_maturity():
    assert dates_of("WDON26").last_session == date(2026, 6, 30)
    assert dates_of("WDOJ21").maturity == date(2021, 4, 1)
    assert dates_of("WDOF27").last_session == date(2026, 12, 30)
    # 2014 and 2017: B3 was closed on the year's last weekday before the holiday package knows of it.
    assert dates_of("WDOF15").last_session == date(2014, 12, 30)
    assert dates_of("WDOF18").last_session == date(2017, 12, 28)
    assert dates_of("WDOH25").last_session == date(2025, 2, 28)


def test_an_index_maturity_on_a_holiday_moves_to_the_next_session():
    assert date(2022, 10, 12).weekday() == 2  # Our Lady of Aparecida, the Wednesday nearest the 15th
    assert dates_of("WINV22").maturity == dates_of("WINV22").last_session == date(2022, 10, 13)


INDEX_EXPIRIES = """
    H23 2023-03-17  M23 2023-06-16  U23 2023-09-15  Z23 2023-12-15  H24 2024-03-15  M24 2024-06-21
    U24 2024-09-20  Z24 2024-12-20  H25 2025-03-21  M25 2025-06-20  U25 2025-09-19  Z25 2025-12-19
    H26 2026-03-20  M26 2026-06-18  U26 2026-09-18  Z26 2026-12-18  H27 2027-03-19  M27 2027-06-17
    U27 2027-09-17  Z27 2027-12-17  H08 2008-03-20
"""


@pytest.mark.parametrize("root", ["ES", "NQ", "YM", "RTY", "MES", "MNQ", "MYM", "M2K"])
def test_index_expiries_with_juneteenth_and_good_friday(root):
    for code, day in pairs(INDEX_EXPIRIES):
        assert dates_of(root + code).last_session == day, code


@pytest.mark.parametrize(
    ("code", "day"),
    [
        ("6EM23", "2023-06-16"),  # Monday 19 June 2023 was a bank holiday
        ("6CM23", "2023-06-20"),
        ("6EV25", "2025-10-10"),  # Columbus Day is a bank holiday, the exchange is open
        ("CLF20", "2019-12-19"),  # Christmas makes the 25th no business day, every year
        ("CLF25", "2024-12-19"),
        ("MCLF20", "2019-12-18"),
        ("NGX12", "2012-10-29"),  # NYSE was shut by a hurricane, natural gas expired
        ("ZNH24", "2024-03-19"),  # Good Friday on the last Friday of March
        ("ZFH24", "2024-03-28"),
        ("GCH24", "2024-03-26"),
        ("NKDM25", "2025-06-12"),
        ("BTCH24", "2024-03-28"),
        ("BTCZ25", "2025-12-26"),  # a bank holiday in London alone: one of the two is enough
        ("MBTZ31", "2031-12-26"),
        ("BTCZ26", "2026-12-24"),
        ("BTCZ21", "2021-12-31"),
        ("CLZ21", "2021-11-19"),  # the 25th is Thanksgiving
        ("CLM20", "2020-05-19"),  # Memorial Day
        ("CLN22", "2022-06-21"),
        ("MCLZ21", "2021-11-18"),
        ("NGZ19", "2019-11-26"),
        ("6EF26", "2026-01-16"),  # Martin Luther King's day is the Monday
        ("6CF26", "2026-01-20"),
        ("ZTH24", "2024-03-28"),
        ("WDOH22", "2022-02-25"),  # Carnival on the month's first day
        ("WDOJ24", "2024-03-28"),  # Good Friday
    ],
)
def test_dates_where_a_holiday_decides(code, day):
    assert dates_of(code).last_session == date.fromisoformat(day)


def test_first_notice_is_the_last_business_day_of_the_month_before():
    assert dates_of("GCZ19").first_notice == date(2019, 11, 29)
    assert dates_of("ZNM25").first_notice == date(2025, 5, 30)
    assert dates_of("CLF20").first_notice is None  # last trade comes first
    assert dates_of("ESH25").first_notice is None


def test_every_contract_to_2035_ends_on_a_session_near_its_month():
    for instrument in CATALOG.futures():
        calendar = holiday_calendar(instrument.terms.expiry.holidays)
        previous = date.min
        for contract in listed_contracts(CATALOG, instrument.symbol, 2015):
            if contract.year > 2035:
                break
            dates = contract_dates(CATALOG, contract)
            assert calendar.is_business_day(dates.last_session), contract
            assert calendar.is_business_day(dates.maturity), contract
            assert previous < dates.last_session <= dates.maturity, contract
            first = date(contract.year, contract.month, 1)
            assert first - timedelta(days=18) <= dates.last_session < first + timedelta(days=31), contract
            previous = dates.last_session


def test_a_month_that_is_not_listed_is_refused():
    with pytest.raises(InstrumentRefused, match="HMUZ") as refused:
        contract_dates(CATALOG, Contract("ES", 2026, 1))
    assert refused.value.code == "contract_not_listed"
    with pytest.raises(InstrumentRefused, match="not in the catalog"):
        contract_dates(CATALOG, Contract("QQ", 2026, 3))
    with pytest.raises(ValueError, match="2026-13"):
        Contract("ES", 2026, 13)


def test_one_off_closures_move_index_expiries_only():
    mourning = date(2025, 1, 9)
    assert mourning in stock_exchange_holidays(2025)
    assert not holiday_calendar("us_stocks").is_business_day(mourning)
    assert holiday_calendar("us_exchange").is_business_day(mourning)


def test_regular_us_holidays_are_complete_every_year():
    for year in range(1999, 2041):
        juneteenth = 1 if year >= 2022 else 0
        saturday_new_year = 1 if date(year, 1, 1).weekday() == 5 else 0
        assert len(us_exchange_holidays(year)) == 9 + juneteenth - saturday_new_year, year


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        ("2019-01-25", False), ("2021-01-25", False), ("2022-01-25", True),
        ("2019-07-09", False), ("2020-07-09", True), ("2021-07-09", False), ("2025-07-09", True),
        ("2019-11-20", False), ("2020-11-20", True), ("2023-11-20", True), ("2024-11-20", False),
        ("2014-06-12", False), ("2014-12-24", False), ("2014-12-31", False), ("2014-12-30", True),
        ("2022-12-30", False), ("2023-12-29", False), ("2026-12-31", False), ("2026-12-30", True),
        ("2026-02-16", False), ("2026-02-17", False), ("2026-02-18", True), ("2026-06-04", False),
        ("2026-04-03", False), ("2026-04-21", False), ("2025-12-24", False),
    ],
)  # fmt: skip
def test_b3_closures_over_the_years(day, open_):
    assert holiday_calendar("b3").is_business_day(date.fromisoformat(day)) is open_


def test_ash_wednesday():
    assert [ash_wednesday(year) for year in (2024, 2025, 2026)] == [
        date(2024, 2, 14),
        date(2025, 3, 5),
        date(2026, 2, 18),
    ]


def test_calendar_arithmetic():
    calendar = holiday_calendar("us_exchange")
    friday, monday = date(2026, 7, 2), date(2026, 7, 6)  # 3 July 2026 is the observed holiday
    assert calendar.add(friday, 1) == monday
    assert calendar.add(monday, -1) == friday
    assert calendar.add(monday, 0) == monday
    assert calendar.on_or_before(date(2026, 7, 4)) == friday
    assert calendar.on_or_after(date(2026, 7, 3)) == monday
    with pytest.raises(ConfigError, match="us_exchange"):
        holiday_calendar("mars")


def test_one_digit_years_resolve_from_one_year_back_to_eight_ahead():
    on = date(2026, 5, 1)
    assert [resolve_year(str(digit), on) for digit in range(10)] == [
        2030, 2031, 2032, 2033, 2034, 2025, 2026, 2027, 2028, 2029,
    ]  # fmt: skip
    assert resolve_year("25", on) == resolve_year("2025", on) == 2025
