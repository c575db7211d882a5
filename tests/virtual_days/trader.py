"""A NEXUS in virtual time: a signal to all platforms at regular times, each closed after a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from nexus_gateway.core import messages as m

from tests.simulation.schedule import Schedule

DAY_NS = 86_400 * 10**9


class Trader:
    """`signals`: all that were sent, by id. `reports`: the newest one of each."""

    def __init__(
        self,
        schedule: Schedule,
        platforms: Sequence[str],
        symbol: str,
        price: Decimal,
        send: Callable[[object], None],
    ) -> None:
        self._schedule, self._platforms, self._symbol, self._send = schedule, platforms, symbol, send
        self._stop = price * 99 // 100
        self._interval_ns = self._hold_ns = 0
        self._plan = 0  # raised by each `trade` and `rest`: what an earlier one has planned is void
        self.signals: dict[str, m.Signal] = {}
        self.reports: dict[str, m.Report] = {}
        self.refusals: list[m.Reject] = []
        self.closed: set[str] = set()

    def trade(self, signals_a_day: float, hold_ns: int | None = None) -> None:
        """Open a signal at even times from now on, and close each after `hold_ns`: None = half the time until the
        next one, so that it is flat half of the time.
        """
        self.rest()
        if signals_a_day > 0:
            interval_ns = int(DAY_NS / signals_a_day)
            self._interval_ns, self._hold_ns = interval_ns, interval_ns // 2 if hold_ns is None else hold_ns
            plan = self._plan
            self._schedule.at(interval_ns // 2, lambda: self._open(plan))

    def rest(self) -> None:
        """Open nothing more; what is open is closed at its time."""
        self._plan += 1

    def receive(self, message: object) -> None:
        if isinstance(message, m.Report):
            self.reports[message.signal_id] = message
        elif isinstance(message, m.Reject):
            self.refusals.append(message)

    @property
    def open(self) -> list[str]:
        """Signals that hold something, as far as the reports say."""
        return [name for name, report in self.reports.items() if report.residual_quantity]

    def _open(self, plan: int) -> None:
        if plan != self._plan:
            return
        signal = m.Signal(
            signal_id=f"v{len(self.signals)}",
            symbol=self._symbol,
            side=m.Side.BUY,
            created_ns=self._schedule.wall_ns,
            quantity=Decimal(1),
            targets=tuple(m.Target(platform=name) for name in self._platforms),
            bracket=m.Bracket(stop_loss=self._stop),
        )
        self.signals[signal.signal_id] = signal
        self._send(signal)
        self._schedule.at(self._hold_ns, lambda: self._close(signal.signal_id))
        self._schedule.at(self._interval_ns, lambda: self._open(plan))

    def _close(self, signal_id: str) -> None:
        self.closed.add(signal_id)
        self._send(m.SignalClose(signal_id=signal_id))
