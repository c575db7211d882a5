"""Close what a leg holds: the one place that sizes and sends its closing orders, for every caller.

A loop towards flat, one step a turn: cancel its entries, end its stop and target, send a closing order for what is
open, check again. Never two closing orders in flight for the same lots, and never more than the leg has entered and the
account holds (`exposure.py`). By position ticket where the account is hedging.

The stop goes last: it is cancelled only when the closing order can trade, and stands again whenever none is in flight
(`protection.py`). Closing never ends by count: what trades nothing is tried again for ever, with a pause that doubles
up to a minute; what trades is progress, and the next order follows at once.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ....shm.durations import NS_PER_MS
from ...messages import LegState, OrderRole, RejectCode, Side
from ..state import ZERO, LegRecord, OrderRecord, RouteRecord, SignalRecord
from ..turn import Turn, bar_of, leg_orders, live_closing, live_orders, shut_until
from .close_alerts import explain, explain_and_alert, report_stuck
from .exposure import (
    bracket_awaited_until_ns,
    cannot_both_fill,
    closing_lots,
    closing_orders,
    has_ticket_gap,
    is_hedging,
    leg_tickets,
    most_to_close,
    opening_orders,
    standing,
)
from .external_lots import absorb_lost_tickets, net_with_external
from .links import schedule_snapshot
from .pauses import MOST_PAUSE_MS, SHUT_PAUSE_MS, pause_ms
from .placement import OrderTerms, market_tif, place_for_leg, want_cancel
from .protection import end_protection, keep_stop, withdraw_cancels
from .resting import end_excess, end_for_retry

_STUCK_AFTER: Final = 3
"""Closing orders in a row that have traded nothing, before others do not wait for a leg's lots any more."""
_QUIET_NS: Final = MOST_PAUSE_MS * NS_PER_MS
"""How long a closing order may work without any news of it, before a person is told."""
_TRIED_ALL_THE_SAME: Final = "a closing order is tried every five minutes all the same, beside a stop if there is one"


def is_stuck(leg: LegRecord) -> bool:
    """Whether closing the leg makes no progress. It goes on trying; other legs do not wait for it."""
    return leg.fruitless_exits >= _STUCK_AFTER or leg.code is RejectCode.OUTCOME_UNKNOWN


def close_leg(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Start closing a leg. It goes on until the leg is flat; its text says what is in the way."""
    leg = signal.legs[leg_number]
    if not leg.closing:
        leg.closing = True
        leg.exit_attempts = 0
        _start_again(leg)
    turn.touch(signal.signal.signal_id)


def retry_close(turn: Turn, signal: SignalRecord, leg: LegRecord) -> None:
    """Make the next attempt at once, whatever pause is due: an operator or NEXUS has asked for it."""
    if leg.closing and leg.open:
        _start_again(leg)
        end_for_retry(turn, leg)
        if leg.code is RejectCode.OUTCOME_UNKNOWN:
            leg.code, leg.text = RejectCode.NONE, ""
        turn.touch(signal.signal.signal_id)


def note_progress(leg: LegRecord) -> None:
    """A closing order of this leg has traded: the next one, if lots are left, follows at once."""
    _start_again(leg)


def note_account_progress(turn: Turn, name: str) -> None:
    """A closing order for the account's other lots has traded: the next round, if lots are left, is not put off."""
    kill = turn.state.kills.get(name)
    if kill is not None:
        kill.fruitless = kill.close_retry_ns = 0


def _start_again(leg: LegRecord) -> None:
    leg.fruitless_exits = 0
    leg.retry_ns = leg.exit_alert_ns = 0
    leg.closing_waits = ""


def drive_close(turn: Turn, signal: SignalRecord, leg_number: int, *, may_protect: bool = True) -> None:
    """Take the next step towards flat for a leg that is closing. `may_protect`: its stop may stand meanwhile."""
    leg = signal.legs[leg_number]
    for order in opening_orders(turn, leg):
        want_cancel(turn, order)
    working = [order for order in closing_orders(turn, leg) if order.live]
    end_excess(turn, leg, working)
    if not leg.open:
        end_protection(turn, leg)
        leg.clearing_since_ns = leg.clearing_until_ns = 0
        return
    if working:
        _list_waiting(turn, signal, leg, waits=False)
        _watch(turn, signal, leg, working[0])
        return  # waited for, unknown or not, and never sent a second time
    if _advance(turn, signal, leg_number, may_protect):
        # While the end of its stop is waited for, what others hold and close decides whether it can do without.
        _list_waiting(turn, signal, leg, waits=bool(leg.clearing_since_ns))
        return
    leg.clearing_since_ns = leg.clearing_until_ns = 0
    _list_waiting(turn, signal, leg, waits=bool(leg.open))
    if may_protect:
        withdraw_cancels(turn, leg)
        keep_stop(turn, signal, leg_number)


def _list_waiting(turn: Turn, signal: SignalRecord, leg: LegRecord, *, waits: bool) -> None:
    """Keep the account's list of signals that are settled when others have closed, or begun to close, lots there."""
    route = turn.state.routes.get(leg.route)
    if route is None:
        return
    if waits:
        route.waiting_closes[signal.signal.signal_id] = None
    elif not any(other is not leg and other.route == leg.route for other in signal.legs):
        route.waiting_closes.pop(signal.signal.signal_id, None)


def _advance(turn: Turn, signal: SignalRecord, leg_number: int, may_protect: bool) -> bool:
    """End the stop, or send the closing order. False: neither is possible now, so the stop has to stand."""
    leg = signal.legs[leg_number]
    route = turn.state.routes.get(leg.route)
    if route is None:
        return False
    obstacle = _obstacle(turn, leg, route)
    if obstacle:
        explain(turn, signal, leg, obstacle)
        return False
    if turn.now_ns < leg.retry_ns:
        explain(turn, signal, leg, _describe_pause(turn, leg))
        return False
    hedging = is_hedging(route)
    # On a hedging account an opposite order without a ticket opens a second position and closes nothing.
    if hedging and has_ticket_gap(turn, leg):
        report_stuck(turn, signal, leg, "an execution came without its position ticket; close it at the platform")
        return False
    tickets = leg_tickets(turn, leg) if hedging else {}
    unreported = sum((order.unreported_qty for order in closing_orders(turn, leg)), ZERO)
    if hedging:
        listed = sum((abs(lots) for lots in tickets.values()), unreported)
        absorb_lost_tickets(turn, signal.signal.signal_id, leg, listed)
    else:
        net_with_external(turn, signal.signal.signal_id, leg)
    if not leg.open:
        return False  # its tickets were closed at the platform, or its lots have closed external ones
    # On a hedging account each order is bounded by what the platform lists of its ticket.
    bound = abs(leg.open) - unreported if hedging else most_to_close(turn, leg)
    if bound <= 0:
        _explain_no_room(turn, signal, leg)
        return False
    if not _clear_the_way(turn, signal, leg, route):
        stops = (order for order in standing(turn, leg) if order.role is OrderRole.STOP_LOSS)
        is_short = sum((order.leaves_qty for order in stops), ZERO) < abs(leg.open)
        if may_protect and is_short and _waited(turn, leg):
            keep_stop(turn, signal, leg_number)  # only its target is in the way, and does not end
        return True
    _count_attempt(turn, signal, leg)
    if hedging:
        _send_by_ticket(turn, signal, leg_number, tickets, bound)
    else:
        _send_netting(turn, signal, leg_number, min(abs(leg.open), bound))
    turn.look_again(leg, turn.now_ns + _QUIET_NS)
    return True


def _obstacle(turn: Turn, leg: LegRecord, route: RouteRecord) -> str:
    """Return why no closing order could trade now, as far as link, account and market are known; empty = it could."""
    if not route.up or not route.ready:
        return f"{leg.platform} is not connected and reconciled"
    barred = bar_of(turn.state, leg.route, leg.symbol)
    if barred:
        return barred  # what is held is not known: a closing order could make the position larger
    if turn.position(leg.route, leg.symbol).over_closed_request:
        return "a closing order has made the position larger: none leaves before a snapshot has shown what is held"
    live = live_orders(turn.state, route)
    if any(not record.signal_id and record.order.symbol == leg.symbol for record in live):
        return "an order for the whole account closes here: what is left is known when it has ended"
    if leg.market is None or not _is_shut(leg):
        return ""
    if not standing(turn, leg) or cannot_both_fill(turn, leg, route):
        return ""  # the calendar may be wrong, and no stop has to go for an attempt
    return f"{_describe_shut(leg)}: its stop stays, and it is closed when the market opens"


def _describe_shut(leg: LegRecord) -> str:
    assert leg.market is not None
    return f"the market is shut{shut_until(leg.market.session_change_ns)} by the calendar"


def _is_shut(leg: LegRecord) -> bool:
    return leg.market is not None and not leg.market.session_open


def _explain_no_room(turn: Turn, signal: SignalRecord, leg: LegRecord) -> None:
    """Nothing may be closed: orders of reduce-only signals give way to a command; else the books do not agree."""
    side = -1 if leg.open > 0 else 1
    if any(order.unreported_qty for order in leg_orders(turn.state, leg)):
        return  # executions are on their way: what is open is known when they have come
    if not closing_lots(turn, leg.route, leg.symbol, side):
        text = f"{leg.open:+f} is booked, and the account or the entries do not cover it; look at the platform"
        report_stuck(turn, signal, leg, text)
        return
    # Closing orders of others are on their way: what is left is known when they have ended.
    explain_and_alert(
        turn, signal, leg, "other closing orders work on the same lots: it is closed when they have ended"
    )
    for order in live_closing(turn.state, turn.state.routes[leg.route]):
        if order.role is not OrderRole.EXIT and order.order.symbol == leg.symbol and order.order.side.sign == side:
            want_cancel(turn, order)


def _clear_the_way(turn: Turn, signal: SignalRecord, leg: LegRecord, route: RouteRecord) -> bool:
    """Cancel what a closing order must not stand beside, and wait for its end. True: the closing order may leave.

    Entries are waited for as long, once: what they fill later is closed later.
    """
    opening = [] if leg.exit_attempts else list(opening_orders(turn, leg))
    # A stop that the platform keeps with the position ends with it. In a shut market the closing order is an attempt
    # that is made beside the stop, where the platform lets but one of them fill (`_obstacle`).
    stays = is_hedging(route) or _is_shut(leg)
    protective = [] if stays else standing(turn, leg)
    awaited_until_ns = 0 if stays else bracket_awaited_until_ns(turn, leg)
    if not opening and not protective and not awaited_until_ns:
        return True
    turn.look_again(leg, awaited_until_ns)
    if not leg.clearing_since_ns:
        leg.clearing_since_ns = turn.now_ns
        leg.clearing_until_ns = turn.now_ns + turn.state.settings.stop_wait_ms * NS_PER_MS
    # The stop last of all: a target whose cancel is refused must not leave the lots without their stop.
    others = [order for order in protective if order.role is not OrderRole.STOP_LOSS]
    for order in others or protective:
        if not order.cancel_wanted:
            leg.clearing_until_ns = turn.now_ns + turn.state.settings.stop_wait_ms * NS_PER_MS  # each has its own time
        want_cancel(turn, order)
    left = [order for order in protective if order.live]
    if not _waited(turn, leg):
        return not left and not awaited_until_ns and not any(order.live for order in opening)
    if not left or cannot_both_fill(turn, leg, route):
        return True
    unanswered = next((order for order in left if order.cancel_wanted), left[0])
    text = f"its {_name(unanswered)} works on, though its cancel was sent: no closing order leaves beside it"
    if unanswered.state is LegState.UNKNOWN:
        text = f"the outcome of its {_name(unanswered)} is unknown: no closing order leaves beside it"
    explain_and_alert(turn, signal, leg, text)
    schedule_snapshot(turn, route, turn.state.settings.retry_ms)
    return False


def _waited(turn: Turn, leg: LegRecord) -> bool:
    """Whether the end of what is in a closing order's way has been waited for long enough. Only a passed deadline says
    so: in the turn after a stall the answer may be the next message.
    """
    if turn.by_clock and turn.now_ns >= leg.clearing_until_ns:
        leg.clearing_until_ns = 0
    return not leg.clearing_until_ns


def use_up_deadlines(turn: Turn, leg: LegRecord) -> None:
    """Clear the deadlines of a leg that have passed: what waited for them has just been decided."""
    if leg.retry_ns <= turn.now_ns:
        leg.retry_ns = 0
    if leg.protect_retry_ns <= turn.now_ns:
        leg.protect_retry_ns = 0
    if turn.by_clock and leg.clearing_until_ns <= turn.now_ns:
        leg.clearing_until_ns = 0


def _name(order: OrderRecord) -> str:
    return order.role.name.lower().replace("_", " ")


def _count_attempt(turn: Turn, signal: SignalRecord, leg: LegRecord) -> None:
    """Count the attempt that is made now, set the pause behind it, and say so when it is not the first in vain."""
    leg.clearing_since_ns = leg.clearing_until_ns = 0
    leg.exit_attempts += 1
    text = _describe_pause(turn, leg)
    if _is_shut(leg):
        leg.retry_ns = turn.now_ns + SHUT_PAUSE_MS * NS_PER_MS  # a refusal is expected, and says nothing
        explain(turn, signal, leg, text)
        return
    if leg.fruitless_exits >= _STUCK_AFTER:
        explain_and_alert(turn, signal, leg, text)
    else:
        explain(turn, signal, leg, text)
    leg.fruitless_exits += 1
    leg.retry_ns = turn.now_ns + pause_ms(turn, leg.fruitless_exits) * NS_PER_MS


def _describe_pause(turn: Turn, leg: LegRecord) -> str:
    """Say what has come of the closing orders so far, between two of them; empty = the first one leaves now."""
    if _is_shut(leg):
        return f"{_describe_shut(leg)}: {_TRIED_ALL_THE_SAME}"
    exits = [order for order in leg_orders(turn.state, leg) if order.role is OrderRole.EXIT]
    if not leg.fruitless_exits or not exits:
        return ""
    text = f"{leg.fruitless_exits} closing orders in a row have traded nothing"
    return f"{text}, the last one: {exits[-1].text or exits[-1].state}; it is tried again, at least every minute"[:512]


def _watch(turn: Turn, signal: SignalRecord, leg: LegRecord, order: OrderRecord) -> None:
    """Say so when a closing order neither trades nor ends."""
    due_ns = order.last_news_ns + _QUIET_NS
    turn.look_again(leg, due_ns)
    if turn.now_ns >= due_ns:
        text = (
            f"its closing order {order.order.client_order_id} is {order.state} and has not traded: look at the platform"
        )
        explain_and_alert(turn, signal, leg, text)


def _send_netting(turn: Turn, signal: SignalRecord, leg_number: int, lots: Decimal) -> None:
    leg = signal.legs[leg_number]
    side = Side.SELL if leg.open > 0 else Side.BUY
    net = turn.position(leg.route, leg.symbol).net
    # Two signals may hold opposite sides of one account. Closing one of them then adds to the account's position, and
    # the platform would refuse it as reduce-only.
    reduces = net * leg.open > 0 and abs(net) >= lots
    terms = OrderTerms(side=side, quantity=lots, time_in_force=market_tif(turn, leg), reduce_only=reduces)
    if place_for_leg(turn, signal, leg_number, OrderRole.EXIT, terms) is None:
        report_stuck(turn, signal, leg, "all ClOrdIDs of closing orders are used up; close it at the platform")


def _send_by_ticket(
    turn: Turn, signal: SignalRecord, leg_number: int, tickets: dict[str, Decimal], bound: Decimal
) -> None:
    leg = signal.legs[leg_number]
    for ticket, held in tickets.items():
        lots = min(abs(held), bound)
        if lots <= 0:
            return
        bound -= lots
        side = Side.SELL if held > 0 else Side.BUY
        tif = market_tif(turn, leg)
        terms = OrderTerms(side=side, quantity=lots, time_in_force=tif, reduce_only=True, close_ticket=ticket)
        if place_for_leg(turn, signal, leg_number, OrderRole.EXIT, terms) is None:
            report_stuck(turn, signal, leg, "all ClOrdIDs of closing orders are used up; close it at the platform")
