"""One journal of a trading day with everything that a state can hold; `python -m tests.golden.journal` writes it.

It goes to `journals/layout_<STATE_LAYOUT>`, with the facts that the engine held at the end. A golden journal is never
made again for a layout that has been released: it shows what that release really wrote. Each new STATE_LAYOUT keeps the
old folders, adds a converter (`core/engine/state/layouts.py`), and adds its own folder with this script, which refuses
a folder that exists.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import msgspec
from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine.state import STATE_LAYOUT
from nexus_gateway.core.journal import Journal
from nexus_gateway.core.messages import LegState, OrderRole, Side
from nexus_gateway.core.risk import Limits, Stage

from tests.golden.journal_facts import read_facts
from tests.golden.journal_lies import LIAR, lie_and_be_ended, lie_and_stand, lie_at_the_end
from tests.support.orders import D, Desk, market, wide_limits

FOLDER = Path(__file__).parent / "journals"
JOURNAL, FACTS = "orders.sqlite", "facts.json"
OLD, NEW, INDEX = "NQH25", "NQM25", "ESM25"
SETTINGS = e.EngineSettings(
    ack_ms=2_100,
    settle_ms=3_100,
    proof_ms=31_000,
    expected_platforms=("a", "b", "c", LIAR),
    client_order_id_chars=22,
    close_overfills=True,
    finished_after_ms=4_000,
)
HEDGED = "c"
# b keeps no stop and target with an order: the gateway places them itself.
WITHOUT_BRACKETS = "b"


def make_limits() -> Limits:
    """The shipped limits with two stages for four platforms."""
    values = {
        "name": "test",
        "platforms": ("a", "b", "c", LIAR),
        "symbols": ("NQ", "ES"),
        "max_size": D(5),
        "max_trades_per_day": 50,
        "risk_per_trade_usd": D(1000),
        "confirmation": "yes",
    }
    return wide_limits(stages={1: Stage(**values), 2: Stage(**values | {"name": "larger", "max_size": D(6)})})


class JournaledDesk(Desk):
    """A desk whose events and effects go to a journal, one commit an event, and that knows what its platforms hold.

    `filled`: executions by platform, in the symbol's name of now. `contracts`: symbol -> contract by platform.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.filled: dict[str, list[m.Fill]] = {"a": [], "b": [], "c": [], LIAR: []}
        self.contracts = {name: {"NQ": OLD, "ES": INDEX} for name in self.filled}
        super().__init__("a", "b", "c", LIAR, limits=make_limits(), settings=SETTINGS)

    def give(self, event: e.Event) -> list:
        effects = super().give(event)
        self.journal.append(event, self.now_ns, effects)
        self.journal.commit()
        self.now_ns += 7_000_000  # no two events at one moment
        return effects

    def recall(self, signal_id: str) -> None:
        """Give a finished signal back to the engine, as the gateway does when something is said of it."""
        record = self.journal.finished.of_signal(signal_id)
        assert record is not None, f"{signal_id} has not finished"
        self.give(e.SignalRecalled(signal_id=signal_id, layout=record.layout, payload=record.payload))

    def link_up(self, platform: str, answer: bool = True, **shown) -> None:
        hello = m.Hello(
            role=m.Role.ADAPTER,
            name=platform,
            boot_id="b1",
            platform=platform,
            account="acc",
            account_mode=m.AccountMode.HEDGING if platform == HEDGED else m.AccountMode.NETTING,
            capabilities=m.Capabilities(
                order_types=tuple(m.OrderType),
                times_in_force=tuple(m.TimeInForce),
                replace=True,
                brackets=platform != WITHOUT_BRACKETS,
                close_by_ticket=platform == HEDGED,
                flatten=platform == LIAR,
            ),
            instruments=tuple(
                m.Instrument(symbol=symbol, platform_symbol=contract, contract=contract)
                for symbol, contract in self.contracts[platform].items()
            ),
        )
        self.give(e.LinkUp(hello=hello))
        if answer:
            self.show(platform, **shown)

    def show(self, platform: str, orders: tuple = (), **fields) -> None:
        """Answer the pending snapshot request from what has traded there."""
        lots: dict[tuple[str, str], D] = {}
        for fill in self.filled[platform]:
            # One ticket here is one position: a closing order names the ticket that it closes.
            key = (fill.symbol, fill.position_ticket)
            lots[key] = lots.get(key, D(0)) + fill.quantity * fill.side.sign
        if platform == "b":
            lots["NQ", ""] = D(1)  # bought by hand, before the gateway came
        rows = [(symbol, str(held), ticket) for (symbol, ticket), held in lots.items() if held]
        self.snapshot(platform, orders=orders, fills=self.filled[platform], positions=rows, **fields)

    def trade(self, order: m.Order, quantity: object = None, **fields) -> m.Fill:
        ticket = order.close_ticket or (f"T-{order.symbol}" if order.platform == HEDGED else "")
        fill = self.fill(order, quantity, position_ticket=ticket, fee=D("1.25"), fee_currency="USD", **fields)
        self.filled[order.platform].append(fill)
        return fill

    def enter(self, signal_id: str, symbol: str, *platforms: str, quoted: dict | None = None, **fields) -> None:
        values = {"symbol": symbol, "contract": self.contracts[platforms[0]][symbol], "account": "acc"}
        told = tuple(market(name, self.now_ns, **(values | (quoted or {}))) for name in platforms)
        self.signal(*platforms, signal_id=signal_id, symbol=symbol, markets=told, **fields)

    def correct(self, fill: m.Fill, kind: m.CorrectionKind, **fields) -> None:
        names = {"platform": fill.platform, "account": "acc", "exec_id": fill.exec_id}
        self.give(e.AdapterSaid(message=m.Correction(**names, kind=kind, revision=1, **fields)))

    def tell_funds(self, platform: str, equity: str) -> None:
        message = m.Account(
            platform=platform,
            account="acc",
            currency="USD",
            balance=D("50000"),
            equity=D(equity),
            day_start_equity=D("50000"),
            as_of_ns=self.now_ns,
        )
        self.give(e.AdapterSaid(message=message))

    def decide_roll(self) -> None:
        told = []
        for name in self.filled:
            values = {"account": "acc", "quote_ns": self.now_ns}
            told.append(market(name, self.now_ns, **values, contract=OLD))
            new = {"symbol": NEW, "contract": NEW, "bid": D(21180), "ask": D(21180)}
            told.append(market(name, self.now_ns, **(values | new)))
        spread = e.RollSpread(platform="a", old_price=D(21000), new_price=D("21180.10"), spread=D("180.10"))
        self.give(
            e.ContractChosen(root="NQ", contract=NEW, old=OLD, policy="roll", spreads=(spread,), markets=tuple(told))
        )

    def switch(self, platform: str, **shown) -> None:
        """The adapter's NQ is the new contract from now on; the old one goes under its own name."""
        self.contracts[platform] = {"NQ": NEW, OLD: OLD, "ES": INDEX}
        self.filled[platform] = [
            msgspec.structs.replace(fill, symbol=OLD) if fill.symbol == "NQ" else fill for fill in self.filled[platform]
        ]
        self.link_up(platform, **shown)


def trade_before_the_checkpoint(desk: JournaledDesk) -> None:
    """Entries, brackets, refusals, a restart, a kill with its resume, and the first half of a roll."""
    for platform in desk.filled:
        desk.tell_funds(platform, "50000")
    for contract, root in ((OLD, "NQ"), (INDEX, "ES")):
        desk.give(e.ContractChosen(root=root, contract=contract))
    # s1: filled on a and c, stop and target kept by the platforms.
    desk.enter("s1", "NQ", "a", "c", bracket=m.Bracket(stop_loss=D(20990), take_profit=D(21050)))
    for platform in ("a", "c"):
        desk.update(desk.only(platform))
        desk.trade(desk.only(platform), 1)
        desk.trade(desk.only(platform), 1)
    # s2: a limit order on b, two of three lots; the gateway's own stop and target work there.
    both = m.Bracket(stop_loss=D(20990), take_profit=D(21050))
    desk.enter("s2", "ES", "b", quantity=D(3), order_type=m.OrderType.LIMIT, limit_price=D(20999), bracket=both)
    entry = desk.only("b")
    desk.update(entry)
    first = desk.trade(entry, 1)
    desk.trade(entry, 1, price=D(20999))
    for role in (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT):
        for order in [o for o in desk.orders.values() if m.find_client_order_id(o.client_order_id).role is role]:
            desk.update(order)
    desk.correct(first, m.CorrectionKind.CORRECT, quantity=D(1), price=D("20998.5"))
    desk.filled["b"][0] = msgspec.structs.replace(first, price=D("20998.5"))
    # s3: cancelled after a part of it; s4: refused by the platform; s5: bought, and closed with a gain.
    desk.enter("s3", "ES", "a", quantity=D(2), order_type=m.OrderType.LIMIT, limit_price=D(20999))
    desk.update(desk.only("a"))
    desk.trade(desk.only("a"), 1, price=D(20999))
    desk.ask(m.SignalCancel(signal_id="s3"))
    desk.update(desk.only("a"), LegState.CANCELLED, filled=1)
    desk.enter("s4", "ES", "b", quantity=D(1))
    desk.reject(desk.only("b"))
    euro = {"currency": "EUR", "usd_rate": D("1.1"), "usd_rate_ns": desk.now_ns, "usd_rate_source": "test"}
    desk.enter("s5", "ES", "c", quantity=D(1), quoted=euro)
    desk.trade(desk.only("c"))
    desk.ask(m.SignalClose(signal_id="s5"))
    desk.trade(desk.only("c", OrderRole.EXIT), price=D(21012))
    # A kill on c, and its resume.
    desk.ask(m.Kill(request_id=1, level=m.KillLevel.NO_NEW, reason="practice", by="operator", platform="c"))
    desk.show("c")
    desk.ask(m.Resume(request_id=2, reason="practice over", by="operator", platform="c"))
    desk.ask(m.StageChange(request_id=3, stage=2, by="operator", confirmation="yes", evidence="run 9"))
    lie_and_be_ended(desk)
    # The gateway starts again. On a works an order of somebody else, on b one of ours that nothing is known of.
    desk.give(e.Started(boot_id="g2", settings=desk.settings, limits=desk.limits))
    desk.link_up("a", orders=(row_of_others(),))
    desk.link_up("b", orders=(*working_rows(desk, "b"), orphan_row()))
    desk.link_up("c")
    desk.link_up(LIAR)
    lie_and_stand(desk)
    desk.decide_roll()
    desk.switch("a", orders=(row_of_others(),))
    desk.trade(desk.only("a", OrderRole.EXIT), price=D(21010))
    desk.update(desk.only("a", OrderRole.ROLL))
    desk.trade(desk.only("a", OrderRole.ROLL), 1, price=D(21190))
    # s6: its new price is on its way; s7: sent, and not answered in time.
    desk.enter("s6", "ES", "a", quantity=D(1), order_type=m.OrderType.LIMIT, limit_price=D(20995))
    desk.update(desk.only("a"))
    desk.ask(m.SignalReplace(signal_id="s6", limit_price=D("20995.5")))
    desk.enter("s7", "ES", "c", quantity=D(1), order_type=m.OrderType.LIMIT, limit_price=D(20997))
    desk.wait(2_200)
    desk.update(desk.only("b", OrderRole.TAKE_PROFIT))


def trade_behind_the_checkpoint(desk: JournaledDesk) -> None:
    """The second half of the roll, an order without an answer, a bust, and a kill that stands."""
    desk.trade(desk.only("a", OrderRole.ROLL), 1, price=D(21191))
    desk.tell_funds("a", "50123.5")
    resting, late = desk.only("a"), desk.only("c")
    desk.update(resting, limit_price=D("20995.5"), replace_revision=1)
    desk.switch("c", orders=(desk.row(late),))
    for _ in range(2):
        desk.trade(desk.only("c", OrderRole.EXIT), 1, price=D(21008))
    desk.update(desk.only("c", OrderRole.ROLL))
    desk.trade(desk.only("c", OrderRole.ROLL), 2, price=D(21189))
    stop = next(o for o in desk.orders.values() if o.platform == "b" and o.order_type is m.OrderType.STOP)
    desk.trade(stop, 1, price=D(20989))
    bust = desk.filled["a"][2]
    assert bust.symbol == "ES"
    desk.correct(bust, m.CorrectionKind.BUST)
    desk.filled["a"].remove(bust)
    now = market("a", desk.now_ns, symbol="NQ", contract=NEW, account="acc", bid=D(21195), ask=D("21195.25"))
    desk.give(e.MarketMoved(markets=(now,)))
    # s8 is sent, and its platform gone before an answer.
    desk.enter("s8", "NQ", "c", quantity=D(1), side=Side.BUY, bracket=m.Bracket(stop_loss=D(20990)))
    desk.link_down("c")
    desk.wait(2_500)
    desk.tell_funds("b", "49987.25")
    desk.ask(m.Kill(request_id=4, level=m.KillLevel.REDUCE_ONLY, reason="news", by="operator", platform="b"))
    desk.update(desk.only("b", OrderRole.ENTRY), LegState.WORKING)
    desk.give(e.ContractNews(root="ES", text="ES: the next contract trades more than ESM25 since today"))
    desk.wait(500)
    desk.recall("s5")
    lie_at_the_end(desk)


def row_of_others() -> m.WorkingOrder:
    return m.WorkingOrder(
        client_order_id="",
        symbol="ES",
        side=Side.BUY,
        state=LegState.WORKING,
        quantity=D(4),
        filled=D(0),
        platform_order_id="hand-1",
        order_type=m.OrderType.LIMIT,
        limit_price=D(20000),
    )


def orphan_row() -> m.WorkingOrder:
    return m.WorkingOrder(
        client_order_id=m.client_order_id(m.signal_key("of a lost journal"), 0, OrderRole.ENTRY, 0),
        symbol="ES",
        side=Side.SELL,
        state=LegState.WORKING,
        quantity=D(1),
        filled=D(0),
        platform_order_id="lost-1",
        order_type=m.OrderType.LIMIT,
        limit_price=D(22000),
    )


def working_rows(desk: JournaledDesk, platform: str) -> tuple[m.WorkingOrder, ...]:
    """The working orders of s2 as their platform lists them."""
    rows = []
    for order in desk.orders.values():
        role = m.find_client_order_id(order.client_order_id).role
        if order.platform == platform and order.quantity == D(3):
            rows.append(desk.row(order, LegState.PARTIALLY_FILLED, 2))
        elif order.platform == platform and role in (OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT):
            rows.append(desk.row(order))
    return tuple(rows)


def write(folder: Path) -> None:
    """Write the journal as one file without a log beside it, and its facts.

    Raises: FileExistsError when the folder is there: what was released stays as it is.
    """
    folder.mkdir(parents=True)
    path = folder / JOURNAL
    with Journal(path, "process") as journal:
        desk = JournaledDesk(journal)
        trade_before_the_checkpoint(desk)
        journal.checkpoint(desk.engine.save(), desk.now_ns)
        checkpoint_seq = journal.last_seq
        trade_behind_the_checkpoint(desk)
        events = journal.last_seq
    path.with_name(JOURNAL + "-lock").unlink()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("VACUUM")
    connection.close()
    facts = {
        "layout": STATE_LAYOUT,
        "events": events,
        "checkpoint_seq": checkpoint_seq,
        "events_behind_checkpoint": events - checkpoint_seq,
        "facts": read_facts(desk.engine),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / f"layout_{STATE_LAYOUT}")
