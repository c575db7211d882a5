"""Counters and histograms: kernels equal their twins, percentiles keep their bound, counts survive a restart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_gateway.shm import layout, run_folder
from nexus_gateway.shm.counters import CountersPage, HistogramSnapshot, bucket_bounds
from nexus_gateway.shm.histogram import observe_value
from nexus_gateway.shm.segment import SegmentInUseError, SegmentState, inspect

from tests import naive
from tests.support import shm_children
from tests.support.shm_processes import kill, linux_only, running, wait_for

_LARGEST = (1 << 63) - 1


@pytest.fixture
def page(run_dir):
    page = CountersPage.create(run_dir, "worker", ["ticks", "errors"], ["latency_ns", "size_bytes"])
    yield page
    page.close()


def test_counters_are_seen_by_other_processes(run_dir, page):
    ticks, errors = page.counter("ticks"), page.counter("errors")
    ticks.add(5)
    ticks.add()
    errors.set(-3)
    other = CountersPage.attach(run_dir, "worker")
    assert other.values() == {"ticks": 6, "errors": -3}
    assert other.state() is SegmentState.LIVE
    ticks.add()
    assert other.counter("ticks").value == 7
    with pytest.raises(TypeError, match="read-only"):
        other.counter("ticks").add()


def test_unknown_names_list_the_known_ones(page):
    with pytest.raises(KeyError, match="was 'tick'; this page has ticks, errors"):
        page.counter("tick")
    with pytest.raises(KeyError, match="latency_ns, size_bytes"):
        page.histogram("latency")
    with pytest.raises(KeyError, match="latency_ns, size_bytes"):
        page.histogram_address("ticks")


@pytest.mark.parametrize(
    "names", [[""], ["x" * 57], ["é"], ["a", "a"], ["a\0"]], ids=["empty", "long", "not ascii", "twice", "zero byte"]
)
def test_names_are_checked(run_dir, names):
    # A name that is cut in the page would not equal itself after a restart: the counts would be thrown away silently.
    with pytest.raises(ValueError, match="name was"):
        CountersPage.create(run_dir, "other", names)
    with pytest.raises(ValueError, match="name was"):
        CountersPage.create(run_dir, "other", [], names)


def test_the_longest_name_fits(run_dir):
    name = "x" * 56
    page = CountersPage.create(run_dir, "other", [name])
    page.counter(name).add(3)
    page.close()
    assert CountersPage.create(run_dir, "other", [name]).values() == {name: 3}


def test_counts_survive_a_clean_restart(run_dir, page):
    page.counter("ticks").add(9)
    observe_value(page.histogram_address("latency_ns"), 77)
    page.close()
    assert CountersPage.attach(run_dir, "worker").state() is SegmentState.CLOSED
    again = CountersPage.create(run_dir, "worker", ["ticks", "errors"], ["latency_ns", "size_bytes"])
    assert again.values()["ticks"] == 9
    assert again.histogram("latency_ns").count == 1
    assert again.segment.field("incarnation") == 2
    again.close()


def test_other_names_begin_a_new_page(run_dir, page):
    page.counter("ticks").add(9)
    page.close()
    other = CountersPage.create(run_dir, "worker", ["ticks", "faults"], ["latency_ns", "size_bytes"])
    assert other.values() == {"ticks": 0, "faults": 0}
    other.close()


@linux_only
def test_counts_survive_kill_9_and_one_process_has_the_page(run_dir, monkeypatch):
    monkeypatch.setattr("nexus_gateway.shm.segment._LOCK_PATIENCE_S", 0.02)
    with running(shm_children.count_for_ever, run_dir) as child:
        path = run_folder.counters_path(run_dir, "counting")
        wait_for(lambda: inspect(path, layout.COUNTERS) is SegmentState.LIVE, "the page")
        wait_for(lambda: CountersPage.attach(run_dir, "counting").values()["done"] > 1000, "counts")
        with pytest.raises(SegmentInUseError, match=f"process {child.pid}"):
            CountersPage.create(run_dir, "counting", ["done"])
        kill(child)
    dead = CountersPage.attach(run_dir, "counting")
    assert dead.state() is SegmentState.DEAD_WRITER
    before = dead.values()["done"]
    page = CountersPage.create(run_dir, "counting", ["done"])
    assert page.values() == {"done": before}
    page.close()


@given(st.lists(st.integers(-5, _LARGEST) | st.integers(-5, 3000), min_size=1, max_size=60))
def test_histogram_kernel_equals_its_twin(values):
    histogram = np.zeros(1, layout.HISTOGRAM.dtype)
    for value in values:
        observe_value(int(histogram.ctypes.data), value)
    row = histogram[0]
    shown = [max(value, 0) for value in values]
    expected = np.zeros(layout.HISTOGRAM_BUCKETS, np.uint64)
    for value in shown:
        expected[naive.bucket_of(value)] += 1
    assert (row["buckets"] == expected).all()
    assert (row["count"], row["minimum"], row["maximum"]) == (len(shown), min(shown), max(shown))
    assert int(row["sum"]) & (1 << 64) - 1 == sum(shown) & (1 << 64) - 1


def test_bounds_are_those_of_the_buckets():
    expected_low = 0
    for bucket in range(layout.HISTOGRAM_BUCKETS):
        low, high = bucket_bounds(bucket)
        assert low == expected_low, "no gap and no overlap"
        assert naive.bucket_of(low) == naive.bucket_of(high - 1) == bucket
        expected_low = high
    assert expected_low == 1 << 63, "the last bucket ends with the largest value"


@given(st.lists(st.integers(0, _LARGEST) | st.integers(0, 5000), min_size=1, max_size=60), st.floats(0, 100))
def test_percentiles_keep_their_bound(values, percent):
    histogram = np.zeros(1, layout.HISTOGRAM.dtype)
    for value in values:
        observe_value(int(histogram.ctypes.data), value)
    row = histogram[0]
    snapshot = HistogramSnapshot(
        "x", int(row["count"]), int(row["sum"]), int(row["minimum"]), int(row["maximum"]), row["buckets"].copy()
    )
    exact = sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]
    assert abs(snapshot.percentile(percent) - exact) <= max(exact * 0.016, 0.5)


def test_an_empty_histogram_has_no_percentile(page):
    assert math.isnan(page.histogram("latency_ns").percentile(50))


def test_the_page_beats(run_dir, page):
    other = CountersPage.attach(run_dir, "worker")
    before = other.segment.field("heartbeat_ns")
    page.beat()
    assert other.segment.field("heartbeat_ns") > before


def test_a_page_that_is_opened_has_no_heartbeat_yet_also_when_a_predecessor_had_one(run_dir, page):
    other = CountersPage.attach(run_dir, "worker")
    assert other.last_beat_ns() is None
    page.beat()
    assert other.last_beat_ns() is not None
    page.close()
    again = CountersPage.create(run_dir, "worker", ["ticks", "errors"], ["latency_ns", "size_bytes"])
    assert other.last_beat_ns() is None
    again.close()
