"""The front contract of each root through time: first choice, warm-up, switch. A pure state machine.

Time, roll dates and the platforms' standings come in; what is to be done comes out. What was decided is not kept here
but by the caller, durably: told the same contracts again after a crash, this goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from ...shm.durations import NS_PER_S
from .roll_decision import Standing, find_obstacles

Standings = Callable[[str, str, str], Sequence[Standing]]
"""Of (root, old contract, new contract): one for each platform that trades the root."""


class RollDates(Struct, frozen=True):
    """The rules as functions of UTC ns. `front`: contract in front of a root at a time. `switch_ns`: when a contract
    ceases to be in front. `fence_ns`: from when a platform that is not ready holds nobody back.
    """

    front: Callable[[str, int], str]
    switch_ns: Callable[[str], int]
    fence_ns: Callable[[str], int]


class FirstContract(Struct, frozen=True):
    """A root has no contract yet: this one is in front."""

    root: str
    contract: str


class WarmUp(Struct, frozen=True):
    """Have the new contract subscribed on every platform, beside the old one."""

    root: str
    old: str
    new: str


class Roll(Struct, frozen=True):
    """All platforms move now. `left_behind`: why some are not ready, and get no order before they have followed."""

    root: str
    old: str
    new: str
    standings: tuple[Standing, ...]
    left_behind: tuple[str, ...] = ()


class RollWaits(Struct, frozen=True):
    """The roll is due and nobody moves; tried again. Told when the reasons change and every `tell_again_ns`."""

    root: str
    old: str
    new: str
    reasons: tuple[str, ...]


Step = FirstContract | WarmUp | Roll | RollWaits


class _Root(Struct):
    contract: str = ""
    switch_ns: int = 0
    fence_ns: int = 0
    due_since_ns: int = 0
    target: str = ""
    try_ns: int = 0
    told: tuple[str, ...] = ()
    told_ns: int = 0


class ContractTracker:
    """Call `step` about once a second. Used by one thread."""

    def __init__(
        self,
        roots: Sequence[str],
        dates: RollDates,
        *,
        warm_ns: int,
        fence_after_ns: int = 600_000_000_000,
        retry_ns: int = NS_PER_S,
        tell_again_ns: int = 600_000_000_000,
    ) -> None:
        """`warm_ns`: how long before the switch the new contract is subscribed. `fence_after_ns`: how long platforms
        that are not ready are waited for in any case: after a start all need a moment.
        """
        self._dates = dates
        self._warm_ns = warm_ns
        self._fence_after_ns = fence_after_ns
        self._retry_ns = retry_ns
        self._tell_again_ns = tell_again_ns
        self._roots = {root: _Root() for root in roots}

    def step(self, now_ns: int, contracts: Mapping[str, str], standings: Standings) -> list[Step]:
        """What is to be done now.

        Args:
            contracts: the contract decided on for each root, as the caller has it on disk.
        """
        steps: list[Step] = []
        for root, record in self._roots.items():
            contract = contracts.get(root, "")
            if not contract:
                steps.append(FirstContract(root, self._dates.front(root, now_ns)))
                continue
            if contract != record.contract:
                dates = self._dates
                self._roots[root] = record = _Root(contract, dates.switch_ns(contract), dates.fence_ns(contract))
            if now_ns < record.switch_ns - self._warm_ns:
                continue
            steps += self._approach(now_ns, root, record, standings)
        return steps

    def _approach(self, now_ns: int, root: str, record: _Root, standings: Standings) -> list[Step]:
        # After a long pause the next contract may be dead as well: what counts is who is in front when we move.
        target = self._dates.front(root, max(now_ns, record.switch_ns))
        steps: list[Step] = []
        if target != record.target:
            record.target = target
            steps.append(WarmUp(root, record.contract, target))
        if now_ns < record.try_ns:
            return steps
        record.try_ns = now_ns + self._retry_ns
        standing = tuple(standings(root, record.contract, target))
        if now_ns < record.switch_ns:
            return steps
        reasons = tuple(find_obstacles(target, standing))
        record.due_since_ns = record.due_since_ns or now_ns
        fences = now_ns >= max(record.fence_ns, record.due_since_ns + self._fence_after_ns)
        # Where nobody is ready there is no market to move to.
        if not reasons or (fences and len(reasons) < len(standing)):
            steps.append(Roll(root, record.contract, target, standing, reasons))
        elif reasons != record.told or now_ns - record.told_ns >= self._tell_again_ns:
            record.told, record.told_ns = reasons, now_ns
            steps.append(RollWaits(root, record.contract, target, reasons))
        return steps
