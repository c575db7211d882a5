"""Accept or refuse a new signal: detect duplicates, size its legs, check them, and start the fan-out.

Protective prices are resolved once, here, so that size, checks, order and stop use the same price: a target's own
bracket before the signal's; a distance is measured from the leg's own price, since a CFD that stands in for a future
trades at another level and on another grid.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

from ....shm.durations import NS_PER_MS
from ...messages import (
    Allocation,
    Bracket,
    KillLevel,
    OrderType,
    Protection,
    Reject,
    RejectCode,
    Side,
    Signal,
    signal_key,
)
from ...risk import MarketContext, floor_to_lot, lots_for_risk
from ..admission import NOTHING_WAIVED, WAIVED_FOR_HEDGE, Entry, admit, refuse_reduction
from ..effects import TellNexus
from ..state import ZERO, LegRecord, OrderRecord, RouteRecord, SignalRecord, route_of
from ..turn import Turn, activate
from .fanout import begin_fanout, not_enough_legs
from .reduction import bound_reduction
from .reports import make_report, report_of_orphans

MAX_PEERS: Final = 8
"""Most peers that get the reports of one signal: the last ones that sent its id."""


def apply_signal(turn: Turn, signal: Signal, markets: tuple[MarketContext, ...], peer: str, enter_by_ns: int) -> None:
    """Answer a known signal with its report; trade a new one, or refuse it with a code. `enter_by_ns`: see
    `SignalArrived`.
    """
    # First of all: a resend must get the report of the first one even if it would be refused by now.
    known = turn.state.signals.get(signal.signal_id)
    if known is not None:
        turn.count("duplicate_signal")
        if peer not in known.report_to:
            known.report_to.append(peer)
            del known.report_to[:-MAX_PEERS]
        turn.effects.append(TellNexus(make_report(turn, known, duplicate=True), peer))
        return
    # The journal does not know the signal, but orders with its key were found at a platform: it was traded.
    key = signal_key(signal.signal_id)
    if key in turn.state.found_keys or key in turn.state.signals_by_key:
        turn.count("duplicate_signal")
        turn.effects.append(TellNexus(report_of_orphans(turn, signal, key), peer))
        return
    waiting = _unreconciled_platforms(turn, signal)
    if waiting:
        # Neither traded nor recorded: a platform may hold its orders from before the journal was lost. Refused with a
        # record, it could not be sent again.
        turn.count(f"rejected_{RejectCode.PLATFORM_NOT_READY}")
        text = f"the journal is new; waiting for {waiting} to show what was traded today; send it again then"
        reject = Reject(code=RejectCode.PLATFORM_NOT_READY, text=text, signal_id=signal.signal_id)
        turn.effects.append(TellNexus(reject, peer))
        return
    # Recorded before the checks: what is refused now is answered with the same refusal when it is sent again, and
    # cannot be traded later, in another market.
    record = SignalRecord(signal=signal, key=key, report_to=[peer], received_ns=turn.now_ns, legs=[])
    turn.state.signals[signal.signal_id] = record
    turn.state.signals_by_key[key] = signal.signal_id
    turn.touch(signal.signal_id)
    _build_legs(turn, record, markets)
    activate(turn.state, signal.signal_id)
    code, text = _refuse_whole(turn, signal, enter_by_ns)
    if code is RejectCode.NONE:
        code, text = _refuse_mixed_months(turn, record)
    if code is RejectCode.NONE:
        for number, leg in enumerate(record.legs):
            _check_leg(turn, record, number, leg)
        code, text = not_enough_legs(record)
    if code is not RejectCode.NONE:
        record.code, record.text = code, text
        record.decision = "rejected"
        for leg in record.legs:
            if leg.code is RejectCode.NONE:
                leg.code, leg.text = code, text
        turn.count(f"rejected_{code}")
        return
    if not signal.reduce_only:
        _reserve(turn, record)
    begin_fanout(turn, record)


def _unreconciled_platforms(turn: Turn, signal: Signal) -> str:
    """Names of platforms that may still show that this signal was traded; a reduce-only one waits for its own only."""
    waiting = turn.state.awaited_platforms
    if signal.reduce_only:
        return ", ".join(target.platform for target in signal.targets if target.platform in waiting)
    return ", ".join(waiting)


def _refuse_whole(turn: Turn, signal: Signal, enter_by_ns: int) -> tuple[RejectCode, str]:
    limits = turn.state.limits
    age_ms = (turn.wall_ns - signal.created_ns) // NS_PER_MS
    if abs(age_ms) > limits.max_signal_age_ms:
        return RejectCode.STALE_SIGNAL, f"signal is {age_ms} ms old, limit {limits.max_signal_age_ms} ms"
    if enter_by_ns and turn.wall_ns > enter_by_ns:
        within_ms = (enter_by_ns - signal.created_ns) // NS_PER_MS
        text = f"signal came {age_ms} ms after created_ns, it had {within_ms} ms to enter; do the clocks agree?"
        return RejectCode.STALE_SIGNAL, text
    if turn.state.kill >= (KillLevel.CANCEL_ALL if signal.reduce_only else KillLevel.NO_NEW):
        return RejectCode.KILL_SWITCH, f"kill switch is at {turn.state.kill.name.lower()}; resume first"
    if signal.reduce_only:
        return RejectCode.NONE, ""
    if turn.state.entries_barred:
        return RejectCode.KILL_SWITCH, f"{turn.state.entries_barred}; entries go on when that is over"
    last = turn.state.last_entries.get(f"{signal.symbol}|{signal.side}")
    window_ms = limits.lookalike_window_ms
    if last is not None and turn.now_ns - last[0] < window_ms * NS_PER_MS:
        return (
            RejectCode.LOOKALIKE_SIGNAL,
            f"{signal.side} {signal.symbol} was signalled {(turn.now_ns - last[0]) // NS_PER_MS} ms ago as "
            f"{last[1]}, limit one in {window_ms} ms",
        )
    return RejectCode.NONE, ""


def _refuse_mixed_months(turn: Turn, record: SignalRecord) -> tuple[RejectCode, str]:
    """Refuse a signal whose legs would trade different contracts: March against June is a spread, not this signal.

    Where the contract in front was decided, a leg on another one is refused alone, and the fan-out policy decides about
    the rest: a platform that was left behind at a roll must not stop the others.
    """
    front = turn.state.contracts.get(record.signal.symbol)
    months = {
        leg.platform: leg.market.contract
        for leg in record.legs
        if leg.market and leg.market.contract and (front is None or leg.market.contract == front.contract)
    }
    if len(set(months.values())) <= 1:
        return RejectCode.NONE, ""
    named = ", ".join(f"{platform} {contract}" for platform, contract in months.items())
    return RejectCode.IDENTITY_MISMATCH, f"mixed contract months: {named}; wait until all platforms have rolled"


def _build_legs(turn: Turn, record: SignalRecord, markets: tuple[MarketContext, ...]) -> None:
    """Make a leg of each target: account, market and size are fixed here."""
    signal = record.signal
    by_route = {(m.platform, m.account): m for m in markets if m.symbol == signal.symbol}
    for number, target in enumerate(signal.targets):
        account, linked = target.account, _linked_accounts(turn, target.platform)
        if not account:
            account = linked[0] if len(linked) == 1 else "" if linked else _newest_account(turn, target.platform)
        market = by_route.get((target.platform, account)) or by_route.get((target.platform, ""))
        hedge = record.hedged and number > 0
        leg = LegRecord(
            target=number,
            platform=target.platform,
            account=account,
            route=route_of(target.platform, account),
            symbol=signal.symbol,
            sign=-signal.side.sign if hedge else signal.side.sign,
            quantity=target.quantity or signal.quantity or ZERO,
            market=market if market is not None and market.finite else None,
            hedge=hedge,
        )
        twin = next((each for each in record.legs if (each.route, each.sign) == (leg.route, leg.sign)), None)
        record.legs.append(leg)
        route = turn.state.routes.get(leg.route)
        if twin is not None:
            # An empty account means the configured one, which another target may name: the size would be doubled there.
            leg.code = RejectCode.PARENT_EXCEEDED
            leg.text = f"targets {twin.target} and {number} both mean account {account} of {leg.platform}; name it once"
        elif not account and len(linked) > 1:
            leg.code = RejectCode.ACCOUNT_AMBIGUOUS
            leg.text = (
                f"target {number} names no account of {target.platform}, where {', '.join(linked)} are linked; "
                "name one of them in the signal's target"
            )
        elif route is None or route.retired_ns:
            leg.code = RejectCode.PLATFORM_UNKNOWN
            leg.text = f"no adapter for platform {target.platform}, account {account or '(any)'} has connected"
        elif market is None:
            leg.code = RejectCode.NO_MARKET_CONTEXT
            leg.text = f"no instrument or quote for {signal.symbol} on {target.platform}"
        elif leg.market is None:
            leg.code = RejectCode.NOT_FINITE
            leg.text = f"quote, rate, tick, lot or point value on {target.platform} is NaN or infinite"
        else:
            _size_leg(record, number, leg, market)
            leg.protection = _protection(leg, route)


def _linked_accounts(turn: Turn, platform: str) -> list[str]:
    routes = turn.state.routes.values()
    return [route.account for route in routes if route.platform == platform and route.up and not route.retired_ns]


def _newest_account(turn: Turn, platform: str) -> str:
    """Return the account that was linked last; empty when there was none."""
    routes = turn.state.routes.values()
    return next((r.account for r in reversed(routes) if r.platform == platform and not r.retired_ns), "")


def _size_leg(record: SignalRecord, number: int, leg: LegRecord, market: MarketContext) -> None:
    signal = record.signal
    values = (market.lot_step, market.tick_size, market.point_value)
    if not all(value > 0 for value in values):
        leg.code, leg.text = (
            RejectCode.IDENTITY_MISMATCH,
            f"lot step, tick and point value must be above zero, were {values}",
        )
        return
    set_bracket(signal, leg, market)
    if leg.code is not RejectCode.NONE:
        return
    target = signal.targets[number]
    if target.quantity is not None:
        leg.quantity = target.quantity
    elif signal.risk_usd is not None and market.to_usd(Decimal(1)) is None:
        leg.code = RejectCode.STALE_RATE
        leg.text = f"size cannot be measured: there is no rate between {market.currency} and USD"
        return
    elif signal.risk_usd is not None:
        leg.quantity = _lots_at_risk(signal, leg, market) or ZERO
    elif signal.quantity is not None and signal.allocation is Allocation.SPLIT:
        share = signal.quantity / len(signal.targets)
        leg.quantity = floor_to_lot(share, market.lot_step)
    if leg.quantity <= 0:
        leg.code = RejectCode.SIZE_BELOW_LOT
        leg.text = f"size on {leg.platform} is below one lot step of {market.lot_step}"


def _lots_at_risk(signal: Signal, leg: LegRecord, market: MarketContext) -> Decimal | None:
    assert signal.risk_usd is not None
    entry = entry_price(signal, leg, market)
    if entry is None or leg.bracket is None or leg.bracket.stop_loss is None:
        return None
    return lots_for_risk(signal.risk_usd, (entry - leg.bracket.stop_loss) * leg.sign, market)


def _protection(leg: LegRecord, route: RouteRecord) -> Protection:
    if leg.bracket is None:
        return Protection.NONE
    capabilities = route.hello.capabilities
    return Protection.PLATFORM if capabilities is not None and capabilities.brackets else Protection.GATEWAY


def _check_leg(turn: Turn, record: SignalRecord, number: int, leg: LegRecord) -> None:
    """Refuse a leg that its platform cannot trade or that a limit forbids."""
    if leg.code is not RejectCode.NONE or leg.market is None:
        return
    signal = record.signal
    own = () if leg.hedge else (signal.limit_price, signal.stop_price)
    entry = Entry(
        record=record,
        leg=leg,
        market=leg.market,
        quantity=leg.quantity,
        added=leg.quantity,
        order_type=OrderType.MARKET if leg.hedge else signal.order_type,
        prices=tuple(price for price in own if price is not None),
        ahead=sum(each.code is RejectCode.NONE and not each.hedge for each in record.legs[:number]),
    )
    if signal.reduce_only:
        leg.code, leg.text = refuse_reduction(turn, entry)
        if leg.code is RejectCode.NONE:
            bound_reduction(turn, record, leg)
        return
    leg.code, leg.text = admit(turn, entry, WAIVED_FOR_HEDGE if leg.hedge else NOTHING_WAIVED)


def _reserve(turn: Turn, record: SignalRecord) -> None:
    """Count the trade before anything is sent. `release_unused` gives it back only if no leg traded."""
    signal = record.signal
    state = turn.state
    state.day.trades[record.key] = turn.now_ns
    state.last_entries[f"{signal.symbol}|{signal.side}"] = (turn.now_ns, signal.signal_id)
    window_ns = state.limits.same_side_window_ms * NS_PER_MS
    for leg in record.legs:
        if leg.code is RejectCode.NONE:
            side = Side.BUY if leg.sign > 0 else Side.SELL
            state.day.count_entry(f"{leg.route}|{leg.symbol}|{side}", turn.now_ns, window_ns)


def release_unused(turn: Turn, record: SignalRecord) -> None:
    """Give the day's trade back when every order ended without a fill, and no late answer can follow."""
    orders = [turn.state.orders[order_id] for leg in record.legs for order_id in leg.orders]
    if all(_certainly_unused(order) for order in orders):
        turn.state.day.trades.pop(record.key, None)


def _certainly_unused(order: OrderRecord) -> bool:
    traded = order.max_cum_qty or order.executions or order.written_off_qty
    return order.state.final and not (traded or order.presumed_ended)


def set_bracket(signal: Signal, leg: LegRecord, market: MarketContext) -> None:
    """Set an opening leg's protective prices, or the code why it has none."""
    wanted = signal.targets[leg.target].bracket or signal.bracket
    if wanted is None or leg.hedge or signal.reduce_only:
        return
    if wanted.stop_distance is None and wanted.take_profit_distance is None:
        leg.bracket = wanted
        return
    entry = entry_price(signal, leg, market)
    if entry is None:
        leg.code = RejectCode.BAD_QUOTE
        leg.text = f"{leg.platform} has no {'ask' if leg.sign > 0 else 'bid'} to measure the bracket's distance from"
        return
    stop, target = wanted.stop_loss, wanted.take_profit
    if wanted.stop_distance is not None:
        stop = _step_towards(entry, entry - wanted.stop_distance * leg.sign, market.tick_size)
    if wanted.take_profit_distance is not None:
        target = _step_towards(entry, entry + wanted.take_profit_distance * leg.sign, market.tick_size)
    try:
        leg.bracket = Bracket(stop_loss=stop, take_profit=target)
    except ValueError as error:  # beyond what a price can be
        leg.code, leg.text = RejectCode.BRACKET_INVALID, f"bracket of {leg.platform}: {error}"


def entry_price(signal: Signal, leg: LegRecord, market: MarketContext) -> Decimal | None:
    """Price that a leg's distances are measured from: the order's own, else the far side of its platform's quote."""
    own = signal.limit_price if signal.limit_price is not None else signal.stop_price
    if own is not None:
        return own
    return market.ask if leg.sign > 0 else market.bid


def _step_towards(entry: Decimal, price: Decimal, tick: Decimal) -> Decimal:
    """Round a price to the leg's tick, towards the entry: a distance is never exceeded by rounding."""
    rounding = ROUND_CEILING if price < entry else ROUND_FLOOR
    return (price / tick).to_integral_value(rounding) * tick
