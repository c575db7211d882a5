"""Roll positions over: the leg of the old contract is closed, and a new leg opens the same lots in the new one.

Close first, open second. The other way round the account would hold both for a moment: twice the size and twice the
margin. So a failure can only leave too small a position, which is reported; never too large a one. Neither half begins
before the platform can do both: its link is up and reconciled, it lists the new contract, the market is open. Until
then the stops stay, and the position is flat no longer than two market orders need.

Only lots that our own closing orders have closed are opened again: lots that a stop or an external trade closed
meanwhile are not. An order without an answer is waited for, and one that is only presumed gone is not sent again.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import structs

from ....shm.durations import NS_PER_MS
from ...messages import Bracket, OrderRole, OrderType, Protection, RejectCode, Side
from ...messages.order_id import MAX_LEGS
from ..admission import WAIVED_FOR_ROLL_OVER, Entry, admit
from ..orders.closing import close_leg, is_stuck
from ..orders.placement import OrderTerms, market_tif, place_for_leg
from ..state import OPENING, ZERO, LegRecord, OrderRecord, RollPlan, RouteRecord, SignalRecord
from ..turn import Turn, bar_of, leg_orders

_MAX_ATTEMPTS: Final = 3
_MAY_PASS: Final = frozenset(
    {
        RejectCode.PLATFORM_NOT_READY,
        RejectCode.OUTCOME_UNKNOWN,
        RejectCode.POSITION_MISMATCH,
        RejectCode.CONTRADICTION,
    }
)
"""Refusals that end by themselves, or by the operator: until the deadline the second half waits for that."""


def drive_roll_out(turn: Turn, signal: SignalRecord, number: int) -> None:
    """Start to close a leg whose contract was rolled, once the platform can carry out its plan."""
    leg = signal.legs[number]
    _apply_late_roll_overs(turn, signal, number)
    plan = leg.roll_out
    route = turn.state.routes.get(leg.route)
    if plan is None or leg.closing or not leg.open or leg.market is None or route is None:
        return
    if any(order.role in OPENING and order.unsettled for order in leg_orders(turn.state, leg)):
        return  # its entry was cancelled at the decision: how many lots it holds is known when that is answered
    # In a shut market the closing order would be refused or wait, and its stop would be gone meanwhile.
    if not route.up or not route.ready or not leg.market.session_open:
        return
    if plan.roll_over and not _presents(route, leg, plan):
        return
    if bar_of(turn.state, leg.route, leg.symbol):
        return  # what it holds is not known
    if plan.roll_over:
        _add_successor(turn, signal, number, leg, plan)
    close_leg(turn, signal, number)


def _presents(route: RouteRecord, leg: LegRecord, plan: RollPlan) -> bool:
    """Whether the platform names the new contract by the root, and the leg's contract by its own name."""
    return leg.symbol in route.retired and any(
        each.symbol == plan.root and each.contract == plan.contract for each in route.hello.instruments
    )


def _add_successor(turn: Turn, signal: SignalRecord, number: int, leg: LegRecord, plan: RollPlan) -> None:
    if len(signal.legs) >= MAX_LEGS:
        text = f"{signal.signal.signal_id}: a report holds {MAX_LEGS} legs; {leg.symbol} is closed and not rolled over"
        turn.alert(RejectCode.PARENT_EXCEEDED, text, leg.platform)
        return
    assert leg.market is not None
    market = plan.market or structs.replace(leg.market, contract=plan.contract, bid=None, ask=None, expiry_ns=0)
    successor = LegRecord(
        target=leg.target,
        platform=leg.platform,
        account=leg.account,
        route=leg.route,
        symbol=plan.root,
        sign=leg.sign,
        quantity=leg.quantity,
        market=structs.replace(market, symbol=plan.root),
        protection=leg.protection,
        hedge=leg.hedge,
        rolls_over_from=number,
        text=f"waits until {leg.symbol} is closed",
    )
    signal.legs.append(successor)
    leg.text = f"rolled: closed here, and opened again in {plan.contract}"
    if leg.bracket is None:
        return
    if plan.price_shift is None:
        _end(turn, signal, successor, RejectCode.NO_MARKET_CONTEXT, "the spread is not known, so the stop has no price")
        return
    stop, target = leg.bracket.stop_loss, leg.bracket.take_profit
    try:
        successor.bracket = Bracket(
            stop_loss=None if stop is None else stop + plan.price_shift,
            take_profit=None if target is None else target + plan.price_shift,
        )
    except ValueError as error:  # beyond what a price can be
        _end(turn, signal, successor, RejectCode.BRACKET_INVALID, f"after a spread of {plan.price_shift}: {error}")


def drive_roll_over(turn: Turn, signal: SignalRecord, number: int) -> None:
    """Open the lots in the new contract that were closed in the old one, once their number is certain."""
    leg = signal.legs[number]
    old = signal.legs[leg.rolls_over_from]
    state = turn.state
    attempts = _attempts(turn, leg)
    if any(order.unsettled for order in (*attempts, *leg_orders(state, old))):
        return  # an answer or an execution is due: an order sent now could open lots a second time
    # Where closing the old leg makes no progress, what has been closed so far is opened in the new contract.
    if old.open and not is_stuck(old):
        return
    lots = min(_closed_lots(turn, old), old.quantity)
    if old.open and lots <= 0 and old.code is not RejectCode.OUTCOME_UNKNOWN:
        return  # nothing of it has closed yet, and closing goes on
    # By the higher CumQty: lots that the platform counts and has not reported yet must not be opened twice.
    left = lots - sum((order.max_cum_qty + order.written_off_qty for order in attempts), ZERO)
    if lots > 0 and not leg.roll_over_until_ns:
        # The deadline starts when the lots are closed, not at the decision: the market may have been shut for long.
        leg.roll_over_until_ns = turn.now_ns + state.settings.carry_within_ms * NS_PER_MS
        leg.text = f"{lots} lots of {old.symbol} are closed, to be opened again"
        turn.touch(signal.signal.signal_id)
    leg.quantity = max(lots, ZERO) or leg.quantity
    besides = _beyond_the_plan(turn, leg, old)
    if left <= 0 and old.open and lots > 0:
        if turn.now_ns < leg.roll_over_until_ns:
            leg.retry_ns = leg.roll_over_until_ns  # what closes until then is opened as well
            return
        text = f"{lots} lots rolled over from {old.symbol}; {abs(old.open):f} are being closed there still"
        _end(turn, signal, leg, RejectCode.PLATFORM_REJECTED, f"{text}, and are not opened again")
        return
    if left <= 0 and besides:
        _end(turn, signal, leg, RejectCode.CONTRADICTION, f"{lots} lots rolled over from {old.symbol}; {besides}")
        return
    if left <= 0:
        _end(turn, signal, leg, RejectCode.NONE, f"{lots} lots rolled over from {old.symbol}" if lots > 0 else "")
        return
    code, text = _check_attempts(attempts)
    if code is RejectCode.NONE:
        code, text = _check_lost_attempts(turn, signal, leg)
    if code is RejectCode.NONE:
        code, text = _admit(turn, signal, leg, left)
        is_late = turn.now_ns >= leg.roll_over_until_ns
        if code in _MAY_PASS and not is_late:
            # An order sent in doubt about the position or another order could make the position too large.
            leg.retry_ns = turn.now_ns + state.settings.retry_ms * NS_PER_MS
            return
        if is_late and (code is RejectCode.NONE or code in _MAY_PASS):
            code = RejectCode.PLATFORM_NOT_READY if code is RejectCode.NONE else code
            text = f"not possible within {state.settings.carry_within_ms} ms{': ' if text else ''}{text}"
    if code is not RejectCode.NONE:
        _end(turn, signal, leg, code, f"{_not_opened(left, lots, old)}: {text}")
        return
    pause_ns = state.settings.retry_ms * NS_PER_MS
    if any(turn.now_ns < order.ended_ns + pause_ns for order in attempts):
        leg.retry_ns = turn.now_ns + pause_ns  # the last one was refused just now
    else:
        _send(turn, signal, number, left)


def _closed_lots(turn: Turn, old: LegRecord) -> Decimal:
    """Lots that our closing orders have closed of a leg; negative when a correction left more opened than closed."""
    exits = [order for order in leg_orders(turn.state, old) if order.role is OrderRole.EXIT]
    return -old.sign * sum((turn.state.executions[key].own_signed for order in exits for key in order.executions), ZERO)


def _admit(turn: Turn, signal: SignalRecord, leg: LegRecord, lots: Decimal) -> tuple[RejectCode, str]:
    entry = Entry(
        record=signal,
        leg=leg,
        market=leg.market,
        quantity=lots,
        added=lots,
        order_type=OrderType.MARKET,
        prices=(),
    )
    return admit(turn, entry, WAIVED_FOR_ROLL_OVER)


def _check_lost_attempts(turn: Turn, signal: SignalRecord, leg: LegRecord) -> tuple[RejectCode, str]:
    lost = [each for each in turn.state.orphans.values() if each.key == signal.key and each.route == leg.route]
    if any(orphan.role is OrderRole.ROLL for orphan in lost):
        return RejectCode.UNKNOWN_ORDER, "the journal has lost an order of an earlier try, which may have filled"
    return RejectCode.NONE, ""


def _check_attempts(attempts: list[OrderRecord]) -> tuple[RejectCode, str]:
    if any(order.presumed_ended for order in attempts):
        return RejectCode.OUTCOME_UNKNOWN, "the platform does not show an order that it may still have"
    if len(attempts) >= _MAX_ATTEMPTS:
        return RejectCode.PLATFORM_REJECTED, f"{len(attempts)} orders ended unfilled; the last one: {attempts[-1].text}"
    return RejectCode.NONE, ""


def _attempts(turn: Turn, leg: LegRecord) -> list[OrderRecord]:
    return [order for order in leg_orders(turn.state, leg) if order.role is OrderRole.ROLL]


def _apply_late_roll_overs(turn: Turn, signal: SignalRecord, number: int) -> None:
    """Correct the earlier report of a roll-over: a late fill of an order presumed lost has reopened lots."""
    old = signal.legs[number]
    for leg in signal.legs:
        ended = leg.rolls_over_from == number and leg.roll_over_ended and not leg.closing
        if not ended or leg.code is not RejectCode.OUTCOME_UNKNOWN:
            continue
        lots = min(_closed_lots(turn, old), old.quantity)
        traded = [order for order in _attempts(turn, leg) if order.max_cum_qty or order.written_off_qty]
        left = lots - sum((order.max_cum_qty + order.written_off_qty for order in traded), ZERO)
        shortfall = _not_opened(left, lots, old)
        if leg.text.startswith(shortfall):
            continue  # reported already
        for order in traded:
            order.code, order.text = RejectCode.NONE, "answered after it was presumed lost"
        if left > 0:
            leg.text = f"{shortfall}; an order that was presumed lost has traded"
        else:
            besides = _beyond_the_plan(turn, leg, old)
            leg.code = RejectCode.CONTRADICTION if besides else RejectCode.NONE
            leg.text = f"{lots} lots rolled over from {old.symbol}, by an order that was presumed lost"
            leg.text += f"; {besides}" if besides else ""
        turn.touch(signal.signal.signal_id)
        turn.count("carried_late")
        turn.alert(RejectCode.OUTCOME_UNKNOWN, f"{signal.signal.signal_id} {leg.platform}: {leg.text}", leg.platform)


def _beyond_the_plan(turn: Turn, leg: LegRecord, old: LegRecord) -> str:
    """Say what was closed or opened besides the lots of the leg: overfills, and lots that the platform counts without
    an execution that could be booked. Empty = nothing.
    """
    texts = []
    beyond = _closed_lots(turn, old) - old.quantity
    if beyond > 0:
        texts.append(f"{beyond} beyond the leg's size were closed too, and are not opened again")
    exits = [order for order in leg_orders(turn.state, old) if order.role is OrderRole.EXIT]
    closed, opened = (sum((each.written_off_qty for each in both), ZERO) for both in (exits, _attempts(turn, leg)))
    if closed or opened:
        texts.append(f"by the platform's count alone {closed} more were closed and {opened} opened, look there")
    return "; ".join(texts)


def _not_opened(left: Decimal, lots: Decimal, old: LegRecord) -> str:
    """Text of a shortfall; `_apply_late_roll_overs` recognises by it what was reported already."""
    return f"{left} of {lots} lots closed in {old.symbol} are not opened again"


def _send(turn: Turn, signal: SignalRecord, number: int, lots: Decimal) -> None:
    leg = signal.legs[number]
    bracket = leg.bracket if leg.protection is Protection.PLATFORM else None
    terms = OrderTerms(
        side=Side.BUY if leg.sign > 0 else Side.SELL,
        quantity=lots,
        time_in_force=market_tif(turn, leg),
        stop_loss=None if bracket is None else bracket.stop_loss,
        take_profit=None if bracket is None else bracket.take_profit,
    )
    place_for_leg(turn, signal, number, OrderRole.ROLL, terms)


def _end(turn: Turn, signal: SignalRecord, leg: LegRecord, code: RejectCode, text: str) -> None:
    leg.roll_over_ended = True
    leg.code, leg.text = code, text
    turn.touch(signal.signal.signal_id)
    if text:
        turn.count("roll_residual" if code is not RejectCode.NONE else "carried")
        turn.alert(code, f"{signal.signal.signal_id} {leg.platform}: {text}", leg.platform)
