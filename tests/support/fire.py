"""Rounds of trading under faults: NEXUS enters, closes, reduces and flattens while something is broken; then all is
calm, and what the gateway believes must be what the exchanges' ledgers say.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from msgspec.structs import replace
from nexus_gateway.core.messages import Fill, OrderRole, Query, QueryKind, Side, SignalClose, SignalState

from .patience import patient
from .venue import Venue
from .venue_adapter import Habits, Trouble
from .venue_scene import VenueScene

HABITS = {
    "nt8": Habits(oco=True),
    "sierra": Habits(brackets=True),
    "quantower": Habits(replace=False, reduce_only=True),
    "mt5": Habits(hedging=True, brackets=True),
}
"""Pairs that die together; brackets at the platform; nothing can be replaced and reduce-only is kept; by ticket."""
_MOST_OPEN = 4
_REFUSALS = {"refuses all": "ESTX", "refuses closing": "X", "refuses stops": "ST", "refuses cancels": "C"}
_FAULTS = (
    "kill gateway", "kill adapter", "break link", "swallow", "stop first", "stop first", "lie", "silent", *_REFUSALS
)  # fmt: skip
_WHERE = {
    "stop first": ("nt8", "sierra", "nt8", "sierra", "mt5"),
    "refuses closing": ("nt8", "sierra", "quantower"),
    "refuses stops": ("nt8", "quantower"),
    "refuses cancels": ("nt8", "sierra", "quantower"),
    "swallow": ("nt8", "sierra", "quantower"),
}
"""Where a fault can do harm: other platforms keep the stops themselves, or close by ticket and cancel nothing."""


def other_side(fill: Fill) -> Fill:
    return replace(fill, side=Side.SELL if fill.side is Side.BUY else Side.BUY)


def twice_the_size(fill: Fill) -> Fill:
    return replace(fill, quantity=2 * fill.quantity)


class Fire:
    """`chance`: its random numbers. `longest_s`: of a fault. `story`: what was done, a line each."""

    def __init__(self, scene: VenueScene, chance: random.Random, longest_s: float) -> None:
        self.scene, self.chance, self.longest_s = scene, chance, longest_s
        self.story: list[str] = []
        self.counts: Counter[str] = Counter()
        self.open: list[str] = []
        self.wanted_closed: list[str] = []
        self.flattened: list[str] = []
        self._links = 0
        self._deck: list[str] = []

    def round(self, number: int) -> None:
        """Enter, break something while it is closed or protected, and hold belief against ledgers when all is calm."""
        self.story.append(f"round {number}")
        entered = self._enter()
        if self.chance.random() < 0.6:
            self.calm("entered")
            for report in (self.scene.last_reports()[each] for each in entered):
                why = [leg.text for leg in report.legs]
                assert report.state is SignalState.FILLED, self.text(f"{report.signal_id} {report.state}: {why}")
        else:
            self.counts["while entering"] += 1
        faults = [self._draw_fault() for _ in range(self.chance.choice((1, 1, 2)))]
        steps: list[Callable[[], None]] = [partial(self._fail, name, venue) for name, venue in faults]
        steps += self._exits([venue.name for _, venue in faults])
        if self.chance.random() < 0.3:
            self.chance.shuffle(steps)
        for step in steps:
            step()
            self.scene.floor.rest(self.chance.choice((0, 0, 0.01, 0.1)))
        self.scene.floor.rest(self.chance.uniform(0.1, self.longest_s))
        self._see_stops()
        self.calm("at the end")

    def finish(self) -> None:
        """Close all that is open, in calm."""
        for signal_id in self.open:
            self._close(signal_id)
        self.calm("closed")
        for venue in self.scene.venues.values():
            assert (venue.held(), venue.working()) == ({}, []), self.text(venue.name)

    def text(self, why: object) -> str:
        return "\n".join((*self.story[-25:], str(why)))

    # What NEXUS does.

    def _enter(self) -> list[str]:
        entered = []
        for _ in range(self.chance.choice((1, 2))):
            symbol, side = self.chance.choice((("NQ", Side.BUY), ("ES", Side.SELL)))
            names = self.chance.sample(sorted(self.scene.venues), self.chance.choice((1, 3, 4)))
            for name in names:
                self.scene.venues[name].one_by_one = self.chance.random() < 0.3
            lots, target = self.chance.choice((1, 2, 3)), self.chance.random() < 0.4
            signal_id = self.scene.enter(*names, lots=lots, side=side, symbol=symbol, target=target)
            entered.append(signal_id)
            self.story.append(f"  enter {signal_id}: {side} {lots} {symbol} on {names}, target {target}")
        self.open += entered
        return entered

    def _exits(self, broken: list[str]) -> list[Callable[[], None]]:
        """What NEXUS, operator and market do now. `broken`: platforms where something fails: there most is closed."""
        open_at = {each: {target.platform for target in self.scene.sent[each].targets} for each in self.open}
        there = [each for each in self.open if open_at[each] & set(broken[:1])]
        closed = {
            *self.open[:-_MOST_OPEN],
            *self.chance.sample(there, min(len(there), self.chance.choice((0, 1, 1, 2)))),
        }
        kept = [each for each in self.open if each not in closed and self.chance.random() < 0.5]
        steps = [partial(self._close, each) for each in self.open if each in closed]
        steps += [partial(self.chance.choice((self._close, self._reduce, self._reduce)), each) for each in kept]
        draw = self.chance.random()
        if draw < 0.25:
            steps.append(partial(self._flatten, self.chance.choice(("", *self.scene.venues))))
        elif draw < 0.5:
            role = self.chance.choice((OrderRole.STOP_LOSS, OrderRole.TAKE_PROFIT))
            steps.append(partial(self._hit, self.chance.choice(list(self.scene.venues)), role))
        return steps

    def _close(self, signal_id: str) -> None:
        self._note("close", signal_id)
        self.wanted_closed.append(signal_id)
        self.scene.close(signal_id)

    def _reduce(self, signal_id: str) -> None:
        signal = self.scene.sent[signal_id]
        names = [target.platform for target in signal.targets if target.platform != "mt5"]
        if names:
            side = Side.SELL if signal.side is Side.BUY else Side.BUY
            own = self.scene.enter(*names, side=side, symbol=signal.symbol, reduce_only=True, bracket=None)
            self._note("reduce", f"{signal_id} on {names} by {own}")

    def _flatten(self, name: str) -> None:
        self._note("flatten", name or "all")
        self.flattened.append(name)
        self.scene.flatten(name)

    def _hit(self, name: str, role: OrderRole) -> None:
        """The market reaches a stop or a target."""
        resting = self.scene.venues[name].working(role)
        if resting:
            self._note(f"hit {role.name.lower()}", f"{name} {resting[0].row.client_order_id}")
            self.scene.venues[name].trade(resting[0])

    # What goes wrong.

    def _draw_fault(self) -> tuple[str, Venue]:
        """The next fault and its platform: each fault comes up once before one comes up again."""
        if not self._deck:
            self._deck = self.chance.sample(_FAULTS, len(_FAULTS))
        name = self._deck.pop()
        places = _WHERE.get(name, tuple(HABITS))
        held = [each for each in places if self.scene.venues[each].held()]
        return name, self.scene.venues[self.chance.choice(held or places)]

    def _fail(self, name: str, venue: Venue) -> None:
        self._note(name, "" if name == "kill gateway" else venue.name)
        match name:
            case "kill gateway":
                self.scene.floor.kill()
                self.scene.floor.start()
            case "kill adapter":
                venue.kill_adapter()
            case "break link":
                venue.client.restart("the link is broken")
            case "swallow":
                venue.trouble.swallows = self.chance.choice((1, 2))
            case "stop first":
                venue.trouble.stop_first = 2
            case "lie":
                venue.trouble.lies = [self.chance.choice((other_side, twice_the_size))]
            case "silent":
                venue.trouble.answers = False
            case _:
                venue.trouble.refuses = _REFUSALS[name]

    def _note(self, what: str, detail: str) -> None:
        self.counts[what] += 1
        self.story.append(f"  {time.monotonic():.2f} {what} {detail}")

    def _see_stops(self) -> None:
        """Where only closing orders are refused, every lot must have its stop again while they still are."""
        for venue in self.scene.venues.values():
            if venue.trouble.refuses == "X":
                self.scene.until(
                    lambda venue=venue: all(abs(venue.net[each]) == venue.stop_lots(each) for each in venue.net)
                )

    # When all is calm.

    def calm(self, when: str) -> None:
        """End all faults, wait until all is settled, and compare."""
        scene = self.scene
        for venue in scene.venues.values():
            venue.trouble = Trouble()
        deadline_s = time.monotonic() + patient(40)
        while left := self._unsettled():
            if time.monotonic() > deadline_s:
                raise AssertionError(self.text(f"{when}: {left}\n{scene.floor.log()[-3000:]}"))
            scene.floor.rest(0.05)
        for venue in scene.venues.values():
            assert venue.wrong == venue.reused_groups == [], self.text(f"{venue.wrong} {venue.reused_groups}")
        self.open = [each for each in self.open if not scene.is_closed(each)]
        assert scene.floor.counters().get("engine_faults", 0) == 0, self.text("an engine fault")

    def _unsettled(self) -> list[str]:
        scene = self.scene
        if not (scene.nexus.client.is_up and scene.operator.client.is_up):
            return ["no session"]
        self._say_again()
        reports = scene.last_reports()
        left = [
            f"{name}: {reports[name].state if name in reports else 'no report'}"
            for name in scene.sent
            if name not in reports or reports[name].unknown_legs or not _is_answered(reports[name].state)
        ]
        left += [f"{name} is to be closed" for name in self.wanted_closed if not scene.is_closed(name)]
        left += [f"{name} is to be flat" for name in self._to_be_flat() if scene.venues[name].held()]
        left += [f"{name}: {venue.turned_over()}" for name, venue in scene.venues.items() if venue.turned_over()]
        if left:
            return left
        self.wanted_closed.clear()
        while self.flattened:
            scene.resume(self.flattened.pop())
        return scene.differences()

    def _to_be_flat(self) -> list[str]:
        return list(self.scene.venues) if "" in self.flattened else self.flattened

    def _say_again(self) -> None:
        """As NEXUS and operator do in a new session: repeat what was perhaps not heard, ask for what was missed."""
        scene = self.scene
        links = scene.nexus.client.counts["links"] + scene.operator.client.counts["links"]
        if links == self._links:
            return
        self._links = links
        reports = scene.last_reports()
        for name, signal in scene.sent.items():
            if name not in reports:
                scene.nexus.client.send(signal)
            elif not scene.is_closed(name):
                scene.nexus.client.send(Query(request_id=1, what=QueryKind.REPORT, signal_id=name))
        for name in self.wanted_closed:
            if not scene.is_closed(name):
                scene.nexus.client.send(SignalClose(signal_id=name))
        for name in self.flattened:
            scene.flatten(name)


def _is_answered(state: SignalState) -> bool:
    """Where one platform of several was flattened, the signal stays `flattening` while the others hold."""
    return state not in (SignalState.WORKING, SignalState.UNKNOWN)
