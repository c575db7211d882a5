"""Quote board: the newest record of each symbol, a row at a time, also next to writers that died."""

from __future__ import annotations

import numpy as np
import pytest
from nexus_gateway.shm import layout
from nexus_gateway.shm.quotes import QuoteBoard
from nexus_gateway.shm.segment import SegmentError, SegmentState
from nexus_gateway.shm.tick import TICK_DTYPE, Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks


@pytest.fixture
def writer(run_dir):
    writer = TickWriter(run_dir, "sim", Platform.SIM, capacity=8, board_rows=4)
    yield writer
    writer.close()


def publish(writer, symbols):
    records = empty_ticks(len(symbols))
    records["symbol"] = symbols
    records["bid"] = np.arange(len(symbols))
    writer.publish(records)


def test_the_newest_record_of_each_symbol(run_dir, writer):
    board = QuoteBoard(run_dir, "sim")
    assert board.latest(1) is None
    publish(writer, [1, 2, 1, 3])
    newest = board.latest(1)
    assert (newest["seq"], newest["bid"], newest["symbol"]) == (3, 2, 1)
    assert board.latest(2)["seq"] == 2
    assert board.latest(0) is None
    publish(writer, [1])
    assert board.latest(1)["seq"] == 5
    assert newest["seq"] == 3, "what was handed out is a copy"
    assert newest.dtype == TICK_DTYPE
    assert (board.name, board.platform, board.rows) == ("sim", Platform.SIM, 4)


def test_symbols_beyond_the_board_are_published_without_it(run_dir, writer):
    publish(writer, [4, 3, 65535])
    assert writer.tail == 3
    board = QuoteBoard(run_dir, "sim")
    assert board.latest(3)["seq"] == 2
    for symbol in (-1, 4):
        with pytest.raises(IndexError, match=f"symbol id was {symbol}; the board of 'sim' has rows 0 to 3"):
            board.latest(symbol)


def test_a_row_left_half_written_counts_as_empty_until_the_next_tick(run_dir, writer):
    publish(writer, [1])
    board = QuoteBoard(run_dir, "sim")
    rows = writer._board.bytes[layout.BOARD.size_bytes :].view(TICK_DTYPE)
    rows["seq"][1] = 0  # the writer died between its first and last store
    rows["bid"][1] = 999
    assert board.latest(1) is None
    publish(writer, [1])
    assert board.latest(1)["bid"] == 0


@pytest.mark.parametrize("noise", [b"\xee", b"\x00", b"x"])
def test_a_row_that_somebody_has_overwritten_holds_no_price_until_the_next_tick(run_dir, writer, noise):
    """The head may be whole: nothing else would tell before the adapter's next tick of that symbol."""
    publish(writer, [1, 2])
    board = QuoteBoard(run_dir, "sim")
    with writer._board.path.open("r+b") as file:
        file.seek(layout.BOARD.size_bytes)
        file.write(noise * (writer._board.path.stat().st_size - layout.BOARD.size_bytes))
    assert board.latest(1) is None
    publish(writer, [1])
    assert board.latest(1)["bid"] == 0
    assert board.latest(2) is None


def test_the_board_tells_of_its_writer(run_dir, writer):
    board = QuoteBoard(run_dir, "sim")
    writer.beat()
    assert board.heartbeat_age_ns() >= 0
    assert not board.is_replaced()
    assert board.state() is SegmentState.LIVE
    writer.close()
    assert board.state() is SegmentState.CLOSED


def test_no_board(run_dir):
    with pytest.raises(SegmentError, match="no such segment"):
        QuoteBoard(run_dir, "sim")
