"""What forces an account to hold lots without a working stop: the excuses that the simulation accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import EngineState
from nexus_gateway.core.engine.turn import bar_of, kill_level

from tests.simulation.naked import REACTION, naked_legs, pause_ns
from tests.simulation.platform import FakePlatform
from tests.simulation.schedule import SECOND
from tests.simulation.truth import AccountTruth

if TYPE_CHECKING:
    from tests.simulation.exposure import Exposure


VALUED_NS: Final = 6 * SECOND
"""Quotes and hours of what is held are handed to the engine every five seconds."""


def excuse(exposure: Exposure, account: AccountTruth) -> str:
    """What forces an account to be without a stop now; `REACTION` = nothing does."""
    platform, gateway, now_ns = account.platform, exposure.gateway, exposure.schedule.now_ns
    link = exposure.link(platform.name)
    if gateway.engine is None:
        return "gateway down"
    if gateway.stands_still:
        return "gateway asleep, stalled or without a disk"
    name = f"{platform.name}|{platform.account}"
    state = gateway.engine.state
    route = state.routes.get(name)
    if not exposure.is_linked(platform.name) or route is None or not (route.up and route.ready):
        return "no link, or not reconciled"
    if link.is_dark(now_ns):
        return "message lost or late"
    if kill_level(state, name) >= m.KillLevel.CANCEL_ALL:
        return "cancel-all commanded"
    if bar_of(state, name, platform.symbol_of(account.contract)):
        return "barred"
    if route.ended_contradictions or name in exposure.contradicted:
        # Its lots may have been booked as external ones, which get no stop.
        return "contradicted before"
    if gateway.faults.seen.get("lie_about_position"):  # it was believed twice, and its lots are no leg's any more
        return "its position was lied about"
    hours = platform.hours
    opened_ns = max([platform.opened_ns, *(until for _, until in [*hours.true, *hours.said] if until <= now_ns)])
    shut = platform.shut or hours.says_shut(now_ns) or now_ns - opened_ns < VALUED_NS
    legs = naked_legs(account)
    if shut and (any(leg.refusals for leg in legs) or (platform.shut and not hours.takes_stops)):
        return "market shut"
    if link.is_waiting(("stop", "cancel"), now_ns):
        return "stop in flight"
    unknown = {state.orders[each].role for each in route.live if state.orders[each].state is m.LegState.UNKNOWN}
    if m.OrderRole.STOP_LOSS in unknown:
        return "outcome of its stop unknown"  # two snapshots have to show that it never arrived
    if m.OrderRole.EXIT in unknown:
        return "outcome of its closing order unknown"  # it may trade yet: a stop beside it could be the second to close
    if any(account.exits.values()) or link.is_waiting(("exit",), now_ns):
        return "closing order in flight"
    if any(leg.refusals and now_ns < leg.refused_ns + pause_ns(max(leg.refusals, leg.tries)) for leg in legs):
        return "stop refused"
    if any(account.untold.values()) or route.unreported_orders:
        return "fill not reported yet"
    return "bust not reported yet" if counts_a_bust(platform, state) else REACTION


def counts_a_bust(platform: FakePlatform, state: EngineState) -> bool:
    """Whether the engine counts an execution still that its platform has taken back: the message was lost."""
    busted = (each.fill for each in platform.executions.values() if each.busted)
    keys = (f"{platform.name}|{platform.account}|{fill.exec_id}" for fill in busted)
    return any(key in state.executions and state.executions[key].counts for key in keys)
