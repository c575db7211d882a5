"""Broken, cut and strange files: named with file and position, or counted, never dropped silently."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.formats import (
    CHUNK_TICKS,
    Format,
    Oddities,
    ReadOptions,
    Recording,
    detect_format,
    merge_by_time,
    open_recording,
)
from nexus_gateway.adapters.formats.byte_blocks import BLOCK_BYTES, read_blocks
from nexus_gateway.core.errors import DataFormatError
from nexus_gateway.shm.tick import TickArray

from tests.support.market_files import (
    ids_of,
    join,
    read_file,
    real_file,
    write_bi5,
    write_gzip,
    write_scid,
    write_zip,
)

COUNT = ReadOptions(on_error="count")
HEADER = "epoch_ms,price,size\n"
TRADE_MEMBER = "20131007_gc_tick_trade_201312.csv"


def trade_lines(count: int, seed: int = 5) -> list[str]:
    """Trades that do not compress well, so that a cut falls among them."""
    generator = np.random.default_rng(seed)
    prices, sizes = generator.integers(800_000, 900_000, count), generator.integers(1, 99, count)
    return [f"{1_576_450_800_000 + i},{prices[i] / 100:.2f},{sizes[i]}\n" for i in range(count)]


def read_until_error(recording: Recording) -> tuple[TickArray, str]:
    chunks: list[TickArray] = []
    with pytest.raises(DataFormatError) as caught:
        chunks.extend(recording.chunks(ids_of(recording)))
    # `extend` keeps what came before the error.
    return join(chunks), str(caught.value)


def test_a_broken_line_is_named_and_what_came_before_is_kept(tmp_path: Path) -> None:
    lines = trade_lines(1000)
    lines[700] = "1576450800700,85x4.00,1\n"
    path = write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "".join(lines))
    position = len(HEADER) + sum(map(len, lines[:700]))
    ticks, text = read_until_error(open_recording(path))
    assert len(ticks) == 700
    assert text.startswith(f"{path}: line 702 (byte {position} of the text): was '1576450800700,85x4.00,1'; expected")
    assert "a decimal number of at most 18 digits as price, column 2, ended by ','" in text


def test_broken_lines_can_be_counted(tmp_path: Path) -> None:
    lines = trade_lines(1000)
    for index in (0, 1, 500, 999):
        lines[index] = "nonsense\n"
    path = write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "".join(lines))
    ticks, oddities = read_file(path, COUNT)
    assert (len(ticks), oddities.rows, oddities.bad_lines) == (996, 996, 4)
    assert [text.split(" (")[0] for text in oddities.problems] == [f"{path}: line {n}" for n in (2, 3, 502, 1001)]


def test_only_the_first_problems_are_kept_as_text(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "nonsense\n" * 50)
    ticks, oddities = read_file(path, COUNT)
    assert (len(ticks), oddities.bad_lines, len(oddities.problems)) == (0, 50, 5)


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "Infinity", "1e400", "", "1,5", "١"])
def test_a_price_that_is_no_number_is_refused(tmp_path: Path, value: str) -> None:
    path = write_gzip(tmp_path / "NQH0.csv.gz", f"{HEADER}1576450800700,{value},1\n")
    with pytest.raises(DataFormatError, match=r"line 2 \(byte 20 of the text\)"):
        read_file(path)


def test_a_size_below_zero_is_refused_and_a_price_is_not(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "CLK0.csv.gz", f"{HEADER}1587405600000,-37.63,2\n1587405600001,-40.32,-1\n")
    ticks, text = read_until_error(open_recording(path))
    assert ticks["last"].tolist() == [-37.63]
    assert "line 3: was epoch_ms 1587405600001 | price -40.32 | size -1; expected size from 0" in text


@pytest.mark.parametrize("value", ["-1", "9223372036855", "1576450800700.5", "999999999999999999"])
def test_a_time_that_does_not_fit_is_refused(tmp_path: Path, value: str) -> None:
    path = write_gzip(tmp_path / "NQH0.csv.gz", f"{HEADER}{value},1,1\n")
    with pytest.raises(
        DataFormatError, match=f"line 2: was epoch_ms {value} .*expected epoch_ms from 0 to 92233720368"
    ):
        read_file(path)


def test_a_gzip_file_that_was_cut(tmp_path: Path) -> None:
    whole = write_gzip(tmp_path / "whole.csv.gz", HEADER + "".join(trade_lines(50_000)))
    content = whole.read_bytes()
    path = tmp_path / "NQH0.csv.gz"
    path.write_bytes(content[: len(content) // 2])
    ticks, text = read_until_error(open_recording(path))
    assert text == f"{path}: gzip file ends at byte {len(content) // 2}, before its end mark: it was cut"
    everything, _ = read_file(whole)
    assert 0.4 < len(ticks) / len(everything) < 0.6
    assert ticks.tobytes() == everything[: len(ticks)].tobytes()
    counted, oddities = read_file(path, COUNT)
    assert (len(counted), oddities.damaged_ends, oddities.problems) == (len(ticks), 1, [text])


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    content = bytearray(write_gzip(tmp_path / "whole.csv.gz", HEADER + "".join(trade_lines(50_000))).read_bytes())
    content[-5] ^= 0xFF  # in the checksum: the text itself looks right
    path = tmp_path / "NQH0.csv.gz"
    path.write_bytes(content)
    with pytest.raises(
        DataFormatError, match=r"NQH0.csv.gz: gzip data damaged before byte \d+: .*incorrect data check"
    ):
        read_file(path)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 5 * BLOCK_BYTES, 5 * BLOCK_BYTES + 1])
def test_gzip_blocks_are_bounded_and_complete(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"a" * size) + gzip.compress(b"b" * size))  # two members are one text
    blocks = list(read_blocks(path))
    assert b"".join(blocks) == b"a" * size + b"b" * size
    assert max(map(len, blocks), default=0) <= BLOCK_BYTES


def test_a_zip_archive_that_was_cut(tmp_path: Path) -> None:
    text = "".join(f"{i},1313.8,1,usa,,0\n" for i in range(20_000))
    whole = write_zip(tmp_path / "whole.zip", {TRADE_MEMBER: text})
    path = tmp_path / "gc_20131007_trade.zip"
    path.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(DataFormatError, match=r"no readable zip archive .*its directory stands at its end, byte \d+"):
        open_recording(path)


@pytest.mark.parametrize("damage", ["content", "checksum"])
def test_a_damaged_zip_member(tmp_path: Path, damage: str) -> None:
    text = "".join(f"{i},{line.split(',')[1]},1,usa,,0\n" for i, line in enumerate(trade_lines(20_000)))
    path = write_zip(tmp_path / "gc_20131007_trade.zip", {TRADE_MEMBER: text})
    content = bytearray(path.read_bytes())
    if damage == "content":
        content[60_000:60_010] = bytes(10)
    else:
        checksum = zlib.crc32(text.encode()).to_bytes(4, "little")
        at = content.rindex(checksum)
        content[at] ^= 0xFF
    path.write_bytes(content)
    recording = open_recording(path)
    ticks, message = read_until_error(recording)
    assert message.startswith(f"{path}!{TRADE_MEMBER}: ")
    assert 0 < len(ticks) < 20_000
    _, oddities = read_file(path, COUNT)
    assert oddities.damaged_ends + oddities.bad_lines > 0


def test_a_cut_bi5_file(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    records = [(i, int(ask), int(ask) - 1, 1.0, 1.0) for i, ask in enumerate(generator.integers(10**5, 10**6, 5000))]
    path = write_bi5(tmp_path / "EURUSD_2019-02-04_10h_ticks.bi5", records)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    ticks, text = read_until_error(open_recording(path))
    assert 0 < len(ticks) < 5000
    assert text == f"{path}: LZMA file ends at byte {len(content) // 2}, before its end mark: it was cut"
    path.write_bytes(content + b"more")
    with pytest.raises(DataFormatError, match=r"LZMA data ends before byte \d+, but the file goes on"):
        read_file(path)
    path.write_bytes(b"this is no LZMA stream at all")
    with pytest.raises(DataFormatError, match="LZMA data damaged before byte 29"):
        read_file(path)


def test_a_real_bi5_file_that_was_cut(tmp_path: Path) -> None:
    name = "EURUSD_2019-02-04_10h_ticks.bi5"
    content = real_file("dukascopy-bi5", name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[:-1000])
    with pytest.raises(DataFormatError, match="it was cut"):
        read_file(path)


def test_a_last_line_without_an_end_is_read_and_counted(tmp_path: Path) -> None:
    ticks, oddities = read_file(write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "1576450800700,8534.00,1"))
    assert (len(ticks), oddities.unended_lines) == (1, 1)


def test_text_without_lines_is_refused(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "1" * (3 * BLOCK_BYTES))
    with pytest.raises(DataFormatError, match=r"no line end in \d+ bytes"):
        read_file(path)


def test_a_file_of_a_header_only_holds_no_ticks(tmp_path: Path) -> None:
    recording = open_recording(write_gzip(tmp_path / "NQH0.csv.gz", HEADER))
    assert list(recording.chunks({"NQH0": 1})) == []


def test_a_file_without_its_header_is_refused(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "NQH0.csv.gz", "")
    with pytest.raises(DataFormatError, match="header was ''; expected 'epoch_ms,price,size'"):
        read_file(path, ReadOptions(format=Format.TRADE_CSV))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1723161256188217466 {}", "expected a stream's message or a book snapshot"),
        ("1723161256188217466 {", "line 2 .byte"),
        ("172316125618821746 6 {}", "line 2 .byte"),
        ('{"data":null}', "expected the receive time in ns"),
        ('1 {"data":{"e":"bookTicker","s":"A","ps":"A","T":1,"b":"NaN","B":"1","a":"2","A":"1"}}', "must be finite"),
        ('1 {"data":{"e":"trade","s":"A","T":1,"p":"1","q":"-1","m":true}}', "sizes from 0"),
        ('1 {"data":{"e":"bookTicker","s":"A","ps":"A","T":1,"b":"1_0","B":"1","a":"2","A":"1"}}', "Expected `float`"),
        ('1 {"data":{"e":"bookTicker","s":"B","ps":"B","T":1,"b":"1","B":"1","a":"2","A":"1"}}', "symbol was 'B'"),
        (
            '1 {"data":{"e":"bookTicker","s":"A","ps":"A","T":-1,"b":"1","B":"1","a":"2","A":"1"}}',
            "Expected `int` >= 0",
        ),
        ('1 {"data":{"e":"somethingNew","s":"A"}}', "Invalid value 'somethingNew'"),
    ],
)
def test_a_broken_message_of_the_depth_feed_is_named(tmp_path: Path, line: str, expected: str) -> None:
    good = '1 {"stream":"a","data":{"e":"trade","s":"A","T":1,"p":"1.5","q":"20000000","m":true}}\n'
    path = write_gzip(tmp_path / "a.gz", f"{good}{line}\n{good}")
    ticks, text = read_until_error(open_recording(path))
    assert len(ticks) == 1
    assert text.startswith(f"{path}: line 2 (byte {len(good)} of the text): was ")
    assert expected.replace(" .byte", " (byte") in text
    ticks, oddities = read_file(path, COUNT)
    assert (len(ticks), oddities.bad_lines, oddities.sizes_inexact) == (2, 1, 2)


def test_a_lost_depth_change_is_counted(tmp_path: Path) -> None:
    change = '{} {{"data":{{"e":"depthUpdate","s":"A","ps":"A","T":1,"u":{},"pu":{},"b":[],"a":[]}}}}\n'
    path = write_gzip(tmp_path / "a.gz", change.format(1, 10, 9) + change.format(2, 12, 10) + change.format(3, 20, 15))
    _, oddities = read_file(path)
    assert (oddities.other_messages, oddities.broken_chains) == (3, 1)


def test_a_feed_that_names_no_symbol_is_refused(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "a.gz", '1 {"lastUpdateId":1}\nbroken\n')
    with pytest.raises(DataFormatError, match="no message names a symbol"):
        open_recording(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "line 1: was '': none of the known formats"),
        (b"hello\n", "line 1: was 'hello': none of the known formats"),
        (bytes(range(256)), "none of the known formats"),
    ],
)
def test_an_unknown_format_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match=text):
        open_recording(path)


def test_archives_of_something_else_are_refused(tmp_path: Path) -> None:
    other = write_zip(tmp_path / "a.zip", {"readme.txt": "hello"})
    with pytest.raises(DataFormatError, match=r"members were readme.txt; expected tick_quote.csv or"):
        open_recording(other)
    with pytest.raises(DataFormatError, match=r"expected one member named like 20140508_eurusd_tick_quote.csv"):
        open_recording(other, ReadOptions(format=Format.QUOTE_ZIP))
    with pytest.raises(DataFormatError, match=r"member was 'readme.txt'; expected names like"):
        open_recording(other, ReadOptions(format=Format.FUTURES_ZIP))
    dated = write_zip(tmp_path / "b.zip", {"20140532_eurusd_tick_quote.csv": "1,2,3\n"})
    with pytest.raises(DataFormatError, match="20140532 in its member's name is no date"):
        open_recording(dated)


def test_formats_are_told_by_content(tmp_path: Path) -> None:
    assert detect_format(write_gzip(tmp_path / "a", HEADER)) is Format.TRADE_CSV
    assert (
        detect_format(write_gzip(tmp_path / "b", "01/05/2020 17:00:22.039,1.11612,1.11624\n")) is Format.DUKASCOPY_CSV
    )
    assert detect_format(write_gzip(tmp_path / "c", '1723161256188217466 {"data":1}\n')) is Format.DEPTH_FEED
    assert detect_format(write_zip(tmp_path / "d", {"20140508_eurusd_tick_quote.csv": ""})) is Format.QUOTE_ZIP
    assert detect_format(write_zip(tmp_path / "e", {TRADE_MEMBER: ""})) is Format.FUTURES_ZIP
    assert detect_format(write_scid(tmp_path / "f", [])) is Format.SCID
    (tmp_path / "g.bi5").touch()
    assert detect_format(tmp_path / "g.bi5") is Format.DUKASCOPY_BI5


def test_a_broker_that_is_not_known_is_said_to_be_assumed(tmp_path: Path) -> None:
    member = {"20140508_eurusd_tick_quote.csv": "1,2,3\n"}
    assert "assumed: the broker is not known" in open_recording(write_zip(tmp_path / "a.zip", member)).clock
    folder = tmp_path / "fxcm" / "tick" / "eurusd"
    folder.mkdir(parents=True)
    assert "documented for fxcm" in open_recording(write_zip(folder / "20140508_quote.zip", member)).clock


def test_suspicious_trades_are_counted_and_kept(tmp_path: Path) -> None:
    text = "1,1313.8,1,usa,,0\n2,1313.8,0,usa,,1\n"
    ticks, oddities = read_file(write_zip(tmp_path / "gc.zip", {TRADE_MEMBER: text}))
    assert (len(ticks), oddities.suspicious, oddities.zero_size) == (2, 1, 1)


def test_chunks_are_bounded(tmp_path: Path) -> None:
    recording = open_recording(write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "1,1,1\n" * 500_000))
    sizes = [len(each) for each in recording.chunks({"NQH0": 1})]
    assert (sum(sizes), max(sizes) <= CHUNK_TICKS) == (500_000, True)


def test_passes_are_independent_and_oddities_add_up(tmp_path: Path) -> None:
    recording = open_recording(write_gzip(tmp_path / "NQH0.csv.gz", HEADER + "1,1,1\n2,2,0\n"))
    oddities = Oddities()
    first = recording.chunks({"NQH0": 1}, oddities=oddities)
    second = recording.chunks({"NQH0": 1}, oddities=oddities)
    merged = join(merge_by_time([first, second]))
    assert merged["last"].tolist() == [1, 1, 2, 2]
    assert (oddities.rows, oddities.zero_size, oddities.equal_timestamps) == (4, 2, 0)


def test_a_name_can_be_given(tmp_path: Path) -> None:
    path = write_gzip(tmp_path / "_.csv.gz", HEADER)
    with pytest.raises(DataFormatError, match="its name begins with no instrument; give one as contract="):
        open_recording(path)
    (instrument,) = open_recording(path, ReadOptions(contract="MNQH25")).instruments
    assert (instrument.contract, instrument.root) == ("MNQH25", "MNQ")


@pytest.mark.parametrize(
    ("contract", "root"),
    [("NQH0", "NQ"), ("6EH0", "6E"), ("M2KU25", "M2K"), ("WINQ26", "WIN"), ("NAS100", "NAS100"), ("HK50", "HK50")],
)
def test_roots_are_guessed_from_contracts(tmp_path: Path, contract: str, root: str) -> None:
    (instrument,) = open_recording(write_gzip(tmp_path / f"{contract}.csv.gz", HEADER)).instruments
    assert (instrument.contract, instrument.root) == (contract, root)
