"""Reduce a snapshot to what it changes: the rows that repeat what is booked are left out, and what it lacks is named.

A snapshot lists every execution of the day, most of them for the hundredth time. The reduced one is what the journal
keeps and the engine applies: its size follows what is new, not what was traded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from msgspec import structs

from .....shm.durations import NS_PER_S
from ....messages import Fill, LegState, Position, Positions, Snapshot, WorkingOrder, find_client_order_id
from ...events import SnapshotChanges
from ...state import ZERO, EngineState, ExecutionRecord, OrderRecord, RouteRecord, route_of
from ..contradictions import doubt_row
from ..executions import booked_key
from ..recognition import is_elsewhere
from ..transitions import TRANSITIONS, OrderEvent
from ..updates import reported_filled

_CONFIRMED: Final = {
    LegState.WORKING: OrderEvent.ACKNOWLEDGED,
    LegState.PARTIALLY_FILLED: OrderEvent.ACKNOWLEDGED_PARTIAL,
}
_ENDED: Final = {
    LegState.CANCELLED: OrderEvent.CANCELLED,
    LegState.REJECTED: OrderEvent.REJECTED,
    LegState.EXPIRED: OrderEvent.EXPIRED,
}


def reduce_snapshot(state: EngineState, snapshot: Snapshot) -> SnapshotChanges:
    """Return what a snapshot changes in this state. Changes nothing itself.

    Applied to this state, it has the same outcome as the whole snapshot. Of an answer that is not awaited nothing is
    left but its request's number.
    """
    route = state.routes.get(route_of(snapshot.platform, snapshot.account))
    if route is None or not route.request_pending or snapshot.request_id != route.request_id:
        return SnapshotChanges(snapshot=_without_rows(snapshot))
    return find_changes(state, route, snapshot)


def find_changes(state: EngineState, route: RouteRecord, snapshot: Snapshot) -> SnapshotChanges:
    """Return what a snapshot of this route changes; also of one that the engine has not requested."""
    fills, unlisted_executions = _new_executions(state, route, snapshot)
    # Executions are applied first, and change what the rows of their orders and the positions mean.
    traded = _orders_of(state, fills, unlisted_executions)
    rows, unlisted_orders, same_external = _new_orders(state, route, snapshot, traded)
    whole_positions = snapshot.complete and snapshot.positions.complete
    same_positions = not fills and not unlisted_executions and whole_positions and not moved_positions(route, snapshot)
    working, executions, positions = snapshot.working_orders, snapshot.executions, snapshot.positions
    return SnapshotChanges(
        snapshot=structs.replace(
            snapshot,
            executions=structs.replace(executions, rows=tuple(fills)),
            working_orders=structs.replace(working, rows=tuple(rows)),
            positions=structs.replace(positions, rows=()) if same_positions else positions,
        ),
        unlisted_executions=tuple(unlisted_executions),
        unlisted_orders=tuple(unlisted_orders),
        same_external_orders=same_external,
        same_positions=same_positions,
    )


def _without_rows(snapshot: Snapshot) -> Snapshot:
    return structs.replace(
        snapshot,
        executions=structs.replace(snapshot.executions, rows=()),
        working_orders=structs.replace(snapshot.working_orders, rows=()),
        positions=structs.replace(snapshot.positions, rows=()),
        funds=None,
    )


def booked_since(state: EngineState, route: RouteRecord, stamped_ns: int) -> Iterator[tuple[str, ExecutionRecord]]:
    """Yield the executions of a route that can have been stamped at `stamped_ns` (UTC ns) or later, newest first."""
    limit_ns = stamped_ns - route.stamp_lead_ns
    for key in reversed(route.executions):
        record = state.executions[key]
        if record.seen and record.booked_ns < limit_ns:
            return  # in the order of booking: the rest was booked earlier
        yield key, record


def _new_executions(state: EngineState, route: RouteRecord, snapshot: Snapshot) -> tuple[list[Fill], list[str]]:
    """Return the rows that are not booked as they are listed, and the keys of booked ones that are not listed."""
    part = snapshot.executions
    times = Counter(fill.exec_id for fill in part.rows)
    doubted = {each.exec_id for each in route.contradictions.values() if each.exec_id}
    new, listed = [], set()
    for fill in part.rows:
        key = booked_key(state, fill)
        listed.add(key)
        if times[fill.exec_id] > 1 or fill.exec_id in doubted or not _repeats(state.executions.get(key), fill):
            new.append(fill)
    able = route.hello.capabilities
    if able is None or not able.executions_history:
        return new, []  # such a platform lists none of the past: nothing follows from their absence
    unlisted = [
        key
        for key, record in booked_since(state, route, part.from_ns)
        if key not in listed and record.counts and record.ts_event_ns >= part.from_ns
    ]
    return new, unlisted[::-1]


def _repeats(record: ExecutionRecord | None, fill: Fill) -> bool:
    """Whether a row, the only one of its id, says what is booked and nothing else."""
    if record is None or not record.counts or record.missed_snapshots or record.differing_snapshots:
        return False
    if (fill.quantity, fill.price) != (record.quantity, record.price):
        return False
    terms = (fill.symbol, fill.side.sign) == (record.symbol, record.sign)
    if not terms or abs(fill.ts_event_ns - record.ts_event_ns) > NS_PER_S:
        return False
    parts = find_client_order_id(fill.client_order_id)
    return parts is None or parts.client_order_id == record.client_order_id


def _orders_of(state: EngineState, fills: list[Fill], keys: list[str]) -> set[str]:
    named = (find_client_order_id(fill.client_order_id) for fill in fills)
    booked = (state.executions.get(key) for key in [*keys, *(booked_key(state, fill) for fill in fills)])
    ids = {parts.client_order_id for parts in named if parts is not None}
    return ids | {record.client_order_id for record in booked if record is not None}


def _new_orders(
    state: EngineState, route: RouteRecord, snapshot: Snapshot, traded: set[str]
) -> tuple[list[WorkingOrder], list[str], bool]:
    """Return the rows to apply, the ids of live orders without a row, and whether the orders of others are the same.

    `traded`: ids of orders with executions that are new or not listed; their rows are applied in any case.
    """
    name = route_of(route.platform, route.account)
    doubted = traded | {each.client_order_id for each in route.contradictions.values()}
    new: list[WorkingOrder] = []
    external: list[WorkingOrder] = []
    listed = set()
    copied = False
    for row in snapshot.working_orders.rows:
        parts = find_client_order_id(row.client_order_id)
        if parts is None:
            if not row.state.final:
                external.append(row)
            continue
        listed.add(parts.client_order_id)
        record = state.orders.get(parts.client_order_id)
        is_copy = is_elsewhere(state, name, parts.client_order_id)
        copied |= is_copy
        if record is None or parts.client_order_id in doubted or is_copy or not _repeats_order(record, row):
            new.append(row)
    unlisted = [order_id for order_id in route.live if order_id not in listed]
    same_external = not copied and in_order(external) == route.external_orders
    return new + ([] if same_external else external), unlisted, same_external


def _repeats_order(record: OrderRecord, row: WorkingOrder) -> bool:
    """Whether a row says what is known of an order and nothing else."""
    if doubt_row(record, row) is not None or record.unreported_qty or record.presumed_ended:
        return False
    if row.quantity > record.most_qty or reported_filled(record, row) > record.platform_cum_qty:
        return False
    if row.platform_order_id not in ("", record.platform_order_id):
        return False
    if not record.live:
        # Some platforms report an end both ways; what ends it otherwise is alerted when it is applied.
        if row.state not in _ENDED:
            return row.state is LegState.FILLED
        again = TRANSITIONS.get((record.state, _ENDED[row.state]))
        return again is not None and again.state is record.state
    if record.replace is not None or record.cancel_wanted or record.missed_snapshots or record.unknown_since_ns:
        return False
    confirmed = _CONFIRMED.get(row.state)
    event = OrderEvent.ACKNOWLEDGED_PARTIAL if record.cum_qty else OrderEvent.ACKNOWLEDGED
    if confirmed is None or not record.acked_ns or TRANSITIONS[record.state, event].state is not record.state:
        return False
    return (
        row.quantity == record.quantity
        and row.limit_price in (None, record.limit_price)
        and row.stop_price in (None, record.stop_price)
    )


def in_order(rows: list[WorkingOrder]) -> list[WorkingOrder]:
    """Return orders of others in an order that does not depend on how the platform lists them."""
    return sorted(rows, key=lambda row: (row.platform_order_id, row.client_order_id))


def by_ticket(positions: Positions) -> list[Position]:
    """Return the rows in an order that does not depend on how the platform lists them."""
    return sorted(positions.rows, key=lambda row: row.ticket)


def sum_positions(positions: Positions) -> dict[str, Decimal]:
    """Return what a platform reports as held: symbol -> lots, signed, all tickets of it together."""
    lots: dict[str, Decimal] = {}
    for row in positions.rows:
        lots[row.symbol] = lots.get(row.symbol, ZERO) + row.quantity
    return lots


def moved_positions(route: RouteRecord, snapshot: Snapshot) -> set[str]:
    """Return the symbols that are not held as they were last reported, at the same price, in the same contract and
    tickets. Of a list of positions that is complete.
    """
    reported = sum_positions(snapshot.positions)
    newest: dict[str, Position] = {}
    tickets: dict[str, dict[str, Decimal]] = {}
    for row in by_ticket(snapshot.positions):
        newest[row.symbol] = row  # `note_positions` keeps contract and price of the last row of a symbol
        if row.ticket:
            tickets.setdefault(row.symbol, {})[row.ticket] = row.quantity
    moved = {symbol for symbol in (*tickets, *route.tickets) if tickets.get(symbol) != route.tickets.get(symbol)}
    for symbol in (*route.positions, *newest):
        position, lots, last = route.positions.get(symbol), reported.get(symbol, ZERO), newest.get(symbol)
        if position is None or position.reported != lots:
            moved.add(symbol)
        elif last is not None:
            price = last.avg_price if lots else None
            if (position.contract, position.avg_price) != (last.contract, price):
                moved.add(symbol)
    return moved
