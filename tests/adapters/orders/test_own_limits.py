"""The adapter's own limits: they hold against a gateway that sends too much, and never against what closes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from nexus_gateway.adapters.order_settings import split_settings
from nexus_gateway.adapters.orders.own_limits import LimitSettings
from nexus_gateway.core import messages as m
from nexus_gateway.core.errors import ConfigError

from tests.adapters.orders.test_channel import ACCOUNT, EVERYTHING, Bench, cancel, order, update
from tests.support.feeds import close_feed

LIMITS = LimitSettings(max_order_lots=Decimal(3), max_orders_per_s=4, max_position_lots=Decimal(5))
BUY, SELL = m.Side.BUY, m.Side.SELL
EXIT, STOP, TARGET = m.OrderRole.EXIT, m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT


class Floor(Bench):
    """A bench whose limits are small, with a platform that fills and lists what the test says."""

    def __init__(self, folder: Any, account: Any = ACCOUNT, **abilities: Any) -> None:
        self.held: dict[str, Decimal] = {}
        self.listed = True
        self.fills = 0
        super().__init__(folder, limits=LIMITS)
        self.adapter.account = account
        self.adapter.capabilities = msgspec.structs.replace(EVERYTHING, **abilities)
        take = self.adapter.snapshot
        self.adapter.snapshot = lambda request: self._snapshot(take(request))  # type: ignore[method-assign]
        self.go()

    def _snapshot(self, empty: m.Snapshot) -> m.Snapshot:
        rows = tuple(
            m.Position(symbol="NQ", quantity=lots, ticket=ticket) for ticket, lots in self.held.items() if lots
        )
        positions = msgspec.structs.replace(empty.positions, rows=rows, complete=self.listed)
        return msgspec.structs.replace(empty, positions=positions)

    def look(self) -> None:
        self.hear(m.SnapshotRequest(request_id=1, platform="nt8", account=self.adapter.account.name))

    def send(self, name: str, lots: int, side: m.Side = BUY, role: Any = m.OrderRole.ENTRY, **terms: Any) -> str:
        """Send an order; its code, "" when the platform was given it."""
        sent = order(name, role, side=side, quantity=Decimal(lots), **terms)
        answers = self.hear(sent)
        assert (sent in self.adapter.executed) is not bool(answers)
        self.now_s += 1
        return answers[0].code.value if answers else ""

    def fill(self, name: str, lots: int, side: m.Side = BUY, role: Any = m.OrderRole.ENTRY, ticket: str = "") -> m.Fill:
        self.fills += 1
        fill = m.Fill(
            platform="nt8",
            account=self.adapter.account.name,
            exec_id=f"E{self.fills}",
            client_order_id=order(name, role).client_order_id,
            symbol="NQ",
            side=side,
            quantity=Decimal(lots),
            price=Decimal(18000),
            ts_event_ns=1,
            position_ticket=ticket,
        )
        self.held[ticket] = self.held.get(ticket, Decimal(0)) + side.sign * lots
        self.say(fill)
        return fill

    def end(self, name: str, state: m.LegState, filled: int, lots: int = 1, role: Any = m.OrderRole.ENTRY) -> None:
        self.say(update(order(name, role, quantity=Decimal(lots)), state, filled=Decimal(filled)))

    def replace(self, name: str, lots: int, role: Any = m.OrderRole.ENTRY, revision: int = 1) -> str:
        sent = m.Replace(
            client_order_id=order(name, role).client_order_id,
            platform="nt8",
            account="A1",
            symbol="NQ",
            revision=revision,
            quantity=Decimal(lots),
        )
        answers = self.hear(sent)
        assert (sent in self.adapter.executed) is not bool(answers)
        self.now_s += 1
        if not answers:
            return ""
        assert answers[0].code is m.RejectCode.REPLACE_REJECTED, "any other code would end the order, which works on"
        return answers[0].text.partition(":")[0]


@pytest.fixture
def floor(tmp_path):
    floor = Floor(tmp_path)
    yield floor
    close_feed(floor.feed)


def test_an_order_above_the_largest_is_refused_named_and_counted(floor):
    (reject,) = floor.hear(order("s", quantity=Decimal(4)))
    assert reject.code is m.RejectCode.ADAPTER_LIMIT
    assert reject.text == (
        "the order was 4 lots, nt8's adapter passes at most 3; "
        "if that is meant, raise settings.limits.max_order_lots of the platform"
    )
    assert floor.adapter.executed == []
    assert floor.count("commands_over_limit") == floor.count("commands_refused") == 1
    assert floor.send("s", 3) == "", "refused is not placed"


def test_a_position_is_counted_with_what_is_in_flight_and_what_has_filled(floor):
    assert floor.send("a", 3) == ""
    assert floor.send("b", 3) == "adapter_limit", "3 in flight and 3 more are 6 of at most 5"
    assert floor.send("c", 2) == ""
    floor.fill("a", 3)
    floor.end("a", m.LegState.FILLED, 3, 3)
    assert floor.send("d", 1) == "adapter_limit", "3 held and 2 in flight"
    floor.end("c", m.LegState.CANCELLED, 0, 2)
    assert floor.send("e", 2) == ""
    assert floor.send("f", 3, SELL) == "", "the other direction has room"
    assert floor.send("g", 3, SELL) == "", "held 3 long, so 6 sold leave 3 short"
    assert floor.send("h", 3, SELL) == "adapter_limit"
    assert floor.count("commands_over_limit") == 3


def test_an_order_that_has_ended_counts_until_its_executions_have_come(floor):
    floor.send("a", 3)
    floor.end("a", m.LegState.FILLED, 3, 3)
    assert floor.send("b", 3) == "adapter_limit", "3 lots are filled, their execution is on its way"
    floor.fill("a", 3)
    assert floor.send("c", 3) == "adapter_limit"
    assert floor.send("d", 2) == ""


def test_an_ended_order_whose_executions_never_come_counts_until_the_positions_are_listed(tmp_path):
    floor = Floor(tmp_path, lists_orders=False, executions_history=False)
    floor.send("a", 3)
    floor.end("a", m.LegState.FILLED, 3, 3)
    floor.listed = False
    floor.look()
    assert floor.send("b", 3) == "adapter_limit"
    floor.listed = True
    floor.look()
    assert floor.send("c", 3) == ""
    close_feed(floor.feed)


def test_the_same_execution_counts_once_and_a_bust_takes_it_back(floor):
    floor.send("a", 3)
    fill = floor.fill("a", 3)
    floor.say(fill)
    floor.end("a", m.LegState.FILLED, 3, 3)
    assert floor.send("b", 2) == ""
    floor.end("b", m.LegState.CANCELLED, 0, 2)
    bust = m.Correction(platform="nt8", account="A1", exec_id=fill.exec_id, kind=m.CorrectionKind.BUST, revision=1)
    floor.say(bust)
    floor.say(bust)
    assert floor.send("c", 3) == ""
    assert floor.send("d", 2) == ""
    assert floor.send("e", 1) == "adapter_limit"


def test_the_gateways_word_changes_nothing_a_snapshot_does(floor):
    floor.held[""] = Decimal(5)  # traded by hand, and not told
    assert floor.send("a", 1) == ""
    floor.end("a", m.LegState.CANCELLED, 0)
    floor.look()
    assert floor.send("b", 1) == "adapter_limit"
    floor.held[""] = Decimal(0)
    floor.listed = False
    floor.look()
    assert floor.send("c", 1) == "adapter_limit", "an incomplete list proves nothing"
    floor.listed = True
    floor.look()
    assert floor.send("d", 1) == ""


def test_an_order_that_the_platform_does_not_list_counts_until_the_second_snapshot_without_it(floor):
    floor.send("a", 3)
    floor.look()
    assert floor.send("b", 3) == "adapter_limit"
    floor.look()
    assert floor.send("c", 3) == ""


def test_what_closes_is_held_back_neither_by_rate_nor_by_size_nor_by_position(floor):
    floor.held[""] = Decimal(20)
    floor.look()
    for number in range(6):
        assert floor.hear(cancel(order(f"c{number}"))) == []
    for number in range(4):  # all in one second, each larger than an entry may be
        assert floor.hear(order(f"x{number}", EXIT, side=SELL, quantity=Decimal(5))) == []
    stop = order("stop", STOP, side=SELL, quantity=Decimal(20), order_type=m.OrderType.STOP, stop_price=Decimal(1))
    target = order("t", TARGET, side=SELL, quantity=Decimal(20), order_type=m.OrderType.LIMIT, limit_price=Decimal(9))
    assert floor.hear(stop, target) == [], "of a stop, a target and an exit only one fills"
    (refused,) = floor.hear(order("entry"))
    assert refused.code is m.RejectCode.ADAPTER_LIMIT
    assert "were sent in the last second" in refused.text


@pytest.mark.parametrize("role", [EXIT, STOP, TARGET])
def test_an_order_that_only_claims_to_close_is_judged_by_the_adapters_own_count(floor, role):
    # The doubling exits of a gateway whose books have the wrong side: nothing is held that they could close.
    terms = {"order_type": m.OrderType.STOP, "stop_price": Decimal(1)}
    assert floor.send("x1", 3, SELL, role, **terms) == ""
    assert floor.send("x2", 2, SELL, role, **terms) == "", "within what an entry might open"
    assert floor.send("x3", 1, SELL, role, **terms) == "adapter_limit"
    floor.fill("x1", 3, SELL, role)
    assert floor.send("x4", 1, SELL, role, **terms) == "adapter_limit"
    assert floor.send("x5", 4, SELL, role, **terms) == "adapter_limit"


def test_reduce_only_is_a_claim_like_any_other(tmp_path):
    floor = Floor(tmp_path, reduce_only=True)
    floor.held[""] = Decimal(2)
    floor.look()
    assert floor.send("a", 2, SELL, reduce_only=True) == ""
    assert floor.send("b", 4, SELL, reduce_only=True) == "adapter_limit"
    close_feed(floor.feed)


def test_exits_of_a_kind_close_together_what_is_held_and_then_count_as_opening(floor):
    floor.held[""] = Decimal(10)
    floor.look()
    assert [floor.send(f"x{number}", 5, SELL, EXIT) for number in range(3)] == ["", "", "adapter_limit"]
    assert floor.send("y1", 3, SELL, EXIT) == ""
    assert floor.send("y2", 3, SELL, EXIT) == "adapter_limit", "10 held, 13 in flight: 6 short of at most 5"


def test_orders_in_a_second_are_bounded(floor):
    codes = [floor.hear(order(f"s{number}", quantity=Decimal(1))) for number in range(5)]
    assert [len(answers) for answers in codes] == [0, 0, 0, 0, 1]
    floor.now_s += 0.99
    assert len(floor.hear(order("early"))) == 1
    floor.now_s += 0.02
    assert floor.hear(order("next")) == []


def test_a_replace_is_judged_by_what_it_adds(floor):
    floor.send("a", 2)
    assert floor.replace("a", 4) == "adapter_limit"
    assert floor.replace("a", 3) == ""
    assert floor.send("b", 3) == "adapter_limit", "2 or 3 lots: the replace is not answered"
    floor.say(update(order("a", quantity=Decimal(3)), replace_revision=1))
    assert floor.send("c", 2) == ""
    assert floor.replace("c", 3) == "adapter_limit"
    assert floor.replace("c", 1, revision=2) == ""
    no = m.Reject(
        code=m.RejectCode.REPLACE_REJECTED,
        text="no",
        client_order_id=order("c").client_order_id,
        platform="nt8",
        account="A1",
        replace_revision=2,
    )
    floor.say(no)
    assert floor.send("d", 1) == "adapter_limit", "the order has its 2 lots still"
    assert [floor.replace("a", 3, revision=revision) for revision in (3, 4, 5)] == ["", "", ""]


def test_replaces_of_an_entry_are_bounded_in_a_second_those_of_a_stop_are_not(floor):
    floor.held[""] = Decimal(3)
    floor.look()
    terms = {"order_type": m.OrderType.STOP, "stop_price": Decimal(1)}
    floor.send("a", 1)
    floor.send("stop", 3, SELL, STOP, **terms)
    made = [
        m.Replace(
            client_order_id=each.client_order_id,
            platform="nt8",
            account="A1",
            symbol="NQ",
            revision=revision,
            quantity=each.quantity,
        )
        for each in (order("a"), order("stop", STOP, quantity=Decimal(3)))
        for revision in range(1, 7)
    ]
    answers = floor.hear(*made)
    assert [(each.client_order_id, each.replace_revision) for each in answers] == [
        (order("a").client_order_id, 5),
        (order("a").client_order_id, 6),
    ]


def test_a_hedging_account_counts_each_direction_and_closes_by_ticket(tmp_path):
    account = msgspec.structs.replace(ACCOUNT, mode=m.AccountMode.HEDGING)
    floor = Floor(tmp_path, account, close_by_ticket=True)
    floor.held.update({"T1": Decimal(4), "T2": Decimal(-5)})
    floor.look()
    assert floor.send("a", 1, SELL) == "adapter_limit", "5 short already: the long ticket does not make room"
    assert floor.send("b", 1) == ""
    assert floor.send("c", 1) == "adapter_limit"
    assert floor.send("x", 4, SELL, EXIT, close_ticket="T1") == ""
    assert floor.send("y", 1, SELL, EXIT, close_ticket="T1") == "adapter_limit", (
        "a second close opens a sixth lot short"
    )
    floor.fill("x", 4, SELL, EXIT, "T1")
    floor.end("x", m.LegState.FILLED, 4, 4, EXIT)
    assert floor.send("d", 3) == "", "the long ticket is closed"
    assert floor.send("z", 1, SELL, EXIT) == "adapter_limit", "without a ticket it opens"
    close_feed(floor.feed)


def test_a_platform_that_cannot_list_positions_is_counted_by_its_executions(tmp_path):
    floor = Floor(tmp_path, lists_positions=False)
    floor.send("a", 3)
    floor.fill("a", 3)
    floor.end("a", m.LegState.FILLED, 3, 3)
    floor.held.clear()
    floor.look()
    assert floor.send("b", 3) == "adapter_limit"
    assert floor.send("x", 3, SELL, EXIT) == ""
    close_feed(floor.feed)


def test_a_new_account_begins_a_count_of_its_own(floor):
    floor.send("a", 3)
    floor.fill("a", 3)
    floor.held.clear()
    floor.channel.platform_down()
    floor.adapter.account = msgspec.structs.replace(ACCOUNT, name="A2")
    floor.channel.platform_up()
    assert floor.send("b", 3, account="A2") == ""
    assert floor.send("c", 2, account="A2") == ""


def test_the_limits_are_settings_of_each_platform():
    shared, own = split_settings({"limits": {"max_order_lots": 2, "max_position_lots": "0.5"}}, "nt8")
    assert own == {}
    assert shared.limits == LimitSettings(max_order_lots=Decimal(2), max_position_lots=Decimal("0.5"))
    assert shared.limits.max_orders_per_s == 100
    for limits, text in (
        ({"max_order_lots": 0}, "max_order_lots must be above zero, was 0"),
        ({"max_position_lots": "1e400"}, "max_position_lots was .1e400., must have at most 12 decimals and lie within"),
        ({"max_orders_per_s": 0}, "max_orders_per_s was 0, must be a whole number at least 1"),
        ({"max_orders_per_s": None}, "max_orders_per_s was null"),
        ({"max_orders": 1}, "did you mean"),
    ):
        with pytest.raises(ConfigError, match=text):
            split_settings({"limits": limits}, "nt8")
