"""A fake NEXUS: sends signals, repeats them until it has a report, changes its mind."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from nexus_gateway.core import messages as m

from tests.simulation.faults import Faults
from tests.simulation.platform import BASE, SYMBOL, FakePlatform
from tests.simulation.schedule import MS, Schedule

KINDS = list(m.FanOutKind)
LARGE = 25
"""Lots of a large entry, in runs with thin books."""


class Nexus:
    """`send` gives the gateway a message; lost, doubled and late ones are the link's business."""

    def __init__(
        self, schedule: Schedule, faults: Faults, platforms: list[FakePlatform], send: Callable[[object], None]
    ) -> None:
        self.schedule, self.faults, self.platforms, self.send = schedule, faults, platforms, send
        self.signals: dict[str, m.Signal] = {}
        self.reports: dict[str, m.Report] = {}
        self.by_key: dict[str, m.Signal] = {}
        self.reducing: set[str] = set()
        self.issued_ns: dict[str, int] = {}
        self.on_report: Callable[[m.Report], None] = lambda report: None
        self.side = m.Side.BUY

    def receive(self, message: object) -> None:
        if isinstance(message, m.Report):
            self.on_report(message)
            old = self.reports.get(message.signal_id)
            if old is None or message.revision >= old.revision:
                self.reports[message.signal_id] = message

    def invent_signal(self) -> None:
        rng = self.schedule.rng
        number = len(self.signals)
        targets = rng.sample(self.platforms, rng.randrange(1, len(self.platforms) + 1))
        kind = rng.choice(KINDS if len(targets) > 1 else KINDS[:3])
        if rng.random() < 0.2:  # most go one way: on a netting account the other way is refused while one is held
            self.side = rng.choice([m.Side.BUY, m.Side.SELL])
        side = self.side
        middle = BASE[self.platforms[0].front]
        price = middle - 2 * side.sign
        order_type = rng.choice([m.OrderType.MARKET, m.OrderType.MARKET, m.OrderType.LIMIT, m.OrderType.STOP])
        stop = middle - 10 * side.sign
        target = middle + 10 * side.sign if rng.random() < 0.5 else None
        signal = m.Signal(
            signal_id=f"s{number}",
            symbol=SYMBOL,
            side=side,
            created_ns=self.schedule.wall_ns,
            targets=tuple(m.Target(platform=p.name) for p in targets),
            quantity=self._draw_size(),
            order_type=order_type,
            limit_price=price if order_type is m.OrderType.LIMIT else None,
            stop_price=price + 4 * side.sign if order_type is m.OrderType.STOP else None,
            bracket=self._bracket(stop, target),
            policy=m.FanOut(
                kind=kind,
                quorum=rng.randrange(1, len(targets) + 1) if kind is m.FanOutKind.QUORUM else 0,
                decide_within_ms=rng.choice([0, 3_000]),
            ),
        )
        self._issue(signal)
        if self.faults.reduction:
            self.schedule.at(self.schedule.extra.randrange(500, 15_000) * MS, lambda: self._reduce(signal))
        self.schedule.at(rng.randrange(500, 20_000) * MS, lambda: self._change(signal))

    def _draw_size(self) -> Decimal:
        """Now and then so many lots that a thin book takes a minute to close them, one by one."""
        lots = Decimal(self.schedule.rng.randrange(1, 4))
        return Decimal(LARGE) if self.faults.thin_book and self.schedule.extra.random() < 0.08 else lots

    def _issue(self, signal: m.Signal) -> None:
        self.issued_ns[signal.signal_id] = self.schedule.now_ns
        self.signals[signal.signal_id] = self.by_key[m.signal_key(signal.signal_id)] = signal
        self._repeat(signal, 0)

    def _reduce(self, signal: m.Signal) -> None:
        """Close a part of what may be held: one lot, at the market, by a signal of its own."""
        if not self.faults.happens("reduction", self.schedule):
            return
        reduction = m.Signal(
            signal_id=f"r{len(self.signals)}",
            symbol=SYMBOL,
            side=signal.side.opposite,
            created_ns=self.schedule.wall_ns,
            targets=signal.targets[:1],
            quantity=Decimal(1),
            reduce_only=True,
        )
        self.reducing.add(m.signal_key(reduction.signal_id))
        self._issue(reduction)

    def close_all(self, platform: str) -> None:
        """Close its newest signals of a platform."""
        mine = [name for name, signal in self.signals.items() if platform in {each.platform for each in signal.targets}]
        for name in mine[-15:]:
            self.send(m.SignalClose(signal_id=name))

    def _bracket(self, stop: Decimal, target: Decimal | None) -> m.Bracket:
        """By price, or by a distance that is off every grid."""
        if self.schedule.rng.random() < 0.6:
            return m.Bracket(stop_loss=stop, take_profit=target)
        return m.Bracket(stop_distance=Decimal("9.9"), take_profit_distance=None if target is None else Decimal("10.1"))

    def _repeat(self, signal: m.Signal, tries: int) -> None:
        """At least once: the same id again until the gateway has answered."""
        if signal.signal_id in self.reports or tries > 40:
            return
        self.send(signal)
        self.schedule.at(700 * MS, lambda: self._repeat(signal, tries + 1))

    def _change(self, signal: m.Signal) -> None:
        rng = self.schedule.rng
        what = rng.random()
        name = signal.signal_id
        if what < 0.25:
            self.send(m.SignalCancel(signal_id=name))
        elif what < 0.4 and signal.order_type is m.OrderType.LIMIT:
            assert signal.limit_price is not None
            assert signal.quantity is not None
            quantity = Decimal(rng.randrange(1, int(signal.quantity) + 1))
            price = signal.limit_price + Decimal("0.25") if rng.random() < 0.6 else None
            request = m.SignalReplace(signal_id=name, quantity=quantity, limit_price=price)
            self.send(request)
        elif what < 0.9:
            self.send(m.SignalClose(signal_id=name))
        elif what < 0.95:
            self.send(signal)
