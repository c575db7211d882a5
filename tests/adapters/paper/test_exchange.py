"""The paper account: positions and money, brackets and OCO groups, latency, and each scenario's promise."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from nexus_gateway.adapters.paper import book
from nexus_gateway.adapters.paper.scenarios import SCENARIOS, choose_scenario
from nexus_gateway.adapters.paper.settings import PaperSettings
from nexus_gateway.adapters.paper.store import PaperStore
from nexus_gateway.core import messages as m
from nexus_gateway.core.config import convert_settings
from nexus_gateway.core.errors import ConfigError

from tests.support.paper import NOON_NS, PaperDesk

D = Decimal
LIMIT, STOP = m.OrderType.LIMIT, m.OrderType.STOP
SELL = m.Side.SELL
DOCS = Path(__file__).parents[3] / "docs"


def test_netting_positions_and_money_are_exact():
    desk = PaperDesk(commission=D("2.10"))
    desk.quote(100, 100.25)
    desk.place(3)
    desk.quote(102, 102.25)
    desk.place(5, SELL)
    (position,) = desk.snapshot().positions.rows
    assert (position.quantity, position.avg_price) == (-2, 102)
    # 3 lots gained 1.75 points at 20 USD; 8 lots cost 2.10 each.
    funds = desk.snapshot().funds
    assert funds.balance == 100_000 + D("105.00") - D("16.80")
    assert funds.equity == funds.balance + 2 * 20 * (D(102) - D("102.25"))
    assert funds.realized_today == D("88.20")
    desk.place(2)
    assert desk.snapshot().positions.rows == ()


def test_hedging_positions_live_by_ticket():
    desk = PaperDesk("mt5")
    assert desk.settings.capabilities("mt5").close_by_ticket
    desk.quote(100, 100.25)
    first, second = desk.place(2), desk.place(2, SELL)
    tickets = [fill.position_ticket for fill in desk.of(m.Fill)]
    assert len(set(tickets)) == 2
    assert {row.ticket: row.quantity for row in desk.snapshot().positions.rows} == {tickets[0]: 2, tickets[1]: -2}
    too_much = desk.place(3, SELL, close_ticket=tickets[0])
    assert desk.of(m.Reject, too_much)
    desk.place(2, SELL, close_ticket=tickets[0])
    assert [row.ticket for row in desk.snapshot().positions.rows] == [tickets[1]]
    assert desk.fills(first)
    assert desk.fills(second)


def test_a_result_in_another_currency_is_unknown_not_converted():
    desk = PaperDesk()
    desk.quote(100, 100.25, symbol="WIN")
    desk.place(symbol="WIN")
    assert desk.snapshot().funds is None, "an open position in reais has no value in dollars here"
    desk.place(symbol="WIN", side=SELL)
    assert desk.snapshot().funds is None


def test_a_bracket_follows_its_entry_and_goes_with_the_position():
    desk = PaperDesk("mt5")
    desk.quote(100, 100.25, 10, 1)
    entry = desk.place(2, stop_loss=98, take_profit=103)
    children = [order for order in desk.book.orders.values() if order.parent]
    assert [(child.quantity, child.order_type) for child in children] == [(1, STOP), (1, LIMIT)]
    roles = [m.find_client_order_id(child.client_order_id) for child in children]
    assert [parts.role for parts in roles] == [m.OrderRole.STOP_LOSS, m.OrderRole.TAKE_PROFIT]
    assert [child.client_order_id for child in children] == [
        m.find_client_order_id(entry.client_order_id).id_of(parts.role) for parts in roles
    ]
    desk.quote(100, 100.25, 10, 10)
    assert [child.quantity for child in children] == [2, 2]
    desk.place(2, SELL, close_ticket=desk.of(m.Fill, entry)[0].position_ticket, role=m.OrderRole.EXIT)
    assert [child.state for child in children] == [m.LegState.CANCELLED] * 2


def test_a_bracket_of_a_netting_account_never_opens_a_position():
    desk = PaperDesk(brackets=True)
    desk.quote(100, 100.25)
    desk.place(2, stop_loss=98, take_profit=103)
    desk.place(2, SELL, role=m.OrderRole.EXIT)
    assert desk.net() == 0
    desk.quote(97, 97.25)
    desk.quote(104, 104.25)
    assert desk.net() == 0
    assert {child.state for child in desk.book.orders.values() if child.parent} == {m.LegState.CANCELLED}


def test_an_oco_group_shrinks_lot_by_lot():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    desk.place(3)
    target = desk.place(3, SELL, order_type=LIMIT, limit_price=102, oco_group="g", role=m.OrderRole.TAKE_PROFIT)
    stop = desk.place(3, SELL, order_type=STOP, stop_price=98, oco_group="g", role=m.OrderRole.STOP_LOSS)
    desk.quote(102, 102.25, 2, 5)
    assert desk.fills(target) == [(2, D(102))]
    assert desk.of(m.OrderUpdate, stop)[-1].quantity == 1
    desk.quote(98, 98.25, 5, 5)
    assert desk.fills(stop) == [(1, D(98))]
    assert desk.states(target)[-1] == "cancelled"
    assert desk.net() == 0


def test_latency_delays_but_does_not_reorder():
    desk = PaperDesk(latency_ms=5, jitter_ms=20)
    desk.quote(100, 100.25)
    orders = [desk.place(order_type=LIMIT, limit_price=90) for _ in range(20)]
    assert desk.heard == []
    desk.wait(4.9)
    assert desk.heard == []
    desk.wait(25)
    assert [update.client_order_id for update in desk.of(m.OrderUpdate)] == [each.client_order_id for each in orders]


def test_placing_twice_is_once_also_when_refused():
    desk = PaperDesk(rehearse=True)
    desk.quote(100, 100.25)
    order = desk.place()
    desk.exchange.place(order, desk.now_ns)
    desk.listen()
    assert desk.net() == 1
    refused = desk.provoke("reject")
    desk.exchange.place(refused, desk.now_ns)
    desk.listen()
    assert len(desk.of(m.Reject, refused)) == 2


def test_refusals_are_remembered_up_to_a_bound_on_disk_too(monkeypatch, tmp_path):
    monkeypatch.setattr(book, "KEEP_REFUSED", 3)
    desk = PaperDesk(scenario="reject")
    store = PaperStore(tmp_path / "nt8.paper")
    for _ in range(10):
        desk.place()
        store.save(desk.book)
    assert len(desk.book.refused) == 3
    assert store.load().refused == desk.book.refused
    store.close()


def test_every_scenario_has_its_own_quantity_and_is_documented():
    lots = [lots for lots, _ in SCENARIOS.values()]
    assert len(set(lots)) == len(lots)
    page = (DOCS / "adapters.md").read_text(encoding="utf-8")
    for name, (lots_of_it, _) in SCENARIOS.items():
        assert f"| {lots_of_it} | `{name}` |" in page


def test_scenarios_strike_entries_and_let_a_rehearsal_end():
    chosen = {
        (is_entry, is_protective): choose_scenario(
            "x",
            D(11),
            is_entry=is_entry,
            is_protective=is_protective,
            rehearse=True,
            every_order=None,
            chances={},
            seed=1,
        )
        for is_entry, is_protective in ((True, False), (False, True), (False, False))
    }
    assert chosen == {(True, False): "reject", (False, True): "", (False, False): ""}


def test_chances_are_drawn_from_the_seed_and_the_order_alone():
    def draw(seed: int) -> list[str]:
        return [
            choose_scenario(
                f"order {number}",
                D(1),
                is_entry=True,
                is_protective=False,
                rehearse=False,
                every_order=None,
                chances={"reject": 0.2, "bust": 0.1},
                seed=seed,
            )
            for number in range(2000)
        ]

    first = draw(1)
    assert first == draw(1) != draw(2)
    assert 300 < first.count("reject") < 500
    assert 130 < first.count("bust") < 270


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"scenario": "rejct"}, "scenario was 'rejct'"),
        ({"chances": {"nothing": 0.5}}, "chances named 'nothing'"),
        ({"chances": {"reject": 0.7, "bust": 0.7}}, "add up to 1.4"),
        ({"day_ends_utc": "25:00"}, "day_ends_utc was '25:00'"),
        ({"commission": "-1"}, "commission was -1"),
        ({"modus": "netting"}, "modus"),
    ],
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(ConfigError, match=text):
        convert_settings(PaperSettings, settings, "paper")


def test_busts_and_corrections_change_what_is_true():
    desk = PaperDesk(rehearse=True)
    desk.quote(100, 100.25)
    busted, changed = desk.provoke("bust"), desk.provoke("correction")
    desk.wait(1_001)
    assert [each.kind.value for each in desk.of(m.Correction)] == ["bust", "correct"]
    (fill,) = desk.snapshot().executions.rows
    assert (fill.client_order_id, fill.price) == (changed.client_order_id, D("100.5"))
    assert desk.net() == changed.quantity
    assert desk.book.by_client_id[busted.client_order_id].state is m.LegState.CANCELLED
    assert desk.snapshot().positions.rows[0].avg_price == D("100.5")
    assert desk.snapshot().funds.realized_today == 0


def test_deaths_end_everything_and_strike_once(tmp_path):
    desk = PaperDesk(rehearse=True)
    desk.quote(100, 100.25)
    order = desk.provoke("death_after_fill")
    assert desk.exchange.timeline.is_dead
    assert desk.heard == []
    store = PaperStore(tmp_path / "nt8.paper")
    store.save(desk.book)
    heir = PaperDesk(rehearse=True, book=store.load())
    assert not heir.exchange.timeline.is_dead
    heir.quote(100, 100.25)
    assert heir.net() == order.quantity
    assert heir.states(order) == []
    heir.exchange.place(order, heir.now_ns)
    heir.listen()
    assert heir.states(order) == ["filled"]


@pytest.mark.parametrize("seed", range(12))
def test_seeded_storm(seed, tmp_path):
    """Whatever goes wrong, the book is consistent, survives being read back, and the seed decides all of it."""

    def storm() -> tuple[PaperDesk, list[m.Order]]:
        rng = Random(seed)
        names = [name for name in SCENARIOS if not name.startswith("death")]
        desk = PaperDesk(
            "mt5" if seed % 2 else "nt8",
            brackets=True,
            seed=seed,
            latency_ms=2,
            jitter_ms=10,
            commission=D("0.35"),
            chances={name: 0.9 / len(names) for name in names},
        )
        mid, orders = 400, []
        for number in range(300):
            mid += rng.choice((-1, 0, 1))
            bid = mid / 4
            if rng.random() < 0.03:
                desk.exchange.set_quote("NQ", None, desk.now_ns)
            else:
                desk.quote(bid, bid + 0.25, rng.randrange(0, 6), rng.randrange(0, 6))
            if rng.random() < 0.5:
                kind = rng.choice(list(m.OrderType))
                up = D(bid) + D(rng.randrange(-4, 5)) / 4
                order = desk.order(
                    rng.randrange(1, 6),
                    rng.choice(list(m.Side)),
                    order_type=kind,
                    limit_price=up if kind in (LIMIT, m.OrderType.STOP_LIMIT) else None,
                    stop_price=up if kind in (STOP, m.OrderType.STOP_LIMIT) else None,
                    take_profit=up + 2 if rng.random() < 0.3 else None,
                )
                values = {name: getattr(order, name) for name in m.Order.__struct_fields__}
                key = m.signal_key(f"storm {seed} {number}")
                order = m.Order(**{**values, "client_order_id": m.client_order_id(key, 0, m.OrderRole.ENTRY, 0)})
                orders.append(order)
                desk.exchange.place(order, desk.now_ns)
            if orders and rng.random() < 0.2:
                desk.cancel(rng.choice(orders))
            if orders and rng.random() < 0.2:
                desk.replace(rng.choice(orders), number + 1, quantity=rng.randrange(1, 6))
            desk.wait(rng.randrange(1, 400))
        desk.wait(70_000)
        return desk, orders

    desk, _ = storm()
    live = [each for each in desk.book.executions.values() if not each.busted]
    assert live
    assert desk.net() == sum(each.fill.quantity * each.fill.side.sign for each in live)
    for order in desk.book.orders.values():
        mine = [each.fill for each in live if each.platform_order_id == order.platform_order_id]
        assert order.filled == sum(fill.quantity for fill in mine)
        assert order.cost == sum(fill.quantity * fill.price for fill in mine)
        # Neither a replace nor an OCO sibling shrinks an order below what has traded; only an overfill exceeds it.
        assert order.filled <= order.quantity + order.plan.overfill_lots
    bought = sum(-each.fill.quantity * each.fill.side.sign * each.fill.price * 20 - each.fill.fee for each in live)
    open_cost = sum(position.cost for position in desk.book.positions.values()) * 20
    assert desk.book.funds.balance == pytest.approx(100_000 + bought + open_cost)
    told = {fill.exec_id for fill in desk.of(m.Fill)}
    assert told <= set(desk.book.executions)

    store = PaperStore(tmp_path / "storm.paper")
    store.save(desk.book)
    assert desk.book.changed == {}
    read = store.load()
    assert (read.funds, read.orders, read.executions) == (desk.book.funds, desk.book.orders, desk.book.executions)
    assert (read.positions, read.refused) == (desk.book.positions, desk.book.refused)
    assert read.by_client_id == desk.book.by_client_id

    again, _ = storm()
    assert again.heard == desk.heard


def test_a_damaged_or_foreign_account_file_is_refused(tmp_path):
    path = tmp_path / "nt8.paper"
    path.write_bytes(b"no account at all, and long enough to be taken for a file of something else" * 20)
    with pytest.raises(ConfigError, match="cannot be read"):
        PaperStore(path)
    store = PaperStore(tmp_path / "other.paper")
    store._connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(ConfigError, match="format 99, must be 1"):
        PaperStore(tmp_path / "other.paper")


def test_the_book_forgets_the_oldest_and_keeps_the_working():
    desk = PaperDesk()
    desk.quote(100, 100.25)
    resting = desk.place(order_type=LIMIT, limit_price=90)
    filled = [desk.place() for _ in range(6)]
    desk.book.drop_ended(keep=2)
    assert resting.client_order_id in desk.book.by_client_id
    assert [order.client_order_id in desk.book.by_client_id for order in filled] == [False] * 4 + [True] * 2
    assert len(desk.book.executions) == 2
    assert desk.net() == 6


def test_a_long_history_is_cut_and_says_where_it_begins(monkeypatch):
    monkeypatch.setattr("nexus_gateway.adapters.paper.reports.MAX_ROWS", 5)
    desk = PaperDesk()
    desk.quote(100, 100.25)
    for _ in range(9):
        desk.place()
        desk.wait(1)
    executions = desk.snapshot().executions
    assert 0 < len(executions.rows) <= 5
    assert executions.from_ns > NOON_NS
    assert all(fill.ts_event_ns >= executions.from_ns for fill in executions.rows)
