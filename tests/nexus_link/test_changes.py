"""Cancels and closes survive a lost link, a killed gateway and a restart of NEXUS; replaces are said once."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.core.messages import SignalCancel, SignalClose, SignalReplace, SignalState
from nexus_gateway.nexus_link.interface import NexusGatewayInterface
from nexus_gateway.nexus_link.orders.outbox import Outbox, OutboxError

from tests.support.patience import patient
from tests.support.scripted_gateway import ScriptedGateway, make_report, make_signal, options_of, short_folder, until

CLOSE = SignalClose(signal_id="a")


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


def changes(gateway: ScriptedGateway) -> list[object]:
    return [message for message in list(gateway.heard) if isinstance(message, SignalCancel | SignalClose)]


def trade(folder: Path, gateway: ScriptedGateway) -> NexusGatewayInterface:
    """A NEXUS with one working signal."""
    gateway.answer = lambda signal: [make_report(signal, SignalState.WORKING)]
    nexus = NexusGatewayInterface(options_of(folder))
    assert nexus.connect(patient(30))
    nexus.send_signal(make_signal("a"), 30)
    return nexus


def test_a_close_without_a_link_leaves_with_the_next_one_and_once(folder: Path) -> None:
    gateway = ScriptedGateway(folder)
    nexus = trade(folder, gateway)
    gateway.stop()
    until(lambda: not nexus.status.is_up)
    assert nexus.change_signal(CLOSE)
    assert nexus.change_signal(CLOSE)  # kept already
    assert nexus.counts["changes_kept"] == 1
    again = ScriptedGateway(folder, reports=gateway.reports)
    until(lambda: nexus.counts["changes_kept"] == 0)
    assert changes(again) == [CLOSE]
    nexus.close()
    again.stop()


def test_a_close_that_a_killed_gateway_has_read_is_said_again_also_by_the_next_nexus(folder: Path) -> None:
    gateway = ScriptedGateway(folder)
    nexus = trade(folder, gateway)
    gateway._answer_query = lambda *_: None  # type: ignore[method-assign]  # it dies before its journal has the change
    assert nexus.change_signal(CLOSE)
    until(lambda: changes(gateway))
    nexus.close()
    gateway.stop()
    again = ScriptedGateway(folder, reports=gateway.reports)
    successor = NexusGatewayInterface(options_of(folder))
    assert successor.connect(patient(30))
    until(lambda: successor.counts["changes_kept"] == 0)
    assert changes(again) == [CLOSE]
    again.cut()
    until(lambda: successor.counts["link_links"] == 2)
    assert successor.change_signal(SignalCancel(signal_id="a"))
    until(lambda: successor.counts["changes_kept"] == 0)
    assert changes(again) == [CLOSE, SignalCancel(signal_id="a")]
    successor.close()
    again.stop()


def test_a_change_never_arrives_before_its_signal(folder: Path) -> None:
    ScriptedGateway(folder).stop()  # its keys are there
    nexus = NexusGatewayInterface(options_of(folder))
    assert not nexus.connect(0)
    for number in range(600):
        nexus.send_signal(make_signal(f"s{number}"), 0)
    assert nexus.change_signal(SignalClose(signal_id="s599"))
    gateway = ScriptedGateway(folder)
    until(lambda: nexus.counts["changes_kept"] == 0)
    heard = [getattr(message, "signal_id", "") for message in gateway.heard]
    assert heard.index("s599") < gateway.heard.index(SignalClose(signal_id="s599"))
    nexus.close()
    gateway.stop()


def test_a_replace_is_not_kept(folder: Path) -> None:
    gateway = ScriptedGateway(folder)
    nexus = trade(folder, gateway)
    replace = SignalReplace(signal_id="a", limit_price=Decimal(5))
    assert nexus.change_signal(replace)
    until(lambda: replace in gateway.heard)
    gateway.stop()
    until(lambda: not nexus.status.is_up)
    assert not nexus.change_signal(replace)
    assert nexus.counts["changes_kept"] == 0
    nexus.close()


def test_a_change_that_cannot_be_read_is_named(folder: Path) -> None:
    outbox = Outbox(folder / "x.outbox")
    outbox.add_change(CLOSE)
    assert outbox.changes() == [(1, CLOSE)]
    outbox._database.execute("UPDATE changes SET change = x'c1'")
    with pytest.raises(OutboxError, match="cannot be read"):
        outbox.changes()
    outbox.close()
