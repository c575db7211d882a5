"""Signals that are over leave the state: they become rows of the journal. A later message about one brings it back.

So the state, its checkpoints and a start are as large as what is open, not as what was traded in a week. The process
around the engine knows the rows: it gives a signal back (`SignalRecalled`) before it hands over anything that could
change the signal, and leaves out what only repeats what its rows say.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from msgspec import structs

from ....shm.durations import NS_PER_DAY, NS_PER_MS
from ..effects import FinishedExecution, SignalFinished
from ..events import SignalRecalled
from ..state import STATE_LAYOUT, EngineState, ExecutionRecord, SignalRecord, route_of
from ..state.finished import FinishedName, FinishedSignal, read_finished, write_finished
from ..turn import Turn, activate, deactivate
from .arrival import release_unused
from .reports import is_done, make_report

_MOST_A_TICK: Final = 20
"""Signals that finish in one event: more would hold up the turn. The next event follows at once."""


def note_change(turn: Turn, record: SignalRecord) -> None:
    """Note that a signal has changed in this turn, and whether it is over by now."""
    state, signal_id = turn.state, record.signal.signal_id
    record.revision += 1
    record.changed_ns = turn.wall_ns
    state.over.pop(signal_id, None)
    if not is_done(turn, record):
        if signal_id not in state.active:
            activate(state, signal_id)
        record.done_ns = 0
        return
    state.over[signal_id] = turn.now_ns
    if signal_id in state.active:
        deactivate(state, signal_id)
        record.done_ns = turn.now_ns
        release_unused(turn, record)


def finish_signals(turn: Turn) -> None:
    """Make rows of the signals that have been over for `finished_after_ms`, the oldest first."""
    state = turn.state
    wait_ms = state.settings.finished_after_ms
    if wait_ms is None:
        return
    limit_ns = turn.now_ns - wait_ms * NS_PER_MS
    for signal_id, changed_ns in list(islice(state.over.items(), _MOST_A_TICK)):
        if changed_ns > limit_ns:
            break  # in order of their last change
        del state.over[signal_id]
        record = state.signals[signal_id]
        if _is_settled(turn, record):
            turn.effects.append(_finish(turn, record))
        else:
            state.over[signal_id] = turn.now_ns


def _is_settled(turn: Turn, record: SignalRecord) -> bool:
    """Whether nothing in the state waits for anything of this signal."""
    state = turn.state
    if not is_done(turn, record):
        return False
    for leg in record.legs:
        for key in leg.executions:
            execution = state.executions[key]
            # A snapshot has not listed it, or otherwise than it is booked: the next one decides. Or it is to be valued.
            in_doubt = execution.missed_snapshots or execution.differing_snapshots
            if in_doubt or key in state.day.unpriced_executions:
                return False
    return True


def _finish(turn: Turn, record: SignalRecord) -> SignalFinished:
    """Take a signal out of the state. Returns its rows."""
    state, signal_id = turn.state, record.signal.signal_id
    report = structs.replace(make_report(turn, record), changed_ns=record.changed_ns)
    orders = {order_id: state.orders[order_id] for leg in record.legs for order_id in leg.orders}
    keys = dict.fromkeys(key for leg in record.legs for key in leg.executions)
    keys |= dict.fromkeys(key for order in orders.values() for key in order.executions if key in state.executions)
    executions = {key: state.executions[key] for key in keys}
    unlisted = [key for key, each in executions.items() if key not in state.routes[each.route].executions]
    finished = FinishedSignal(
        record=record,
        report=report,
        orders=orders,
        executions=executions,
        unlisted=unlisted,
        tickets=list(_tickets(state, signal_id, executions)),
        names=list(_names(state, record)),
    )
    for order_id in orders:
        del state.orders[order_id]
    for key, execution in executions.items():
        route = state.routes[execution.route]
        del state.executions[key]
        route.executions.pop(key, None)
        day = turn.now_ns // NS_PER_DAY
        route.finished_until[day] = max(route.finished_until.get(day, 0), execution.ts_event_ns)
    for name, ticket, _ in finished.tickets:
        del state.routes[name].ticket_owner[ticket]
    for leg in record.legs:
        if leg.market is not None and leg.route in state.routes:
            state.routes[leg.route].finished_markets[leg.symbol] = leg.market
    del state.signals[signal_id]
    state.signals_by_key.pop(record.key, None)
    state.found_keys.pop(record.key, None)
    turn.count("finished")
    return SignalFinished(
        signal_id=signal_id,
        key=record.key,
        at_ns=turn.now_ns,
        layout=STATE_LAYOUT,
        payload=write_finished(finished),
        executions=tuple(_row(key, each, key not in unlisted) for key, each in executions.items()),
        report=report,
    )


def _tickets(
    state: EngineState, signal_id: str, executions: dict[str, ExecutionRecord]
) -> Iterator[tuple[str, str, int]]:
    seen = dict.fromkeys((each.route, each.ticket) for each in executions.values() if each.ticket)
    for route, ticket in seen:
        owner = state.routes[route].ticket_owner.get(ticket)
        if owner is not None and owner[0] == signal_id:
            yield route, ticket, owner[1]


def _names(state: EngineState, record: SignalRecord) -> Iterator[FinishedName]:
    for name, symbol in dict.fromkeys((leg.route, leg.symbol) for leg in record.legs):
        route = state.routes.get(name)
        if route is not None:
            contracts = (each.contract for each in route.hello.instruments if each.symbol == symbol)
            yield FinishedName(name, symbol, next(contracts, ""), route.retired.get(symbol, ""))


def _row(key: str, record: ExecutionRecord, is_listed: bool) -> FinishedExecution:
    return FinishedExecution(
        key=key,
        route=record.route,
        client_order_id=record.client_order_id,
        symbol=record.symbol,
        sign=record.sign,
        quantity=record.quantity,
        price=record.price,
        fee=record.fee,
        fee_currency=record.fee_currency,
        ticket=record.ticket,
        ts_event_ns=record.ts_event_ns,
        booked_ns=record.booked_ns,
        listed=is_listed and record.counts,
        presumed_busted=record.presumed_busted,
    )


def recall_signal(turn: Turn, event: SignalRecalled) -> None:
    """Put a signal back into the state, as if it had never left. It finishes again later.

    Raises: GatewayError when the row cannot be read.
    """
    state = turn.state
    finished = read_finished(event.layout, event.payload)
    record = finished.record
    signal_id = record.signal.signal_id
    if signal_id in state.signals:
        return
    _rename(state, finished)
    state.signals[signal_id] = record
    state.signals_by_key[record.key] = signal_id
    state.over[signal_id] = turn.now_ns
    state.orders |= finished.orders
    state.executions |= finished.executions
    _list_again(state, finished)
    for name, ticket, leg in finished.tickets:
        state.routes[name].ticket_owner.setdefault(ticket, (signal_id, leg))
    turn.count("recalled")


def _list_again(state: EngineState, finished: FinishedSignal) -> None:
    """Put executions back among those of their accounts, in the order of booking, by which they are searched."""
    for name in dict.fromkeys(each.route for each in finished.executions.values()):
        route = state.routes[name]
        places, latest_ns = [], 0
        for key in route.executions:
            latest_ns = max(latest_ns, state.executions[key].booked_ns)
            places.append((latest_ns, key))
        for key, each in finished.executions.items():
            if each.route == name and key not in finished.unlisted and each.booked_ns > route.cleared_ns:
                places.append((each.booked_ns, key))
        places.sort(key=lambda place: place[0])
        route.executions = dict.fromkeys(key for _, key in places)


def _rename(state: EngineState, finished: FinishedSignal) -> None:
    """Give what a roll has renamed since the name that it has now. All at once: an old name may be a new one."""
    names = {(each.route, each.symbol): _name_now(state, each) for each in finished.names}
    for leg in finished.record.legs:
        leg.symbol = names.get((leg.route, leg.symbol), leg.symbol)
    for order in finished.orders.values():
        terms = order.order
        name = names.get((route_of(terms.platform, terms.account), terms.symbol), terms.symbol)
        if name != terms.symbol:
            order.order = structs.replace(terms, symbol=name)
    for execution in finished.executions.values():
        execution.symbol = names.get((execution.route, execution.symbol), execution.symbol)


def _name_now(state: EngineState, name: FinishedName) -> str:
    route = state.routes.get(name.route)
    if route is None:
        return name.symbol
    if name.root:
        return name.symbol if name.symbol in route.retired else name.root
    return name.contract if name.contract and route.retired.get(name.contract) == name.symbol else name.symbol
