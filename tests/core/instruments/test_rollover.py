"""Roll dates, the front contract around the switch, and the plan."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import RollRule, load_catalog
from nexus_gateway.core.instruments.contract_code import Contract
from nexus_gateway.core.instruments.expiry import contract_dates, front_chain
from nexus_gateway.core.instruments.refusals import InstrumentRefused
from nexus_gateway.core.instruments.rollover import Rollover, RollOverrides, RolloverRow
from nexus_gateway.core.instruments.sessions import load_sessions

CATALOG = load_catalog()
SESSIONS = load_sessions()
ROLLOVER = Rollover(CATALOG, SESSIONS)
NEW_YORK = ZoneInfo("America/New_York")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
MINUTE = timedelta(minutes=1)


def front(root, at):
    return ROLLOVER.front_contract(root, at).code


def test_index_futures_roll_on_monday_of_expiry_week_since_june_2022():
    mondays = """
        2023-03-13 2023-06-12 2023-09-11 2023-12-11 2024-03-11 2024-06-17 2024-09-16 2024-12-16
        2025-03-17 2025-06-16 2025-09-15 2025-12-15 2026-03-16 2026-06-15 2026-09-14 2026-12-14"""
    for root in ("ES", "NQ", "YM", "RTY", "MES", "MNQ", "MYM", "M2K"):
        assert [row.roll_date for row in ROLLOVER.contract_rows(root, 2023, 2026)] == mondays.split()
    assert ROLLOVER.roll_date(Contract("ES", 2022, 6)) == date(2022, 6, 13)


def test_before_that_they_rolled_on_the_thursday_before():
    assert ROLLOVER.roll_date(Contract("ES", 2019, 12)) == date(2019, 12, 12)
    assert ROLLOVER.roll_date(Contract("ES", 2022, 3)) == date(2022, 3, 10)


def test_the_switch_is_at_the_session_boundary_in_new_york_summer_and_winter():
    for contract, new in ((Contract("NQ", 2025, 3), "NQM25"), (Contract("NQ", 2025, 12), "NQH26")):
        eve = ROLLOVER.roll_date(contract) - timedelta(days=1)
        boundary = datetime(eve.year, eve.month, eve.day, 17, tzinfo=NEW_YORK)
        assert ROLLOVER.switch_at(contract) == boundary
        assert front("NQ", boundary - MINUTE) == contract.code
        assert front("NQ", boundary) == new
        assert not SESSIONS.is_open("cme_equity", boundary)


def test_midnight_utc_switches_nothing():
    friday_midnight = datetime(2025, 3, 15, 0, 0, tzinfo=UTC)
    assert front("NQ", friday_midnight - MINUTE) == front("NQ", friday_midnight) == "NQH25"


def test_win_rolls_before_its_maturity_day_opens():
    assert ROLLOVER.roll_date(Contract("WIN", 2026, 8)) == date(2026, 8, 12)
    assert front("WIN", datetime(2026, 8, 11, 18, 29, tzinfo=SAO_PAULO)) == "WINQ26"
    assert front("WIN", datetime(2026, 8, 11, 18, 30, tzinfo=SAO_PAULO)) == "WINV26"
    assert front("WIN", datetime(2026, 8, 12, 10, 0, tzinfo=SAO_PAULO)) == "WINV26"


def test_wdo_rolls_at_the_end_of_its_last_session_and_never_trades_at_maturity():
    assert ROLLOVER.roll_date(Contract("WDO", 2026, 7)) == date(2026, 6, 30)
    assert front("WDO", datetime(2026, 6, 30, 18, 29, tzinfo=SAO_PAULO)) == "WDON26"
    assert front("WDO", datetime(2026, 6, 30, 18, 30, tzinfo=SAO_PAULO)) == "WDOQ26"
    assert front("WDO", datetime(2026, 7, 1, 9, 0, tzinfo=SAO_PAULO)) == "WDOQ26"


def test_the_recorded_session_of_december_2019_held_the_front_contracts():
    """The five contracts that were recorded on 16 December 2019 were the liquid ones of their roots."""
    at = datetime(2019, 12, 16, 15, tzinfo=UTC)
    assert [front(root, at) for root in ("ES", "NQ", "CL", "GC", "6E")] == [
        "ESH20",
        "NQH20",
        "CLF20",
        "GCG20",
        "6EH20",
    ]


def test_deliverables_leave_before_first_notice():
    for instrument in CATALOG.futures():
        for contract in front_chain(CATALOG, instrument.symbol, 2024):
            if contract.year > 2030:
                break
            dates = contract_dates(CATALOG, contract)
            roll = ROLLOVER.roll_date(contract)
            assert roll <= dates.last_session, contract
            if dates.first_notice is not None:
                assert roll < dates.first_notice, contract


def test_the_front_contract_is_never_past_its_last_session():
    at = datetime(2024, 1, 1, 12, tzinfo=UTC)
    roots = ("ES", "CL", "NG", "GC", "6E", "ZN", "WIN", "WDO", "BTC")
    while at.year < 2026:
        for root in roots:
            contract = ROLLOVER.front_contract(root, at)
            day = SESSIONS.session_day(CATALOG[root], at)
            assert contract_dates(CATALOG, contract).last_session >= day, (contract, at)
        at += timedelta(hours=37)


def test_october_gold_is_skipped():
    rows = ROLLOVER.plan_rows(["GC"], datetime(2026, 7, 1, tzinfo=UTC), date(2026, 8, 31))
    assert [(row.old, row.new) for row in rows] == [("GCQ26", "GCZ26")]
    listed = {row.contract: row.in_roll for row in ROLLOVER.contract_rows("GC", 2026, 2026)}
    assert listed["GCZ26"] is True
    assert listed["GCV26"] is False
    assert listed["GCX26"] is False


def test_micro_crude_moves_with_crude():
    crude = [row.roll_date for row in ROLLOVER.contract_rows("CL", 2020, 2030)]
    micro = [row.roll_date for row in ROLLOVER.contract_rows("MCL", 2020, 2030)]
    assert crude == micro


def test_the_plan_is_in_order_of_time_and_ends_at_the_date():
    start = datetime(2026, 6, 1, tzinfo=UTC)
    rows = ROLLOVER.plan_rows(["NQ", "WDO"], start, date(2026, 7, 31))
    assert rows == [
        RolloverRow("NQ", "NQM26", "NQU26", "2026-06-15", "2026-06-14T21:00:00+00:00", "2026-06-18"),
        RolloverRow("WDO", "WDON26", "WDOQ26", "2026-06-30", "2026-06-30T21:30:00+00:00", "2026-06-30"),
        RolloverRow("WDO", "WDOQ26", "WDOU26", "2026-07-31", "2026-07-31T21:30:00+00:00", "2026-07-31"),
    ]
    assert ROLLOVER.plan(["NQ"], start, date(2026, 6, 14)) == []


def test_contract_rows_are_iso_text():
    row = ROLLOVER.contract_rows("WDO", 2026, 2026)[6]
    assert (row.contract, row.last_session, row.maturity, row.roll_date) == (
        "WDON26",
        "2026-06-30",
        "2026-07-01",
        "2026-06-30",
    )


def test_overrides_of_rule_and_date():
    overrides = RollOverrides(rules={"ES": RollRule("before_last_session", 2)}, dates={"NQH25": date(2025, 3, 13)})
    rollover = Rollover(CATALOG, SESSIONS, overrides)
    assert rollover.roll_date(Contract("ES", 2025, 3)) == date(2025, 3, 19)
    assert rollover.roll_date(Contract("NQ", 2025, 3)) == date(2025, 3, 13)
    assert rollover.roll_date(Contract("NQ", 2025, 6)) == date(2025, 6, 16)


def test_an_override_after_the_last_session_is_refused():
    rollover = Rollover(CATALOG, SESSIONS, RollOverrides(dates={"NQH25": date(2025, 3, 24)}))
    with pytest.raises(ConfigError, match="2025-03-21"):
        rollover.roll_date(Contract("NQ", 2025, 3))
    with pytest.raises(InstrumentRefused, match="QQ"):
        Rollover(CATALOG, SESSIONS, RollOverrides(rules={"QQ": RollRule("cme_index")}))


def test_an_instrument_without_contracts_has_no_front():
    with pytest.raises(InstrumentRefused, match="no contracts"):
        front("NAS100", datetime(2026, 1, 5, tzinfo=UTC))


def test_an_instrument_with_an_unknown_session_calendar_is_told_at_once(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("""
instruments:
  - {symbol: XX, kind: cfd, description: test, exchange: OTC, currency: USD, tick: "1", point_value: "1",
     sessions: mars}
""")
    with pytest.raises(ConfigError, match="XX: session calendar was 'mars'"):
        Rollover(load_catalog(path), SESSIONS)


def test_a_position_leaves_a_contract_that_dies_at_the_switch_while_it_still_trades():
    """WDO switches when its last session is over; what must be closed there needs a market."""
    held = Rollover(CATALOG, SESSIONS)
    carried = Rollover(CATALOG, SESSIONS, RollOverrides(before_end=timedelta(minutes=30)))
    contract = Contract("WDO", 2026, 2)
    assert not SESSIONS.is_open(CATALOG["WDO"], held.switch_at(contract))
    early = carried.switch_at(contract)
    assert SESSIONS.is_open(CATALOG["WDO"], early)
    assert SESSIONS.next_close(CATALOG["WDO"], early) - early == timedelta(minutes=30)
    assert carried.front_contract("WDO", early).code == "WDOH26"
    assert carried.roll_date(contract) == held.roll_date(contract)
    # A contract that goes on after the switch is left when it always was.
    win = Contract("WIN", 2026, 2)
    assert carried.switch_at(win) == held.switch_at(win)
