"""The gate: nothing that adds risk leaves without `admit`.

It judges a new entry, an entry that grows or gets another price, and the opening half of a roll, by one list of rules:
first those of the account (kill level, link, unknown orders, contract, position, abilities), then those of
`risk.check_entry` (stage, size, market, exposure, rates). A caller that has a reason not to apply a rule names it in
`waived`; the journal shows a waived rule that failed as waived.

What only reduces is never judged here, or a limit could prevent an exit: `refuse_reduction` asks no more than whether
an order may leave at all.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from msgspec import Struct

from ..messages import AccountMode, KillLevel, OrderType, Protection, RejectCode, Side
from ..risk import Finding, MarketContext, Proposal, check_entry, first_failure
from .effects import RiskChecked
from .orders.activity import CURES, LIFT, latch_of, measure_activity, note_refusals
from .orders.exposure import find_closing, find_opposed
from .state import LegRecord, SignalRecord
from .turn import Turn, bar_of, contradiction_about, kill_level, position_after, unknown_order


class Entry(Struct, frozen=True, kw_only=True):
    """An order of one leg that would add risk, as it would be if it was admitted."""

    record: SignalRecord  # its signal
    leg: LegRecord  # the leg that it opens lots for
    market: MarketContext | None  # the leg's market now; None = not known, which refuses it
    quantity: Decimal  # OrderQty (38) of the whole order, lots
    added: Decimal  # lots of it that neither are held nor work yet; 0 = only its prices change
    order_type: OrderType  # OrdType (40)
    prices: tuple[Decimal, ...]  # its limit and stop price, quote units; empty = a market order
    ahead: int = 0  # orders of the same signal that were admitted just before it: they count for the order rate


Waived = frozenset[RejectCode]
"""Rules that a caller does not apply, by their codes."""

NOTHING_WAIVED: Final[Waived] = frozenset()
WAIVED_FOR_HEDGE: Final[Waived] = frozenset(
    {
        # A hedge trades against its primary: it has no stop, and takes risk away.
        RejectCode.RISK_NOT_MEASURABLE,
        RejectCode.RISK_PER_TRADE,
        RejectCode.BRACKET_INVALID,
    }
)
WAIVED_FOR_REPLACE: Final[Waived] = frozenset(
    {
        # The entry was counted as a trade of the day, and as an entry on its side, when it was sent. It works already.
        RejectCode.MAX_TRADES_PER_DAY,
        RejectCode.REPEATED_ENTRIES,
        RejectCode.MAX_WORKING_ORDERS,
    }
)
WAIVED_FOR_ROLL_OVER: Final[Waived] = frozenset(
    {
        # The trade was admitted in the older contract, with this size and this distance to its stop.
        RejectCode.MAX_TRADES_PER_DAY,
        RejectCode.REPEATED_ENTRIES,
        RejectCode.MAX_SIZE,
        RejectCode.MAX_NOTIONAL,
        RejectCode.RISK_NOT_MEASURABLE,
        RejectCode.RISK_PER_TRADE,
        RejectCode.BRACKET_INVALID,
        # No program has asked for it again: a latch, and the caps on what works, is traded and is sent, are against one
        # that repeats itself. Its order takes the place of those of the older contract.
        RejectCode.LATCHED,
        RejectCode.MAX_WORKING_ORDERS,
        RejectCode.MAX_TRADED_NOTIONAL,
        RejectCode.MESSAGES_PER_FILL,
        # Its lots and its risk do not grow. A loss limit reached now raises the kill level, and that is not waived.
        RejectCode.DAILY_LOSS,
        RejectCode.DRAWDOWN,
        # Market and rate are those of the decision. The lots were just closed at the market, so the contract trades.
        RejectCode.SESSION_CLOSED,
        RejectCode.STALE_QUOTE,
        RejectCode.BAD_QUOTE,
        RejectCode.PRICE_COLLAR,
        RejectCode.STALE_RATE,
        # All platforms roll in one turn, and each second of waiting leaves the trade flat.
        RejectCode.ORDER_RATE,
    }
)


def admit(turn: Turn, entry: Entry, waived: Waived = NOTHING_WAIVED) -> tuple[RejectCode, str]:
    """Return code and text of the first rule that forbids this order; NONE and "" when it may leave.

    Changes nothing, but for the findings of the risk checks, which become an effect for the journal, and a limit that
    latches because of them.
    """
    for code, rule in ACCOUNT_RULES:
        text = "" if code in waived else rule(turn, entry)
        if text:
            return code, text
    market, leg, state = entry.market, entry.leg, turn.state
    if market is None:
        return RejectCode.NO_MARKET_CONTEXT, f"no instrument or quote for {leg.symbol} on {leg.platform}"
    side = Side.BUY if leg.sign > 0 else Side.SELL
    activity = measure_activity(turn, entry.record, leg, entry.quantity, entry.prices)
    proposal = Proposal(
        key=entry.record.key,
        route=leg.route,
        platform=leg.platform,
        symbol=leg.symbol,
        side=side,
        quantity=entry.quantity,
        prices=entry.prices,
        stop_loss=None if leg.bracket is None else leg.bracket.stop_loss,
        take_profit=None if leg.bracket is None else leg.bracket.take_profit,
        position_after=position_after(state, state.routes[leg.route], leg.symbol, entry.added, leg.sign),
        ahead=entry.ahead,
        latched=latch_of(state, leg.route, leg.symbol, side),
        working=activity.working,
        working_here=activity.working_here,
        traded_usd=activity.traded_usd,
    )
    findings = check_entry(
        proposal, market, state.limits, state.stage, state.day, turn.now_ns, wall_ns=turn.wall_ns, waived=waived
    )
    turn.effects.append(RiskChecked(entry.record.signal.signal_id, leg.platform, "", tuple(findings)))
    note_refusals(turn, proposal, findings)
    failure = first_failure(findings)
    return (RejectCode.NONE, "") if failure is None else (failure.code, _explain(turn, failure))


def refuse_reduction(turn: Turn, entry: Entry) -> tuple[RejectCode, str]:
    """Return code and text why an order of a reduce-only signal may not leave now; NONE and "" when it may."""
    for code, rule in _REDUCTION_RULES:
        text = rule(turn, entry)
        if text:
            return code, text
    return RejectCode.NONE, ""


def _explain(turn: Turn, finding: Finding) -> str:
    if finding.code is RejectCode.LATCHED:
        return f"{finding.code}: {finding.measured}; an operator lifts it: {LIFT}"
    cure = CURES.get(finding.code, "change the signal, or the limit in config/risk_limits.yaml")
    if finding.code is RejectCode.REPEATED_ENTRIES and turn.state.limits.repeated_entries_latch:
        cure = f"entries of this account, symbol and side stay refused until an operator lifts it: {LIFT}"
    return f"{finding.code}: was {finding.measured}, limit {finding.limit} at stage {finding.stage}; {cure}"


def bar_entries(turn: Turn, reason: str) -> None:
    """Refuse what adds risk from now on, for this reason; empty = no longer. It ends at each start of the process."""
    text = f"entries are refused: {reason}" if reason else f"entries go on: over is that {turn.state.entries_barred}"
    turn.state.entries_barred = reason
    turn.alert(RejectCode.KILL_SWITCH, text)


def _kill_switch(turn: Turn, entry: Entry) -> str:
    if turn.state.entries_barred and not entry.record.signal.reduce_only:
        return f"{turn.state.entries_barred}; entries go on when that is over"
    level = kill_level(turn.state, entry.leg.route)
    barred = KillLevel.CANCEL_ALL if entry.record.signal.reduce_only else KillLevel.NO_NEW
    return f"kill switch of {entry.leg.platform} is at {level.name.lower()}; resume first" if level >= barred else ""


def link_fault(turn: Turn, leg: LegRecord) -> str:
    """Return why nothing can be sent to a leg's account now; empty = its link is up and reconciled."""
    route = turn.state.routes[leg.route]
    return "" if route.up and route.ready else f"{leg.platform} is not connected and reconciled"


def bar_fault(turn: Turn, leg: LegRecord) -> str:
    """Return why nothing may be sent for a leg's symbol on its account although it is linked; empty = it may."""
    why = bar_of(turn.state, leg.route, leg.symbol)
    return why and f"{why}; see `nexus-gateway orders`"


def _link(turn: Turn, entry: Entry) -> str:
    return link_fault(turn, entry.leg)


def _overdue(turn: Turn, entry: Entry) -> str:
    since_ns = turn.state.routes[entry.leg.route].overdue_since_ns
    if not since_ns:
        return ""
    return f"{entry.leg.platform} owes a complete snapshot: what it may have done meanwhile is unknown"


def _contradiction(turn: Turn, entry: Entry) -> str:
    why = contradiction_about(turn.state, entry.leg.route, entry.leg.symbol)
    return why and f"{why}; see `nexus-gateway orders`"


def _unknown_order(turn: Turn, entry: Entry) -> str:
    leg = entry.leg
    unknown = unknown_order(turn.state, turn.state.routes[leg.route], leg.symbol)
    if unknown is None:
        return ""
    return f"order {unknown.order.client_order_id} on {leg.platform} {leg.symbol} has an unknown outcome"


def _contract_in_front(turn: Turn, entry: Entry) -> str:
    """A quote read just before the roll is of the month before: its prices would size and guard an order in another."""
    leg, market = entry.leg, entry.market
    front = turn.state.contracts.get(leg.symbol)
    if front is None or market is None or market.contract in ("", front.contract):
        return ""
    return f"contract was {market.contract} on {leg.platform}, {front.contract} is in front"


def _rolled_out(turn: Turn, entry: Entry) -> str:
    leg, retired = entry.leg, turn.state.routes[entry.leg.route].retired
    if leg.symbol not in retired:
        return ""
    return f"{leg.symbol} was rolled: it can be closed, nothing opens there; trade {retired[leg.symbol]}"


def _position(turn: Turn, entry: Entry) -> str:
    leg = entry.leg
    position = turn.state.routes[leg.route].positions.get(leg.symbol)
    if position is None or not (position.blocked or position.mismatch_snapshots):
        return ""
    return f"position of {leg.symbol} on {leg.platform} differed; type `acknowledge {leg.symbol} --holds LOTS`"


def _unsettled_position(turn: Turn, entry: Entry) -> str:
    """A reduction is measured against the position: not while a second snapshot has to say which figure holds."""
    return bar_fault(turn, entry.leg)


def _reduction_on_hedging(turn: Turn, entry: Entry) -> str:
    leg = entry.leg
    if turn.state.routes[leg.route].hello.account_mode is not AccountMode.HEDGING:
        return ""
    return f"{leg.platform} is a hedging account: an opposite order opens a second position; use signal_close"


def _order_type(turn: Turn, entry: Entry) -> str:
    capabilities = turn.state.routes[entry.leg.route].hello.capabilities
    known = () if capabilities is None else capabilities.order_types
    return "" if entry.order_type in known else f"{entry.leg.platform} has no {entry.order_type} orders"


def _time_in_force(turn: Turn, entry: Entry) -> str:
    leg, wanted = entry.leg, entry.record.signal.time_in_force
    capabilities = turn.state.routes[leg.route].hello.capabilities
    known = () if capabilities is None else capabilities.times_in_force
    # Hedges and roll-overs are market orders, sent with a time in force that the platform has (`market_tif`).
    of_the_signal = not leg.hedge and leg.rolls_over_from < 0
    return f"{leg.platform} has no time in force {wanted}" if of_the_signal and wanted not in known else ""


def _bracket(turn: Turn, entry: Entry) -> str:
    leg = entry.leg
    if leg.protection is not Protection.GATEWAY:
        return ""
    hello = turn.state.routes[leg.route].hello
    if hello.account_mode is AccountMode.HEDGING:
        return f"{leg.platform} keeps no brackets, and a separate stop on a hedging account opens a second position"
    known = () if hello.capabilities is None else hello.capabilities.order_types
    if not {OrderType.STOP, OrderType.LIMIT} <= set(known):
        return f"{leg.platform} has no stop and limit orders to build a bracket"
    return ""


def _opposed(turn: Turn, entry: Entry) -> str:
    """On a netting account an entry against the held position would close it instead of opening one: the account would
    be flat, and the stop refused since it reduces nothing. The same holds against an entry or leg that may make one.
    """
    leg = entry.leg
    against = find_opposed(turn, entry.record, leg)
    if not against:
        return ""
    return (
        f"{leg.platform} has one position per symbol, and {against}; an entry of {entry.quantity * leg.sign:+f} would "
        "close it instead of opening: close that signal first, or send reduce_only"
    )


def _closing_order(turn: Turn, entry: Entry) -> str:
    closing = find_closing(turn, entry.leg)
    if not closing:
        return ""
    return (
        f"closing order {closing} could close on {entry.leg.platform} what an entry opens now: enter when it has ended"
    )


Rule = tuple[RejectCode, Callable[[Turn, Entry], str]]
"""Its code, and what says why it forbids an order; empty = it does not."""
_ABILITIES: Final[tuple[Rule, ...]] = (
    (RejectCode.UNSUPPORTED_TYPE, _order_type),
    (RejectCode.UNSUPPORTED_TIF, _time_in_force),
    (RejectCode.UNSUPPORTED_BRACKET, _bracket),
)
ACCOUNT_RULES: Final[tuple[Rule, ...]] = (
    (RejectCode.KILL_SWITCH, _kill_switch),
    (RejectCode.PLATFORM_NOT_READY, _link),
    (RejectCode.PLATFORM_NOT_READY, _overdue),
    (RejectCode.CONTRADICTION, _contradiction),
    (RejectCode.OUTCOME_UNKNOWN, _unknown_order),
    (RejectCode.IDENTITY_MISMATCH, _contract_in_front),
    (RejectCode.CONTRACT_EXPIRED, _rolled_out),
    (RejectCode.POSITION_MISMATCH, _position),
    *_ABILITIES,
    (RejectCode.OPPOSED_POSITION, _opposed),
    (RejectCode.OPPOSED_POSITION, _closing_order),
)
"""Rules about the account, in their order: the first one that forbids an order names the cause. The rules about the
order itself and the market are `risk.check_entry`."""
_REDUCTION_RULES: Final[tuple[Rule, ...]] = (
    (RejectCode.KILL_SWITCH, _kill_switch),
    (RejectCode.PLATFORM_NOT_READY, _link),
    (RejectCode.CONTRADICTION, _contradiction),
    (RejectCode.POSITION_MISMATCH, _unsettled_position),
    (RejectCode.OUTCOME_UNKNOWN, _unknown_order),
    (RejectCode.IDENTITY_MISMATCH, _contract_in_front),
    (RejectCode.UNSUPPORTED_TYPE, _reduction_on_hedging),
    *_ABILITIES,
)
