"""The kill levels: no new -> reduce only -> cancel all -> flatten -> sever. A level holds when a snapshot shows it.

Each level is a condition on a platform's snapshot, requested after the last step that was taken for it. `drive_kill`
does what is lacking, requests a snapshot, and checks again. That something was sent never counts as verified.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

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
    WorkingOrder,
)
from ..effects import AnswerAdmin, CutLink, SendToPlatform
from ..orders.closing import close_leg, retry_close
from ..orders.exposure import PROTECTIVE
from ..orders.links import request_snapshot, schedule_snapshot
from ..orders.placement import cancel_row, want_cancel
from ..orders.protection_gaps import PASSING_GAPS
from ..orders.resting import end_excess_of_account
from ..orders.wakes import wake_route
from ..state import OPENING, ZERO, EngineState, KillRecord, OrderRecord, RouteRecord
from ..turn import Turn, bar_of, kill_level, live_orders, signals_of_route
from .close_account import close_account, close_unproven, symbols_of
from .outlook import Lacking, describe_lacking, describe_verified, is_news, stays_in_shut_market

_LONG_MS: Final = 60_000
"""A level that is not verified after this waits for something outside: its steps become rare."""
_LONG_STEPS: Final = 10


def apply_kill(turn: Turn, command: Kill, peer: str) -> None:
    """Raise the kill level. Entries are refused from this turn on; the answer with `done` comes when it is verified.

    Until then an answer without `done` says what the level lacks on an account, each time that this is another thing.
    A level is only ever raised here: `apply_resume` lowers it.
    """
    state = turn.state
    if not command.platform:
        whole_account = state.kill >= KillLevel.CANCEL_ALL and not state.kill_own_only
        state.kill_own_only = command.own_only and not whole_account
        state.kill = max(state.kill, command.level)
    lines = []
    for name, route in state.routes.items():
        if command.platform in ("", route.platform) and not route.retired_ns:
            _raise_level(turn, name, route, command, peer)
            done = "" if route.up else ", link is down"
            if command.unproven:
                done = f"; {close_unproven(turn, name, route, state.kills[name])}"
            lines.append(f"{name}: {command.level.name.lower()} asked{done}")
    # No account of these has ever connected: a platform that is yet to start, or a misspelt name. Not `done`.
    known = {route.platform for route in state.routes.values() if not route.retired_ns}
    wanted = (command.platform,) if command.platform else state.settings.expected_platforms
    lines += [f"{platform}: {_why_unknown(state, platform)}" for platform in wanted if platform not in known]
    turn.alert(RejectCode.KILL_SWITCH, f"{command.level.name.lower()} by {command.by}: {command.reason}")
    if peer:
        result = AdminResult(request_id=command.request_id, accepted=True, done=not lines, lines=tuple(lines[:500]))
        turn.effects.append(AnswerAdmin(result, peer))


def _why_unknown(state: EngineState, platform: str) -> str:
    retired = [name for name, route in state.routes.items() if route.platform == platform]
    return "no account of it has connected " + (f"since {', '.join(retired)} was retired" if retired else "yet")


def _raise_level(turn: Turn, name: str, route: RouteRecord, command: Kill, peer: str) -> None:
    record = turn.state.kills.setdefault(name, KillRecord())
    whole_account = not record.own_only and record.level >= KillLevel.CANCEL_ALL
    record.own_only = command.own_only and not whole_account
    record.level = max(record.level, command.level)
    record.requested_ns = turn.now_ns
    record.verified = False
    record.attempts = record.fruitless = 0
    record.retry_ns = record.close_retry_ns = record.external_cancelled_ns = 0
    record.text = ""  # so that the first gap found raises an alert
    record.command, record.peer = command, peer
    if record.level >= KillLevel.FLATTEN:
        for signal in signals_of_route(turn.state, name):
            for leg in signal.legs:
                if leg.route == name:
                    retry_close(turn, signal, leg)
    _request_verification(turn, route, record)
    turn.touch_route(name)
    wake_route(turn, name)


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
        end_excess_of_account(turn, name)
        # Legs close themselves, in `drive_close`: their lots stay with their signals, and are never closed twice.
        for signal in signals_of_route(turn.state, name):
            for number, leg in enumerate(signal.legs):
                if leg.route == name and not leg.closing:
                    close_leg(turn, signal, number)
    lacking = _lacking(turn, name, route, record)
    if record.level is KillLevel.SEVER:
        return  # `drive_sever`, when legs have taken their steps
    if not lacking:
        _set_verified(turn, name, record, describe_verified(route, record.level))
        return
    # Verified before, and lacking now: a late fill, or an order that came back. The level goes on until it holds again.
    record.verified = False
    _tell_lacking(turn, name, record, describe_lacking(turn, name, route, lacking))
    if route.up and not route.request_pending and turn.now_ns >= record.retry_ns:
        record.retry_ns = turn.now_ns + _step_ms(turn, record) * NS_PER_MS
        # By the platform's own figures, so only after a snapshot that was requested after the last step: with older
        # figures lots would be closed a second time, and the opposite position opened.
        if record.level >= KillLevel.FLATTEN and not record.own_only and not record.verifying_request_id:
            close_account(turn, name, route, record)
        record.verifying_request_id = route.request_id + 1
        schedule_snapshot(turn, route, _step_ms(turn, record))


def _step_ms(turn: Turn, record: KillRecord) -> int:
    """Pause between two steps: short at first, longer while nothing can be done, such as over a weekend."""
    waited_ms = (turn.now_ns - record.requested_ns) // NS_PER_MS
    retry_ms = turn.state.settings.retry_ms
    return retry_ms if waited_ms < _LONG_MS else min(retry_ms * _LONG_STEPS, turn.state.settings.proof_ms)


def drive_sever(turn: Turn, name: str) -> None:
    """Take the last step of the level SEVER, after the legs have taken theirs: what they send has to leave first."""
    record = turn.state.kills.get(name)
    if record is not None and record.level is KillLevel.SEVER:
        route = turn.state.routes[name]
        _drive_sever(turn, name, route, record, _lacking(turn, name, route, record))


def _drive_sever(turn: Turn, name: str, route: RouteRecord, record: KillRecord, lacking: Lacking) -> None:
    """Cut the link when everything is flat, or when patience is over: a platform that does not get flat must not keep
    its link for ever. After the cut no more snapshots come, so the last known state is what is reported.
    """
    waited_ms = (turn.now_ns - record.requested_ns) // NS_PER_MS
    patience_ms = turn.state.settings.sever_patience_ms
    if _amid_closing(turn, name):
        patience_ms += turn.state.settings.ack_ms  # cut now, lots whose stop has just ended would stay without it
    if not route.severed and (not lacking or waited_ms >= patience_ms):
        route.severed = True
        turn.effects.append(CutLink(route.platform, route.account))
    text = describe_lacking(turn, name, route, lacking)
    if route.severed and not route.up:
        _set_verified(turn, name, record, f"was cut before it was flat: {text}" if lacking else "severed and flat")
    elif lacking:
        _tell_lacking(turn, name, record, text)


def _amid_closing(turn: Turn, name: str) -> bool:
    """Whether the stop of a leg here ends or has ended, and its closing order or next stop is not answered yet."""
    return any(
        leg.route == name and leg.open and (leg.clearing_since_ns or leg.unprotected_why in PASSING_GAPS)
        for signal in signals_of_route(turn.state, name)
        for leg in signal.legs
    )


def _tell_lacking(turn: Turn, name: str, record: KillRecord, text: str) -> None:
    """Note what is missing for verification, and raise an alert when it differs from the last one."""
    news = is_news(text, record.text)
    if news:
        record.retry_ns = min(record.retry_ns, turn.now_ns + turn.state.settings.retry_ms * NS_PER_MS)
    if record.peer and record.command is not None and news:
        line = f"{name}: {record.level.name.lower()} not verified yet: {text}"[:512]
        result = AdminResult(request_id=record.command.request_id, accepted=True, done=False, lines=(line,))
        turn.effects.append(AnswerAdmin(result, record.peer))
    record.text = text


def _set_verified(turn: Turn, name: str, record: KillRecord, text: str) -> None:
    if record.verified:
        return
    record.verified = True
    record.text = text
    turn.alert(RejectCode.KILL_SWITCH, f"{name}: {record.level.name.lower()} {record.text}")
    if record.peer and record.command is not None:
        line = f"{name}: {record.level.name.lower()} {record.text}"[:512]
        result = AdminResult(request_id=record.command.request_id, accepted=True, done=True, lines=(line,))
        turn.effects.append(AnswerAdmin(result, record.peer))


def _cancel_orders(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> None:
    everything = record.level >= KillLevel.CANCEL_ALL
    for order in live_orders(turn.state, route):
        protects = record.level >= KillLevel.FLATTEN and _protects(turn, order)
        if order.role in OPENING or (everything and order.role is not OrderRole.EXIT and not protects):
            want_cancel(turn, order)
    fresh = turn.now_ns - record.external_cancelled_ns < turn.state.settings.ack_ms * NS_PER_MS
    if not everything or record.own_only or not route.up or not route.external_orders or fresh:
        return
    for row in route.external_orders:
        if bar_of(turn.state, name, row.symbol) or _stays(route, record.level, row):
            continue
        reduces = turn.position(name, row.symbol).net * row.side.sign < 0
        if reduces and record.level >= KillLevel.FLATTEN and (route.overdue_since_ns or not route.ready):
            continue  # nothing can be closed without a snapshot: it may be a person's stop
        record.external_cancelled_ns = turn.now_ns
        cancel_row(turn, route, row)


def _protects(turn: Turn, order: OrderRecord) -> bool:
    """Whether an order protects lots that are held: it ends when their closing order can trade, and not before."""
    leg = turn.leg(order.signal_id, order.leg)
    return order.role in PROTECTIVE and leg is not None and bool(leg.open)


def _stays(route: RouteRecord, level: KillLevel, row: WorkingOrder) -> bool:
    """Whether an order that is none of ours is left alone until the position can be closed. `CANCEL_ALL` closes
    nothing, and cancels it.
    """
    return level >= KillLevel.FLATTEN and stays_in_shut_market(route, row)


def _lacking(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> Lacking:
    """Return what the kill level still lacks; empty when a snapshot shows that it holds."""
    found = Lacking(unconfirmed=bool(record.verifying_request_id))
    if record.level >= KillLevel.REDUCE_ONLY:
        found.bar = next((bar for symbol in symbols_of(route) if (bar := bar_of(turn.state, name, symbol))), "")
    orders = live_orders(turn.state, route)
    if record.level is KillLevel.NO_NEW:
        found.unanswered = [order for order in orders if order.state in (LegState.SENT, LegState.UNKNOWN)]
        found.unconfirmed = False  # nothing was done that a snapshot could show
        return found
    everything = record.level >= KillLevel.CANCEL_ALL
    found.orders = [order for order in orders if order.role in OPENING or everything]
    found.rows = [
        orphan.row
        for orphan in turn.state.orphans.values()
        if orphan.route == name and orphan.row is not None and not orphan.row.state.final
        if orphan.role in OPENING or everything
    ]
    if everything and not record.own_only:
        found.external = list(route.external_orders)
    if record.level >= KillLevel.FLATTEN:
        found.held = _held(turn, name, route, record)
    return found


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
        if _stays(route, kill_level(turn.state, name), row):
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
    return [state.orders[order_id] for order_id in state.routes[name].unknown_orders]
