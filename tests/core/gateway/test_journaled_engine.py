"""The engine on its journal: nothing is handed out before the disk has it, and a fault of ours is not repeated."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nexus_gateway.core.config import GatewayConfig, OrdersConfig
from nexus_gateway.core.engine import AdminAsked, AnswerAdmin, LinkUp, SendToPlatform, Started
from nexus_gateway.core.gateway.journaled_engine import EngineFaultError, JournaledEngine, engine_settings
from nexus_gateway.core.journal import JournalError
from nexus_gateway.core.logs import process_log
from nexus_gateway.core.messages import Query, QueryKind

from tests.support.links import adapter_hello

LOG = process_log("gateway")
QUERY = AdminAsked(request=Query(request_id=1, what=QueryKind.STATUS), peer="admin|x")


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    return GatewayConfig(orders=OrdersConfig(journal=str(tmp_path / "j" / "orders.sqlite"), checkpoint_events=100))


@pytest.fixture
def journaled(config: GatewayConfig) -> Iterator[JournaledEngine]:
    made = JournaledEngine.open(config, LOG, lambda: None)
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
    first = JournaledEngine.open(config, LOG, lambda: None)
    for number in range(120):
        first.handle(LinkUp(hello=adapter_hello(boot_id=f"b{number}")), time.time_ns())
    first.commit()
    first.checkpoint(time.time_ns())
    digest = first.engine.digest()
    first.close()
    second = JournaledEngine.open(config, LOG, lambda: None)
    assert second.engine.digest() == digest
    assert second._since_checkpoint == 0
    second.close()


def test_a_second_gateway_on_the_same_journal_is_refused(journaled: JournaledEngine, config: GatewayConfig) -> None:
    with pytest.raises(JournalError, match="another gateway"):
        JournaledEngine.open(config, LOG, lambda: None)


def test_a_question_leaves_no_trace_not_even_its_time(journaled: JournaledEngine, config: GatewayConfig) -> None:
    """It is not journaled, so whatever it changed would be missing after a crash."""
    digest = journaled.engine.digest()
    journaled.handle(QUERY, time.time_ns() + 3 * 86_400_000_000_000)  # a day of trading has ended in between
    assert journaled.engine.digest() == digest


def test_a_checkpoint_that_finds_no_room_ends_nothing(
    journaled: JournaledEngine, config: GatewayConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(state: bytes, now_ns: int) -> None:
        raise JournalError("disk full")

    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    journaled.commit()
    with monkeypatch.context() as patch:
        patch.setattr(journaled._journal, "checkpoint", refuse)
        journaled.checkpoint(time.time_ns(), always=True)
    journaled.handle(LinkUp(hello=adapter_hello()), time.time_ns())
    assert journaled.commit()
    assert events_on_disk(config) == 3
