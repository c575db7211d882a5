"""Positions are closed and protected while gateway, adapters, links and platforms fail: none doubled, none naked."""

from __future__ import annotations

from tests.support.fire import HABITS, Fire
from tests.support.torture import rounds
from tests.support.venue_scene import venue_scene


@rounds(12, 100)
def test_exits_under_fire_are_never_doubled_and_nothing_stays_naked(capsys, chance, rounds):
    with venue_scene(HABITS) as scene:
        fire = Fire(scene, chance, longest_s=1.5 if rounds < 100 else 5)
        try:
            for number in range(rounds):
                fire.round(number)
            fire.finish()
        finally:
            print("\n".join(fire.story))
        trades = sum(len(venue.executions) for venue in scene.venues.values())
        counts = dict(sorted(fire.counts.items()))
        with capsys.disabled():
            print(f"\n{rounds} rounds, {len(scene.sent)} signals, {trades} executions, {counts}")
