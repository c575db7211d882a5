"""Recorded futures trades: every figure that the data's own page states, and every price exact."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.formats import Format, Oddities, ReadOptions, merge_by_time, open_recording
from nexus_gateway.core.errors import DataFormatError
from nexus_gateway.shm.tick import Platform, TickFlag

from tests.support.market_files import SECOND_NS, ids_of, join, read_file, real_file, utc_ns

CME = "cme-trades-2019-12-16"
GC_ZIP = ("comex-gc-2013-10", "gc_20131007_trade.zip")
MS_NS = 1_000_000
NEW_YORK_NS = -5 * 3600 * SECOND_NS
TOTAL_TRADES = 990_446

# contract, root, ticks a unit, trades, contracts traded, low, high, busiest minute and its trades, most trades in one
# second, most in one ms, longest silence in s
TABLE = [
    ("ESH0", "ES", 4, 421_785, 979_728, 3177.00, 3202.50, "15:59", 7468, 1124, 287, 900),
    ("NQH0", "NQ", 4, 213_295, 241_813, 8530.00, 8617.50, "09:30", 3579, 566, 82, 900),
    ("CLF0", "CL", 100, 140_617, 212_831, 59.71, 60.34, "14:29", 2193, 589, 83, 180),
    ("GCG0", "GC", 10, 130_077, 158_778, 1477.4, 1484.5, "10:28", 1714, 370, 158, 131),
    ("6EH0", "6E", 20_000, 84_672, 151_896, 1.11915, 1.12275, "03:15", 1094, 404, 90, 201),
]


def cme_file(contract: str) -> Path:
    return real_file(CME, f"{contract}.csv.gz")


def most_in(times_ns: np.ndarray, span_ns: int) -> tuple[int, int]:
    """Start of the fullest calendar span and how many times fall into it."""
    starts, counts = np.unique(times_ns // span_ns, return_counts=True)
    return int(starts[counts.argmax()]) * span_ns, int(counts.max())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_cme_trades_have_the_published_figures(row: tuple) -> None:
    contract, root, per_unit, trades, traded, low, high, minute, in_minute, in_second, in_ms, silence_s = row
    recording = open_recording(cme_file(contract))
    assert recording.format is Format.TRADE_CSV
    assert [(each.contract, each.root) for each in recording.instruments] == [(contract, root)]
    oddities = Oddities()
    ticks = join(recording.chunks({contract: 7}, Platform.SIM, oddities=oddities))
    times = ticks["ts_event_ns"]
    assert len(ticks) == oddities.rows == trades
    assert int(ticks["last_size"].astype(np.int64).sum()) == traded
    assert (ticks["last"].min(), ticks["last"].max()) == (low, high)
    assert np.array_equal(np.rint(ticks["last"] * per_unit) / per_unit, ticks["last"])
    start_ns, count = most_in(times, 60 * SECOND_NS)
    assert (start_ns + NEW_YORK_NS, count) == (utc_ns(f"2019-12-16T{minute}"), in_minute)
    assert most_in(times, SECOND_NS)[1] == in_second
    assert most_in(times, MS_NS)[1] == in_ms
    assert round(int(np.diff(times).max()) / SECOND_NS) == silence_s
    assert utc_ns("2019-12-15T23:00") <= times[0] <= times[-1] < utc_ns("2019-12-16T22:00")
    assert oddities.stepped_back == oddities.zero_size == oddities.sizes_inexact == oddities.unended_lines == 0
    assert np.array_equal(times, ticks["ts_recv_ns"])
    assert set(ticks["symbol"].tolist()) == {7}
    assert set(ticks["source"].tolist()) == {Platform.SIM}
    assert set(ticks["flags"].tolist()) == {TickFlag.TRADE}
    assert np.isnan(ticks["bid"]).all()
    assert np.isnan(ticks["ask_size"]).all()


def test_83_percent_of_es_rows_repeat_a_millisecond() -> None:
    _, oddities = read_file(cme_file("ESH0"))
    assert round(100 * oddities.equal_timestamps / oddities.rows) == 83


def test_the_index_future_is_silent_during_the_exchange_halt() -> None:
    ticks, _ = read_file(cme_file("NQH0"))
    longest = int(np.diff(ticks["ts_event_ns"]).argmax())
    before, after = (ticks["ts_event_ns"][longest : longest + 2] + NEW_YORK_NS).tolist()
    assert before <= utc_ns("2019-12-16T16:15:01")
    assert after >= utc_ns("2019-12-16T16:30")


@pytest.mark.parametrize("contract", ["6EH0", "CLF0"])
def test_every_row_equals_an_independent_reading(contract: str) -> None:
    ticks, _ = read_file(cme_file(contract))
    with gzip.open(cme_file(contract), "rt") as file:
        rows = list(csv.reader(file))[1:]
    assert ticks["ts_event_ns"].tolist() == [int(row[0]) * MS_NS for row in rows]
    assert ticks["last"].tolist() == [float(row[1]) for row in rows]
    assert ticks["last_size"].tolist() == [float(row[2]) for row in rows]


def test_five_files_merge_into_one_session() -> None:
    recordings = [open_recording(cme_file(row[0])) for row in TABLE]
    streams = [recording.chunks({recording.instruments[0].contract: i}) for i, recording in enumerate(recordings)]
    merged = join(merge_by_time(streams))
    assert len(merged) == TOTAL_TRADES == sum(row[3] for row in TABLE)
    assert (np.diff(merged["ts_recv_ns"]) >= 0).all()
    same_ms = np.diff(merged["ts_recv_ns"]) == 0
    assert (np.diff(merged["symbol"].astype(int))[same_ms] >= 0).all()  # the order in which the files were given
    for i, row in enumerate(TABLE):
        alone, _ = read_file(cme_file(row[0]))
        of_file = merged[merged["symbol"] == i]
        assert np.array_equal(of_file["last"], alone["last"])
        assert np.array_equal(of_file["last_size"], alone["last_size"])
        assert np.array_equal(of_file["ts_event_ns"], alone["ts_event_ns"])


@pytest.mark.parametrize("moment", ["2019-12-15T00:00", "2019-12-16T14:30:00.123", "2019-12-16T21:59:58"])
def test_seeking_gives_the_rest_of_the_file(moment: str) -> None:
    recording = open_recording(cme_file("NQH0"))
    everything = join(recording.chunks({"NQH0": 1}))
    rest = join(recording.chunks({"NQH0": 1}, start_ns=utc_ns(moment)))
    assert rest.tobytes() == everything[everything["ts_recv_ns"] >= utc_ns(moment)].tobytes()
    assert len(rest) > 0


def test_seeking_past_the_end_gives_nothing() -> None:
    recording = open_recording(cme_file("6EH0"))
    assert list(recording.chunks({"6EH0": 1}, start_ns=utc_ns("2020-01-01"))) == []


def test_gold_contracts_of_one_day() -> None:
    recording = open_recording(real_file(*GC_ZIP))
    oddities = Oddities()
    ticks = join(recording.chunks(ids_of(recording), oddities=oddities))
    names = "GCV13 GCX13 GCZ13 GCG14 GCJ14 GCM14 GCQ14 GCV14 GCZ14 GCZ15"
    assert [each.contract for each in recording.instruments] == names.split()
    assert {each.root for each in recording.instruments} == {"GC"}
    counts = {each.contract: int((ticks["symbol"] == i).sum()) for i, each in enumerate(recording.instruments, 1)}
    assert counts.pop("GCZ13") == 39_702
    assert (min(counts.values()), max(counts.values())) == (2, 213)
    assert len(ticks) == oddities.rows == 40_192
    assert oddities.zero_size == int((ticks["last_size"] == 0).sum()) == 147
    assert oddities.suspicious == oddities.stepped_back == 0
    assert oddities.equal_timestamps > 10_000
    assert (np.diff(ticks["ts_recv_ns"]) >= 0).all()
    december = ticks[ticks["symbol"] == 3]["ts_event_ns"]
    pause = int(np.diff(december).argmax())
    assert utc_ns("2013-10-07T21:14") < december[pause] <= utc_ns("2013-10-07T21:15")
    assert utc_ns("2013-10-07T22:00") <= december[pause + 1] < utc_ns("2013-10-07T22:01")


def test_an_archive_can_be_read_for_some_contracts_only() -> None:
    path = real_file(*GC_ZIP)
    recording = open_recording(path, ReadOptions(only=("GCZ13", "GCG14")))
    assert len(join(recording.chunks({"GCZ13": 1, "GCG14": 2}))) == 39_702 + 213
    with pytest.raises(DataFormatError, match="holds no contract GCF14; it has GCV13"):
        open_recording(path, ReadOptions(only=("GCF14",)))


def test_every_contract_needs_a_symbol_id() -> None:
    recording = open_recording(real_file(*GC_ZIP), ReadOptions(only=("GCZ13", "GCG14")))
    with pytest.raises(ValueError, match="no symbol id for GCG14"):
        recording.chunks({"GCZ13": 1})


def test_open_interest_is_no_recording() -> None:
    with pytest.raises(DataFormatError, match="open interest, no ticks"):
        open_recording(real_file("comex-gc-2013-10", "gc_20131007_openinterest.zip"))
