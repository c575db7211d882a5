"""What a paper account forgets, and what it must not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.adapters.paper.store import PaperStore
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import convert_settings
from nexus_gateway.core.errors import ConfigError

from tests.support.paper import PaperDesk

D = Decimal
DAY_MS = 86_400_000


def trade_days(desk: PaperDesk, days: int) -> list[m.Order]:
    """A day's worth of one lot bought each, at rising prices."""
    orders = []
    for day in range(days):
        desk.quote(100 + day, 100.25 + day)
        orders.append(desk.place())
        desk.wait(DAY_MS)
    return orders


@pytest.mark.parametrize("mode", ["netting", "hedging"])
def test_old_orders_and_executions_go_and_positions_and_money_stay(tmp_path, mode):
    forgets, keeps = PaperDesk(mode=mode, keep_days=8), PaperDesk(mode=mode, keep_days=None)
    store = PaperStore(tmp_path / "paper")
    for desk in (forgets, keeps):
        trade_days(desk, 20)
    assert len(keeps.book.orders) == len(keeps.book.executions) == 20
    assert 8 <= len(forgets.book.orders) == len(forgets.book.executions) <= 9
    for desk in (forgets, keeps):
        assert desk.net() == 20
    ids = lambda desk: [(p.quantity, p.cost, p.contract) for p in desk.book.positions.values()]  # noqa: E731
    assert ids(forgets) == ids(keeps)
    assert forgets.book.funds.balance == keeps.book.funds.balance
    store.save(forgets.book)
    read = store.load()
    assert read is not None
    assert (read.orders, read.executions, read.positions) == (
        forgets.book.orders, forgets.book.executions, forgets.book.positions,
    )  # fmt: skip
    store.close()


def test_rows_that_are_forgotten_leave_the_file_too(tmp_path):
    desk = PaperDesk(keep_days=8)
    store = PaperStore(tmp_path / "paper")
    for _ in range(20):
        trade_days(desk, 1)
        store.save(desk.book)
    rows = store._connection.execute("SELECT count(*) FROM rows WHERE kind = 'executions'").fetchone()[0]
    assert rows == len(desk.book.executions) <= 9
    store.close()


def test_a_working_order_is_never_forgotten():
    desk = PaperDesk(keep_days=8)
    desk.quote(100, 100.25)
    order = desk.place(order_type=m.OrderType.LIMIT, limit_price=50, time_in_force=m.TimeInForce.GTC)
    trade_days(desk, 20)
    assert desk.states(order)[-1] == "working"
    assert order.client_order_id in desk.book.by_client_id


def test_fewer_days_than_the_gateway_asks_for_are_refused():
    with pytest.raises(ConfigError, match="keep_days was 7"):
        convert_settings(PaperSettings, {"keep_days": 7}, "paper")
