"""Answer queries of the operator and of NEXUS from the engine's state."""

from __future__ import annotations

from collections.abc import Mapping

from ...messages import (
    AccountState,
    AdminResult,
    Executions,
    Position,
    Positions,
    PositionState,
    Query,
    QueryKind,
    RejectCode,
    WorkingOrder,
    WorkingOrders,
)
from ..effects import AnswerAdmin
from ..orders.activity import describe_latches
from ..orders.contradictions import describe
from ..orders.executions import fill_of
from ..signals.reports import make_report
from ..state import RouteRecord
from ..turn import Turn, describe_time, kill_level, live_orders

_MAX_ROWS = 5_000
_MAX_CONTRADICTIONS = 500  # of some 1,500 bytes each: more would not fit into one message


def apply_query(turn: Turn, query: Query, peer: str, agreed_ns: Mapping[str, int]) -> None:
    """Answer with one message an account, or with one report or status.

    `agreed_ns`: route -> when a regular comparison last agreed, engine's time.
    """
    if query.what is QueryKind.STATUS:
        turn.effects.append(AnswerAdmin(_status(turn, query), peer))
        return
    if query.what is QueryKind.REPORT:
        record = turn.state.signals.get(query.signal_id)
        if record is None:
            text = f"no signal {query.signal_id!r} is known"
            refused = AdminResult(
                request_id=query.request_id, accepted=False, done=False, code=RejectCode.UNKNOWN_SIGNAL, text=text
            )
            turn.effects.append(AnswerAdmin(refused, peer))
        else:
            turn.effects.append(AnswerAdmin(make_report(turn, record), peer))
        return
    for name, route in turn.state.routes.items():
        if query.platform not in ("", route.platform):
            continue
        if route.retired_ns and query.what is not QueryKind.ACCOUNT_STATE:
            continue  # nothing is known of it any more, but that it is retired
        agreed = 0 if route.retired_ns else agreed_ns.get(name, 0)  # what was compared before says nothing any more
        as_of_ns = turn.stamp(max(route.last_reconciled_ns, agreed))
        if query.what is QueryKind.POSITIONS:
            turn.effects.append(AnswerAdmin(_positions(turn, route, as_of_ns), peer))
        elif query.what is QueryKind.WORKING_ORDERS:
            turn.effects.append(AnswerAdmin(_working(turn, route, as_of_ns), peer))
        elif query.what is QueryKind.EXECUTIONS:
            turn.effects.append(AnswerAdmin(_executions(turn, route, as_of_ns), peer))
        elif query.what is QueryKind.ACCOUNT_STATE:
            turn.effects.append(AnswerAdmin(_account_state(turn, name, route, as_of_ns), peer))
        elif route.funds is not None:
            turn.effects.append(AnswerAdmin(route.funds, peer))


def _positions(turn: Turn, route: RouteRecord, as_of_ns: int) -> Positions:
    rows = tuple(
        Position(symbol=symbol, quantity=position.net, avg_price=position.avg_price, contract=position.contract)
        for symbol, position in route.positions.items()
    )
    return Positions(platform=route.platform, account=route.account, rows=rows, as_of_ns=as_of_ns)


def _account_state(turn: Turn, name: str, route: RouteRecord, as_of_ns: int) -> AccountState:
    positions = tuple(
        PositionState(
            symbol=symbol,
            quantity=position.net,
            reported=position.reported,
            agrees=not position.mismatch_snapshots and not position.blocked,
            acknowledged=not position.blocked,
            avg_price=position.avg_price,
            contract=position.contract,
            reported_ns=turn.stamp(position.reported_ns),
        )
        for symbol, position in route.positions.items()
    )
    standing = list(route.contradictions.values())[:_MAX_CONTRADICTIONS]
    return AccountState(
        platform=route.platform,
        account=route.account,
        linked=route.up,
        ready=route.ready and not route.overdue_since_ns,
        overdue_since_ns=turn.stamp(route.overdue_since_ns),
        reconciled_ns=as_of_ns,
        positions=positions[:_MAX_ROWS],
        contradictions=tuple(describe(turn, route, each) for each in standing),
        retired_ns=turn.stamp(route.retired_ns),
    )


def _working(turn: Turn, route: RouteRecord, as_of_ns: int) -> WorkingOrders:
    rows = [
        WorkingOrder(
            client_order_id=order.order.client_order_id,
            symbol=order.order.symbol,
            side=order.order.side,
            state=order.state,
            quantity=order.quantity,
            filled=order.cum_qty,
            platform_order_id=order.platform_order_id,
            order_type=order.order.order_type,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )
        for order in live_orders(turn.state, route)
    ]
    rows += route.external_orders
    return WorkingOrders(
        platform=route.platform,
        account=route.account,
        rows=tuple(rows[:_MAX_ROWS]),
        as_of_ns=as_of_ns,
    )


def _executions(turn: Turn, route: RouteRecord, as_of_ns: int) -> Executions:
    newest = [(key, turn.state.executions[key]) for key in list(route.executions)[-_MAX_ROWS:]]
    rows = tuple(fill_of(key, execution) for key, execution in newest if execution.counts)
    return Executions(platform=route.platform, account=route.account, rows=rows, as_of_ns=as_of_ns)


def _status(turn: Turn, query: Query) -> AdminResult:
    state = turn.state
    stage = state.limits.stages[state.stage]
    lines = [
        f"stage {state.stage} ({stage.name}), kill switch {state.kill.name.lower()}",
        f"trades today {len(state.day.trades)} of {stage.max_trades_per_day}, loss {state.day.loss_usd()} USD of "
        f"{state.limits.max_daily_loss_usd}",
        *describe_latches(state),
    ]
    for name, route in state.routes.items():
        if route.retired_ns:
            lines.append(f"{name}: retired {describe_time(route.retired_ns + state.wall_offset_ns)}")
            continue
        orders = live_orders(state, route)
        unknown = sum(order.state == "unknown" for order in orders)
        link = "severed" if route.severed else "up" if route.up else "down"
        lines.append(
            f"{name}: link {link}, {'reconciled' if route.ready else 'not reconciled'}, "
            f"{kill_level(state, name).name.lower()}, {len(orders)} working, {unknown} unknown"
        )
        if route.overdue_since_ns:
            lines.append(f"{name}: owes a complete snapshot, what it holds and works is unknown")
        for each in route.contradictions.values():
            shown = describe(turn, route, each)
            text = (
                f"{name}: {shown.kind} of {shown.exec_id or shown.client_order_id or shown.symbol}: said {shown.said}"
            )
            lines.append(f"{text}; expected {shown.expected}; {shown.barred}; ends when {shown.ends}"[:512])
        for symbol, position in route.positions.items():
            if position.mismatch_snapshots or position.blocked:
                typed = f"entries wait for `acknowledge {symbol} --holds LOTS`"
                wait = typed if position.blocked else "a second snapshot decides"
                lines.append(f"{name}: {symbol} booked {position.net}, platform {position.reported}; {wait}"[:512])
    for order_id, orphan in state.orphans.items():
        if state.routes[orphan.route].retired_ns:
            continue
        lines.append(f"orphan {order_id} on {orphan.route}")
    return AdminResult(request_id=query.request_id, accepted=True, done=True, lines=tuple(lines[:500]))
