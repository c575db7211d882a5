"""Keep one adapter connected: connect, subscribe, poll; on failure mark stale, close, back off, reconnect.

One policy for all platforms. The back-off is reset by the first tick, not by a successful subscription: a platform that
accepts connections and sends no data is retried ever more slowly.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec

from ..core.logs import Log
from ..shm.symbols import Symbol
from .base import Adapter, LinkLostError
from .orders.channel import OrderChannel
from .symbol_watch import ContractWatch, PlatformNames

SILENCE_S: Final = 120.0
"""Default of `silence_s`. While a market is open, some symbol of a platform nearly always has a quote within this time;
a halt of the exchange costs a few reconnects. Without this check a connected feed that sends nothing would look alive,
and its last quotes would pass for live ones."""


class SessionPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reconnect policy of a session.

    Attributes:
        first_backoff_s, longest_backoff_s: pause after a failed attempt; doubles from the first to the longest.
        jitter: each pause is shortened at random by up to this fraction, so that six adapters do not reconnect in step.
        silence_s: reconnect after so long without any tick while a market of the platform is open. 0 = never; None =
            `SILENCE_S` where the trading hours are known, never for a platform that makes its own market.
    """

    first_backoff_s: Annotated[float, msgspec.Meta(gt=0)] = 0.5
    longest_backoff_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    silence_s: Annotated[float, msgspec.Meta(ge=0)] | None = None

    def with_default_silence(self, hours_known: bool) -> SessionPolicy:
        """Return a copy with `silence_s` set. `hours_known`: whether the platform's markets have known hours."""
        if self.silence_s is not None:
            return self
        return msgspec.structs.replace(self, silence_s=SILENCE_S if hours_known else 0.0)


class AdapterSession:
    """Drives one adapter: call `step` in a loop. Tests can replace clock and randomness."""

    def __init__(
        self,
        adapter: Adapter,
        symbols: Sequence[Symbol],
        policy: SessionPolicy,
        log: Log,
        *,
        orders: OrderChannel | None = None,
        contracts: ContractWatch | None = None,
        names: PlatformNames | None = None,
        market_open: Callable[[], bool] = lambda: True,
        monotonic_s: Callable[[], float] = time.monotonic,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            symbols: to subscribe to; replaced by those of `contracts` when there is one.
            contracts: detects rolls and further contracts to subscribe to.
            names: the platform's names; a change of them subscribes all symbols again.
            market_open: whether a missing tick is a fault now.
        """
        self._adapter = adapter
        self._symbols = symbols
        self._contracts = contracts
        self._names = names
        self._market_open = market_open
        self._policy = policy
        self._log = log
        self._orders = orders
        self._monotonic_s = monotonic_s
        self._random_fraction = random_fraction
        self._connected = False
        self._failures = 0
        self._retry_at_s = 0.0
        self._last_tick_s = 0.0
        counters = adapter.feed.counters
        self._link_up = counters.counter("link_up")
        self._connects = counters.counter("connects")
        self._connect_failures = counters.counter("connect_failures")
        self._links_lost = counters.counter("links_lost")
        self._silences = counters.counter("silences")
        self._subscribed = counters.counter("symbols_subscribed")
        # Counters and quote board survive a crash of the process, the link does not. Without this the quotes of the
        # former process would look live as soon as this one sends heartbeats.
        self._link_up.set(0)
        self._publish_rolls()
        adapter.feed.mark_stale(self._symbols)

    def step(self, timeout_s: float) -> int:
        """Run one iteration of at most about `timeout_s` seconds; returns the number of ticks published.

        Raises:
            ConfigError: from the adapter; a retry would not help.
        """
        now_s = self._monotonic_s()
        self._apply_symbol_changes()
        if not self._connected:
            if now_s < self._retry_at_s:
                self._adapter.wait(min(timeout_s, self._retry_at_s - now_s))
                self._turn_orders()
                return 0
            self._connect()
            return 0
        try:
            published = self._adapter.poll(timeout_s)
            self._turn_orders()
        except LinkLostError as error:
            self._links_lost.add()
            self._drop(f"link lost: {error}")
            return 0
        if published:
            self._failures = 0
        if published or not self._market_open():
            # Silence is no fault while the market is shut; the time counts again from its opening.
            self._last_tick_s = now_s
        elif self._policy.silence_s and now_s - self._last_tick_s > self._policy.silence_s:
            self._silences.add()
            self._drop(f"no tick for {self._policy.silence_s} s although connected")
        return published

    def close(self) -> None:
        """End the session and mark the last quotes stale."""
        self._end()

    def _end(self) -> None:
        if self._connected:
            self._adapter.feed.mark_stale(self._symbols)
        if self._orders is not None:
            self._orders.platform_down()
        self._adapter.close()
        self._connected = False
        self._link_up.set(0)

    def _apply_symbol_changes(self) -> None:
        """Apply changes of the symbol directory and of the mapping file."""
        changed = self._contracts is not None and self._contracts.refresh()
        renamed = self._names is not None and self._names.reload_if_changed()
        if not changed and not renamed:
            return
        if self._contracts is not None:
            self._symbols = self._contracts.symbols
        if self._connected:
            try:
                # Resubscribe before the ROLL record is published: otherwise ticks of the old contract could follow it,
                # and readers would book them to the new one.
                self._adapter.subscribe(self._symbols)
                self._subscribed.set(len(self._symbols))
                self._publish_rolls()
                return
            except LinkLostError as error:
                self._links_lost.add()
                self._drop(f"cannot subscribe: {error}")
        self._publish_rolls()

    def _publish_rolls(self) -> None:
        if self._contracts is None:
            return
        self._symbols = self._contracts.symbols
        for symbol, contract_id in self._contracts.rolled():
            self._adapter.feed.publish_roll(symbol.id, contract_id)
            self._log.info("rolled", symbol=symbol.name, contract=symbol.contract)
        self._contracts.record_published()

    def _turn_orders(self) -> None:
        if self._orders is not None:
            if self._connected:
                self._orders.follow_account()
            self._orders.turn()

    def _connect(self) -> None:
        try:
            self._adapter.connect()
            self._adapter.subscribe(self._symbols)
            if self._orders is not None:
                self._orders.platform_up()
        except LinkLostError as error:
            self._connect_failures.add()
            self._drop(f"cannot connect: {error}")
            return
        self._connected = True
        self._connects.add()
        self._link_up.set(1)
        self._subscribed.set(len(self._symbols))
        self._last_tick_s = self._monotonic_s()
        self._log.info("connected", symbols=len(self._symbols))

    def _drop(self, reason: str) -> None:
        self._end()
        pause_s = self._pause_s()
        self._failures += 1
        self._retry_at_s = self._monotonic_s() + pause_s
        self._log.warning("not connected", reason=reason, next_attempt_s=round(pause_s, 2))

    def _pause_s(self) -> float:
        doubled_s = self._policy.first_backoff_s * 2.0 ** min(self._failures, 30)
        pause_s = min(doubled_s, self._policy.longest_backoff_s)
        return pause_s * (1 - self._policy.jitter * self._random_fraction())
