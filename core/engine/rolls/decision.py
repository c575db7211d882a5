"""Apply a roll: the contract that a root's name stands for, and the policy for orders and lots on the old one.

A universal name ("NQ") always means the contract in front. From the moment an adapter reports another contract for its
"NQ" than before, everything under that name goes on under the old contract's own name ("NQH25"): so months never add up
to one position, and a closing order goes to the contract of its position.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN
from statistics import median_low
from typing import Final

from msgspec import structs

from ...messages import RejectCode
from ...risk import MarketContext
from ..events import ContractChosen, ContractNews
from ..orders.placement import want_cancel
from ..state import OPENING, ContractRecord, LegRecord, RollPlan, RouteRecord
from ..turn import Turn, leg_orders, live_orders

_POLICIES: Final = {
    "hold": "nothing new opens there, what is open can be closed until it expires",
    "close": "our entries are cancelled and our positions closed as soon as the market is open",
    "roll": "our entries are cancelled, our positions closed and opened again in {new} as soon as the market is open",
}


def apply_contract(turn: Turn, event: ContractChosen) -> None:
    """Record the decision. On a roll apply the policy to what is left on the old contract, and alert the operator."""
    turn.state.contracts[event.root] = ContractRecord(
        contract=event.contract, previous=event.old, chosen_ns=turn.now_ns
    )
    if not event.old:
        return
    turn.count("rolls")
    spreads = ", ".join(f"{each.platform} {each.spread}" for each in event.spreads if each.spread is not None)
    turn.alert(
        RejectCode.NONE,
        f"{event.root} rolls from {event.old} to {event.contract} on all platforms; spread {spreads or 'not known'}"
        + (f"; {event.remark}" if event.remark else ""),
    )
    for reason in event.left_behind:
        turn.count("roll_left_behind")
        turn.alert(RejectCode.PLATFORM_NOT_READY, f"{reason}: it gets no order of {event.root} before it has followed")
    for name, route in turn.state.routes.items():
        _report_held(turn, name, route, event)
    if event.policy != "hold":
        _plan_roll_outs(turn, event)


def is_rolled_out(turn: Turn, leg: LegRecord) -> bool:
    """Whether a leg's contract is no longer the one in front of its root: nothing opens there."""
    if leg.symbol in turn.state.routes[leg.route].retired:
        return True
    front = turn.state.contracts.get(leg.symbol)
    return front is not None and leg.market is not None and leg.market.contract not in ("", front.contract)


def apply_news(turn: Turn, event: ContractNews) -> None:
    """Alert the operator that a roll waits."""
    if event.waits:
        turn.count("roll_waits")
    turn.alert(RejectCode.PLATFORM_NOT_READY if event.waits else RejectCode.NONE, event.text)


def _report_held(turn: Turn, name: str, route: RouteRecord, event: ContractChosen) -> None:
    position = route.positions.get(event.root)
    lots = position.net if position is not None else 0
    working = sum(order.order.symbol == event.root for order in live_orders(turn.state, route))
    working += sum(row.symbol == event.root for row in route.external_orders)
    if lots or working:
        turn.alert(
            RejectCode.NONE,
            f"{name}: {lots} lots and {working} working orders stay on {event.old} (policy {event.policy}); "
            f"{_POLICIES[event.policy].format(new=event.contract)}",
            route.platform,
        )


def _plan_roll_outs(turn: Turn, event: ContractChosen) -> None:
    """Plan the exit of our legs from the old contract, and cancel at once what would open more there."""
    for signal_id in list(turn.state.active):
        for leg in turn.state.signals[signal_id].legs:
            if leg.market is None or not leg.market.contract or leg.closing:
                continue  # a CFD in the future's place has no contract that could end
            earlier = leg.roll_out
            if earlier is None and leg.symbol == event.root:
                turn.touch(signal_id)
                leg.roll_out = _plan(event, leg, leg.market)
                if leg.open:
                    leg.text = f"leaves {event.old} when the market is open and {event.contract} is presented"
                leg.market = _find_market(event, leg, event.root, event.old) or leg.market
                for order in leg_orders(turn.state, leg):
                    if order.role in OPENING:
                        want_cancel(turn, order)
            elif earlier is not None and earlier.root == event.root:
                # It could not be closed since the roll before: one plan for both, with the sum of both shifts.
                plan = _plan(event, leg, leg.market)
                both = (
                    None
                    if plan.price_shift is None or earlier.price_shift is None
                    else plan.price_shift + earlier.price_shift
                )
                leg.roll_out = structs.replace(plan, price_shift=both)


def _plan(event: ContractChosen, leg: LegRecord, market: MarketContext) -> RollPlan:
    known = [each.spread for each in event.spreads if each.spread is not None]
    own = [each.spread for each in event.spreads if each.spread is not None and each.platform == leg.platform]
    shift = None
    if known:
        # Without a spread of its own platform the others' median serves: it is of the same two contracts.
        spread = median_low(own or known)
        shift = (spread / market.tick_size).to_integral_value(ROUND_HALF_EVEN) * market.tick_size
    return RollPlan(
        root=event.root,
        contract=event.contract,
        roll_over=event.policy == "roll",
        price_shift=shift,
        market=_find_market(event, leg, event.contract, event.contract),
    )


def _find_market(event: ContractChosen, leg: LegRecord, symbol: str, contract: str) -> MarketContext | None:
    for market in event.markets:
        if (market.platform, market.account) == (leg.platform, leg.account) and market.symbol == symbol:
            return market if market.contract == contract and market.finite else None
    return None
