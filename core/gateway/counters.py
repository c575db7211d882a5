"""The gateway's counters in shared memory. Any process may read them; `status` and the dashboard show them."""

from __future__ import annotations

from typing import Final

from ...shm.counters import Counter, CountersPage
from ...shm.histogram import observe_value
from ..engine import EngineState, accounts_left
from ..messages import ContradictionKind, LegState, RejectCode
from ..process import RECOVERED_PERMILLE, RECOVERING
from ..transport import CONNECTION_COUNTERS, LINK_COUNTERS, LinkServer

TURN_NS: Final = "turn_ns"
COMMIT_NS: Final = "commit_ns"
SIGNAL_TO_ORDER_NS: Final = "signal_to_order_ns"
HISTOGRAMS: Final = (TURN_NS, COMMIT_NS, SIGNAL_TO_ORDER_NS)

_EVENTS: Final = (
    "turns",
    "events",
    "commits",
    "journal_failures",
    "engine_faults",
    "signals",
    "legs",
    "orders_sent",
    "cancels_sent",
    "replaces_sent",
    "flattens_sent",
    "fills",
    "messages_of_wrong_route",
    "messages_not_allowed",
    "orders_without_link",
    "reports_without_link",
    "alerts",
    "kill_file_not_opened",
)
_GAUGES: Final = (
    "stage",
    "kill_level",
    "kill_file_level",
    "entries_barred",
    "routes_up",
    "routes_ready",
    "working",
    "unknown",
    "orphans",
    "contradictions",
    "routes_overdue",
    "positions_unsettled",
    "latches",
    "accounts_left",
    "ports_taken",
    RECOVERING,
    RECOVERED_PERMILLE,
)
_ENGINE: Final = (
    "duplicate_fill",
    "duplicate_signal",
    "finished",
    "recalled",
    "late_answer",
    "overfill",
    "orphan",
    "order_recovered",
    "position_drift",
    "position_adopted",
    "snapshot_timeout",
    "fills_never_delivered",
    "contradiction",
    "contradiction_ended",
    "contradiction_repeated",
    *(f"contradiction_{kind}" for kind in ContradictionKind),
    "overfill_confirmed",
    "snapshot_overdue",
    "illegal_transition",
    "invariant_broken",
    "bust_inferred",
    "limit_breached",
    "rolls",
    "roll_waits",
    "roll_left_behind",
    "carried",
    "carried_late",
    "roll_residual",
    "latched",
    "nexus_lost",
    "over_closed",
    "over_reduced",
    "reduction_bounded",
    "entry_ended_by_stop",
    "closing_order_rested",
    "clock_steps",
)
_LINKS: Final = ("adapters", "nexus")
COUNTERS: Final = (
    *_EVENTS,
    *_GAUGES,
    *(f"engine_{name}" for name in _ENGINE),
    *(f"{link}_{name}" for link in _LINKS for name in (*LINK_COUNTERS, *CONNECTION_COUNTERS)),
    *(f"reject_{code.value}" for code in RejectCode if code is not RejectCode.NONE),
)


class GatewayCounters:
    """Handles to the page's cells. The gateway's thread writes."""

    def __init__(self, page: CountersPage) -> None:
        self._cells: dict[str, Counter] = {name: page.counter(name) for name in COUNTERS}
        self._histograms = {name: page.histogram_address(name) for name in HISTOGRAMS}
        self._link_counts: dict[str, int] = {}
        for name in ("routes_up", "routes_ready", RECOVERING):
            self._cells[name].set(0)  # the value of a former process: its links are gone

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter of `COUNTERS`."""
        self._cells[name].add(amount)

    def reject(self, code: RejectCode) -> None:
        """Count a reject under its code."""
        self._cells[f"reject_{code.value}"].add()

    def count_signal(self, state: EngineState, signal_id: str) -> None:
        """Count a signal that has just been applied, its legs and their rejects; not one that was received before."""
        record = state.signals.get(signal_id)
        if record is None or record.received_ns != state.now_ns:
            return
        self.add("signals")
        self.add("legs", len(record.legs))
        for leg in record.legs:
            if leg.code is not RejectCode.NONE:
                self.reject(leg.code)

    def observe(self, name: str, value_ns: int) -> None:
        """Record a duration in a histogram of `HISTOGRAMS`, ns."""
        observe_value(self._histograms[name], value_ns)

    def set_kill_file(self, level: int) -> None:
        """Show the kill level that the kill file demands."""
        self._cells["kill_file_level"].set(level)

    def show_recovery(self, share: float) -> None:
        """Show that the journal is read, and how much of it: 0.0 to 1.0."""
        self._cells[RECOVERED_PERMILLE].set(int(share * 1000))
        self._cells[RECOVERING].set(1)

    def end_recovery(self) -> None:
        """The journal is read."""
        self._cells[RECOVERING].set(0)

    def publish(self, state: EngineState, links: dict[str, LinkServer]) -> None:
        """Copy the gauges and totals from the engine's state and the links. Takes some 0.1 ms: a few times a second."""
        cells = self._cells
        live = [state.orders[order_id] for route in state.routes.values() for order_id in route.live]
        cells["stage"].set(state.stage)
        cells["kill_level"].set(max([state.kill, *(kill.level for kill in state.kills.values())]))
        cells["entries_barred"].set(bool(state.entries_barred))
        cells["routes_up"].set(sum(route.up for route in state.routes.values()))
        cells["routes_ready"].set(sum(route.ready for route in state.routes.values()))
        cells["working"].set(len(live))
        cells["unknown"].set(sum(order.state is LegState.UNKNOWN for order in live))
        retired = {name for name, route in state.routes.items() if route.retired_ns}
        cells["orphans"].set(sum(orphan.route not in retired for orphan in state.orphans.values()))
        cells["contradictions"].set(sum(len(route.contradictions) for route in state.routes.values()))
        cells["routes_overdue"].set(sum(bool(route.overdue_since_ns) for route in state.routes.values()))
        positions = [each for route in state.routes.values() for each in route.positions.values()]
        cells["positions_unsettled"].set(sum(bool(each.blocked or each.mismatch_snapshots) for each in positions))
        cells["latches"].set(len(state.latches))
        cells["accounts_left"].set(len(accounts_left(state)))
        for name in _ENGINE:
            cells[f"engine_{name}"].set(state.counts.get(name, 0))
        cells["ports_taken"].set(sum(len(server.listener.doors.taken) for server in links.values()))
        for link, server in links.items():
            for name, value in (server.counts | server.listener.counts).items():
                # Added, not set: the page goes on with the counts of the former process.
                cells[f"{link}_{name}"].add(value - self._link_counts.get(f"{link}_{name}", 0))
                self._link_counts[f"{link}_{name}"] = value
