"""An account is named, not guessed: of several linked ones a signal must name its own."""

from __future__ import annotations

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m

from tests.support.orders import Desk


def link(desk: Desk, account: str) -> None:
    hello = m.Hello(
        role=m.Role.ADAPTER,
        name="a",
        boot_id="b1",
        platform="a",
        account=account,
        capabilities=m.Capabilities(order_types=tuple(m.OrderType), times_in_force=tuple(m.TimeInForce), brackets=True),
    )
    desk.give(e.LinkUp(hello=hello))
    of = {"platform": "a", "account": account}
    empty = m.Snapshot(
        request_id=desk.engine.state.routes[f"a|{account}"].request_id,
        positions=m.Positions(**of, rows=()),
        working_orders=m.WorkingOrders(**of, rows=()),
        executions=m.Executions(**of, rows=()),
        **of,
    )
    desk.give(e.AdapterSaid(message=empty))


def leg(desk: Desk) -> m.LegReport:
    return desk.report().legs[0]


def unlink(desk: Desk, account: str) -> None:
    desk.give(e.LinkDown(platform="a", account=account))


@pytest.mark.parametrize("accounts", [("LIVE-1", "DEMO-2"), ("DEMO-2", "LIVE-1")])
@pytest.mark.parametrize("reduce_only", [False, True])
def test_of_two_linked_accounts_none_is_guessed(accounts, reduce_only):
    desk = Desk("b")
    for account in accounts:
        link(desk, account)
    desk.signal("a", reduce_only=reduce_only, bracket=None)
    assert leg(desk).code is m.RejectCode.ACCOUNT_AMBIGUOUS
    assert leg(desk).text == (
        f"target 0 names no account of a, where {', '.join(accounts)} are linked; "
        "name one of them in the signal's target"
    )
    assert desk.orders == {}


def test_the_one_that_is_named_trades_and_so_does_the_only_one_that_is_linked():
    desk = Desk("b")
    link(desk, "LIVE-1")
    link(desk, "DEMO-2")
    desk.signal("a", signal_id="named", targets=(m.Target(platform="a", account="LIVE-1"),))
    unlink(desk, "LIVE-1")
    desk.signal("a", signal_id="alone")
    assert [order.account for order in desk.orders.values()] == ["LIVE-1", "DEMO-2"]


def test_where_none_is_linked_the_newest_known_one_is_meant_and_is_not_ready():
    desk = Desk("b")
    link(desk, "LIVE-1")
    link(desk, "DEMO-2")
    unlink(desk, "LIVE-1")
    unlink(desk, "DEMO-2")
    desk.signal("a")
    assert (leg(desk).account, leg(desk).code) == ("DEMO-2", m.RejectCode.PLATFORM_NOT_READY)
