"""Rename orders and positions of a rolled contract, so that two months never add up to one position."""

from __future__ import annotations

from msgspec import structs

from ...messages import Hello, WorkingOrder
from ..state import PositionRecord, RouteRecord
from ..turn import Turn


def rename_rolled(turn: Turn, name: str, route: RouteRecord, hello: Hello) -> None:
    """Rename everything on a route as `hello` names its contracts: by root for the contract in front, by the contract's
    own name for the one that was in front before.
    """
    before = {each.symbol: each.contract for each in route.hello.instruments}
    for each in hello.instruments:
        old = before.get(each.symbol, "")
        if old and each.contract and old != each.contract and each.symbol != old:
            _rename(turn, name, route, each.symbol, old, contract=old)
            route.retired[old] = each.symbol
    for each in hello.instruments:
        # Back: an adapter that started with a new symbol directory had named an older contract for a moment.
        if each.symbol != each.contract and route.retired.get(each.contract) == each.symbol:
            del route.retired[each.contract]
            _rename(turn, name, route, each.contract, each.symbol, contract=each.contract)


def _rename(turn: Turn, name: str, route: RouteRecord, old: str, new: str, *, contract: str) -> None:
    state = turn.state
    position = route.positions.pop(old, None)
    if position is not None:
        kept = route.positions.setdefault(new, PositionRecord())
        kept.net += position.net
        kept.external += position.external
        kept.blocked = kept.blocked or position.blocked
        kept.reported, kept.reported_ns, kept.avg_price = position.reported, position.reported_ns, position.avg_price
        # Closing orders that wait for the opening are woken when this changes from shut to open.
        kept.session_open, kept.session_change_ns = position.session_open, position.session_change_ns
        kept.overfilled += position.overfilled
        kept.overfilled_ns = kept.overfilled_ns or position.overfilled_ns
        kept.overfill_orders = max(kept.overfill_orders, position.overfill_orders)
        kept.contract = contract
    if old in route.finished_markets:
        route.finished_markets[new] = route.finished_markets.pop(old)
    if old in route.tickets:
        route.tickets.setdefault(new, {}).update(route.tickets.pop(old))
    for record in state.orders.values():
        order = record.order
        if (order.platform, order.account, order.symbol) == (route.platform, route.account, old):
            record.order = structs.replace(order, symbol=new)
            if record.replace is not None:
                record.replace = structs.replace(record.replace, symbol=new)
    for key in route.executions:
        execution = state.executions[key]
        if execution.symbol == old:
            execution.symbol = new
    for orphan in state.orphans.values():
        if orphan.route == name and orphan.symbol == old:
            orphan.symbol = new
            orphan.row = None if orphan.row is None else _renamed(orphan.row, old, new)
    for standing in (*route.contradictions.values(), *route.ended_contradictions.values()):
        standing.barred = [new if symbol == old else symbol for symbol in standing.barred]
        standing.symbols = [new if symbol == old else symbol for symbol in standing.symbols]
        if standing.fill is not None and standing.fill.symbol == old:
            standing.fill = structs.replace(standing.fill, symbol=new)
    route.external_orders = [_renamed(row, old, new) for row in route.external_orders]
    for signal in state.signals.values():
        for leg in signal.legs:
            if leg.route == name and leg.symbol == old:
                leg.symbol = new


def _renamed(row: WorkingOrder, old: str, new: str) -> WorkingOrder:
    return structs.replace(row, symbol=new) if row.symbol == old else row
