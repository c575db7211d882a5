"""B3's own settlements as trades of a journal: `report` has them in reais and dollars to the cent, with the rate."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.instruments.catalog import load_catalog
from nexus_gateway.core.journal import Journal

from tests.support.commands import one_json_object, run_command
from tests.support.orders import Desk, market, wide_limits

D = Decimal
DATA = Path(__file__).parents[4] / "shared" / "data" / "reference" / "b3_daily_2018-01-02.csv"
CENT = D("0.01")
RATE = 1 / D("5.50")


def settlements(code: str) -> tuple[Decimal, Decimal]:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    with DATA.open(newline="") as lines:
        row = {row["contract"]: row for row in csv.DictReader(lines)}[code]
    return D(row["previous_settlement"]), D(row["settlement"])


class JournaledDesk(Desk):
    """A desk whose events are journaled where `report -c` of the configuration looks."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        stages = {1: next(iter(wide_limits().stages.values()))}
        widest = {"symbols": ("WIN", "WDO"), "risk_per_trade_usd": D(10_000)}
        values = {name: getattr(stages[1], name) for name in stages[1].__struct_fields__} | widest
        super().__init__("a", limits=wide_limits(stages={1: type(stages[1])(**values)}))

    def give(self, event: e.Event) -> list:
        effects = super().give(event)
        self.journal.append(event, self.now_ns, effects)
        self.journal.commit()
        return effects

    def trade(self, root: str, opened: Decimal, closed: Decimal) -> None:
        """Buy one contract, sell it again."""
        instrument = load_catalog()[root]
        told = market(
            "a", self.now_ns, symbol=root, contract=f"{root}G18", tick_size=D("0.001"), currency="BRL",
            point_value=instrument.point_value, usd_rate=RATE, usd_rate_ns=self.now_ns, bid=opened, ask=opened,
        )  # fmt: skip
        bracket = m.Bracket(stop_loss=(opened // instrument.tick - 20) * instrument.tick)
        self.signal(signal_id=root, symbol=root, quantity=D(1), bracket=bracket, markets=(told,))
        self.fill(self.only(), price=opened)
        self.give(e.NexusAsked(request=m.SignalClose(signal_id=root)))
        self.fill(self.only(role=m.OrderRole.EXIT), price=closed)


@pytest.mark.processes
def test_settlements_of_b3_through_the_trade_report(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    journal = Journal(path)
    desk = JournaledDesk(journal)
    for code in ("WING18", "WDOG18"):
        desk.trade(code[:3], *settlements(code))
    journal.close()
    (tmp_path / "gateway_config.yaml").write_text(f"orders: {{journal: {path}}}\n")
    ran = run_command(tmp_path, "report", "--json", "-c", tmp_path)
    assert ran.returncode == 0, ran.stderr
    trades = {trade["signal_id"]: trade for trade in one_json_object(ran.stdout)["trade_list"]}
    for root, reais, dollars in (("WIN", "294.00", "53.45"), ("WDO", "-453.40", "-82.44")):
        (part,) = trades[root]["currencies"]
        assert part["currency"] == "BRL"
        assert D(part["realized"]).quantize(CENT) == D(reais)
        assert D(trades[root]["realized_usd"]).quantize(CENT) == D(dollars)
        assert D(part["usd_rate"]) == RATE


@pytest.mark.processes
def test_reais_are_taken_back_at_the_rate_that_was_used_and_a_stale_one_is_flagged(tmp_path: Path) -> None:
    """What comes after the trade changes neither its reais nor its dollars; a rate too old for risk is named."""
    path = tmp_path / "orders.sqlite"
    journal = Journal(path)
    desk = JournaledDesk(journal)
    opened = D(130_000)
    told = market(
        "a", desk.now_ns, symbol="WIN", contract="WING18", tick_size=D(5), currency="BRL", point_value=D("0.20"),
        usd_rate=RATE, usd_rate_ns=desk.now_ns, usd_rate_source="mt5 USDBRL", bid=opened, ask=opened,
    )  # fmt: skip
    desk.signal(signal_id="WIN", symbol="WIN", quantity=D(1), bracket=m.Bracket(stop_loss=D(129_900)), markets=(told,))
    desk.fill(desk.only(), price=opened)
    (leg,) = desk.report("WIN").legs
    assert (leg.usd_rate, leg.usd_rate_source, leg.stale_rate) == (RATE, "mt5 USDBRL", False)
    desk.wait(61_000)  # no rate has come since
    assert desk.report("WIN").stale_rates == 1
    desk.give(e.NexusAsked(request=m.SignalClose(signal_id="WIN")))
    closing = desk.only(role=m.OrderRole.EXIT)
    desk.fill(closing, price=opened + 100)
    newer = market("a", desk.now_ns, symbol="BRL", currency="BRL", usd_rate=D("0.25"), usd_rate_ns=desk.now_ns)
    desk.give(e.MarketMoved(markets=(newer,)))
    desk.update(closing, m.LegState.FILLED, filled=1)
    report = desk.report("WIN")
    assert (report.stale_rates, report.legs[0].usd_rate_ns) == (1, told.usd_rate_ns)
    journal.close()
    (tmp_path / "gateway_config.yaml").write_text(f"orders: {{journal: {path}}}\n")
    page = one_json_object(run_command(tmp_path, "report", "--json", "-c", tmp_path).stdout)
    (trade,) = page["trade_list"]
    (part,) = trade["currencies"]
    assert D(part["realized"]).quantize(CENT) == D("20.00")
    assert D(trade["realized_usd"]).quantize(CENT) == D("3.64")
    assert (D(part["usd_rate"]), part["usd_rate_source"], part["stale_rate"]) == (RATE, "mt5 USDBRL", True)
    assert page["stale_rates"] == 1
    plain = run_command(tmp_path, "report", "-c", tmp_path).stdout
    assert "1 results were computed with a currency rate too old for risk checks" in plain
    assert "from mt5 USDBRL [stale rate]" in plain


def test_a_size_by_risk_without_a_rate_is_refused_with_the_rates_code(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "orders.sqlite")
    desk = JournaledDesk(journal)
    told = market("a", desk.now_ns, symbol="WIN", tick_size=D(5), currency="BRL", bid=D(130_000), ask=D(130_000))
    bracket = m.Bracket(stop_loss=D(129_900))
    desk.signal(symbol="WIN", risk_usd=D(50), bracket=bracket, markets=(told,))
    journal.close()
    assert desk.report().code is m.RejectCode.STALE_RATE
    assert "no rate between BRL and USD" in desk.report().text


@pytest.mark.processes
def test_twenty_reais_are_three_dollars_64_in_the_report_too(tmp_path: Path) -> None:
    path = tmp_path / "orders.sqlite"
    journal = Journal(path)
    JournaledDesk(journal).trade("WIN", D(130_000), D(130_100))
    journal.close()
    (tmp_path / "gateway_config.yaml").write_text(f"orders: {{journal: {path}}}\n")
    plain = run_command(tmp_path, "report", "-c", tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert "20.00 BRL; 1 BRL was 0.18" in plain.stdout
    (trade,) = one_json_object(run_command(tmp_path, "report", "--json", "-c", tmp_path).stdout)["trade_list"]
    assert D(trade["realized_usd"]).quantize(CENT) == D("3.64")
