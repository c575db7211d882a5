"""What must be true when the storm is over, whatever happened in it. Each violated one is a sentence."""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.engine.invariants import check
from nexus_gateway.core.engine.signals.reports import make_report
from nexus_gateway.core.engine.state import LegRecord, SignalRecord
from nexus_gateway.core.engine.turn import Turn, kill_level
from nexus_gateway.core.risk import day_bounds

from tests.simulation.gateway import SimulatedGateway as Gateway
from tests.simulation.nexus import Nexus
from tests.simulation.platform import LIVE, NEW, OLD, FakePlatform
from tests.simulation.remembered import compare_with_twin, recall_all
from tests.simulation.rolls import check_rolls

ZERO = Decimal(0)
Lots = tuple[Decimal, Decimal]
"""Quantity and price of an execution."""


def find_violations(gateway: Gateway, nexus: Nexus, platforms: list[FakePlatform]) -> list[str]:
    engine = gateway.engine
    if engine is None:
        return ["the gateway is not running"]
    running, found = engine, []
    engine = recall_all(running, gateway.journal)  # what has become rows must be as true as what is open
    for platform in platforms:
        found += _check_position(engine, platform, gateway)
        found += _check_executions(engine, platform)
        found += _check_orders(engine, platform, gateway)
        found += _check_contradictions(engine, platform)
        found += _check_close_sizes(nexus, platform)
    found += _check_kill(engine, platforms)
    found += _check_parents(gateway, nexus, platforms)
    found += _check_unknown(engine)
    found += _check_policies(engine)
    found += check_rolls(engine, platforms)
    found += _check_limits(gateway, nexus, platforms)
    found += _check_replay(gateway, running)
    faults, planted = gateway.counts.get("engine_faults", 0), gateway.faults.seen.get("engine_fault", 0)
    if faults > planted:
        found.append(f"the engine raised {faults} times, {planted} of them as planted")
    broken = engine.state.counts.get("invariant_broken", 0)
    if broken:
        rules = [name for name in engine.state.counts if name.startswith("invariant_")]
        found.append(f"the engine noticed {broken} breaches: {', '.join(rules)}")
    return found + check(running.state) + check(engine.state)


def _check_contradictions(engine: Engine, platform: FakePlatform) -> list[str]:
    """The platform has said nothing but the truth for minutes, and the operator has typed what it holds."""
    standing = _route(engine, platform).contradictions.values()
    return [
        f"{platform.name} {each.kind} stands in the calm: said {each.said}, barred {each.barred}" for each in standing
    ]


def _check_close_sizes(nexus: Nexus, platform: FakePlatform) -> list[str]:
    """No closing order of a leg is larger than what its orders of the other side were for, by the platform's books.

    Lots that were taken back on its own side count as well: others had closed them, and left the leg on the other side.
    """
    keys = {m.signal_key(signal_id) for signal_id in nexus.signals}
    sizes: dict[tuple[str, int, int], Decimal] = {}
    for held in platform.orders.values():
        parts = m.find_client_order_id(held.order.client_order_id)
        if parts is not None:
            key = parts.key, parts.leg, held.order.side.sign
            sizes[key] = sizes.get(key, ZERO) + max(held.quantity, held.order.quantity) + held.overfilled
    for execution in platform.executions.values():
        parts = m.find_client_order_id(execution.fill.client_order_id)
        if parts is not None and execution.busted:
            key = parts.key, parts.leg, -execution.fill.side.sign
            sizes[key] = sizes.get(key, ZERO) + execution.fill.quantity
    found = []
    for name, held in platform.orders.items():
        parts = m.find_client_order_id(name)
        if parts is not None and parts.role is m.OrderRole.EXIT and parts.key in keys:
            size = sizes.get((parts.key, parts.leg, -held.order.side.sign))
            if size is not None and held.order.quantity > size:
                found.append(f"{platform.name} {name} closes {held.order.quantity} of {size}")
    return found[:3]


def _name(platform: FakePlatform) -> str:
    return f"{platform.name}|{platform.account}"


def _route(engine: Engine, platform: FakePlatform):
    return engine.state.routes[_name(platform)]


def _check_position(engine: Engine, platform: FakePlatform, gateway: Gateway) -> list[str]:
    route = _route(engine, platform)
    found = []
    if not route.ready:
        found.append(f"{platform.name} was not reconciled in the calm: {gateway.explain(_name(platform))}")
    for contract in (OLD, NEW):
        symbol = platform.symbol_of(contract)
        position = route.positions.get(symbol)
        net = position.net if position is not None else ZERO
        if net != platform.net(contract):
            found.append(f"{platform.name} {symbol}: gateway believes {net}, platform holds {platform.net(contract)}")
    return found


def _legs(engine: Engine, platform: FakePlatform) -> list[LegRecord]:
    return [leg for signal in engine.state.signals.values() for leg in signal.legs if leg.platform == platform.name]


def _check_kill(engine: Engine, platforms: list[FakePlatform]) -> list[str]:
    """A rung that calls itself verified is one that the platform itself shows."""
    found = []
    for platform in platforms:
        kill = engine.state.kills.get(f"{platform.name}|{platform.account}")
        if kill is None or kill.level < m.KillLevel.CANCEL_ALL:
            continue
        working = [name for name, held in platform.orders.items() if held.state in LIVE]
        held = sum(map(abs, platform.tickets.values()))
        if platform.mode is m.AccountMode.NETTING:
            held = abs(platform.net(OLD)) + abs(platform.net(NEW))
        if not kill.verified:
            found.append(f"{platform.name}: {kill.level.name} not verified in the calm: {kill.text}")
        elif working or (kill.level >= m.KillLevel.FLATTEN and not kill.own_only and held):
            found.append(f"{platform.name}: {kill.level.name} verified with {held} held and {working} working")
    return found


def _check_executions(engine: Engine, platform: FakePlatform) -> list[str]:
    counted: dict[str, list[Lots]] = {}
    for key, record in engine.state.executions.items():
        if record.counts and key.startswith(f"{platform.name}|"):
            exec_id = key.rsplit("|", 1)[1].split("@")[0]
            counted.setdefault(exec_id, []).append((record.quantity, record.price))
    true: dict[str, list[Lots]] = {}
    for execution in platform.executions.values():
        if not execution.busted:
            fill = execution.fill
            true.setdefault(fill.exec_id, []).append((fill.quantity, fill.price))
    # What the operator's figure has settled is held as external lots, whatever is said of the execution.
    ended = _route(engine, platform).ended_contradictions.values()
    by_figure = {each.exec_id for each in ended if each.end.startswith("acknowledged")}
    found = [
        f"{platform.name} execution {exec_id}: counted {counted.get(exec_id)}, true {true.get(exec_id)}"
        for exec_id in sorted(counted.keys() | true.keys())
        if sorted(counted.get(exec_id, [])) != sorted(true.get(exec_id, [])) and exec_id not in by_figure
    ]
    return found[:3]


def _check_orders(engine: Engine, platform: FakePlatform, gateway: Gateway) -> list[str]:
    found = []
    for name, held in platform.orders.items():
        record = engine.state.orders.get(name)
        working = held.state in LIVE
        if record is None:
            if name not in engine.state.orphans and (working or held.filled):
                found.append(f"{platform.name} {name} is at the platform, and not shown at all")
            elif working and name in engine.state.orphans and engine.state.orphans[name].row is None:
                found.append(f"{platform.name} {name} works at the platform, the orphan does not show it")
        elif working != record.live:
            found.append(f"{platform.name} {name} is {held.state}, the gateway says {record.state}")
    found += [
        f"{platform.name} never had {name}, the gateway says {engine.state.orders[name].state}"
        for name in _route(engine, platform).live
        if name not in platform.orders and engine.state.orders[name].state is not m.LegState.UNKNOWN
    ]
    return found[:3]


def _check_parents(gateway: Gateway, nexus: Nexus, platforms: list[FakePlatform]) -> list[str]:
    """From the platforms' own books, without asking the engine."""
    entries: dict[tuple[str, str], list[Decimal]] = {}
    keys = {m.signal_key(signal_id): signal for signal_id, signal in nexus.signals.items()}
    found = []
    for platform in platforms:
        for name, held in platform.orders.items():
            parts = m.find_client_order_id(name)
            assert parts is not None
            if parts.role in (m.OrderRole.ENTRY, m.OrderRole.HEDGE) and parts.key in keys:
                entries.setdefault((parts.key, platform.name), []).append(held.filled)
                if parts.role is m.OrderRole.ENTRY and parts.attempt > 0:
                    found.append(f"signal {keys[parts.key].signal_id} was entered twice on {platform.name}")
    if not gateway.sent.losses:  # a hedge whose record was torn off is not known before its platform has answered
        found += _check_hedges(nexus, platforms)
    for (key, name), fills in entries.items():
        size = keys[key].quantity
        assert size is not None
        if sum(fills, ZERO) > size:
            found.append(f"signal {keys[key].signal_id} filled {sum(fills, ZERO)} of {size} on {name}")
    return found[:3]


def _check_hedges(nexus: Nexus, platforms: list[FakePlatform]) -> list[str]:
    """Hedges trade at most what the primary had traded, busted since or not; and none is left without it."""
    found = []
    for signal in nexus.signals.values():
        if signal.policy.kind is not m.FanOutKind.PRIMARY_THEN_HEDGE:
            continue
        key = m.signal_key(signal.signal_id)
        traded = {m.OrderRole.ENTRY: ZERO, m.OrderRole.HEDGE: ZERO}
        for platform in platforms:
            for execution in platform.executions.values():
                parts = m.find_client_order_id(execution.fill.client_order_id)
                counts = parts is not None and parts.key == key and parts.role in traded
                if parts is not None and counts and parts.role is m.OrderRole.ENTRY:
                    traded[parts.role] += execution.fill.quantity
                elif parts is not None and counts and not execution.busted:
                    traded[parts.role] += execution.fill.quantity - execution.extra
        if traded[m.OrderRole.HEDGE] > traded[m.OrderRole.ENTRY]:
            found.append(f"signal {signal.signal_id} hedged {traded[m.OrderRole.HEDGE]} of {traded[m.OrderRole.ENTRY]}")
    return found


def _check_unknown(engine: Engine) -> list[str]:
    turn = Turn(engine.state, engine.state.now_ns)
    found = []
    for record in engine.state.orders.values():
        if record.state is m.LegState.UNKNOWN and record.signal_id:
            report = make_report(turn, engine.state.signals[record.signal_id])
            if not report.unknown_legs:
                found.append(f"{record.order.client_order_id} is unknown and its report hides it")
        if record.unreported_qty:
            found.append(f"{record.order.client_order_id} misses {record.unreported_qty} lots in the calm")
    return found[:3]


def _check_policies(engine: Engine) -> list[str]:
    found = []
    for signal_id, signal in engine.state.signals.items():
        if signal.decision == "rejected":
            found += [f"{signal_id} is called rejected and has orders" for leg in signal.legs if leg.orders]
            continue
        found += _check_naked_hedges(engine, signal)
        for leg in signal.legs:
            orders = [engine.state.orders[name] for name in leg.orders]
            if leg.closing and leg.open:
                found.append(f"{signal_id} {leg.platform} should be flat and holds {leg.open}")
            protective = [o for o in orders if o.role in (m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT)]
            stops = sum((o.leaves_qty for o in protective if o.role is m.OrderRole.STOP_LOSS), ZERO)
            settled = not any(o.cancel_wanted or o.replace for o in protective if o.live)
            guarded = leg.protection is m.Protection.GATEWAY and not leg.closing and settled
            if guarded and stops != abs(leg.open) and kill_level(engine.state, leg.route) < m.KillLevel.CANCEL_ALL:
                found.append(f"{signal_id} {leg.platform} holds {leg.open}, its stops cover {stops}")
        if signal.signal.policy.kind is m.FanOutKind.ALL_OR_FLATTEN and signal.decision == "kept":
            entries = [engine.state.orders[n] for leg in signal.legs for n in leg.orders if n[16] == "E"]
            busted = any(not engine.state.executions[k].counts for o in entries for k in o.executions)
            if any(o.state is not m.LegState.FILLED for o in entries) and not busted:
                found.append(f"{signal_id} was kept with an unfilled leg")
    return found[:3]


def _check_naked_hedges(engine: Engine, signal: SignalRecord) -> list[str]:
    primary = signal.legs[0]
    entries = [engine.state.orders[name] for name in primary.orders if name[16] == "E"]
    if not signal.hedged or primary.open or primary.roll_out or not primary.executions or any(o.live for o in entries):
        return []
    return [
        f"{signal.signal.signal_id} {leg.platform} hedges {leg.open} lots of a primary that is flat"
        for leg in signal.legs
        if leg.hedge and leg.open and not leg.closing
    ]


def _check_limits(gateway: Gateway, nexus: Nexus, platforms: list[FakePlatform]) -> list[str]:
    stage = gateway.limits.stages[gateway.limits.stage]
    found = _check_day_starts(gateway)
    traded: dict[int, set[str]] = {}
    for platform in platforms:
        if platform.largest > stage.max_size * len(nexus.signals):
            found.append(f"{platform.name} was sent {platform.largest} lots at once")
        for name, held in platform.orders.items():
            parts = m.find_client_order_id(name)
            assert parts is not None
            if parts.role is m.OrderRole.ENTRY and parts.key not in nexus.reducing:
                if held.filled or held.state in LIVE:
                    day_ns = day_bounds(
                        gateway.sent.first_sent_ns[name], gateway.limits.day_zone, gateway.limits.day_starts
                    )[0]
                    traded.setdefault(day_ns, set()).add(parts.key)
                if held.order.quantity > stage.max_size:
                    found.append(f"{name} was {held.order.quantity} lots, limit {stage.max_size}")
    # A torn-off tail takes reservations with it; whoever loses synced data can exceed by those, and by no more.
    found += [
        f"{len(signals)} signals traded, limit {stage.max_trades_per_day} a day"
        for signals in traded.values()
        if not gateway.faults.seen.get("clock_step")  # which day it was depends on the clock
        if len(signals) > stage.max_trades_per_day + gateway.lost_trades
    ]
    return found[:3]


def _check_day_starts(gateway: Gateway) -> list[str]:
    """No restart forgives a loss. A torn-off tail may take the day's start with it."""
    assert gateway.engine is not None
    if gateway.sent.losses or gateway.faults.seen.get("clock_step"):
        return []  # by a clock that was set, nobody can tell when a day has begun
    found = []
    for name, (day_ns, start) in gateway.sent.day_start.items():
        wanted = start if day_ns == gateway.sent.day_ns() else gateway.sent.equity[name]
        known = gateway.engine.state.day.equity[name].day_start
        if known != wanted:
            found.append(f"{name} began the day with {wanted}, the gateway says {known}")
    return found


def _check_replay(gateway: Gateway, engine: Engine) -> list[str]:
    if gateway.plants.any:
        return []
    found = compare_with_twin(engine, gateway.journal)
    for use_checkpoint in (True, False):
        made = gateway.journal.read(gateway.settings, gateway.limits, use_checkpoint=use_checkpoint)
        if made.differing:
            found.append(f"replay (checkpoint {use_checkpoint}) makes other orders after events {made.differing[:5]}")
        again = made.engine
        if again.digest() != engine.digest():
            found.append(f"replay (checkpoint {use_checkpoint}) differs from the running engine")
    return found
