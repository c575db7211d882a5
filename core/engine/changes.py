"""NEXUS changes its mind: cancel, replace or close a signal that it has sent."""

from __future__ import annotations

from decimal import Decimal

from ..messages import KillLevel, OrderRole, Reject, RejectCode, SignalCancel, SignalClose, SignalReplace
from ..risk import is_multiple
from .effects import TellNexus
from .exits import close_leg
from .placement import send_replace, want_cancel
from .state import LegRecord, OrderRecord, SignalRecord
from .turn import Turn, leg_orders, position_after


def apply_change(turn: Turn, request: SignalCancel | SignalReplace | SignalClose, peer: str) -> None:
    """Carry out a change leg by leg; what is refused is answered with a code, per leg."""
    record = turn.state.signals.get(request.signal_id)
    if record is None:
        _refuse(turn, peer, request.signal_id, "", RejectCode.UNKNOWN_SIGNAL, "no signal of this id is known")
        return
    turn.touch(request.signal_id)
    for number, leg in enumerate(record.legs):
        if request.platform and leg.platform != request.platform:
            continue
        if isinstance(request, SignalClose):
            close_leg(turn, record, number)
        elif isinstance(request, SignalCancel):
            for order in leg_orders(turn.state, leg):
                if order.role is OrderRole.ENTRY:
                    want_cancel(turn, order)
        else:
            _replace_leg(turn, record, leg, request, peer)


def _replace_leg(turn: Turn, record: SignalRecord, leg: LegRecord, request: SignalReplace, peer: str) -> None:
    for order in leg_orders(turn.state, leg):
        if order.role is OrderRole.ENTRY and order.live:
            code, text = _refuse_replace(turn, record, leg, order, request)
            if code is not RejectCode.NONE:
                _refuse(turn, peer, request.signal_id, leg.platform, code, text)
                continue
            limit = request.limit_price if request.limit_price is not None else order.limit_price
            stop = request.stop_price if request.stop_price is not None else order.stop_price
            send_replace(turn, order, request.quantity or order.quantity, limit, stop)


def _refuse_replace(
    turn: Turn, record: SignalRecord, leg: LegRecord, order: OrderRecord, request: SignalReplace
) -> tuple[RejectCode, str]:
    route = turn.state.routes[leg.route]
    capabilities = route.hello.capabilities
    if capabilities is None or not capabilities.replace:
        return RejectCode.UNSUPPORTED_REPLACE, f"{leg.platform} cannot change a working order; cancel it"
    if not route.up or not route.ready:
        return RejectCode.PLATFORM_NOT_READY, f"{leg.platform} is not connected and reconciled"
    if order.replace is not None or order.cancel_wanted or not order.acked_ns:
        return RejectCode.OUTCOME_UNKNOWN, "an answer about this order is still due; wait for it"
    kill = turn.state.kills.get(leg.route)
    level = max(turn.state.kill, kill.level if kill is not None else KillLevel.NORMAL)
    quantity = request.quantity or order.quantity
    if quantity != order.quantity and not capabilities.replace_quantity:
        return RejectCode.UNSUPPORTED_REPLACE, f"{leg.platform} cannot change the size of a working order; cancel it"
    if level >= KillLevel.NO_NEW and (quantity >= order.quantity or level >= KillLevel.REDUCE_ONLY):
        return RejectCode.KILL_SWITCH, f"kill switch is at {level.name.lower()}; only a smaller size is allowed"
    if quantity > leg.quantity:
        return RejectCode.PARENT_EXCEEDED, f"quantity was {quantity}, the leg was sized {leg.quantity}"
    if leg.symbol in route.retired and quantity > order.quantity:
        return RejectCode.CONTRACT_EXPIRED, f"{leg.symbol} was rolled: its orders may only become smaller"
    if quantity <= order.done:
        return RejectCode.PARENT_EXCEEDED, f"quantity was {quantity}, {order.done} have filled already; cancel instead"
    return _refuse_terms(turn, record, leg, order, request, quantity)


def _refuse_terms(
    turn: Turn, record: SignalRecord, leg: LegRecord, order: OrderRecord, request: SignalReplace, quantity: Decimal
) -> tuple[RejectCode, str]:
    market = leg.market
    if market is None or not is_multiple(quantity, market.lot_step):
        return RejectCode.NOT_ON_LOT_STEP, f"quantity was {quantity}"
    limits = turn.state.limits
    for name, new, old in (
        ("limit_price", request.limit_price, order.limit_price),
        ("stop_price", request.stop_price, order.stop_price),
    ):
        if new is None:
            continue
        if old is None:
            return RejectCode.UNSUPPORTED_TYPE, f"{name} does not fit a {order.order.order_type} order"
        if not is_multiple(new, market.tick_size):
            return RejectCode.NOT_ON_TICK, f"{name} was {new}, not a multiple of {market.tick_size}"
        # Against the old price, since the quote of this moment did not come with the request.
        far = abs(new - old) / market.tick_size
        if limits.collar_ticks is not None and far > limits.collar_ticks:
            return RejectCode.PRICE_COLLAR, f"{name} moves {far} ticks, limit {limits.collar_ticks}"
    route = turn.state.routes[leg.route]
    grown = max(quantity - order.quantity, Decimal(0)) * leg.sign
    limit = limits.max_position.get(leg.symbol, limits.max_position_default)
    after = abs(position_after(turn.state, route, leg.symbol, grown)) if grown else Decimal(0)
    if after > limit:
        return RejectCode.MAX_POSITION, f"position could become {after}, limit {limit}"
    return RejectCode.NONE, ""


def _refuse(turn: Turn, peer: str, signal_id: str, platform: str, code: RejectCode, text: str) -> None:
    turn.count(f"rejected_{code}")
    turn.effects.append(TellNexus(Reject(code=code, text=text, signal_id=signal_id, platform=platform), peer))
