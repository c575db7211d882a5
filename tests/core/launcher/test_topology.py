"""Cores and caches: read as Linux describes them, and the findings about a pinning."""

from __future__ import annotations

from pathlib import Path

import pytest
from nexus_gateway.core.launcher.topology import Cache, Topology, parse_cores, read_topology, show_cores
from nexus_gateway.shm import host

L2 = (Cache(2, "Unified", 1 << 20, (0, 1)), Cache(2, "Unified", 1 << 20, (2, 3)))
L3 = (Cache(3, "Unified", 32 << 20, (0, 1, 2, 3)),)
FOUR = Topology((0, 1, 2, 3), L3 + L2)


@pytest.mark.parametrize(
    ("text", "cores"), [("0", (0,)), ("0-3", (0, 1, 2, 3)), ("0-1,4,8-9", (0, 1, 4, 8, 9)), ("0,2", (0, 2))]
)
def test_core_lists_round_trip(text: str, cores: tuple[int, ...]) -> None:
    assert parse_cores(text) == cores
    assert show_cores(cores) == text


def test_reads_what_the_system_describes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "available_cores", lambda: (0, 1))
    for core in (0, 1):
        caches = {"index0": ("1", "Data", "48K", str(core)), "index1": ("3", "Unified", "32M", "0-1")}
        for index, values in caches.items():
            folder = tmp_path / f"cpu{core}" / "cache" / index
            folder.mkdir(parents=True)
            for name, value in zip(("level", "type", "size", "shared_cpu_list"), values, strict=True):
                (folder / name).write_text(value + "\n")
        (tmp_path / f"cpu{core}" / "topology").mkdir()
        (tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list").write_text("0-1\n")
    topology = read_topology(tmp_path)
    assert topology.caches == (
        Cache(3, "Unified", 32 << 20, (0, 1)),
        Cache(1, "Data", 48 << 10, (0,)),
        Cache(1, "Data", 48 << 10, (1,)),
    )
    assert topology.siblings == ((0, 1),)
    assert topology.describe() == [
        "cores: 0-1",
        "threads of one core: 0-1",
        "L3 unified cache, 32768 KiB: cores 0-1",
    ]


def test_a_system_that_tells_nothing_is_fine(tmp_path: Path) -> None:
    topology = read_topology(tmp_path)
    assert topology.cores == host.available_cores()
    assert (topology.caches, topology.siblings) == ((), ())
    assert topology.warn({"a": topology.cores[:1]}) == []


def test_names_cores_that_are_not_there() -> None:
    assert FOUR.find_missing({"a": (0, 4, 5), "b": (), "c": (3,)}) == {"a": (4, 5)}


def test_shows_who_is_pinned_where() -> None:
    assert FOUR.describe_pinning({"nt8": (0, 1), "recorder": ()}) == ["nt8: cores 0-1", "recorder: any core"]


@pytest.mark.parametrize(
    ("topology", "pinned", "spinning", "finding"),
    [
        (FOUR, {"a": (1,), "b": (1,)}, (), "core 1 is the only one of a, b: each waits while another runs"),
        (
            Topology((0, 1, 2, 3), L3, ((0, 1), (2, 3))),
            {"a": (0,), "b": (1,)},
            (),
            "a, b are pinned to threads 0-1 of one physical core: they share its speed",
        ),
        (FOUR, {"a": ()}, ("a",), "a spins and is pinned nowhere: the system moves it; give it a core of its own"),
        (FOUR, {"a": (1,), "b": (1, 2)}, ("a",), "a spins on cores 1, which b use too"),
        (
            Topology((0, 1)),
            {"a": (0,), "b": (1,)},
            ("a", "b"),
            "2 processes spin on 2 cores, at most 1 should; set `idle: backoff`",
        ),
        (
            Topology((0, 1, 2, 3), L2),
            {"a": (0,), "b": (2,)},
            (),
            "pinned cores share no last-level cache (0-1 | 2-3): ticks between them take several times longer",
        ),
    ],
)
def test_finds_what_costs_latency(
    topology: Topology, pinned: dict[str, tuple[int, ...]], spinning: tuple[str, ...], finding: str
) -> None:
    assert topology.warn(pinned, spinning) == [finding]


@pytest.mark.parametrize(
    ("pinned", "spinning"),
    [({"a": (), "b": ()}, ()), ({"a": (0,), "b": (1,)}, ("a",)), ({"a": (0, 1), "b": (0, 1)}, ())],
)
def test_says_nothing_about_a_good_pinning(pinned: dict[str, tuple[int, ...]], spinning: tuple[str, ...]) -> None:
    assert FOUR.warn(pinned, spinning) == []
