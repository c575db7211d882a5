"""Close what an account holds by the platform's own figures: the last step of `flatten`, and `flatten --unproven`."""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import (
    AccountMode,
    Flatten,
    LegState,
    OrderRole,
    signal_key,
)
from ..effects import SendToPlatform
from ..orders.closing import is_stuck
from ..orders.pauses import SHUT_PAUSE_MS, pause_ms
from ..orders.placement import cancel_row, close_for_account, want_cancel
from ..state import KillRecord, PositionRecord, RouteRecord
from ..turn import Turn, bar_of, live_orders, reported_now, signals_of_route


def close_account(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> None:
    """Close lots that no leg of ours holds or could close, by the platform's own figures.

    A round that trades nothing is repeated for ever, with a pause that doubles up to a minute.
    """
    if turn.now_ns < record.close_retry_ns:
        return
    sent_in: list[PositionRecord] = []
    for symbol, position in list(route.positions.items()):
        # A symbol in doubt waits for a snapshot, or the operator. The others do not wait for it.
        if position.over_closed_request or bar_of(turn.state, name, symbol) or _moves(turn, name, route, symbol):
            continue
        hedging = route.hello.account_mode is AccountMode.HEDGING
        held = dict(route.tickets.get(symbol, {})) if hedging else {"": position.net}
        # A closing order whose outcome is unknown may still fill: its lots are not closed a second time.
        for ticket, lots in _without_closing(turn, route, symbol, held).items():
            _close_lots(turn, name, route, record, symbol, lots, ticket)
            sent_in.append(position)
    if sent_in:
        shut = not any(position.session_open for position in sent_in)
        record.fruitless += not shut
        pause = SHUT_PAUSE_MS if shut else pause_ms(turn, record.fruitless)
        record.close_retry_ns = turn.now_ns + pause * NS_PER_MS


def _moves(turn: Turn, name: str, route: RouteRecord, symbol: str) -> bool:
    """Whether lots of a symbol may still be traded by an order of ours, or closed by a leg: both at once would close
    them twice. An order that stays unknown is waited for only as long as patience lasts: otherwise one lost order would
    keep the account from being closed.
    """
    patience_ns = turn.state.settings.sever_patience_ms * NS_PER_MS
    for order in live_orders(turn.state, route):
        unknown = order.state is LegState.UNKNOWN and turn.now_ns - order.unknown_since_ns >= patience_ns
        if order.order.symbol == symbol and not unknown:
            return True
    return any(
        leg.route == name and leg.symbol == symbol and leg.open and not is_stuck(leg)
        for signal in signals_of_route(turn.state, name)
        for leg in signal.legs
    )


def close_unproven(turn: Turn, name: str, route: RouteRecord, record: KillRecord) -> str:
    """Close once what the platform has last reported, although what it says contradicts itself: a person's command.

    By the platform's own flatten where it has one, else by one closing order a position, and the cancel of everything
    that works. Returns what was done, for the operator.
    """
    if not route.up:
        return "its link is down, so nothing was sent; flatten at the platform itself"
    turn.unproven = name
    capabilities = route.hello.capabilities
    not_after_ns = turn.wall_ns + turn.state.settings.send_within_ms * NS_PER_MS
    if capabilities is not None and capabilities.flatten:
        command = Flatten(
            request_id=route.request_id + 1, platform=route.platform, account=route.account, not_after_ns=not_after_ns
        )
        route.flatten_sent_ns = turn.now_ns
        turn.effects.append(SendToPlatform(command))
        return "its own flatten was sent, once; the next snapshots show what it has done"
    for order in live_orders(turn.state, route):
        want_cancel(turn, order)
    for row in route.external_orders:
        cancel_row(turn, route, row)
    hedging = route.hello.account_mode is AccountMode.HEDGING
    sent = []
    for symbol in symbols_of(route):
        for ticket, lots in _last_reported(turn, name, route, symbol).items():
            if lots:
                _close_lots(turn, name, route, record, symbol, lots, ticket)
                sent.append(f"{-lots:+f} {symbol}")
    done = f"sent once: {', '.join(sent)}" if sent else "no position is left to close unproven"
    unknown = [f"{position.reported} {symbol}" for symbol, position in route.positions.items()
               if hedging and position.reported and not route.tickets.get(symbol)]  # fmt: skip
    if unknown:
        done += f"; reported without a known ticket: {', '.join(unknown)}, close it at the platform itself"
    return f"{done}; the next snapshots show what came of it"


def symbols_of(route: RouteRecord) -> list[str]:
    """All symbols of a route that something is known or said about."""
    said = [symbol for each in route.contradictions.values() for symbol in each.barred]
    return list(dict.fromkeys([*said, *route.positions]))


def _last_reported(turn: Turn, name: str, route: RouteRecord, symbol: str) -> dict[str, Decimal]:
    """Lots to close unproven, signed, by position ticket ("" on a netting account).

    What the platform has last reported, moved by fills since, less the closing orders that are on their way. Where
    nothing is said against a symbol its legs close themselves, and the ordinary flatten closes the rest once a snapshot
    shows it; of a platform that owes its snapshots the rest is closed here.
    """
    position = turn.position(name, symbol)
    hedging = route.hello.account_mode is AccountMode.HEDGING
    if not bar_of(turn.state, name, symbol) and (hedging or not route.overdue_since_ns):
        return {}
    if not bar_of(turn.state, name, symbol):
        reported = {"": position.external}
    elif hedging:
        reported = dict(route.tickets.get(symbol, {}))
    else:
        reported = {"": reported_now(position)}
    return _without_closing(turn, route, symbol, reported)


def _without_closing(turn: Turn, route: RouteRecord, symbol: str, held: dict[str, Decimal]) -> dict[str, Decimal]:
    """Lots by ticket, less the closing orders that may still fill; what they close entirely is left out."""
    left = dict(held)
    for order in live_orders(turn.state, route):
        ticket = order.order.close_ticket  # one ticket, under whatever symbol it was reported
        if order.role is OrderRole.EXIT and ticket in left and (ticket or order.order.symbol == symbol):
            left[ticket] += order.leaves_qty * order.order.side.sign
    return {ticket: lots for ticket, lots in left.items() if lots * held[ticket] > 0}


def _close_lots(
    turn: Turn, name: str, route: RouteRecord, record: KillRecord, symbol: str, lots: Decimal, ticket: str
) -> None:
    key = signal_key(f"kill/{record.requested_ns}/{name}")
    attempts = close_for_account(turn, route, key, record.attempts, symbol, lots, ticket=ticket)
    record.attempts = record.attempts if attempts is None else attempts
