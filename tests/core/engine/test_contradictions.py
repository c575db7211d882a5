"""What a platform says is booked only if it can be true; what cannot be bars its symbol until it is settled."""

from __future__ import annotations

import pytest
from msgspec import structs
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import RouteRecord
from nexus_gateway.core.messages import ContradictionKind as Kind
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode, Side, SignalState

from tests.support.orders import D, Desk, market

CLOSING = e.EngineSettings(client_order_id_chars=22, close_overfills=True)


class DoubtDesk(Desk):
    """`filled`: what the platform lists as executed."""

    def __init__(self, *platforms: str, **options) -> None:
        self.filled: list[m.Fill] = []
        super().__init__(*platforms or ("a",), **options)

    @property
    def route(self) -> RouteRecord:
        return self.engine.state.routes["a|acc"]

    def kinds(self) -> list[Kind]:
        return [each.kind for each in self.route.contradictions.values()]

    def prove(self, *held: tuple[str, object], fills: list[m.Fill] | None = None, orders=(), times: int = 2) -> None:
        """Complete snapshots, far enough apart from everything before."""
        for _ in range(times):
            self.wait(5_000)
            while not self.route.request_pending:
                self.wait(5_000)
            self.snapshot(positions=held, fills=self.filled if fills is None else fills, orders=orders)

    def acknowledge(self, lots: object, symbol: str = "NQ", platform: str = "a") -> m.AdminResult:
        request = m.Acknowledge(request_id=9, platform=platform, symbol=symbol, by="ops", quantity=D(str(lots)))
        self.ask(request)
        return self.answers()[-1]

    def closings(self) -> list[m.Order]:
        return [each for each in self.orders.values() if m.find_client_order_id(each.client_order_id).role in "XRH"]


def entered(lots: object = 2, **options) -> tuple[DoubtDesk, m.Order]:
    desk = DoubtDesk(**options)
    desk.signal(quantity=D(str(lots)))
    return desk, desk.only()


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


def test_the_wrong_side_again_and_again_sends_nothing_and_ends_by_the_typed_figure():
    """Finding A1: it bought 1,048,576 lots in 22 s."""
    desk = DoubtDesk()
    desk.signal(quantity=D(1))
    lie = desk.fill(desk.only(), side=Side.SELL)
    desk.update(desk.only(), LegState.FILLED, 1)
    for _ in range(20):
        desk.prove(("NQ", 1), fills=[lie])
    assert (len(desk.orders), desk.kinds()) == (1, [Kind.WRONG_SIDE])
    refused = desk.acknowledge(-1)
    assert (refused.accepted, desk.kinds()) == (False, [Kind.WRONG_SIDE])
    assert "last reported 1 NQ, fills since included, you typed -1" in refused.text
    assert desk.acknowledge(1).accepted
    assert (desk.kinds(), desk.position(), desk.report().filled) == ([], 1, 0)
    assert desk.route.positions["NQ"].external == 1
    for _ in range(3):
        desk.prove(("NQ", 1), fills=[lie])  # it goes on saying so, and a person has seen what is held
    assert (desk.kinds(), desk.position(), len(desk.orders)) == ([], 1, 1)
    assert desk.report().state is SignalState.NOT_FILLED


def test_lots_beyond_the_orders_size_belong_to_the_account_once_two_snapshots_confirm_them():
    desk, order = entered(settings=CLOSING)
    first = desk.fill(order, 2)
    extra = desk.fill(order, 1)
    assert (desk.kinds(), desk.position()) == ([Kind.OVERFILL], 2)
    desk.prove(("NQ", 3), fills=[first, extra], times=1)
    assert desk.kinds() == [Kind.OVERFILL]
    desk.prove(("NQ", 3), fills=[first, extra], times=1)
    assert (desk.kinds(), desk.position(), desk.report().residual_quantity) == ([], 3, 2)
    assert desk.count("overfill_confirmed") == 1
    closing = [each for each in desk.closings() if each.symbol == "NQ"]
    assert [(each.side, each.quantity) for each in closing] == [(Side.SELL, 1)]
    desk.reject(closing[0])
    desk.wait(1_000)
    again = desk.closings()[1]
    desk.fill(again)
    desk.update(again, LegState.FILLED, 1)
    desk.wait(600_000)
    assert (desk.position(), desk.report().residual_quantity, len(desk.closings())) == (2, 2, 2)
    assert desk.route.positions["NQ"].overfilled == 0


def test_a_confirmed_overfill_is_kept_where_it_is_so_configured():
    desk, order = entered()
    fills = [desk.fill(order, 2), desk.fill(order, 1)]
    desk.prove(("NQ", 3), fills=fills)
    desk.prove(("NQ", 3), fills=fills)
    assert (desk.kinds(), desk.position(), desk.closings()) == ([], 3, [])
    assert desk.route.positions["NQ"].external == 1


def test_an_overfill_that_two_snapshots_do_not_show_was_none():
    desk, order = entered()
    fills = [desk.fill(order, 2)]
    desk.fill(order, 1)
    desk.prove(("NQ", 2), fills=fills, times=1)
    assert desk.kinds() == [Kind.OVERFILL]
    desk.prove(("NQ", 2), fills=fills, times=1)
    assert (desk.kinds(), desk.position(), desk.report().state) == ([], 2, SignalState.FILLED)


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


def test_a_refused_execution_ends_with_its_bust_and_with_a_correction_that_makes_it_possible():
    desk, order = entered()
    lie = desk.fill(order, side=Side.SELL)
    bust = m.Correction(platform="a", account="acc", exec_id=lie.exec_id, kind=m.CorrectionKind.BUST, revision=1)
    desk.give(e.AdapterSaid(message=bust))
    assert (desk.kinds(), desk.route.positions.get("NQ")) == ([], None)
    lie = desk.fill(order, price=D(60))
    correction = m.Correction(platform="a", account="acc", exec_id=lie.exec_id, kind=m.CorrectionKind.CORRECT,
                              revision=1, quantity=D(2), price=D(21001))  # fmt: skip
    desk.give(e.AdapterSaid(message=correction))
    assert (desk.kinds(), desk.position(), desk.report().avg_price) == ([], 2, D(21001))


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


def test_the_figure_ends_a_contradiction_where_the_platform_lists_no_positions():
    desk = DoubtDesk("b")
    desk.link_up("a", lists_positions=False, executions_history=False)
    desk.signal(quantity=D(1))
    desk.fill(desk.only(), side=Side.SELL)
    desk.prove(fills=[])
    assert desk.kinds() == [Kind.WRONG_SIDE]
    assert desk.acknowledge(1).accepted
    assert (desk.kinds(), desk.position()) == ([], 1)


def test_a_figure_that_explains_the_execution_books_it():
    """An id used twice, at a platform without a history: the operator types what is held."""
    desk = DoubtDesk("b")
    desk.link_up("a", executions_history=False)
    desk.signal(quantity=D(1))
    first = desk.fill(desk.only())
    desk.signal(signal_id="s2", quantity=D(1))
    desk.fill(desk.only(), exec_id=first.exec_id, price=D(21001))
    desk.prove(("NQ", 2), fills=[])
    assert desk.kinds() == [Kind.REUSED_ID]
    assert desk.acknowledge(2).accepted
    assert (desk.position(), desk.report("s2").filled, desk.report("s2").legs[0].open_quantity) == (2, 1, 1)


def test_acknowledge_takes_one_account_and_a_contradiction_of_two_symbols_needs_both():
    desk = DoubtDesk("a", "b")
    for platform in ("a", "b"):
        desk.signal(platform, signal_id=platform)
        desk.fill(desk.only(platform), symbol="ES")
    refused = desk.acknowledge(2, platform="")
    assert not refused.accepted
    assert "name one with --platform" in refused.text
    assert desk.acknowledge(0, symbol="ES").accepted
    assert desk.kinds() == [Kind.WRONG_SYMBOL]
    assert desk.acknowledge(0).accepted
    assert desk.kinds() == []
    assert not desk.acknowledge(0).accepted


def test_flatten_unproven_closes_once_what_the_platform_last_reported():
    desk, order = entered(1)
    lie = desk.fill(order, side=Side.SELL)
    desk.prove(("NQ", 1), fills=[lie], times=1)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert "sent once: -1 NQ" in desk.answers()[0].lines[0]
    (closing,) = desk.closings()
    assert (closing.side, closing.quantity) == (Side.SELL, 1)
    desk.prove(("NQ", 1), fills=[lie], times=5)
    assert len(desk.closings()) == 1, "once"
    again = desk.fill(closing, side=Side.BUY)
    desk.update(closing, LegState.FILLED, 1)
    desk.prove(fills=[lie, again])
    assert len(desk.closings()) == 1
    assert desk.acknowledge(0).accepted
    desk.prove(fills=[lie, again], times=3)
    assert (desk.kinds(), desk.position()) == ([], 0)
    assert desk.engine.state.kills["a|acc"].verified


def test_flatten_unproven_uses_the_platforms_own_flatten_and_waits_for_what_it_did():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    fills = [desk.fill(desk.only())]
    desk.prove(("NQ", 2), fills=fills, times=1)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    (command,) = desk.sent(m.Flatten)
    assert (command.platform, command.account, desk.closings()) == ("a", "acc", [])
    desk.wait(1_000)
    desk.snapshot(positions=[("NQ", 2)], fills=fills)  # asked for before it could have been done
    assert desk.closings() == []
    closed = desk.make_fill(desk.only(), side=Side.SELL, client_order_id="")
    desk.give(e.AdapterSaid(message=closed))
    desk.prove(fills=[*fills, closed])
    assert (desk.position(), desk.closings(), desk.report().residual_quantity) == (0, [], 0)


def test_unproven_needs_one_platform_and_the_whole_account():
    for wrong in ({"platform": ""}, {"level": m.KillLevel.SEVER}, {"own_only": True}):
        values = {"request_id": 1, "level": m.KillLevel.FLATTEN, "platform": "a", "reason": "r", "by": "o"} | wrong
        with pytest.raises(ValueError, match="unproven goes with level flatten and one platform"):
            m.Kill(**values, unproven=True)


def test_unproven_on_a_link_that_is_down_sends_nothing_and_says_so():
    desk, order = entered(1)
    desk.fill(order, side=Side.SELL)
    desk.link_down()
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert "its link is down, so nothing was sent" in desk.answers()[0].lines[0]
    assert desk.closings() == []


def test_no_closing_order_is_larger_than_what_was_entered_and_what_the_account_holds():
    """Whatever is booked on a leg: here a state that no event could have made."""
    desk, order = entered(2)
    desk.checks = False
    desk.fill(order)
    leg = desk.engine.state.signals["s1"].legs[0]
    leg.open = D(64)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.closings()] == [2]
    desk, order = entered(2)
    desk.checks = False
    desk.fill(order)
    desk.engine.state.routes["a|acc"].positions["NQ"].net = D(1)
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.closings()] == [1]


def test_account_state_shows_what_is_known_and_what_contradicts():
    desk, order = entered()
    fills = [desk.fill(order)]
    desk.prove(("NQ", 3), fills=fills, times=1)
    desk.update(desk.only(), side=Side.SELL)
    desk.ask(m.Query(request_id=1, what=m.QueryKind.ACCOUNT_STATE))
    (state,) = desk.answers()
    (row,) = state.positions
    assert (state.linked, state.ready, row.quantity, row.reported, row.agrees) == (True, True, 2, 3, False)
    assert [each.kind for each in state.contradictions] == [Kind.WRONG_ORDER]
    desk.ask(m.Query(request_id=1, what=m.QueryKind.STATUS))
    lines = "\n".join(desk.answers()[0].lines)
    assert "wrong_order" in lines
    assert "NQ booked 2, platform 3" in lines


def test_external_executions_hold_as_the_snapshot_lists_them():
    desk = DoubtDesk()
    order = structs.replace(entered()[1], client_order_id="by hand")
    said = desk.make_fill(entered()[1], 1, client_order_id="by hand", side=Side.SELL)
    desk.give(e.AdapterSaid(message=said))
    assert (desk.position(), order.client_order_id) == (-1, "by hand")
    desk.prove(("NQ", 1), fills=[structs.replace(said, side=Side.BUY)], times=1)
    assert (desk.position(), desk.kinds(), desk.count("position_drift")) == (1, [], 0)


ATTEMPTS = [pytest.param(1_100, id="more than two characters number"), pytest.param(5_000, marks=pytest.mark.torture)]


@pytest.mark.parametrize("attempts", ATTEMPTS)
def test_each_closing_attempt_of_a_leg_has_an_id_of_its_own(attempts):
    """The platform refuses each; NEXUS's command tries again at once."""
    desk = DoubtDesk(settings=e.EngineSettings(client_order_id_chars=22, max_exit_attempts=500))
    desk.checks = False
    desk.signal()
    desk.fill(desk.only())
    ids: set[str] = set()
    while len(ids) < attempts:
        closing = desk.only(role=OrderRole.EXIT) if ids else None
        if closing is None or closing.client_order_id in ids:
            desk.ask(m.SignalClose(signal_id="s1"))
            closing = desk.only(role=OrderRole.EXIT)
        ids.add(closing.client_order_id)
        desk.reject(closing)
        desk.engine.state.signals["s1"].legs[0].retry_ns = 0
        desk.wait(1)
    parts = [m.find_client_order_id(each) for each in ids]
    assert {each.attempt for each in parts} == set(range(attempts))
    assert {len(each) for each in ids} == {22}
    assert desk.report().legs[0].open_quantity == 2


def bust(desk: Desk, fill: m.Fill) -> None:
    correction = m.Correction(platform="a", account="acc", exec_id=fill.exec_id, kind=m.CorrectionKind.BUST, revision=1)
    desk.give(e.AdapterSaid(message=correction))


def test_a_bust_takes_the_stop_of_the_platform_with_it():
    """Finding B5 of the bridge: the stop would have opened a position."""
    desk, order = entered(1)
    fill = desk.fill(order)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    stop = structs.replace(order, client_order_id=stop_id, side=Side.SELL, order_type=m.OrderType.STOP,
                           stop_price=D(20990))  # fmt: skip
    desk.update(stop)
    assert desk.engine.state.orders[stop_id].live
    bust(desk, fill)
    (cancel,) = desk.sent(m.Cancel)
    assert cancel.client_order_id == stop_id
    assert desk.count("bracket_taken_over") == 1
    desk.update(stop, LegState.CANCELLED)
    assert (desk.position(), desk.closings()) == (0, [])


def test_a_bust_of_a_part_shrinks_the_stop_of_the_platform():
    desk, order = entered(3)
    desk.fill(order, 1)
    fill = desk.fill(order, 2)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    stop = structs.replace(order, client_order_id=stop_id, side=Side.SELL, order_type=m.OrderType.STOP,
                           stop_price=D(20990))  # fmt: skip
    desk.update(stop)
    bust(desk, fill)
    (replace,) = desk.sent(m.Replace)
    assert (replace.client_order_id, replace.quantity) == (stop_id, 1)


def platform_stop(desk: DoubtDesk, order: m.Order) -> m.Order:
    """The stop that the platform has made of an entry's bracket."""
    stop_id = m.client_order_id(m.signal_key("s1"), 0, OrderRole.STOP_LOSS, 0)
    terms = {"side": Side.SELL, "order_type": m.OrderType.STOP, "stop_price": D(20990)}
    stop = structs.replace(order, client_order_id=stop_id, **terms)
    desk.update(stop)
    return stop


def test_a_bust_of_a_part_where_nothing_can_be_replaced_leaves_a_stop_for_the_rest():
    desk = DoubtDesk("b")
    desk.link_up("a", replace=False)
    desk.signal(quantity=D(3))
    order = desk.only()
    desk.fill(order, 1)
    fill = desk.fill(order, 2)
    stop = platform_stop(desk, order)
    bust(desk, fill)
    assert [each.client_order_id for each in desk.sent(m.Cancel)] == [stop.client_order_id]
    desk.update(stop, LegState.CANCELLED)
    again = desk.only(role=OrderRole.STOP_LOSS)
    assert (again.client_order_id != stop.client_order_id, again.quantity, again.stop_price) == (True, 1, D(20990))
    assert desk.report().legs[0].protection is m.Protection.GATEWAY


def test_a_bust_of_the_stop_itself_brings_a_stop_back():
    desk, order = entered()
    desk.fill(order)
    stop = platform_stop(desk, order)
    fill = desk.fill(stop, price=D(20990))
    desk.update(stop, LegState.FILLED, 2)
    assert desk.report().state is SignalState.CLOSED
    bust(desk, fill)
    entry = next(each for _, event in desk.events if isinstance(each := getattr(event, "message", None), m.Fill))
    desk.prove(("NQ", 2), fills=[entry], orders=[desk.row(stop, LegState.FILLED, 2)])
    again = desk.only(role=OrderRole.STOP_LOSS)
    assert (desk.report().legs[0].open_quantity, again.quantity, again.stop_price) == (2, 2, D(20990))
    assert "kept by the gateway from now on" in desk.report().legs[0].text


def test_a_correction_of_an_entry_shrinks_the_stop_of_the_platform():
    desk, order = entered(3)
    fill = desk.fill(order, 3)
    stop = platform_stop(desk, order)
    desk.give(e.AdapterSaid(message=m.Correction(
        platform="a", account="acc", exec_id=fill.exec_id, kind=m.CorrectionKind.CORRECT, revision=1, quantity=D(1),
        price=fill.price,
    )))  # fmt: skip
    desk.prove(("NQ", 1), fills=[structs.replace(fill, quantity=D(1))], orders=[desk.row(stop)])
    replaces = [each.message for each in desk.all_effects
                if isinstance(each, e.SendToPlatform) and isinstance(each.message, m.Replace)]  # fmt: skip
    assert {(each.client_order_id, each.quantity) for each in replaces} == {(stop.client_order_id, 1)}


def test_one_execution_larger_than_its_order_fills_the_order_and_only_the_rest_is_external():
    """Finding of an attack: the leg's own lots were nobody's, with no stop and no close."""
    desk = DoubtDesk("b")
    desk.link_up("a", brackets=False)
    desk.signal()
    fill = desk.fill(desk.only(), 3)
    desk.prove(("NQ", 3), fills=[fill])
    desk.prove(("NQ", 3), fills=[fill])
    report = desk.report()
    assert (report.state, report.filled, report.residual_quantity) == (SignalState.FILLED, 2, 2)
    assert (desk.position(), desk.route.positions["NQ"].external) == (3, 1)
    assert desk.only(role=OrderRole.STOP_LOSS).quantity == 2
    assert desk.count("overfill_confirmed") == 1
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.update(desk.only(role=OrderRole.STOP_LOSS), LegState.CANCELLED)
    closing = desk.only(role=OrderRole.EXIT)
    assert closing.quantity == 2
    extra = desk.fill(closing, 3, price=D(20000))
    desk.prove(fills=[fill, extra])
    assert (desk.position(), desk.report().realized_usd) == (0, -4000)
    bust(desk, fill)
    assert (desk.position(), desk.route.positions["NQ"].external) == (-3, -1)


def test_what_a_figure_closes_has_no_result():
    desk, order = entered()
    fill = desk.fill(order)
    desk.ask(m.SignalClose(signal_id="s1"))
    lie = desk.fill(desk.closings()[0], side=Side.BUY, price=D(20000))
    desk.prove(fills=[fill, lie], times=1)
    assert desk.acknowledge(0).accepted
    report = desk.report()
    assert (report.realized_usd, report.legs[0].realized_usd, report.residual_quantity) == (None, None, 0)
    assert "their result is not known" in report.legs[0].text


def test_the_figure_is_the_platforms_newest_with_the_fills_since():
    desk, order = entered(2)
    first = desk.fill(order, 1)
    desk.wait(31_000)
    desk.snapshot(positions=[("NQ", 2)], fills=[first], complete=False)
    desk.update(order, side=Side.SELL)
    desk.fill(order, 1)
    assert not desk.acknowledge(2).accepted
    assert desk.acknowledge(3).accepted
    assert desk.position() == 3


def test_unproven_closes_nothing_that_has_gone_since_the_report():
    desk, order = entered()
    fill = desk.fill(order)
    stop = platform_stop(desk, order)
    desk.update(order, side=Side.SELL)
    desk.wait(31_000)
    desk.snapshot(positions=[("NQ", 2)], fills=[fill], complete=False)
    desk.fill(stop, price=D(20990))
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert desk.closings() == []


def test_a_slow_flatten_of_the_platform_is_not_closed_beside():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    fills = [desk.fill(desk.only())]
    desk.prove(("NQ", 2), fills=fills, times=1)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    working = m.WorkingOrder(client_order_id="", symbol="NQ", side=Side.SELL, state=LegState.WORKING, quantity=D(2),
                             filled=D(0), platform_order_id="own")  # fmt: skip
    desk.prove(("NQ", 2), fills=fills, orders=[working], times=4)
    assert desk.closings() == []
    desk.prove(("NQ", 2), fills=fills, times=2)
    assert [each.quantity for each in desk.closings()] == [2], "it has ended, and has closed nothing"


def test_a_refused_flatten_is_told_and_bars_nothing_any_more():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    assert desk.closings() == []
    desk.give(e.AdapterSaid(message=m.Reject(code=RejectCode.LINK_DOWN, text="no", platform="a", account="acc")))
    assert any("flatten was refused" in each.text for each in desk.effects if isinstance(each, e.Alert))
    assert [each.quantity for each in desk.closings()] == [2]


def test_flatten_does_not_wait_for_a_symbol_in_doubt_to_close_another():
    desk = DoubtDesk("b")
    desk.link_up("a", brackets=False)
    desk.signal()
    fills = [desk.fill(desk.only())]
    stop = desk.only(role=OrderRole.STOP_LOSS)
    desk.update(stop)
    desk.prove(("NQ", 2), ("ES", 3), fills=fills, orders=[desk.row(stop)])
    desk.update(stop, side=Side.BUY)
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, reason="r", by="ops"))
    desk.prove(("NQ", 2), ("ES", 3), fills=fills, orders=[structs.replace(desk.row(stop), side=Side.BUY)], times=3)
    assert {(each.symbol, each.quantity) for each in desk.closings()} == {("ES", 3)}


def test_an_order_that_a_person_makes_larger_may_fill_larger():
    desk = DoubtDesk()
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(21000))
    order = desk.only()
    desk.update(order)
    desk.update(order, quantity=D(5))
    desk.fill(order, 5)
    assert (desk.kinds(), desk.position(), desk.report().legs[0].open_quantity) == ([], 5, 5)


def test_a_gateway_that_slept_is_not_owed_anything():
    desk = DoubtDesk()
    desk.wait(31_000)
    assert desk.route.request_pending
    desk.wait(3_600_000)
    assert desk.count("snapshot_overdue") == 0
    desk.prove(times=1)
    assert desk.route.owes_since_ns == 0


def test_a_position_list_that_lags_behind_a_fill_is_not_adopted():
    desk, order = entered()
    desk.wait(31_000)
    fill = desk.fill(order)
    desk.snapshot(positions=[], fills=[fill])
    desk.wait(1_000)
    desk.snapshot(positions=[], fills=[fill])
    assert (desk.count("position_drift"), desk.position()) == (0, 2)
    desk.prove(("NQ", 2), fills=[fill], times=1)
    assert (desk.position(), desk.route.positions["NQ"].mismatch_snapshots) == (2, 0)


def test_a_wrong_order_status_ends_at_a_platform_without_a_history():
    desk = DoubtDesk("b")
    desk.link_up("a", executions_history=False)
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    order = desk.only()
    desk.update(order, side=Side.SELL)
    desk.prove(orders=[desk.row(order)])
    assert desk.kinds() == []


def test_a_doubt_without_a_second_snapshot_is_said():
    desk, order = entered()
    fill = desk.fill(order)
    desk.prove(("NQ", 3), fills=[fill], times=1)
    for _ in range(6):
        desk.wait(6_000)
    (alert,) = [each for each in desk.all_effects if isinstance(each, e.Alert) and "no complete snapshot" in each.text]
    assert "nothing at all is sent for NQ until then or `acknowledge SYMBOL --holds LOTS`" in alert.text
    assert "a second snapshot decides" in desk.report().legs[0].text


def test_a_ticket_closes_no_more_than_it_holds():
    desk = DoubtDesk("b")
    desk.link_up("a", m.AccountMode.HEDGING, close_by_ticket=True)
    desk.signal()
    desk.fill(desk.only(), position_ticket="T1")
    said = desk.make_fill(desk.only(), 5, side=Side.SELL, client_order_id="", position_ticket="T1")
    desk.give(e.AdapterSaid(message=said))
    assert (desk.kinds(), desk.report().legs[0].open_quantity, desk.closings()) == ([Kind.OVERFILL], 2, [])


def test_a_fill_on_another_account_of_our_platform_is_told():
    desk = DoubtDesk("a", "b")
    desk.signal("a")
    desk.fill(structs.replace(desk.only("a"), platform="b"))
    assert any("of another account" in each.text for each in desk.effects if isinstance(each, e.Alert))


def test_a_platform_that_owes_its_snapshot_opens_nothing_and_its_legs_are_unknown():
    """Finding B2: 99 s without any proof, and it went on trading."""
    desk, order = entered()
    fills = [desk.fill(order)]
    desk.prove(("NQ", 2), fills=fills, times=1)
    for _ in range(10):
        desk.wait(5_000)
    report = desk.report()
    assert (report.state, report.legs[0].state, desk.count("snapshot_overdue")) == (
        SignalState.UNKNOWN, LegState.UNKNOWN, 1
    )  # fmt: skip
    assert desk.route.positions["NQ"].net == 2
    alerts = [each for each in desk.all_effects if isinstance(each, e.Alert) and "no complete snapshot" in each.text]
    assert len(alerts) == 1
    desk.signal(signal_id="s2")
    assert desk.report("s2").code is RejectCode.PLATFORM_NOT_READY
    assert "owes a complete snapshot" in desk.report("s2").text
    desk.ask(m.SignalClose(signal_id="s1"))
    assert [each.quantity for each in desk.closings()] == [2], "exits go on"
    desk.fill(desk.closings()[0])
    desk.prove(fills=[*fills, structs.replace(desk.make_fill(desk.closings()[0]), exec_id="x2")], times=1)
    assert (desk.report().state, desk.route.overdue_since_ns) == (SignalState.CLOSED, 0)


def test_incomplete_snapshots_are_no_payment():
    desk = DoubtDesk()
    for _ in range(40):
        desk.wait(1_000)
        if desk.route.request_pending:
            desk.snapshot(complete=False)
    for _ in range(20):
        desk.wait(1_000)
        if desk.route.request_pending:
            desk.snapshot(complete=False)
    assert desk.count("snapshot_overdue") == 1
    desk.signal()
    assert desk.report().code is RejectCode.PLATFORM_NOT_READY


@pytest.mark.parametrize("part", ["whole", "orders"])
def test_a_late_snapshot_makes_nothing_unknown_that_was_known(part):
    """Finding B1 of the bridge: every working order became unknown, with a false alert."""
    desk = DoubtDesk()
    desk.signal(order_type=m.OrderType.LIMIT, limit_price=D(20999))
    desk.update(desk.only())
    for _ in range(4):
        desk.wait(31_000)
        name = {"platform": "a", "account": "acc"}
        snapshot = m.Snapshot(
            request_id=desk.route.request_id,
            **name,
            positions=m.Positions(**name, rows=()),
            working_orders=m.WorkingOrders(**name, rows=(), complete=part == "whole"),
            executions=m.Executions(**name, rows=()),
            complete=part != "whole",
        )
        desk.give(e.AdapterSaid(message=snapshot))
    state = desk.engine.state.orders[desk.only().client_order_id]
    assert (state.state, state.missed_snapshots, desk.count("unknown")) == (LegState.WORKING, 0, 0)


def test_completeness_is_per_part_and_what_a_platform_cannot_list_does_not_count():
    """Bookmap cannot list its orders: positions and executions still prove, an unknown order waits for a person."""
    desk = DoubtDesk("b")
    desk.link_up("a", lists_orders=False)
    desk.signal()
    order = desk.only()
    desk.wait(3_000)
    assert desk.engine.state.orders[order.client_order_id].state is LegState.UNKNOWN
    desk.prove()
    assert desk.route.ready
    assert desk.engine.state.orders[order.client_order_id].state is LegState.UNKNOWN
    assert desk.acknowledge(0).accepted
    assert desk.engine.state.orders[order.client_order_id].state is LegState.CANCELLED


def test_positions_prove_nothing_where_the_executions_are_not_all_listed():
    """Which of them the positions hold is not known: a right position was adopted a second time."""
    desk, order = entered()
    fill = desk.fill(order)
    name = {"platform": "a", "account": "acc"}
    for _ in range(3):
        desk.wait(31_000)
        desk.give(e.AdapterSaid(message=m.Snapshot(
            request_id=desk.route.request_id, **name,
            positions=m.Positions(**name, rows=(m.Position(symbol="NQ", quantity=D(2)),)),
            working_orders=m.WorkingOrders(**name, rows=()),
            executions=m.Executions(**name, rows=(), complete=False),
        )))  # fmt: skip
    assert (desk.position(), desk.count("position_drift"), desk.route.positions["NQ"].reported) == (2, 0, 2)
    desk.prove(("NQ", 2), fills=[fill], times=1)
    assert desk.route.ready


def test_the_refused_cancel_of_an_external_order_does_not_end_a_flatten():
    desk = DoubtDesk("b")
    desk.link_up("a", flatten=True)
    desk.signal()
    desk.fill(desk.only())
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.FLATTEN, platform="a", reason="r", by="ops", unproven=True))
    refused = m.Reject(code=RejectCode.CANCEL_REJECTED, text="gone", platform="a", account="acc")
    desk.give(e.AdapterSaid(message=refused))
    assert (bool(desk.route.flatten_sent_ns), desk.closings()) == (True, [])
