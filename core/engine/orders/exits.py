"""Close what a leg holds: its own lots, on its own account, by position ticket where the account is hedging.

A loop towards flat, one step a turn: cancel what works, wait until its end is certain, close what is open, check again.
There are never two closing orders in flight for the same lots, and never more is closed than the account holds.
While the market is shut the attempts are rare and unlimited; they go on at once when it opens. On a netting account
lots of other orders (external ones, reduce-only signals, closing orders of a kill) close our legs, too: they are
subtracted here (`absorb_external`, `absorb_lost_tickets`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ....shm.durations import NS_PER_MS
from ...messages import AccountMode, OrderRole, RejectCode, Side
from ..state import ZERO, LegRecord, SignalRecord
from ..turn import Turn, bar_of, leg_orders, live_orders
from .placement import OrderTerms, place_for_leg, want_cancel

SHUT_PAUSE_MS: Final = 300_000
"""Pause between two attempts in a market that is shut by our calendar. The calendar may be wrong, so they are made;
they are rare, so that a weekend does not use up the ClOrdIDs of a leg."""


def drive_exit(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Take the next step towards flat for a leg that is closing."""
    leg = signal.legs[leg_number]
    busy = False
    for record in leg_orders(turn.state, leg):
        if record.live:
            # Entry, stop or target may still trade: a closing order beside them could close the same lots twice. A live
            # or unknown closing order is waited for, never cancelled, and never sent a second time.
            busy = True
            if record.role is not OrderRole.EXIT:
                want_cancel(turn, record)
        elif record.unreported_qty:
            busy = True  # its executions are on their way: how many lots are open is not known yet
    route = turn.state.routes.get(leg.route)
    if route is None or busy or not leg.open or not route.up or not route.ready or turn.now_ns < leg.retry_ns:
        return
    if bar_of(turn.state, leg.route, leg.symbol):
        return  # what is held is not known: a closing order could make the position larger
    live = live_orders(turn.state, route)
    if any(not record.signal_id and record.order.symbol == leg.symbol for record in live):
        return  # an order of the kill switch closes the account's position: what is left is known when it has ended
    # On a hedging account an opposite order without a ticket opens a second position and closes nothing.
    hedging = route.hello.account_mode is AccountMode.HEDGING
    tickets = leg_tickets(turn, leg) if hedging else {}
    if hedging and not _tickets_known(turn, leg):
        _stop_exit(turn, signal, leg, "an execution came without its position ticket; close it at the platform")
        return
    if hedging:
        absorb_lost_tickets(turn, signal.signal.signal_id, leg, sum((abs(lots) for lots in tickets.values()), ZERO))
    else:
        _net_with_external(turn, signal.signal.signal_id, leg)
    if not leg.open:
        return  # its tickets were closed at the platform, or its lots have closed external ones
    # On a hedging account each order is bounded by what the platform lists of its ticket.
    bound = abs(leg.open) if hedging else _most_to_close(turn, leg)
    if bound <= 0 and _closing_lots(turn, leg):
        return  # closing orders of others are on their way: what is left is known when they have ended
    if bound <= 0:
        text = f"{leg.open:+f} is booked, and the account or the entries do not cover it; look at the platform"
        _stop_exit(turn, signal, leg, text)
        return
    if attempts_used_up(turn, leg):
        text = (
            f"still open after {leg.exit_attempts} closing orders; send signal_close again, or close it at the platform"
        )
        _stop_exit(turn, signal, leg, text)
        return
    shut = leg.market is not None and not leg.market.session_open
    # Refusals of a shut market are expected, and must not use up the attempts.
    leg.exit_attempts += not shut
    leg.retry_ns = turn.now_ns + (SHUT_PAUSE_MS if shut else turn.state.settings.retry_ms) * NS_PER_MS
    side = Side.SELL if leg.open > 0 else Side.BUY
    if not hedging:
        net = turn.position(leg.route, leg.symbol).net
        # Two signals may hold opposite sides of one account. Closing one of them then adds to the account's position,
        # and the platform would refuse it as reduce-only.
        lots = min(abs(leg.open), bound)
        reduces = net * leg.open > 0 and abs(net) >= lots
        terms = OrderTerms(side=side, quantity=lots, reduce_only=reduces)
        if place_for_leg(turn, signal, leg_number, OrderRole.EXIT, terms) is None:
            _stop_exit(turn, signal, leg, "all ClOrdIDs of closing orders are used up; close it at the platform")
        return
    for ticket, held in tickets.items():
        lots = min(abs(held), bound)
        if lots <= 0:
            return
        bound -= lots
        side = Side.SELL if held > 0 else Side.BUY
        terms = OrderTerms(side=side, quantity=lots, reduce_only=True, close_ticket=ticket)
        place_for_leg(turn, signal, leg_number, OrderRole.EXIT, terms)


def _most_to_close(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that may be closed of a leg on a netting account, whatever is booked on it: what its orders of the other
    side may have filled, less what this side has closed or may still close; and what the account holds that way.

    The lots that opposed legs hold there count as held: both are one position at the platform.
    """
    side = 1 if leg.open > 0 else -1
    # External lots closed ours while our own closing order did the same: that has left the leg on this side.
    entered, closed = max(leg.external_qty * side, ZERO), ZERO
    for record in leg_orders(turn.state, leg):
        if record.order.side.sign == side:
            entered += min(record.max_cum_qty, record.most_qty)
        else:
            closed += record.max_cum_qty + record.leaves_qty
    bound = entered - closed
    return min(bound, _held_with(turn, leg) - _closing_lots(turn, leg))


def _held_with(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that a netting account holds in the direction of a leg, those that opposed legs hold against it included."""
    side = 1 if leg.open > 0 else -1
    held = turn.position(leg.route, leg.symbol).net * side
    for signal_id in turn.state.routes[leg.route].holding_signals:
        for other in turn.state.signals[signal_id].legs:
            if other.route == leg.route and other.symbol == leg.symbol and other.open * side < 0:
                held += abs(other.open)
    return held


def _net_with_external(turn: Turn, signal_id: str, leg: LegRecord) -> None:
    """Let lots of a leg that its netting account does not hold close external lots on the other side.

    An order of ours that closed too much has traded against them: the account holds the difference, and a closing order
    for these lots would make its position larger.
    """
    external = turn.position(leg.route, leg.symbol).external
    lots = min(abs(leg.open), abs(leg.open) - _held_with(turn, leg), abs(external))
    if lots > 0 and external * leg.open < 0:
        _reduce_leg(turn, signal_id, leg, lots.copy_sign(-leg.open))


def _closing_lots(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that closing orders of anyone on the leg's account may still take off the side that it holds."""
    return sum(
        (
            record.leaves_qty
            for record in live_orders(turn.state, turn.state.routes[leg.route])
            if record.role is OrderRole.EXIT
            and record.order.symbol == leg.symbol
            and record.order.side.sign * leg.open < 0
        ),
        ZERO,
    )


def leg_tickets(turn: Turn, leg: LegRecord) -> dict[str, Decimal]:
    """Open lots per position ticket of a leg, signed, from its executions: at most what the platform holds of it.

    A ticket that it no longer lists is left out.
    """
    lots: dict[str, Decimal] = {}
    for key in leg.executions:
        execution = turn.state.executions[key]
        if execution.ticket:
            lots[execution.ticket] = lots.get(execution.ticket, ZERO) + execution.signed
    route = turn.state.routes[leg.route]
    held = dict(route.tickets.get(leg.symbol, {}))
    for record in live_orders(turn.state, route):
        held.pop(record.order.close_ticket, None)  # a closing order of the kill switch is on its way for it
    return {
        ticket: min(abs(open_lots), abs(held[ticket])).copy_sign(open_lots)
        for ticket, open_lots in lots.items()
        if open_lots * held.get(ticket, ZERO) > 0
    }


def attempts_used_up(turn: Turn, leg: LegRecord) -> bool:
    """Whether a leg has sent all its closing orders: the next one needs a command."""
    return leg.exit_attempts >= turn.state.settings.max_exit_attempts


def retry_exit(turn: Turn, signal: SignalRecord, leg: LegRecord) -> None:
    """Start the closing of a leg again that has used up its attempts: an operator or NEXUS has asked for it."""
    if leg.closing and leg.open and attempts_used_up(turn, leg):
        leg.exit_attempts = 0
        leg.retry_ns = 0
        leg.code, leg.text = RejectCode.NONE, ""
        turn.touch(signal.signal.signal_id)


def _tickets_known(turn: Turn, leg: LegRecord) -> bool:
    return all(turn.state.executions[key].ticket for key in leg.executions)


def _stop_exit(turn: Turn, signal: SignalRecord, leg: LegRecord, text: str) -> None:
    if leg.text != text:
        leg.code, leg.text = RejectCode.OUTCOME_UNKNOWN, text
        turn.touch(signal.signal.signal_id)
        turn.alert(leg.code, f"{signal.signal.signal_id} {leg.platform}: {text}", leg.platform)


def close_leg(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Start closing a leg. It ends flat, or its text says why not."""
    leg = signal.legs[leg_number]
    if not leg.closing:
        leg.closing = True
        leg.exit_attempts = 0
        leg.retry_ns = 0
    turn.touch(signal.signal.signal_id)


def add_external(turn: Turn, route: str, symbol: str, lots: Decimal) -> None:
    """Book lots (signed) that no leg of ours has traded: they close external lots of the other side, then ours."""
    position = turn.position(route, symbol)
    before = position.external
    position.external += lots
    beyond = lots
    if before * lots < 0:
        left = abs(lots) - abs(before)
        beyond = left.copy_sign(lots) if left > 0 else ZERO
    absorb_external(turn, route, symbol, beyond)


def absorb_external(turn: Turn, route: str, symbol: str, lots: Decimal) -> None:
    """Let lots (signed) that no leg of ours has traded reduce our open legs on the other side, the oldest first.

    Otherwise closing such a leg later would send an order for lots that are gone, and open the opposite position.
    On hedging accounts positions are separate, and this does nothing.
    """
    holders = turn.state.routes[route].holding_signals
    if turn.state.routes[route].hello.account_mode is not AccountMode.NETTING:
        return
    for signal_id in list(holders):
        for leg in turn.state.signals[signal_id].legs:
            if not lots:
                return
            if leg.route != route or leg.symbol != symbol or leg.open * lots >= 0:
                continue
            taken = min(abs(leg.open), abs(lots)).copy_sign(lots)
            _reduce_leg(turn, signal_id, leg, taken)
            lots -= taken
            turn.touch(signal_id)


def absorb_lost_tickets(turn: Turn, signal_id: str, leg: LegRecord, held: Decimal) -> None:
    """Reduce a leg on a hedging account to the `held` lots of its tickets: the rest was closed at the platform."""
    lost = abs(leg.open) - held
    if lost > 0:
        _reduce_leg(turn, signal_id, leg, lost.copy_sign(-leg.open))


def _reduce_leg(turn: Turn, signal_id: str, leg: LegRecord, lots: Decimal) -> None:
    turn.shift_open(signal_id, leg, lots)
    leg.external_qty += lots
    turn.position(leg.route, leg.symbol).external -= lots
    turn.count("closed_externally")
