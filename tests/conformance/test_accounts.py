"""O30 to O39: what depends on the kind of account. R: the adapter's process dies in the middle."""

from __future__ import annotations

from decimal import Decimal

import pytest
from nexus_gateway.core import messages as m
from nexus_gateway.core.kill_file import KillEntry, add_kill, kill_file_path

from tests.conformance.rig import LIMITS
from tests.conformance.test_orders import executions, net, row_of
from tests.support.torture import rounds

ONE = Decimal(1)
DEEP = 500.0


def with_terms(order: m.Order, name: str, **terms: object) -> m.Order:
    values = {field: getattr(order, field) for field in m.Order.__struct_fields__}
    order_id = m.client_order_id(m.signal_key(name), 0, m.OrderRole.ENTRY, 0)
    return m.Order(**{**values, "client_order_id": order_id, **terms})


def test_o30_what_the_platform_cannot_is_refused_with_a_code(make_rig):
    rig = make_rig(order_types=["market", "limit"], times_in_force=["day"], replace=False, oco=False, reduce_only=False)
    gateway = rig.go()
    resting = gateway.place(symbol=rig.symbol, quantity=ONE, order_type=m.OrderType.LIMIT, limit_price=Decimal(17000))
    gateway.wait_state(resting, m.LegState.WORKING)
    stop = {"order_type": m.OrderType.STOP, "limit_price": None, "stop_price": Decimal(19000)}
    for terms, code in (
        (stop, m.RejectCode.UNSUPPORTED_TYPE),
        ({"time_in_force": m.TimeInForce.GTC}, m.RejectCode.UNSUPPORTED_TIF),
        ({"stop_loss": Decimal(16000)}, m.RejectCode.UNSUPPORTED_BRACKET),
        ({"oco_group": "g"}, m.RejectCode.UNSUPPORTED_BRACKET),
        ({"reduce_only": True}, m.RejectCode.UNSUPPORTED_TYPE),
        ({"close_ticket": "T1"}, m.RejectCode.UNSUPPORTED_TYPE),
    ):
        order = with_terms(resting, f"{terms}", **terms)
        gateway.send(order)
        gateway.wait_reject(order, code)
    gateway.replace(resting, quantity=Decimal(2))
    gateway.wait_reject(resting, m.RejectCode.UNSUPPORTED_REPLACE)
    listed = [row.client_order_id for row in gateway.snapshot().working_orders.rows]
    assert listed == [resting.client_order_id], "nothing of it reached the platform"


def test_o31_bracket_and_its_sibling(make_rig):
    rig = make_rig(brackets=True)
    gateway = rig.go()
    entry = gateway.place(symbol=rig.symbol, quantity=ONE, stop_loss=Decimal(17990), take_profit=Decimal(18010))
    gateway.wait_filled(entry, ONE)
    stop, target = (gateway.until(lambda kind=kind: child(gateway, entry, kind), f"its {kind}") for kind in "ST")
    assert (stop.stop_price, target.limit_price, stop.quantity) == (17990, 18010, ONE)
    rig.quote(18010, 18010.25)
    gateway.until(lambda: child(gateway, entry, "T").state is m.LegState.FILLED, "the target filled")
    gateway.until(lambda: child(gateway, entry, "S").state is m.LegState.CANCELLED, "the stop cancelled")
    assert net(gateway.snapshot(), rig.symbol) == 0


def test_o32_bracket_whose_sibling_is_late(make_rig):
    rig = make_rig(brackets=True)
    gateway = rig.go()
    rig.quote(18000, 18000.25, DEEP, DEEP)
    lots = rig.lots("late_sibling")
    entry = gateway.place(symbol=rig.symbol, quantity=lots, stop_loss=Decimal(17990), take_profit=Decimal(18010))
    gateway.wait_filled(entry, lots)
    gateway.until(lambda: child(gateway, entry, "T"), "its target")
    rig.quote(18010, 18010.25, DEEP, DEEP)
    gateway.until(lambda: child(gateway, entry, "T").state is m.LegState.FILLED, "the target filled")
    rig.quote(17990, 17990.25, DEEP, DEEP)
    gateway.until(lambda: child(gateway, entry, "S").state is m.LegState.FILLED, "the stop filled as well")
    assert net(gateway.snapshot(), rig.symbol) == -lots, "the account has turned over, and says so"


def test_o33_hedging_close_by_ticket(make_rig):
    rig = make_rig(mode="hedging")
    gateway = rig.go()
    assert gateway.hello.account_mode is m.AccountMode.HEDGING
    first = gateway.place(symbol=rig.symbol, quantity=Decimal(2))
    ticket = gateway.wait_filled(first, Decimal(2))[0].position_ticket
    assert ticket
    # Without a ticket the opposite order opens a second position.
    second = gateway.place(symbol=rig.symbol, quantity=ONE, side=m.Side.SELL)
    other = gateway.wait_filled(second, ONE)[0].position_ticket
    assert other != ticket
    rows = {row.ticket: row.quantity for row in gateway.snapshot().positions.rows}
    assert rows == {ticket: 2, other: -1}
    for lots in (ONE, ONE):
        out = gateway.place(
            symbol=rig.symbol, quantity=lots, side=m.Side.SELL, role=m.OrderRole.EXIT, close_ticket=ticket
        )
        assert gateway.wait_filled(out, lots)[0].position_ticket == ticket
    assert {row.ticket for row in gateway.snapshot().positions.rows} == {other}
    again = gateway.place(symbol=rig.symbol, quantity=ONE, side=m.Side.SELL, role=m.OrderRole.EXIT, close_ticket=ticket)
    gateway.wait_reject(again, m.RejectCode.PLATFORM_REJECTED)


def test_o34_position_closed_by_hand(make_rig):
    rig = make_rig(mode="hedging")
    gateway = rig.go()
    rig.quote(18000, 18000.25, DEEP, DEEP)
    order = gateway.place(symbol=rig.symbol, quantity=rig.lots("manual_close"))
    gateway.wait_filled(order, order.quantity)
    (foreign,) = gateway.until(lambda: [f for f in gateway.all(m.Fill) if not f.client_order_id], "the closing fill")
    assert foreign.position_ticket == gateway.fills(order)[0].position_ticket
    assert gateway.snapshot().positions.rows == ()


def test_o35_flatten(make_rig):
    rig = make_rig()
    gateway = rig.go()
    rig.quote(18000, 18000.25, DEEP, DEEP)
    held = gateway.place(symbol=rig.symbol, quantity=Decimal(2))
    gateway.wait_filled(held, Decimal(2))
    resting = gateway.place(symbol=rig.symbol, quantity=ONE, order_type=m.OrderType.LIMIT, limit_price=Decimal(17000))
    gateway.wait_state(resting, m.LegState.WORKING)
    gateway.flatten(not_after_s=-1.0)
    refused = gateway.until(lambda: gateway.all(m.Reject), "the refusal of a late flatten")
    assert refused[0].client_order_id == ""
    assert gateway.hello.capabilities is not None
    if not gateway.hello.capabilities.flatten:
        assert refused[0].code is m.RejectCode.UNSUPPORTED_TYPE
        assert "no flatten of its own" in refused[0].text
        snapshot = gateway.snapshot()
        assert net(snapshot, rig.symbol) == 2
        assert row_of(snapshot, resting).state is m.LegState.WORKING
        return
    assert refused[0].code is m.RejectCode.TOO_LATE_TO_SEND
    assert net(gateway.snapshot(), rig.symbol) == 2
    add_kill(kill_file_path(rig.run_folder), KillEntry(level=m.KillLevel.FLATTEN, reason="test", by="test", at_ns=1))
    gateway.flatten()
    gateway.wait_state(resting, m.LegState.CANCELLED)
    fills = gateway.until(lambda: [f for f in gateway.all(m.Fill) if not f.client_order_id], "the platform's own close")
    assert sum(fill.quantity * fill.side.sign for fill in fills) == -2
    snapshot = gateway.snapshot()
    assert snapshot.positions.rows == ()
    assert not [row for row in snapshot.working_orders.rows if not row.state.final]


def test_o36_a_gateway_that_sends_too_much_is_refused_by_the_adapter(make_rig):
    rig = make_rig()
    gateway = rig.go()
    lots = Decimal(LIMITS["max_order_lots"] + 1)
    for role in (m.OrderRole.ENTRY, m.OrderRole.EXIT):  # nothing is held that the exit could close
        order = gateway.place(symbol=rig.symbol, quantity=lots, role=role)
        gateway.wait_reject(order, m.RejectCode.ADAPTER_LIMIT)
    assert rig.counters()["commands_over_limit"] == 2
    snapshot = gateway.snapshot()
    assert (snapshot.working_orders.rows, net(snapshot, rig.symbol)) == ((), 0), "nothing of it reached the platform"


@pytest.mark.parametrize(
    ("scenario", "accepted", "traded"),
    [("death_before_accept", False, False), ("death_after_accept", True, False), ("death_after_fill", True, True)],
)
def test_r01_death_in_the_middle(make_rig, scenario, accepted, traded):
    rig = make_rig()
    gateway = rig.go()
    rig.quote(18000, 18000.25, DEEP, DEEP)
    order = (
        gateway.place(symbol=rig.symbol, quantity=rig.lots(scenario), limit_price=Decimal(18000), **LIMIT)
        if (not traded)
        else gateway.place(symbol=rig.symbol, quantity=rig.lots(scenario))
    )
    assert rig.wait_exit() not in (0, 2), "it is restarted"
    assert not gateway.fills(order)
    rig.start_adapter()
    gateway.wait_linked(2)
    snapshot = gateway.snapshot()
    row = row_of(snapshot, order)
    assert (row is not None) == accepted
    assert sum(fill.quantity for fill in executions(snapshot, order)) == (order.quantity if traded else 0)
    if accepted:
        # The same order again: known from the platform, and not placed a second time.
        gateway.send(order)
        gateway.wait_state(order, m.LegState.FILLED if traded else m.LegState.WORKING)
        gateway.listen()
        after = gateway.snapshot()
        assert len(after.working_orders.rows) == len(snapshot.working_orders.rows)
        assert net(after, rig.symbol) == net(snapshot, rig.symbol)


@rounds(4, 20)
def test_r02_killed_again_and_again_while_trading(make_rig, rounds):
    rig = make_rig()
    gateway = rig.go()
    placed = []
    for number in range(rounds):
        rig.quote(18000, 18000.25, DEEP, DEEP)
        placed += [gateway.place(symbol=rig.symbol, quantity=ONE) for _ in range(1 + number % 4)]
        gateway.listen(0.002 * (number % 5))
        rig.kill_adapter()
        rig.start_adapter()
        gateway.wait_linked(number + 2)
    snapshot = gateway.snapshot()
    filled = sum(fill.quantity for fill in snapshot.executions.rows)
    assert net(snapshot, rig.symbol) == filled
    assert len({fill.exec_id for fill in snapshot.executions.rows}) == len(snapshot.executions.rows)
    known = {fill.exec_id for fill in snapshot.executions.rows}
    assert {fill.exec_id for fill in gateway.all(m.Fill)} <= known, "what was told is true after the crash, too"
    for order in placed:
        assert sum(fill.quantity for fill in executions(snapshot, order)) <= ONE


LIMIT = {"order_type": m.OrderType.LIMIT}


def child(gateway, entry: m.Order, role: str) -> m.OrderUpdate | None:
    """The newest word on the stop (S) or target (T) of an entry."""
    key = m.find_client_order_id(entry.client_order_id).key
    for update in reversed(gateway.all(m.OrderUpdate)):
        parts = m.find_client_order_id(update.client_order_id)
        if parts is not None and (parts.key, parts.role.value) == (key, role):
            return update
    return None
