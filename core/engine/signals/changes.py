"""Cancel, replace or close a signal, as NEXUS asks."""

from __future__ import annotations

from ...messages import KillLevel, OrderRole, Reject, RejectCode, SignalCancel, SignalClose, SignalReplace
from ...risk import MarketContext, is_multiple
from ..admission import WAIVED_FOR_REPLACE, Entry, admit, bar_fault, link_fault
from ..effects import TellNexus
from ..orders.closing import close_leg, retry_close
from ..orders.placement import send_replace, want_cancel
from ..state import ZERO, LegRecord, OrderRecord, SignalRecord
from ..turn import Turn, kill_level, leg_orders
from .reduction import reducible


def apply_change(
    turn: Turn, request: SignalCancel | SignalReplace | SignalClose, markets: tuple[MarketContext, ...], peer: str
) -> None:
    """Carry out a change leg by leg. Each refused leg is answered with a reject."""
    record = turn.state.signals.get(request.signal_id)
    if record is None:
        _refuse(turn, peer, request.signal_id, "", RejectCode.UNKNOWN_SIGNAL, "no signal of this id is known")
        return
    turn.touch(request.signal_id)
    meant = [n for n, leg in enumerate(record.legs) if request.platform in ("", leg.platform)]
    if not meant:
        text = f"platform was {request.platform}, the signal's are {', '.join(leg.platform for leg in record.legs)}"
        _refuse(turn, peer, request.signal_id, request.platform, RejectCode.PLATFORM_UNKNOWN, text[:512])
        return
    found = 0
    for number in meant:
        leg = record.legs[number]
        match request:
            case SignalClose():
                close_leg(turn, record, number)
                retry_close(turn, record, leg)
            case SignalCancel():
                for order in leg_orders(turn.state, leg):
                    if order.role is OrderRole.ENTRY:
                        want_cancel(turn, order)
            case SignalReplace():
                found += _replace_leg(turn, record, leg, request, _market_of(leg, markets), peer)
    if isinstance(request, SignalReplace) and not found:
        text = "no entry of the signal works there any more; nothing was changed"
        # Always with a platform: a reject without one would mean that the signal as a whole was refused.
        platform = record.legs[meant[0]].platform
        _refuse(turn, peer, request.signal_id, platform, RejectCode.REPLACE_REJECTED, text)


def _market_of(leg: LegRecord, markets: tuple[MarketContext, ...]) -> MarketContext | None:
    """Return the leg's market as it came with the request, else as it was last known: its age is judged, too."""
    for market in markets:
        if (market.platform, market.account, market.symbol) == (leg.platform, leg.account, leg.symbol):
            return market if market.finite else None
    return leg.market


def _replace_leg(
    turn: Turn, record: SignalRecord, leg: LegRecord, request: SignalReplace, market: MarketContext | None, peer: str
) -> int:
    """Replace a leg's working entries, or refuse each with a reject. Returns how many there were."""
    found = 0
    for order in leg_orders(turn.state, leg):
        if order.role is OrderRole.ENTRY and order.live:
            found += 1
            code, text = _refuse_replace(turn, record, leg, order, request, market)
            if code is not RejectCode.NONE:
                _refuse(turn, peer, request.signal_id, leg.platform, code, text)
                continue
            limit = request.limit_price if request.limit_price is not None else order.limit_price
            stop = request.stop_price if request.stop_price is not None else order.stop_price
            send_replace(turn, order, request.quantity or order.quantity, limit, stop)
    return found


def _refuse_replace(
    turn: Turn,
    record: SignalRecord,
    leg: LegRecord,
    order: OrderRecord,
    request: SignalReplace,
    market: MarketContext | None,
) -> tuple[RejectCode, str]:
    """Return code and text why an entry may not be replaced like this now; NONE and "" when it may.

    First whether the change is possible at all. Then its risk: what grows or moves a price is judged by `admit` as a
    new order would be. What only becomes smaller takes risk away: it is stopped by a kill level that cancels entries,
    and by nothing else.
    """
    code, text = _refuse_change(turn, leg, order, request)
    if code is not RejectCode.NONE:
        return code, text
    grown = max((request.quantity or order.quantity) - order.quantity, ZERO)
    pairs = ((request.limit_price, order.limit_price), (request.stop_price, order.stop_price))
    moved = any(new is not None and new != old for new, old in pairs)
    if record.signal.reduce_only:
        room = reducible(turn, leg, without=order.order.client_order_id) + order.cum_qty
        if grown and order.quantity + grown > room:
            return RejectCode.NOTHING_TO_CLOSE, f"{leg.platform} has {room} lots left that this order could close"
        return RejectCode.NONE, ""
    if grown or moved:
        return _admit_replace(turn, record, leg, order, request, market)
    level = kill_level(turn.state, leg.route)
    if level >= KillLevel.REDUCE_ONLY:
        return RejectCode.KILL_SWITCH, f"kill switch is at {level.name.lower()}: entries are being cancelled"
    return RejectCode.NONE, ""


def _refuse_change(turn: Turn, leg: LegRecord, order: OrderRecord, request: SignalReplace) -> tuple[RejectCode, str]:
    """Check what the platform, the order and its leg allow, whatever the risk."""
    capabilities = turn.state.routes[leg.route].hello.capabilities
    if capabilities is None or not capabilities.replace:
        return RejectCode.UNSUPPORTED_REPLACE, f"{leg.platform} cannot change a working order; cancel it"
    fault = link_fault(turn, leg)
    if fault:
        return RejectCode.PLATFORM_NOT_READY, fault
    barred = bar_fault(turn, leg)
    if barred:
        return RejectCode.CONTRADICTION, barred
    # Two replaces in flight could be applied in either order: size and prices of the order would not be known.
    if order.replace is not None or order.cancel_wanted or not order.acked_ns:
        return RejectCode.OUTCOME_UNKNOWN, "an answer about this order is still due; wait for it"
    quantity = request.quantity or order.quantity
    if quantity != order.quantity and not capabilities.replace_quantity:
        return RejectCode.UNSUPPORTED_REPLACE, f"{leg.platform} cannot change the size of a working order; cancel it"
    # It may come back to the leg's size, never exceed it. An order that was made larger at the platform may shrink.
    if quantity > leg.quantity and quantity >= order.quantity:
        return RejectCode.PARENT_EXCEEDED, f"quantity was {quantity}, the leg was sized {leg.quantity}"
    # OrderQty (38) includes what has filled already: at or below it nothing would be left to work.
    if quantity <= order.max_cum_qty:
        return (
            RejectCode.PARENT_EXCEEDED,
            f"quantity was {quantity}, {order.max_cum_qty} have filled already; cancel instead",
        )
    if leg.market is None or not is_multiple(quantity, leg.market.lot_step):
        return RejectCode.NOT_ON_LOT_STEP, f"quantity was {quantity}"
    for name, new, old in (
        ("limit_price", request.limit_price, order.limit_price),
        ("stop_price", request.stop_price, order.stop_price),
    ):
        if new is not None and old is None:
            return RejectCode.UNSUPPORTED_TYPE, f"{name} does not fit a {order.order.order_type} order"
        if new is not None and not is_multiple(new, leg.market.tick_size):
            return RejectCode.NOT_ON_TICK, f"{name} was {new}, not a multiple of {leg.market.tick_size}"
    return RejectCode.NONE, ""


def _admit_replace(
    turn: Turn,
    record: SignalRecord,
    leg: LegRecord,
    order: OrderRecord,
    request: SignalReplace,
    market: MarketContext | None,
) -> tuple[RejectCode, str]:
    """Let the gate judge the order as it would be: by its whole size, and by the lots that it adds."""
    quantity = request.quantity or order.quantity
    limit = order.limit_price if request.limit_price is None else request.limit_price
    stop = order.stop_price if request.stop_price is None else request.stop_price
    before = tuple(price for price in (order.limit_price, order.stop_price) if price is not None)
    prices = tuple(price for price in (limit, stop) if price is not None)
    waived = set(WAIVED_FOR_REPLACE)
    if quantity <= order.quantity:
        waived |= {RejectCode.MAX_SIZE, RejectCode.MAX_POSITION}  # nothing is added
    if prices and before and market is not None and leg.bracket is not None and leg.bracket.stop_loss is not None:
        worst, was = (max(prices), max(before)) if leg.sign > 0 else (min(prices), min(before))
        at_risk = quantity * (worst - leg.bracket.stop_loss) * leg.sign
        if at_risk <= order.quantity * (was - leg.bracket.stop_loss) * leg.sign:
            waived.add(RejectCode.RISK_PER_TRADE)  # no more than before
        if quantity * abs(worst) <= order.quantity * abs(was):
            waived |= {RejectCode.MAX_NOTIONAL, RejectCode.MAX_TRADED_NOTIONAL}
    entry = Entry(
        record=record,
        leg=leg,
        market=market,
        quantity=quantity,
        added=max(quantity - order.quantity, ZERO),
        order_type=order.order.order_type,
        prices=prices,
    )
    return admit(turn, entry, frozenset(waived))


def _refuse(turn: Turn, peer: str, signal_id: str, platform: str, code: RejectCode, text: str) -> None:
    turn.count(f"rejected_{code}")
    turn.effects.append(TellNexus(Reject(code=code, text=text, signal_id=signal_id, platform=platform), peer))
