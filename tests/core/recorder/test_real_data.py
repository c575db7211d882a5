"""Real trades through a ring onto disk and from disk through a ring again: the same bits each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.formats.catalog import open_recording
from nexus_gateway.shm.recording.reader import open_recorded
from nexus_gateway.shm.symbols import Symbol, add_symbols
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter

from tests.support.recordings import make_recorder, recorded

TRADES = Path(__file__).resolve().parents[4] / "shared" / "data" / "cme-trades-2019-12-16"
CAPACITY = 1 << 17  # a chunk of the reader's fits twice


@pytest.fixture
def other_run_dir(tmp_path):
    folder = tmp_path / "run2"
    folder.mkdir(mode=0o700)
    return folder


def without_number(ticks):
    plain = ticks.copy()
    plain["seq"] = 0
    return plain.tobytes()


def test_real_trades_are_recorded_and_replayed_bit_for_bit(run_dir, other_run_dir, tmp_path):
    files = sorted(TRADES.glob("*.csv.gz"))
    if not files:
        pytest.skip("../shared/data is not there")
    writer = TickWriter(run_dir, "replay", Platform.REPLAY, capacity=CAPACITY)
    recorder, page = make_recorder(run_dir, tmp_path / "first", rotate_bytes=16 << 20, flush_ms=50)
    published = []
    with recorder:
        for path in files:
            source = open_recording(path)
            (instrument,) = source.instruments
            (symbol_id,) = add_symbols(run_dir, [Symbol(0, instrument.root, instrument.contract)])
            for chunk in source.chunks({instrument.contract: symbol_id}):
                published.append(chunk)
                writer.publish(chunk, stamp=False)
                while recorder.step():
                    pass
    everything = np.concatenate(published)
    first = recorded(open_recorded(tmp_path / "first"), "replay")
    assert without_number(first) == without_number(everything)
    assert (first["seq"] == np.arange(1, len(everything) + 1)).all()
    assert page.values()["ticks_lost"] == 0
    assert page.values()["ticks_recorded"] == len(everything)

    again = TickWriter(other_run_dir, "replay", Platform.REPLAY, capacity=CAPACITY)
    recorder, _ = make_recorder(other_run_dir, tmp_path / "second")
    names = set()
    with recorder:
        for file, ticks in open_recorded(tmp_path / "first").rings["replay"].arrays():
            names |= set(file.symbols.names().values())
            for start in range(0, len(ticks), CAPACITY // 2):
                again.publish(ticks[start : start + CAPACITY // 2], stamp=False)
                while recorder.step():
                    pass
    assert names == {open_recording(path).instruments[0].root for path in files}
    assert recorded(open_recorded(tmp_path / "second"), "replay").tobytes() == first.tobytes()
