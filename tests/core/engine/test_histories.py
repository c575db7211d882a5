"""Random histories of everything that can happen, sense or nonsense: nothing raises, all that is said can be read, and
a replay ends in the same state.
"""

from __future__ import annotations

from decimal import Decimal as D
from random import Random

import pytest
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.engine import Engine
from nexus_gateway.core.journal.recovery import decode_event
from nexus_gateway.core.journal.store import encode_event
from nexus_gateway.core.risk import MarketContext

from tests.support.orders import Desk, market, wide_limits
from tests.support.torture import rounds

LOTS = [D(1), D(2), D(3), D("0.5"), D("1E-12"), D(1_000_000), D("123456.789012345678")]
PRICES = [D(0), D(20990), D(20999), D(21000), D("21000.25"), D(21010), D("1E+9"), D("-1E+9"), D("1E-12")]
NONSENSE = [D("NaN"), D("Infinity"), D("sNaN"), D("1E-30"), D("1E+40"), D(0)]
DAY_MS = 86_400_000


class History:
    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.desk = Desk(
            "a",
            settings=e.EngineSettings(
                retention_ms=rng.choice([60_000, 7 * DAY_MS]),
                expected_platforms=rng.choice([(), ("a",), ("a", "b")]),
            ),
            limits=wide_limits(max_orders_per_s=rng.choice([None, 5])),
        )
        self.signals = 0
        self.link("b")

    def run(self, steps: int) -> None:
        deeds = (self.signal, self.signal, self.fill, self.fill, self.fill, self.update, self.reject, self.correct)
        deeds += (
            self.change,
            self.replace,
            self.wait,
            self.snapshot,
            self.snapshot,
            self.command,
            self.link,
            self.news,
        )
        for _ in range(steps):
            self.rng.choice(deeds)(self.rng.choice("ab"))
            for effect in self.desk.effects:
                message = getattr(effect, "message", None)
                if message is not None:
                    m.decode(m.encode(m.Envelope(sender="x", seq=1, body=message)))

    def some_id(self) -> str:
        return self.rng.choice([*self.desk.orders, "", "by hand"])

    def some_signal(self) -> str:
        return f"s{self.rng.randrange(self.signals + 1)}"

    def context(self, platform: str) -> MarketContext:
        rng = self.rng
        values: dict[str, object] = {"account": rng.choice(["", "acc"]), "session_open": rng.random() < 0.8}
        values |= {"contract": rng.choice(["", "", "NQH25", "NQM25"]), "usd_rate_ns": self.desk.now_ns}
        values |= {"currency": rng.choice(["USD", "USD", "BRL"]), "usd_rate": D("0.2")}
        if rng.random() < 0.3:
            values[rng.choice(["tick_size", "lot_step", "point_value", "usd_rate", "bid", "ask"])] = rng.choice(
                NONSENSE
            )
        return market(platform, self.desk.now_ns, **values)

    def contexts(self) -> tuple[MarketContext, ...]:
        return (self.context("a"), self.context("b"))

    def signal(self, _: str) -> None:
        rng = self.rng
        self.signals += 1
        targets = (m.Target(platform="a"), m.Target(platform="b"), m.Target(platform="a", account="acc"))
        kind, policy = rng.choice(list(m.OrderType)), rng.choice(list(m.FanOutKind))
        brackets = [m.Bracket(stop_loss=D(20990), take_profit=D(21010)), m.Bracket(stop_distance=D("9.9")), None]
        signal = m.Signal(
            signal_id=self.some_signal(),
            symbol="NQ",
            side=rng.choice(list(m.Side)),
            created_ns=self.desk.now_ns,
            targets=targets[: rng.choice([2, 2, 3])],
            quantity=rng.choice(LOTS[:3]),
            order_type=kind,
            limit_price=D(20999) if "limit" in kind else None,
            stop_price=D(21001) if "stop" in kind else None,
            bracket=rng.choice(brackets),
            policy=m.FanOut(
                kind=policy, quorum=int(policy is m.FanOutKind.QUORUM), decide_within_ms=rng.choice([0, 1_000])
            ),
            reduce_only=rng.random() < 0.15,
        )
        self.desk.give(e.SignalArrived(signal=signal, markets=self.contexts(), peer="n"))

    def make_fill(self, platform: str) -> m.Fill:
        rng, now_ns = self.rng, self.desk.now_ns
        return m.Fill(
            platform=platform,
            account="acc",
            exec_id=str(rng.randrange(12)),
            client_order_id=self.some_id(),
            symbol=rng.choice(["NQ", "NQ", "ES"]),
            side=rng.choice(list(m.Side)),
            quantity=rng.choice(LOTS),
            price=rng.choice(PRICES),
            ts_event_ns=rng.choice([now_ns, now_ns - 10**10, 0, 2**63 - 1]),
            position_ticket=rng.choice(["", "T1", "T2"]),
            fee=rng.choice(PRICES),
            fee_currency=rng.choice(["", "USD", "BRL", "XYZ"]),
        )

    def fill(self, platform: str) -> None:
        self.desk.give(e.AdapterSaid(message=self.make_fill(platform)))

    def update(self, platform: str) -> None:
        update = m.OrderUpdate(
            platform=platform,
            account="acc",
            client_order_id=self.some_id(),
            symbol="NQ",
            side=self.rng.choice(list(m.Side)),
            state=self.rng.choice(list(m.LegState)),
            quantity=self.rng.choice(LOTS),
            filled=self.rng.choice(LOTS),
            replace_revision=self.rng.randrange(3),
        )
        self.desk.give(e.AdapterSaid(message=update))

    def reject(self, platform: str) -> None:
        code = self.rng.choice(list(m.RejectCode))
        reject = m.Reject(code=code, text="", client_order_id=self.some_id(), platform=self.rng.choice(["", platform]))
        self.desk.give(e.AdapterSaid(message=reject))

    def correct(self, platform: str) -> None:
        bust = self.rng.random() < 0.5
        correction = m.Correction(
            platform=platform,
            account="acc",
            exec_id=str(self.rng.randrange(12)),
            kind=m.CorrectionKind.BUST if bust else m.CorrectionKind.CORRECT,
            revision=self.rng.randrange(1, 4),
            quantity=None if bust else self.rng.choice(LOTS),
            price=None if bust else self.rng.choice(PRICES),
        )
        self.desk.give(e.AdapterSaid(message=correction))

    def change(self, platform: str) -> None:
        kind = self.rng.choice([m.SignalClose, m.SignalCancel])
        self.desk.ask(kind(signal_id=self.some_signal(), platform=self.rng.choice(["", platform, "zz"])))

    def replace(self, _: str) -> None:
        request = m.SignalReplace(
            signal_id=self.some_signal(),
            quantity=self.rng.choice([None, *LOTS]),
            limit_price=self.rng.choice(PRICES),
            stop_price=self.rng.choice([None, *PRICES]),
        )
        markets = self.rng.choice([(), self.contexts()])
        self.desk.give(e.NexusAsked(request=request, peer="n", markets=markets))

    def wait(self, _: str) -> None:
        self.desk.wait(self.rng.choice([0, 500, 2_000, 5_000, 61_000, DAY_MS]))

    def row(self) -> m.WorkingOrder:
        return m.WorkingOrder(
            client_order_id=self.some_id(),
            symbol=self.rng.choice(["NQ", "ES"]),
            side=self.rng.choice(list(m.Side)),
            state=self.rng.choice(list(m.LegState)),
            quantity=self.rng.choice(LOTS),
            filled=self.rng.choice([D(0), *LOTS]),
            platform_order_id=self.rng.choice(["", "1", "2"]),
        )

    def snapshot(self, platform: str) -> None:
        rng = self.rng
        lots = [*LOTS[:4], D(-2), D(0)]
        tickets = ["", "T1", "T2"]
        self.desk.snapshot(
            platform,
            orders=[self.row() for _ in range(rng.randrange(4))],
            fills=[self.make_fill(platform) for _ in range(rng.randrange(4))],
            positions=[("NQ", rng.choice(lots), rng.choice(tickets)) for _ in range(rng.randrange(3))],
            complete=rng.random() < 0.8,
            from_ns=rng.choice([0, self.desk.now_ns]),
        )

    def command(self, platform: str) -> None:
        rng = self.rng
        level = rng.choice(list(m.KillLevel))
        commands = [
            m.Kill(request_id=1, level=level, reason="", by="x", platform=platform, own_only=rng.random() < 0.5),
            m.Kill(request_id=1, level=level, reason="", by="x", own_only=rng.random() < 0.5),
            m.Resume(request_id=1, reason="", by="x", platform=rng.choice(["", platform])),
            m.Acknowledge(request_id=1, platform="", symbol="NQ", by="x"),
            m.AccountRetire(request_id=1, platform=platform, by="x", confirmation=rng.choice(["", "acc", "acc"])),
            m.StageChange(request_id=1, stage=1, by="x"),
            m.Query(request_id=1, what=rng.choice(list(m.QueryKind)), signal_id=self.some_signal()),
        ]
        self.desk.ask(rng.choice(commands))

    def link(self, platform: str) -> None:
        rng = self.rng
        names = (
            "brackets",
            "oco",
            "reduce_only",
            "close_by_ticket",
            "executions_history",
            "replace",
            "replace_quantity",
        )
        able = {name: rng.random() < 0.6 for name in names}
        if not self.signals or rng.random() < 0.6:
            self.desk.link_up(platform, rng.choice(list(m.AccountMode)), answer=rng.random() < 0.5, **able)
        elif rng.random() < 0.5:
            self.desk.link_down(platform)
        else:
            self.desk.give(e.Started(boot_id="g2", settings=self.desk.settings, limits=self.desk.limits))

    def news(self, platform: str) -> None:
        rng = self.rng
        funds = m.Account(
            platform=platform,
            account="acc",
            currency=rng.choice(["USD", "BRL", "EUR"]),
            balance=D(1),
            equity=rng.choice([D(10_000), D(0), D("-1E+9"), D("1E+11")]),
            day_start_equity=rng.choice([None, D(10_000)]),
            as_of_ns=self.desk.now_ns,
        )
        policy = rng.choice(["hold", "close", "roll"])
        events: list[e.Event] = [
            e.MarketMoved(markets=self.contexts()),
            e.ContractChosen(root="NQ", contract="NQM25", old="NQH25", policy=policy, markets=self.contexts()),
            e.AdapterSaid(message=funds),
        ]
        self.desk.give(rng.choice(events))


@rounds(25, 1000)
@pytest.mark.parametrize("part", range(6))
def test_a_random_history_neither_raises_nor_differs_when_it_is_replayed(chance, part, rounds):
    for seed in [chance.getrandbits(32) for _ in range(rounds)]:
        history = History(seed)
        history.run(60)
        desk = history.desk
        again = Engine(desk.settings, desk.limits)
        for at_ns, event in desk.events:
            again.handle(decode_event(encode_event(event), 0), at_ns)
        assert again.digest() == desk.engine.digest(), f"seed {seed}"
        assert Engine.load(desk.engine.save()).digest() == desk.engine.digest(), f"seed {seed}"
        assert desk.engine.next_due_ns() == again.next_due_ns(), f"seed {seed}"
