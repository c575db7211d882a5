"""Give the engine what it needs of markets, at regular times: rates, the contract in front, values of what is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...shm.durations import NS_PER_S
from ..engine import EngineState, Event, MarketMoved
from .clock import Clocks
from .inbox import Inbox
from .markets import Markets
from .rate_updates import RateUpdates
from .rolls import LiveContracts
from .valuation import Valuation

_REFRESH_NS: Final = NS_PER_S
"""Between two refreshes of quotes, rates and contracts."""
_VALUE_NS: Final = 5 * NS_PER_S
"""Between two valuations of what is held."""


class MarketTasks:
    """Used by the gateway's thread. `state`: the engine's as it is now. `apply`: hands an event to the engine."""

    def __init__(
        self,
        clock: Clocks,
        markets: Markets,
        contracts: LiveContracts,
        inbox: Inbox,
        max_rate_age_ms: int,
        state: Callable[[], EngineState],
        apply: Callable[[Event], None],
    ) -> None:
        self._clock, self._markets, self._contracts, self._inbox = clock, markets, contracts, inbox
        self._rates = RateUpdates(markets, max_rate_age_ms)
        self._valuation = Valuation(inbox)
        self._state, self._apply = state, apply
        self._contracts_due = True
        self._next_refresh_ns = self._next_value_ns = 0

    def start(self) -> None:
        """Choose the contracts, before the first message."""
        self._markets.refresh(self._clock.wall_ns())
        self._choose_contracts()

    def run(self, now_ns: int) -> None:
        """Do what is due. `now_ns`: steady."""
        if now_ns >= self._next_refresh_ns:
            self._next_refresh_ns = now_ns + _REFRESH_NS
            self._markets.refresh(self._clock.wall_ns())
            contexts = self._rates.due(self._inbox.adapters, self._clock.wall_ns())
            if contexts:
                self._apply(MarketMoved(markets=contexts))
            self._choose_contracts()
        if now_ns >= self._next_value_ns:
            self._next_value_ns = now_ns + _VALUE_NS
            self.value_held()

    def note_link_up(self) -> None:
        """A platform has linked: its quote board may be new, and its market may have shut since.

        A signal for it may follow at once, and the stop of a leg that is closing stays in a shut market.
        """
        self._next_refresh_ns = self._next_value_ns = 0

    def value_held(self, *, always: bool = False) -> None:
        """Give the engine the newest quotes, rates and sessions of what is held; see `Valuation.due`."""
        clock = self._clock
        found = self._valuation.due(self._state(), clock.wall_ns(), clock.steady_ns(), always=always)
        if found:
            self._apply(MarketMoved(markets=found))

    def publish_contracts(self) -> None:
        """Write the chosen contracts into the symbol directory, if a choice was made since.

        Only after the commit: adapters follow the directory at once, and after a crash some of them would be on a
        contract that no journal knows. And before the orders leave: adapters refuse an entry in a contract that is not
        in front.
        """
        if self._contracts_due:
            self._contracts_due = False
            self._contracts.apply(self._state().contracts, self._clock.wall_ns())

    def _choose_contracts(self) -> None:
        hellos = self._inbox.known_hellos() | self._inbox.adapters
        for event in self._contracts.step(self._clock.wall_ns(), self._state().contracts, hellos):
            self._apply(event)
        self._contracts_due = True
