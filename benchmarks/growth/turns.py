"""What a clock tick costs with signals open, and a snapshot with executions remembered."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import msgspec
from nexus_gateway.core import messages as m
from nexus_gateway.core.engine import ClockTicked

from benchmarks.growth import rig
from benchmarks.order_rig import PRICE, expect
from tests.virtual_days.days import VirtualDays
from tests.virtual_days.trader import DAY_NS

_A_DAY = 20_000
_MS = 10**6
_ROWS = 1_000
_AT_ONCE = 100


def measure_ticks(base: Path | None, held: tuple[int, ...], ticks: int = 200) -> None:
    """Ticks of the clock, 1 ms after one another, with that many signals open on six platforms each."""
    with rig.folder(base) as root, rig.days(root) as made:
        for count in held:
            made.trader.trade(_A_DAY, hold_ns=30 * 86_400 * 10**9)
            made.run_until(lambda count=count: len(made.trader.signals) >= count, step_ns=10**9)
            made.trader.rest()
            rig.check(made)
            expect(len(made.engine.state.active), len(made.trader.signals))
            samples_ns, from_ns = [], made.engine.state.now_ns
            for number in range(ticks):
                before_ns = time.thread_time_ns()
                made.engine.handle(ClockTicked(), from_ns + number * _MS)
                samples_ns.append(time.thread_time_ns() - before_ns)
            rig.print_times(f"clock tick, {len(made.trader.signals):,} signals open, us", samples_ns, 1e3)
            made.run_for(10**9)


def measure_snapshots(base: Path | None, remembered: tuple[int, ...], rounds: int = 20) -> None:
    """Turns that take a snapshot of 1,000 executions known already, with more and more of them remembered.

    The largest number is traded in a week, at an even pace; the smaller ones are its first hours and days.
    """
    with rig.folder(base) as root, rig.days(root) as made:
        listing = _Listing(made, "nt8", pause_ns=7 * DAY_NS * _AT_ONCE // max(remembered))
        for count in remembered:
            listing.trade(count - len(listing.fills))
            samples_ns = [listing.snapshot() for _ in range(rounds)]
            route = made.engine.state.routes[made.platforms["nt8"].route]
            expect(route.ready, True)
            known = f"{count:,} traded, {len(route.executions):,} in the state"
            rig.print_times(f"snapshot of {_ROWS:,} rows, {known}, ms", samples_ns)


class _Listing:
    """A platform on which a person trades; its snapshots list the newest executions, flat and without orders."""

    def __init__(self, made: VirtualDays, name: str, pause_ns: int) -> None:
        """`pause_ns`: after each `_AT_ONCE` executions."""
        self._pause_ns = pause_ns
        self._made, self._platform = made, made.platforms[name]
        self._receive_as_before = self._platform.receive
        self._platform.receive = self._receive  # type: ignore[method-assign]  # its answers, from now on
        self._is_holding = False
        self._held: m.Snapshot | None = None
        self.fills: list[m.Fill] = []

    def trade(self, count: int) -> None:
        made, whose = self._made, {"platform": self._platform.name, "account": self._platform.account}
        for number in range(count):
            fill = m.Fill(
                **whose, exec_id=f"h{len(self.fills)}", client_order_id="", symbol="NQ", quantity=Decimal(1),
                side=m.Side.SELL if number % 2 else m.Side.BUY, price=PRICE, ts_event_ns=made.schedule.now_ns,
                platform_order_id=f"o{len(self.fills)}", fee_currency="USD",
            )  # fmt: skip
            self.fills.append(fill)
            made.say(self._platform.name, fill)
            if number % _AT_ONCE == _AT_ONCE - 1:
                made.run_for(self._pause_ns)
        made.run_for(120 * 10**9)

    def snapshot(self) -> int:
        """Processor time, ns, of the turn that takes the answer to the gateway's next request."""
        made = self._made
        self._is_holding = True
        made.run_until(lambda: self._held is not None, step_ns=10**9)
        made.run_for(_MS)
        answer, self._held, self._is_holding = self._held, None, False
        before = len(made.turns_ns)
        made.say(self._platform.name, answer)
        made.run_for(0)
        expect(len(made.turns_ns), before + 1)
        return made.turns_ns[before]

    def _receive(self, message: object, now_ns: int) -> list[object]:
        said = self._receive_as_before(message, now_ns)
        if not isinstance(message, m.SnapshotRequest):
            return said
        rows = tuple(self.fills[-_ROWS:])
        plain = said.pop()
        listed = msgspec.structs.replace(
            plain.executions, rows=rows, from_ns=rows[0].ts_event_ns if rows else plain.executions.from_ns
        )
        answer = msgspec.structs.replace(plain, executions=listed)
        if self._is_holding:
            self._held = answer
            return said
        return [*said, answer]
