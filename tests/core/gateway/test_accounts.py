"""The gateway holds each platform's `orders` and `accounts`: a hello that differs opens no session."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from nexus_gateway.core.messages import Instrument, RejectCode

from tests.support.trading_floor import Floor, make_signal

REAL = ["SIM1"]


@pytest.fixture
def floor():
    floor = Floor(("nt8",))
    yield floor
    floor.close()


def configure(floor: Floor, **settings: Any) -> None:
    entry = msgspec.structs.replace(floor.config.platforms["nt8"], settings=settings)
    floor.config = msgspec.structs.replace(floor.config, platforms={"nt8": entry})
    floor.start()


def refusal(floor: Floor, account: str, **hello: Any) -> str:
    platform = floor.platform("nt8", account=account, **hello)
    floor.until(lambda: platform.client.is_up or platform.client.refusal is not None)
    welcome = platform.client.refusal
    if welcome is None:
        return ""
    assert welcome.code is RejectCode.NOT_ALLOWED
    return welcome.text


def test_a_platform_for_market_data_trades_no_account(floor):
    configure(floor, orders="none")
    assert "nt8.settings.orders is none, market data only" in refusal(floor, "SIM1")
    assert "market data only" in refusal(floor, "PAPER-nt8")
    assert floor.counters()["routes_ready"] == 0


def test_real_orders_are_for_the_listed_accounts_alone(floor):
    configure(floor, orders="platform", accounts=REAL)
    assert "account was 'DEMO', must be one of" in refusal(floor, "DEMO")
    assert "'SIM1'; log in to one of them" in refusal(floor, "PAPER-nt8")
    assert refusal(floor, "SIM1") == ""


@pytest.mark.parametrize("settings", [{}, {"orders": "paper", "accounts": REAL}])
def test_a_simulated_platform_trades_its_simulated_account_alone(floor, settings):
    configure(floor, **settings)
    assert "account was 'SIM1', must be 'PAPER-nt8'" in refusal(floor, "SIM1")
    assert refusal(floor, "PAPER-nt8") == ""


def test_of_two_accounts_that_are_linked_a_signal_names_one(floor):
    configure(floor, orders="external", accounts=["SIM1", "SIM2"])
    both = [floor.platform("nt8", account=name) for name in ("SIM1", "SIM2")]
    nexus = floor.nexus()
    floor.until(lambda: nexus.client.is_up and floor.counters()["routes_ready"] == 2)
    floor.quote()
    signal = make_signal("nt8")
    nexus.client.send(signal)
    floor.until(lambda: nexus.report(signal.signal_id) is not None)
    assert nexus.report(signal.signal_id).legs[0].code is RejectCode.ACCOUNT_AMBIGUOUS
    assert [platform.placed for platform in both] == [[], []]


def test_a_hello_with_an_impossible_instrument_is_refused_by_name_and_a_signal_still_works(floor):
    configure(floor, orders="external", accounts=["SIM1", "SIM2"])
    good = Instrument(symbol="ES", platform_symbol="ES", tick_size=Decimal("0.25"))
    bad = [Instrument(symbol="NQ", platform_symbol="NQ", lot_step=Decimal(step)) for step in ("1E-999999999", "0")]
    text = refusal(floor, "SIM1", instruments=(good, *bad))
    assert text == (
        "lot_step of NQ must have at most 12 decimal places, was 1E-999999999 (and 1 more); "
        "leave out a number that the platform does not know"
    )
    platform, nexus = floor.platform("nt8", account="SIM2"), floor.nexus()
    floor.until(lambda: nexus.client.is_up and floor.counters()["routes_ready"] == 1)
    floor.quote()
    nexus.client.send(make_signal("nt8"))
    floor.until(lambda: len(platform.fills) == 1)
