"""Compare an account's positions with a snapshot: what differs twice by the same figure is taken from the platform."""

from __future__ import annotations

from decimal import Decimal

from .....shm.durations import NS_PER_MS
from ....messages import RejectCode
from ...events import SnapshotChanges
from ...state import ZERO, EngineState, RouteRecord, route_of
from ...turn import Turn
from ..contradictions import STRIKES
from ..external_lots import add_external
from .changes import by_ticket, sum_positions
from .settlement import note_unstable_position, settle_position, stands_about_orders


def has_flattened(turn: Turn, route: RouteRecord) -> bool:
    """Whether the platform's own flatten is over: all is flat, or patience is, and no closing order of it works."""
    held = {symbol: position.reported for symbol, position in route.positions.items() if position.reported}
    patience_ns = turn.state.settings.sever_patience_ms * NS_PER_MS
    closes = any(held.get(row.symbol, ZERO) * row.side.sign < 0 for row in route.external_orders)
    return not held or (turn.now_ns - route.flatten_sent_ns >= patience_ns and not closes)


def note_positions(turn: Turn, name: str, changes: SnapshotChanges) -> None:
    """Note what the platform reports, complete or not: it is shown, and closed by `kill --unproven`."""
    route, snapshot = turn.state.routes[name], changes.snapshot
    if changes.same_positions:
        for symbol in route.positions:
            position = turn.position(name, symbol)
            position.reported, position.reported_ns = position.reported or ZERO, turn.now_ns
        return
    reported = sum_positions(snapshot.positions)
    for row in by_ticket(snapshot.positions):
        position = turn.position(name, row.symbol)
        position.contract = row.contract
        position.avg_price = row.avg_price
    is_whole = snapshot.complete and snapshot.positions.complete
    for symbol in dict.fromkeys([*route.positions, *reported]) if is_whole else reported:
        position = turn.position(name, symbol)
        position.reported, position.reported_ns = reported.get(symbol, ZERO), turn.now_ns
        if not position.reported:
            position.avg_price = None


def note_booked(turn: Turn, route: RouteRecord, changes: SnapshotChanges) -> None:
    """Note what we have booked of what the positions of this snapshot can hold, once it has been applied."""
    newer = newer_than(turn.state, route, changes)
    for symbol, position in route.positions.items():
        if position.reported_ns == turn.now_ns:
            position.reported_net = position.net - newer.get(symbol, ZERO)


def find_gaps(state: EngineState, route: RouteRecord, changes: SnapshotChanges) -> dict[str, Decimal]:
    """Platform's lots less ours, per symbol; executions that the snapshot cannot hold yet are left out of ours."""
    if changes.same_positions:
        theirs = {symbol: position.reported or ZERO for symbol, position in route.positions.items()}
    else:
        theirs = sum_positions(changes.snapshot.positions)
    newer = newer_than(state, route, changes)
    gaps = {}
    for symbol in dict.fromkeys([*route.positions, *theirs]):
        position = route.positions.get(symbol)
        ours = ZERO if position is None else position.net
        gaps[symbol] = theirs.get(symbol, ZERO) - (ours - newer.get(symbol, ZERO))
    return gaps


def apply_positions(turn: Turn, route: RouteRecord, changes: SnapshotChanges, settled_ns: int) -> int:
    """Compare net positions with the platform's. The first snapshot is adopted; a later difference blocks entries."""
    name = route_of(route.platform, route.account)
    if not changes.same_positions and not newer_than(turn.state, route, changes):
        tickets: dict[str, dict[str, Decimal]] = {}
        for row in changes.snapshot.positions.rows:
            if row.ticket:
                tickets.setdefault(row.symbol, {})[row.ticket] = row.quantity
        if tickets != route.tickets:  # else they keep their order, as they do where the rows are left out
            route.tickets = tickets
    doubts = 0
    traded = traded_since(turn.state, route, settled_ns)
    for symbol, gap in find_gaps(turn.state, route, changes).items():
        position = turn.position(name, symbol)
        if not gap:
            position.mismatch, position.mismatch_snapshots = ZERO, 0
            settle_position(turn, name, symbol, "the position agrees with the executions")
            continue
        if not route.reconciled_before and not stands_about_orders(route, symbol):
            # Nothing is known of this account yet: what it holds was there before us.
            turn.count("position_adopted")
            adopt_position(turn, route, symbol, gap, block=False)
            continue
        doubts += 1
        if position.mismatch_snapshots and gap != position.mismatch:
            note_unstable_position(turn, name, symbol, position, gap)
        position.mismatch_snapshots = position.mismatch_snapshots + 1 if gap == position.mismatch else 1
        position.mismatch = gap
        if symbol in traded:
            position.mismatch_snapshots = 1  # the list of positions may lag behind a fill of just now
        # While an execution there cannot be true, the figure alone does not say which legs hold what.
        if position.mismatch_snapshots >= STRIKES and not stands_about_orders(route, symbol):
            turn.count("position_drift")
            adopt_position(turn, route, symbol, gap, block=True)
            settle_position(turn, name, symbol, "two snapshots show the same position")
    return doubts


def traded_since(state: EngineState, route: RouteRecord, settled_ns: int) -> set[str]:
    """Return the symbols with an execution that was booked after `settled_ns`, engine's time."""
    symbols = set()
    for key in reversed(route.executions):
        record = state.executions[key]
        if record.seen and record.booked_ns <= settled_ns:
            break  # in the order of booking: the rest was booked earlier
        if record.counts:
            symbols.add(record.symbol)
    return symbols


def newer_than(state: EngineState, route: RouteRecord, changes: SnapshotChanges) -> dict[str, Decimal]:
    """Sum lots per symbol of executions that are newer than the snapshot: its position cannot hold them yet."""
    snapshot, capabilities = changes.snapshot, route.hello.capabilities
    is_whole = snapshot.complete and snapshot.executions.complete
    if capabilities is None or not capabilities.executions_history or not is_whole:
        return {}
    newer: dict[str, Decimal] = {}
    for key in changes.unlisted_executions:
        record = state.executions.get(key)
        if record is not None and record.counts:
            newer[record.symbol] = newer.get(record.symbol, ZERO) + record.signed
    return {symbol: lots for symbol, lots in newer.items() if lots}


def adopt_position(turn: Turn, route: RouteRecord, symbol: str, gap: Decimal, block: bool) -> None:
    """Take the platform's figure, or the operator's, for a position: it is `gap` lots more than booked."""
    position = turn.position(route_of(route.platform, route.account), symbol)
    # The difference is external: no leg of ours explains it. What it took off our legs is subtracted from them.
    position.net += gap
    position.mismatch, position.mismatch_snapshots = ZERO, 0
    position.blocked = position.blocked or block
    add_external(turn, route_of(route.platform, route.account), symbol, gap)
    turn.alert(
        RejectCode.POSITION_MISMATCH,
        f"{symbol}: platform holds {position.net}, {gap:+} more than booked; its figure is adopted"
        + (f"; new orders wait for `acknowledge {symbol} --holds LOTS`" if block else ""),
        route.platform,
    )
