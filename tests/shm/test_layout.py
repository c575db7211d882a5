"""Layouts: the pictures in LAYOUTS.md are the code's own, offsets are sums, hot words have their cache lines alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.shm import layout
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag

_SHM = Path(layout.__file__).parent


def test_pictures_are_those_of_the_code():
    assert (_SHM / "LAYOUTS.md").read_text(encoding="utf-8") == layout.describe_all()


def test_module_prints_the_pictures():
    printed = subprocess.run(
        [sys.executable, "-m", "nexus_gateway.shm.layout"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert printed.stdout == layout.describe_all()


@pytest.mark.parametrize("structure", layout.ALL, ids=lambda structure: structure.name)
def test_offsets_are_the_running_sum_and_words_are_aligned(structure):
    position = 0
    for field in structure.fields:
        assert structure.offset(field.name) == position
        if field.code in ("<u8", "<i8", "<f8"):
            assert position % 8 == 0, f"{field.name} would not be one load"
        position += field.size_bytes + field.pad_bytes
    assert structure.size_bytes == position
    assert f"{position} bytes" in structure.picture()


def test_the_largest_platform_id_is_that_of_the_platforms():
    assert max(Platform) == layout.LARGEST_PLATFORM


def test_unknown_field_is_refused():
    with pytest.raises(KeyError):
        layout.TICK.offset("price")


@pytest.mark.parametrize("structure", layout.ALL, ids=lambda structure: structure.name)
def test_every_segment_begins_with_the_common_header(structure):
    if not structure.magic:
        return
    assert structure.fields[: len(layout.HEADER_FIELDS)] == layout.HEADER_FIELDS
    assert len(structure.magic) == 8
    assert structure.version >= 1


def test_magics_are_distinct():
    magics = [structure.magic for structure in layout.ALL if structure.magic]
    assert len(set(magics)) == len(magics)


def test_hot_words_have_a_pair_of_cache_lines_alone():
    tail = layout.RING.offset("tail")
    assert tail % layout.HOT_WORD_BYTES == 0
    assert layout.RING.size_bytes - tail == layout.HOT_WORD_BYTES, "slot 0 would share the tail's lines"
    others = [layout.RING.offset(field.name) for field in layout.RING.fields if field.name != "tail"]
    assert all(offset < tail for offset in others)


@pytest.mark.parametrize("structure", [layout.RING, layout.BOARD], ids=lambda structure: structure.name)
def test_records_begin_on_a_cache_line(structure):
    assert structure.size_bytes % layout.TICK_BYTES == 0


def test_rows_of_pages_begin_on_a_cache_line():
    for structure in (layout.COUNTERS, layout.COUNTER, layout.HISTOGRAM, layout.SYMBOLS, layout.SYMBOL):
        assert structure.size_bytes % 64 == 0, structure.name
    assert layout.CURSOR.offset("next_seq") % 64 == 0


def test_tick_is_one_cache_line_little_endian():
    assert TICK_DTYPE.itemsize == 64
    assert [(name, TICK_DTYPE[name].str.lstrip("<|"), TICK_DTYPE.fields[name][1]) for name in TICK_DTYPE.names] == [
        ("seq", "u8", 0),
        ("ts_event_ns", "i8", 8),
        ("ts_recv_ns", "i8", 16),
        ("bid", "f8", 24),
        ("ask", "f8", 32),
        ("last", "f8", 40),
        ("bid_size", "f4", 48),
        ("ask_size", "f4", 52),
        ("last_size", "f4", 56),
        ("symbol", "u2", 60),
        ("source", "u1", 62),
        ("flags", "u1", 63),
    ]
    one = np.zeros(1, TICK_DTYPE)
    one["seq"], one["symbol"] = 0x0102030405060708, 0x0A0B
    assert one.tobytes()[:8] == bytes([8, 7, 6, 5, 4, 3, 2, 1])
    assert one.tobytes()[60:62] == bytes([0x0B, 0x0A])


def test_flags_fit_their_byte_and_platforms_theirs():
    assert sum(TickFlag) == 255
    assert all(platform <= 255 for platform in Platform)


def test_platform_names_go_both_ways():
    for platform in Platform:
        if platform is not Platform.NONE:
            assert Platform.parse(platform.key) is platform
    with pytest.raises(ValueError, match=r"was 'none'.*mt5, mt5_br"):
        Platform.parse("none")
