"""Recorded quotes and the depth feed: every figure that the data's own page states."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from nexus_gateway.adapters.formats import Format, Oddities, ReadOptions, merge_by_time, open_recording
from nexus_gateway.shm.tick import TickArray, TickFlag

from tests.support.market_files import SECOND_NS, join, read_file, real_file, utc_ns

FX = "fx-gold-quotes-2014-05"
DEPTH = ("depth-with-clock-skew", "ethusd_perp_20240808.gz")
PIPS = 1e4


def fx_quotes(broker: str, day: int, pair: str = "eurusd") -> tuple[TickArray, Oddities]:
    return read_file(real_file(FX, f"{broker}_{pair}_201405{day:02d}_quote.zip"))


def median_spread_pips(ticks: TickArray) -> float:
    return round(float(np.median(ticks["ask"] - ticks["bid"])) * PIPS, 1)


@pytest.mark.parametrize(
    ("day", "rows", "equal_ms", "repeated", "spread"),
    [(4, 1_164, 13, 4, 2.3), (7, 41_367, 236, 25, 1.1), (8, 87_833, 1_562, 31, 1.3), (9, 47_634, 294, 19, 1.1)],
)
def test_oanda_is_utc_and_never_crossed(day: int, rows: int, equal_ms: int, repeated: int, spread: float) -> None:
    ticks, oddities = fx_quotes("oanda", day)
    assert len(ticks) == oddities.rows == rows
    assert (oddities.equal_timestamps, oddities.repeated_quotes) == (equal_ms, repeated)
    assert oddities.crossed == oddities.locked == oddities.stepped_back == 0
    assert median_spread_pips(ticks) == spread
    midnight = utc_ns(f"2014-05-{day:02d}")
    assert midnight <= ticks["ts_event_ns"][0] <= ticks["ts_event_ns"][-1] < midnight + 86_400 * SECOND_NS


@pytest.mark.parametrize(
    ("day", "rows", "crossed_percent", "locked_percent", "repeated", "spread"),
    [
        (4, 8_025, 2, 3, 0, 0.3),
        (7, 89_504, 11, 14, 25, 0.1),
        (8, 167_466, 11, 11, 36, 0.2),
        (9, 102_122, 10, 12, 25, 0.2),
    ],
)
def test_fxcm_is_five_hours_behind_and_often_crossed(
    day: int, rows: int, crossed_percent: int, locked_percent: int, repeated: int, spread: float
) -> None:
    ticks, oddities = fx_quotes("fxcm", day)
    assert len(ticks) == oddities.rows == rows
    assert round(100 * oddities.crossed / rows) == crossed_percent
    assert round(100 * oddities.locked / rows) == locked_percent
    assert oddities.crossed == int((ticks["bid"] > ticks["ask"]).sum())
    assert oddities.repeated_quotes == repeated
    assert oddities.equal_timestamps == oddities.stepped_back == 0
    assert median_spread_pips(ticks) == spread
    midnight = utc_ns(f"2014-05-{day:02d}T05:00")
    assert midnight <= ticks["ts_event_ns"][0] <= ticks["ts_event_ns"][-1] < midnight + 86_400 * SECOND_NS


def test_weekly_open_and_close() -> None:
    assert str(np.datetime64(int(fx_quotes("oanda", 4)[0]["ts_event_ns"][0]), "ns"))[:16] == "2014-05-04T21:00"
    assert str(np.datetime64(int(fx_quotes("fxcm", 4)[0]["ts_event_ns"][0]), "ns"))[:16] == "2014-05-04T19:00"
    assert str(np.datetime64(int(fx_quotes("oanda", 9)[0]["ts_event_ns"][-1]), "ns"))[:16] == "2014-05-09T20:59"
    assert str(np.datetime64(int(fx_quotes("fxcm", 9)[0]["ts_event_ns"][-1]), "ns"))[:16] == "2014-05-09T20:59"


@pytest.mark.parametrize(("broker", "most"), [("oanda", 120), ("fxcm", 102)])
def test_most_quotes_in_a_second_of_the_central_bank_day(broker: str, most: int) -> None:
    ticks, _ = fx_quotes(broker, 8)
    assert int(np.unique(ticks["ts_event_ns"] // SECOND_NS, return_counts=True)[1].max()) == most


def test_the_two_brokers_agree_at_the_documented_offset_and_at_no_other() -> None:
    oanda, fxcm = fx_quotes("oanda", 8)[0], fx_quotes("fxcm", 8)[0]
    overlap = oanda[oanda["ts_event_ns"] > fxcm["ts_event_ns"][0] + 60 * SECOND_NS]

    def disagreement(shift_s: int) -> float:
        last_seen = np.searchsorted(fxcm["ts_event_ns"] + shift_s * SECOND_NS, overlap["ts_event_ns"]) - 1
        mids = (fxcm["bid"] + fxcm["ask"])[last_seen] / 2
        gaps = (overlap["bid"] + overlap["ask"]) / 2 - mids
        return float(np.std(gaps))

    assert disagreement(0) < min(disagreement(-1), disagreement(1))


@pytest.mark.parametrize(("day", "rows"), [(7, 219_809), (8, 199_123)])
def test_gold_has_fractions_of_a_millisecond(day: int, rows: int) -> None:
    ticks, oddities = fx_quotes("oanda", day, "xauusd")
    times = ticks["ts_event_ns"]
    assert len(ticks) == rows
    assert oddities.equal_timestamps == oddities.stepped_back == 0
    assert (times % 1_000_000 != 0).any()
    assert (times % 100 == 0).all()  # four decimals of a millisecond at most
    assert np.array_equal(np.rint(ticks["bid"] * 1000) / 1000, ticks["bid"])
    assert round(float((ticks["ask"] - ticks["bid"]).max()), 3) == (2.6 if day == 7 else 2.489)
    pause = int(np.diff(times).argmax())
    assert str(np.datetime64(int(times[pause]), "ns"))[11:16] == "21:14"
    assert str(np.datetime64(int(times[pause + 1]), "ns"))[11:16] == "22:00"


def test_clock_and_date_can_be_given() -> None:
    path = real_file(FX, "fxcm_eurusd_20140504_quote.zip")
    documented, _ = read_file(path)
    zone = ReadOptions(add_s=3600, zone="America/New_York")  # New York had summer time, the file has not
    assert np.array_equal(read_file(path, zone)[0]["ts_event_ns"], documented["ts_event_ns"])
    moved = ReadOptions(base=np.datetime64("2020-02-03T00:00", "s").item())
    shift_ns = utc_ns("2020-02-03") - utc_ns("2014-05-04")
    assert np.array_equal(read_file(path, moved)[0]["ts_event_ns"], documented["ts_event_ns"] + shift_ns)


@pytest.mark.parametrize(("hour", "rows"), [(0, 3_733), (10, 8_438), (23, 2_633)])
def test_dukascopy_bi5(hour: int, rows: int) -> None:
    path = real_file("dukascopy-bi5", f"EURUSD_2019-02-04_{hour:02d}h_ticks.bi5")
    ticks, oddities = read_file(path)
    start = utc_ns(f"2019-02-04T{hour:02d}:00")
    assert len(ticks) == rows
    assert start <= ticks["ts_event_ns"][0] <= ticks["ts_event_ns"][-1] < start + 3600 * SECOND_NS
    assert oddities.crossed == oddities.stepped_back == oddities.bad_lines == 0
    assert ((ticks["ask"] > 1.14) & (ticks["ask"] < 1.15)).all()
    assert (ticks["bid"] < ticks["ask"]).mean() > 0.9  # ask comes first in the record
    assert np.array_equal(np.rint(ticks["ask"] * 100_000) / 100_000, ticks["ask"])
    assert (ticks["bid_size"] > 0).all()


def test_first_record_of_a_bi5_file() -> None:
    ticks, _ = read_file(real_file("dukascopy-bi5", "EURUSD_2019-02-04_10h_ticks.bi5"))
    first = ticks[0]
    assert first["ts_event_ns"] == utc_ns("2019-02-04T10:00:00.043")
    assert (first["ask"], first["bid"], first["ask_size"], first["bid_size"]) == (1.14457, 1.14452, 1.0, 1.75)


def test_an_empty_bi5_file_is_an_hour_without_ticks() -> None:
    recording = open_recording(real_file("dukascopy-bi5", "empty.bi5"), ReadOptions(contract="EURUSD"))
    assert recording.format is Format.DUKASCOPY_BI5
    assert list(recording.chunks({"EURUSD": 1})) == []


@pytest.mark.parametrize(("day", "rows"), [(6, 77_046), (7, 84_691)])
def test_dukascopy_csv_runs_from_17_to_17_new_york_time(day: int, rows: int) -> None:
    ticks, oddities = read_file(real_file("dukascopy-eurusd-csv", f"DC_EURUSD_202001{day:02d}_EST.csv.gz"))
    assert len(ticks) == rows
    assert (np.diff(ticks["ts_event_ns"]) > 0).all()
    assert oddities.equal_timestamps == oddities.stepped_back == oddities.crossed == oddities.locked == 0
    close = utc_ns(f"2020-01-{day:02d}T22:00")
    assert close - 86_400 * SECOND_NS <= ticks["ts_event_ns"][0] <= ticks["ts_event_ns"][-1] < close


def test_the_depth_feed_keeps_both_clocks() -> None:
    path = real_file(*DEPTH)
    recording = open_recording(path)
    assert [(each.contract, each.root) for each in recording.instruments] == [("ETHUSD_PERP", "ETHUSD")]
    ticks, oddities = read_file(path)
    quotes, trades = ticks[ticks["flags"] == 3], ticks[ticks["flags"] & TickFlag.TRADE != 0]
    assert (len(quotes), len(trades), oddities.rows) == (15_812, 1_732, 15_812 + 1_732)
    assert oddities.other_messages == 22_909 + 1
    assert oddities.messages_stepped_back == 44
    assert oddities.broken_chains == oddities.bad_lines == 0
    assert oddities.negative_latency == oddities.rows
    assert (ticks["ts_recv_ns"] < ticks["ts_event_ns"]).all()
    assert (np.diff(ticks["ts_recv_ns"]) > 0).all()
    assert oddities.stepped_back == int((np.diff(ticks["ts_event_ns"]) < 0).sum()) > 0
    assert set((trades["flags"] & 24).tolist()) == {TickFlag.BUYER, TickFlag.SELLER}


def test_the_depth_feed_equals_an_independent_reading() -> None:
    path = real_file(*DEPTH)
    ticks, _ = read_file(path)
    sent_ms, received_ns, expected = [], [], []
    with gzip.open(path, "rt") as file:
        for line in file:
            stamp, text = line.split(" ", 1)
            received_ns.append(int(stamp))
            data = json.loads(text).get("data")
            if data is None:
                received_ns.pop()
                continue
            sent_ms.append(data["E"])
            time = (data["T"] * 1_000_000, int(stamp))
            if data["e"] == "bookTicker":
                expected.append((*time, *(float(data[key]) for key in "baBA")))
            elif data["e"] == "trade":
                expected.append((*time, float(data["p"]), float(data["q"]), 16.0 if data["m"] else 8.0, 0.0))
    quote = ticks["flags"] == 3
    columns = np.where(
        quote,
        [ticks["bid"], ticks["ask"], ticks["bid_size"], ticks["ask_size"]],
        [ticks["last"], ticks["last_size"], ticks["flags"] & 24, np.zeros(len(ticks))],
    )
    actual = zip(ticks["ts_event_ns"].tolist(), ticks["ts_recv_ns"].tolist(), *columns.tolist(), strict=True)
    assert list(actual) == expected
    # The figures of the page hold for the time of sending, E; ticks carry T, when it happened.
    latency_ms = np.array(received_ns) / 1e6 - np.array(sent_ms)
    assert (round(latency_ms.min()), round(latency_ms.max())) == (-1273, -1242)
    assert round((received_ns[-1] - received_ns[0]) / SECOND_NS) == 344


def test_clocks_that_disagree_merge_by_the_time_they_were_received() -> None:
    recordings = [
        open_recording(real_file(*DEPTH)),
        open_recording(real_file(FX, "oanda_eurusd_20140508_quote.zip")),
        open_recording(real_file(FX, "fxcm_eurusd_20140508_quote.zip")),
    ]
    streams = [each.chunks({each.instruments[0].contract: i}) for i, each in enumerate(recordings)]
    merged = join(merge_by_time(streams))
    assert len(merged) == 17_544 + 87_833 + 167_466
    assert (np.diff(merged["ts_recv_ns"]) >= 0).all()
