"""The one reconnect policy: back-off, resubscription, staleness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nexus_gateway.adapters.feed import TickFeed
from nexus_gateway.adapters.session import SILENCE_S, AdapterSession, SessionPolicy
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.logs import process_log
from nexus_gateway.shm import layout
from nexus_gateway.shm.reader import TickReader
from nexus_gateway.shm.symbols import Symbol
from nexus_gateway.shm.tick import TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.support.feeds import ScriptedAdapter, close_feed, lost, make_feed, make_symbols, publish_quote

LOG = process_log("test")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def feed(tmp_path: Path):
    feed = make_feed(tmp_path)
    yield feed
    close_feed(feed)


@pytest.fixture
def symbols(tmp_path: Path) -> list[Symbol]:
    return make_symbols(tmp_path, "NQ", "ES")


def make_session(adapter: ScriptedAdapter, symbols: list[Symbol], clock: Clock, **policy: object) -> AdapterSession:
    chosen = SessionPolicy(first_backoff_s=1.0, longest_backoff_s=8.0, jitter=0.0, **policy)  # type: ignore[arg-type]
    return AdapterSession(adapter, symbols, chosen, LOG, monotonic_s=clock)


def read_all(feed: TickFeed) -> np.ndarray:
    out = empty_ticks(64)
    return out[: TickReader(feed.folder, feed.name, start="first").drain(out)].copy()


def test_connects_subscribes_and_polls(feed, symbols):
    adapter = ScriptedAdapter(feed, [0, 3])
    session = make_session(adapter, symbols, Clock())
    assert session.step(0.0) == 0
    assert session.step(0.0) == 3
    assert adapter.calls == ["connect", "subscribe", "poll"]
    assert [symbol.name for symbol in adapter.subscribed] == ["NQ", "ES"]
    values = feed.counters.values()
    assert (values["connects"], values["link_up"], values["symbols_subscribed"]) == (1, 1, 2)
    assert values["ticks_published"] == 3


def test_pauses_double_up_to_the_longest_until_data_flows(feed, symbols):
    clock = Clock()
    # Connecting alone does not count as recovery: the third attempt connects, and the link is lost before any tick.
    adapter = ScriptedAdapter(feed, [lost(), lost(), 0, lost(), lost(), lost(), 0, 1, lost(), 0])
    session = make_session(adapter, symbols, clock)
    pauses = []
    while adapter.script:
        attempt_s = clock.now_s
        calls = len(adapter.calls)
        while len(adapter.calls) == calls:
            clock.now_s += 0.25
            session.step(0.0)
        if adapter.calls[calls] == "connect":
            pauses.append(clock.now_s - attempt_s)
    # One poll lies between the third and fourth connect, and two between the sixth and the last.
    assert pauses == [0.25, 1.0, 2.0, 4.0, 8.0, 8.0, 1.0]
    assert feed.counters.values()["connect_failures"] == 4
    assert feed.counters.values()["links_lost"] == 2


def test_jitter_only_shortens(feed, symbols):
    clock = Clock()
    adapter = ScriptedAdapter(feed, [lost(), 0])
    policy = SessionPolicy(first_backoff_s=1.0, longest_backoff_s=8.0, jitter=0.5)
    session = AdapterSession(adapter, symbols, policy, LOG, monotonic_s=clock, random_fraction=lambda: 1.0)
    session.step(0.0)
    clock.now_s += 0.49
    session.step(0.0)
    assert adapter.calls.count("connect") == 1
    clock.now_s += 0.02
    session.step(0.0)
    assert adapter.calls.count("connect") == 2


def test_a_lost_link_marks_the_last_quotes_stale_once(feed, symbols):
    clock = Clock()
    adapter = ScriptedAdapter(feed, [0, 2, lost(), lost(), lost()])
    session = make_session(adapter, symbols, clock)
    for _ in range(5):
        session.step(0.0)
        clock.now_s += 10
    ticks = read_all(feed)
    assert len(ticks) == 3  # NQ once; ES has had no tick and gets no invented one
    assert ticks[-1]["flags"] == TickFlag.STALE
    assert ticks[-1]["bid"] == 100.0
    assert feed.counters.values()["stale_marks"] == 1
    assert feed.counters.values()["link_up"] == 0


def test_a_predecessors_quotes_are_marked_stale_before_this_process_beats(tmp_path, symbols):
    first = make_feed(tmp_path)
    publish_quote(first, 1, 100.0, 100.25)
    close_feed(first)
    second = make_feed(tmp_path)
    make_session(ScriptedAdapter(second, []), symbols, Clock())
    ticks = read_all(second)
    assert list(ticks["flags"]) == [3, TickFlag.STALE]
    close_feed(second)


def test_a_mute_link_is_opened_anew(feed, symbols):
    clock = Clock()
    adapter = ScriptedAdapter(feed, [0, 1, 0, 0, 0])
    session = make_session(adapter, symbols, clock, silence_s=5.0)
    session.step(0.0)
    session.step(0.0)
    clock.now_s += 5.5
    session.step(0.0)
    assert adapter.calls[-1] == "close"
    assert feed.counters.values()["silences"] == 1
    clock.now_s += 2
    session.step(0.0)
    assert adapter.calls[-2:] == ["connect", "subscribe"]


@pytest.mark.parametrize(
    ("chosen_s", "hours_known", "silence_s"),
    [(None, True, SILENCE_S), (None, False, 0.0), (5.0, False, 5.0), (600.0, True, 600.0), (0.0, True, 0.0)],
)
def test_silence_is_a_fault_unless_the_market_is_the_platforms_own_or_it_is_switched_off(
    feed, symbols, chosen_s, hours_known, silence_s
):
    policy = SessionPolicy(silence_s=chosen_s).with_default_silence(hours_known)
    assert policy.silence_s == silence_s
    clock = Clock()
    adapter = ScriptedAdapter(feed, [0, 1, 0, 0])
    session = make_session(adapter, symbols, clock, silence_s=policy.silence_s)
    session.step(0.0)
    session.step(0.0)
    clock.now_s += 10_000
    session.step(0.0)
    assert feed.counters.values()["silences"] == bool(silence_s)


def test_a_configuration_error_is_not_retried(feed, symbols):
    session = make_session(ScriptedAdapter(feed, [ConfigError("port was 0; use 1 to 65535")]), symbols, Clock())
    with pytest.raises(ConfigError, match="port was 0"):
        session.step(0.0)


def test_close_is_honest(feed, symbols):
    adapter = ScriptedAdapter(feed, [0, 1])
    session = make_session(adapter, symbols, Clock())
    session.step(0.0)
    session.step(0.0)
    session.close()
    assert adapter.calls[-1] == "close"
    assert read_all(feed)[-1]["flags"] == TickFlag.STALE


def test_a_row_that_a_predecessor_left_half_written_is_marked_stale_without_prices(tmp_path, symbols):
    first = make_feed(tmp_path)
    publish_quote(first, 1, 100.0, 100.25)
    board = (tmp_path / "nt8.board").open("r+b")
    row = layout.BOARD.size_bytes + layout.TICK_BYTES
    board.seek(row)
    board.write(bytes(8))  # seq 0: what a kill in the middle of the row leaves
    board.close()
    close_feed(first)
    second = make_feed(tmp_path)
    make_session(ScriptedAdapter(second, []), symbols, Clock())
    mark = read_all(second)[-1]
    assert (mark["flags"], mark["symbol"]) == (TickFlag.STALE, 1)
    assert np.isnan(mark["bid"])
    close_feed(second)


def test_ticks_that_a_predecessor_published_and_did_not_count_are_counted(tmp_path, symbols):
    first = make_feed(tmp_path)
    publish_quote(first, 1, 100.0, 100.25)
    first.counters.counter("ticks_published").set(0)  # killed between publishing and counting
    close_feed(first)
    second = make_feed(tmp_path)
    assert second.counters.values()["ticks_published"] == 1
    close_feed(second)
