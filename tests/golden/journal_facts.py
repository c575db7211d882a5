"""The facts that an engine holds, in plain words of a market: how a golden journal is compared.

The keys of the result are those of the JSON files beside the golden journals and never change. A rename of a field of
the engine's state changes the right-hand sides in this file, never a file in `journals/`. Texts for people and names of
counters are left out: they may be reworded.
"""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.core.engine import Engine
from nexus_gateway.core.engine.state import ContradictionRecord
from nexus_gateway.core.engine.turn import kill_level, live_orders


def read_facts(engine: Engine) -> dict[str, object]:
    """What the engine believes, as JSON knows it: prices, lots and money as text without trailing zeros."""
    state = engine.state
    settings = state.settings
    return {
        "boot_id": state.boot_id,
        "stage": state.stage,
        "kill_level": state.kill.name,
        "settings": _when({"close_overfills": settings.close_overfills})
        | {
            "ack_ms": settings.ack_ms,
            "proof_ms": settings.proof_ms,
            "settle_ms": settings.settle_ms,
            "carry_within_ms": settings.carry_within_ms,
            "expected_platforms": list(settings.expected_platforms),
        },
        "day": {
            "trades": len(state.day.trades),
            "realized_usd": _number(state.day.realized_usd),
            "loss_usd": _number(state.day.loss_usd()),
            "breached": state.day.breached,
            "equity": {name: _number(each.now) for name, each in state.day.equity.items()},
        },
        "contracts": {root: {"front": c.contract, "previous": c.previous} for root, c in state.contracts.items()},
        "usd_rates": {currency: _number(each.value) for currency, each in state.usd_rates.items()},
        "routes": {name: _route(engine, name) for name in state.routes},
        "orphans": {name: {"route": each.route, "symbol": each.symbol} for name, each in state.orphans.items()},
        "signals": {name: _signal(engine, name) for name in state.signals},
        "orders": {name: _order(engine, name) for name in state.orders},
        "executions": {
            name: {
                "signed_lots": _number(each.signed),
                "price": _number(each.price),
                "fee": _number(each.fee),
                "revision": each.revision,
                "busted": each.busted,
            }
            | _when({"beyond_its_order": _number(each.beyond) if each.beyond else ""})
            for name, each in state.executions.items()
        },
        "next_due_ns": engine.next_due_ns(),
    }


def _route(engine: Engine, name: str) -> dict[str, object]:
    route = engine.state.routes[name]
    kill = engine.state.kills.get(name)
    return {
        "link_up": route.up,
        "reconciled": route.ready,
        "mode": route.hello.account_mode.value,
        "kill_level": kill_level(engine.state, name).name,
        "kill_verified": None if kill is None else kill.verified,
        "balance": None if route.funds is None else _number(route.funds.balance),
        "positions": {
            symbol: {
                "net": _number(each.net),
                "external": _number(each.external),
                "blocked": each.blocked,
                "contract": each.contract,
            }
            | _when({"overfilled": _number(each.overfilled) if each.overfilled else ""})
            for symbol, each in route.positions.items()
        },
        "tickets": {
            symbol: {ticket: _number(lots) for ticket, lots in each.items()} for symbol, each in route.tickets.items()
        },
        "working_orders": [each.order.client_order_id for each in live_orders(engine.state, route)],
        "orders_of_others": [each.platform_order_id for each in route.external_orders],
        "rolled_contracts": dict(route.retired),
    } | _when(
        {
            "contradictions": [_contradiction(each) for each in route.contradictions.values()],
            "ended_contradictions": [_contradiction(each) for each in route.ended_contradictions.values()],
            "flatten_sent": bool(route.flatten_sent_ns),
            "overdue": bool(route.overdue_since_ns),
        }
    )


def _contradiction(record: ContradictionRecord) -> dict[str, object]:
    return {
        "kind": record.kind.value,
        "barred": record.barred,
        "exec_id": record.exec_id,
        "client_order_id": record.client_order_id,
        "legs": [list(leg) for leg in record.legs],
        "refused_lots": None if record.fill is None else _number(record.fill.quantity * record.fill.side.sign),
        "ended": bool(record.ended_ns),
    }


def _signal(engine: Engine, name: str) -> dict[str, object]:
    record = engine.state.signals[name]
    report = engine.report(name)
    return {
        "state": report.state.value,
        "revision": record.revision,
        "working_on": name in engine.state.active,
        "code": report.code.value,
        "cum_qty": _number(report.filled),
        "avg_px": _number(report.avg_price),
        "open_lots": _number(report.residual_quantity),
        "realized_usd": _number(report.realized_usd),
        "fees_usd": _number(report.fees_usd),
        "legs": [
            {
                "route": leg.route,
                "symbol": leg.symbol,
                "state": told.state.value,
                "qty": _number(leg.quantity),
                "cum_qty": _number(told.filled),
                "open_lots": _number(leg.open),
                "adjusted_lots": _number(leg.external_qty),
                "realized_usd": _number(leg.realized_usd),
                "protection": leg.protection.value,
                "stop_loss": None if leg.bracket is None else _number(leg.bracket.stop_loss),
                "take_profit": None if leg.bracket is None else _number(leg.bracket.take_profit),
                "closing": leg.closing,
                "carries_leg": leg.rolls_over_from,
                "carried": leg.roll_over_ended,
                "leaves_for": None if leg.roll_out is None else leg.roll_out.contract,
                "code": told.code.value,
            }
            for leg, told in zip(record.legs, report.legs, strict=True)
        ],
    }


def _order(engine: Engine, name: str) -> dict[str, object]:
    record = engine.state.orders[name]
    return {
        "platform": record.order.platform,
        "symbol": record.order.symbol,
        "contract": record.order.contract,
        "role": record.role.name,
        "side": record.order.side.value,
        "order_type": record.order.order_type.value,
        "state": record.state.value,
        "qty": _number(record.quantity),
        "cum_qty": _number(record.cum_qty),
        "reported_qty": _number(record.platform_cum_qty),
        "leaves_qty": _number(record.leaves_qty),
        "limit_price": _number(record.limit_price),
        "stop_price": _number(record.stop_price),
        "platform_order_id": record.platform_order_id,
        "signal": record.signal_id,
        "leg": record.leg,
        "cancels_sent": record.cancels_sent,
        "code": record.code.value,
    } | _when({"written_off_qty": _number(record.written_off_qty) if record.written_off_qty else ""})


def _when(facts: dict[str, object]) -> dict[str, object]:
    """Keep the facts that are there: journals of layouts without them have no such key."""
    return {name: value for name, value in facts.items() if value}


def _number(value: Decimal | None) -> str | None:
    return None if value is None else format(value.normalize() + 0, "f")
