"""Decides when each root's front contract is chosen, warmed up and rolled. A pure state machine.

It is given the time, the contracts decided so far and the platforms' readiness, and returns the steps to carry out.
The caller keeps the decisions, in the journal: given the same contracts after a crash, this goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from ....shm.durations import NS_PER_S
from .decision import Readiness, find_obstacles

CheckReadiness = Callable[[str, str, str], Sequence[Readiness]]
"""For (root, old contract, new contract): the readiness of each platform that trades the root."""


class RollDates(Struct, frozen=True):
    """The rules as functions, in UTC ns. `front`: the front contract of a root at a time. `switch_ns`: when a contract
    stops being in front. `fence_ns`: from when a platform that is not ready no longer holds back the others.
    """

    front: Callable[[str, int], str]
    switch_ns: Callable[[str], int]
    fence_ns: Callable[[str], int]


class FirstContract(Struct, frozen=True):
    """A root has no contract yet: choose this one."""

    root: str
    contract: str


class WarmUp(Struct, frozen=True):
    """Subscribe the new contract on every platform, beside the old one."""

    root: str
    old: str
    new: str


class Roll(Struct, frozen=True):
    """All platforms roll now. `left_behind`: platforms that are not ready, each with the reason; they get no order
    before they have followed.
    """

    root: str
    old: str
    new: str
    platforms: tuple[Readiness, ...]
    left_behind: tuple[str, ...] = ()


class RollWaits(Struct, frozen=True):
    """The roll is due, but held back; it is tried again. Returned when the reasons change, and each `repeat_ns`."""

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
    next_try_ns: int = 0
    reported: tuple[str, ...] = ()
    reported_ns: int = 0


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
        repeat_ns: int = 600_000_000_000,
    ) -> None:
        """`warm_ns`: how long before the switch the new contract is subscribed. `fence_after_ns`: how long platforms
        that are not ready are waited for at least, since after a start each of them needs a moment. `retry_ns`: between
        two tries of a roll. `repeat_ns`: between two `RollWaits` for the same reasons.
        """
        self._dates = dates
        self._warm_ns = warm_ns
        self._fence_after_ns = fence_after_ns
        self._retry_ns = retry_ns
        self._repeat_ns = repeat_ns
        self._roots = {root: _Root() for root in roots}

    def step(self, now_ns: int, contracts: Mapping[str, str], check_readiness: CheckReadiness) -> list[Step]:
        """Return the steps to carry out now.

        Args:
            contracts: the contract decided for each root, as the caller has it on disk.
        """
        steps: list[Step] = []
        for root, record in self._roots.items():
            contract = contracts.get(root, "")
            if not contract:
                steps.append(FirstContract(root, self._dates.front(root, now_ns)))
                continue
            if contract != record.contract:
                # Rolled, or the first contract: forget all about the former one.
                dates = self._dates
                self._roots[root] = record = _Root(contract, dates.switch_ns(contract), dates.fence_ns(contract))
            if now_ns < record.switch_ns - self._warm_ns:
                continue
            steps += self._prepare_roll(now_ns, root, record, check_readiness)
        return steps

    def _prepare_roll(self, now_ns: int, root: str, record: _Root, check_readiness: CheckReadiness) -> list[Step]:
        # The contract in front at the time of the roll, not simply the next one: after a long pause of the gateway the
        # next one may have expired as well.
        target = self._dates.front(root, max(now_ns, record.switch_ns))
        steps: list[Step] = []
        if target != record.target:
            record.target = target
            steps.append(WarmUp(root, record.contract, target))
        if 0 < record.next_try_ns - now_ns <= self._retry_ns:  # it is further away when the clock was set back
            return steps
        record.next_try_ns = now_ns + self._retry_ns
        # Asked before the switch too: the caller keeps the last sound prices of both contracts, from which the spread
        # is computed when the market is shut at the switch itself.
        platforms = tuple(check_readiness(root, record.contract, target))
        if now_ns < record.switch_ns:
            return steps
        reasons = tuple(find_obstacles(target, platforms))
        record.due_since_ns = min(record.due_since_ns or now_ns, now_ns)
        fences = now_ns >= max(record.fence_ns, record.due_since_ns + self._fence_after_ns)
        # Even behind the fence at least one platform must be ready: without any quote of the new contract there is no
        # market to roll into, and all would be left behind.
        if not reasons or (fences and len(reasons) < len(platforms)):
            steps.append(Roll(root, record.contract, target, platforms, reasons))
        elif reasons != record.reported or abs(now_ns - record.reported_ns) >= self._repeat_ns:
            record.reported, record.reported_ns = reasons, now_ns
            steps.append(RollWaits(root, record.contract, target, reasons))
        return steps
