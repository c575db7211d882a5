"""What the engine is told of a market: freshness, stand-ins, contracts, identity, sessions, currency rates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from nexus_gateway.core.config import GatewayConfig, OrdersConfig, PlatformConfig
from nexus_gateway.core.errors import ConfigError
from nexus_gateway.core.gateway.markets import Markets
from nexus_gateway.core.gateway.rate_updates import RateUpdates
from nexus_gateway.core.messages import (
    Cancel,
    Executions,
    Fill,
    Instrument,
    Position,
    Positions,
    Side,
    Snapshot,
    WorkingOrders,
)
from nexus_gateway.core.risk import MarketContext
from nexus_gateway.shm.symbols import Symbol, add_symbols, roll_symbol
from nexus_gateway.shm.tick import TICK_DTYPE, Platform, TickFlag
from nexus_gateway.shm.writer import TickWriter

from tests.support.links import adapter_hello
from tests.support.shm_processes import wait_for

D = Decimal
SECOND = 1_000_000_000
SYMBOLS = ("NQ", "NAS100", "USDBRL", "WDO", "WIN")


class Market:
    def __init__(self, folder: Path, **orders: object) -> None:
        adapter = "tests.support.links:FAST"  # any but a simulation: those have no hours
        self.config = GatewayConfig(
            run_folder=str(folder),
            platforms={
                "mt5": PlatformConfig(adapter=adapter, symbols=("NAS100", "USDBRL")),
                "mt5_br": PlatformConfig(adapter=adapter, symbols=("WDO", "WIN")),
                "nt8": PlatformConfig(adapter=adapter, symbols=("NQ",)),
            },
            orders=OrdersConfig(**orders),  # type: ignore[arg-type]  # a test names what it varies
        )
        self.folder = folder
        self.ids = dict(zip(SYMBOLS, add_symbols(folder, [Symbol(0, name) for name in SYMBOLS]), strict=True))
        self.writers = {
            name: TickWriter(folder, name, Platform.parse(name), capacity=64, board_rows=16)
            for name in self.config.platforms
        }
        self.markets = Markets(self.config, folder)

    def tick(self, platform: str, symbol: str, bid: float, ask: float, flags: int = 3) -> None:
        tick = np.zeros(1, TICK_DTYPE)
        tick["symbol"], tick["flags"], tick["bid"], tick["ask"] = self.ids[symbol], flags, bid, ask
        tick["ts_event_ns"] = time.time_ns()
        self.writers[platform].publish(tick)
        self.writers[platform].beat()
        self.markets.refresh(time.time_ns())

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


@pytest.fixture
def market(run_dir: Path) -> Iterator[Market]:
    made = Market(run_dir)
    yield made
    made.close()


NT8 = adapter_hello("nt8")
MT5 = adapter_hello("mt5")
BRAZIL = adapter_hello("mt5_br", account_currency="BRL")


def test_a_quote_is_exact_and_vouched_for_while_its_adapter_lives(market: Market) -> None:
    market.tick("nt8", "NQ", 20_999.75, 21_000.0)
    later = time.time_ns() + 30 * SECOND

    def look() -> MarketContext:
        market.writers["nt8"].beat()
        context = market.markets.context(NT8, "NQ", later)
        assert context is not None
        return context

    # On a busy machine the beat may be old by the time it is looked at.
    wait_for(lambda: later - look().quote_ns < 5 * SECOND, "a quote that is vouched for")
    context = look()
    assert (context.bid, context.ask) == (D("20999.75"), D(21_000))
    assert (context.tick_size, context.point_value, context.currency) == (D("0.25"), D(20), "USD")


def test_a_quote_flagged_stale_is_old_at_once(market: Market) -> None:
    market.tick("nt8", "NQ", 20_999.75, 21_000.0)
    market.tick("nt8", "NQ", 20_999.75, 21_000.0, flags=int(TickFlag.STALE))
    now_ns = time.time_ns()
    context = market.markets.context(NT8, "NQ", now_ns)
    assert context is not None
    assert context.quote_ns == 0


def test_a_quote_of_a_closed_adapter_ages(market: Market) -> None:
    market.tick("nt8", "NQ", 20_999.75, 21_000.0)
    published_ns = time.time_ns()
    market.writers.pop("nt8").close()
    context = market.markets.context(NT8, "NQ", published_ns + 30 * SECOND)
    assert context is not None
    assert context.quote_ns <= published_ns


def test_a_side_that_was_never_seen_is_none(market: Market) -> None:
    market.tick("nt8", "NQ", float("nan"), 21_000.0)
    context = market.markets.context(NT8, "NQ", time.time_ns())
    assert context is not None
    assert (context.bid, context.ask) == (None, D(21_000))


def test_a_cfd_stands_for_the_future_with_its_own_terms(market: Market) -> None:
    market.tick("mt5", "NAS100", 20_990.0, 20_991.0)
    context = market.markets.context(MT5, "NQ", time.time_ns())
    assert context is not None
    assert context.symbol == "NQ"
    assert (context.point_value, context.contract, context.bid) == (D(1), "", D(20_990))
    assert context.lot_step < 1


def test_nobody_knows_the_symbol(market: Market) -> None:
    assert market.markets.context(NT8, "XYZ", time.time_ns()) is None


def test_without_a_quote_there_is_none(market: Market) -> None:
    context = market.markets.context(NT8, "NQ", time.time_ns())
    assert context is not None
    assert (context.bid, context.quote_ns) == (None, 0)


def test_the_contract_of_the_directory_counts_and_another_month_at_the_platform_is_told(market: Market) -> None:
    roll_symbol(market.folder, "NQ", "NQH20", time.time_ns())
    market.markets.refresh(time.time_ns())
    context = market.markets.context(NT8, "NQ", time.time_ns())
    assert context is not None
    assert context.contract == "NQH20"
    assert 0 < context.expiry_ns < time.time_ns()  # so the risk check refuses it
    other = msgspec.structs.replace(
        NT8, boot_id="later", instruments=(Instrument(symbol="NQ", platform_symbol="NQ 06-20", contract="NQM20"),)
    )
    mixed = market.markets.context(other, "NQ", time.time_ns())
    assert mixed is not None
    assert "NQM20" in mixed.identity_error
    assert "NQH20" in mixed.identity_error


@pytest.mark.parametrize(("field", "value"), [("point_value", D(2)), ("tick_size", D(1)), ("currency", "EUR")])
def test_an_instrument_that_is_not_the_catalogs_is_told(market: Market, field: str, value: object) -> None:
    reported = Instrument(**{"symbol": "NQ", "platform_symbol": "NQ", field: value})  # type: ignore[arg-type]  # one varies
    context = market.markets.context(msgspec.structs.replace(NT8, instruments=(reported,)), "NQ", time.time_ns())
    assert context is not None
    assert str(value) in context.identity_error


def test_the_front_contract_is_taken_when_nobody_names_one(market: Market) -> None:
    context = market.markets.context(NT8, "NQ", time.time_ns())
    assert context is not None
    assert context.contract.startswith("NQ")
    assert context.expiry_ns > time.time_ns()


def test_hours_are_the_exchanges(market: Market) -> None:
    sunday_noon_ns = 1_763_294_400 * SECOND  # 2025-11-16 12:00 UTC
    monday_noon_ns = sunday_noon_ns + 24 * 3_600 * SECOND
    for now_ns, is_open, change_h in ((sunday_noon_ns, False, 11), (monday_noon_ns, True, 10)):
        context = market.markets.context(NT8, "NQ", now_ns)
        assert context is not None
        assert context.session_open is is_open
        assert context.session_change_ns == now_ns + change_h * 3_600 * SECOND


def test_reais_come_from_the_pair_else_from_the_dollar_future_never_one_to_one(market: Market) -> None:
    now_ns = time.time_ns()
    context = market.markets.context(BRAZIL, "WIN", now_ns)
    assert context is not None
    assert (context.currency, context.usd_rate) == ("BRL", None)
    market.tick("mt5_br", "WDO", 5_499.5, 5_500.5)
    rate = market.markets.usd_rate("BRL", time.time_ns())
    assert rate is not None
    assert (rate.value, rate.source) == ((1 / D("5.5")).quantize(D("1E-10")), "mt5_br WDO")
    assert rate.until_ns - rate.true_ns == 60 * SECOND
    assert time.time_ns() - rate.true_ns < 5 * SECOND
    market.tick("mt5_br", "WDO", 5_400.0, 0.0)  # nonsense outside the session is no rate
    assert market.markets.usd_rate("BRL", time.time_ns()) == rate


def test_a_configured_rate_is_taken_when_no_live_one_is_fresh(run_dir: Path) -> None:
    market = Market(run_dir, usd_rates={"BRL": D("0.18")})
    try:
        now_ns = time.time_ns()
        rate = market.markets.usd_rate("BRL", now_ns)
        assert rate is not None
        assert (rate.value, rate.true_ns, rate.source) == (D("0.18"), now_ns, "configuration")
        assert not rate.is_stale(now_ns + 3_600 * SECOND, 60_000)  # fixed on purpose: it does not age
        market.tick("mt5", "USDBRL", 4.999, 5.001)
        live = market.markets.usd_rate("BRL", time.time_ns())
        assert live is not None
        assert (live.value, live.source) == (D("0.2"), "mt5 USDBRL")
    finally:
        market.close()


def test_a_file_of_daily_rates_stands_between_live_and_configured_ones(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    today = datetime.now(UTC).date()
    head = "date,usd_per_eur,brl_per_eur\n"
    path.write_text(f"{head}{today - timedelta(days=1)},1.00,5.00\n")
    market = Market(run_dir, usd_rates={"BRL": D("0.18")}, rates_file=str(path))
    try:
        now_ns = time.time_ns()
        rate = market.markets.usd_rate("BRL", now_ns)
        assert rate is not None
        assert rate.value == D("0.18")  # not read before the first refresh
        market.markets.refresh(now_ns)
        rate = market.markets.usd_rate("BRL", now_ns)
        assert rate is not None
        assert (rate.value, rate.source) == (D("0.2"), "rates.csv")
        assert rate.until_ns - rate.true_ns == 120 * 3_600 * SECOND
        assert now_ns - rate.true_ns > 3_600 * SECOND  # its own time, whatever risk may do with it
        context = market.markets.context(BRAZIL, "WIN", now_ns)
        assert context is not None
        assert (context.usd_rate_source, context.usd_rate_until_ns) == ("rates.csv", rate.until_ns)
        path.write_text(f"{head}{today - timedelta(days=1)},1.00,x\n")  # refused: the old rates stay
        market.markets.refresh(now_ns + 61 * SECOND)
        assert market.markets.usd_rate("BRL", now_ns) == rate
        path.write_text(f"{head}{today},1.00,4.00\n")
        market.markets.refresh(now_ns + 122 * SECOND)
        later = market.markets.usd_rate("BRL", now_ns)
        assert later is not None
        assert later.value == D("0.25")
        market.tick("mt5", "USDBRL", 4.999, 5.001)
        live = market.markets.usd_rate("BRL", time.time_ns())
        assert live is not None
        assert live.source == "mt5 USDBRL"
    finally:
        market.close()


def test_a_file_of_rates_that_is_wrong_is_told_at_the_start(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rates\.csv: cannot be read"):
        Market(run_dir, rates_file=str(tmp_path / "rates.csv"))


def test_the_engine_is_told_a_rate_once_and_again_when_it_has_changed(market: Market) -> None:
    news = RateUpdates(market.markets, 60_000)
    adapters = {"mt5_br|SIM1": BRAZIL, "nt8|SIM1": NT8}
    now_ns = time.time_ns()
    assert news.due(adapters, now_ns) == ()
    market.tick("mt5", "USDBRL", 4.999, 5.001)
    (told,) = news.due(adapters, time.time_ns())
    assert (told.currency, told.usd_rate) == ("BRL", D("0.2"))
    assert news.due(adapters, time.time_ns()) == ()
    market.tick("mt5", "USDBRL", 5.999, 6.001)
    assert news.due(adapters, time.time_ns()) == ()
    assert len(news.due(adapters, time.time_ns() + 61 * SECOND)) in (0, 1)
    assert news.due({}, time.time_ns()) == ()
    assert len(news.due(adapters, time.time_ns())) == 1


def test_a_stale_rate_is_no_news(market: Market) -> None:
    market.tick("mt5", "USDBRL", 4.999, 5.001)
    assert RateUpdates(market.markets, 60_000).due({"mt5_br|SIM1": BRAZIL}, time.time_ns() + 3_600 * SECOND) == ()


def test_an_instrument_that_stands_for_a_root_has_that_name_only(market: Market) -> None:
    for symbol in ("NAS100", "MNQ"):
        context = market.markets.context(MT5, symbol, time.time_ns())
        assert context is None or "signal NQ" in context.identity_error or context.quote_ns == 0
    named = market.markets.context(MT5, "NAS100", time.time_ns())
    assert named is not None
    assert "signal NQ" in named.identity_error


def test_messages_carry_the_platforms_name_outwards_and_the_root_inwards(market: Market) -> None:
    stand_ins = market.markets.stand_ins
    cancel = Cancel(client_order_id="x", platform="mt5", account="SIM1", symbol="NQ")
    sent = stand_ins.outward(cancel)
    assert isinstance(sent, Cancel)
    assert sent.symbol == "NAS100"
    assert stand_ins.outward(msgspec.structs.replace(cancel, platform="nt8")).symbol == "NQ"  # type: ignore[union-attr]  # a cancel
    whose = {"platform": "mt5", "account": "SIM1"}
    fill = Fill(
        exec_id="e",
        client_order_id="",
        symbol="NAS100",
        side=Side.BUY,
        quantity=D(1),
        price=D(1),
        ts_event_ns=1,
        **whose,
    )
    snapshot = Snapshot(
        request_id=1,
        positions=Positions(rows=(Position(symbol="NAS100", quantity=D(1)),), **whose),
        working_orders=WorkingOrders(rows=(), **whose),
        executions=Executions(rows=(fill,), **whose),
        **whose,
    )
    seen = stand_ins.inward(snapshot)
    assert isinstance(seen, Snapshot)
    assert (seen.positions.rows[0].symbol, seen.executions.rows[0].symbol) == ("NQ", "NQ")
    assert stand_ins.inward(fill).symbol == "NQ"  # type: ignore[union-attr]  # a fill


def test_a_contract_under_its_own_name_has_its_roots_terms_and_its_own_quote(market: Market) -> None:
    (symbol_id,) = add_symbols(market.folder, [Symbol(0, "NQH26", "NQH26")])
    market.ids["NQH26"] = symbol_id
    market.tick("nt8", "NQ", 18_000, 18_001)
    market.tick("nt8", "NQH26", 18_180, 18_181)
    context = market.markets.context(NT8, "NQH26", time.time_ns())
    assert context is not None
    assert (context.contract, context.point_value, context.bid) == ("NQH26", 20, 18_180)
    assert market.markets.context(NT8, "XYH26", time.time_ns()) is None


def test_what_keeps_a_contract_from_being_rolled_to(market: Market) -> None:
    said = Instrument(symbol="NQH26", platform_symbol="NQ 03-26", contract="NQH26", point_value=D(2), tick_size=D(1))
    described = msgspec.structs.replace(NT8, instruments=(said,))
    fault = market.markets.contract_fault(described, "NQH26")
    assert "multiplier was 2 at the platform, 20 in the catalog" in fault
    assert "tick was 1 at the platform, 0.25 in the catalog" in fault
    assert market.markets.contract_fault(described, "NQM26") == "has not described NQM26 yet"
    assert market.markets.contract_fault(NT8, "NQM26") == ""  # an adapter that describes nothing at all
