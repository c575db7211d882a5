"""The kill ladder: no new -> reduce only -> cancel all -> flatten -> sever. A rung holds when the platform
shows it.

Each rung is a condition on a platform's snapshot, taken after the last thing that was done about it.
`drive_kill` does what is missing, asks, and looks again; "verified" is never assumed from having sent
something.
"""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import (
    AccountMode,
    AdminResult,
    Cancel,
    Kill,
    KillLevel,
    LegState,
    Order,
    OrderRole,
    OrderType,
    RejectCode,
    Side,
    client_order_id,
    signal_key,
)
from ...messages.fields import MAX_QUANTITY
from ...messages.order_id import MAX_ATTEMPTS
from ..effects import AnswerAdmin, CutLink, SendToPlatform
from ..orders.exits import attempts_used_up, close_leg, retry_exit
from ..orders.links import request_snapshot, schedule_snapshot
from ..orders.placement import send_order, want_cancel
from ..state import OPENING, ZERO, EngineState, KillRecord, OrderRecord, RouteRecord
from ..turn import Turn, kill_level, live_orders, signals_of_route


def apply_kill(turn: Turn, command: Kill, peer: str) -> None:
    """Climb to a rung. Takes effect for new orders in this turn; the answer `done` comes when it is verified."""
    state = turn.state
    if not command.platform:
        whole_account = state.kill >= KillLevel.CANCEL_ALL and not state.kill_own_only
        state.kill_own_only = command.own_only and not whole_account
        state.kill = max(state.kill, command.level)
    lines = []
    for name, route in state.routes.items():
        if command.platform in ("", route.platform):
            _raise(turn, name, route, command, peer)
            lines.append(f"{name}: {command.level.name.lower()} asked" + ("" if route.up else ", link is down"))
    # What has never shown itself proves nothing: neither a platform that is yet to come nor a misspelt one.
    known = {route.platform for route in state.routes.values()}
    wanted = (command.platform,) if command.platform else state.settings.expected_platforms
    lines += [f"{platform}: no account of it has connected yet" for platform in wanted if platform not in known]
    turn.alert(RejectCode.KILL_SWITCH, f"{command.level.name.lower()} by {command.by}: {command.reason}")
    if peer:
        result = AdminResult(request_id=command.request_id, accepted=True, done=not lines, lines=tuple(lines[:500]))
        turn.effects.append(AnswerAdmin(result, peer))


def _raise(turn: Turn, name: str, route: RouteRecord, command: Kill, peer: str) -> None:
    record = turn.state.kills.setdefault(name, KillRecord())
    whole_account = not record.own_only and record.level >= KillLevel.CANCEL_ALL
    record.own_only = command.own_only and not whole_account
    record.level = max(record.level, command.level)
    record.requested_ns = turn.now_ns
    record.verified = False
    record.attempts = 0
    record.retry_ns = record.external_cancelled_ns = 0
    record.command, record.peer = command, peer
    if record.level >= KillLevel.FLATTEN:
        for signal in signals_of_route(turn.state, name):
            for leg in signal.legs:
                if leg.route == name:
                    retry_exit(turn, signal, leg)
    _ask_proof(turn, route, record)
    turn.touch_route(name)


def _ask_proof(turn: Turn, route: RouteRecord, record: KillRecord) -> None:
    record.verifying_request_id = route.request_id + 1
    if route.up:
        request_snapshot(turn, route)


def drive_kill(turn: Turn, name: str) -> None:
    """Take the next step on a route's rung, and say so when the platform shows that it holds."""
    record = turn.state.kills.get(name)
    route = turn.state.routes[name]
    if record is None or record.level is KillLevel.NORMAL:
        return
    if record.level >= KillLevel.REDUCE_ONLY:
        _cancel_orders(turn, name, route, record)
    if record.level >= KillLevel.FLATTEN:
        for signal in signals_of_route(turn.state, name):
            for number, leg in enumerate(signal.legs):
                if leg.route == name and not leg.closing:
                    close_leg(turn, signal, number)
    missing = _missing(turn, name, route, record)
    flat = not missing
    if record.level is KillLevel.SEVER:
        waited_ms = (turn.now_ns - record.requested_ns) // NS_PER_MS
        if not route.severed and (flat or waited_ms >= turn.state.settings.sever_patience_ms):
            route.severed = True
            turn.effects.append(CutLink(route.platform, route.account))
        if route.severed and not route.up:
            missing = "" if flat else missing
            _verify(turn, name, record, missing or "severed and flat")
        return
    if flat:
        _verify(turn, name, record, "")
        return
    record.verified = False
    record.text = missing
    if route.up and not route.request_pending and turn.now_ns >= record.retry_ns:
        record.retry_ns = turn.now_ns + turn.state.settings.retry_ms * NS_PER_MS
        if record.level >= KillLevel.FLATTEN and not record.own_only and not record.verifying_request_id:
            _close_account(turn, name, route, record)
        record.verifying_request_id = route.request_id + 1
        schedule_snapshot(turn, route, turn.state.settings.retry_ms)


def _verify(turn: Turn, name: str, record: KillRecord, text: str) -> None:
    if record.verified:
        return
    record.verified = True
    record.text = text or "verified"
    turn.alert(RejectCode.KILL_SWITCH, f"{name}: {record.level.name.lower()} {record.text}")
    if record.peer and record.command is not None:
        line = f"{name}: {record.level.name.lower()} {record.text}"[:512]
        result = AdminResult(request_id=record.command.request_id, accepted=True, done=True, lines=(line,))
        turn.effects.append(AnswerAdmin(result, record.peer))


def _cancel_orders(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> None:
    everything = record.level >= KillLevel.CANCEL_ALL
    for order in live_orders(turn.state, route):
        if order.role in OPENING or (everything and order.role is not OrderRole.EXIT):
            want_cancel(turn, order)
    fresh = turn.now_ns - record.external_cancelled_ns < turn.state.settings.ack_ms * NS_PER_MS
    if not everything or record.own_only or not route.up or not route.external_orders or fresh:
        return
    record.external_cancelled_ns = turn.now_ns
    for row in route.external_orders:
        cancel = Cancel(
            client_order_id=row.client_order_id,
            platform=route.platform,
            account=route.account,
            symbol=row.symbol,
            platform_order_id=row.platform_order_id,
        )
        turn.effects.append(SendToPlatform(cancel))


def _missing(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> str:
    """What the rung still lacks, in words; empty when the newest snapshot shows that it holds."""
    orders = live_orders(turn.state, route)
    if record.level is KillLevel.NO_NEW:
        open_questions = [o for o in orders if o.state in (LegState.SENT, LegState.UNKNOWN)]
        return f"{len(open_questions)} orders without an answer" if open_questions else ""
    everything = record.level >= KillLevel.CANCEL_ALL
    working = [o for o in orders if o.role in OPENING or everything]
    working_rows = [
        orphan.row
        for orphan in turn.state.orphans.values()
        if orphan.route == name and orphan.row is not None and not orphan.row.state.final
        if orphan.role in OPENING or everything
    ]
    if working or working_rows:
        return f"{len(working) + len(working_rows)} orders still working"
    if everything and not record.own_only and route.external_orders:
        return f"{len(route.external_orders)} orders of others still working"
    if record.level >= KillLevel.FLATTEN:
        held = _held(turn, name, route, record)
        if held:
            return "holds " + ", ".join(f"{lots:+f} {symbol}" for symbol, lots in held.items())
    if record.verifying_request_id:
        return "the platform has not confirmed it yet"
    return ""


def _held(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> dict[str, Decimal]:
    if not record.own_only:
        by_ticket = {
            symbol: sum((abs(lots) for lots in tickets.values()), ZERO)
            for symbol, tickets in route.tickets.items()
            if route.hello.account_mode is AccountMode.HEDGING
        }
        held = {symbol: position.net for symbol, position in route.positions.items()}
        held.update({symbol: lots for symbol, lots in by_ticket.items() if lots})
        return {symbol: lots for symbol, lots in held.items() if lots}
    held = {}
    for signal in signals_of_route(turn.state, name):
        for leg in signal.legs:
            if leg.route == name and leg.open:
                held[leg.symbol] = held.get(leg.symbol, ZERO) + leg.open
    return held


def _close_account(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> None:
    """Close what no leg of ours explains or could close, by the platform's own figures."""
    patience_ns = turn.state.settings.sever_patience_ms * NS_PER_MS
    for order in live_orders(turn.state, route):
        if order.state is not LegState.UNKNOWN or turn.now_ns - order.unknown_since_ns < patience_ns:
            return
    for signal in signals_of_route(turn.state, name):
        for leg in signal.legs:
            if leg.route == name and leg.open and not attempts_used_up(turn, leg):
                return
    if any(position.mismatch_snapshots for position in route.positions.values()):
        return
    hedging = route.hello.account_mode is AccountMode.HEDGING
    for symbol, position in list(route.positions.items()):
        if hedging:
            for ticket, lots in route.tickets.get(symbol, {}).items():
                if lots:
                    _close_lots(turn, name, route, record, symbol, lots, ticket)
        elif position.net:
            _close_lots(turn, name, route, record, symbol, position.net, "")


def _close_lots(
    turn: Turn, name: str, route: RouteRecord, record: KillRecord, symbol: str, lots: Decimal, ticket: str
) -> None:
    # By time and not by a counter: a counter starts again with a lost journal, and would name an order of before.
    key = signal_key(f"kill/{record.requested_ns}/{name}")
    most = min(MAX_ATTEMPTS, turn.state.settings.max_exit_attempts * 10)
    while record.attempts < most:
        order_id = client_order_id(key, 0, OrderRole.EXIT, record.attempts)
        if order_id not in turn.state.orders and order_id not in turn.state.orphans:
            break
        record.attempts += 1  # taken by an order that a torn journal has forgotten
    else:
        return
    capabilities = route.hello.capabilities
    order = Order(
        client_order_id=order_id,
        platform=route.platform,
        account=route.account,
        symbol=symbol,
        contract=route.positions[symbol].contract,
        side=Side.SELL if lots > 0 else Side.BUY,
        quantity=min(abs(lots), MAX_QUANTITY),
        order_type=OrderType.MARKET,
        reduce_only=capabilities is not None and capabilities.reduce_only,
        close_ticket=ticket,
        not_after_ns=turn.now_ns + turn.state.settings.send_within_ms * NS_PER_MS,
    )
    attempt = record.attempts
    record.attempts += 1
    send_order(turn, order, "", -1, OrderRole.EXIT, attempt)


def cancel_orphans(turn: Turn, name: str) -> None:
    """Cancel orphaned entries: nobody waits for them. Protective orders stay, since a position may hang on
    them.
    """
    route = turn.state.routes[name]
    retry_ns = turn.state.settings.ack_ms * NS_PER_MS
    everything = kill_level(turn.state, name) >= KillLevel.CANCEL_ALL
    for order_id, orphan in turn.state.orphans.items():
        row = orphan.row
        if orphan.route != name or row is None or row.state.final or not route.up:
            continue
        wanted = everything or (orphan.role in OPENING and turn.state.settings.cancel_orphans)
        if not wanted or turn.now_ns - orphan.cancel_sent_ns < retry_ns:
            continue
        orphan.cancel_sent_ns = turn.now_ns
        cancel = Cancel(
            client_order_id=order_id,
            platform=route.platform,
            account=route.account,
            symbol=row.symbol,
            platform_order_id=row.platform_order_id,
        )
        turn.effects.append(SendToPlatform(cancel))


def blocking_orders(state: EngineState, name: str) -> list[OrderRecord]:
    """Orders of a route whose outcome is unknown: while there is one, trading is not resumed."""
    return [order for order in live_orders(state, state.routes[name]) if order.state is LegState.UNKNOWN]
