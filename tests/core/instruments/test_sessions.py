"""Trading hours: breaks, weekends, half days, pauses, Brazil's dates, and the questions about them."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.instruments.catalog import ExpiryRule, load_catalog
from nexus_gateway.core.instruments.sessions import load_sessions

CATALOG = load_catalog()
SESSIONS = load_sessions()
NEW_YORK = ZoneInfo("America/New_York")
SAO_PAULO = ZoneInfo("America/Sao_Paulo")
LATE = ExpiryRule("wednesday_nearest_15th", "b3", ends=time(23))
MARKETS = ("cme_equity", "cme_commodity", "cme_fx", "cme_rates", "b3_index", "b3_dollar", "cfd_index", "otc_fx")


def ny(text):
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def sp(text):
    return datetime.fromisoformat(text).replace(tzinfo=SAO_PAULO)


@pytest.mark.parametrize(
    ("at", "open_"),
    [
        ("2026-07-14T16:59", True), ("2026-07-14T17:00", False), ("2026-07-14T17:59", False),
        ("2026-07-14T18:00", True), ("2026-07-17T16:59", True), ("2026-07-17T18:00", False),
        ("2026-07-18T12:00", False), ("2026-07-19T17:59", False), ("2026-07-19T18:00", True),
        ("2026-01-13T17:30", False),
        ("2026-11-26T12:59", True), ("2026-11-26T13:00", False), ("2026-11-26T18:00", True),  # Thanksgiving
        ("2026-11-27T13:14", True), ("2026-11-27T13:15", False),
        ("2026-12-24T13:14", True), ("2026-12-24T13:15", False),
        ("2026-12-25T12:00", False), ("2026-12-25T18:00", False), ("2026-12-27T18:00", True),
        ("2025-12-25T12:00", False), ("2025-12-25T18:00", True),
        ("2025-07-03T13:15", False), ("2025-07-03T13:00", True), ("2026-07-02T16:00", True),
        ("2026-06-19T12:00", True), ("2026-06-19T14:00", False),  # Juneteenth
        ("2025-04-18T08:00", False),  # Good Friday
        ("2026-04-03T09:14", True), ("2026-04-03T09:15", False),  # Good Friday with the employment report
        ("2025-01-09T09:29", True), ("2025-01-09T09:30", False),  # day of mourning
        ("2021-06-25T16:20", False), ("2021-06-28T16:20", True),  # the afternoon halt ended
        ("2015-09-18T17:10", True), ("2015-09-21T17:10", False),
    ],
)  # fmt: skip
def test_index_futures_in_new_york_time(at, open_):
    assert SESSIONS.is_open(CATALOG["NQ"], ny(at)) is open_


@pytest.mark.parametrize(
    ("market", "at", "open_"),
    [
        ("b3_index", "2026-07-14T08:59", False), ("b3_index", "2026-07-14T09:00", True),
        ("b3_index", "2026-07-14T18:24", True), ("b3_index", "2026-07-14T18:25", False),
        ("b3_dollar", "2026-07-14T18:29", True), ("b3_dollar", "2026-07-14T18:30", False),
        ("b3_index", "2026-02-18T12:59", False), ("b3_index", "2026-02-18T13:00", True),  # Ash Wednesday
        ("b3_index", "2026-02-17T12:00", False), ("b3_index", "2026-07-18T12:00", False),
        ("b3_index", "2023-07-14T17:55", False), ("b3_index", "2023-12-14T17:55", True),
        ("b3_dollar", "2022-07-14T18:00", False), ("b3_dollar", "2021-12-14T18:00", True),
        ("b3_dollar", "2014-06-17T14:00", False), ("b3_dollar", "2014-06-12T12:00", False),
    ],
)  # fmt: skip
def test_b3_in_sao_paulo_time_with_effective_dates(market, at, open_):
    assert SESSIONS.is_open(market, sp(at)) is open_


def test_commodities_close_later_than_indices_on_a_holiday():
    at = ny("2026-01-19T13:30")
    assert SESSIONS.is_open(CATALOG["CL"], at)
    assert not SESSIONS.is_open(CATALOG["ES"], at)


def test_pairs_trade_through_the_week_without_a_daily_close():
    assert SESSIONS.is_open(CATALOG["EURUSD"], ny("2026-07-14T17:30"))
    assert SESSIONS.next_close("otc_fx", ny("2026-07-13T12:00")) == ny("2026-07-17T17:00")
    assert SESSIONS.next_open("otc_fx", ny("2026-07-13T12:00")) == ny("2026-07-19T17:00")


def test_next_open_and_close():
    assert SESSIONS.next_open("cme_equity", ny("2026-07-17T17:30")) == ny("2026-07-19T18:00")
    assert SESSIONS.next_close("cme_equity", ny("2026-07-17T17:30")) == ny("2026-07-20T17:00")
    assert SESSIONS.next_close("cme_equity", ny("2026-07-14T12:00")) == ny("2026-07-14T17:00")
    assert SESSIONS.next_open("b3_index", sp("2026-02-13T19:00")) == sp("2026-02-18T13:00")  # over Carnival
    assert SESSIONS.next_open("cme_equity", ny("2019-12-16T16:20")) == ny("2019-12-16T16:30")


def test_the_longest_silence_of_the_recorded_index_session_was_expected():
    assert not SESSIONS.is_open(CATALOG["ES"], ny("2019-12-16T16:16"))
    assert SESSIONS.is_open(CATALOG["GC"], ny("2019-12-16T16:16"))


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-07-14T16:59", date(2026, 7, 14)),
        ("2026-07-14T17:00", date(2026, 7, 15)),
        ("2026-07-14T23:59", date(2026, 7, 15)),
        ("2026-07-17T17:00", date(2026, 7, 20)),
        ("2026-07-18T12:00", date(2026, 7, 20)),
        ("2026-12-24T18:00", date(2026, 12, 28)),
    ],
)
def test_session_day_changes_at_five_in_new_york(at, day):
    assert SESSIONS.session_day("cme_equity", ny(at)) == day


@pytest.mark.parametrize(
    ("symbol", "last_session", "end"),
    [
        ("ES", "2026-12-18", ny("2026-12-18T09:30")),  # settled on the opening of the stocks
        ("NQ", "2026-06-18", ny("2026-06-18T09:30")),
        ("6E", "2026-06-15", ny("2026-06-15T10:16")),
        ("ZN", "2026-09-21", ny("2026-09-21T13:01")),
        ("NKD", "2026-06-11", ny("2026-06-11T17:00")),
        ("CL", "2026-05-19", ny("2026-05-19T17:00")),
        ("WDO", "2026-06-30", sp("2026-06-30T18:30")),
    ],
)
def test_a_contract_stops_at_its_own_time_on_its_last_session(symbol, last_session, end):
    assert SESSIONS.last_trade(CATALOG[symbol], date.fromisoformat(last_session)) == end


def test_an_early_close_ends_a_contract_before_its_own_time(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    sessions = load_sessions(path)
    late = msgspec.structs.replace(CATALOG["WIN"], future=msgspec.structs.replace(CATALOG["WIN"].terms, expiry=LATE))
    assert sessions.last_trade(late, date(2026, 7, 16)) == sp("2026-07-16T18:00")
    assert sessions.last_trade(late, date(2026, 7, 14)) == sp("2026-07-14T18:30")  # no session at all: the boundary


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="without a time zone"):
        SESSIONS.is_open("cme_equity", datetime(2026, 1, 5))


def test_an_unknown_calendar_is_named():
    with pytest.raises(ConfigError, match="'mars'"):
        SESSIONS.is_open("mars", ny("2026-07-14T12:00"))
    for instrument in CATALOG.values():
        SESSIONS.is_open(instrument, ny("2026-07-14T12:00"))


@given(
    st.sampled_from(MARKETS),
    st.datetimes(datetime(2012, 1, 1), datetime(2035, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
)
def test_open_and_next_events_agree(market, at):
    opening, closing = SESSIONS.next_open(market, at), SESSIONS.next_close(market, at)
    assert opening > at
    assert closing > at
    assert SESSIONS.is_open(market, at) is (closing < opening)
    assert SESSIONS.is_open(market, opening)
    assert not SESSIONS.is_open(market, closing)
    day = SESSIONS.session_day(market, at)
    assert at < SESSIONS.day_end(market, day)
    assert SESSIONS.intervals(market, day)


MINE = """
sessions:
  b3_index:
    timezone: America/Sao_Paulo
    day_boundary: "18:30:00"
    holidays: b3
    hours:
      - {from: 2000-01-01, open: "09:00:00", close: "18:00:00"}
    special_days:
      2026-07-14: {closed: true}
      2026-07-15: {open: "11:00:00"}
"""


def test_a_user_file_replaces_a_calendar(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    sessions = load_sessions(path)
    assert sessions.intervals("b3_index", date(2026, 7, 14)) == []
    assert sessions.next_open("b3_index", sp("2026-07-13T20:00")) == sp("2026-07-15T11:00")
    assert sessions.next_close("b3_index", sp("2026-07-16T12:00")) == sp("2026-07-16T18:00")
    assert sessions.is_open("cme_equity", ny("2026-07-14T12:00"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("America/Sao_Paulo", "America/Atlantis"), "Atlantis"),
        (("holidays: b3", "holidays: b4"), "b4"),
        (('close: "18:00:00"', 'close: "08:00:00"'), "not before close"),
        (('close: "18:00:00"', 'close: "18:45:00"'), "day_boundary was 18:30:00, before the close 18:45:00"),
        (('close: "18:00:00"', 'close: "18:00:00", open_day: previous'), "earlier than close"),
        (('close: "18:00:00"', 'close: "18:00:00", close_us_summer: "08:30:00"'), "not before close 08:30:00"),
        (
            (
                "    special_days",
                '    pauses: [{from: 2020-01-01, until: 2030-01-01, start: "12:00:00", end: "11:00:00"}]\n'
                "    special_days",
            ),
            "does not end after it",
        ),
        (("from: 2000-01-01", "since: 2000-01-01"), "since"),
        (('open: "09:00:00"', 'open: "9h"'), "time"),
    ],
)
def test_a_bad_calendar_is_refused(tmp_path, change, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE.replace(*change))
    with pytest.raises(ConfigError, match=complaint):
        load_sessions(path)


def test_a_market_that_never_opens_is_an_error_not_a_loop(tmp_path):
    path = tmp_path / "mine.yaml"
    days = "".join(f"      {date(2026, 7, 14) + timedelta(days=offset)}: {{closed: true}}\n" for offset in range(40))
    path.write_text(MINE.split("      2026-07-14")[0] + days)
    sessions = load_sessions(path)
    with pytest.raises(ConfigError, match="special_days"):
        sessions.next_open("b3_index", sp("2026-07-15T12:00"))
    with pytest.raises(ConfigError, match="special_days"):
        sessions.session_day("b3_index", sp("2026-07-15T12:00"))
