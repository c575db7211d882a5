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
DATA = Path(__file__).parents[2] / "shared" / "data" / "reference" / "b3_daily_2018-01-02.csv"
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
            "a", self.now_ns, symbol=root, contract=f"{root}G18", tick_size=instrument.tick, currency="BRL",
            point_value=instrument.point_value, usd_rate=RATE, usd_rate_ns=self.now_ns, bid=opened, ask=opened,
        )  # fmt: skip
        bracket = m.Bracket(stop_loss=(opened // instrument.tick - 20) * instrument.tick)
        self.signal(signal_id=root, symbol=root, quantity=D(1), bracket=bracket, markets=(told,))
        self.fill(self.only(), price=opened)
        self.give(e.NexusAsked(request=m.SignalClose(signal_id=root)))
        self.fill(self.only(role=m.OrderRole.EXIT), price=closed)


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
