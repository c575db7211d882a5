"""What must be true of rolls when the storm is over."""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine

from tests.simulation.platform import OLD, ZERO, FakePlatform

LotKey = tuple[str, int, int]
"""Signal key, target, side."""


def check_rolls(engine: Engine, platforms: list[FakePlatform]) -> list[str]:
    """What was opened in the new contract was closed in the old one before; what is missing is shown."""
    found = []
    for platform in platforms:
        closed: dict[LotKey, Decimal] = {}
        opened: dict[LotKey, Decimal] = {}
        # A bust is known only later: for what may be opened counts what was closed then, busted since or not.
        closed_once: dict[LotKey, Decimal] = {}
        executed: dict[str, Decimal] = {}
        for execution in platform.executions.values():
            name = execution.fill.client_order_id
            executed[name] = executed.get(name, ZERO) + execution.fill.quantity - execution.extra
        for name, held in platform.orders.items():
            parts = m.find_client_order_id(name)
            assert parts is not None
            if parts.role is m.OrderRole.EXIT and held.contract == OLD:
                # By the side of what was held: a bust after the roll is traded back the other way, and is no roll.
                lots = parts.key, parts.leg, -held.order.side.sign
                closed[lots] = closed.get(lots, ZERO) + held.filled
                closed_once[lots] = closed_once.get(lots, ZERO) + executed.get(name, ZERO)
            elif parts.role is m.OrderRole.ROLL:
                lots = parts.key, parts.leg, held.order.side.sign
                opened[lots] = opened.get(lots, ZERO) + held.filled
        for lots, size in opened.items():
            before = closed_once.get(lots, ZERO)
            if size > before:
                found.append(f"{platform.name} {lots}: {size} lots opened at the roll, {before} closed")
        found += _check_carriers(engine, platform, closed, opened)
    return found[:3]


def _check_carriers(
    engine: Engine,
    platform: FakePlatform,
    closed: dict[LotKey, Decimal],
    opened: dict[LotKey, Decimal],
) -> list[str]:
    found = []
    for signal_id, signal in engine.state.signals.items():
        for leg in signal.legs:
            if leg.platform != platform.name:
                continue
            if leg.roll_out is not None and leg.open:
                found.append(f"{signal_id} {platform.name} still holds {leg.open} {leg.symbol} after the roll")
            if leg.roll_over_pending and not signal.legs[leg.rolls_over_from].open:
                found.append(f"{signal_id} {platform.name}: the second half of the roll hangs: {leg.text}")
            if not leg.roll_over_ended or leg.closing:
                continue
            both = *leg.executions, *signal.legs[leg.rolls_over_from].executions
            if any(not engine.state.executions[key].counts for key in both):
                continue
            name = signal.key, leg.target, leg.sign
            # A close that met lots which somebody else had closed already was traded back, and left nothing to carry.
            traded_back = closed.get((signal.key, leg.target, -leg.sign), ZERO)
            missing = closed.get(name, ZERO) - traded_back - opened.get(name, ZERO)
            if missing > 0 and leg.code is m.RejectCode.NONE:
                found.append(f"{signal_id} {platform.name}: {missing} lots were not opened again, and nothing says so")
    return found
