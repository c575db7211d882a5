"""A position over a roll: the leg of the old contract is closed, and a new leg opens the same lots in the new one.

Close first, open second. The other way round the account would hold both for a moment: twice the size that was asked
for, and twice the margin. So the worst that a failure leaves is too small a position, which is shown; never too large
a one. Neither half begins before the platform can do both: its link is up and reconciled, it presents the new
contract, the market trades. Until then the stops stay where they are, and nothing is flat for longer than two market
orders need.

What is opened is what our own closing orders have closed, no more: lots that a stop or somebody's hand closed on the
way are not brought back. An order that nobody has answered is waited for, and one that only may be gone is not sent
again.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from msgspec import structs

from ....shm.durations import NS_PER_MS
from ...messages import Bracket, KillLevel, OrderRole, Protection, RejectCode, Side
from ...messages.order_id import MAX_LEGS
from ..admission import refuse_opposed
from ..orders.exits import attempts_used_up, close_leg
from ..orders.placement import OrderTerms, market_tif, place_for_leg
from ..state import OPENING, ZERO, LegRecord, OrderRecord, RollPlan, RouteRecord, SignalRecord
from ..turn import Turn, kill_level, leg_orders, position_after, unknown_order

_MAX_ATTEMPTS: Final = 3


def drive_roll_out(turn: Turn, signal: SignalRecord, number: int) -> None:
    """Begin to close a leg whose contract was rolled, once the platform can do what is planned for it."""
    leg = signal.legs[number]
    _apply_late_roll_overs(turn, signal, number)
    plan = leg.roll_out
    route = turn.state.routes.get(leg.route)
    if plan is None or leg.closing or not leg.open or leg.market is None or route is None:
        return
    if any(order.role in OPENING and order.unsettled for order in leg_orders(turn.state, leg)):
        return  # cancelled at the decision; only its answer says how many lots there are
    if not route.up or not route.ready or not leg.market.session_open:
        return
    if plan.roll_over and not _presents(route, leg, plan):
        return
    if plan.roll_over:
        _add_successor(turn, signal, number, leg, plan)
    close_leg(turn, signal, number)


def _presents(route: RouteRecord, leg: LegRecord, plan: RollPlan) -> bool:
    """Whether the root's name means the new contract there, and the leg goes under its own contract's name."""
    return leg.symbol in route.retired and any(
        each.symbol == plan.root and each.contract == plan.contract for each in route.hello.instruments
    )


def _add_successor(turn: Turn, signal: SignalRecord, number: int, leg: LegRecord, plan: RollPlan) -> None:
    if len(signal.legs) >= MAX_LEGS:
        text = f"{signal.signal.signal_id}: a report holds {MAX_LEGS} legs; {leg.symbol} is closed and not carried over"
        turn.alert(RejectCode.PARENT_EXCEEDED, text, leg.platform)
        return
    assert leg.market is not None
    told = plan.market or structs.replace(leg.market, contract=plan.contract, bid=None, ask=None, expiry_ns=0)
    successor = LegRecord(
        target=leg.target,
        platform=leg.platform,
        account=leg.account,
        route=leg.route,
        symbol=plan.root,
        sign=leg.sign,
        quantity=leg.quantity,
        market=structs.replace(told, symbol=plan.root),
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
    """Open in the new contract what has been closed in the old one: once that is certain, and while it may be done."""
    leg = signal.legs[number]
    old = signal.legs[leg.rolls_over_from]
    state = turn.state
    tries = _attempts(turn, leg)
    if any(order.unsettled for order in (*tries, *leg_orders(state, old))):
        return
    gave_up = old.code is RejectCode.OUTCOME_UNKNOWN or attempts_used_up(turn, old)
    if old.open and not gave_up:
        return
    lots = min(_closed_lots(turn, old), old.quantity)
    left = lots - sum((order.max_cum_qty for order in tries), ZERO)
    if lots > 0 and not leg.roll_over_until_ns:
        leg.roll_over_until_ns = turn.now_ns + state.settings.carry_within_ms * NS_PER_MS
        leg.quantity = lots
        leg.text = f"{lots} lots of {old.symbol} are closed, to be opened again"
        turn.touch(signal.signal.signal_id)
    if left <= 0:
        _end(turn, signal, leg, RejectCode.NONE, f"carries {lots} lots over from {old.symbol}" if lots > 0 else "")
        return
    code, text = _refusal(turn, signal, leg, left)
    if code is RejectCode.NONE:
        code, text = _check_attempts(tries)
    route = state.routes[leg.route]
    if code is RejectCode.NONE and turn.now_ns >= leg.roll_over_until_ns:
        code, text = RejectCode.PLATFORM_NOT_READY, f"not possible within {state.settings.carry_within_ms} ms"
    if code is not RejectCode.NONE:
        _end(turn, signal, leg, code, f"{_not_opened(left, lots, old)}: {text}")
        return
    position = route.positions.get(leg.symbol)
    in_doubt = (position is not None and position.mismatch_snapshots) or unknown_order(
        state, route, leg.symbol
    ) is not None
    pause_ns = state.settings.retry_ms * NS_PER_MS
    just_refused = any(turn.now_ns < order.ended_ns + pause_ns for order in tries)
    if route.up and route.ready and not in_doubt and not just_refused:
        _send(turn, signal, number, left)
    else:
        leg.retry_ns = turn.now_ns + pause_ns


def _closed_lots(turn: Turn, old: LegRecord) -> Decimal:
    """Lots that our closing orders took out of a leg; negative would be more than it held, put back again."""
    exits = [order for order in leg_orders(turn.state, old) if order.role is OrderRole.EXIT]
    return -old.sign * sum((turn.state.executions[key].signed for order in exits for key in order.executions), ZERO)


def _refusal(turn: Turn, signal: SignalRecord, leg: LegRecord, lots: Decimal) -> tuple[RejectCode, str]:
    """What forbids opening here. It is no new trade, so the day's count and the entry's price checks do not apply."""
    state = turn.state
    limits = state.limits
    assert leg.market is not None
    if leg.market.identity_error:
        return RejectCode.IDENTITY_MISMATCH, leg.market.identity_error
    level = kill_level(state, leg.route)
    if level >= KillLevel.NO_NEW:
        return RejectCode.KILL_SWITCH, f"kill switch is at {level.name.lower()}"
    stage = limits.stages[state.stage]
    if leg.platform not in stage.platforms:
        return RejectCode.STAGE_PLATFORM, f"stage {state.stage} has no platform {leg.platform}"
    if limits.root_of(leg.symbol) not in stage.symbols:
        return RejectCode.STAGE_SYMBOL, f"stage {state.stage} has no symbol {leg.symbol}"
    lost = [orphan for orphan in state.orphans.values() if orphan.key == signal.key and orphan.route == leg.route]
    if any(orphan.role is OrderRole.ROLL for orphan in lost):
        return RejectCode.UNKNOWN_ORDER, "the journal has lost an order of an earlier try, which may have filled"
    front = state.contracts.get(leg.symbol)
    if front is not None and front.contract != leg.market.contract:
        return RejectCode.CONTRACT_EXPIRED, f"{front.contract} is in front by now"
    route = state.routes[leg.route]
    position = route.positions.get(leg.symbol)
    if position is not None and position.blocked:
        return RejectCode.POSITION_MISMATCH, f"position of {leg.symbol} differed from the platform's"
    most = limits.max_position.get(leg.symbol, limits.max_position_default)
    after = abs(position_after(state, route, leg.symbol, lots * leg.sign))
    if after > most:
        return RejectCode.MAX_POSITION, f"position could become {after}, limit {most}"
    return refuse_opposed(turn, signal, leg)


def _check_attempts(tries: list[OrderRecord]) -> tuple[RejectCode, str]:
    if any(order.presumed_ended for order in tries):
        return RejectCode.OUTCOME_UNKNOWN, "the platform does not show an order that it may still have"
    if len(tries) >= _MAX_ATTEMPTS:
        return RejectCode.PLATFORM_REJECTED, f"{len(tries)} orders ended unfilled, at last: {tries[-1].text}"
    return RejectCode.NONE, ""


def _attempts(turn: Turn, leg: LegRecord) -> list[OrderRecord]:
    return [order for order in leg_orders(turn.state, leg) if order.role is OrderRole.ROLL]


def _apply_late_roll_overs(turn: Turn, signal: SignalRecord, number: int) -> None:
    """An order that was taken for lost has traded after all: whoever was told that its lots are not open again hears
    that they are.
    """
    old = signal.legs[number]
    for leg in signal.legs:
        ended = leg.rolls_over_from == number and leg.roll_over_ended and not leg.closing
        if not ended or leg.code is not RejectCode.OUTCOME_UNKNOWN:
            continue
        lots = min(_closed_lots(turn, old), old.quantity)
        traded = [order for order in _attempts(turn, leg) if order.max_cum_qty]
        left = lots - sum((order.max_cum_qty for order in traded), ZERO)
        told = _not_opened(left, lots, old)
        if leg.text.startswith(told):
            continue
        for order in traded:
            order.code, order.text = RejectCode.NONE, "answered after it was taken for lost"
        if left > 0:
            leg.text = f"{told}; an order that was taken for lost has traded"
        else:
            leg.code = RejectCode.NONE
            leg.text = f"carries {lots} lots over from {old.symbol}, by an order that was taken for lost"
        turn.touch(signal.signal.signal_id)
        turn.count("carried_late")
        turn.alert(RejectCode.OUTCOME_UNKNOWN, f"{signal.signal.signal_id} {leg.platform}: {leg.text}", leg.platform)


def _not_opened(left: Decimal, lots: Decimal, old: LegRecord) -> str:
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
