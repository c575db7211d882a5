"""Damage of any kind to any format ends in sound ticks or in DataFormatError, never in another error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.formats import Format, ReadOptions, open_recording
from nexus_gateway.core.errors import DataFormatError
from nexus_gateway.shm.tick import TickFlag

from tests.support.market_files import ids_of, join, scid_record, write_bi5, write_gzip, write_scid, write_zip

ROWS = 40
MUTATIONS = 150
FEED_LINE = (
    '{} {{"stream":"a","data":{{"e":"bookTicker","s":"A","ps":"A","T":{},"b":"1.5","B":"3","a":"1.6","A":"2"}}}}\n'
)


def plain(path: Path, text: str) -> Path:
    path.write_text(text, newline="")
    return path


def trades(folder: Path) -> Path:
    rows = "".join(f"{1_576_450_800_000 + i},85{i}.25,{i}\n" for i in range(ROWS))
    return plain(folder / "NQH0.csv", "epoch_ms,price,size\n" + rows)


def packed_trades(folder: Path) -> Path:
    return write_gzip(folder / "NQH0.csv.gz", trades(folder).read_text())


def quotes(folder: Path) -> Path:
    rows = "".join(f"{i}.25,1.3{i},1.4{i}\n" for i in range(ROWS))
    return write_zip(folder / "q.zip", {"20140508_eurusd_tick_quote.csv": rows})


def futures(folder: Path) -> Path:
    rows = "".join(f"{i},1313.8,1,usa,,0\n" for i in range(ROWS))
    return write_zip(folder / "f.zip", {"20131007_gc_tick_trade_201312.csv": rows})


def hour(folder: Path) -> Path:
    records = [(i, 114_457 + i, 114_452, 1.0, 1.75) for i in range(ROWS)]
    return write_bi5(folder / "EURUSD_2019-02-04_10h_ticks.bi5", records)


def dukascopy(folder: Path) -> Path:
    rows = "".join(f"01/05/2020 17:00:{i:02d}.039,1.1161{i},1.1162{i}\n" for i in range(ROWS))
    return plain(folder / "DC_EURUSD_20200106_EST.csv", rows)


def feed(folder: Path) -> Path:
    rows = "".join(FEED_LINE.format(1_723_161_256_188_217_466 + i, 1_723_161_257_450 + i) for i in range(ROWS))
    return plain(folder / "a.txt", rows)


def mt5(folder: Path) -> Path:
    header = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\r\n"
    rows = "".join(f"2020.01.06\t00:00:{i:02d}.066\t1.1\t\t1.2\t3\t58\r\n" for i in range(ROWS))
    return plain(folder / "EURUSD.csv", header + rows)


def nt8(folder: Path) -> Path:
    rows = "".join(f"20200106 1430{i:02d} 0960000;8834.25;8834;8834.25;3\r\n" for i in range(ROWS))
    return plain(folder / "NQ 03-20.Last.txt", rows)


def scid(folder: Path) -> Path:
    records = [scid_record(1_578_321_000_000_000 + i, 1.25, bid=1.0, ask=1.25) for i in range(ROWS)]
    return write_scid(folder / "X.scid", records)


MAKERS: list[tuple[Format, Callable[[Path], Path]]] = [
    (Format.TRADE_CSV, trades),
    (Format.TRADE_CSV, packed_trades),
    (Format.QUOTE_ZIP, quotes),
    (Format.FUTURES_ZIP, futures),
    (Format.DUKASCOPY_BI5, hour),
    (Format.DUKASCOPY_CSV, dukascopy),
    (Format.DEPTH_FEED, feed),
    (Format.MT5_TICKS, mt5),
    (Format.NT8_TICKS, nt8),
    (Format.SCID, scid),
]


@pytest.mark.parametrize("on_error", ["raise", "count"])
@pytest.mark.parametrize(("file_format", "make"), MAKERS, ids=[maker.__name__ for _, maker in MAKERS])
def test_damage_of_any_kind(tmp_path: Path, file_format: Format, make: Callable[[Path], Path], on_error: str) -> None:
    path = make(tmp_path)
    options = ReadOptions(format=file_format, on_error=on_error)
    assert len(join(open_recording(path, options).chunks(ids_of(open_recording(path))))) == ROWS
    whole = path.read_bytes()
    generator = np.random.default_rng(11)
    for _ in range(MUTATIONS):
        content = bytearray(whole)
        kind, at = generator.integers(3), int(generator.integers(len(content)))
        if kind == 0:
            content[at] = int(generator.integers(256))
        elif kind == 1:
            del content[at : at + int(generator.integers(1, 9))]
        else:
            content[at:at] = generator.bytes(int(generator.integers(1, 9)))
        path.write_bytes(content)
        try:
            recording = open_recording(path, options)
            ticks = join(recording.chunks(ids_of(recording)))
        except DataFormatError:
            continue
        for name, flag in (("bid", TickFlag.BID), ("ask", TickFlag.ASK), ("last", TickFlag.TRADE)):
            assert np.isfinite(ticks[name][ticks["flags"] & flag != 0]).all()
