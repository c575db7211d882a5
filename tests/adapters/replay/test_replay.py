"""The replay adapter in the test's own process: pace, room for readers, seeking, looping, going on after a crash."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.feed import TickFeed
from nexus_gateway.adapters.replay.adapter import ReplayAdapter
from nexus_gateway.core.errors import ConfigError, DataFormatError
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.recording.file import Follows, RecordingHeader
from nexus_gateway.shm.recording.writer import RecordingFileWriter
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.support.feeds import close_feed, make_replay_feed, make_symbols
from tests.support.market_files import write_bi5
from tests.support.recordings import numbered_ticks

START_MS = 1_576_500_000_000


def write_trades(path: Path, times_ms: list[int], first_price: float = 8000.0) -> Path:
    lines = [f"{START_MS + ms},{first_price + 0.25 * i},{i + 1}" for i, ms in enumerate(times_ms)]
    with gzip.open(path, "wt") as file:
        file.write("epoch_ms,price,size\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def feed(tmp_path: Path):
    feed = make_replay_feed(tmp_path)
    yield feed
    close_feed(feed)


def start_replay(
    feed: TickFeed, *paths: Path, symbols: tuple[str, ...] = ("NQ", "ES"), **settings: object
) -> ReplayAdapter:
    adapter = ReplayAdapter(feed, {"files": [{"path": str(path)} for path in paths], **settings})
    adapter.connect()
    adapter.subscribe(make_symbols(feed.folder, *symbols))
    return adapter


def play(adapter: ReplayAdapter, feed: TickFeed, most_turns: int = 100_000) -> None:
    for _ in range(most_turns):
        adapter.poll(0.001)
        if feed.counters.values()["replay_finished"]:
            return
    raise AssertionError("the replay did not end")


def published(feed: TickFeed) -> np.ndarray:
    """Without the stale marks at the end."""
    out = empty_ticks(4096)
    ticks = out[: TickReader(feed.folder, feed.name, start="first").drain(out)]
    return ticks[ticks["flags"] != TickFlag.STALE]


def test_several_files_are_merged_by_time_and_carry_their_own_values(feed, tmp_path):
    nq = write_trades(tmp_path / "NQH0.csv.gz", [0, 20, 20, 40])
    es = write_trades(tmp_path / "ESH0.csv.gz", [10, 20, 50], first_price=3000.0)
    adapter = start_replay(feed, nq, es, speed=0)
    play(adapter, feed)
    ticks = published(feed)
    assert [int(t) // 1_000_000 - START_MS for t in ticks["ts_event_ns"]] == [0, 10, 20, 20, 20, 40, 50]
    assert list(ticks["symbol"]) == [1, 2, 1, 1, 2, 1, 2]  # file order inside one millisecond
    assert list(ticks["last"][ticks["symbol"] == 1]) == [8000.0, 8000.25, 8000.5, 8000.75]
    assert set(ticks["source"]) == {Platform.REPLAY}
    assert np.all(ticks["flags"] & TickFlag.TRADE)
    assert np.all(np.isnan(ticks["bid"]))
    assert np.all(np.abs(ticks["ts_recv_ns"] - time.time_ns()) < 3600 * 10**9)  # stamped at publication
    assert feed.counters.values()["rows"] == 7
    assert feed.counters.values()["equal_timestamps"] == 1


def test_recorded_receive_times_can_be_kept(feed, tmp_path):
    adapter = start_replay(feed, write_trades(tmp_path / "NQH0.csv.gz", [0, 5]), speed=0, keep_times=True)
    play(adapter, feed)
    ticks = published(feed)
    assert np.array_equal(ticks["ts_recv_ns"], ticks["ts_event_ns"])


def test_full_speed_never_overwrites_what_a_reader_has_not_read(tmp_path):
    feed = make_replay_feed(tmp_path, capacity=16)
    count = 500
    adapter = start_replay(feed, write_trades(tmp_path / "NQH0.csv.gz", list(range(count))), speed=0)
    reader = TickReader(tmp_path, "replay", start="first", cursor="slow")
    out = empty_ticks(3)
    sizes: list[float] = []
    flags: list[int] = []
    for _ in range(5000):
        adapter.poll(0.0)
        got = reader.drain(out)
        sizes += out["last_size"][:got].tolist()
        flags += out["flags"][:got].tolist()
    assert sizes[:-1] == [float(i + 1) for i in range(count)]
    assert flags[-1] == TickFlag.STALE  # nobody may take the last quote for live when the replay is over
    assert reader.lost == 0
    reader.close()
    close_feed(feed)


def test_readers_are_waited_for(feed, tmp_path):
    adapter = start_replay(feed, write_trades(tmp_path / "NQH0.csv.gz", [0, 1]), speed=0, wait_for_readers=1)
    for _ in range(5):
        assert adapter.poll(0.0) == 0
    reader = TickReader(tmp_path, "replay", cursor="late")
    time.sleep(0.3)  # the adapter looks for cursors four times a second
    play(adapter, feed)
    assert reader.drain(empty_ticks(8)) == 3  # with the stale mark at the end
    reader.close()


def test_speed_scales_recorded_time(feed, tmp_path):
    path = write_trades(tmp_path / "NQH0.csv.gz", [0, 1000, 2000])
    adapter = start_replay(feed, path, speed=10.0)
    began = time.monotonic()
    moments = []
    while len(moments) < 3:
        moments += [time.monotonic() - began] * adapter.poll(0.01)
    # Never early; how late is the machine's affair.
    assert moments[0] >= 0.0
    assert moments[1] >= 0.1
    assert moments[2] >= 0.2


def test_a_step_back_in_time_is_due_with_the_tick_before_it(feed, tmp_path):
    path = write_trades(tmp_path / "NQH0.csv.gz", [0, 100, 50, 200])
    adapter = start_replay(feed, path, speed=1000.0)
    play(adapter, feed)
    ticks = published(feed)
    assert [int(t) // 1_000_000 - START_MS for t in ticks["ts_event_ns"]] == [0, 100, 50, 200]
    assert feed.counters.values()["stepped_back"] == 1


def test_seeking_and_looping(feed, tmp_path):
    path = write_trades(tmp_path / "NQH0.csv.gz", [0, 60_000, 120_000])
    adapter = start_replay(feed, path, speed=0, loop=True, start="2019-12-16T12:40:30")
    assert START_MS == 1_576_500_000_000  # 2019-12-16T12:40:00 UTC
    for _ in range(60):
        adapter.poll(0.0)
        if feed.counters.values()["replay_passes"] == 2:
            break
    ticks = published(feed)
    assert [int(t) // 1_000_000 - START_MS for t in ticks["ts_event_ns"]][:4] == [60_000, 120_000] * 2


def test_after_a_crash_it_goes_on_behind_the_last_tick(tmp_path):
    count = 50
    path = write_trades(tmp_path / "NQH0.csv.gz", list(range(count)))
    first = make_replay_feed(tmp_path, capacity=16)
    adapter = start_replay(first, path, speed=0)
    TickReader(tmp_path, "replay", cursor="holds-it-back")  # room for 8, half the ring
    while first.writer.tail < 8:
        adapter.poll(0.0)
    first.mark_stale(make_symbols(tmp_path, "NQ"))  # as its successor does before its first tick
    first.publish_roll(1, None)  # nor is the first tick of a new contract one of the recording's
    close_feed(first)
    second = make_replay_feed(tmp_path, capacity=16)
    for cursor in tmp_path.glob("*.cursor"):
        cursor.unlink()
    adapter = start_replay(second, path, speed=0)
    reader = TickReader(tmp_path, "replay", start="first", cursor="all")
    out = empty_ticks(64)
    sizes: list[float] = []
    for _ in range(1000):
        adapter.poll(0.0)
        got = reader.drain(out)
        sizes += [float(tick["last_size"]) for tick in out[:got] if not tick["flags"] & TickFlag.STALE]
    assert sizes == [float(i + 1) for i in range(count)]
    reader.close()
    close_feed(second)


def test_refusals_name_value_and_cure(feed, tmp_path):
    path = write_trades(tmp_path / "CLF0.csv.gz", [0])
    with pytest.raises(ConfigError, match=r"holds CLF0, which is none of this platform's symbols; add CL or CLF0"):
        start_replay(feed, path, speed=0)
    with pytest.raises(ConfigError, match="start was 'yesterday'"):
        ReplayAdapter(feed, {"files": [{"path": str(path)}], "start": "yesterday"})
    with pytest.raises(ConfigError, match="files was empty"):
        ReplayAdapter(feed, {"files": []})
    with pytest.raises(ConfigError, match="sped"):
        ReplayAdapter(feed, {"files": [{"path": str(path)}], "sped": 2})
    with pytest.raises(ConfigError, match="speed"):
        ReplayAdapter(feed, {"files": [{"path": str(path)}], "speed": -1})


def test_a_broken_line_stops_the_replay_behind_the_good_ones(feed, tmp_path):
    path = tmp_path / "NQH0.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write(f"epoch_ms,price,size\n{START_MS},8000,1\n{START_MS},8000.25,nonsense\n{START_MS},8000.5,1\n")
    adapter = start_replay(feed, path, speed=0)
    with pytest.raises(DataFormatError, match="line 3"):
        play(adapter, feed)
    assert feed.writer.tail == 1
    tolerant = ReplayAdapter(feed, {"files": [{"path": str(path), "on_error": "count"}], "speed": 0})
    tolerant.connect()
    tolerant.subscribe(make_symbols(tmp_path, "NQ"))
    play(tolerant, feed)
    assert feed.counters.values()["bad_lines"] == 1


def test_full_speed_pauses_while_its_reader_is_away(tmp_path):
    feed = make_replay_feed(tmp_path, capacity=16)
    path = write_trades(tmp_path / "NQH0.csv.gz", list(range(100)))
    first = TickReader(tmp_path, "replay", start="first", cursor="nexus")
    adapter = start_replay(feed, path, speed=0, wait_for_readers=1)
    adapter.poll(0.0)
    assert feed.writer.tail == 8  # half the ring
    first.close()
    time.sleep(0.3)  # the adapter looks for cursors four times a second
    for _ in range(5):
        assert adapter.poll(0.0) == 0
    second = TickReader(tmp_path, "replay", start=first.next_seq, cursor="nexus")
    time.sleep(0.3)
    out = empty_ticks(16)
    sizes: list[float] = []
    for _ in range(200):
        adapter.poll(0.0)
        got = out[: second.drain(out)]
        sizes += got["last_size"][got["flags"] != TickFlag.STALE].tolist()  # a finished replay marks its last quotes
    assert sizes == [float(i + 1) for i in range(100)]
    assert second.lost == 0
    second.close()
    close_feed(feed)


def test_a_loop_over_nothing_ends_and_says_so(feed, tmp_path, caplog):
    """It would decode the file again and again, and burn a core."""
    path = write_trades(tmp_path / "NQH0.csv.gz", [0, 1])
    adapter = start_replay(feed, path, speed=0, loop=True, start="2030-01-01")
    play(adapter, feed, most_turns=10)
    assert len(published(feed)) == 0
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage() == "nothing to play: no tick in the recordings"
    assert warning.fields == {"start": "2030-01-01"}


def test_the_clock_of_each_recording_is_logged_and_an_assumed_one_is_a_warning(feed, tmp_path, caplog):
    caplog.set_level("INFO")
    trades = write_trades(tmp_path / "NQH0.csv.gz", [0])
    export = tmp_path / "ES.csv"
    export.write_text(
        "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n2020.01.06\t00:00:00.066\t1\t2\t\t\t6\n"
    )
    start_replay(feed, trades, export, speed=0)
    said = {record.levelname: record.fields["clock"] for record in caplog.records}
    assert said == {
        "INFO": "+0 s to UTC (the format is UTC)",
        "WARNING": "+0 s to UTC (assumed: the export does not tell the server's clock)",
    }


def test_what_a_file_does_not_tell_can_be_given(feed, tmp_path):
    path = write_bi5(tmp_path / "HK50_ticks.bi5", [(5, 23_456_781, 23_456_779, 1.0, 1.75)])
    given = {"path": str(path), "contract": "NQ", "base": "2019-02-04T10:00", "price_decimals": 3}
    adapter = ReplayAdapter(feed, {"files": [given], "speed": 0})
    adapter.connect()
    adapter.subscribe(make_symbols(tmp_path, "NQ"))
    play(adapter, feed)
    (tick,) = published(feed)
    assert (tick["ask"], tick["bid"]) == (23_456.781, 23_456.779)
    assert tick["ts_event_ns"] == 1_549_274_400_005_000_000
    for wrong, text in (
        ({"base": "today"}, "base was 'today'"),
        ({"format": "xlsx"}, "format was 'xlsx', must be one of trade-csv"),
    ):
        with pytest.raises(ConfigError, match=text):
            ReplayAdapter(feed, {"files": [given | wrong]})
    for wrong, text in (
        ({"add_s": 1_576_500_000}, "add_s was 1576500000; it must be -604800 to 604800"),
        ({"base": "2019-02-04T10:00+01:00"}, "leave the zone out"),
        ({"price_multiplier": "0"}, "price_multiplier was 0"),
    ):
        with pytest.raises(ConfigError, match=text):
            ReplayAdapter(feed, {"files": [given | wrong]}).connect()


def test_a_recording_whose_symbols_are_gone_is_refused(feed, tmp_path, run_dir):
    folder = tmp_path / "ticks" / "nt8"
    folder.mkdir(parents=True)
    ticks = numbered_ticks(1, 3)
    header = RecordingHeader(1, 1, "nt8", Platform.NT8, 7, 1, 0, Follows.NOTHING)
    writer = RecordingFileWriter(folder, header, [])
    writer.append(ticks)
    writer.close()
    adapter = start_replay(feed, tmp_path / "ticks", speed=0)
    with pytest.raises(DataFormatError, match="which its symbol table lacks"):
        play(adapter, feed)
