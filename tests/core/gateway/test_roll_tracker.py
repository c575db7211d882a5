"""The front contract through time, with a clock and platforms that the test makes up."""

from __future__ import annotations

from decimal import Decimal

import pytest
from nexus_gateway.core.gateway.rolls.decision import Readiness, find_obstacles
from nexus_gateway.core.gateway.rolls.tracker import (
    ContractTracker,
    FirstContract,
    Roll,
    RollDates,
    RollWaits,
    WarmUp,
)

D = Decimal
CHAIN = (("NQH25", 1000), ("NQM25", 2000), ("NQU25", 3000))
WARM = 100


def front(root: str, now_ns: int) -> str:
    return next(code for code, switch_ns in CHAIN if now_ns < switch_ns)


DATES = RollDates(front, dict(CHAIN).__getitem__, lambda code: dict(CHAIN)[code] + 400)


def readiness(platform: str, **changes: object) -> Readiness:
    values: dict = {"platform": platform, "old_price": D(21000), "new_price": D(21180)}
    return Readiness(**(values | changes))


class Rig:
    """A tracker with its caller, who does what he is told unless `obedient` is off."""

    def __init__(self, *platforms: Readiness, contracts: dict[str, str] | None = None) -> None:
        self.platforms = list(platforms)
        self.contracts = {} if contracts is None else contracts
        self.tracker = ContractTracker(["NQ"], DATES, warm_ns=WARM, fence_after_ns=100, retry_ns=1, repeat_ns=50)

    def step(self, now_ns: int) -> list:
        steps = self.tracker.step(now_ns, self.contracts, lambda root, old, new: self.platforms)
        for each in steps:
            if isinstance(each, FirstContract):
                self.contracts[each.root] = each.contract
            elif isinstance(each, Roll):
                self.contracts[each.root] = each.new
        return steps


def test_the_first_contract_is_the_one_in_front():
    rig = Rig()
    assert rig.step(1500) == [FirstContract("NQ", "NQM25")]
    assert rig.step(1501) == []


def test_the_next_contract_is_warm_before_the_switch_and_moves_at_it():
    rig = Rig(readiness("nt8"), readiness("sierra"), contracts={"NQ": "NQH25"})
    assert rig.step(899) == []
    assert rig.step(900) == [WarmUp("NQ", "NQH25", "NQM25")]
    assert rig.step(999) == []
    (roll,) = rig.step(1000)
    assert (roll.old, roll.new) == ("NQH25", "NQM25")
    assert [each.spread for each in roll.platforms] == [D(180), D(180)]
    assert rig.step(1001) == []
    assert rig.contracts == {"NQ": "NQM25"}


@pytest.mark.parametrize(
    ("faulty", "reason"),
    [
        ({"new_price": None}, "sierra: has no quote of NQM25"),
        ({"obstacle": "multiplier was 5 at the platform, 20 in the catalog"}, "sierra: multiplier was 5"),
    ],
)
def test_one_platform_that_is_not_ready_holds_all_back(faulty, reason):
    rig = Rig(readiness("nt8"), readiness("sierra", **faulty), contracts={"NQ": "NQH25"})
    steps = rig.step(1000)
    assert steps[0] == WarmUp("NQ", "NQH25", "NQM25")
    assert isinstance(steps[1], RollWaits)
    assert len(steps[1].reasons) == 1
    assert steps[1].reasons[0].startswith(reason)
    assert rig.contracts == {"NQ": "NQH25"}
    assert rig.step(1010) == []  # said once
    assert [type(each) for each in rig.step(1060)] == [RollWaits]  # and again after a while
    rig.platforms[1] = readiness("sierra")
    assert [type(each) for each in rig.step(1061)] == [Roll]


def test_in_the_last_session_a_platform_that_is_down_is_left_behind():
    rig = Rig(readiness("nt8"), readiness("sierra", new_price=None), contracts={"NQ": "NQH25"})
    rig.step(1000)
    assert not [each for each in rig.step(1399) if isinstance(each, Roll)]
    (roll,) = [each for each in rig.step(1400) if isinstance(each, Roll)]
    assert roll.left_behind == ("sierra: has no quote of NQM25",)
    assert rig.contracts == {"NQ": "NQM25"}


def test_after_a_start_in_the_last_session_the_slow_ones_are_waited_for():
    rig = Rig(readiness("nt8"), readiness("sierra", new_price=None), contracts={"NQ": "NQH25"})
    assert not [each for each in rig.step(1500) if isinstance(each, Roll)]
    assert not [each for each in rig.step(1599) if isinstance(each, Roll)]
    assert [each for each in rig.step(1600) if isinstance(each, Roll)]


def test_nobody_moves_while_nobody_is_ready():
    rig = Rig(readiness("nt8", new_price=None), readiness("sierra", new_price=None), contracts={"NQ": "NQH25"})
    for now_ns in (1000, 1500, 1900):
        assert not [each for each in rig.step(now_ns) if isinstance(each, Roll)]


def test_a_roll_that_waits_is_tried_again_after_the_clock_was_set_back():
    rig = Rig(readiness("nt8", new_price=None), contracts={"NQ": "NQH25"})
    rig.step(1400)
    rig.platforms[0] = readiness("nt8")
    assert [type(each) for each in rig.step(1100)] == [Roll]


def test_reasons_are_told_again_after_the_clock_was_set_back():
    rig = Rig(readiness("nt8", new_price=None), contracts={"NQ": "NQH25"})
    rig.step(1400)
    assert [type(each) for each in rig.step(1100)] == [RollWaits]
    assert rig.step(1110) == []


def test_a_new_reason_is_told_at_once():
    rig = Rig(readiness("nt8", new_price=None), contracts={"NQ": "NQH25"})
    rig.step(1000)
    rig.platforms[0] = readiness("nt8", obstacle="is not connected")
    (told,) = rig.step(1002)
    assert told.reasons == ("nt8: is not connected",)


def test_after_a_long_pause_it_goes_straight_to_the_one_in_front():
    rig = Rig(readiness("nt8"), contracts={"NQ": "NQH25"})
    steps = rig.step(2500)
    assert steps[0] == WarmUp("NQ", "NQH25", "NQU25")
    assert steps[1].new == "NQU25"


def test_while_it_waits_the_target_may_become_the_contract_after_next():
    rig = Rig(readiness("nt8", new_price=None), contracts={"NQ": "NQH25"})
    rig.step(1000)
    assert rig.step(2000)[0] == WarmUp("NQ", "NQH25", "NQU25")


def test_a_successor_that_is_told_the_same_contracts_goes_on_from_there():
    contracts = {"NQ": "NQH25"}
    Rig(readiness("nt8"), contracts=contracts).step(950)
    assert [type(each) for each in Rig(readiness("nt8"), contracts=contracts).step(1000)] == [WarmUp, Roll]
    assert Rig(readiness("nt8"), contracts=contracts).step(1000) == []


def test_nothing_stands_in_the_way_of_no_platform():
    assert find_obstacles("NQM25", []) == []
