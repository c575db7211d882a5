"""The kill levels: no new -> reduce only -> cancel all -> flatten -> sever. A level holds when a snapshot shows it.

Each level is a condition on a platform's snapshot, requested after the last step that was taken for it. `drive_kill`
does what is lacking, requests a snapshot, and checks again. That something was sent never counts as verified.
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
    OrderRole,
    RejectCode,
)
from ..effects import AnswerAdmin, CutLink, SendToPlatform
from ..orders.exits import close_leg, retry_exit
from ..orders.links import request_snapshot, schedule_snapshot
from ..orders.placement import cancel_row, want_cancel
from ..state import OPENING, ZERO, EngineState, KillRecord, OrderRecord, RouteRecord
from ..turn import Turn, bar_of, kill_level, live_orders, signals_of_route
from .close_account import close_account, close_unproven, symbols_of


def apply_kill(turn: Turn, command: Kill, peer: str) -> None:
    """Raise the kill level. Entries are refused from this turn on; the answer with `done` comes when it is verified.

    A level is only ever raised here: `apply_resume` lowers it.
    """
    state = turn.state
    if not command.platform:
        whole_account = state.kill >= KillLevel.CANCEL_ALL and not state.kill_own_only
        state.kill_own_only = command.own_only and not whole_account
        state.kill = max(state.kill, command.level)
    lines = []
    for name, route in state.routes.items():
        if command.platform in ("", route.platform):
            _raise_level(turn, name, route, command, peer)
            done = "" if route.up else ", link is down"
            if command.unproven:
                done = f"; {close_unproven(turn, name, route, state.kills[name])}"
            lines.append(f"{name}: {command.level.name.lower()} asked{done}")
    # No account of these has ever connected: a platform that is yet to start, or a misspelt name. Not `done`.
    known = {route.platform for route in state.routes.values()}
    wanted = (command.platform,) if command.platform else state.settings.expected_platforms
    lines += [f"{platform}: no account of it has connected yet" for platform in wanted if platform not in known]
    turn.alert(RejectCode.KILL_SWITCH, f"{command.level.name.lower()} by {command.by}: {command.reason}")
    if peer:
        result = AdminResult(request_id=command.request_id, accepted=True, done=not lines, lines=tuple(lines[:500]))
        turn.effects.append(AnswerAdmin(result, peer))


def _raise_level(turn: Turn, name: str, route: RouteRecord, command: Kill, peer: str) -> None:
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
    _request_verification(turn, route, record)
    turn.touch_route(name)


def _request_verification(turn: Turn, route: RouteRecord, record: KillRecord) -> None:
    record.verifying_request_id = route.request_id + 1
    if route.up:
        request_snapshot(turn, route)


def drive_kill(turn: Turn, name: str) -> None:
    """Take the next step of a route's kill level, and answer the operator when a snapshot shows that it holds."""
    record = turn.state.kills.get(name)
    route = turn.state.routes[name]
    if record is None or record.level is KillLevel.NORMAL:
        return
    # Each level includes those below it. Cancels first: an entry that fills now would have to be closed, too.
    if record.level >= KillLevel.REDUCE_ONLY:
        _cancel_orders(turn, name, route, record)
    if record.level >= KillLevel.FLATTEN:
        # Legs close themselves, in `drive_exit`: their lots stay with their signals, and are never closed twice.
        for signal in signals_of_route(turn.state, name):
            for number, leg in enumerate(signal.legs):
                if leg.route == name and not leg.closing:
                    close_leg(turn, signal, number)
    lacking = _lacking(turn, name, route, record)
    holds = not lacking
    if record.level is KillLevel.SEVER:
        # The link is cut when everything is flat, or when patience is over: a platform that does not get flat must not
        # keep its link for ever. After the cut no more snapshots come, so the last known state is what is reported.
        waited_ms = (turn.now_ns - record.requested_ns) // NS_PER_MS
        if not route.severed and (holds or waited_ms >= turn.state.settings.sever_patience_ms):
            route.severed = True
            turn.effects.append(CutLink(route.platform, route.account))
        if route.severed and not route.up:
            _set_verified(turn, name, record, lacking or "severed and flat")
        return
    if holds:
        _set_verified(turn, name, record, "")
        return
    # Verified before, and lacking now: a late fill, or an order that came back. The level goes on until it holds again.
    record.verified = False
    record.text = lacking
    if route.up and not route.request_pending and turn.now_ns >= record.retry_ns:
        record.retry_ns = turn.now_ns + turn.state.settings.retry_ms * NS_PER_MS
        # By the platform's own figures, so only after a snapshot that was requested after the last step: with older
        # figures lots would be closed a second time, and the opposite position opened.
        if record.level >= KillLevel.FLATTEN and not record.own_only and not record.verifying_request_id:
            close_account(turn, name, route, record)
        record.verifying_request_id = route.request_id + 1
        schedule_snapshot(turn, route, turn.state.settings.retry_ms)


def _set_verified(turn: Turn, name: str, record: KillRecord, text: str) -> None:
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
        if bar_of(turn.state, name, row.symbol):
            continue
        cancel_row(turn, route, row)


def _lacking(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> str:
    """Return what the kill level still lacks, as text; empty when a snapshot shows that it holds."""
    if record.level >= KillLevel.REDUCE_ONLY:
        bars = [bar for symbol in symbols_of(route) if (bar := bar_of(turn.state, name, symbol))]
        if bars:
            return f"{bars[0]}: nothing is sent there; see `nexus-gateway orders`"
    orders = live_orders(turn.state, route)
    if record.level is KillLevel.NO_NEW:
        unanswered = [o for o in orders if o.state in (LegState.SENT, LegState.UNKNOWN)]
        return f"{len(unanswered)} orders without an answer" if unanswered else ""
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
        return f"{len(route.external_orders)} external orders still working"
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


def cancel_orphans(turn: Turn, name: str) -> None:
    """Cancel orphaned entries: no signal owns them. Orphaned stops stay, since they may protect a position."""
    route = turn.state.routes[name]
    retry_ns = turn.state.settings.ack_ms * NS_PER_MS
    everything = kill_level(turn.state, name) >= KillLevel.CANCEL_ALL
    for order_id, orphan in turn.state.orphans.items():
        row = orphan.row
        if orphan.route != name or row is None or row.state.final or not route.up:
            continue
        wanted = everything or (orphan.role in OPENING and turn.state.settings.cancel_orphans)
        if not wanted or bar_of(turn.state, name, row.symbol) or turn.now_ns - orphan.cancel_sent_ns < retry_ns:
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
    """Return the orders of a route whose outcome is unknown: while there is one, trading is not resumed."""
    return [order for order in live_orders(state, state.routes[name]) if order.state is LegState.UNKNOWN]
