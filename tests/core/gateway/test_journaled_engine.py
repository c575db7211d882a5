"""The engine on its journal: nothing is handed out before the disk has it, and a fault of ours is not repeated."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.engine import AdminAsked, AnswerAdmin, LinkUp, SendToPlatform, Started
from nexus_gateway.core.gateway import checkpoints
from nexus_gateway.core.gateway.checkpoints import CheckpointBounds, ReplayCheckpoints
from nexus_gateway.core.gateway.journaled_engine import EngineFaultError, JournaledEngine, engine_settings
from nexus_gateway.core.journal import Journal, JournalError, packed_state, rebuild, recovery
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.messages import Query, QueryKind
from nexus_gateway.shm.durations import NS_PER_S

from tests.support.links import adapter_hello
from tests.support.patience import patient
from tests.support.shm_processes import wait_for

LOG = process_log("gateway")
QUERY = AdminAsked(request=Query(request_id=1, what=QueryKind.STATUS), peer="admin|x")


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    return GatewayConfig(orders=OrdersConfig(journal=str(tmp_path / "j" / "orders.sqlite"), checkpoint_events=100))


@pytest.fixture
def journaled(config: GatewayConfig) -> Iterator[JournaledEngine]:
    made = JournaledEngine.open(config, LOG)
    made.handle(Started(boot_id="b", settings=engine_settings(config), limits=config.limits), time.time_ns())
    yield made
    made.close()


def events_on_disk(config: GatewayConfig) -> int:
    connection = sqlite3.connect(config.journal_path)
    try:
        return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])
    finally:
        connection.close()


def test_effects_come_out_once_and_after_the_disk_has_the_event(
    journaled: JournaledEngine, config: GatewayConfig
) -> None:
    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    assert events_on_disk(config) == 0
    effects = journaled.commit()
    assert events_on_disk(config) == 2
    assert any(isinstance(effect, SendToPlatform) for effect in effects)
    assert journaled.commit() == []


def test_a_full_disk_hands_nothing_out_until_it_has_room(
    journaled: JournaledEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise JournalError("disk full")

    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    with monkeypatch.context() as patch:
        patch.setattr(journaled._journal, "commit", refuse)
        with pytest.raises(JournalError):
            journaled.commit()
        with pytest.raises(JournalError):
            journaled.retry()
    journaled.retry()
    assert any(isinstance(effect, SendToPlatform) for effect in journaled.commit())


def test_questions_are_answered_and_not_journaled(journaled: JournaledEngine, config: GatewayConfig) -> None:
    journaled.commit()
    before = events_on_disk(config)
    journaled.handle(QUERY, time.time_ns())
    assert any(isinstance(effect, AnswerAdmin) for effect in journaled.commit())
    assert events_on_disk(config) == before


def test_an_engine_that_raises_is_rebuilt_and_the_event_dropped(
    journaled: JournaledEngine, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    digest = journaled.engine.digest()

    def raise_fault(event: object, now_ns: int) -> None:
        journaled.engine.state.stage = 9
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(journaled.engine, "handle", raise_fault)
    with pytest.raises(EngineFaultError, match="ZeroDivisionError on LinkUp"):
        journaled.handle(LinkUp(hello=adapter_hello("sierra")), time.time_ns())
    assert journaled.engine.digest() == digest
    assert events_on_disk(config) == 2
    assert any(isinstance(effect, SendToPlatform) for effect in journaled.commit())


def test_a_start_replays_from_the_checkpoint(config: GatewayConfig) -> None:
    first = JournaledEngine.open(config, LOG)
    for number in range(120):
        first.handle(LinkUp(hello=adapter_hello(boot_id=f"b{number}")), time.time_ns())
    first.commit()
    first.checkpoint(time.time_ns())
    digest = first.engine.digest()
    first.close()
    second = JournaledEngine.open(config, LOG)
    assert second.engine.digest() == digest
    assert second._schedule.events == 0
    second.close()


def test_a_second_gateway_on_the_same_journal_is_refused(journaled: JournaledEngine, config: GatewayConfig) -> None:
    with pytest.raises(JournalError, match="another gateway"):
        JournaledEngine.open(config, LOG)


def test_a_question_leaves_no_trace_not_even_its_time(journaled: JournaledEngine, config: GatewayConfig) -> None:
    """It is not journaled, so whatever it changed would be missing after a crash."""
    digest = journaled.engine.digest()
    journaled.handle(QUERY, time.time_ns() + 3 * 86_400_000_000_000)  # a day of trading has ended in between
    assert journaled.engine.digest() == digest


def test_a_checkpoint_that_finds_no_room_ends_nothing(
    journaled: JournaledEngine, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(state: bytes, now_ns: int, *, seq: int) -> None:
        raise JournalError("disk full")

    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    journaled.commit()
    with monkeypatch.context() as patch:
        patch.setattr(journaled._journal, "checkpoint", refuse)
        journaled.checkpoint(time.time_ns(), always=True)
    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    assert journaled.commit()
    assert events_on_disk(config) == 3


def link(number: int) -> LinkUp:
    return LinkUp(hello=adapter_hello(boot_id=f"b{number}"))


def checkpoints_on_disk(config: GatewayConfig) -> list[int]:
    connection = sqlite3.connect(config.journal_path)
    try:
        return [row[0] for row in connection.execute("SELECT seq FROM checkpoints ORDER BY seq")]
    finally:
        connection.close()


class Bounded:
    """A journaled engine whose processor time is the test's: each event takes `handling_ns`."""

    def __init__(self, config: GatewayConfig, journal: Journal, **bounds: int) -> None:
        self.now_ns, self.handling_ns = 0, 0
        values = {"events": 1_000_000, "payload_bytes": 1 << 40, "replay_ns": 1 << 60} | bounds
        settings = engine_settings(config)
        read = partial(rebuild, journal.connection)
        self.journaled = JournaledEngine(
            journal, read, settings, config.limits, CheckpointBounds(**values), LOG, processor_ns=self._processor_ns
        )

    def _processor_ns(self) -> int:
        self.now_ns += self.handling_ns
        return self.now_ns

    def turn(self, *events: LinkUp) -> None:
        for event in events:
            self.journaled.handle(event, time.time_ns())
        self.journaled.commit()
        self.journaled.checkpoint(time.time_ns())


@pytest.mark.parametrize(
    ("bounds", "handling_ns", "needed"),
    [({"events": 3}, 0, 3), ({"payload_bytes": 1000}, 0, None), ({"replay_ns": 10 * NS_PER_S}, 4 * NS_PER_S, 3)],
)
def test_a_checkpoint_is_due_by_events_bytes_or_processor_time_and_waits_for_a_quiet_turn(
    config: GatewayConfig, bounds: dict[str, int], handling_ns: int, needed: int | None
) -> None:
    config.journal_path.parent.mkdir()
    if needed is None:
        needed = -(-1000 // len(encode_event(link(10))))
    with Journal(config.journal_path) as journal:
        bounded = Bounded(config, journal, **bounds)
        bounded.handling_ns = handling_ns
        for number in range(needed - 1):
            bounded.turn(link(10 + number))
            bounded.turn()
            assert checkpoints_on_disk(config) == []
        bounded.turn(link(10 + needed))
        assert checkpoints_on_disk(config) == [], "the turn had an event"
        bounded.turn()
        assert checkpoints_on_disk(config) == [needed]


def test_a_checkpoint_does_not_wait_for_ever_for_a_quiet_turn(config: GatewayConfig) -> None:
    config.journal_path.parent.mkdir()
    with Journal(config.journal_path) as journal:
        bounded = Bounded(config, journal, events=5)
        for number in range(10):
            assert checkpoints_on_disk(config) == []
            bounded.turn(link(number))
        assert checkpoints_on_disk(config) == [10]


def test_a_checkpoint_that_costs_much_is_written_less_often(config: GatewayConfig) -> None:
    config.journal_path.parent.mkdir()
    with Journal(config.journal_path) as journal:
        bounded = Bounded(config, journal, replay_ns=1_000_000)
        bounded.handling_ns = 100_000_000  # every measurement, that of the checkpoint as well
        bounded.turn(link(0))
        bounded.turn()
        assert checkpoints_on_disk(config) == [1]
        for number in range(1, 10):
            bounded.turn(link(number))
            bounded.turn()
            assert checkpoints_on_disk(config) == [1]
        bounded.turn(link(10))
        bounded.turn()
        assert checkpoints_on_disk(config) == [1, 11]


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (checkpoints, packed_state):
        monkeypatch.setattr(module, "LARGE_BYTES", 1)


@pytest.mark.usefixtures("all_large")
def test_a_large_state_is_packed_beside_the_turns_and_written_by_a_later_one(
    config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_pack = threading.Event()
    pack = packed_state.pack_state

    def pack_when_allowed(state: bytes) -> bytes:
        assert may_pack.wait(patient(60))
        return pack(state)

    monkeypatch.setattr(checkpoints, "pack_state", pack_when_allowed)
    config.journal_path.parent.mkdir()
    with Journal(config.journal_path) as journal:
        bounded = Bounded(config, journal, events=3)
        bounded.turn(link(1), link(2), link(3))
        bounded.turn()
        digest = bounded.journaled.engine.digest()
        bounded.turn(link(4))  # trading goes on meanwhile
        assert checkpoints_on_disk(config) == []
        may_pack.set()
        wait_for(lambda: bounded.turn() or checkpoints_on_disk(config) == [3], "the packed checkpoint")
        (state,) = journal.connection.execute("SELECT state FROM checkpoints").fetchone()
        assert state.startswith(b"\x78")
        last = bounded.journaled.engine.digest()
        again = rebuild(journal.connection, engine_settings(config), config.limits)
        assert (again.from_checkpoint_seq, again.events) == (3, 1)
        assert again.engine.digest() == last != digest


@pytest.mark.usefixtures("all_large")
def test_a_stop_waits_for_what_is_packed_and_saves_the_newest_state(config: GatewayConfig) -> None:
    config.journal_path.parent.mkdir()
    with Journal(config.journal_path) as journal:
        bounded = Bounded(config, journal, events=2)
        bounded.turn(link(1), link(2))
        bounded.turn()
        bounded.turn(link(3))
        bounded.journaled.checkpoint(time.time_ns(), always=True)
        assert checkpoints_on_disk(config)[-1] == 3
        assert rebuild(journal.connection, engine_settings(config), config.limits).events == 0


@pytest.mark.usefixtures("all_large")
def test_a_packed_state_that_is_damaged_is_passed_over(config: GatewayConfig) -> None:
    config.journal_path.parent.mkdir()
    with Journal(config.journal_path) as journal:
        bounded = Bounded(config, journal, events=2)
        bounded.turn(link(1), link(2))
        journal.checkpoint(b"\x78 no stream of zlib", time.time_ns())
        again = rebuild(journal.connection, engine_settings(config), config.limits)
        assert (again.from_checkpoint_seq, again.events) == (0, 2)
        assert again.passed_over[0].startswith("checkpoint 2: the packed state is damaged")


def test_a_start_that_had_to_replay_much_leaves_a_checkpoint_before_anything_else(config: GatewayConfig) -> None:
    first = JournaledEngine.open(config, LOG)
    for number in range(120):
        first.handle(link(number), time.time_ns())
    first.commit()
    first._journal.close()  # killed
    second = JournaledEngine.open(config, LOG)
    assert checkpoints_on_disk(config) == [120]
    second._journal.close()  # killed in its start
    third = JournaledEngine.open(config, LOG)
    assert third._schedule.events == 0
    assert third.engine.digest() == second.engine.digest()
    third.close()


def test_a_long_replay_leaves_checkpoints_on_its_way(config: GatewayConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_PROGRESS_NS", 0)
    first = JournaledEngine.open(config, LOG)
    for number in range(50):
        first.handle(link(number), time.time_ns())
    first.commit()
    first._journal.close()
    with Journal(config.journal_path) as journal:
        observer = ReplayCheckpoints(journal, 1, lambda share: None, LOG)  # one after each event, but for its own cost
        rebuild(journal.connection, engine_settings(config), config.limits, observer)
    written = checkpoints_on_disk(config)
    assert written
    assert written[0] < 50


def test_a_rebuild_after_a_fault_says_how_far_it_is(
    journaled: JournaledEngine, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    journaled.on_progress = shares.append

    def raise_fault(event: object, now_ns: int) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(journaled.engine, "handle", raise_fault)
    with pytest.raises(EngineFaultError):
        journaled.handle(link(1), time.time_ns())
    assert shares[-1] == 1.0
