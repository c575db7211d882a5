"""Which markets the engine is given, and when: each one is an event of the journal."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal as D
from typing import cast

import pytest
from msgspec import structs
from nexus_gateway.core.gateway.inbox import Inbox
from nexus_gateway.core.gateway.valuation import Valuation
from nexus_gateway.core.risk import MarketContext

from tests.support.orders import SECOND, Desk, market


class Contexts:
    """Stands for the inbox: one market a place, as the test sets its session."""

    def __init__(self) -> None:
        self.session: dict[str, object] = {"session_open": True, "session_change_ns": 7}

    def contexts_at(self, places: Iterable[tuple[str, str]], now_ns: int) -> tuple[MarketContext, ...]:
        return tuple(market(route.partition("|")[0], now_ns, symbol=symbol, **self.session) for route, symbol in places)


@pytest.fixture
def desk() -> Desk:
    """Two lots of a leg on `a`, three NQ of a person on `b`."""
    desk = Desk("a")
    desk.link_up("b", answer=False)
    desk.snapshot("b", positions=[("NQ", 3)])
    desk.signal("a")
    desk.fill(desk.only())
    return desk


def test_what_is_held_is_given_when_its_market_has_changed_or_a_minute_has_passed(desk: Desk) -> None:
    contexts = Contexts()
    valuation = Valuation(cast("Inbox", contexts))

    def given(steady_s: int, *, always: bool = False) -> list[str]:
        found = valuation.due(desk.engine.state, desk.now_ns, steady_s * SECOND, always=always)
        return [each.platform for each in found]

    assert given(0) == ["a", "b"]
    assert given(5) == []
    contexts.session["session_open"] = False
    assert given(10) == ["a", "b"]
    assert [given(15), given(69)] == [[], []]
    assert given(70) == ["a", "b"]
    assert given(71, always=True) == ["a", "b"]
    position = desk.engine.state.routes["b|acc"].positions["NQ"]
    position.net = D(0)
    assert given(200) == ["a"]
    position.net = D(3)
    assert given(201) == ["b"], "it is another position"
    contexts.session["ask"] = D(21005)
    assert given(202) == [], "the price has hardly moved"
    contexts.session["ask"] = D(21030)
    assert given(203) == ["a"], "only legs are valued"
    assert given(204) == []
    contexts.session["bid"] = None
    assert given(205) == ["a"], "there is no bid any more"
    contexts.session["contract"] = "NQH26"
    assert given(206) == ["a", "b"]


def test_while_nothing_is_held_nothing_is_given() -> None:
    valuation = Valuation(cast("Inbox", Contexts()))
    assert valuation.due(Desk("a").engine.state, 1, 1, always=True) == ()


def test_a_leg_in_a_contract_of_its_own_is_given_under_its_name(desk: Desk) -> None:
    (leg,) = desk.engine.state.signals["s1"].legs
    leg.symbol = "NQZ25"
    found = Valuation(cast("Inbox", Contexts())).due(desk.engine.state, desk.now_ns, 0)
    assert ("a", "NQZ25") in {(each.platform, each.symbol) for each in found}
    assert structs.asdict(found[0])["session_change_ns"] == 7
