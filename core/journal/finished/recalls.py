"""Recall finished signals before the engine is given anything that could change them.

The engine's state holds only what is open, and what was over minutes ago. Rows of the journal hold the rest. Whatever
names a signal, an order, an execution or a position ticket that the state does not know is looked up there first: its
signal goes back into the state by an event of its own, as if it had never left. What only repeats the rows, as each
snapshot does that lists the day, is left out of the event instead: the engine would find nothing new in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, structs

from ...engine import (
    AdapterSaid,
    EngineState,
    Event,
    FinishedExecution,
    NexusAsked,
    SignalArrived,
    SignalRecalled,
    route_of,
)
from ...engine.orders.executions import execution_key, second_use
from ...engine.orders.updates import row_of
from ...engine.signals.repeats import repeats_execution, repeats_order
from ...engine.state import OrderRecord
from ...engine.state.finished import read_finished
from ...messages import (
    Correction,
    Fill,
    OrderIdParts,
    OrderUpdate,
    Reject,
    Snapshot,
    WorkingOrder,
    find_client_order_id,
    signal_key,
)
from .rows import FinishedRecord, FinishedRows

_MOST_KNOWN: Final = 40_000
"""Repetitions that are remembered, of some 200 bytes each: the executions and orders of a busy day."""


class _Repeated(Struct, frozen=True):
    """What was found to repeat a row: its hash, and whose it is; of an execution when it happened and was booked, and
    whether snapshots have to list it.
    """

    digest: int
    signal_id: str
    ts_event_ns: int = 0
    booked_ns: int = 0
    listed: bool = False


class Recalls:
    """Used by the gateway's thread, beside the engine and its journal."""

    def __init__(self, rows: FinishedRows) -> None:
        self._rows = rows
        self._known: dict[str, _Repeated] = {}  # what platforms repeat again and again is looked up once

    def resolve(self, state: EngineState, event: Event) -> tuple[list[SignalRecalled], Event | None]:
        """Return the recalls to give to the engine before an event, and the event without what it only repeats; None
        when nothing of it is left.

        Raises:
            JournalError: the rows cannot be read.
            GatewayError: a row is of a newer program.
        """
        look = _Look(self._rows, state, self._known)
        kept: Event | None = event
        match event:
            case SignalArrived(signal=signal):
                look.want_key(signal_key(signal.signal_id))
            case NexusAsked(request=request):
                look.want_key(signal_key(request.signal_id))
            case AdapterSaid(message=Fill() as fill):
                kept = None if look.repeats_fills([fill]) else event
            case AdapterSaid(message=Correction() as correction):
                look.want_execution(execution_key(correction.platform, correction.account, correction.exec_id))
            case AdapterSaid(message=OrderUpdate() as update):
                kept = None if look.repeats_row(row_of(update), route_of(update.platform, update.account)) else event
            case AdapterSaid(message=Reject(client_order_id=order_id)):
                look.want_order(find_client_order_id(order_id))
            case AdapterSaid(message=Snapshot() as snapshot) if _is_awaited(state, snapshot):
                kept = structs.replace(event, message=look.without_repetitions(snapshot))
            case _:
                pass
        if look.wanted:
            self._known.clear()  # their rows may be other ones when they finish again
        self._bound()
        recalls = [
            SignalRecalled(signal_id=each.signal_id, layout=each.layout, payload=each.payload)
            for each in look.wanted.values()
        ]
        return recalls, kept

    def without_repetitions(self, state: EngineState, snapshot: Snapshot) -> tuple[list[str], Snapshot]:
        """Return the ids of finished signals of which a snapshot reports more than their rows, and the snapshot without
        what only repeats the rows. For comparisons that are no event: nothing is recalled.

        Raises:
            JournalError, GatewayError: as `resolve`.
        """
        look = _Look(self._rows, state, self._known)
        made = look.without_repetitions(snapshot)
        self._bound()
        return list(look.wanted), made

    def _bound(self) -> None:
        for first in list(self._known)[: max(len(self._known) - _MOST_KNOWN, 0)]:
            del self._known[first]


def _is_awaited(state: EngineState, snapshot: Snapshot) -> bool:
    route = state.routes.get(route_of(snapshot.platform, snapshot.account))
    return route is not None and route.request_pending and snapshot.request_id == route.request_id


class _Look:
    """One look for what an event names. `wanted`: the signals to recall."""

    def __init__(self, rows: FinishedRows, state: EngineState, known: dict[str, _Repeated]) -> None:
        self._rows, self._state, self._known = rows, state, known
        self.wanted: dict[str, FinishedRecord] = {}
        # One row of a snapshot after the other names the same signal: it is read once.
        self._of_keys: dict[str, tuple[FinishedRecord | None, dict[str, OrderRecord]]] = {}

    def want_key(self, key: str) -> None:
        """Recall the signal with this key in its ClOrdIDs, if it has finished."""
        if key not in self._state.signals_by_key:
            self._want(self._rows.of_key(key))

    def want_signal(self, signal_id: str) -> None:
        """Recall a signal, if it has finished."""
        if signal_id and signal_id not in self._state.signals and signal_id not in self.wanted:
            self._want(self._rows.of_signal(signal_id))

    def want_execution(self, key: str) -> None:
        """Recall the signal of an execution, if it has finished."""
        if key not in self._state.executions:
            found = self._rows.execution(key)
            if found is not None:
                self.want_signal(found[0])

    def want_order(self, parts: OrderIdParts | None) -> None:
        """Recall the signal of an order that the state does not know, if it has finished."""
        state = self._state
        if parts is not None and not (parts.client_order_id in state.orders or parts.client_order_id in state.orphans):
            self.want_key(parts.key)

    def _want(self, record: FinishedRecord | None) -> None:
        if record is not None:
            self.wanted[record.signal_id] = record

    def repeats_fills(self, fills: list[Fill]) -> list[_Repeated]:
        """Return what reports of one execution id repeat, one each; empty when the engine has to judge them."""
        found = []
        for fill in fills:
            repeated = self._repeats_fill(fill)
            if repeated is not None:
                found.append(repeated)
        if len(found) == len(fills):
            return found
        for fill in fills:  # one of several uses of an id is new or in doubt: the engine needs all of them
            for key in _keys_of(fill):
                self.want_execution(key)
        return []

    def _repeats_fill(self, fill: Fill) -> _Repeated | None:
        parts, state = find_client_order_id(fill.client_order_id), self._state
        key = execution_key(fill.platform, fill.account, fill.exec_id)
        known = self._known.get(key)
        if known is not None and known.digest == hash(fill):
            return known
        booked = state.executions.get(key)
        if booked is not None and (booked.quantity, booked.price) == (fill.quantity, fill.price):
            self.want_order(parts)
            return None
        doubted = []
        second = f"{key}{second_use(fill)}"
        if second in state.executions:
            self.want_order(parts)
            return None
        for each in (second,) if booked is not None else (key, second):
            known = self._known.get(each)
            if known is not None and known.digest == hash(fill):
                return known
            found = self._rows.execution(each)
            if found is None:
                continue
            signal_id, execution = found
            if repeats_execution(execution, fill, "" if parts is None else parts.client_order_id):
                return self._remember(each, fill, signal_id, execution)
            doubted.append(signal_id)
        for signal_id in doubted:
            self.want_signal(signal_id)
        self.want_order(parts)  # of a doubted one too: it may be another execution, of another signal
        route = state.routes.get(route_of(fill.platform, fill.account))
        ticket = fill.position_ticket
        if not doubted and booked is None and route is not None and ticket and ticket not in route.ticket_owner:
            self.want_signal(self._rows.signal_of_ticket(route_of(fill.platform, fill.account), ticket))
        return None

    def _remember(self, key: str, fill: Fill, signal_id: str, execution: FinishedExecution) -> _Repeated:
        known = _Repeated(hash(fill), signal_id, execution.ts_event_ns, execution.booked_ns, execution.listed)
        self._known[key] = known
        return known

    def repeats_row(self, row: WorkingOrder, route: str) -> _Repeated | None:
        """Return what an order status repeats, if it only reports how an order of a finished signal has ended. Else
        None, and its signal is wanted, if it has finished.
        """
        parts, state = find_client_order_id(row.client_order_id), self._state
        if parts is None or parts.client_order_id in state.orders or parts.key in state.signals_by_key:
            return None
        if parts.client_order_id in state.orphans:
            return None
        name = f"{route}|{parts.client_order_id}"
        known = self._known.get(name)
        if known is not None and known.digest == hash(row):
            return known
        if parts.key not in self._of_keys:
            found = self._rows.of_key(parts.key)
            self._of_keys[parts.key] = found, {} if found is None else read_finished(found.layout, found.payload).orders
        record, orders = self._of_keys[parts.key]
        if record is None:
            return None
        order = orders.get(parts.client_order_id)
        if order is None or not repeats_order(order, row, route):
            self._want(record)
            return None
        known = self._known[name] = _Repeated(hash(row), record.signal_id)
        return known

    def without_repetitions(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot without the rows that only repeat what has finished. What it should list and does not is
        wanted: the engine decides what became of it.
        """
        name = route_of(snapshot.platform, snapshot.account)
        route = self._state.routes.get(name)
        if route is None:
            return snapshot
        uses: dict[str, list[Fill]] = {}
        for fill in snapshot.executions.rows:
            uses.setdefault(fill.exec_id, []).append(fill)
        repeated = {exec_id: self.repeats_fills(fills) for exec_id, fills in uses.items()}
        rows = [(row, self.repeats_row(row, name)) for row in snapshot.working_orders.rows]
        able = route.hello.capabilities
        if able is not None and able.executions_history and snapshot.complete and snapshot.executions.complete:
            from_ns, cleared_ns = snapshot.executions.from_ns, route.cleared_ns
            listed = sum(
                each.listed and each.ts_event_ns >= from_ns and each.booked_ns > cleared_ns
                for found in repeated.values()
                for each in found
            )
            if listed != self._rows.count_listed(name, from_ns, cleared_ns):
                self._want_unlisted(snapshot, self._rows.listed(name, from_ns, cleared_ns))
        self._want_together(repeated.values())
        # Of a signal that is recalled the engine needs every row: to it what is left out is not listed.
        left_out = {exec_id for exec_id, found in repeated.items() if found and self._are_finished(found)}
        fills = tuple(fill for fill in snapshot.executions.rows if fill.exec_id not in left_out)
        kept = tuple(row for row, known in rows if known is None or not self._are_finished([known]))
        return structs.replace(
            snapshot,
            executions=structs.replace(snapshot.executions, rows=fills),
            working_orders=structs.replace(snapshot.working_orders, rows=kept),
        )

    def _want_together(self, repeated: Iterable[list[_Repeated]]) -> None:
        """One id may stand for executions of several signals: the engine needs the rows of all of them, or of none."""
        groups = [{each.signal_id for each in found} for found in repeated if len(found) > 1]
        before = -1
        while before < len(self.wanted):
            before = len(self.wanted)
            for signal_ids in groups:
                if not signal_ids.isdisjoint(self.wanted):
                    for signal_id in signal_ids:
                        self.want_signal(signal_id)

    def _are_finished(self, repeated: list[_Repeated]) -> bool:
        return not any(each.signal_id in self.wanted for each in repeated)

    def _want_unlisted(self, snapshot: Snapshot, executions: dict[str, str]) -> None:
        listed = {key for fill in snapshot.executions.rows for key in _keys_of(fill)}
        for key, signal_id in executions.items():
            if key not in listed:
                self.want_signal(signal_id)


def _keys_of(fill: Fill) -> tuple[str, str]:
    """The keys under which an execution may be booked: as a second use of its id, or as its id."""
    key = execution_key(fill.platform, fill.account, fill.exec_id)
    return f"{key}{second_use(fill)}", key
