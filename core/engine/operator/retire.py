"""The command `account retire`: an account that is no longer configured is ended by the operator's statement.

Nothing can be learnt of it any more, so its positions, orders and kill level would stay for ever, and `resume` and each
kill would wait for it. What the platform holds there is the operator's from then on.
"""

from __future__ import annotations

from typing import Final

from ...messages import AccountRetire, AdminResult, LegState, RejectCode
from ..effects import AnswerAdmin
from ..orders.contradictions import end_contradiction
from ..orders.lifecycle import end_order, record_unreported
from ..state import OPENING, ZERO, LegRecord, OrderRecord, RouteRecord
from ..turn import Turn, describe_time, live_orders
from .outlook import why_gone

_MOST_LINES: Final = 500


def apply_retire(turn: Turn, command: AccountRetire, peer: str) -> None:
    """End an account that is neither linked nor configured. Without `confirmation` only say what its books hold."""
    name, refusal = _find(turn, command)
    lines: list[str] = []
    text, is_done = refusal, False
    if not refusal:
        route = turn.state.routes[name]
        word = route.account or route.platform
        lines = _holdings(turn, name, route)
        if not command.confirmation:
            text = f"nothing is changed yet; to go on type the name of the account: {word}"
        elif command.confirmation != word:
            refusal = text = f"the name was {command.confirmation!r}, must be {word!r}; nothing was changed"
        else:
            _retire(turn, name, route, command.by)
            is_done = True
    result = AdminResult(
        request_id=command.request_id,
        accepted=not refusal,
        done=is_done,
        code=RejectCode.NOT_ALLOWED if refusal else RejectCode.NONE,
        text=text[:512],
        lines=tuple(line[:512] for line in lines[:_MOST_LINES]),
    )
    turn.effects.append(AnswerAdmin(result, peer))


def _find(turn: Turn, command: AccountRetire) -> tuple[str, str]:
    """Return the account's route, and why it is not retired; the reason is empty when it may be."""
    state = turn.state
    of_platform = {key: each for key, each in state.routes.items() if each.platform == command.platform}
    if command.account:
        named = {key: each for key, each in of_platform.items() if each.account == command.account}
    else:
        in_use = {key: each for key, each in of_platform.items() if not each.retired_ns}
        named = {key: each for key, each in in_use.items() if not each.up} or in_use or of_platform
    if not named:
        known = ", ".join(sorted(state.routes)) or "none"
        wanted = f"{command.platform}|{command.account}" if command.account else command.platform
        return "", f"no account {wanted} is known; known are: {known}"
    if len(named) > 1:
        return "", f"{command.platform} has several accounts: {', '.join(named)}; name one with --account"
    ((name, route),) = named.items()
    if route.retired_ns:
        return name, f"{name} is retired already, since {describe_time(route.retired_ns + state.wall_offset_ns)}"
    if route.up:
        return name, f"{name} is linked: its platform says itself what it holds, close it or trade it as any other"
    if command.platform in state.settings.expected_platforms and not why_gone(state, route):
        return name, (
            f"{name} is still configured, only its link is down: it is expected to come back. Take {command.platform} "
            "out of the configuration, or link the account that takes its place, and restart the gateway first"
        )
    return name, ""


def _holdings(turn: Turn, name: str, route: RouteRecord) -> list[str]:
    """Say what the books hold on an account: a line each."""
    state = turn.state
    found = [f"last reconciled as a whole {_stamp(turn, route.last_reconciled_ns)}"]
    for symbol, position in route.positions.items():
        if position.net or position.reported or position.external:
            said = "nothing" if position.reported is None else f"{position.reported:f}"
            found.append(f"position {position.net:+f} {symbol}; the platform has last reported {said}")
            if position.external:
                found.append(f"{position.external:+f} {symbol} of these belong to no signal")
    for signal_id in route.holding_signals:
        legs = [leg for leg in state.signals[signal_id].legs if leg.route == name and leg.open]
        found += [f"signal {signal_id} holds {leg.open:+f} {leg.symbol}" for leg in legs]
    for order in live_orders(state, route):
        what = f"{order.role.name.lower().replace('_', ' ')} {order.order.client_order_id}"
        found.append(f"{what}: {order.order.side} {order.leaves_qty:f} {order.order.symbol}, {order.state}")
    for row in route.external_orders:
        found.append(f"external order {row.platform_order_id}: {row.side} {row.quantity:f} {row.symbol}, {row.state}")
    for order_id, orphan in state.orphans.items():
        if orphan.route == name and orphan.row is not None:
            found.append(f"order {order_id}, which the journal does not know: {orphan.row.state}")
    for each in route.contradictions.values():
        subject = each.exec_id or each.client_order_id or each.symbols[0]
        found.append(f"contradiction: {each.kind} of {subject}")
    for order_id in route.unreported_orders:
        lots = state.orders[order_id].unreported_qty
        found.append(f"order {order_id}: executions of {lots:f} lots were never reported")
    kill = state.kills.get(name)
    if kill is not None and kill.level:
        found.append(f"kill level {kill.level.name.lower()}, {'verified' if kill.verified else 'not verified'}")
    if len(found) == 1:
        found.append("the books hold nothing there")
    return [f"{name}: {each}" for each in found]


def _stamp(turn: Turn, at_ns: int) -> str:
    return describe_time(at_ns + turn.state.wall_offset_ns) if at_ns else "ever"


def _retire(turn: Turn, name: str, route: RouteRecord, by: str) -> None:
    """Close the account's books: orders end, lots are closed, nothing is expected any more."""
    state = turn.state
    for key in list(route.contradictions):
        end_contradiction(turn, name, key, f"the account was retired by {by}")
    opening = {(order.signal_id, order.leg) for order in live_orders(state, route) if order.role in OPENING}
    for order in live_orders(state, route):
        _end(turn, order, by)
    for order_id in list(route.unreported_orders):
        _write_off(turn, state.orders[order_id])
    for orphan in state.orphans.values():
        if orphan.route == name:
            orphan.row = None
    for symbol in route.positions:
        turn.position(name, symbol)  # as it was, for the invariants
    for signal_id in list(state.active):
        for number, leg in enumerate(state.signals[signal_id].legs):
            if leg.route == name:
                _close(turn, signal_id, leg, is_opening=(signal_id, number) in opening)
                turn.touch(signal_id)
    _clear(route)
    route.cleared_ns = turn.now_ns
    state.day.unpriced_accounts.pop(name, None)
    _drop_kill(turn, name)
    route.retired_ns = turn.now_ns
    text = f"{name} retired by {by}: what is held and works there is yours from now on, nothing waits for it"
    turn.alert(RejectCode.NONE, text, route.platform)


def _end(turn: Turn, order: OrderRecord, by: str) -> None:
    text = f"presumed ended: its account was retired by {by}"
    end_order(turn, order, LegState.CANCELLED, RejectCode.GONE_AT_PLATFORM, text, presumed=True)
    # An entry that is found working when the account links again is cancelled: it would open lots of an ended signal.
    # A stop stays: it protects what is held there.
    order.cancel_wanted = order.role in OPENING


def _write_off(turn: Turn, order: OrderRecord) -> None:
    order.written_off_qty += order.unreported_qty
    order.platform_cum_qty = order.cum_qty
    record_unreported(turn, order)
    turn.touch_order(order.order.client_order_id)
    turn.touch(order.signal_id)


def _close(turn: Turn, signal_id: str, leg: LegRecord, *, is_opening: bool) -> None:
    """Let a leg hold nothing: its lots are closed by the operator's statement, at a price that is not known."""
    if leg.roll_over_pending:
        leg.roll_over_ended = True
    leg.roll_out = None
    if not leg.open:
        return
    lots = leg.open
    turn.shift_open(signal_id, leg, -lots)
    leg.external_qty -= lots
    leg.unpriced = True
    leg.closing = False
    leg.retry_ns = leg.protect_retry_ns = leg.clearing_since_ns = leg.clearing_until_ns = 0
    leg.unprotected_since_ns = 0
    leg.unprotected_why = ""
    leg.code = RejectCode.GONE_AT_PLATFORM
    leg.text = f"{abs(lots):f} lots closed by an operator's statement, account retired: their result is not known"
    if not is_opening:
        # Should the account link again, a stop of this leg that works there protects what is held there: without a
        # bracket of the leg it is left alone, as any other order that protects a position of no signal.
        leg.bracket = None


def _clear(route: RouteRecord) -> None:
    """Forget what is held and works: when it links again, its first snapshot is adopted as that of a new account.

    Executions stay booked, and are duplicates when they are reported again. But the account does not list them any
    more: one that a later snapshot lacks is neither newer than that snapshot nor busted.
    """
    for position in route.positions.values():
        position.net = position.external = ZERO
    route.positions.clear()
    route.tickets.clear()
    route.ticket_owner.clear()
    route.executions.clear()
    route.external_orders = []
    route.funds = None
    route.severed = route.ready = route.request_pending = route.reconciled_before = False
    route.last_reconciled_ns = route.whole_compared_ns = route.snapshot_due_ns = route.flatten_sent_ns = 0
    route.owed_requests = route.owes_since_ns = route.overdue_since_ns = 0


def _drop_kill(turn: Turn, name: str) -> None:
    """Drop the account's kill level, and answer the commands that wait for it: it will never be verified."""
    record = turn.state.kills.pop(name, None)
    if record is None or record.verified or not record.peer or record.command is None:
        return
    line = f"{name}: {record.level.name.lower()} not verified: the account was retired"
    result = AdminResult(request_id=record.command.request_id, accepted=True, done=True, lines=(line,))
    turn.effects.append(AnswerAdmin(result, record.peer))
