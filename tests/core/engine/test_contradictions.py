"""What a platform says is booked only if it can be true; what cannot be bars its symbol until it is settled."""

from __future__ import annotations

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import LegState, RejectCode, Side, SignalState

from tests.support.doubt_desk import DoubtDesk, entered
from tests.support.orders import D, Desk, market

LIES = {
    Kind.WRONG_SIDE: {"side": Side.SELL},
    Kind.WRONG_SYMBOL: {"symbol": "ES"},
    Kind.OVERFILL: {"quantity": D(3)},
    Kind.IMPOSSIBLE_PRICE: {"price": D("21000.10")},
}


@pytest.mark.parametrize("kind", LIES)
def test_an_execution_that_disagrees_with_its_order_is_not_booked(kind):
    desk, order = entered()
    desk.fill(order, **LIES[kind])
    assert (desk.kinds(), desk.count(f"contradiction_{kind}")) == ([kind], 1)
    assert sum((each.net for each in desk.route.positions.values()), D(0)) == 0
    report = desk.report()
    assert (report.state, report.legs[0].state, report.filled) == (SignalState.UNKNOWN, LegState.UNKNOWN, 0)
    (shown,) = report.contradictions
    assert (shown.kind, shown.client_order_id) == (kind, order.client_order_id)
    assert shown.said
    assert shown.expected
    assert "nothing is sent" in shown.barred
    assert "acknowledge NQ --holds" in shown.ends
    (alert,) = [
        each for each in desk.all_effects if isinstance(each, e.Alert) and each.code is RejectCode.CONTRADICTION
    ]
    assert kind in alert.text
    # Nothing of ours leaves there: no close, no stop, no further entry; the same statement is one contradiction.
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="r", by="ops"))
    desk.wait(60_000)
    assert len(desk.orders) == 1
    desk.ask(m.Resume(request_id=2, reason="r", by="ops"))
    assert any("contradicts itself" in line for line in desk.answers()[-1].lines)


@pytest.mark.parametrize("kind", LIES)
def test_a_lie_about_an_execution_ends_when_the_snapshot_lists_it_as_its_order_is(kind):
    desk, order = entered()
    lie = desk.fill(order, **LIES[kind])
    true = structs.replace(lie, side=Side.BUY, symbol="NQ", quantity=D(2), price=D(21000))
    desk.prove(("NQ", 2), fills=[true], times=1)
    assert (desk.kinds(), desk.position(), desk.report().state) == ([], 2, SignalState.FILLED)
    assert desk.count("contradiction_ended") == 1
    desk.ask(m.SignalClose(signal_id="s1"))
    (closing,) = desk.closings()
    assert (closing.side, closing.quantity) == (Side.SELL, 2)


def two_orders_of_one_id() -> tuple[DoubtDesk, m.Fill, m.Fill]:
    """ES and NQ bought, and both executions carry the id x1 (findings A1 and B6)."""
    desk = DoubtDesk()
    desk.signal(signal_id="es", symbol="ES", quantity=D(1), markets=(market("a", desk.now_ns, symbol="ES"),))
    first = desk.fill(desk.only())
    desk.signal(quantity=D(1))
    second = desk.fill(desk.only(), exec_id=first.exec_id, price=D(21001))
    return desk, first, second


def test_one_execution_id_for_two_orders_bars_both_and_no_price_is_overwritten():
    desk, first, _ = two_orders_of_one_id()
    assert (desk.kinds(), desk.count("duplicate_fill")) == ([Kind.REUSED_ID], 0)
    assert (desk.report("es").state, desk.report("s1").state) == (SignalState.UNKNOWN, SignalState.UNKNOWN)
    assert desk.report("es").legs[0].avg_price == first.price
    for signal_id, symbol in (("es", "ES"), ("s1", "NQ")):
        desk.ask(m.SignalClose(signal_id=signal_id))
        desk.signal(signal_id=f"more {symbol}", symbol=symbol, markets=(market("a", desk.now_ns, symbol=symbol),))
        assert desk.report(f"more {symbol}").code is RejectCode.CONTRADICTION
    assert len(desk.orders) == 2


def test_two_rows_of_one_id_are_told_apart_when_two_snapshots_and_the_positions_say_so():
    desk, first, second = two_orders_of_one_id()
    desk.prove(("ES", 1), ("NQ", 1), fills=[first, second])
    assert desk.kinds() == []
    assert (desk.position(symbol="ES"), desk.position(), desk.count("position_drift")) == (1, 1, 0)
    assert [desk.report(each).legs[0].avg_price for each in ("es", "s1")] == [first.price, second.price]
    for _ in range(3):
        desk.prove(("ES", 1), ("NQ", 1), fills=[first, second])
    assert (desk.kinds(), desk.position()) == ([], 1)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [(each.symbol, each.side, each.quantity) for each in desk.closings()] == [("NQ", Side.SELL, 1)]


def test_a_second_use_of_an_id_that_no_snapshot_lists_is_withdrawn():
    desk, first, _ = two_orders_of_one_id()
    desk.prove(("ES", 1), fills=[first])
    assert (desk.kinds(), desk.position(symbol="ES")) == ([], 1)
    assert desk.report("es").state is SignalState.FILLED


@pytest.mark.parametrize(
    "change",
    [{"side": Side.SELL}, {"symbol": "ES"}, {"quantity": D(1)}, {"price": D(21001)}, {"ts_event_ns": 86_400 * 10**9}],
    ids=["side", "symbol", "quantity", "price", "day"],
)
def test_the_same_id_with_another_content_is_no_duplicate(change):
    desk, order = entered()
    fill = desk.fill(order)
    desk.give(e.AdapterSaid(message=structs.replace(fill, **change)))
    assert (desk.kinds(), desk.position(), desk.count("duplicate_fill")) == ([Kind.REUSED_ID], 2, 0)
    desk.prove(("NQ", 2), fills=[fill])
    assert (desk.kinds(), desk.position()) == ([], 2)


def test_a_repeated_fill_is_a_duplicate_also_after_its_correction():
    desk, order = entered()
    fill = desk.fill(order)
    correction = m.Correction(platform="a", account="acc", exec_id=fill.exec_id, kind=m.CorrectionKind.CORRECT,
                              revision=1, quantity=D(2), price=D(21001))  # fmt: skip
    desk.give(e.AdapterSaid(message=correction))
    desk.give(e.AdapterSaid(message=fill))
    assert (desk.kinds(), desk.count("duplicate_fill"), desk.report().avg_price) == ([], 1, D(21001))


@pytest.mark.parametrize("change", [{"quantity": D(3)}, {"price": D(60)}], ids=["beyond the order", "impossible price"])
def test_a_correction_that_cannot_be_is_not_applied(change):
    desk, order = entered()
    fill = desk.fill(order)
    values = {"quantity": D(2), "price": D(21000)} | change
    correction = m.Correction(
        platform="a", account="acc", exec_id=fill.exec_id, kind=m.CorrectionKind.CORRECT, revision=1, **values
    )
    desk.give(e.AdapterSaid(message=correction))
    assert len(desk.kinds()) == 1
    assert (desk.position(), desk.report().avg_price) == (2, D(21000))
    desk.prove(("NQ", 2), fills=[fill], times=1)
    assert desk.kinds() == []
    desk.prove(("NQ", values["quantity"]), fills=[structs.replace(fill, **values)], times=1)
    assert (len(desk.kinds()), desk.report().avg_price) == (1, D(21000))


@pytest.mark.parametrize("change", [{"side": Side.SELL}, {"symbol": "ES"}], ids=["side", "symbol"])
def test_an_order_status_of_another_side_or_symbol_is_not_applied(change):
    desk, order = entered()
    desk.update(order, **change)
    assert (desk.kinds(), desk.report().state) == ([Kind.WRONG_ORDER], SignalState.UNKNOWN)
    assert desk.engine.state.orders[order.client_order_id].state is LegState.SENT
    desk.ask(m.SignalCancel(signal_id="s1"))
    assert not desk.sent(m.Cancel)
    desk.prove(orders=[desk.row(order)])
    assert (desk.kinds(), desk.report().state) == ([], SignalState.WORKING)
    desk.wait(1)
    assert desk.sent(m.Cancel), "the cancel that waited leaves"


def test_a_status_with_more_filled_than_the_order_has_is_a_contradiction_and_counts_no_lot():
    desk, order = entered()
    desk.update(order, LegState.FILLED, 5)
    assert (desk.kinds(), desk.report().legs[0].missing_fills) == ([Kind.WRONG_ORDER], 2)
    fills = [desk.fill(order)]
    desk.prove(("NQ", 2), fills=fills, orders=[desk.row(order, LegState.FILLED, 2)])
    assert (desk.kinds(), desk.report().state) == ([], SignalState.FILLED)


def test_a_position_that_differs_bars_until_a_second_snapshot_and_an_unstable_one_by_name():
    desk, order = entered()
    fills = [desk.fill(order)]
    desk.prove(("NQ", 3), fills=fills, times=1)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert (desk.closings(), desk.kinds()) == ([], [])
    for lots in (4, 3, 4):
        desk.prove(("NQ", lots), fills=fills, times=1)
    assert (desk.closings(), desk.kinds(), desk.report().state) == ([], [Kind.POSITION], SignalState.UNKNOWN)
    desk.prove(("NQ", 4), fills=fills, times=1)
    assert (desk.kinds(), desk.position()) == ([], 4)
    assert [each.quantity for each in desk.closings()] == [2], "what its entries filled, not what the account holds"


def test_external_executions_hold_as_the_snapshot_lists_them():
    desk = DoubtDesk()
    order = structs.replace(entered()[1], client_order_id="by hand")
    said = desk.make_fill(entered()[1], 1, client_order_id="by hand", side=Side.SELL)
    desk.give(e.AdapterSaid(message=said))
    assert (desk.position(), order.client_order_id) == (-1, "by hand")
    desk.prove(("NQ", 1), fills=[structs.replace(said, side=Side.BUY)], times=1)
    assert (desk.position(), desk.kinds(), desk.count("position_drift")) == (1, [], 0)


def test_a_fill_on_another_account_of_our_platform_is_told():
    desk = DoubtDesk("a", "b")
    desk.signal("a")
    desk.fill(structs.replace(desk.only("a"), platform="b"))
    assert any("of another account" in each.text for each in desk.effects if isinstance(each, e.Alert))


def test_an_execution_of_a_leg_whose_market_has_no_tick_is_not_judged_by_it():
    desk = Desk("a")
    desk.signal(markets=(market("a", desk.now_ns, tick_size=D(0)),))
    assert not desk.orders
    order_id = m.client_order_id(m.signal_key("s1"), 0, m.OrderRole.ENTRY, 0, 22)
    fill = m.Fill(
        platform="a", account="acc", exec_id="x", client_order_id=order_id, symbol="NQ", side=m.Side.BUY,
        quantity=D(1), price=D(21000), ts_event_ns=desk.now_ns,
    )  # fmt: skip
    desk.give(e.AdapterSaid(message=fill))
    assert desk.position() == 1
