"""The roll of a run: when it is due, who has followed, whether the market is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal

from nexus_gateway.core import engine as e
from nexus_gateway.core import messages as m

from tests.simulation.markets import Contracts, Markets
from tests.simulation.platform import BASE, NEW, OLD, SYMBOL, FakePlatform
from tests.simulation.schedule import MS, SECOND, START_NS, Schedule


class Exchange:
    """`present` begins a new session of a platform, whose symbols are others from then on."""

    def __init__(
        self, schedule: Schedule, markets: Markets, platforms: list[FakePlatform], present: Callable[[str], None]
    ) -> None:
        rng = schedule.rng
        self.schedule, self.markets = schedule, markets
        self.platforms, self.present = platforms, present
        self.contracts = Contracts(self._decide, self._follow)
        self.policy: Literal["hold", "close", "roll"] = rng.choice(["hold", "close", "roll", "roll", "roll"])
        # In some runs nothing rolls, in some the market is shut for a while at the roll.
        self.rolls_ns = START_NS + rng.randrange(15, 80) * SECOND if rng.random() < 0.7 else 0
        self.opens_ns = self.rolls_ns + (rng.randrange(1, 15) * SECOND if rng.random() < 0.4 else 0)
        self.spread_is_known = rng.random() < 0.9
        self.relapse = 0.02 if rng.random() < 0.3 else 0.0
        self.followed: set[str] = set()

    def step(self) -> None:
        """Once a second: the market opens or closes."""
        for platform in self.platforms:
            was_shut, platform.is_shut = platform.is_shut, self.rolls_ns <= self.schedule.now_ns < self.opens_ns
            if was_shut and not platform.is_shut:
                platform.opened_ns = self.schedule.now_ns
        self.schedule.at(SECOND, self.step)

    def _decide(self, chosen: e.ContractRecord | None, hellos: Mapping[str, m.Hello]) -> e.ContractChosen | None:
        is_due = 0 < self.rolls_ns <= self.schedule.now_ns
        if chosen is None:
            return e.ContractChosen(root=SYMBOL, contract=NEW if is_due else OLD)
        if not is_due or chosen.contract != OLD:
            return None
        spread: Decimal | None = BASE[NEW] - BASE[OLD] if self.spread_is_known else None
        spreads = tuple(
            e.RollSpread(platform=each.name, old_price=None, new_price=BASE[NEW], spread=spread)
            for each in self.platforms
        )
        now_ns = self.schedule.now_ns
        markets = [self.markets.context(hello, symbol, now_ns) for hello in hellos.values() for symbol in (SYMBOL, NEW)]
        return e.ContractChosen(
            root=SYMBOL,
            contract=NEW,
            old=OLD,
            policy=self.policy,
            spreads=spreads,
            markets=tuple(market for market in markets if market is not None),
        )

    def _follow(self) -> None:
        """As the symbol directory says it: the platforms present the new contract, each a moment later."""
        for platform in self.platforms:
            platform.directory = NEW
            if self.schedule.chance(self.relapse) and platform.front == NEW:
                # Begun from a directory made anew, which for a moment says what was in front before.
                platform.front = OLD
                self.present(platform.name)
                self.followed.discard(platform.name)
            elif platform.name not in self.followed:
                self.followed.add(platform.name)
                delay_ns = self.schedule.rng.randrange(1, 500) * MS
                self.schedule.at(delay_ns, lambda platform=platform: self._switch(platform))

    def _switch(self, platform: FakePlatform) -> None:
        platform.front = NEW
        self.present(platform.name)
