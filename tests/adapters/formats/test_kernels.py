"""The jitted kernels of the decoders against their plain-Python twins."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexus_gateway.adapters.formats import Oddities, carry_forward, make_carry_state, merge_by_time
from nexus_gateway.adapters.formats.delimited import BLANK, Column, Kind, Rows, Table, parse_rows
from nexus_gateway.adapters.formats.oddities import Audit
from nexus_gateway.adapters.formats.recording import new_ticks
from nexus_gateway.shm.tick import TickArray, TickFlag

from tests.support.format_twins import carry, merge, parse_line
from tests.support.market_files import join

COLUMNS = (
    Column("first", "."),
    Column("second", ","),
    Column("blank or not", ";", Kind.OPTIONAL),
    Column("text", ",", Kind.TEXT),
    Column("last", "\n"),
)
ENDS = np.array([ord(each.end) for each in COLUMNS], np.uint8)
KINDS = np.array([each.kind for each in COLUMNS], np.uint8)

numbers = st.decimals(-(10**9), 10**9, places=5).map(lambda value: f"{value:f}") | st.integers(0, 10**6).map(str)
good_lines = st.tuples(
    st.integers(0, 9999).map(str),
    numbers,
    st.just("") | numbers,
    st.text("abc 1-", max_size=4),
    numbers,
    st.sampled_from(["\n", "\r\n"]),
).map(lambda parts: f"{parts[0]}.{parts[1]},{parts[2]};{parts[3]},{parts[4]}{parts[5]}")
any_lines = st.text("019.-,;x e\r", max_size=24).map(lambda text: text + "\n")


def parse(text: str, rows: int = 64) -> tuple[int, int, int, np.ndarray, np.ndarray]:
    data = np.frombuffer(bytearray(text.encode()), np.uint8)
    mantissas = np.zeros((rows, len(COLUMNS)), np.int64)
    scales = np.zeros((rows, len(COLUMNS)), np.int8)
    return *parse_rows(data, 0, data.size, ENDS, KINDS, mantissas, scales), mantissas, scales


@settings(deadline=None, max_examples=300)
@given(st.lists(good_lines | any_lines, min_size=1, max_size=8))
def test_parser_equals_its_twin(lines: list[str]) -> None:
    count, position, broken, mantissas, scales = parse("".join(lines))
    at = 0
    for row, line in enumerate(lines):
        expected = parse_line(line, COLUMNS)
        if isinstance(expected, int):
            assert (count, position, broken) == (row, at, expected)
            return
        for column, value in enumerate(expected):
            if COLUMNS[column].kind == Kind.TEXT:
                continue
            if value is None:
                assert scales[row, column] == BLANK
            else:
                assert Decimal(int(mantissas[row, column])).scaleb(-int(scales[row, column])) == value
        at += len(line)
    assert (count, position, broken) == (len(lines), at, -1)


def test_parser_stops_when_the_output_is_full() -> None:
    line = "1.2,3;x,4\n"
    assert parse(line * 5, rows=3)[:3] == (3, 3 * len(line), -1)


@pytest.mark.parametrize(
    "text", ["", "-", ".", "-.", "+1", "1e5", "nan", "NaN", "inf", "1_0", " 1", "1 ", "0x1", "1.2.3"]
)
def test_parser_refuses_what_is_no_plain_decimal(text: str) -> None:
    count, position, broken, *_ = parse(f"1.2,3;x,{text}\n")
    assert (count, position, broken) == (0, 0, 4)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("123456789012345678", True),
        ("1234567890123456789", False),
        ("1.1200000000000000000000000", True),  # zeros at the end of a fraction say nothing
        ("1.12000000000000000000000001", False),
        ("10000000000000000000", False),
        ("0.000000000000000001", True),
        ("0.0000000000000000000", True),
        ("0.0000000000000000001", False),
    ],
)
def test_parser_takes_all_digits_or_refuses(text: str, fits: bool) -> None:
    count, _, broken, mantissas, scales = parse(f"1.2,3;x,{text}\n")
    assert (count, broken) == ((1, -1) if fits else (0, 4))
    if fits:
        assert Decimal(int(mantissas[0, 4])).scaleb(-int(scales[0, 4])) == Decimal(text)


def rows_of(values: list[str]) -> Rows:
    table = Table("test", (Column("value", "\n", Kind.OPTIONAL),), None, True, Oddities())
    (rows,) = table.read(iter(["".join(f"{value}\n" for value in values).encode()]))
    return rows


@settings(deadline=None, max_examples=300)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**8), max_value=10**8)))
def test_a_decimal_becomes_the_nearest_float(values: list[Decimal]) -> None:
    texts = [f"{value:f}" for value in values] + ["-0.00000001", "26946.25", "1.12275", "123456789.012345678", ""]
    assert rows_of(texts).decimals(0).tolist()[:-1] == [float(text) for text in texts[:-1]]
    assert np.isnan(rows_of(texts).decimals(0)[-1])


def test_scaled_values_are_exact_and_within_limits() -> None:
    rows = rows_of(["42.4312", "0", "86399999.999999", "5.1234567", "-1", "86400000"])
    ns = rows.scaled(0, 6, 0, 86_400 * 10**9 - 1)
    assert ns[:3].tolist() == [42_431_200, 0, 86_399_999_999_999]
    ticks = new_ticks(6)
    accepted = rows.accepted(ticks)
    assert len(next(accepted)) == 3
    with pytest.raises(
        Exception,
        match=r"test: line 4: was value 5.1234567; expected value from 0 / 10\*\*6 to 86399999999999 / 10\*\*6",
    ):
        next(accepted)


prices = st.sampled_from([float("nan"), 1.0, 2.0, 3.0])
ticks_strategy = st.lists(
    st.tuples(st.integers(0, 20), prices, prices, prices, prices, st.integers(0, 3), st.integers(0, 7)), max_size=30
)


def make_ticks(rows: list[tuple[int, float, float, float, float, int, int]]) -> TickArray:
    ticks = new_ticks(len(rows))
    for tick, (time, bid, ask, last, size, symbol, flags) in zip(ticks, rows, strict=True):
        tick["ts_event_ns"] = tick["ts_recv_ns"] = time
        tick["bid"], tick["ask"], tick["last"] = bid, ask, last
        tick["bid_size"] = tick["ask_size"] = tick["last_size"] = size
        tick["symbol"], tick["flags"] = symbol, flags
    return ticks


def as_dicts(ticks: TickArray) -> list[dict[str, float]]:
    assert ticks.dtype.names is not None
    return [dict(zip(ticks.dtype.names, tick.item(), strict=True)) for tick in ticks]


@settings(deadline=None)
@given(ticks_strategy, ticks_strategy)
def test_carry_forward_equals_its_twin(first: list, second: list) -> None:
    state, known = make_carry_state(4), {}
    for rows in (first, second):
        ticks = make_ticks(rows)
        expected = list(carry(as_dicts(ticks), known))
        carry_forward(ticks, state)
        assert [str(each) for each in as_dicts(ticks)] == [str(each) for each in expected]  # NaN equals NaN as text


def test_an_unknown_size_beside_a_new_price_stays_unknown() -> None:
    state = make_carry_state(1)
    ticks = new_ticks(3)
    ticks["flags"] = [TickFlag.BID, TickFlag.BID, TickFlag.TRADE]
    ticks["bid"], ticks["bid_size"] = [1.0, 2.0, np.nan], [5, np.nan, np.nan]
    carry_forward(ticks, state)
    assert ticks["bid"].tolist() == [1.0, 2.0, 2.0]
    assert ticks["bid_size"][0] == 5
    assert np.isnan(ticks["bid_size"][1:]).all()


def test_carry_forward_refuses_a_symbol_beyond_its_state() -> None:
    ticks = new_ticks(1)
    ticks["symbol"] = 2
    with pytest.raises(IndexError, match="make it larger"):
        carry_forward(ticks, make_carry_state(2))


@settings(deadline=None)
@given(ticks_strategy, st.integers(1, 7))
def test_oddities_equal_their_definition_whatever_the_chunks(rows: list, size: int) -> None:
    ticks = make_ticks(rows)
    oddities = Oddities()
    audit = Audit(oddities)
    for start in range(0, len(ticks), size):
        audit.add(ticks[start : start + size])
    times = ticks["ts_event_ns"]
    quotes = ticks[ticks["flags"] & 3 == 3]
    trades = ticks[ticks["flags"] & 4 != 0]
    pairs = list(zip(as_dicts(quotes), as_dicts(quotes)[1:], strict=False))
    assert oddities.rows == len(ticks)
    assert oddities.equal_timestamps == int((np.diff(times) == 0).sum())
    assert oddities.stepped_back == int((np.diff(times) < 0).sum())
    assert oddities.crossed == int((quotes["bid"] > quotes["ask"]).sum())
    assert oddities.locked == int((quotes["bid"] == quotes["ask"]).sum())
    assert oddities.zero_size == int((trades["last_size"] == 0).sum())
    assert oddities.repeated_quotes == sum(
        a["bid"] == b["bid"] and a["ask"] == b["ask"] and (a["bid_size"] == b["bid_size"] or np.isnan(b["bid_size"]))
        for a, b in pairs
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 12), max_size=25), st.integers(1, 6)), max_size=4))
def test_merge_equals_its_twin_whatever_the_chunks(inputs: list[tuple[list[int], int]]) -> None:
    streams = []
    for number, (times, _) in enumerate(inputs):
        ticks = new_ticks(len(times))
        ticks["ts_recv_ns"], ticks["symbol"], ticks["seq"] = times, number, np.arange(len(times))
        streams.append(ticks)
    chunked = [
        [ticks[start : start + size] for start in range(0, len(ticks), size)]
        for ticks, (_, size) in zip(streams, inputs, strict=True)
    ]
    merged = join(merge_by_time(chunked))
    assert list(zip(merged["symbol"].tolist(), merged["seq"].tolist(), strict=True)) == merge(streams)


def test_merge_holds_one_chunk_of_each_stream() -> None:
    waiting = {"made": 0, "merged": 0}

    def stream(symbol: int):  # an hour of chunks, one a minute
        for minute in range(60):
            ticks = new_ticks(10)
            ticks["ts_recv_ns"], ticks["symbol"] = minute * 60 + np.arange(10), symbol
            waiting["made"] += 10
            yield ticks

    for ticks in merge_by_time([stream(1), stream(2), stream(3)]):
        assert waiting["made"] - waiting["merged"] <= 30
        waiting["merged"] += len(ticks)
    assert waiting["merged"] == 1800


def test_merge_gives_all_ticks_before_a_stream_breaks() -> None:
    def broken():
        ticks = new_ticks(2)
        ticks["ts_recv_ns"] = [1, 4]
        yield ticks
        raise ValueError("here")

    other = new_ticks(3)
    other["ts_recv_ns"] = [2, 3, 9]
    merged = merge_by_time([broken(), [other]])
    assert next(merged)["ts_recv_ns"].tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="here"):
        next(merged)
