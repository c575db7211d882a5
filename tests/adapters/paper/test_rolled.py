"""The paper account through a roll: rows go on under the old contract's own name, and the names mean other things."""

from __future__ import annotations

from decimal import Decimal

from nexus_gateway.adapters.paper.book import PaperBook, PaperExecution, PaperFunds, PaperOrder
from nexus_gateway.adapters.paper.rolled import rename_rolled
from nexus_gateway.adapters.symbol_watch import describe_from_catalog
from nexus_gateway.core.messages import AccountMode, Fill, OrderType, Side
from nexus_gateway.shm.symbols import Symbol

D = Decimal
OLD, NEW = "NQH25", "NQM25"
BEFORE = describe_from_catalog([Symbol(1, "NQ", OLD, 0.25)])
AFTER = describe_from_catalog([Symbol(1, "NQ", NEW, 0.25), Symbol(2, OLD, OLD, 0.25)])


def make_book(contract: str = OLD, ticket: str = "") -> PaperBook:
    book = PaperBook(funds=PaperFunds(book_id="1", mode=AccountMode.NETTING, currency="USD", balance=D(1000)))
    order = PaperOrder(
        platform_order_id="O1",
        symbol="NQ",
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=D(2),
        contract=contract,
    )
    book.add_order(order)
    fill = Fill(
        platform="nt8", account="acc", exec_id="E1", client_order_id="", symbol="NQ", side=Side.BUY, quantity=D(2),
        price=D(21000), ts_event_ns=1, contract=contract,
    )  # fmt: skip
    book.add_execution(PaperExecution(fill=fill, platform_order_id="O1"))
    book.book_trade("NQ", ticket, contract, D(2), D(21000))
    book.changed.clear()
    return book


def test_all_that_is_on_the_old_contract_gets_its_name() -> None:
    book = make_book()
    assert rename_rolled(book, BEFORE) == {}
    assert not book.changed
    assert rename_rolled(book, AFTER) == {"NQ": OLD}
    assert book.orders["O1"].symbol == OLD
    assert book.executions["E1"].fill.symbol == OLD
    assert {key: each.symbol for key, each in book.positions.items()} == {OLD: OLD}
    assert ("positions", "NQ") in book.changed  # the row of before is deleted on disk
    assert rename_rolled(book, AFTER) == {}


def test_lots_of_both_months_never_add_up() -> None:
    book = make_book()
    rename_rolled(book, AFTER)
    book.book_trade("NQ", "", NEW, D(-1), D(21200))
    assert (book.net("NQ"), book.net(OLD)) == (-1, 2)


def test_a_ticket_stays_the_key_of_its_position() -> None:
    book = make_book(ticket="T1")
    rename_rolled(book, AFTER)
    assert book.positions["T1"].symbol == OLD


def test_what_names_no_contract_stays() -> None:
    book = make_book(contract="")
    assert rename_rolled(book, AFTER) == {}
    assert book.orders["O1"].symbol == "NQ"


def test_a_contract_says_of_itself_what_its_root_is() -> None:
    old = AFTER[OLD]
    assert (old.point_value, old.currency, old.tick_size) == (20, "USD", D("0.25"))
    assert AFTER["NQ"].expiry_ns > old.expiry_ns > 0
    assert AFTER["NQ"].contract == NEW


def test_a_contract_that_is_in_front_again_goes_under_its_roots_name() -> None:
    """A start from a directory made anew presents the contract of before for a moment."""
    book = make_book(contract=NEW)
    again = describe_from_catalog([Symbol(1, "NQ", OLD, 0.25), Symbol(2, NEW, NEW, 0.25)])
    assert rename_rolled(book, again) == {"NQ": NEW}
    assert rename_rolled(book, AFTER) == {NEW: "NQ"}
    assert book.orders["O1"].symbol == "NQ"
    assert {key: each.symbol for key, each in book.positions.items()} == {"NQ": "NQ"}
