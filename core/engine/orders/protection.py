"""Stops and targets that the gateway keeps itself, for platforms that cannot attach them to the entry.

A loop towards one stop and one target for exactly what is open: after every change it compares the working orders with
the open lots and takes one step. So a partial entry, a partial exit, a late OCO sibling and a restart need no case of
their own.

Where the platform has OCO, stop and target of one size are a pair with a group id of its own, which ends in a
generation and is never used again: a platform refuses an id once an order of its group has ended. What grows is resized
where the platform can do that, else a further pair takes the new lots.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from ....shm.durations import NS_PER_MS, NS_PER_S
from ...messages import Capabilities, LegState, OrderRole, OrderType, Protection, RejectCode, Side, TimeInForce
from ..state import OPENING, ZERO, LegRecord, OrderRecord, RouteRecord, SignalRecord
from ..turn import Turn, bar_of, leg_orders
from .exposure import PROTECTIVE, closing_orders, in_flux, is_hedging, standing
from .pauses import MOST_PAUSE_MS, SHUT_PAUSE_MS, pause_ms
from .placement import OrderTerms, place_for_leg, send_replace, want_cancel

_MOST_REFUSALS: Final = 3
"""Stops in a row that a platform may refuse in an open market: a position that cannot be protected is closed."""
_ANSWERED_AT_ONCE: Final = frozenset({RejectCode.LINK_DOWN, RejectCode.PLATFORM_NOT_READY, RejectCode.ADAPTER_LIMIT})
"""Answers that an adapter gives without its platform: without a pause the next order would follow in no time."""
NEVER_JUDGED: Final = _ANSWERED_AT_ONCE | {RejectCode.NOT_FOUND_AT_PLATFORM, RejectCode.TOO_LATE_TO_SEND}
"""Ends of an order that never came as far as the platform's own judgement: they do not say that it takes no stop."""
_TOGETHER_NS: Final = 100 * NS_PER_MS
"""A target whose pause ends this soon after its stop's leaves with it: apart, they would be no pair."""
_STOOD_NS: Final = 10 * NS_PER_S
"""A stop that worked for this long was accepted, whatever ended it: refusals from before do not count any more."""


def guard_leg(turn: Turn, signal: SignalRecord, leg_number: int, *, stop_only: bool = False) -> str:
    """Take the next step towards protecting exactly what the leg holds. Returns why it has to be closed; empty = not.

    `stop_only`: it is being closed and no closing order can leave now: a target is left as it is.
    """
    leg = signal.legs[leg_number]
    if leg.open * leg.sign < 0 and not leg.closing:
        # Stop and target both filled before either could be cancelled. What is held now is a position on the other side
        # that no signal asked for, and no stop guards.
        turn.count("oco_both_filled")
        return "stop and target both filled; the excess is closed"
    route = turn.state.routes[leg.route]
    bracket = leg.bracket
    if bracket is None or not route.up or not route.ready or bar_of(turn.state, leg.route, leg.symbol):
        return ""
    if any(order.unreported_qty for order in leg_orders(turn.state, leg) if order.role in PROTECTIVE):
        return ""  # its executions are on their way: a stop sized by `open` now would be too large
    held = abs(leg.open) if leg.open * leg.sign > 0 else ZERO
    held -= sum((order.unreported_qty for order in closing_orders(turn, leg)), ZERO)  # closed, and not booked yet
    lacking: dict[OrderRole, Decimal] = {}
    stop_due_ns = 0
    leg.protect_retry_ns = 0
    for role, price in zip(PROTECTIVE, (bracket.stop_loss, bracket.take_profit), strict=True):
        orders = [order for order in standing(turn, leg) if order.role is role]
        if price is None or any(in_flux(order) for order in orders):
            continue  # a second stop sent now could stand beside the first, and fill for lots that are not held
        lots = max(held, ZERO) - sum((order.leaves_qty for order in orders), ZERO)
        if lots < 0:
            _shrink(turn, leg, orders, -lots)
        elif lots > 0 and not (stop_only and role is OrderRole.TAKE_PROFIT):
            refusal, pause_ends_ns = _judge_refusals(turn, leg, role)
            if refusal and not leg.closing:
                return refusal
            due_ns = max(pause_ends_ns, _sibling_awaited_until_ns(turn, leg, role))
            if role is OrderRole.STOP_LOSS:
                stop_due_ns = due_ns
            else:
                due_ns = _due_with_stop(turn, due_ns, stop_due_ns, stop_leaves=OrderRole.STOP_LOSS in lacking)
            if not _postpone(turn, leg, due_ns) and not _grow(turn, route, orders, lots):
                lacking[role] = lots
    return _place(turn, signal, leg_number, lacking)


def _postpone(turn: Turn, leg: LegRecord, due_ns: int) -> bool:
    """Let the leg be looked at when a stop or target is due. False: it is due now.

    Each role has a time of its own, and the earliest counts: a stop does not wait out the pause of a target.
    """
    if due_ns <= turn.now_ns:
        return False
    leg.protect_retry_ns = min(leg.protect_retry_ns or due_ns, due_ns)
    return True


def _due_with_stop(turn: Turn, due_ns: int, stop_due_ns: int, *, stop_leaves: bool) -> int:
    """Return when a target is due beside its stop, so that both leave as a pair. The stop waits for no target; the
    target waits for a stop that is lacking, too. `stop_due_ns`: 0 = none is lacking.
    """
    if stop_leaves:
        return 0 if due_ns <= turn.now_ns + _TOGETHER_NS else due_ns
    return max(due_ns, stop_due_ns)


def _sibling_awaited_until_ns(turn: Turn, leg: LegRecord, role: OrderRole) -> int:
    """Return until when one of a pair that the platform has cancelled is not sent again, 0 = it need not wait: its
    sibling's fill may be on its way.
    """
    orders = list(leg_orders(turn.state, leg))
    newest = max((each for each in orders if each.role is role), key=lambda each: each.ended_ns, default=None)
    if newest is None or newest.state is not LegState.CANCELLED or newest.cancel_wanted:
        return 0
    group = newest.order.oco_group
    if group and any(each.live and each.order.oco_group == group for each in orders):
        return newest.ended_ns + turn.state.settings.stop_wait_ms * NS_PER_MS
    return 0


def _judge_refusals(turn: Turn, leg: LegRecord, role: OrderRole) -> tuple[str, int]:
    """Return why the leg has to be closed since its stops did not stand, empty = not; and when the pause behind them,
    or behind its targets, ends.

    Those in a row count, since its market has opened: refusals of hours ago, after which one stood, do not add up.
    """
    ended = refused = 0
    in_a_row = True
    newest: OrderRecord | None = None
    for order_id in reversed(leg.orders):
        order = turn.state.orders[order_id]
        if order.role is not role:
            continue
        if order.live or order.sent_ns < leg.session_opened_ns or _stood(order):
            break
        newest = newest or order
        ended += 1
        in_a_row = in_a_row and order.state is LegState.REJECTED
        refused += in_a_row and order.code not in NEVER_JUDGED
    if newest is None:
        return "", 0
    shut = leg.market is not None and not leg.market.session_open
    if shut and newest.state is LegState.REJECTED and newest.code not in NEVER_JUDGED:
        wait_ms = SHUT_PAUSE_MS
    elif role is OrderRole.TAKE_PROFIT and ended >= _MOST_REFUSALS:
        wait_ms = MOST_PAUSE_MS
    elif refused >= _MOST_REFUSALS and role is OrderRole.STOP_LOSS and not leg.closing:
        return "the platform refused the stop_loss; the leg is closed", 0
    elif newest.code in _ANSWERED_AT_ONCE or ended >= _MOST_REFUSALS:
        wait_ms = pause_ms(turn, ended - _MOST_REFUSALS + 1)
    else:
        wait_ms = 0  # each moment without it counts
    if ended >= _MOST_REFUSALS and newest.ended_ns == turn.now_ns and role is OrderRole.STOP_LOSS:
        text = f"{leg.platform}: {ended} stops in a row did not stand, the last one: {newest.text or newest.state}"
        turn.alert(RejectCode.PLATFORM_REJECTED, f"{text}; {leg.open:+f} {leg.symbol} are unprotected", leg.platform)
    return "", newest.ended_ns + wait_ms * NS_PER_MS


def _stood(order: OrderRecord) -> bool:
    """Whether an order that has ended was accepted: it traded, we have ended it, or it worked for a while."""
    worked_ns = order.ended_ns - order.acked_ns if order.acked_ns else 0
    return bool(order.max_cum_qty) or order.cancel_wanted or worked_ns >= _STOOD_NS


def _grow(turn: Turn, route: RouteRecord, orders: list[OrderRecord], lots: Decimal) -> bool:
    """Make the newest standing order larger. False: it cannot be, or there is none, so a new order is needed."""
    order = next((each for each in reversed(orders) if _can_resize(route.hello.capabilities, each)), None)
    if order is None:
        return False
    send_replace(turn, order, order.quantity + lots, order.limit_price, order.stop_price)
    return True


def _shrink(turn: Turn, leg: LegRecord, orders: list[OrderRecord], excess: Decimal) -> None:
    """Take lots off the standing orders of one role: of the one first whose sibling has traded or ended."""
    order = next((each for each in orders if _lost_sibling(turn, leg, each)), None)
    capabilities = turn.state.routes[leg.route].hello.capabilities
    if order is not None and capabilities is not None and capabilities.oco_shrinks:
        # The platform makes it smaller itself: it is given the time of an answer to say so.
        wait_ns = turn.state.settings.ack_ms * NS_PER_MS
        traded_ns = max(each.last_news_ns for each in leg_orders(turn.state, leg) if each.role in PROTECTIVE)
        if _postpone(turn, leg, traded_ns + wait_ns):
            return
    order = order or next((each for each in orders if each.leaves_qty == excess), orders[-1])
    if excess < order.leaves_qty and _can_resize(capabilities, order):
        send_replace(turn, order, order.quantity - excess, order.limit_price, order.stop_price)
        return
    shut = leg.market is not None and not leg.market.session_open
    if shut and order.role is OrderRole.STOP_LOSS and leg.open * leg.sign > 0:
        return  # nothing trades now, and a new stop may be refused: too large a one is shrunk when the market opens
    want_cancel(turn, order)


def _lost_sibling(turn: Turn, leg: LegRecord, order: OrderRecord) -> bool:
    group = order.order.oco_group
    return bool(group) and any(
        each is not order and each.order.oco_group == group and each.leaves_qty < order.leaves_qty
        for each in leg_orders(turn.state, leg)
    )


def _can_resize(capabilities: Capabilities | None, order: OrderRecord) -> bool:
    """Whether the platform changes the size of this order. One whose last replace was refused is not asked again."""
    if capabilities is None or not (capabilities.replace and capabilities.replace_quantity):
        return False
    return order.code not in (RejectCode.REPLACE_REJECTED, RejectCode.UNSUPPORTED_REPLACE)


def _place(turn: Turn, signal: SignalRecord, leg_number: int, lacking: dict[OrderRole, Decimal]) -> str:
    """Place what lacks: a stop and a target of one size as a pair, the rest alone."""
    leg = signal.legs[leg_number]
    pair = min(lacking.values()) if len(lacking) == len(PROTECTIVE) else ZERO
    group = ""
    if pair:
        # By the number of its stop, which goes on after a lost journal, too, when the platform shows its orders.
        group = f"{signal.key}-{leg_number}.{leg.attempts.get(OrderRole.STOP_LOSS, 0)}"
    for role, lots in lacking.items():
        for size, in_group in ((pair, group), (lots - pair, "")):
            if size and not _send(turn, signal, leg_number, role, size, in_group):
                return f"no ClOrdID is left for another {role.name.lower()}; the leg is closed"
    return ""


def _send(turn: Turn, signal: SignalRecord, leg_number: int, role: OrderRole, lots: Decimal, group: str) -> bool:
    leg = signal.legs[leg_number]
    assert leg.bracket is not None
    is_stop = role is OrderRole.STOP_LOSS
    capabilities = turn.state.routes[leg.route].hello.capabilities
    lasting = capabilities is not None and TimeInForce.GTC in capabilities.times_in_force
    terms = OrderTerms(
        side=Side.SELL if leg.open > 0 else Side.BUY,
        quantity=lots,
        order_type=OrderType.STOP if is_stop else OrderType.LIMIT,
        stop_price=leg.bracket.stop_loss if is_stop else None,
        limit_price=None if is_stop else leg.bracket.take_profit,
        time_in_force=TimeInForce.GTC if lasting else TimeInForce.DAY,
        reduce_only=True,
        oco_group=group,
    )
    return place_for_leg(turn, signal, leg_number, role, terms) is not None


def end_protection(turn: Turn, leg: LegRecord) -> None:
    """Cancel stop and target of a leg that holds nothing."""
    for order in standing(turn, leg):
        want_cancel(turn, order)


def withdraw_cancels(turn: Turn, leg: LegRecord) -> None:
    """Repeat no cancel of a leg's stop or target. A cancel that has already left may still end it."""
    for order in standing(turn, leg):
        order.cancel_wanted = False


def end_rest_of_entry(turn: Turn, signal: SignalRecord, leg: LegRecord) -> None:
    """Cancel the rest of an entry whose stop has traded: the idea was wrong, and what fills later would be stopped out
    at once, or stand on the wrong side of its stop.
    """
    orders = list(leg_orders(turn.state, leg))
    if not any(order.role is OrderRole.STOP_LOSS and order.max_cum_qty for order in orders):
        return
    for order in orders:
        if order.role is OrderRole.ENTRY and order.live and not order.cancel_wanted:
            turn.count("entry_ended_by_stop")
            order.text = "its stop has traded: the rest is cancelled"
            want_cancel(turn, order)
            turn.touch(signal.signal.signal_id)


def keep_stop(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Let the stop of a leg stand that is being closed, while no closing order of it can leave."""
    leg = signal.legs[leg_number]
    route = turn.state.routes.get(leg.route)
    if route is None or leg.bracket is None or leg.bracket.stop_loss is None:
        return
    if leg.protection is Protection.PLATFORM and not is_hedging(route) and _can_guard(route):
        stops = [order for order in leg_orders(turn.state, leg) if order.role is OrderRole.STOP_LOSS]
        if not stops or any(order.live for order in stops):
            return  # it stands; some platforms do not list it
        # The platform's own stop was cancelled for a closing order that has not traded: it makes no second one.
        leg.protection = Protection.GATEWAY
        turn.count("bracket_taken_over")
    if leg.protection is Protection.GATEWAY:
        guard_leg(turn, signal, leg_number, stop_only=True)


def _can_guard(route: RouteRecord) -> bool:
    capabilities = route.hello.capabilities
    return capabilities is not None and {OrderType.STOP, OrderType.LIMIT} <= set(capabilities.order_types)


def take_over_bracket(turn: Turn, signal: SignalRecord, leg_number: int) -> None:
    """Keep stop and target here from now on when a bust, a correction or other orders have changed what a leg holds, as
    a platform does not follow that, or when its stop has ended by itself.

    Its stop would close lots that are not held any more, or guard none of those that are held again. From here on they
    are balanced as any others (`guard_leg`), by replaces or by cancels and new orders.
    """
    leg = signal.legs[leg_number]
    route = turn.state.routes[leg.route]
    executions = [turn.state.executions[key] for key in leg.executions]
    amended = any(each.busted or each.restated for each in executions)
    reduced = bool(leg.external_qty) and not is_hedging(route)  # by ticket the platform follows it
    orders = list(leg_orders(turn.state, leg))
    known = [order for order in orders if order.role is OrderRole.STOP_LOSS]
    stops = [order for order in known if order.live]
    has_ended = bool(known and leg.open) and not stops
    if not leg.open and not is_hedging(route):
        _end_left_over(turn, signal, leg, orders)
    if leg.closing or leg.open * leg.sign < 0 or not (amended or reduced or has_ended):
        return
    settled = not any(order.unsettled for order in orders if order.role in OPENING)
    wanted = leg.bracket is not None and leg.bracket.stop_loss is not None
    lots = sum((order.leaves_qty for order in stops), ZERO)
    guarded = lots == abs(leg.open) or not (stops or wanted)
    if not amended and not has_ended:
        guarded = lots <= abs(leg.open)  # a platform may not list its stop: it is not given a second one
    if guarded or not settled or any(in_flux(order) for order in stops):
        return
    why = "after others have closed lots of it"
    if has_ended:
        why = f"its stop at the platform has ended ({known[-1].text or known[-1].state})"[:200]
    elif amended:
        why = "after a bust or a correction"
    text = f"{signal.signal.signal_id} {leg.platform}: {why}, {leg.open} lots are held"
    if not is_hedging(route) and _can_guard(route):
        leg.protection = Protection.GATEWAY
        text += "; their stop and target are kept by the gateway from now on"
    else:
        text += ", and no stop of the platform's covers them: set one at the platform"
    if leg.text != text:
        leg.text = text
        turn.count("bracket_taken_over")
        turn.alert(RejectCode.UNSUPPORTED_BRACKET, text, leg.platform)
        turn.touch(signal.signal.signal_id)


def _end_left_over(turn: Turn, signal: SignalRecord, leg: LegRecord, orders: list[OrderRecord]) -> None:
    """Cancel a stop or target that works on although its sibling has closed the leg, and would open lots."""
    left = [order for order in orders if order.role in PROTECTIVE and order.live and not order.cancel_wanted]
    traded = [order.last_news_ns for order in orders if order.role in PROTECTIVE and order.cum_qty]
    if not left or not traded or any(order.unsettled for order in orders if order.role in OPENING):
        return
    due_ns = max(traded) + turn.state.settings.ack_ms * NS_PER_MS
    if turn.now_ns < due_ns:
        turn.look_again(leg, due_ns)
        return  # the platform ends it itself, and has not reported that yet
    text = f"{signal.signal.signal_id} {leg.platform}: it is flat, and the platform has not ended "
    text += f"{', '.join(order.role.name.lower() for order in left)}: cancelled"
    turn.alert(RejectCode.PLATFORM_REJECTED, text, leg.platform)
    for order in left:
        want_cancel(turn, order)
