"""How badly a run is treated. Drawn from the seed; all zero once the storm is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.simulation.schedule import Schedule

EXIT_KINDS: Final = (
    "refusal",
    "shut_market",
    "wrong_calendar",
    "thin_book",
    "stop_during_close",
    "stop_before_rest",
    "reduction",
    "sleep",
    "resting",
)
"""`refusal`: a period begins in which a platform refuses; `stop_before_rest`: a stop
trades while the rest of its entry works; `reduction`: NEXUS closes a part by a reduce-only signal; `sleep`: the
computer sleeps, and both clocks have jumped when it wakes; `resting`: a
closing order works for a while before it trades.
"""
CLOCK_KINDS: Final = ("clock_step",)
"""Drawn apart: a run without them is otherwise the same."""


@dataclass
class Faults:
    """Probabilities of each kind; `seen` counts what has really happened."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    reject: float = 0.0
    unsolicited_cancel: float = 0.0
    fill_during_cancel: float = 0.0
    bust: float = 0.0
    incomplete_snapshot: float = 0.0
    link_break: float = 0.0
    crash: float = 0.0
    torn: float = 0.0
    missing: float = 0.0
    by_hand: float = 0.0
    kill: float = 0.0
    stall: float = 0.0
    disk_full: float = 0.0
    engine_fault: float = 0.0
    lie: float = 0.0
    lie_about_order: float = 0.0
    lie_about_position: float = 0.0
    overfill: float = 0.0
    reused_id: float = 0.0
    incomplete_part: float = 0.0
    swallowed_snapshot: float = 0.0
    refusal: float = 0.0
    shut_market: float = 0.0
    wrong_calendar: float = 0.0
    thin_book: float = 0.0
    stop_during_close: float = 0.0
    stop_before_rest: float = 0.0
    reduction: float = 0.0
    sleep: float = 0.0
    resting: float = 0.0
    clock_step: float = 0.0
    lists_ended_orders: bool = True
    seen: dict[str, int] = field(default_factory=dict)

    def strike(self, kind: str, schedule: Schedule, times: float = 1.0) -> bool:
        """Whether a fault of this kind happens now."""
        hit = schedule.chance(getattr(self, kind) * times)
        if hit:
            self.note(kind)
        return hit

    def happens(self, kind: str, schedule: Schedule) -> bool:
        """As `strike`, for the kinds of exits and clocks: drawn apart."""
        probability = getattr(self, kind)
        hit = probability > 0 and schedule.extra.random() < probability
        if hit:
            self.note(kind)
        return hit

    def describe(self) -> str:
        """The probabilities of the run that are not zero."""
        drawn = {name: value for name, value in vars(self).items() if name != "seen" and value}
        return ", ".join(f"{name} {value if value is True else format(value, '.3f')}" for name, value in drawn.items())

    def note(self, kind: str) -> None:
        self.seen[kind] = self.seen.get(kind, 0) + 1

    def calm(self) -> None:
        """End of the storm: only what a platform does by right goes on."""
        self.lost = self.doubled = self.late = self.incomplete_snapshot = 0.0
        self.reject = self.unsolicited_cancel = self.fill_during_cancel = self.bust = 0.0
        self.link_break = self.crash = self.torn = self.missing = self.by_hand = self.kill = 0.0
        self.stall = self.disk_full = self.engine_fault = 0.0
        self.lie = self.lie_about_order = self.lie_about_position = self.overfill = self.reused_id = 0.0
        self.incomplete_part = self.swallowed_snapshot = 0.0
        for kind in EXIT_KINDS + CLOCK_KINDS:
            setattr(self, kind, 0.0)

    def quiet(self) -> None:
        """Honest platforms, sound links and a process that lives: what exits have to cope with is then seen alone."""
        seen, lists_ended_orders = self.seen, self.lists_ended_orders
        self.__dict__.update(vars(Faults(seen=seen, lists_ended_orders=lists_ended_orders)))


def draw_faults(rng: Random, liars: bool = False) -> Faults:
    """Each kind of fault is absent in some runs: faults that hide each other are then seen alone.

    `liars`: platforms lie in this run; else they do in one of three.
    """

    def some(most: float) -> float:
        return rng.uniform(0, most) if rng.random() < 0.7 else 0.0

    return Faults(
        lost=some(0.10),
        doubled=some(0.10),
        late=some(0.15),
        reject=some(0.15),
        unsolicited_cancel=some(0.10),
        fill_during_cancel=some(0.5),
        bust=some(0.06),
        incomplete_snapshot=some(0.2),
        link_break=some(0.02),
        crash=some(0.01),
        torn=some(0.4),
        missing=some(0.15),
        by_hand=some(0.02),
        kill=some(0.04),
        stall=some(0.01),
        disk_full=some(0.005) if rng.random() < 0.5 else 0.0,
        engine_fault=some(0.01) if rng.random() < 0.5 else 0.0,
        lists_ended_orders=rng.random() < 0.7,
        **_draw_lies(rng, liars),
    )


def _draw_lies(rng: Random, liars: bool) -> dict[str, float]:
    """In two runs of three all platforms are honest: what a lie bars would hide what the other faults do."""
    if rng.random() < 2 / 3 and not liars:
        return {}
    most = {
        "lie": 0.06,
        "lie_about_order": 0.03,
        "lie_about_position": 0.1,
        "overfill": 0.05,
        "reused_id": 0.05,
        "incomplete_part": 0.1,
        "swallowed_snapshot": 0.15,
    }
    return {name: rng.uniform(0, value) if rng.random() < 0.6 else 0.0 for name, value in most.items()}


def draw_exit_faults(faults: Faults, rng: Random) -> None:
    """Add the faults of exits. In a third of the runs they come alone, in a third nothing is lost on the links."""

    def some(most: float) -> float:
        return rng.uniform(0, most) if rng.random() < 0.7 else 0.0

    way = rng.randrange(3)
    if way == 0:
        faults.quiet()
    elif way == 1:
        faults.lost = faults.late = faults.swallowed_snapshot = 0.0
    faults.refusal = some(0.05)
    faults.shut_market = rng.choice([0.0, 1.0])
    faults.wrong_calendar = rng.choice([0.0, 0.0, 0.6])
    faults.thin_book = rng.choice([0.0, 0.3, 0.95])
    faults.stop_during_close = some(0.5)
    faults.stop_before_rest = rng.choice([0.0, 0.5, 0.9])
    faults.reduction = some(0.3)
    faults.sleep = rng.choice([0.0, 0.0, 0.0, 0.01])
    faults.resting = rng.choice([0.0, 0.0, 0.3])


def draw_clock_faults(faults: Faults, rng: Random) -> None:
    """Not with lost journals: with the steps in them lost as well, nobody knows by which clock the lost was stamped."""
    drawn = rng.choice([0.0, 0.02, 0.06])
    faults.clock_step = 0.0 if faults.torn or faults.missing else drawn
