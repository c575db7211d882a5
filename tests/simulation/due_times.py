"""The slow twin of the engine's due times: a look at every route, order and signal."""

from __future__ import annotations

import math
from fractions import Fraction

from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.engine.orders.links import snapshot_due_ns
from nexus_gateway.core.engine.state import EngineState, LegRecord, OrderRecord, RouteRecord
from nexus_gateway.core.engine.timers import _order_due_ns, _signal_due_ns
from nexus_gateway.core.engine.turn import bar_of
from nexus_gateway.core.messages import LegState, OrderRole

from tests.simulation.schedule import MS


def scan_due_ns(state: EngineState) -> int | None:
    due = [state.day.ends_ns - state.wall_offset_ns] if state.day.ends_ns else []
    wait_ms = state.settings.finished_after_ms
    if wait_ms is not None and state.over:
        round_ns = wait_ms * MS // 10
        due.append(math.ceil(Fraction(min(state.over.values()) + wait_ms * MS, round_ns)) * round_ns)
    for name, route in state.routes.items():
        due += _of_route(state, name, route)
    for signal_id in state.active:
        signal = state.signals[signal_id]
        if signal.deadline_ns and signal.decision in ("", "kept"):
            due.append(signal.deadline_ns)
        for leg in signal.legs:
            due += [each for each in times_of(leg) if each]
    return min(due, default=None)


def find_lost(engine: Engine) -> list[str]:
    """Return what would not be handled when it is due, since the engine has recorded no time for it, or a later one."""
    state, recorded = engine.state, engine._due_times._recorded
    true = {(True, name): _order_due_ns(state, name) for route in state.routes.values() for name in route.live}
    true |= {(False, signal_id): _signal_due_ns(state, signal_id) for signal_id in state.active}
    return [
        f"{name} is due at {due_ns}, recorded is {recorded.get((is_order, name))}"
        for (is_order, name), due_ns in true.items()
        if due_ns is not None and not recorded.get((is_order, name), due_ns + 1) <= due_ns
    ]


def times_of(leg: LegRecord) -> tuple[int, ...]:
    return leg.retry_ns, leg.protect_retry_ns, leg.clearing_until_ns, leg.look_again_ns


def _of_route(state: EngineState, name: str, route: RouteRecord) -> list[int]:
    settings = state.settings
    due = []
    kill = state.kills.get(name)
    if kill is not None and not kill.verified:
        due.append(max(kill.retry_ns, state.now_ns + settings.retry_ms * MS))
    if not route.up:
        return due
    if route.request_pending:
        due.append(route.request_sent_ns + settings.snapshot_ms * MS)
    else:
        due.append(snapshot_due_ns(state, name))
    if route.owed_requests >= 3 and not route.overdue_since_ns:
        due.append(route.owes_since_ns + 3 * settings.snapshot_ms * MS)
    overfilled = [each for each in route.positions.values() if each.overfilled]
    due += [each.overfill_retry_ns for each in overfilled if each.overfill_retry_ns]
    for order_id in route.live:
        order = state.orders[order_id]
        is_barred = bool(bar_of(state, name, order.order.symbol))
        is_asked = bool(route.request_pending or route.snapshot_due_ns)
        due += _of_order(order, settings.ack_ms * MS, is_barred, is_asked)
        due += _of_resting(state, route, order)
    return due


def _of_resting(state: EngineState, route: RouteRecord, order: OrderRecord) -> list[int]:
    """A closing order that works in an open market is cancelled when it has not traded for 10 s."""
    position = route.positions.get(order.order.symbol)
    shut = position is not None and not position.session_open
    works = order.state in (LegState.WORKING, LegState.PARTIALLY_FILLED) and not order.cancel_wanted
    if order.role is not OrderRole.EXIT or not works or shut:
        return []
    signal = state.signals.get(order.signal_id)
    opened_ns = 0 if signal is None else signal.legs[order.leg].session_opened_ns
    return [max(order.last_news_ns, opened_ns) + 10_000 * MS]


def _of_order(order: OrderRecord, wait_ns: int, is_barred: bool, is_asked: bool) -> list[int]:
    due = []
    if order.state is LegState.SENT:
        due.append(order.sent_ns + wait_ns)
    if order.cancel_wanted and not is_barred:
        due.append(order.cancel_sent_ns + wait_ns)
    if order.replace is not None and not is_asked:
        due.append(order.replace_sent_ns + wait_ns)
    return due
