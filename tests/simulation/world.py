"""One run, wired together: a storm of a few simulated minutes, then calm, then the invariants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m

from tests.simulation.draws import draw_platform
from tests.simulation.exchange import Exchange
from tests.simulation.exposure import Exposure
from tests.simulation.faults import Faults, draw_clock_faults, draw_exit_faults, draw_faults
from tests.simulation.gateway import ADMIN, NEXUS, SimulatedGateway, StandsStillError
from tests.simulation.invariants import find_violations
from tests.simulation.lies import Liar
from tests.simulation.markets import Markets
from tests.simulation.nexus import LARGE, Nexus
from tests.simulation.operator import Operator
from tests.simulation.plants import Plants
from tests.simulation.platform import FakePlatform, HeldOrder
from tests.simulation.schedule import MS, SECOND, START_NS, Schedule
from tests.simulation.surroundings import make_limits
from tests.simulation.weather import Weather

STORM_NS = 90 * SECOND
CALM_NS = 120 * SECOND
FINISHED_AFTER_MS = (4_000, 10_000, 30_000)
"""Signals become rows of the journal long before what is said of them has ended."""


@dataclass
class Outcome:
    seed: int
    digest: str
    violations: list[str]
    orders: int
    events: int
    crashes: int
    signals: int
    fills: int
    counts: dict[str, int]
    faults: dict[str, int]
    drawn: str
    lines: list[str] | None
    naked_worst: dict[str, int] = field(default_factory=dict)
    races: dict[str, int] = field(default_factory=dict)


class World:
    """Everything of one run, wired together. `clocks`: the wall clock is set in some runs."""

    def __init__(
        self,
        seed: int,
        plants: Plants | None = None,
        faults: Faults | None = None,
        keep_lines: bool = False,
        liars: bool = False,
        clocks: bool = True,
    ):
        self.schedule = Schedule(seed)
        if keep_lines:
            self.schedule.lines = []
        rng = self.schedule.rng
        drawn = draw_faults(rng, liars)
        draw_exit_faults(drawn, self.schedule.extra)
        if clocks:
            draw_clock_faults(drawn, self.schedule.extra)
        self.faults = faults if faults is not None else drawn
        self.drawn = self.faults.describe()
        self.platforms = [self._platform(number) for number in range(rng.randrange(1, 5))]
        self.by_name = {platform.name: platform for platform in self.platforms}
        self.link_up = {platform.name: False for platform in self.platforms}
        self.sessions = {platform.name: 0 for platform in self.platforms}
        trades, lots = rng.choice([6, 40, 1_000, 1_000]), rng.choice([12, 100])
        # In half of the runs a new trading day begins in the middle of the storm.
        day_starts = "03:54" if seed % 2 else "17:00"
        loss_usd = 60 if seed % 5 == 0 else 1_000_000  # hit in some runs, which then hardly trade any more
        self.limits = make_limits(tuple(self.by_name), trades, lots, day_starts, loss_usd, LARGE)
        self.markets = Markets(self.schedule, self.platforms)
        self.gateway = SimulatedGateway(
            self.schedule,
            self.faults,
            e.EngineSettings(
                expected_platforms=tuple(self.by_name),
                client_order_id_chars=22,
                close_overfills=seed % 3 > 0,
                await_brackets=True,
                # In most runs the process compares regularly, and the engine only now and then, as in the gateway.
                check_ms=[None, 2_000, 10_000, 30_000][seed % 4],
                proof_ms=3_600_000 if seed % 4 else 30_000,
                finished_after_ms=FINISHED_AFTER_MS[seed % len(FINISHED_AFTER_MS)],
            ),
            self.limits,
            plants or Plants(),
            self.markets,
            self._to_platform,
            self._cut,
            lambda message: self._hop(lambda: self.nexus.receive(message)),
        )
        self.gateway.on_start = self._connect_all
        self.nexus = Nexus(
            self.schedule, self.faults, self.platforms, lambda body: self._hop(lambda: self.gateway.ask(NEXUS, body))
        )
        self.exchange = Exchange(self.schedule, self.markets, self.platforms, self._break_link)
        self.gateway.contracts = self.exchange.contracts
        self.gateway.sent.reducing = self.nexus.reducing
        self.weather = Weather(
            self.schedule, self.faults, self.platforms, self.gateway, self._cut_for, STORM_NS, self._leave
        )
        self.exposure = Exposure(self.schedule, self.gateway, self.nexus, self._wants_stop, lambda n: self.link_up[n])
        self._watch()
        self.operator = Operator(self.schedule, self.faults, self.gateway, self.by_name)

    def _platform(self, number: int) -> FakePlatform:
        name = f"p{number}"
        liar = Liar(self.schedule, self.faults)
        tell = lambda message: self._tell(name, liar.tell(message))  # noqa: E731
        return draw_platform(name, self.schedule, self.faults, tell)

    def _watch(self) -> None:
        """Judge exits after every event."""
        for platform in self.platforms:
            platform.watcher = self.exposure
        gateway, exposure = self.gateway, self.exposure
        gateway.on_handled = exposure.handled
        gateway.on_loss = exposure.forget
        self.nexus.on_report = exposure.reported
        gateway.on_fault = lambda: [exposure.lost(name) for name in self.by_name]

    def _wants_stop(self, platform: FakePlatform, held: HeldOrder) -> bool:
        """Whether the gateway keeps a stop for what this order opens."""
        signal = self.nexus.by_key[held.parts.key]
        if self.gateway.sent.first_sent_ns.get(held.order.client_order_id, 0) <= self.exposure.forgot_ns:
            return False  # sent before the journal lost its tail
        if platform.capabilities.brackets or signal.bracket is None or held.parts.role is m.OrderRole.HEDGE:
            return False
        if signal.policy.kind is m.FanOutKind.PRIMARY_THEN_HEDGE and held.parts.leg > 0:
            return False  # a hedge that was rolled
        return held.parts.role is m.OrderRole.ENTRY or self.exchange.spread_is_known

    def _tell(self, name: str, message: object | None) -> None:
        if message is not None:
            self._to_gateway(name, message)

    def _hop(self, arrive, platform: str = "") -> None:
        """A message on its way: lost, doubled, late, and so out of order."""
        faults, rng = self.faults, self.schedule.rng
        if faults.strike("lost", self.schedule):
            self.exposure.lost(platform)
            return
        for _ in range(2 if faults.strike("doubled", self.schedule) else 1):
            delay_ns = rng.randrange(MS // 5, 3 * MS)
            if faults.strike("late", self.schedule):
                delay_ns = rng.randrange(MS, 4_000 * MS)
                self.exposure.late(platform, delay_ns)
            self.schedule.at(delay_ns, arrive)

    def _to_platform(self, name: str, message: object) -> None:
        self.exposure.sent(self.by_name[name], message)
        self._send(name, lambda: self.by_name[name].receive(message))

    def _to_gateway(self, name: str, message) -> None:
        self._send(name, lambda: self._arrive(name, message))

    def _send(self, name: str, arrive: Callable[[], object]) -> None:
        """A message of the session of now, lost when that is over before it arrives."""
        session = self.sessions[name]

        def arrive_or_lose() -> None:
            if self.sessions[name] == session:
                arrive()
            else:
                self.exposure.lost(name)

        if self.link_up[name]:
            self._hop(arrive_or_lose, name)
        else:
            self.exposure.lost(name)

    def _arrive(self, name: str, message) -> None:
        if self.gateway.ports is not None:
            self.gateway.ports.adapters.said(self._peer(name), message)
            self.exposure.told(self.by_name[name], message)
            self.gateway.wake()

    def _peer(self, name: str) -> str:
        return f"{name}|{self.by_name[name].account}"

    def _connect_all(self) -> None:
        for platform in self.platforms:
            self._break_link(platform.name)

    def _break_link(self, name: str) -> None:
        self._cut_for(name, 0)

    def _cut_for(self, name: str, at_least_ns: int) -> None:
        """Messages of the old session are lost; a new one begins a little later."""
        self.link_up[name] = False
        if self.gateway.ports is not None:
            self.gateway.ports.adapters.down(self._peer(name), "broken")
            self.gateway.wake()
        self._connect_in(name, at_least_ns + self.schedule.rng.randrange(10, 2_000) * MS)

    def _connect_in(self, name: str, delay_ns: int) -> None:
        self.sessions[name] += 1
        session = self.sessions[name]
        self.schedule.at(delay_ns, lambda: self._connect(name, session))

    def _connect(self, name: str, session: int) -> None:
        gateway = self.gateway
        if self.sessions[name] != session or gateway.ports is None or gateway.greeter is None:
            return
        hello = self.by_name[name].hello()
        if not gateway.greeter.greet(hello).accepted:
            self._connect_in(name, 3 * SECOND)  # severed: the adapter keeps knocking
            return
        self.link_up[name] = True
        self.exposure.note_command()
        gateway.ports.adapters.up(self._peer(name), hello)
        gateway.wake()

    def _cut(self, name: str) -> None:
        """The gateway has cut the link; the adapter connects again."""
        self.link_up[name] = False
        self._connect_in(name, self.schedule.rng.randrange(200, 3_000) * MS)

    def _kill_or_resume(self) -> None:
        rng = self.schedule.rng
        platform = rng.choice(["", *self.by_name])
        if rng.random() < 0.5:
            kill = m.Kill(
                request_id=2,
                level=m.KillLevel(rng.randrange(1, 6)),
                reason="practice",
                by="sim",
                platform=platform,
                own_only=rng.random() < 0.3,
            )
            self.gateway.ask(ADMIN, kill)
        for _ in range(3):
            delay_ns = rng.randrange(3_000, 25_000) * MS
            self.schedule.at(delay_ns, lambda: self._resume(platform))

    def _leave(self, platform: str) -> None:
        """In a market that is shut: NEXUS closes what it has, or the operator flattens."""
        if self.schedule.extra.random() < 0.7:
            self.nexus.close_all(platform)
            return
        kill = m.Kill(request_id=6, level=m.KillLevel.FLATTEN, reason="out", by="sim", platform=platform)
        self.gateway.ask(ADMIN, kill)
        for seconds in (15, 30, 60):
            self.schedule.at(seconds * SECOND, lambda: self._resume(platform))

    def _resume(self, platform: str) -> None:
        request = m.Resume(request_id=3, reason="practice over", by="sim", platform=platform)
        self.gateway.ask(ADMIN, request)

    def _resume_severed(self) -> None:
        """Else nobody could ever say what is true behind the cut link."""
        if self.gateway.engine is None:
            return
        for name, route in list(self.gateway.engine.state.routes.items()):
            if route.severed:
                self._resume(name.split("|")[0])

    def _weather(self) -> None:
        if self.faults.strike("kill", self.schedule):
            self._kill_or_resume()
        for platform in self.platforms:
            if self.faults.strike("link_break", self.schedule, 5):
                self._break_link(platform.name)
            if self.faults.strike("by_hand", self.schedule, 5):
                platform.trade_by_hand()
        rng = self.schedule.rng
        if self.gateway.engine is not None:
            for name, kill in self.gateway.engine.state.kills.items():
                command = kill.command
                if command is not None and "was dropped" in command.reason and rng.random() < 0.3:
                    self._resume(name.split("|")[0])
        if self.schedule.now_ns < START_NS + STORM_NS:
            self.schedule.at(SECOND, self._weather)

    def run(self) -> Outcome:
        try:
            self._storm()
            self._calm()
        except StandsStillError:
            pass  # it is in `broken`
        return self._outcome()

    def _storm(self) -> None:
        rng = self.schedule.rng
        self.gateway.start()
        self.exchange.step()
        self.operator.step()
        self._weather()
        self.weather.step()
        self.exposure.tick()
        gap_ms = rng.choice([300, 1_000, 3_000])
        at_ns = 2_500 * MS
        while at_ns < STORM_NS:
            self.schedule.at(at_ns, self.nexus.invent_signal)
            at_ns += rng.randrange(1, 2 * gap_ms) * MS
        self.schedule.run_until(self.weather.ends_ns)

    def _calm(self) -> None:
        self.faults.calm()
        self.weather.calm()
        self.exchange.relapse = 0.0
        if self.gateway.engine is not None:
            for platform in self.platforms:
                self._break_link(platform.name)
        for seconds in (4, 20, 40):
            # A gateway that has just crashed is back by the first; a kill of the storm's end cuts only when its
            # patience has run out.
            self.schedule.at(seconds * SECOND, self._resume_severed)
        self.schedule.run_until(self.weather.ends_ns + CALM_NS)

    def _outcome(self) -> Outcome:
        gateway, engine = self.gateway, self.gateway.engine
        violations = list(dict.fromkeys(gateway.broken)) + find_violations(gateway, self.nexus, self.platforms)
        self.schedule.trace("end", engine.digest() if engine is not None else "")
        return Outcome(
            seed=0,
            digest=self.schedule.digest(),
            violations=violations,
            orders=gateway.sent.orders,
            events=gateway.events,
            crashes=gateway.crashes,
            signals=len(self.nexus.signals),
            fills=sum(len(platform.executions) for platform in self.platforms),
            counts=dict(engine.state.counts) if engine is not None else {},
            faults=dict(self.faults.seen),
            drawn=self.drawn,
            lines=self.schedule.lines,
            naked_worst=self.exposure.naked.worst,
            races=self.exposure.counts,
        )
