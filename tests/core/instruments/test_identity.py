"""A platform's symbol must be the instrument meant: each disagreement names both values."""

from datetime import date
from decimal import Decimal

import pytest
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.instruments.contract_code import Contract
from nexus_gateway.core.instruments.expiry import contract_dates
from nexus_gateway.core.instruments.identity import ReportedIdentity, compare_identity

CATALOG = load_catalog()
NQ = CATALOG["NQ"]
NQ_DATES = contract_dates(CATALOG, Contract("NQ", 2025, 3))
RIGHT = ReportedIdentity(Decimal("20.0"), Decimal("0.250"), "USD", date(2025, 3, 21), (2025, 3))


def test_the_right_instrument_has_no_mismatch():
    assert compare_identity(NQ, NQ_DATES, RIGHT) == ()
    assert compare_identity(NQ, NQ_DATES, ReportedIdentity()) == ()


@pytest.mark.parametrize(
    ("reported", "text"),
    [
        (ReportedIdentity(point_value=Decimal(2)), "multiplier was 2 at the platform, 20 in the catalog"),
        (ReportedIdentity(tick=Decimal("0.01")), "tick was 0.01 at the platform, 0.25 in the catalog"),
        (ReportedIdentity(currency="EUR"), "currency was EUR at the platform, USD in the catalog"),
        (ReportedIdentity(expiry=date(2025, 6, 20)),
         "expiry was 2025-06-20 at the platform, 2025-03-21 in the catalog"),
        (ReportedIdentity(contract_month=(2025, 6)),
         "contract month was 2025-06 at the platform, 2025-03 in the catalog"),
    ],
)  # fmt: skip
def test_each_mismatch_names_both_values(reported, text):
    assert [str(each) for each in compare_identity(NQ, NQ_DATES, reported)] == [text]


def test_all_mismatches_are_told_at_once():
    wrong = ReportedIdentity(Decimal(5), Decimal(1), "BRL", date(2024, 3, 15), (2024, 3))
    fields = [each.field for each in compare_identity(NQ, NQ_DATES, wrong)]
    assert fields == ["multiplier", "tick", "currency", "expiry", "contract month"]


def test_last_session_and_maturity_are_both_right():
    dates = contract_dates(CATALOG, Contract("WDO", 2026, 7))
    for day in (date(2026, 6, 30), date(2026, 7, 1)):
        assert compare_identity(CATALOG["WDO"], dates, ReportedIdentity(expiry=day)) == ()
    (mismatch,) = compare_identity(CATALOG["WDO"], dates, ReportedIdentity(expiry=date(2026, 7, 2)))
    assert mismatch.expected == "2026-06-30 or 2026-07-01"


def test_float_noise_is_not_a_mismatch_but_a_wrong_digit_is():
    euro = CATALOG["6E"]
    assert compare_identity(euro, None, ReportedIdentity(Decimal(repr(6.25 / 0.00005)))) == ()
    assert compare_identity(euro, None, ReportedIdentity(Decimal("125000.01"))) != ()


def test_a_cfd_with_an_expiry_is_not_the_cfd():
    reported = ReportedIdentity(point_value=Decimal(1), expiry=date(2025, 3, 21))
    (mismatch,) = compare_identity(CATALOG["NAS100"], None, reported)
    assert (mismatch.field, mismatch.expected) == ("expiry", "none")
