"""Stops and targets of the gateway's own: in pairs, resized, placed again, measured (design: exits, rules 5, 6, 12)."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.messages import LegState, OrderRole, RejectCode

from tests.support.orders import Desk

BOTH = m.Bracket(stop_loss=D(20990), take_profit=D(21010))
STOP, TARGET = OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT
HOUR_MS = 3_600_000


class PairingDesk(Desk):
    """A platform on which a filled or cancelled order ends all others of its OCO group, whose id is then refused for
    ever, as NinjaTrader does it.
    """

    def __init__(self, **able: object) -> None:
        super().__init__("b", settings=e.EngineSettings(client_order_id_chars=22, await_brackets=True))
        self.dead_groups: set[str] = set()
        self.refused: list[str] = []
        self.answered: set[str] = set()
        self.link_up("a", **({"brackets": False, "oco": True} | able))

    def live(self, role: OrderRole) -> list[m.Order]:
        state = self.engine.state
        found = [each for each in self.orders.values() if m.find_client_order_id(each.client_order_id).role is role]
        return [each for each in found if state.orders[each.client_order_id].live]

    def lots(self, role: OrderRole) -> D:
        return sum((self.engine.state.orders[each.client_order_id].leaves_qty for each in self.live(role)), D(0))

    def serve(self) -> None:
        """Answer every stop, target, cancel and replace that is on its way, until nothing is."""
        before = -1
        while len(self.all_effects) != before:
            before = len(self.all_effects)
            for role in (STOP, TARGET):
                for order in self.live(role):
                    self._serve(order)

    def _serve(self, order: m.Order) -> None:
        record = self.engine.state.orders[order.client_order_id]
        if record.state is LegState.SENT and order.oco_group in self.dead_groups:
            self.refused.append(order.oco_group)
            self.reject(order)
            return
        if record.state is LegState.SENT:
            self.update(order)
        if record.cancel_wanted:
            self.finish(order, LegState.CANCELLED)
        elif record.replace is not None:
            size, revision = record.replace.quantity, record.replace.revision
            self.update(order, filled=record.cum_qty, quantity=size, replace_revision=revision)

    def finish(self, order: m.Order, state: LegState) -> None:
        record = self.engine.state.orders[order.client_order_id]
        self.update(order, state, filled=record.cum_qty, quantity=record.quantity)
        if order.oco_group and order.oco_group not in self.dead_groups:
            self.dead_groups.add(order.oco_group)
            for role in (STOP, TARGET):
                for each in self.live(role):
                    if each.oco_group == order.oco_group:
                        self.finish(each, LegState.CANCELLED)

    def trade(self, order: m.Order, lots: int | None = None) -> None:
        record = self.engine.state.orders[order.client_order_id]
        size = record.leaves_qty if lots is None else D(lots)
        self.fill(order, size)
        if not self.engine.state.orders[order.client_order_id].live:
            self.finish(order, LegState.FILLED)


@pytest.mark.parametrize("can_replace", [True, False])
def test_the_first_targets_fill_leaves_stop_and_target_for_what_is_still_held(can_replace):
    """Finding A2 of the foreign bridge: one group for ever. All stops went, new ones were refused, 3 lots were sold."""
    desk = PairingDesk(replace=can_replace)
    desk.signal("a", quantity=D(4), bracket=BOTH)
    entry = desk.only()
    desk.update(entry)
    for _ in range(4):
        desk.fill(entry, 1)
        desk.serve()
    assert (desk.lots(STOP), desk.lots(TARGET)) == (4, 4)
    assert len(desk.live(STOP)) == (1 if can_replace else 4)
    desk.trade(desk.live(TARGET)[0], 1)
    desk.serve()
    assert (desk.position(), desk.lots(STOP), desk.lots(TARGET)) == (3, 3, 3)
    assert not desk.refused
    assert desk.report().legs[0].unprotected_since_ns == 0


def test_each_pair_is_one_stop_and_one_target_of_one_size_under_an_id_of_its_own():
    desk = PairingDesk(replace=False)
    desk.signal("a", quantity=D(3), bracket=BOTH)
    entry = desk.only()
    desk.fill(entry, 2)
    desk.serve()
    desk.fill(entry, 1)
    desk.serve()
    groups: dict[str, list[tuple[OrderRole, D]]] = {}
    for order in desk.orders.values():
        if order.oco_group:
            role = m.find_client_order_id(order.client_order_id).role
            groups.setdefault(order.oco_group, []).append((role, order.quantity))
    assert sorted(groups.values(), key=str) == [[(STOP, 1), (TARGET, 1)], [(STOP, 2), (TARGET, 2)]]
    assert [each.rsplit(".", 1)[1] for each in groups] == ["0", "1"]  # the numbers of their stops


def test_a_pair_that_a_person_has_ended_comes_back_under_the_next_generation():
    desk = PairingDesk()
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    desk.serve()
    first = desk.live(STOP)[0]
    desk.finish(first, LegState.CANCELLED)
    desk.serve()
    second = desk.live(STOP)[0]
    assert (desk.lots(STOP), desk.lots(TARGET)) == (2, 2)
    assert second.oco_group == desk.live(TARGET)[0].oco_group != first.oco_group
    assert not desk.refused


def test_a_stop_that_the_platform_cancels_for_its_targets_fill_is_not_placed_again_before_that_fill_arrives():
    desk = PairingDesk()
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    desk.serve()
    desk.update(desk.live(STOP)[0], LegState.CANCELLED)
    assert not desk.live(STOP)
    desk.trade(desk.live(TARGET)[0])
    desk.wait(2_000)
    assert not desk.live(STOP)


def test_a_stop_whose_sibling_lives_on_is_placed_again_after_the_wait():
    desk = PairingDesk()
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    desk.serve()
    desk.update(desk.live(STOP)[0], LegState.CANCELLED)
    desk.wait(2_000)
    assert desk.lots(STOP) == 2


def test_without_oco_the_gateway_cancels_the_sibling_itself():
    desk = PairingDesk(oco=False)
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    desk.serve()
    assert {each.oco_group for each in desk.orders.values()} == {""}
    stop = desk.live(STOP)[0]
    desk.trade(desk.live(TARGET)[0])
    assert desk.engine.state.orders[stop.client_order_id].cancel_wanted
    desk.serve()
    assert not desk.live(STOP)


def test_a_stop_does_not_wait_out_the_pause_of_a_target_that_was_refused():
    """Three refused targets pause a minute. The stop that the platform then cancelled waited for that minute, too."""
    desk = PairingDesk(oco=False)
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    for _ in range(3):
        desk.reject(desk.live(TARGET)[0])
        desk.update(desk.live(STOP)[0], LegState.CANCELLED)
    assert not desk.live(TARGET)  # a minute, after three refusals
    assert not desk.live(STOP)  # a second, after three that did not stand
    desk.wait(1_500)
    assert desk.lots(STOP) == 2


def test_stop_and_target_that_were_refused_one_after_the_other_come_back_as_a_pair():
    desk = PairingDesk()
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    target = desk.live(TARGET)[0]
    desk.reject(desk.live(STOP)[0], RejectCode.PLATFORM_NOT_READY)
    desk.now_ns += 3_000_000
    desk.reject(target, RejectCode.PLATFORM_NOT_READY)
    desk.wait(997)  # the stop is due, the target 3 ms later
    (stop,), (target,) = desk.live(STOP), desk.live(TARGET)
    assert stop.oco_group == target.oco_group != ""


def test_a_target_waits_for_its_stop_that_is_lacking_too_so_that_both_are_a_pair():
    """The stop is refused for a second, and the platform cancels the target that worked with it."""
    desk = PairingDesk()
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    desk.update(desk.live(TARGET)[0])
    desk.reject(desk.live(STOP)[0], RejectCode.PLATFORM_NOT_READY)
    desk.update(desk.live(TARGET)[0], LegState.CANCELLED)
    assert not desk.live(TARGET)
    desk.wait(1_100)
    (stop,), (target,) = desk.live(STOP), desk.live(TARGET)
    assert stop.oco_group == target.oco_group != ""


def test_refused_stops_that_were_mended_hours_apart_do_not_add_up_to_a_close():
    desk = PairingDesk(oco=False)
    desk.signal("a")
    desk.fill(desk.only())
    for _ in range(5):
        desk.reject(desk.live(STOP)[0])  # refused once, accepted at the second try
        desk.serve()
        desk.now_ns += HOUR_MS * 1_000_000
        desk.finish(desk.live(STOP)[0], LegState.CANCELLED)  # a person cancels it, hours later
    assert desk.lots(STOP) == 2
    assert not desk.live(OrderRole.EXIT)


def test_three_stops_refused_in_a_row_close_the_leg_and_three_targets_do_not():
    desk = PairingDesk(oco=False)
    desk.signal("a", bracket=BOTH)
    desk.fill(desk.only())
    for stop in desk.live(STOP):
        desk.update(stop)
    for _ in range(10):
        for target in desk.live(TARGET):
            desk.reject(target)
        desk.wait(20_000)
        desk.snapshot(orders=[desk.row(each) for each in desk.live(STOP)], positions=[("NQ", 2)], from_ns=desk.now_ns)
    assert not desk.live(OrderRole.EXIT)
    tried = [each for each in desk.orders.values() if m.find_client_order_id(each.client_order_id).role is TARGET]
    assert 4 <= len(tried) <= 8  # at most one a minute, once three were refused
    other = PairingDesk(oco=False)
    other.signal("a", bracket=BOTH)
    other.fill(other.only())
    for _ in range(3):
        other.reject(other.live(STOP)[0])
    other.serve()
    assert other.only(role=OrderRole.EXIT).quantity == 2


def test_a_replace_that_is_refused_is_not_sent_again_and_a_further_stop_takes_the_new_lots():
    desk = PairingDesk(oco=False)
    desk.signal("a", quantity=D(3))
    entry = desk.only()
    desk.fill(entry, 1)
    desk.serve()
    desk.fill(entry, 1)
    stop = desk.live(STOP)[0]
    desk.reject(stop, RejectCode.REPLACE_REJECTED, replace_revision=1, platform="a", account="acc")
    desk.serve()
    desk.fill(entry, 1)
    desk.serve()
    assert desk.lots(STOP) == 3
    assert sum(isinstance(x.message, m.Replace) for x in desk.all_effects if isinstance(x, e.SendToPlatform)) <= 2


def test_the_time_without_a_stop_is_measured_and_its_reason_shown():
    desk = PairingDesk(oco=False, stops_at=m.StopPlace.EXCHANGE)
    desk.signal("a")
    desk.fill(desk.only())
    since = desk.report().legs[0].unprotected_since_ns
    assert since == desk.now_ns
    desk.now_ns += 30_000_000
    desk.serve()
    leg = desk.report().legs[0]
    assert (leg.unprotected_since_ns, leg.unprotected_ms, leg.stop_at) == (0, 30, m.StopPlace.EXCHANGE)
    desk.finish(desk.live(STOP)[0], LegState.CANCELLED)
    desk.reject(desk.live(STOP)[0])
    leg = desk.report().legs[0]
    assert (leg.unprotected_since_ns > 0, leg.unprotected_ms) == (True, 30)


def test_a_platforms_own_stop_that_was_cancelled_for_a_refused_close_is_kept_by_the_gateway_from_then_on():
    desk = PairingDesk(brackets=True)
    desk.signal("a")
    entry = desk.only()
    desk.fill(entry)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, STOP, 0)
    terms = {"client_order_id": stop_id, "side": m.Side.SELL, "order_type": m.OrderType.STOP, "stop_price": D(20990)}
    desk.update(entry, **terms)
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.update(entry, LegState.CANCELLED, **terms)
    desk.reject(desk.only(role=OrderRole.EXIT))
    (stop,) = desk.live(STOP)
    assert (stop.quantity, stop.stop_price) == (2, D(20990))
    assert desk.report().legs[0].protection is m.Protection.GATEWAY


def test_cancel_all_ends_the_stops_as_commanded_and_flatten_does_not_before_it_can_close():
    desk = PairingDesk(oco=False)
    desk.signal("a")
    desk.fill(desk.only())
    desk.serve()
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.CANCEL_ALL, reason="x", by="me", own_only=True))
    desk.serve()
    assert not desk.live(STOP)
    desk.ask(m.Kill(request_id=2, level=m.KillLevel.FLATTEN, reason="x", by="me", own_only=True))
    desk.reject(desk.only(role=OrderRole.EXIT))
    desk.serve()
    assert desk.lots(STOP) == 2  # its closing order was refused: until the next one it stands again


@pytest.mark.parametrize("can_replace", [True, False])
def test_a_platforms_own_stop_shrinks_when_a_reduce_only_order_has_closed_lots_under_it(can_replace):
    """The platform does not follow it: the stop stood for the lots that were gone, and would have opened others."""
    desk = PairingDesk(brackets=True, replace=can_replace)
    desk.signal("a")
    entry = desk.only()
    desk.fill(entry)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, STOP, 0)
    terms = {"client_order_id": stop_id, "side": m.Side.SELL, "order_type": m.OrderType.STOP, "stop_price": D(20990)}
    desk.update(entry, **terms)
    desk.signal("a", signal_id="out", side=m.Side.SELL, quantity=D(1), reduce_only=True, bracket=None)
    desk.fill(desk.only())
    sent = [x.message for x in desk.all_effects if isinstance(x, e.SendToPlatform)]
    if can_replace:
        assert [(x.client_order_id, x.quantity) for x in sent if isinstance(x, m.Replace)] == [(stop_id, 1)]
        return
    assert [x.client_order_id for x in sent if isinstance(x, m.Cancel)] == [stop_id]
    desk.update(entry, LegState.CANCELLED, **terms)
    assert [order.quantity for order in desk.live(STOP)] == [1]


def test_a_close_right_after_the_fill_waits_for_the_stop_that_the_platform_has_not_reported_yet():
    """The stop works at the platform already: a closing order beside it could fill for the same lots."""
    desk = PairingDesk(brackets=True)
    desk.signal("a")
    entry = desk.only()
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(entry)
    stop_id = m.client_order_id(m.signal_key("s1"), 0, STOP, 0)
    terms = {"client_order_id": stop_id, "side": m.Side.SELL, "order_type": m.OrderType.STOP, "stop_price": D(20990)}
    desk.update(entry, LegState.FILLED, 2)
    assert list(desk.orders.values()) == [entry]
    desk.update(entry, **terms)
    assert list(desk.orders.values()) == [entry]
    desk.update(entry, LegState.CANCELLED, **terms)
    assert desk.only(role=OrderRole.EXIT).quantity == 2


def test_a_close_does_not_wait_longer_for_a_stop_that_the_platform_never_reports():
    desk = PairingDesk(brackets=True)
    desk.signal("a")
    desk.ask(m.SignalClose(signal_id="s1"))
    desk.fill(desk.only())
    desk.wait(1_000)
    assert desk.only(role=OrderRole.EXIT).quantity == 2
