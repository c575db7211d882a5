"""Symbol directory: ids are given once, concurrent adders get distinct ones, attached readers see every roll whole."""

from __future__ import annotations

import math

import pytest
from nexus_gateway.shm import run_folder, symbols
from nexus_gateway.shm.segment import SegmentError
from nexus_gateway.shm.symbols import CAPACITY, DirectoryFullError, Symbol, SymbolDirectory, add_symbols, roll_symbol

from tests.support import shm_children
from tests.support.shm_processes import finish, start


def test_ids_begin_at_one_and_never_change(run_dir):
    assert add_symbols(run_dir, [Symbol(0, "NQ", "NQH5", 0.25), Symbol(0, "ES")]) == [1, 2]
    assert add_symbols(run_dir, [Symbol(0, "ES", "other"), Symbol(0, "CL"), Symbol(0, "NQ")]) == [2, 3, 1]
    directory = SymbolDirectory.attach(run_dir)
    assert len(directory) == 3
    assert directory.entry(1) == Symbol(1, "NQ", "NQH5", 0.25)
    assert directory.entry(2).contract == "", "what is known about a symbol is not overwritten by adding it again"
    assert math.isnan(directory.entry(3).tick_size)
    assert [entry.name for entry in directory.entries()] == ["NQ", "ES", "CL"]
    assert directory.id_of("CL") == 3
    assert directory.id_of("GC") is None


def test_a_name_twice_in_one_call_gets_one_id(run_dir):
    assert add_symbols(run_dir, [Symbol(0, "NQ"), Symbol(0, "NQ")]) == [1, 1]


def test_attached_readers_see_what_is_added_and_rolled_later(run_dir):
    add_symbols(run_dir, [Symbol(0, "NQ", "NQZ4", 0.25)])
    directory = SymbolDirectory.attach(run_dir)
    assert directory.id_of("ES") is None
    add_symbols(run_dir, [Symbol(0, "ES")])
    assert directory.id_of("ES") == 2
    rolled = roll_symbol(run_dir, "NQ", "NQH5", 1_734_000_000_000_000_000)
    assert rolled == directory.entry(1)
    assert (rolled.contract, rolled.generation, rolled.rolled_ns) == ("NQH5", 1, 1_734_000_000_000_000_000)


def test_no_directory_yet(run_dir):
    with pytest.raises(SegmentError, match="no such segment"):
        SymbolDirectory.attach(run_dir)


def test_names_are_measured_in_bytes(run_dir):
    widest = "é" * 16
    assert add_symbols(run_dir, [Symbol(0, widest, widest)]) == [1]
    assert SymbolDirectory.attach(run_dir).entry(1).name == widest
    for bad in (Symbol(0, "é" * 17), Symbol(0, "NQ", "x" * 33)):
        with pytest.raises(ValueError, match="at most 32 bytes"):
            add_symbols(run_dir, [Symbol(0, "GOOD"), bad])
    with pytest.raises(ValueError, match="empty"):
        add_symbols(run_dir, [Symbol(0, "")])
    with pytest.raises(ValueError, match="ends with a zero byte"):
        add_symbols(run_dir, [Symbol(0, "NQ\0")])
    assert len(SymbolDirectory.attach(run_dir)) == 1, "nothing of a refused call is added"


def test_a_contract_that_is_too_long_is_refused_at_a_roll(run_dir):
    # It used to be cut silently: orders would have named another contract.
    add_symbols(run_dir, [Symbol(0, "NQ", "NQZ4", 0.25)])
    with pytest.raises(ValueError, match="at most 32 bytes"):
        roll_symbol(run_dir, "NQ", "x" * 33, 1)
    assert SymbolDirectory.attach(run_dir).entry(1) == Symbol(1, "NQ", "NQZ4", 0.25)


def test_the_directory_fills_up_and_says_so(run_dir):
    names = [Symbol(0, f"S{i}") for i in range(CAPACITY - 1)]
    assert add_symbols(run_dir, names) == list(range(1, CAPACITY))
    with pytest.raises(DirectoryFullError, match=f"would hold {CAPACITY} symbols, at most {CAPACITY - 1}; stop the"):
        add_symbols(run_dir, [Symbol(0, "ONE-MORE")])
    assert add_symbols(run_dir, [Symbol(0, "S7")]) == [8], "known names still get their answer"


@pytest.mark.parametrize("symbol_id", [-1, 0, 2, 70_000])
def test_an_id_that_was_not_given_out(run_dir, symbol_id):
    add_symbols(run_dir, [Symbol(0, "NQ")])
    with pytest.raises(KeyError, match=f"symbol id was {symbol_id}; the directory has 1 to 1"):
        SymbolDirectory.attach(run_dir).entry(symbol_id)


def test_rolling_an_unknown_symbol(run_dir):
    add_symbols(run_dir, [Symbol(0, "NQ")])
    with pytest.raises(KeyError, match="symbol was 'ES'"):
        roll_symbol(run_dir, "ES", "ESH5", 1)


def test_concurrent_adders_get_distinct_ids(run_dir):
    adders = [start(shm_children.add_symbols_one_by_one, run_dir, worker, 40) for worker in range(4)]
    for adder in adders:
        finish(adder)
    directory = SymbolDirectory.attach(run_dir)
    names = [entry.name for entry in directory.entries()]
    own = {f"W{worker}-{i}" for worker in range(4) for i in range(40)}
    shared = {f"SHARED-{i}" for i in range(40)}
    assert sorted(names) == sorted(own | shared)
    assert all(directory.id_of(name) == i for i, name in enumerate(names, start=1))


def test_rolls_are_never_seen_half_done(run_dir):
    add_symbols(run_dir, [Symbol(0, "NQ", "C0", rolled_ns=0)])
    directory = SymbolDirectory.attach(run_dir)
    roller = start(shm_children.roll_many_times, run_dir, 300)
    seen = set()
    while roller.is_alive():
        entry = directory.entry(1)
        assert (entry.contract, entry.rolled_ns) == (f"C{entry.generation}", entry.generation)
        seen.add(entry.generation)
    finish(roller)
    assert directory.entry(1).generation == 300
    assert len(seen) > 3, "the reader must have looked while rolls went on"


def test_a_roll_left_half_done_is_named_and_healed_by_the_next(run_dir, monkeypatch):
    # Killed in the middle: the revision stays odd. The next roll used to make it even while it was writing.
    add_symbols(run_dir, [Symbol(0, "NQ", "C0")])
    segment = symbols._open(run_dir)
    SymbolDirectory(segment)._entries[1]["revision"] += 1
    segment.close_writer()
    monkeypatch.setattr(symbols, "_PATIENCE_S", 0.01)
    directory = SymbolDirectory.attach(run_dir)
    with pytest.raises(RuntimeError, match="left half written by a process that died; roll it again"):
        directory.entry(1)
    roll_symbol(run_dir, "NQ", "C1", 5)
    assert directory.entry(1).contract == "C1"
    assert int(directory._entries[1]["revision"]) % 2 == 0


def test_whoever_writes_next_mends_what_a_killed_writer_left(run_dir):
    """The name of a half written entry cannot be read through the directory, so it cannot be rolled again by all."""
    add_symbols(run_dir, [Symbol(0, "NQ", "C0"), Symbol(0, "ES", "C1")])
    segment = symbols._open(run_dir)
    SymbolDirectory(segment)._entries[1]["revision"] += 1
    segment.close_writer()
    add_symbols(run_dir, [])
    directory = SymbolDirectory.attach(run_dir)
    assert [(entry.name, entry.contract) for entry in directory.entries()] == [("NQ", ""), ("ES", "C1")]
    assert directory.entry(1).generation == 1


def test_a_new_directory_is_noticed(run_dir):
    add_symbols(run_dir, [Symbol(0, "NQ")])
    directory = SymbolDirectory.attach(run_dir)
    assert not directory.is_replaced()
    run_folder.remove_stale_segments(run_dir)
    assert directory.is_replaced()
