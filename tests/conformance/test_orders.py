"""O: orders, from the plain to the ugly. What an adapter reports must let the gateway find out what is true."""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.adapters.paper.scenarios import SCENARIOS
from nexus_gateway.core import messages as m

from tests.conformance.gateway_peer import make_order

ONE = Decimal(1)
FAR_BELOW = Decimal(17000)


def net(snapshot: m.Snapshot, symbol: str) -> Decimal:
    return sum((row.quantity for row in snapshot.positions.rows if row.symbol == symbol), Decimal(0))


def executions(snapshot: m.Snapshot, order: m.Order) -> list[m.Fill]:
    return [fill for fill in snapshot.executions.rows if fill.client_order_id == order.client_order_id]


def row_of(snapshot: m.Snapshot, order: m.Order) -> m.WorkingOrder | None:
    rows = [row for row in snapshot.working_orders.rows if row.client_order_id == order.client_order_id]
    assert len(rows) <= 1, "an order is listed once"
    return rows[0] if rows else None


def rest(rig, **terms: object) -> m.Order:
    """A limit order far from the market, working."""
    terms = {"quantity": ONE, "order_type": m.OrderType.LIMIT, "limit_price": FAR_BELOW} | terms
    order = rig.gateway.place(symbol=rig.symbol, **terms)
    rig.gateway.wait_state(order, m.LegState.WORKING)
    return order


def test_o01_accept(rig, gateway):
    order = rest(rig)
    (update,) = gateway.updates(order)
    assert update.platform_order_id
    assert (update.quantity, update.filled, update.limit_price) == (ONE, 0, FAR_BELOW)
    row = row_of(gateway.snapshot(), order)
    assert row is not None
    assert (row.state, row.platform_order_id) == (m.LegState.WORKING, update.platform_order_id)
    gateway.cancel(order)
    gateway.wait_state(order, m.LegState.CANCELLED)
    row = row_of(gateway.snapshot(), order)
    assert row is None or row.state.final


def test_o02_reject(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("reject"))
    reject = gateway.wait_reject(order, m.RejectCode.PLATFORM_REJECTED)
    assert reject.text
    gateway.listen()
    assert not gateway.fills(order)
    assert row_of(gateway.snapshot(), order) is None
    assert all(update.state is m.LegState.REJECTED for update in gateway.updates(order))


def test_o03_partial_then_fill(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("partial_then_fill"))
    partial = gateway.wait_state(order, m.LegState.PARTIALLY_FILLED)
    assert 0 < partial.filled < order.quantity
    gateway.wait_state(order, m.LegState.FILLED)
    fills = gateway.wait_filled(order, order.quantity)
    assert len({fill.exec_id for fill in fills}) == len(fills) > 1
    assert sum(fill.quantity for fill in fills) == order.quantity
    assert all(fill.price == Decimal("18000.25") and fill.side is m.Side.BUY for fill in fills)


def test_o04_partial_then_cancel(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("partial_then_cancel"))
    ended = gateway.wait_state(order, m.LegState.CANCELLED)
    traded = sum(fill.quantity for fill in gateway.fills(order))
    assert 0 < traded == ended.filled < order.quantity
    assert sum(fill.quantity for fill in executions(gateway.snapshot(), order)) == traded


def test_o05_fill_during_cancel(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("fill_during_cancel"))
    gateway.wait_state(order, m.LegState.WORKING)
    gateway.cancel(order)
    gateway.wait_filled(order, order.quantity)
    gateway.wait_reject(order, m.RejectCode.CANCEL_REJECTED)
    gateway.listen()
    assert m.LegState.CANCELLED not in [update.state for update in gateway.updates(order)]


def test_o06_fill_during_replace(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("fill_during_replace"))
    gateway.wait_state(order, m.LegState.WORKING)
    gateway.replace(order, quantity=ONE)
    gateway.wait_filled(order, order.quantity)
    assert gateway.wait_reject(order, m.RejectCode.REPLACE_REJECTED).replace_revision == 1


def test_o07_cancel_of_filled_and_of_unknown(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.wait_filled(order, ONE)
    gateway.cancel(order)
    gateway.wait_reject(order, m.RejectCode.CANCEL_REJECTED)
    gateway.listen()
    assert gateway.updates(order)[-1].state is m.LegState.FILLED
    never_placed = make_order(gateway.hello, symbol=rig.symbol, quantity=ONE)
    gateway.cancel(never_placed)
    # Not "cancelled": the gateway would take that for the end of an order that may still be on its way.
    gateway.wait_reject(never_placed, m.RejectCode.CANCEL_REJECTED)
    assert not gateway.updates(never_placed)
    assert row_of(gateway.snapshot(), never_placed) is None


def test_o08_unsolicited_cancel(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("unsolicited_cancel"))
    gateway.wait_state(order, m.LegState.WORKING)
    assert gateway.wait_state(order, m.LegState.CANCELLED).filled == 0


def test_o09_duplicate_execution(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("duplicate_execution"))
    gateway.until(lambda: len(gateway.fills(order)) == 2, "the execution again")
    first, second = gateway.fills(order)
    assert first == second, "a repeated execution keeps its id: only so can it be dropped"
    assert len(executions(gateway.snapshot(), order)) == 1


def test_o10_fill_before_ack(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("fill_before_ack"))
    gateway.wait_state(order, m.LegState.WORKING)
    kinds = [type(each) for each in gateway.heard if getattr(each, "client_order_id", "") == order.client_order_id]
    assert kinds[0] is m.Fill
    row = row_of(gateway.snapshot(), order)
    assert row is None or row.state is m.LegState.FILLED


def test_o11_out_of_order_executions(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("out_of_order"))
    fills = gateway.wait_filled(order, order.quantity)
    listed = [fill.exec_id for fill in executions(gateway.snapshot(), order)]
    assert [fill.exec_id for fill in fills] == listed[::-1]


def test_o12_time_out_then_ack(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("timeout_then_ack"))
    gateway.listen(2.5)
    assert not gateway.updates(order)
    assert not gateway.fills(order)
    # Whoever asks meanwhile learns the truth.
    assert executions(gateway.snapshot(), order)
    gateway.wait_filled(order, order.quantity)
    gateway.wait_state(order, m.LegState.FILLED)


def test_o13_time_out_then_nothing(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("timeout_then_nothing"))
    gateway.listen(1.5)
    snapshot = gateway.snapshot()
    assert snapshot.complete
    assert row_of(snapshot, order) is None
    assert not executions(snapshot, order)
    assert not gateway.updates(order)
    assert not gateway.rejects(order), "a lost order is not a refused one"


def test_o14_bust(rig, gateway):
    before = net(gateway.snapshot(), rig.symbol)
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("bust"))
    (fill,) = gateway.wait_filled(order, order.quantity)
    (bust,) = gateway.until(lambda: gateway.all(m.Correction), "the bust")
    assert (bust.exec_id, bust.kind, bust.revision) == (fill.exec_id, m.CorrectionKind.BUST, 1)
    snapshot = gateway.snapshot()
    assert not executions(snapshot, order)
    assert net(snapshot, rig.symbol) == before


def test_o15_correction(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("correction"))
    (fill,) = gateway.wait_filled(order, order.quantity)
    (changed,) = gateway.until(lambda: gateway.all(m.Correction), "the correction")
    assert changed.kind is m.CorrectionKind.CORRECT
    assert changed.price == fill.price + rig.tick_size
    (row,) = executions(gateway.snapshot(), order)
    assert (row.exec_id, row.price) == (fill.exec_id, changed.price)


def test_o16_overfill(rig, gateway):
    before = net(gateway.snapshot(), rig.symbol)
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("overfill"))
    fills = gateway.wait_filled(order, order.quantity + ONE)
    assert sum(fill.quantity for fill in fills) == order.quantity + ONE
    assert net(gateway.snapshot(), rig.symbol) == before + order.quantity + ONE


def test_o17_manual_order_at_the_platform(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("manual_order"))
    update = gateway.until(
        lambda: next((u for u in gateway.all(m.OrderUpdate) if not u.client_order_id), None), "somebody else's order"
    )
    assert m.find_client_order_id(update.client_order_id) is None
    rows = gateway.snapshot().working_orders.rows
    (row,) = [row for row in rows if row.platform_order_id == update.platform_order_id]
    assert row.state is m.LegState.WORKING
    # The kill ladder must be able to cancel it, by the platform's own id.
    gateway.send(
        m.Cancel(
            client_order_id="",
            platform=order.platform,
            account=order.account,
            symbol=rig.symbol,
            platform_order_id=update.platform_order_id,
        )
    )
    gateway.until(
        lambda: [
            u
            for u in gateway.all(m.OrderUpdate)
            if u.platform_order_id == update.platform_order_id and u.state is m.LegState.CANCELLED
        ],
        "its end",
    )


def test_o18_manual_trade_at_the_platform(rig, gateway):
    before = net(gateway.snapshot(), rig.symbol)
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("manual_trade"))
    gateway.wait_filled(order, order.quantity)
    gateway.until(lambda: [f for f in gateway.all(m.Fill) if not f.client_order_id], "somebody else's fill")
    assert net(gateway.snapshot(), rig.symbol) == before + order.quantity + ONE


def test_o19_same_order_twice(rig, gateway):
    before = net(gateway.snapshot(), rig.symbol)
    order = gateway.place(symbol=rig.symbol, quantity=ONE)
    gateway.send(order)
    gateway.wait_filled(order, ONE)
    gateway.wait_state(order, m.LegState.FILLED)
    heard = len(gateway.updates(order))
    gateway.send(order)
    gateway.until(lambda: len(gateway.updates(order)) > heard, "the same answer again")
    gateway.listen()
    assert len({fill.exec_id for fill in gateway.fills(order)}) == 1
    assert net(gateway.snapshot(), rig.symbol) == before + ONE


def test_o20_netting_flip(rig, gateway):
    held = net(gateway.snapshot(), rig.symbol)
    side = m.Side.SELL if held >= 0 else m.Side.BUY
    size = abs(held) + 2
    while size in {lots for lots, _ in SCENARIOS.values()}:
        size += 1  # what is held depends on the tests before, and these sizes are misbehaviours of the stand-in
    order = gateway.place(symbol=rig.symbol, quantity=size, side=side)
    gateway.wait_filled(order, order.quantity)
    snapshot = gateway.snapshot()
    assert net(snapshot, rig.symbol) == (size - abs(held)) * side.sign
    assert len([row for row in snapshot.positions.rows if row.symbol == rig.symbol]) == 1


def test_o21_too_late_to_send(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=ONE, not_after_s=-0.5)
    gateway.wait_reject(order, m.RejectCode.TOO_LATE_TO_SEND)
    gateway.listen()
    assert not gateway.fills(order)
    assert row_of(gateway.snapshot(), order) is None


def test_o22_replace(rig, gateway):
    order = rest(rig, quantity=Decimal(2))
    wanted = Decimal(3)
    assert gateway.hello.capabilities is not None
    if not gateway.hello.capabilities.replace_quantity:
        gateway.replace(order, revision=1, quantity=wanted, limit_price=FAR_BELOW + 1)
        gateway.wait_reject(order, m.RejectCode.REPLACE_REJECTED)
        wanted = order.quantity
    gateway.replace(order, revision=2, quantity=wanted, limit_price=FAR_BELOW + 1)
    answer = gateway.until(
        lambda: next((u for u in gateway.updates(order) if u.replace_revision == 2), None), "the changed order"
    )
    assert (answer.quantity, answer.limit_price, answer.state) == (wanted, FAR_BELOW + 1, m.LegState.WORKING)
    row = row_of(gateway.snapshot(), order)
    assert row is not None
    assert (row.quantity, row.limit_price) == (wanted, FAR_BELOW + 1)
    gateway.cancel(order)
    gateway.wait_state(order, m.LegState.CANCELLED)


def test_o23_fill_that_is_never_reported(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("silent_fill"))
    gateway.listen()
    assert not gateway.fills(order)
    assert sum(fill.quantity for fill in executions(gateway.snapshot(), order)) == order.quantity


def test_o24_mute_platform_with_a_living_link(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("mute_link"))
    gateway.listen(1.0)
    assert not gateway.updates(order)
    assert not gateway.fills(order)
    assert gateway.sessions == 1
    assert executions(gateway.snapshot(), order), "heartbeats prove no delivery; the snapshot does"
    gateway.listen(4.5)  # until it talks again: other checks use this platform


def test_o25_cancel_rejected(rig, gateway):
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("cancel_rejected"))
    gateway.wait_state(order, m.LegState.WORKING)
    gateway.cancel(order)
    gateway.wait_reject(order, m.RejectCode.CANCEL_REJECTED)
    row = row_of(gateway.snapshot(), order)
    assert row is not None
    assert row.state is m.LegState.WORKING


def test_o26_wrong_contract_month(rig, gateway):
    order = m.Order(
        **{name: getattr(rest(rig), name) for name in m.Order.__struct_fields__}
        | {"client_order_id": m.client_order_id(m.signal_key("other month"), 0, m.OrderRole.ENTRY, 0)}
        | {"contract": "NQH27"}
    )
    gateway.send(order)
    gateway.wait_reject(order, m.RejectCode.IDENTITY_MISMATCH)


def test_o27_another_account(rig, gateway):
    order = rest(rig)
    wrong = m.Order(
        **{name: getattr(order, name) for name in m.Order.__struct_fields__}
        | {"client_order_id": m.client_order_id(m.signal_key("other account"), 0, m.OrderRole.ENTRY, 0)}
        | {"account": "SOMEBODY-ELSE"}
    )
    gateway.send(wrong)
    gateway.wait_reject(wrong, m.RejectCode.PLATFORM_UNKNOWN)
    assert row_of(gateway.snapshot(), wrong) is None
