"""NEXUS's view: names, platforms, best quotes, honesty about staleness, rings that come and go, asyncio."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from nexus_gateway.nexus_link.async_ticks import TickWaiter
from nexus_gateway.nexus_link.example import feature_reader, features
from nexus_gateway.nexus_link.example.feature_reader import FeatureReader
from nexus_gateway.nexus_link.market_view import MarketView
from nexus_gateway.shm import layout
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.idle import Backoff
from nexus_gateway.shm.run_folder import remove_stale_segments
from nexus_gateway.shm.symbols import SymbolDirectory
from nexus_gateway.shm.tick import Platform, TickFlag
from nexus_gateway.shm.writer import empty_ticks

from tests.support.feeds import close_feed, make_feed, make_symbols, publish_quote
from tests.support.patience import patient
from tests.support.shm_processes import linux_only


@pytest.fixture
def feeds(tmp_path: Path):
    make_symbols(tmp_path, "NQ", "ES")
    made = [make_feed(tmp_path, "nt8", Platform.NT8), make_feed(tmp_path, "sierra", Platform.SIERRA)]
    for feed in made:
        feed.beat()
    yield made
    for feed in made:
        close_feed(feed)


def test_latest_and_best(feeds, tmp_path):
    nt8, sierra = feeds
    view = MarketView(tmp_path)
    assert view.latest("NQ") is None
    assert view.latest("UNKNOWN") is None
    publish_quote(nt8, 1, 100.0, 100.5)
    publish_quote(sierra, 1, 100.25, 100.75)
    assert view.latest("NQ").platform == "sierra"
    quote = view.latest("NQ", platform="nt8")
    assert (quote.bid, quote.ask, quote.platform, quote.is_stale) == (100.0, 100.5, "nt8", False)
    assert math.isnan(quote.last)
    assert 0 <= quote.age_s < 60
    assert view.latest("NQ", platform="bookmap") is None
    best = view.best("NQ")
    assert (best.bid.platform, best.offer.platform, best.spread) == ("sierra", "nt8", 0.25)
    assert view.best("ES").bid is None
    assert view.best("ES").spread is None
    view.close()


def test_a_stale_quote_is_never_the_best(feeds, tmp_path):
    nt8, sierra = feeds
    publish_quote(nt8, 1, 100.0, 100.5)
    publish_quote(sierra, 1, 100.25, 100.75)
    sierra.mark_stale(SymbolDirectory.attach(tmp_path).entries())
    view = MarketView(tmp_path)
    assert view.latest("NQ", platform="sierra").is_stale
    assert view.best("NQ").bid.platform == "nt8"
    nt8.close()
    assert view.latest("NQ", platform="nt8").is_stale  # closed, whatever its flags say
    assert view.best("NQ").bid is None
    view.close()


def test_a_writer_that_stopped_beating_is_stale(feeds, tmp_path, monkeypatch):
    publish_quote(feeds[0], 1, 100.0, 100.5)
    view = MarketView(tmp_path)
    assert not view.latest("NQ", platform="nt8").is_stale
    later_ns = time.monotonic_ns() + 3_000_000_000
    monkeypatch.setattr(time, "monotonic_ns", lambda: later_ns)
    assert view.latest("NQ", platform="nt8").is_stale
    monkeypatch.undo()
    view.close()


def test_a_beat_from_before_a_reboot_is_stale(feeds, tmp_path, monkeypatch):
    """The run folder can lie on a disk, and the monotonic clock begins anew."""
    publish_quote(feeds[0], 1, 100.0, 100.5)
    view = MarketView(tmp_path)
    earlier_ns = time.monotonic_ns() - 3_000_000_000
    monkeypatch.setattr(time, "monotonic_ns", lambda: earlier_ns)
    assert view.latest("NQ", platform="nt8").is_stale
    monkeypatch.undo()
    view.close()


def test_a_live_quote_goes_before_a_newer_stale_mark(feeds, tmp_path):
    nt8, sierra = feeds
    publish_quote(sierra, 1, 99.0, 99.5)
    publish_quote(nt8, 1, 100.0, 100.5)
    view = MarketView(tmp_path)
    assert view.latest("NQ").platform == "nt8"
    nt8.mark_stale(view.directory.entries())
    newest = view.latest("NQ")
    assert (newest.platform, newest.is_stale) == ("sierra", False)
    sierra.mark_stale(view.directory.entries())
    assert view.latest("NQ").is_stale
    view.close()


def test_a_ring_without_its_board_yet_leaves_no_cursor(feeds, tmp_path):
    """A replay at full speed waits for every cursor."""
    board = tmp_path / "nt8.board"
    board.rename(tmp_path / "hidden")
    view = MarketView(tmp_path, platforms=["nt8"])
    assert view.platforms == []
    assert list(tmp_path.glob("*.cursor")) == []
    (tmp_path / "hidden").rename(board)
    view.refresh()
    assert view.platforms == ["nt8"]
    view.close()


def test_a_one_sided_market_has_one_side(feeds, tmp_path):
    publish_quote(feeds[0], 2, 50.0, math.nan)
    view = MarketView(tmp_path)
    best = view.best("ES")
    assert best.bid.bid == 50.0
    assert best.offer is None
    view.close()


def test_only_wanted_symbols_and_platforms_are_delivered(feeds, tmp_path):
    view = MarketView(tmp_path, symbols=["ES"], platforms=["nt8"])
    publish_quote(feeds[0], 1, 1.0, 2.0)
    publish_quote(feeds[0], 2, 3.0, 4.0)
    publish_quote(feeds[1], 2, 5.0, 6.0)
    out = empty_ticks(8)
    assert view.drain(out) == 1
    assert out[0]["bid"] == 3.0
    assert view.read == 2  # the unwanted one was read and dropped, not lost
    assert view.platforms == ["nt8"]
    view.close()


def test_a_symbol_added_later_is_taken_in(feeds, tmp_path):
    view = MarketView(tmp_path, symbols=["YM"])
    make_symbols(tmp_path, "YM")
    view.refresh()
    publish_quote(feeds[0], view.symbol_id("YM"), 1.0, 2.0)
    assert view.drain(empty_ticks(8)) == 1
    view.close()


def test_rings_that_come_later_or_are_made_anew(feeds, tmp_path):
    view = MarketView(tmp_path)
    late = make_feed(tmp_path, "bookmap", Platform.BOOKMAP)
    publish_quote(late, 1, 7.0, 8.0)
    view.refresh()
    out = empty_ticks(8)
    publish_quote(late, 1, 7.0, 8.0)
    assert view.drain(out) == 2  # what it got before we saw it is news, too
    close_feed(late)
    bigger = make_feed(tmp_path, "bookmap", Platform.BOOKMAP, capacity=128)
    publish_quote(bigger, 1, 9.0, 10.0)
    view.refresh()
    assert view.drain(out) == 1
    assert out[0]["bid"] == 9.0
    assert (view.read, view.lost, view.torn) == (3, 0, 0)
    close_feed(bigger)
    view.close()


def test_what_was_left_unread_in_a_ring_that_was_made_anew_is_lost(feeds, tmp_path):
    view = MarketView(tmp_path)
    for bid in (1.0, 2.0, 3.0):
        publish_quote(feeds[0], 1, bid, 5.0)
    assert view.drain(empty_ticks(1)) == 1
    close_feed(feeds.pop(0))
    feeds.append(make_feed(tmp_path, "nt8", Platform.NT8, capacity=128))
    publish_quote(feeds[-1], 1, 4.0, 5.0)
    view.refresh()
    out = empty_ticks(8)
    assert out[: view.drain(out)]["bid"].tolist() == [4.0]
    assert (view.read, view.lost) == (2, 2)
    view.close()


def test_a_long_wait_hears_a_ring_that_comes_meanwhile(tmp_path):
    """NEXUS is started before its gateway, or waits while that is restarted."""
    make_symbols(tmp_path, "NQ")
    view = MarketView(tmp_path)
    made = []

    def come() -> None:
        made.append(make_feed(tmp_path, "nt8", Platform.NT8))
        publish_quote(made[0], 1, 1.0, 2.0)

    threading.Timer(0.3, come).start()
    assert view.wait(timeout_s=300)
    assert view.drain(empty_ticks(8)) == 1
    made.append(make_feed(tmp_path, "sierra", Platform.SIERRA))

    async def scenario() -> None:
        async with TickWaiter(view) as waiter:
            threading.Timer(0.3, publish_quote, (made[1], 1, 3.0, 4.0)).start()
            assert await waiter.wait(timeout_s=300)

    asyncio.run(scenario())
    assert view.drain(empty_ticks(8)) == 1
    view.close()
    for feed in made:
        close_feed(feed)


@linux_only  # elsewhere nobody removes what a reader has mapped
def test_names_of_a_new_run_never_find_the_prices_of_the_old_one(feeds, tmp_path):
    """All was killed and started again at once, with other symbols: the old boards beat a moment ago."""
    view = MarketView(tmp_path)
    publish_quote(feeds[0], 1, 18_000.0, 18_001.0)
    publish_quote(feeds[0], 1, 18_000.0, 18_001.0)
    assert view.drain(empty_ticks(1)) == 1
    for path in [*tmp_path.glob("*.ticks"), *tmp_path.glob("*.board"), *tmp_path.glob("*.symbols")]:
        path.unlink()
    view.refresh()
    assert view.latest("NQ") is None
    make_symbols(tmp_path, "ES", "NQ")
    view.refresh()
    assert (view.latest("ES"), view.latest("NQ"), view.platforms) == (None, None, [])
    assert (view.read, view.lost) == (1, 1)
    close_feed(feeds.pop(0))
    (tmp_path / "nt8.counters").unlink()
    feeds.append(make_feed(tmp_path, "nt8", Platform.NT8))
    publish_quote(feeds[-1], 2, 18_005.0, 18_006.0)
    view.refresh()
    assert view.latest("NQ").bid == 18_005.0
    assert view.latest("ES") is None
    assert view.drain(empty_ticks(8)) == 1
    view.close()


@linux_only
def test_rings_of_a_lost_directory_are_never_attached_again(feeds, tmp_path):
    """They lie in the folder until the launcher has ended their writers."""
    view = MarketView(tmp_path)
    publish_quote(feeds[0], 1, 18_000.0, 18_001.0)
    assert view.drain(empty_ticks(8)) == 1
    (tmp_path / "directory.symbols").unlink()
    view.refresh()
    assert (view.platforms, view.drain(empty_ticks(8))) == ([], 0)
    make_symbols(tmp_path, "ES", "NQ")  # by an adapter that has not ended yet: id 1 means another symbol
    view.refresh()
    assert (view.latest("ES"), view.platforms, view.drain(empty_ticks(8))) == (None, [], 0)
    assert not list(tmp_path.glob("*.cursor"))
    remade = []
    for feed, platform in zip(feeds, (Platform.NT8, Platform.SIERRA), strict=True):
        close_feed(feed)
        for path in tmp_path.glob(f"{feed.name}.*"):
            path.unlink()
        remade.append(make_feed(tmp_path, feed.name, platform))
    feeds[:] = remade
    publish_quote(feeds[0], 2, 18_005.0, 18_006.0)
    view.refresh()
    assert (view.latest("NQ").bid, view.latest("ES")) == (18_005.0, None)
    out = empty_ticks(8)
    assert out[: view.drain(out)]["bid"].tolist() == [18_005.0]
    assert (view.read, view.lost) == (2, 0)
    view.close()


@linux_only
def test_a_view_made_between_a_loss_and_the_rebuild_lets_go_of_the_old_rings(feeds, tmp_path):
    publish_quote(feeds[0], 1, 18_000.0, 18_001.0)
    (tmp_path / "directory.symbols").unlink()
    view = MarketView(tmp_path)
    for path in [*tmp_path.glob("*.ticks"), *tmp_path.glob("*.board")]:
        path.unlink()
    make_symbols(tmp_path, "ES", "NQ")
    view.refresh()
    assert (view.latest("ES"), view.platforms) == (None, [])
    view.close()


@linux_only
def test_features_do_not_mix_the_symbols_of_two_runs(tmp_path, run_dir):
    """A gateway that is started with other symbols gives the ids out anew, and NEXUS lives on."""
    make_symbols(run_dir, "NQ", "ES")
    first = make_feed(run_dir)
    page = CountersPage.create(run_dir, "nexus", feature_reader.COUNTERS, feature_reader.HISTOGRAMS)
    reader = FeatureReader(run_dir, page, Backoff())
    for bid in (18_000.0, 18_001.0):
        publish_quote(first, 1, bid, bid + 1)
    reader.step(1.0)
    first.mark_stale(SymbolDirectory.attach(run_dir).entries())
    reader.step(1.0)
    assert reader.features_of("NQ")["mid"] == 18_001.5
    close_feed(first)
    for suffix in ("*.ticks", "*.board", "*.symbols", "nt8.counters"):
        for path in run_dir.glob(suffix):
            path.unlink()
    make_symbols(run_dir, "GC", "NQ")
    second = make_feed(run_dir)
    publish_quote(second, 1, 2_000.0, 2_001.0)
    publish_quote(second, 2, 18_010.0, 18_011.0)
    reader.view.refresh()
    reader.step(1.0)
    assert reader.features_of("ES") is None
    gold, nasdaq = reader.features_of("GC"), reader.features_of("NQ")
    assert (gold["ticks"], gold["mid"], nasdaq["ticks"], nasdaq["mid"]) == (1, 2_000.5, 1, 18_010.5)
    assert math.isnan(gold["variance_ewma"]), "the price of another market before it is no move"
    assert (page.values()["ticks_read"], page.values()["stale_marks_read"]) == (4, 1)
    reader.close()
    page.close()
    close_feed(second)


def test_an_empty_run_folder_is_no_error(tmp_path):
    view = MarketView(tmp_path)
    assert view.latest("NQ") is None
    assert view.drain(empty_ticks(8)) == 0
    assert not view.wait(0.0)
    assert view.directory is None


def test_run_calls_a_users_kernel_in_place(feeds, tmp_path):
    @numba.njit
    def count(tick, state):
        state[tick.symbol] += tick.bid

    view = MarketView(tmp_path)
    for _ in range(5):
        publish_quote(feeds[0], 1, 2.0, 3.0)
        publish_quote(feeds[1], 2, 10.0, 11.0)
    totals = np.zeros(8)
    assert view.run(count, totals) == 10
    assert list(totals[:3]) == [0.0, 10.0, 50.0]
    view.close()


def test_features_of_the_example(feeds, tmp_path):
    view = MarketView(tmp_path)
    state = features.make_features()
    features.learn_tick_sizes(state, view.directory)
    publish_quote(feeds[0], 1, 100.0, 100.5)
    publish_quote(feeds[0], 1, 100.25, 100.75)
    trade = empty_ticks(2)
    trade["symbol"], trade["last"], trade["last_size"] = 1, [100.75, 100.25], [2, 3]
    trade["flags"] = [TickFlag.TRADE | TickFlag.BUYER, TickFlag.TRADE | TickFlag.SELLER]
    feeds[0].publish(trade)
    feeds[0].mark_stale(view.directory.entries())
    assert view.run(features.update_features, state) == 5
    row = features.summarize(state, view.directory)["NQ"]
    assert (row["ticks"], row["trades"], row["size_sum"], row["price_sum"], row["flow"]) == (4, 2, 5.0, "201.00", -1.0)
    assert state[1]["stale_marks"] == 1
    assert "ES" not in features.summarize(state, view.directory)
    view.close()


def test_asyncio_wait_wakes_up_and_times_out_without_blocking_the_loop(feeds, tmp_path):
    view = MarketView(tmp_path)

    async def scenario() -> None:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        async with TickWaiter(view) as waiter:
            counting = asyncio.create_task(count_turns())
            assert not await waiter.wait(timeout_s=0.5)
            assert turns > 2  # else the wait stood in the loop's way; a busy machine may give the loop few turns
            threading.Timer(0.05, publish_quote, (feeds[0], 1, 1.0, 2.0)).start()
            assert await waiter.wait(timeout_s=patient(30))
            assert view.drain(empty_ticks(8)) == 1
            first = asyncio.create_task(waiter.wait(timeout_s=0.2))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one wait at a time"):
                await waiter.wait(timeout_s=0.1)
            assert not await first
            counting.cancel()

    asyncio.run(scenario())
    view.close()


def test_asyncio_wait_that_was_cancelled_does_not_answer_the_next(feeds, tmp_path):
    view = MarketView(tmp_path)

    async def scenario() -> None:
        async with TickWaiter(view) as waiter:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiter.wait(timeout_s=0.3), 0.02)
            threading.Timer(0.6, publish_quote, (feeds[0], 1, 1.0, 2.0)).start()
            assert await waiter.wait(timeout_s=patient(30))
            assert await waiter.wait(timeout_s=0.0)  # it is still there
            pending = asyncio.create_task(waiter.wait(timeout_s=patient(30)))
            view.drain(empty_ticks(8))
            await asyncio.sleep(0)
        await pending  # leaving answers it

    asyncio.run(scenario())
    view.close()


def test_two_brokers_prices_do_not_make_a_market_that_jumps(feeds, tmp_path):
    view = MarketView(tmp_path)
    state = features.make_features()
    nt8, sierra = feeds
    for _ in range(50):
        publish_quote(nt8, 1, 100.0, 100.5)
        publish_quote(sierra, 1, 110.0, 110.5)
    view.run(features.update_features, state)
    assert (state[1]["ticks"], state[1]["mid"], state[1]["variance_ewma"]) == (100, 100.25, 0.0)
    nt8.mark_stale(view.directory.entries())
    publish_quote(sierra, 1, 110.0, 110.5)  # takes over, and its first price is no move
    publish_quote(sierra, 1, 110.0, 110.5, flags=3 | TickFlag.ROLL)
    publish_quote(sierra, 1, 120.0, 120.5, flags=3 | TickFlag.ROLL)  # neither is the first of a new contract
    view.run(features.update_features, state)
    assert (state[1]["mid"], state[1]["variance_ewma"]) == (120.25, 0.0)
    publish_quote(nt8, 1, 100.0, 100.5)
    publish_quote(sierra, 1, 121.0, 121.5)
    view.run(features.update_features, state)
    assert state[1]["mid"] == 121.25
    assert state[1]["variance_ewma"] > 0
    view.close()


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xee" * path.stat().st_size)


@linux_only
@pytest.mark.parametrize("damage", [lambda path: os.truncate(path, 0), overwrite, Path.unlink])
@pytest.mark.parametrize("names", [("nt8.ticks",), ("nt8.board",), ("directory.symbols",), ()])
def test_files_that_are_lost_leave_the_view_alive_and_it_attaches_to_the_new_ones(tmp_path, names, damage):
    """Without names: the whole folder. NEXUS has these files mapped, too: their loss must not end it."""
    make_symbols(tmp_path, "NQ", "ES")
    feed = make_feed(tmp_path, "nt8", Platform.NT8)
    view = MarketView(tmp_path)
    for _ in range(3):
        publish_quote(feed, 1, 100.0, 100.5)
    feed.beat()
    assert not view.latest("NQ").is_stale
    for path in [tmp_path / name for name in names] or list(tmp_path.iterdir()):
        damage(path)
    out = empty_ticks(64)
    for _ in range(2):
        view.drain(out)
        view.wait(0.01)
        quote = view.latest("NQ")
        assert quote is None or quote.is_stale or (quote.bid, quote.ask) == (100.0, 100.5), "old or none, never wrong"
        view.refresh()
    publish_quote(feed, 1, 100.0, 100.5)  # its adapter does not know yet
    close_feed(feed)
    remove_stale_segments(tmp_path)  # as the launcher does before it makes the directory anew
    if "directory.symbols" in names or not names:
        (tmp_path / "directory.symbols").unlink(missing_ok=True)
    make_symbols(tmp_path, "ES", "NQ")  # the ids are others in a new directory
    symbol_id = SymbolDirectory.attach(tmp_path).id_of("NQ")
    feed = make_feed(tmp_path, "nt8", Platform.NT8)
    publish_quote(feed, symbol_id, 200.0, 200.5)
    feed.beat()
    view.refresh()
    view.refresh()
    assert (view.latest("NQ").bid, view.latest("ES")) == (200.0, None)
    count = view.drain(out)
    assert out[:count]["bid"].tolist()[-1] == 200.0
    assert view.symbol_id("NQ") == symbol_id
    view.close()
    close_feed(feed)


@linux_only
@pytest.mark.parametrize("name", ["nt8.ticks", "nt8.board"])
@pytest.mark.parametrize("field", ["capacity", "platform"])
def test_a_file_with_noise_in_its_header_is_not_attached(feeds, tmp_path, name, field):
    """By its capacity a reader would leave the mapping, and the process would end."""
    kind = layout.RING if name.endswith(".ticks") else layout.BOARD
    with (tmp_path / name).open("r+b") as file:
        file.seek(kind.offset(field))
        file.write(b"\xee" * 8)
    view = MarketView(tmp_path)
    assert view.platforms == ["sierra"]
    view.close()
