"""Fan-out policy: the only module that decides to send, cancel or flatten the legs of a signal together.

`settle` runs at the end of every turn that concerned a signal: it compares where the legs stand and takes the next
step. It remembers nothing but `decision`, so it decides the same after a restart.
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
from ..orders.closing import close_leg, drive_close, use_up_deadlines
from ..orders.pauses import pause_ms
from ..orders.placement import OrderTerms, market_tif, place_for_leg, want_cancel
from ..orders.protection import NEVER_JUDGED, end_rest_of_entry, guard_leg, take_over_bracket
from ..orders.protection_gaps import note_protection
from ..rolls.decision import is_rolled_out
from ..rolls.roll_over import drive_roll_out, drive_roll_over
from ..state import OPENING, ZERO, LegRecord, OrderRecord, SignalRecord
from ..turn import Turn, bar_of, kill_level, leg_orders
from .reduction import bound_working


def not_enough_legs(record: SignalRecord) -> tuple[RejectCode, str]:
    """Return the first refused leg's code when too few legs passed their checks to start; NONE when enough did."""
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
    """Lots that all legs of a signal may open together: the size that it asked for, which no sum of legs exceeds."""
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
    """Take a signal's next step: policy, roll, protection, exits, hedges. Safe to call at any time, and again."""
    if record.decision == "rejected":
        return  # nothing was sent
    if not record.decision:
        _decide(turn, record)
    # "Kept" at the deadline means that the filled legs stay and the rest of the entries ends: without the cancel a leg
    # could still fill hours later, against another market than the signal's.
    if record.decision == "kept" and 0 < record.deadline_ns <= turn.now_ns:
        _cancel_entries(turn, record)
        record.deadline_ns = 0
    # Repeated in every turn: a leg may fill late, after the decision, and has to be closed then, too.
    if record.decision == "flatten":
        for number in range(len(record.legs)):
            close_leg(turn, record, number)
    elif record.hedged and _primary_is_over(turn, record):
        for number, leg in enumerate(record.legs):
            if leg.hedge and leg.open and not leg.closing:
                leg.text = "the primary is closed, so its hedge is too"
                close_leg(turn, record, number)
    # A roll-over appends a leg while this loop runs; the loop reaches it, too.
    for number, leg in enumerate(record.legs):
        level = kill_level(turn.state, leg.route)
        leg.look_again_ns = 0  # whatever waits for a time says so below
        # The roll before protection and exit: it may begin to close this leg, and then no stop may be added any more.
        if leg.roll_out is not None:
            drive_roll_out(turn, record, number)
        if leg.roll_over_pending:
            drive_roll_over(turn, record, number)
        # From CANCEL_ALL on nothing new is started here: that level cancels stops and targets, FLATTEN closes legs.
        if level < KillLevel.CANCEL_ALL and not leg.closing and _has_turned_over(turn, leg):
            turn.count("turned_over")
            leg.text = "more was closed than the leg held; the excess is closed"
            close_leg(turn, record, number)
        if leg.protection is Protection.PLATFORM:
            take_over_bracket(turn, record, number)
        end_rest_of_entry(turn, record, leg)
        if leg.orders and leg.protection is Protection.GATEWAY and not leg.closing and level < KillLevel.CANCEL_ALL:
            why = guard_leg(turn, record, number)
            if why:
                leg.text = why
                close_leg(turn, record, number)
        if record.signal.reduce_only:
            bound_working(turn, record, number)
        # Last, since each of the steps above may have started to close the leg. A leg that is closing, was rolled or
        # rolls another one over is not hedged with: its size follows its exit or its older leg.
        if leg.closing:
            # CANCEL_ALL is a command to end every stop. FLATTEN and SEVER get flat: until then the stop stands.
            drive_close(turn, record, number, may_protect=level is not KillLevel.CANCEL_ALL)
        elif leg.hedge and leg.roll_out is None and leg.rolls_over_from < 0 and level < KillLevel.REDUCE_ONLY:
            _drive_hedge(turn, record, number)
        use_up_deadlines(turn, leg)
        note_protection(turn, record, number)


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
        # An unknown leg counts as failed at the deadline: should it turn out filled, it is flattened then.
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
    """Whether an entry will certainly not fill in full: refused, or ended with all its executions booked."""
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
    or its entry was busted after its stop. No signal asked for that position, and nothing protects it.
    """
    if leg.open * leg.sign >= 0 or (leg.open - leg.external_qty) * leg.sign >= 0:
        return False
    # A stop's fill may arrive before that of its entry: while an opening order is unsettled, this is not certain.
    return not any(order.unsettled for order in leg_orders(turn.state, leg) if order.role in OPENING)


def _primary_is_over(turn: Turn, record: SignalRecord) -> bool:
    """Whether the primary has traded and is flat for good, by its stop, a close or an external trade: a hedge without
    it is a naked position the other way. One that was rolled is left to NEXUS.
    """
    primary = record.legs[0]
    if primary.open or primary.roll_out is not None or not primary.executions:
        return False
    return not any(order.unsettled for order in leg_orders(turn.state, primary) if order.role in OPENING)


def _drive_hedge(turn: Turn, record: SignalRecord, number: int) -> None:
    """Hedge the lots that the primary holds and no hedge covers yet, on the first hedge leg that can trade."""
    leg = record.legs[number]
    if leg.code is not RejectCode.NONE or any(order.unsettled for order in leg_orders(turn.state, leg)):
        return
    if record.legs[0].closing or turn.now_ns < leg.retry_ns:
        return  # the primary's size is about to become 0, or the last hedge was refused just now
    needed = abs(record.legs[0].open) - sum((_hedge_lots(turn, other) for other in record.legs if other.hedge), ZERO)
    if needed <= 0:
        return
    failed, refused = _hedge_failures(turn, leg)
    if refused >= 3:
        # With a code this leg is left out from now on, and the loop in `settle` comes to the next hedge leg.
        leg.code, leg.text = RejectCode.PLATFORM_REJECTED, "three hedges were refused; the next leg hedges, if any"
        text = f"{record.signal.signal_id} {leg.platform}: {leg.text}; {needed} lots are not hedged"
        turn.alert(leg.code, text, leg.platform)
        turn.touch(record.signal.signal_id)
        return
    if is_rolled_out(turn, leg):
        leg.code, leg.text = RejectCode.CONTRACT_EXPIRED, f"{needed} lots are not hedged: the contract was rolled"
        turn.touch(record.signal.signal_id)
        return
    route = turn.state.routes[leg.route]
    if not route.up or not route.ready or bar_of(turn.state, leg.route, leg.symbol):
        return
    lots = min(needed, leg.quantity - _hedge_lots(turn, leg))
    if lots <= 0:
        return
    leg.retry_ns = turn.now_ns + pause_ms(turn, failed + 1) * NS_PER_MS
    if failed and failed % 5 == 0:
        text = f"{record.signal.signal_id} {leg.platform}: {failed} hedges in a row have traded nothing"
        turn.alert(RejectCode.PLATFORM_REJECTED, f"{text}; {needed} lots are not hedged", leg.platform)
    side = Side.BUY if leg.sign > 0 else Side.SELL
    terms = OrderTerms(side=side, quantity=lots, time_in_force=market_tif(turn, leg))
    place_for_leg(turn, record, number, OrderRole.HEDGE, terms)


def _hedge_lots(turn: Turn, leg: LegRecord) -> Decimal:
    """Lots that a hedge leg has traded or may still trade. Lots of it closed since are not hedged a second time."""
    return sum(
        (
            order.max_cum_qty + order.leaves_qty + order.written_off_qty
            for order in leg_orders(turn.state, leg)
            if order.role is OrderRole.HEDGE
        ),
        ZERO,
    )


def _hedge_failures(turn: Turn, leg: LegRecord) -> tuple[int, int]:
    """How many hedges of a leg in a row have traded nothing, and how many of these the platform itself has refused."""
    failed = refused = 0
    for order_id in reversed(leg.orders):
        order = turn.state.orders[order_id]
        if order.role is not OrderRole.HEDGE or order.max_cum_qty:
            break
        failed += 1
        refused += order.state is LegState.REJECTED and order.code not in NEVER_JUDGED
    return failed, refused
