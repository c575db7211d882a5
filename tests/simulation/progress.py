"""Why a run makes no progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.schedule import MS

if TYPE_CHECKING:
    from tests.simulation.gateway import SimulatedGateway


def explain(gateway: SimulatedGateway, route: str = "") -> str:
    """Why there is no progress, as far as it can be seen: of an account, or of the process as a whole."""
    if gateway.engine is None or gateway.ports is None:
        return "the gateway is down"
    state, now_ns = gateway.engine.state, gateway.schedule.now_ns
    due_ns = gateway.engine.next_due_ns()
    found = [
        f"due in {'-' if due_ns is None else (due_ns - gateway.engine_ns()) // MS} ms",
        f"next turn in {(gateway.next_turn_ns - now_ns) // MS} ms",
        f"disk full for {max(gateway.full_until_ns - now_ns, 0) // MS} ms",
    ]
    record = state.routes.get(route)
    if record is not None:
        asked_ms = (now_ns - record.request_sent_ns) // MS
        found += [
            f"session {'open' if route in gateway.ports.adapters.sessions else 'none'}",
            f"severed {record.severed}",
            f"up {record.up}, ready {record.ready}",
            f"snapshot {record.request_id} was requested {asked_ms} ms ago, pending {record.request_pending}",
            f"live {[f'{name} {state.orders[name].state}' for name in list(record.live)[:3]]}",
            f"kill {state.kills[route].text if route in state.kills else '-'}",
        ]
    return ", ".join(found)
