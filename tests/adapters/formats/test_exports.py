"""Formats without public samples: MetaTrader and NinjaTrader exports, Sierra's .scid, each from small golden files."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.formats import (
    CHUNK_TICKS,
    Format,
    Oddities,
    ReadOptions,
    carry_forward,
    detect_format,
    make_carry_state,
    open_recording,
)
from nexus_gateway.core.errors import ConfigError, DataFormatError
from nexus_gateway.shm.tick import TickFlag

from tests.support.market_files import ids_of, read_file, scid_record, utc_ns, write_bi5, write_gzip, write_scid

MT5_HEADER = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n"
BID, ASK, TRADE, BUYER, SELLER = (int(each) for each in list(TickFlag)[:5])
FIRST_PART, LAST_PART = bytes.fromhex("f99e70fd"), bytes.fromhex("019f70fd")


def mt5_file(folder: Path, *rows: str, name: str = "EURUSD_202001060000_202001062359.csv") -> Path:
    path = folder / name
    path.write_text(MT5_HEADER + "".join(f"{row}\r\n" for row in rows), newline="")
    return path


class TestMetaTrader:
    def test_forex_quotes_with_blanks(self, tmp_path: Path) -> None:
        path = mt5_file(
            tmp_path,
            "2020.01.06\t00:00:00.066\t1.11650\t1.11660\t\t\t6",
            "2020.01.06\t00:00:00.167\t\t1.11661\t\t\t4",
            "2020.01.06\t00:00:01.001\t1.11649\t\t\t\t2",
        )
        assert detect_format(path) is Format.MT5_TICKS
        ticks, oddities = read_file(path)
        assert ticks["flags"].tolist() == [BID | ASK, ASK, BID]
        assert ticks["ts_event_ns"].tolist() == [
            utc_ns("2020-01-06T00:00:00.066"),
            utc_ns("2020-01-06T00:00:00.167"),
            utc_ns("2020-01-06T00:00:01.001"),
        ]
        assert np.isnan(ticks["bid"][1])
        assert np.isnan(ticks["last"]).all()
        carry_forward(ticks, make_carry_state(2))
        assert ticks["bid"].tolist() == [1.1165, 1.1165, 1.11649]
        assert ticks["ask"].tolist() == [1.1166, 1.11661, 1.11661]
        assert oddities.flags_without_value == 0

    def test_exchange_trades_with_undocumented_bits(self, tmp_path: Path) -> None:
        rows = (
            "2023.02.02\t09:00:00.000\t113500\t113505\t113505\t7\t1080",  # 0x438: last, volume, buy
            "2023.02.02\t09:00:00.000\t\t\t113500\t2\t1112",  # 0x458: last, volume, sell
            "2023.02.02\t09:00:00.001\t\t\t113500\t2\t1144",  # both: an auction names no aggressor
            "2023.02.02\t09:00:00.002\t113500\t\t0\t0\t1026",
        )
        ticks, oddities = read_file(mt5_file(tmp_path, *rows, name="WINJ23_202302020900_202302021800.csv"))
        assert ticks["flags"].tolist() == [TRADE | BUYER, TRADE | SELLER, TRADE | BUYER | SELLER, BID]
        assert ticks["last"].tolist()[:3] == [113505, 113500, 113500]
        assert ticks["last_size"].tolist()[:3] == [7, 2, 2]
        assert np.isnan(ticks["last"][3])  # zero is no price
        assert ticks["bid"][0] == 113500  # stated though unchanged
        assert oddities.equal_timestamps == 1

    def test_the_instrument_comes_from_the_name(self, tmp_path: Path) -> None:
        row = "2023.02.02\t09:00:00.000\t1\t2\t\t\t6"
        recording = open_recording(mt5_file(tmp_path, row, name="WINJ23_202302020900_202302021800.csv"))
        assert [(each.contract, each.root) for each in recording.instruments] == [("WINJ23", "WIN")]

    def test_a_flag_without_its_price_is_counted_and_carries_nothing(self, tmp_path: Path) -> None:
        ticks, oddities = read_file(mt5_file(tmp_path, "2020.01.06\t00:00:00.066\t\t1.5\t\t\t62"))
        assert ticks["flags"].tolist() == [ASK]
        assert oddities.flags_without_value == 1

    def test_the_server_clock_is_given_or_said_to_be_assumed(self, tmp_path: Path) -> None:
        path = mt5_file(
            tmp_path,
            "2020.03.06\t12:00:00.000\t1.1\t1.2\t\t\t6",  # UTC+2
            "2020.03.09\t12:00:00.000\t1.1\t1.2\t\t\t6",  # UTC+3: American summer time began on the 8th
        )
        assert "assumed" in open_recording(path).clock
        ticks, _ = read_file(path, ReadOptions(add_s=-7200))
        assert ticks["ts_event_ns"][0] == utc_ns("2020-03-06T10:00")
        options = ReadOptions(add_s=-25_200, zone="America/New_York")
        ticks, _ = read_file(path, options)
        assert ticks["ts_event_ns"].tolist() == [utc_ns("2020-03-06T10:00"), utc_ns("2020-03-09T09:00")]
        assert open_recording(path, options).clock == "-25200 s, then from America/New_York to UTC (as given)"

    def test_an_unknown_zone_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="zone was 'Mars/Base'; use an IANA name"):
            open_recording(mt5_file(tmp_path, ""), ReadOptions(zone="Mars/Base"))

    @pytest.mark.parametrize(
        ("row", "text"),
        [
            ("2020.02.30\t00:00:00.066\t1\t2\t\t\t6", "line 3: was year 2020 .*; expected a date that exists"),
            ("2020.13.01\t00:00:00.066\t1\t2\t\t\t6", "line 3: .*month 13 .*expected month from 1 to 12"),
            ("2020.01.06\t24:00:00.066\t1\t2\t\t\t6", "line 3: .*hour 24 .*expected hour from 0 to 23"),
            ("2020.01.06\t00:00:61.066\t1\t2\t\t\t6", "line 3: .*expected second from 0"),
            ("2020.01.06\t00:00:00.066\tnan\t2\t\t\t6", r"line 3 \(byte 84 of the text\).*<BID>, column 7"),
            ("2020.01.06\t00:00:00.066\t1\t2\t\t6", "line 3 .*<VOLUME>, column 10"),
            ("2020.01.06\t00:00:00.066\t1\t2\t\t\t6.5", "line 3: .*<FLAGS> 6.5; expected <FLAGS> from 0"),
        ],
    )
    def test_a_broken_line_is_named(self, tmp_path: Path, row: str, text: str) -> None:
        good = "2020.01.06\t00:00:00.066\t1\t2\t\t\t6"
        path = mt5_file(tmp_path, good, row, good)
        with pytest.raises(DataFormatError, match=text):
            read_file(path)
        ticks, oddities = read_file(path, ReadOptions(on_error="count"))
        assert (len(ticks), oddities.bad_lines) == (2, 1)
        assert "line 3" in oddities.problems[0]

    def test_another_header_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "EURUSD.csv"
        path.write_text("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\n")
        with pytest.raises(DataFormatError, match=r"line 1: header was .*<OPEN>.*expected '<DATE>"):
            read_file(path, ReadOptions(format=Format.MT5_TICKS))

    def test_utf16_is_refused_with_the_cure(self, tmp_path: Path) -> None:
        path = tmp_path / "EURUSD.csv"
        path.write_text(MT5_HEADER, encoding="utf-16")
        with pytest.raises(DataFormatError, match="is UTF-16 text; save it as UTF-8"):
            open_recording(path)

    def test_a_utf8_mark_is_skipped(self, tmp_path: Path) -> None:
        path = tmp_path / "EURUSD.csv"
        path.write_text(MT5_HEADER + "2020.01.06\t00:00:00.066\t1\t2\t\t\t6\r\n", encoding="utf-8-sig", newline="")
        assert len(read_file(path)[0]) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tick_size": Decimal(0)}, "tick_size was 0; it must be finite and above 0"),
        ({"price_multiplier": Decimal("NaN")}, "price_multiplier was NaN"),
        ({"price_decimals": 10}, "price_decimals was 10; it must be 0 to 9"),
        ({"base": datetime(2019, 2, 4, tzinfo=UTC)}, "with a time zone"),
        ({"on_error": "ignore"}, "on_error was 'ignore'; it must be 'raise' or 'count'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ReadOptions(**options)


class TestNinjaTrader:
    def write(self, folder: Path, text: str, name: str = "NQ 03-20.Last.txt") -> Path:
        path = folder / name
        path.write_text(text, newline="")
        return path

    def test_trades_with_quotes(self, tmp_path: Path) -> None:
        path = self.write(
            tmp_path,
            "20200106 143000 0960000;8834.25;8834;8834.25;3\r\n20200106 143000 0960001;8834;8834;8834.25;1\r\n",
        )
        recording = open_recording(path)
        assert recording.format is Format.NT8_TICKS
        assert [(each.contract, each.root) for each in recording.instruments] == [("NQH20", "NQ")]
        ticks, _ = read_file(path)
        second = utc_ns("2020-01-06T14:30")
        assert ticks["ts_event_ns"].tolist() == [second + 96_000_000, second + 96_000_100]
        assert (ticks["last"].tolist(), ticks["bid"].tolist()) == ([8834.25, 8834.0], [8834.0, 8834.0])
        assert (ticks["ask"].tolist(), ticks["last_size"].tolist()) == ([8834.25, 8834.25], [3, 1])
        assert ticks["flags"].tolist() == [BID | ASK | TRADE] * 2

    @pytest.mark.parametrize(("side", "flag"), [("Last", TRADE), ("Bid", BID), ("Ask", ASK)])
    def test_one_side_with_whole_seconds(self, tmp_path: Path, side: str, flag: int) -> None:
        path = self.write(tmp_path, "20061107 000431;1383.00;25\n20061107 000456;1383.25;1\n", f"ES 12-06.{side}.txt")
        ticks, oddities = read_file(path)
        name = side.lower()
        assert ticks[name].tolist() == [1383.0, 1383.25]
        assert ticks[f"{name}_size"].tolist() == [25, 1]
        assert ticks["flags"].tolist() == [flag, flag]
        assert ticks["ts_event_ns"][1] == utc_ns("2006-11-07T00:04:56")
        others = {"bid", "ask", "last"} - {name}
        assert all(np.isnan(ticks[other]).all() for other in others)
        assert oddities.rows == 2

    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("20200106 143000;8834;8835;8833;8834.25;120", "minute bars, no ticks"),
            ("20200106;8834;8835;8833;8834.25;120", "day bars, no ticks"),
            ("20200106 143000 0960000;8834;8835;3", r"with 3 values; a tick has 4 \(last;bid;ask;volume\)"),
        ],
    )
    def test_what_is_no_tick_is_refused(self, tmp_path: Path, line: str, text: str) -> None:
        with pytest.raises(DataFormatError, match=text):
            open_recording(self.write(tmp_path, line + "\r\n"))

    def test_another_format_is_refused_when_forced(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "epoch_ms,price,size\n")
        with pytest.raises(DataFormatError, match="expected yyyyMMdd HHmmss fffffff;last;bid;ask;volume"):
            open_recording(path, ReadOptions(format=Format.NT8_TICKS))

    @pytest.mark.parametrize("stamp", ["20200106 146000 0960000", "20200106 250000 0960000", "20200230 143000 0960000"])
    def test_a_time_that_does_not_exist_is_named(self, tmp_path: Path, stamp: str) -> None:
        good = "20200106 143000 0960000;8834.25;8834;8834.25;3\n"
        path = self.write(tmp_path, good + f"{stamp};8834.25;8834;8834.25;3\n")
        with pytest.raises(DataFormatError, match=r"line 2: .*expected"):
            read_file(path)

    def test_a_price_may_be_negative(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "20200420 183000 0000000;-37.63;-37.64;-37.60;1\n", "CL 05-20.Last.txt")
        ticks, oddities = read_file(path)
        assert (ticks["last"][0], oddities.crossed) == (-37.63, 0)


class TestSierra:
    MOMENT_US = 1_578_321_000_123_004

    def test_trades_markers_and_aggressors(self, tmp_path: Path) -> None:
        path = write_scid(
            tmp_path / "NQH20_FUT_CME.scid",
            [
                scid_record(self.MOMENT_US, 8834.25, bid=8834.0, ask=8834.25, volume=2),
                scid_record(self.MOMENT_US + 1, 8834.25, bid=8834.0, ask=8834.25, opened=FIRST_PART),
                scid_record(self.MOMENT_US + 2, 8834.25, bid=8834.0, ask=8834.25, opened=LAST_PART),
                scid_record(self.MOMENT_US + 999, 8834.0, bid=8834.0, ask=8834.25, volume=5, at_ask=False),
            ],
        )
        recording = open_recording(path)
        assert recording.format is Format.SCID
        assert [(each.contract, each.root) for each in recording.instruments] == [("NQH20", "NQ")]
        ticks, oddities = read_file(path)
        assert ticks["ts_event_ns"].tolist() == [(self.MOMENT_US + step) * 1000 for step in (0, 1, 2, 999)]
        assert ticks["last"].tolist() == [8834.25, 8834.25, 8834.25, 8834.0]
        assert set(ticks["bid"].tolist()) == {8834.0}
        assert set(ticks["ask"].tolist()) == {8834.25}
        assert ticks["last_size"].tolist() == [2, 1, 1, 5]
        assert ticks["flags"].tolist() == [BID | ASK | TRADE | BUYER] * 3 + [BID | ASK | TRADE | SELLER]
        assert oddities.split_trades == 1

    @pytest.mark.parametrize("price", [1.12275, 1.11915, 59.71, 1477.4, 8534.25, 26946.25, 0.0000005, -37.63, 0.0])
    def test_a_float32_becomes_its_shortest_decimal(self, tmp_path: Path, price: float) -> None:
        path = write_scid(tmp_path / "X.scid", [scid_record(self.MOMENT_US, price, bid=price, ask=price)])
        ticks, _ = read_file(path)
        assert (ticks["last"][0], ticks["bid"][0], ticks["ask"][0]) == (price, price, price)

    def test_the_tick_size_settles_what_the_shortest_decimal_cannot(self, tmp_path: Path) -> None:
        price = 126.0078125  # a T-note in 128ths: 126.00781 is the same float32
        path = write_scid(tmp_path / "ZNH20.scid", [scid_record(self.MOMENT_US, price, bid=price, ask=126.01)])
        assert read_file(path)[0]["last"][0] == 126.00781
        ticks, oddities = read_file(path, ReadOptions(tick_size=Decimal("0.0078125")))
        assert ticks["last"][0] == price
        assert oddities.off_grid == 1  # the ask is no multiple

    def test_the_price_multiplier_is_exact(self, tmp_path: Path) -> None:
        path = write_scid(tmp_path / "X.scid", [scid_record(self.MOMENT_US, 853425.0, bid=853425.0, ask=853450.0)])
        ticks, _ = read_file(path, ReadOptions(price_multiplier=Decimal("0.01")))
        assert (ticks["last"][0], ticks["ask"][0]) == (8534.25, 8534.5)

    def test_a_size_beyond_float32_is_counted(self, tmp_path: Path) -> None:
        record = scid_record(self.MOMENT_US, 1.0, bid=1.0, ask=1.0, volume=2**24 + 1)
        _, oddities = read_file(write_scid(tmp_path / "X.scid", [record]))
        assert oddities.sizes_inexact == 1

    @pytest.mark.parametrize(
        ("bad", "text"),
        [
            ({"trades": 37}, r"record 1 \(byte 96\): was .*one trade"),
            ({"opened": np.float32(8834.0).tobytes()}, r"record 1 \(byte 96\).*this is a bar"),
            ({"price": float("nan")}, r"record 1 \(byte 96\).*finite prices"),
            ({"ask": float("inf")}, r"record 1 \(byte 96\).*finite prices"),
            ({"time_us": -(10**15)}, r"record 1 \(byte 96\).*a time from 1970"),
        ],
    )
    def test_a_broken_record_is_named(self, tmp_path: Path, bad: dict, text: str) -> None:
        values = {"time_us": self.MOMENT_US, "price": 8834.0, "bid": 8834.0, "ask": 8834.25}
        records = [scid_record(**values), scid_record(**(values | bad)), scid_record(**values)]
        path = write_scid(tmp_path / "X.scid", records)
        with pytest.raises(DataFormatError, match=text):
            read_file(path)
        ticks, oddities = read_file(path, ReadOptions(on_error="count"))
        assert (len(ticks), oddities.bad_lines) == (2, 1)

    def test_a_record_cut_in_the_middle_is_named(self, tmp_path: Path) -> None:
        record = scid_record(self.MOMENT_US, 1.0, bid=1.0, ask=1.0)
        path = write_scid(tmp_path / "X.scid", [record, record[:17]])
        recording = open_recording(path)
        chunks = recording.chunks(ids_of(recording))
        assert len(next(chunks)) == 1
        with pytest.raises(DataFormatError, match=r"record 1 \(byte 96\) has 17 of 40 bytes: the file was cut"):
            next(chunks)

    @pytest.mark.parametrize("change", [{"record_bytes": 48}, {"version": 2}])
    def test_another_layout_is_refused(self, tmp_path: Path, change: dict) -> None:
        with pytest.raises(DataFormatError, match=r"header \(id, header size, record size, version\) was"):
            open_recording(write_scid(tmp_path / "X.scid", [], **change))

    def test_a_header_cut_short_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "X.scid"
        path.write_bytes(b"SCID" + bytes(20))
        with pytest.raises(DataFormatError, match="header has 24 bytes; expected 56"):
            open_recording(path)

    def test_many_records_come_in_bounded_chunks(self, tmp_path: Path) -> None:
        count = 200_000
        steps = [scid_record(self.MOMENT_US + i, 1.25, bid=1.0, ask=1.25) for i in range(100)]
        path = write_scid(tmp_path / "X.scid", steps * (count // 100))
        recording, oddities = open_recording(path), Oddities()
        sizes = [len(chunk) for chunk in recording.chunks(ids_of(recording), oddities=oddities)]
        assert (sum(sizes), max(sizes) <= CHUNK_TICKS) == (count, True)
        assert oddities.stepped_back == count // 100 - 1


class TestDukascopyHours:
    def test_the_vendors_months_count_from_zero(self, tmp_path: Path) -> None:
        folder = tmp_path / "USDJPY" / "2019" / "01" / "04"
        folder.mkdir(parents=True)
        path = write_bi5(folder / "10h_ticks.bi5", [(43, 109_871, 109_868, 1.0, 1.75)])
        recording = open_recording(path)
        assert recording.instruments[0].contract == "USDJPY"
        ticks, _ = read_file(path)
        assert ticks["ts_event_ns"][0] == utc_ns("2019-02-04T10:00:00.043")
        assert (ticks["ask"][0], ticks["bid"][0]) == (109.871, 109.868)

    def test_what_the_name_does_not_tell_must_be_given(self, tmp_path: Path) -> None:
        path = write_bi5(tmp_path / "USA500IDXUSD.bi5", [(0, 3_000_500, 3_000_000, 1.0, 1.0)])
        with pytest.raises(DataFormatError, match="its name tells no hour"):
            open_recording(path)
        base = np.datetime64("2019-02-04T10:00", "s").item()
        with pytest.raises(DataFormatError, match="give price_decimals="):
            open_recording(path, ReadOptions(base=base))
        ticks, _ = read_file(path, ReadOptions(base=base, price_decimals=3))
        assert ticks["ask"][0] == 3000.5

    def test_a_record_outside_its_hour_is_named(self, tmp_path: Path) -> None:
        name = "EURUSD_2019-02-04_10h_ticks.bi5"
        path = write_bi5(tmp_path / name, [(0, 2, 1, 1.0, 1.0), (3_600_000, 2, 1, 1.0, 1.0), (5, 2, 1, -1.0, 1.0)])
        with pytest.raises(DataFormatError, match=r"record 1 \(byte 20\): was \(3600000, .*expected ms below 3600000"):
            read_file(path)
        _, oddities = read_file(path, ReadOptions(on_error="count"))
        assert (oddities.rows, oddities.bad_lines) == (1, 2)

    def test_a_date_that_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        path = write_bi5(tmp_path / "EURUSD_2019-02-30_10h_ticks.bi5", [(0, 2, 1, 1.0, 1.0)])
        with pytest.raises(DataFormatError, match="tells no hour that exists"):
            open_recording(path)


def test_gzip_is_read_whatever_the_name(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "ES 12-06.Last.txt", "20061107 000431;1383.00;25\n")
    assert len(read_file(path)[0]) == 1
