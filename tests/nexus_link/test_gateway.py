"""NEXUS's interface against a real gateway process between platforms that the test plays: kills, changes, positions."""

from __future__ import annotations

import random
import signal as unix_signal
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from nexus_gateway.core.messages import (
    OrderType,
    RejectCode,
    SignalCancel,
    SignalClose,
    SignalState,
    find_client_order_id,
    signal_key,
)
from nexus_gateway.nexus_link.interface import NexusGatewayInterface, options_of_config
from nexus_gateway.nexus_link.orders.outcomes import SignalOutcome

from tests.support.shm_processes import linux_only
from tests.support.torture import rounds
from tests.support.trading_floor import FakePlatform, Floor, floor_limits, make_signal, open_floor

pytestmark = linux_only
D = Decimal


@contextmanager
def nexus_at(floor: Floor, name: str = "owner") -> Iterator[NexusGatewayInterface]:
    nexus = NexusGatewayInterface(options_of_config(floor.config, name=name, outbox=floor.root / f"{name}.outbox"))
    try:
        nexus.connect(0)
        floor.until(lambda: nexus.status.is_up)
        yield nexus
    finally:
        nexus.close()


def settled(floor: Floor, nexus: NexusGatewayInterface, signal_id: str) -> SignalOutcome:
    floor.until(lambda: (outcome := nexus.outcome(signal_id)) is not None and outcome.is_settled)
    outcome = nexus.outcome(signal_id)
    assert outcome is not None
    return outcome


def filled_at(platform: FakePlatform, signal_id: str) -> Decimal:
    """Lots of the signal's entries, by the platform's own books."""
    parts = [(find_client_order_id(fill.client_order_id), fill.quantity) for fill in platform.fills]
    ours = [lots for part, lots in parts if part is not None and part.key == signal_key(signal_id)]
    return sum(ours, D(0))


def test_one_signal_its_position_and_its_close() -> None:
    with open_floor(("nt8", "fill")) as (floor, (platform,), _), nexus_at(floor) as nexus:
        signal = make_signal("nt8")
        nexus.send_signal(signal, 0)  # it does not wait, and the answer may be there all the same
        outcome = settled(floor, nexus, signal.signal_id)
        assert outcome.state is SignalState.FILLED
        assert outcome.report is not None
        assert (outcome.report.avg_price, outcome.report.residual_quantity) == (21_000, 1)
        asked = nexus._link.positions()
        floor.until(asked.done)
        (positions,) = asked.result()
        assert (positions.platform, positions.rows[0].quantity) == ("nt8", 1)
        assert positions.as_of_ns > 0
        assert nexus.change_signal(SignalClose(signal_id=signal.signal_id))
        floor.until(lambda: nexus.outcome(signal.signal_id).is_final)  # type: ignore[union-attr]  # it was sent
        assert platform.position == 0


def test_a_working_signal_is_cancelled_and_a_changed_id_refused() -> None:
    with open_floor(("nt8", "work")) as (floor, _, _), nexus_at(floor) as nexus:
        signal = make_signal("nt8", order_type=OrderType.LIMIT, limit_price=D(20_990))
        nexus.send_signal(signal, 0)
        floor.until(lambda: nexus.outcome(signal.signal_id).state is SignalState.WORKING)  # type: ignore[union-attr]  # it was sent
        rejects = []
        nexus.set_callbacks(on_reject=rejects.append)
        assert nexus.change_signal(SignalCancel(signal_id="never-sent"))
        floor.until(lambda: rejects)
        assert rejects[0].code is RejectCode.UNKNOWN_SIGNAL
        assert nexus.change_signal(SignalCancel(signal_id=signal.signal_id))
        assert settled(floor, nexus, signal.signal_id).state is SignalState.NOT_FILLED


def test_a_silent_platform_is_unknown_here_until_it_speaks() -> None:
    with open_floor(("nt8", "silent")) as (floor, (platform,), _), nexus_at(floor) as nexus:
        signal = make_signal("nt8")
        nexus.send_signal(signal, 0)
        floor.until(lambda: (o := nexus.outcome(signal.signal_id)) is not None and o.told_ns and o.is_unknown)
        assert nexus.unknown_symbols() == {"NQ"}
        platform.mode = "fill"
        platform.fill(platform.placed[0].client_order_id, D(1))
        assert settled(floor, nexus, signal.signal_id).state is SignalState.FILLED
        assert nexus.unknown_symbols() == frozenset()


def test_the_same_signal_of_two_processes_is_traded_once_and_both_hear_of_it() -> None:
    with (
        open_floor(("nt8", "fill")) as (floor, (platform,), _),
        nexus_at(floor, "one") as one,
        nexus_at(floor, "two") as two,
    ):
        signal = make_signal("nt8")
        for nexus in (one, two, one):
            nexus.send_signal(signal, 0)
        for nexus in (one, two):
            assert settled(floor, nexus, signal.signal_id).state is SignalState.FILLED
        assert filled_at(platform, signal.signal_id) == 1
        assert one.change_signal(SignalClose(signal_id=signal.signal_id))
        for nexus in (one, two):
            floor.until(lambda nexus=nexus: nexus.outcome(signal.signal_id).is_final)
        assert platform.position == 0


def test_a_restart_inside_the_loss_limit_does_not_forgive_what_was_lost() -> None:
    limits = floor_limits(max_daily_loss_usd=D(150))
    with open_floor(("nt8", "fill"), limits=limits) as (floor, (platform,), _), nexus_at(floor) as nexus:
        for number in range(2):
            signal = make_signal("nt8")
            platform.price = D(21_000)
            nexus.send_signal(signal, 0)
            assert settled(floor, nexus, signal.signal_id).state is SignalState.FILLED
            platform.price = D(20_995)
            assert nexus.change_signal(SignalClose(signal_id=signal.signal_id))
            floor.until(lambda name=signal.signal_id: nexus.outcome(name).is_final)
            outcome = nexus.outcome(signal.signal_id)
            assert outcome is not None
            assert outcome.report is not None
            assert outcome.report.realized_usd == -101  # 5 points of 20 USD, two fees: each alone is within the limit
            if not number:
                floor.restart()
                floor.quote()
        late = make_signal("nt8")
        nexus.send_signal(late, 0)
        assert settled(floor, nexus, late.signal_id).code is RejectCode.KILL_SWITCH
        floor.until(lambda: floor.counters()["engine_limit_breached"] == 1)
        assert filled_at(platform, late.signal_id) == 0


@rounds(5, 40)
def test_kills_of_the_gateway_while_trading_lose_and_repeat_nothing(chance: random.Random, rounds: int) -> None:
    with open_floor(("nt8", "fill"), ("sierra", "fill")) as (floor, platforms, _), nexus_at(floor) as nexus:
        signals = []
        for _ in range(rounds):
            for _ in range(4):
                signals.append(make_signal("nt8", "sierra"))
                nexus.send_signal(signals[-1], 0)
                floor.rest(chance.choice((0.0, 0.001, 0.005)))
            # One more, which this gateway does not read any more: it has to be sent again.
            floor.process.send_signal(unix_signal.SIGSTOP)
            signals.append(make_signal("nt8", "sierra"))
            nexus.send_signal(signals[-1], 0)
            floor.restart()
        for signal in signals:
            outcome = settled(floor, nexus, signal.signal_id)
            report = outcome.report
            assert report is not None
            for leg, platform in zip(report.legs, platforms, strict=True):
                # What NEXUS believes is what the platform has done, for every signal and leg.
                assert leg.filled == filled_at(platform, signal.signal_id) <= 1
        for platform in platforms:
            placed = [order.client_order_id for order in platform.placed]
            assert len(placed) == len(set(placed))
        assert nexus.counts["sent_again"] > 0
        assert nexus.counts["faults"] == 0
