"""What `orders`, `positions` and `status` say in words, with made-up messages and counters."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.core.cli import account_view as view
from nexus_gateway.core.cli.monitor import Monitor, OrdersStatus
from nexus_gateway.core.cli.orders import read_lots
from nexus_gateway.core.cli.status_view import describe_order_links, describe_trouble, render_snapshot
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.messages import (
    AccountState,
    Contradiction,
    ContradictionKind,
    LegState,
    PositionState,
    Side,
    WorkingOrder,
    WorkingOrders,
)
from nexus_gateway.shm.counters import CountersPage
from nexus_gateway.shm.tick import Platform
from nexus_gateway.shm.writer import TickWriter, empty_ticks
from rich.console import Console

D = Decimal
S = 10**9
NOW = 1_000 * S
LIE = Contradiction(
    kind=ContradictionKind.WRONG_SIDE,
    platform="nt8",
    account="SIM1",
    symbol="NQ",
    said="sell 1 NQ at 21000",
    expected="a buy, as its order is",
    barred="nothing is sent for NQ on this account",
    ends="a complete snapshot agrees with it",
    exec_id="x\x1b[2J1",
    since_ns=NOW - 12 * S,
)

UNDATED = Contradiction(
    kind=ContradictionKind.POSITION,
    platform="nt8",
    account="A",
    symbol="NQ",
    said="1",
    expected="2",
    barred="b",
    ends="e",
)


def position(
    symbol: str = "NQ",
    quantity: object = 1,
    reported: object = 1,
    *,
    agrees: bool = True,
    acknowledged: bool = True,
    **more: object,
) -> PositionState:
    figure = None if reported is None else D(str(reported))
    return PositionState(
        symbol=symbol,
        quantity=D(str(quantity)),
        reported=figure,
        agrees=agrees,
        acknowledged=acknowledged,
        **more,  # type: ignore[arg-type]  # a test names what it varies
    )


def state(*positions: PositionState, contradictions: tuple[Contradiction, ...] = (), **more: object) -> AccountState:
    values: dict[str, object] = {"linked": True, "ready": True, "overdue_since_ns": 0, "reconciled_ns": NOW - 2 * S}
    return AccountState(
        platform="nt8",
        account="SIM1",
        positions=positions,
        contradictions=contradictions,
        **(values | more),  # type: ignore[arg-type]  # a test names what it varies
    )


def test_a_position_is_listed_while_anybody_says_that_it_is_there() -> None:
    held = [
        position("A", 1, 1),
        position("B", 0, 2),
        position("C", 0, 0, agrees=False),
        position("D", 0, 0, agrees=False, acknowledged=False),
        position("E", 3, None),
        position("F", 0, 0),
        position("G", 0, None),
    ]
    rows = view.position_rows([state(*held)], NOW)
    assert [row["symbol"] for row in rows] == ["A", "B", "C", "D", "E"]
    assert {row["symbol"]: row["note"] for row in rows if not row["note"]} == {"A": ""}
    assert [row["agrees"] for row in rows] == [True, True, False, False, None]


@pytest.mark.parametrize(
    ("row", "contradictions", "note"),
    [
        (
            position(quantity=0, reported=1, agrees=False),
            (),
            "DIFFERS: booked 0, the platform says 1; a second snapshot",
        ),
        (position(quantity=0, reported=1, agrees=False), (LIE,), "the contradiction below has to end first"),
        (position(quantity=1, reported=None, agrees=False), (), "the platform says no figure"),
        (position(agrees=False, acknowledged=False), (), "WAITS for `acknowledge NQ --holds LOTS --platform nt8`"),
        (position(quantity=2, reported=1), (), "not compared yet"),
        (position(quantity=2, reported=None), (), "never reported"),
    ],
)
def test_what_is_not_agreed_is_said_in_words(
    row: PositionState, contradictions: tuple[Contradiction, ...], note: str
) -> None:
    (shown,) = view.position_rows([state(row, contradictions=contradictions)], NOW)
    assert note in shown["note"]
    heading, line = view.table_lines([shown], view.POSITION_COLUMNS)
    assert heading.split() == list(view.POSITION_COLUMNS)
    assert line.endswith(shown["note"])
    assert (" NO " in line) is not row.agrees


def test_a_position_row_has_both_figures_the_price_and_its_age() -> None:
    row = position(
        quantity="1E+1", reported="0.0000001", agrees=False, avg_price=D("21000.25"), reported_ns=NOW - 5 * S
    )
    (shown,) = view.position_rows([state(row)], NOW)
    # Plain notation: `1E+1` would be read as 1 by a hurried eye.
    assert (shown["quantity"], shown["reported"], shown["avg_price"]) == ("10", "0.0000001", "21000.25")
    assert (shown["reported_age_s"], shown["reconciled_age_s"]) == (5.0, 2.0)
    assert view.position_rows([state(position(), reconciled_ns=0)], NOW)[0]["reconciled_age_s"] is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "nt8, account SIM1: linked, ready, reconciled 2.0 s ago"),
        ({"ready": False, "reconciled_ns": 0}, "nt8, account SIM1: linked, not ready, NEVER reconciled"),
        ({"linked": False, "ready": False}, "nt8, account SIM1: not linked, not ready, reconciled 2.0 s ago"),
    ],
)
def test_an_account_says_whether_it_is_linked_and_ready(changes: dict[str, object], line: str) -> None:
    (row,) = view.account_rows([state(**changes)], NOW)
    assert view.describe_account(row) == line


def test_an_overdue_snapshot_is_shown_with_its_age() -> None:
    (row,) = view.account_rows([state(ready=False, overdue_since_ns=NOW - 31 * S)], NOW)
    assert row["overdue_s"] == 31.0
    assert "OVERDUE for 31.0 s" in view.describe_account(row)


def test_of_a_retired_account_one_line_is_left() -> None:
    (row,) = view.account_rows([state(linked=False, ready=False, retired_ns=NOW - 60 * S)], NOW)
    assert view.describe_account(row) == "nt8, account SIM1: retired 60.0 s ago"


def test_a_contradiction_is_a_block_with_all_that_a_person_needs() -> None:
    lines = view.describe_contradiction(LIE, NOW)
    assert lines[0] == "CONTRADICTION wrong_side on nt8, account SIM1, NQ, for 12.0 s"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "execution",
        "said",
        "expected",
        "barred",
        "ends when",
    ]
    assert "\x1b" not in "".join(lines), "an id of a platform may hold what a terminal obeys"
    assert "for" not in view.describe_contradiction(UNDATED, NOW)[0]


def test_an_order_row_names_its_role() -> None:
    rows = tuple(
        WorkingOrder(
            client_order_id=name, symbol="NQ", side=Side.BUY, state=LegState.WORKING, quantity=D("1E+1"), filled=D(0)
        )
        for name in ("by hand", "evil\r\x1b[1A")
    )
    shown = view.order_rows([WorkingOrders(platform="nt8", account="SIM1", rows=rows)])
    assert [(row["role"], row["quantity"]) for row in shown] == [("external", "10")] * 2
    assert all(line.isprintable() for line in view.table_lines(shown, view.ORDER_COLUMNS))


@pytest.mark.parametrize(("text", "lots"), [("2", 2), ("-1.5", "-1.5"), ("+3", 3), ("0", 0), ("-0", 0), ("007", 7)])
def test_lots_are_read_as_typed(text: str, lots: object) -> None:
    assert read_lots(text) == D(str(lots))


@pytest.mark.parametrize(
    "text",
    ["", " ", "NaN", "-nan", "sNaN", "inf", "-Infinity", "1e3", "1E+1", "1_000", "1,5", "١", "two", "--1", "1.", ".5",
     "1" * 5000, "1000000000001", "0.0000000000001", "2\n"],
)  # fmt: skip
def test_what_is_no_plain_figure_is_refused_with_value_limit_and_cure(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_lots(text)
    said = str(refused.value)
    assert repr(text[:40])[:-1] in said
    assert "must " in said
    assert "type what the platform itself shows, such as 2, -1.5 or 0" in said
    assert len(said) < 300


def orders_status(**changes: object) -> OrdersStatus:
    values: dict[str, object] = {
        "state": "live", "linked": 1, "ready": 1, "expected": 2, "unlinked": ["nt8"], "contradictions": 0,
        "routes_overdue": 0, "positions_unsettled": 0,
    }  # fmt: skip
    return OrdersStatus(**(values | changes))  # type: ignore[arg-type]  # a test names what it varies


def test_trouble_is_counted_in_words_with_what_to_type() -> None:
    assert not orders_status().has_trouble
    one = orders_status(contradictions=1, routes_overdue=1, positions_unsettled=1)
    assert one.has_trouble
    assert describe_trouble(one) == (
        "TROUBLE: 1 contradiction of a platform, 1 account owes a snapshot, 1 position is not settled; type: "
        "nexus-gateway orders"
    )
    assert describe_trouble(orders_status(routes_overdue=3)) == (
        "TROUBLE: 3 accounts owe a snapshot; type: nexus-gateway orders"
    )
    assert describe_trouble(orders_status(latches=1)) == (
        "TROUBLE: 1 limit bars entries until `resume`; type: nexus-gateway resume --reason TEXT"
    )
    assert describe_trouble(orders_status(entries_barred=1)) == (
        "TROUBLE: entries are refused while the system has no open file left for the kill file; see the gateway's log"
    )
    assert describe_trouble(orders_status(latches=2, contradictions=1)).endswith(
        "1 contradiction of a platform, 2 limits bar entries until `resume`; type: nexus-gateway orders"
    )
    dead = describe_trouble(orders_status(positions_unsettled=2, state="dead writer"))
    assert "2 positions are not settled (the gateway's last figures: it is dead writer)" in dead


def test_order_links_are_named_apart_from_market_data() -> None:
    assert describe_order_links(orders_status()) == "orders: 1 of 2 linked, 1 ready; without an order link: nt8"
    assert describe_order_links(orders_status(linked=2)) == "orders: 2 of 2 linked, 1 ready"
    assert "(gateway: dead writer)" in describe_order_links(orders_status(state="dead writer", linked=0))


@pytest.mark.parametrize(
    "gauge", ["contradictions", "routes_overdue", "positions_unsettled", "latches", "accounts_left", "entries_barred"]
)
def test_status_is_not_healthy_while_something_waits_and_asks_nobody(run_dir: Path, gauge: str) -> None:
    names = ("routes_up", "routes_ready", "contradictions", "routes_overdue", "positions_unsettled", "latches")
    names += ("accounts_left", "entries_barred")
    gateway = CountersPage.create(run_dir, "gateway", names)
    adapter = CountersPage.create(run_dir, "nt8", ("link_up", "order_link_up", "last_publish_utc_ns"))
    adapter.counter("link_up").set(1)
    writer = TickWriter(run_dir, "nt8", Platform.parse("nt8"))
    writer.publish(empty_ticks(1))
    for page in (gateway, adapter):
        page.segment.beat()
    try:
        before = Monitor(run_dir).snapshot()
        assert before.is_healthy, "an order link that is not up is shown, and is no fault of a platform without orders"
        assert before.orders is not None
        assert (before.orders.linked, before.orders.expected, before.orders.unlinked) == (0, 1, ["nt8"])
        gateway.counter("routes_up").set(1)
        adapter.counter("order_link_up").set(1)
        gateway.counter(gauge).set(2)
        after = Monitor(run_dir).snapshot()
        assert not after.is_healthy
        assert after.orders is not None
        assert (after.orders.linked, after.orders.unlinked, getattr(after.orders, gauge)) == (1, [], 2)
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(render_snapshot(after))
        shown = console.export_text()
        said = "TROUBLE: entries" if gauge == "entries_barred" else "TROUBLE: 2 "
        assert shown.index(said) < shown.index("orders: 1 of 1 linked") < shown.index("market data")
        cures = {"latches": "type: nexus-gateway resume", "entries_barred": "see the gateway's log"}
        assert cures.get(gauge, "type: nexus-gateway orders") in " ".join(shown.split())
        assert "data link" in shown
    finally:
        writer.close()
        for page in (gateway, adapter):
            page.close()
