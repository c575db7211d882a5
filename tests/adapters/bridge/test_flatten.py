"""A bridge's own flatten, and snapshots of which a part is not complete."""

from __future__ import annotations

import time
from decimal import Decimal

import msgspec
import pytest
from nexus_gateway.core import messages as m

from tests.conformance.gateway_peer import make_order
from tests.support.bridges import Bench, Liar, reference_bridge
from tests.support.patience import patient

ONE = Decimal(1)
SECOND_NS = 1_000_000_000
PARTS = ("positions", "working_orders", "executions")


def flatten(not_after_s: float = 60.0) -> m.Flatten:
    not_after_ns = time.time_ns() + int(not_after_s * SECOND_NS)
    return m.Flatten(request_id=5, platform="nt8", account="Sim101", not_after_ns=not_after_ns)


def order(bench: Bench, quantity: int = 1, **terms) -> m.Order:
    account = bench.adapter.account
    hello = m.Hello(
        role=m.Role.ADAPTER,
        name="nt8",
        boot_id="x",
        platform="nt8",
        account=account.name,
        capabilities=bench.adapter.capabilities,
        instruments=account.instruments,
    )
    return make_order(hello, symbol="NQ", quantity=Decimal(quantity), **terms)


def events(bench: Bench, kind: type) -> list:
    return [event for event in bench.desk.events if isinstance(event, kind)]


def pending(bench: Bench) -> int:
    assert bench.adapter.session is not None
    return bench.adapter.session.pending_commands


@pytest.mark.parametrize("mode", ["netting", "hedging"])
def test_all_orders_are_cancelled_and_all_positions_closed_by_external_fills(tmp_path, mode):
    with reference_bridge(mode=mode, brackets=True) as (platform, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        assert bench.adapter.capabilities.flatten
        platform.quote("NQ", 18000, 18000.25, 500, 500)
        bracket = {"stop_loss": Decimal(17900), "take_profit": Decimal(18100)}
        far = {"order_type": m.OrderType.LIMIT, "limit_price": Decimal(17000)}
        placed = [order(bench, 2, **bracket), order(bench, 3, side=m.Side.SELL), order(bench, **far)]
        for each in placed:
            bench.adapter.execute(each)
        with platform._lock:  # a person's own order and position are part of the account
            platform._exchange.place_external("NQ", m.Side.BUY, ONE, time.time_ns(), limit_price=Decimal(17500))
            platform._exchange.place_external("NQ", m.Side.SELL, ONE, time.time_ns())
        bench.until(lambda: len(events(bench, m.Fill)) == 3)
        bench.until(lambda: pending(bench) == 0)
        held = {(row.symbol, row.ticket): row.quantity for row in bench.snapshot().positions.rows}
        assert sum(held.values()) == -2
        assert len(held) == (3 if mode == "hedging" else 1)
        bench.desk.events.clear()
        bench.adapter.execute(flatten())
        assert pending(bench) == 1
        bench.until(lambda: pending(bench) == 0)
        bench.until(lambda: len(events(bench, m.Fill)) == len(held))
        assert {fill.client_order_id for fill in events(bench, m.Fill)} == {""}
        closed = {
            (fill.symbol, fill.position_ticket): -fill.quantity * fill.side.sign for fill in events(bench, m.Fill)
        }
        assert closed == held
        cancelled = [u for u in events(bench, m.OrderUpdate) if u.state is m.LegState.CANCELLED]
        assert placed[2].client_order_id in [update.client_order_id for update in cancelled]
        assert [update for update in cancelled if not update.client_order_id], "also the person's own order"
        snapshot = bench.snapshot()
        assert snapshot.positions.rows == ()
        assert all(row.state.final for row in snapshot.working_orders.rows)
        assert not events(bench, m.Reject)
        bench.close()


def test_a_flatten_without_anything_to_close_is_handed_over(tmp_path):
    with reference_bridge() as (_, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        bench.adapter.execute(flatten())
        bench.until(lambda: pending(bench) == 0)
        assert bench.desk.events == []
        bench.close()


def test_a_flatten_that_is_late_does_nothing(tmp_path):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        platform.quote("NQ", 18000, 18000.25, 500, 500)
        bench.adapter.execute(order(bench))
        bench.until(lambda: events(bench, m.Fill))
        bench.adapter.execute(flatten(not_after_s=-1.0))
        (reject,) = bench.until(lambda: events(bench, m.Reject))
        assert (reject.code, reject.client_order_id) == (m.RejectCode.TOO_LATE_TO_SEND, "")
        bench.until(lambda: pending(bench) == 0)
        assert bench.snapshot().positions.rows[0].quantity == ONE
        bench.close()


def test_a_flatten_while_the_broker_is_away_is_refused_for_certain(tmp_path):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        platform.set_status(orders_up=False)
        bench.until(lambda: not bench.adapter.orders_up)
        bench.adapter.execute(flatten())
        (reject,) = events(bench, m.Reject)
        assert (reject.code, reject.client_order_id) == (m.RejectCode.LINK_DOWN, "")
        assert pending(bench) == 0
        bench.close()


def test_a_flatten_without_an_ack_is_unknown_in_the_end(tmp_path):
    heard = []

    def swallow(liar: Liar, connection) -> None:
        heard.append(liar.hear(connection, "flatten")[1])
        time.sleep(patient(1.0))

    liar = Liar(swallow)
    bench = Bench(tmp_path, liar.port, timing={"heartbeat_ms": 50, "mute_after_ms": 60_000, "command_timeout_ms": 200})
    bench.open()
    command = flatten()
    bench.adapter.execute(command)
    bench.until(lambda: bench.adapter.session.unanswered == 1)
    assert (heard[0]["request_id"], heard[0]["account"]) == (5, "Sim101")
    bench.close()
    liar.close()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_not_complete_is_passed_on_as_it_is(tmp_path, part):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        bench.adapter.execute(order(bench, order_type=m.OrderType.LIMIT, limit_price=Decimal(17000)))
        bench.until(lambda: pending(bench) == 0)
        answer = platform.snapshot

        def answer_in_part(request):
            told = answer(request)
            return told | {part: told[part] | {"complete": False}}

        platform.snapshot = answer_in_part
        snapshot = bench.snapshot()
        assert snapshot.complete
        assert [name for name in PARTS if not getattr(snapshot, name).complete] == [part]
        assert len(snapshot.working_orders.rows) == 1, "what it lists is true"
        bench.close()


def test_what_the_adapter_completes_itself_says_it_of_each_part(tmp_path):
    with reference_bridge() as (platform, server):
        bench = Bench(tmp_path, server.port)
        bench.open()
        bench.adapter.execute(order(bench, order_type=m.OrderType.LIMIT, limit_price=Decimal(17000)))
        bench.until(lambda: pending(bench) == 0)
        platform.set_status(orders_up=False)
        bench.until(lambda: not bench.adapter.orders_up)
        remembered = bench.snapshot()
        assert not any(part.complete for part in (remembered, *(getattr(remembered, name) for name in PARTS)))
        assert len(remembered.working_orders.rows) == 1, "it is listed all the same"
        answer = platform.snapshot

        def answer_late(request):
            time.sleep(0.35)
            return answer(request)

        platform.snapshot = answer_late
        late = bench.snapshot()
        assert not any(part.complete for part in (late, *(getattr(late, name) for name in PARTS)))
        assert late.working_orders.rows == ()
        bench.close()


def test_a_bridges_claims_are_the_adapters(tmp_path):
    with reference_bridge() as (platform, server):
        describe = platform.describe
        claims = {"lists_positions": False, "lists_orders": False, "flatten": False}
        platform.describe = lambda: describe() | {"capabilities": describe()["capabilities"] | claims}
        bench = Bench(tmp_path, server.port)
        bench.open()
        assert {name: getattr(bench.adapter.capabilities, name) for name in claims} == claims
        assert msgspec.to_builtins(bench.adapter.capabilities) | claims == msgspec.to_builtins(
            bench.adapter.capabilities
        )
        bench.close()
