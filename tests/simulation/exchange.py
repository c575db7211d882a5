"""The roll of a run: when it is due, who has followed, whether the market is open. Does what the live gateway does."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

from nexus_gateway.core import engine as e

from tests.simulation.gateway import Gateway
from tests.simulation.nexus import Nexus
from tests.simulation.platform import BASE, NEW, OLD, SYMBOL, FakePlatform
from tests.simulation.schedule import MS, SECOND, START_NS, Schedule

VALUE_NS = 5 * SECOND


class Exchange:
    """`present` begins a new session of a platform, whose symbols are others from then on."""

    def __init__(
        self,
        schedule: Schedule,
        gateway: Gateway,
        nexus: Nexus,
        platforms: list[FakePlatform],
        present: Callable[[str], None],
    ) -> None:
        rng = schedule.rng
        self.schedule, self.gateway, self.nexus = schedule, gateway, nexus
        self.platforms, self.present = platforms, present
        self.policy: Literal["hold", "close", "roll"] = rng.choice(["hold", "close", "roll", "roll", "roll"])
        # In some runs nothing rolls, in some the market is shut for a while at the roll.
        self.rolls_ns = START_NS + rng.randrange(15, 80) * SECOND if rng.random() < 0.7 else 0
        self.opens_ns = self.rolls_ns + (rng.randrange(1, 15) * SECOND if rng.random() < 0.4 else 0)
        self.spread_is_known = rng.random() < 0.9
        self.relapse = 0.02 if rng.random() < 0.3 else 0.0
        self.valued_ns = 0
        self.told: set[str] = set()

    @property
    def is_open(self) -> bool:
        return not self.rolls_ns <= self.schedule.now_ns < self.opens_ns

    def step(self) -> None:
        """Once a second: decide, follow, value."""
        engine = self.gateway.engine
        for platform in self.platforms:
            platform.is_shut = not self.is_open
        if engine is not None:
            self._decide(engine.state.contracts.get(SYMBOL))
        if self.gateway.engine is not None:
            chosen = self.gateway.engine.state.contracts.get(SYMBOL)
            if chosen is not None and chosen.contract == NEW:
                self._follow()
        if self.gateway.engine is not None and self.schedule.now_ns >= self.valued_ns:
            self.valued_ns = self.schedule.now_ns + VALUE_NS
            markets = [*self.nexus.markets(SYMBOL, self.is_open), *self.nexus.markets(OLD, self.is_open)]
            self.gateway.handle(e.MarketMoved(markets=tuple(markets)))
        self.schedule.at(SECOND, self.step)

    def _decide(self, chosen: e.ContractRecord | None) -> None:
        is_due = 0 < self.rolls_ns <= self.schedule.now_ns
        if chosen is None:
            self.gateway.handle(e.ContractChosen(root=SYMBOL, contract=NEW if is_due else OLD))
        elif is_due and chosen.contract == OLD:
            spread: Decimal | None = BASE[NEW] - BASE[OLD] if self.spread_is_known else None
            spreads = tuple(
                e.RollSpread(platform=each.name, old_price=None, new_price=BASE[NEW], spread=spread)
                for each in self.platforms
            )
            markets = (*self.nexus.markets(SYMBOL, self.is_open), *self.nexus.markets(NEW, self.is_open))
            self.gateway.handle(
                e.ContractChosen(
                    root=SYMBOL, contract=NEW, old=OLD, policy=self.policy, spreads=spreads, markets=markets
                )
            )

    def _follow(self) -> None:
        for platform in self.platforms:
            if self.schedule.chance(self.relapse) and platform.front == NEW:
                # Begun from a directory made anew, which for a moment says what was in front before.
                platform.front = OLD
                self.present(platform.name)
                self.told.discard(platform.name)
            elif platform.name not in self.told:
                self.told.add(platform.name)
                delay_ns = self.schedule.rng.randrange(1, 500) * MS
                self.schedule.at(delay_ns, lambda platform=platform: self._switch(platform))

    def _switch(self, platform: FakePlatform) -> None:
        platform.front = NEW
        self.present(platform.name)
