"""What the legs of a signal owe each other. The only place that decides to send, cancel or flatten legs
together.

`settle` runs once at the end of every turn that touched a signal: it looks at where the legs stand and takes
the next step. It keeps no memory but `decision`, so it gives the same answer after a restart.
"""

from __future__ import annotations

from decimal import Decimal

from ....shm.durations import NS_PER_MS
from ...messages import (
    Allocation,
    FanOutKind,
    KillLevel,
    LegState,
    OrderRole,
    Protection,
    RejectCode,
    Side,
)
from ..orders.exits import close_leg, drive_exit
from ..orders.placement import OrderTerms, market_tif, place_for_leg, want_cancel
from ..orders.protection import guard_leg
from ..rolls.decision import is_rolled_out
from ..rolls.roll_over import drive_roll_out, drive_roll_over
from ..state import OPENING, ZERO, LegRecord, OrderRecord, SignalRecord
from ..turn import Turn, kill_level, leg_orders


def not_enough_legs(record: SignalRecord) -> tuple[RejectCode, str]:
    """Whether the legs that passed their checks are enough to start at all; the first refused leg's code if
    not.
    """
    refused = [leg for leg in record.legs if leg.code is not RejectCode.NONE]
    if not refused:
        return RejectCode.NONE, ""
    able = len(record.legs) - len(refused)
    policy = record.signal.policy
    needed = 1
    if policy.kind is FanOutKind.ALL_OR_FLATTEN:
        needed = len(record.legs)
    elif policy.kind is FanOutKind.QUORUM:
        needed = policy.quorum
    elif policy.kind is FanOutKind.PRIMARY_THEN_HEDGE:
        primary_able = record.legs[0].code is RejectCode.NONE
        needed = 2 if primary_able else len(record.legs) + 1
    if able >= needed:
        return RejectCode.NONE, ""
    first = refused[0]
    return first.code, f"{able} of {len(record.legs)} legs may trade, {policy.kind} needs {needed}; {first.text}"


def begin_fanout(turn: Turn, record: SignalRecord) -> None:
    """Send the entries of the legs that may trade; hedges wait for their primary."""
    wait_ms = record.signal.policy.decide_within_ms
    if wait_ms:
        record.deadline_ns = turn.now_ns + wait_ms * NS_PER_MS
    room = parent_quantity(record)
    for number, leg in enumerate(record.legs):
        if leg.code is not RejectCode.NONE or leg.hedge:
            continue
        if leg.quantity > room:
            leg.code = RejectCode.PARENT_EXCEEDED
            leg.text = f"leg of {leg.quantity} exceeds what the signal has left, {room}"
            continue
        room -= leg.quantity
        _send_entry(turn, record, number, leg)


def parent_quantity(record: SignalRecord) -> Decimal:
    """Lots that all legs of a signal together may open: what it asked for, and no sum of children can exceed
    it.
    """
    signal = record.signal
    if signal.quantity is not None and signal.allocation is Allocation.SPLIT:
        return signal.quantity
    return sum((leg.quantity for leg in record.target_legs if not leg.hedge), ZERO)


def _send_entry(turn: Turn, record: SignalRecord, number: int, leg: LegRecord) -> None:
    signal = record.signal
    native = leg.bracket if leg.protection is Protection.PLATFORM else None
    terms = OrderTerms(
        side=Side.BUY if leg.sign > 0 else Side.SELL,
        quantity=leg.quantity,
        order_type=signal.order_type,
        limit_price=signal.limit_price,
        stop_price=signal.stop_price,
        time_in_force=signal.time_in_force,
        good_till_ns=signal.good_till_ns,
        stop_loss=None if native is None else native.stop_loss,
        take_profit=None if native is None else native.take_profit,
        reduce_only=signal.reduce_only,
    )
    place_for_leg(turn, record, number, OrderRole.ENTRY, terms)


def settle(turn: Turn, record: SignalRecord) -> None:
    """Take a signal's next step: policy, hedges, exits, protection."""
    if record.decision == "rejected":
        return
    if not record.decision:
        _decide(turn, record)
    if record.decision == "kept" and 0 < record.deadline_ns <= turn.now_ns:
        _cancel_entries(turn, record)
        record.deadline_ns = 0
    if record.decision == "flatten":
        for number in range(len(record.legs)):
            close_leg(turn, record, number)
    elif record.hedged and _primary_is_over(turn, record):
        for number, leg in enumerate(record.legs):
            if leg.hedge and leg.open and not leg.closing:
                leg.text = "the primary is closed, so its hedge is too"
                close_leg(turn, record, number)
    for number, leg in enumerate(record.legs):  # a leg that carries another one over a roll is added on the way
        level = kill_level(turn.state, leg.route)
        if leg.roll_out is not None:
            drive_roll_out(turn, record, number)
        if leg.roll_over_pending:
            drive_roll_over(turn, record, number)
        if level < KillLevel.CANCEL_ALL and not leg.closing and _has_turned_over(turn, leg):
            turn.count("turned_over")
            leg.text = "more was closed than the leg held; the excess is closed"
            close_leg(turn, record, number)
        guarded = leg.protection is Protection.GATEWAY and level < KillLevel.CANCEL_ALL
        if leg.orders and guarded:
            guard_leg(turn, record, number)
        if leg.closing:  # perhaps only since its stop and target both filled
            drive_exit(turn, record, number)
        elif leg.hedge and leg.roll_out is None and leg.rolls_over_from < 0 and level < KillLevel.REDUCE_ONLY:
            _drive_hedge(turn, record, number)


def _decide(turn: Turn, record: SignalRecord) -> None:
    policy = record.signal.policy
    late = 0 < record.deadline_ns <= turn.now_ns
    if policy.kind in (FanOutKind.BEST_EFFORT, FanOutKind.PRIMARY_THEN_HEDGE):
        if late:
            record.decision = "kept"
        return
    legs = record.target_legs
    needed = len(legs) if policy.kind is FanOutKind.ALL_OR_FLATTEN else policy.quorum
    filled = sum(_entry_filled(turn, leg) for leg in legs)
    if filled >= needed:
        record.decision = "kept"
        return
    failed = sum(_entry_failed(turn, leg) for leg in legs)
    if late or len(legs) - failed < needed:
        # An unknown leg counts as failed once time is up: should it turn out filled, it is flattened then.
        record.decision = "flatten"
        turn.touch(record.signal.signal_id)
        record.text = f"{policy.kind}: {filled} of {needed} legs filled, {failed} failed" + (
            ", time is up" if late else ""
        )


def _entry(turn: Turn, leg: LegRecord) -> OrderRecord | None:
    for order in leg_orders(turn.state, leg):
        if order.role is OrderRole.ENTRY:
            return order
    return None


def _entry_filled(turn: Turn, leg: LegRecord) -> bool:
    entry = _entry(turn, leg)
    return entry is not None and entry.state is LegState.FILLED


def _entry_failed(turn: Turn, leg: LegRecord) -> bool:
    """Certain not to fill in full: refused, or over at the platform with all its executions in."""
    entry = _entry(turn, leg)
    if entry is None:
        return True
    return entry.state.final and entry.state is not LegState.FILLED and not entry.unreported_qty


def _cancel_entries(turn: Turn, record: SignalRecord) -> None:
    for leg in record.legs:
        for order in leg_orders(turn.state, leg):
            if order.role is OrderRole.ENTRY:
                want_cancel(turn, order)


def _has_turned_over(turn: Turn, leg: LegRecord) -> bool:
    """Whether a leg's own executions have left it on the other side: the platform's stop and target have both filled,
    or its entry was taken back after its stop. Nobody asked for that position, and nothing protects it.
    """
    if leg.open * leg.sign >= 0 or (leg.open - leg.external_qty) * leg.sign >= 0:
        return False
    # A stop's fill may overtake that of its entry.
    return not any(order.unsettled for order in leg_orders(turn.state, leg) if order.role in OPENING)


def _primary_is_over(turn: Turn, record: SignalRecord) -> bool:
    """Whether the primary has traded and is flat for good, by its stop, by a close or by hand: a hedge without it is a
    naked position the other way. One that was rolled is left to NEXUS.
    """
    primary = record.legs[0]
    if primary.open or primary.roll_out is not None or not primary.executions:
        return False
    return not any(order.unsettled for order in leg_orders(turn.state, primary) if order.role in OPENING)


def _drive_hedge(turn: Turn, record: SignalRecord, number: int) -> None:
    """Bring the hedges up to what the primary holds, on the first hedge leg that can trade. Never more than
    that.
    """
    leg = record.legs[number]
    if leg.code is not RejectCode.NONE or any(order.unsettled for order in leg_orders(turn.state, leg)):
        return
    if record.legs[0].closing or turn.now_ns < leg.retry_ns:
        return
    needed = abs(record.legs[0].open) - sum((_hedge_lots(turn, other) for other in record.legs if other.hedge), ZERO)
    if needed <= 0:
        return
    if _hedge_failures(turn, leg) >= 3:
        leg.code, leg.text = RejectCode.PLATFORM_REJECTED, "three hedges were refused; the next leg hedges"
        turn.touch(record.signal.signal_id)
        return
    if is_rolled_out(turn, leg):
        leg.code, leg.text = RejectCode.CONTRACT_EXPIRED, f"{needed} lots are not hedged: the contract was rolled"
        turn.touch(record.signal.signal_id)
        return
    route = turn.state.routes[leg.route]
    if not route.up or not route.ready:
        return
    lots = min(needed, leg.quantity - _hedge_lots(turn, leg))
    if lots <= 0:
        return
    leg.retry_ns = turn.now_ns + turn.state.settings.retry_ms * NS_PER_MS
    side = Side.BUY if leg.sign > 0 else Side.SELL
    terms = OrderTerms(side=side, quantity=lots, time_in_force=market_tif(turn, leg))
    place_for_leg(turn, record, number, OrderRole.HEDGE, terms)


def _hedge_lots(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that a hedge leg has traded or may still trade. What was closed since is not hedged a second time."""
    return sum(
        (
            order.max_cum_qty + order.leaves_qty
            for order in leg_orders(turn.state, leg)
            if order.role is OrderRole.HEDGE
        ),
        ZERO,
    )


def _hedge_failures(turn: Turn, leg: LegRecord) -> int:
    return sum(order.state is LegState.REJECTED for order in leg_orders(turn.state, leg))
