"""The contract of an adapter: the part that differs from platform to platform (docs/adapters.md).

The part that is the same for all platforms (ring, symbols, counters, reconnect with back-off, resubscription, stale
marks, heartbeat, the order link to the gateway) is in `feed.py`, `session.py` and `orders/channel.py`. All methods are
called from one thread. An adapter for market data alone implements four of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from msgspec import Struct

from ..core.errors import GatewayError
from ..core.instruments.catalog import Catalog
from ..core.instruments.sessions import Sessions
from ..core.messages import (
    Account,
    AccountMode,
    Cancel,
    Capabilities,
    Correction,
    Fill,
    Flatten,
    Instrument,
    Order,
    OrderUpdate,
    Reject,
    Replace,
    Snapshot,
    SnapshotRequest,
)
from ..shm.symbols import Symbol
from .feed import TickFeed
from .symbol_watch import PlatformNames
from .waiting import Readable, wait_readable

Command = Order | Cancel | Replace | Flatten
OrderEvent = OrderUpdate | Fill | Correction | Reject | Account


class LinkLostError(GatewayError):
    """The platform is gone or does not answer. The session closes, backs off and reconnects."""


class PlatformAccount(Struct, frozen=True, kw_only=True):
    """The account that a session trades, as the platform describes it, and the instruments that can be traded on it."""

    name: str
    mode: AccountMode
    currency: str
    instruments: tuple[Instrument, ...] = ()


class OrderDesk(Protocol):
    """The order side that the base gives an adapter: report events, wait for commands."""

    def report(self, event: OrderEvent) -> None:
        """Report an order event of the platform to the gateway. Never blocks; events keep their order.

        Events are sent as one message when the command that caused them has been executed, or after the next `poll`.
        They wait here while the gateway is away.

        Raises:
            ValueError: the event names another platform or account than this session's.
        """

    def wait(self, timeout_s: float, sockets: Sequence[Readable]) -> bool:
        """See `Adapter.wait`."""


class Adapter(ABC):
    """One platform. A subclass converts `settings` to a typed struct in `__init__`; ConfigError if it is wrong.

    Attributes:
        feed: publishes ticks.
        capabilities: the orders that the platform accepts; None = market data only.
        account: set by `connect` when orders are wanted; `subscribe` updates its instruments.
        instruments: the platform's description of each subscribed symbol, set by `subscribe`; empty = none given.
        catalog, sessions: instruments and trading hours, the user's own included; set before `connect`, None = the
            shipped ones.
        names: the platform's name of each symbol; set before `connect`, None where the mappings have no such platform.
        orders: `execute` and `poll` report here; None while orders are off.
    """

    OWN_COUNTERS: ClassVar[tuple[str, ...]] = ()
    """Counters that this adapter adds to `feed.COUNTERS`."""

    OWN_MARKET: ClassVar[bool] = False
    """True for a simulator or a replay: its market has no trading hours, its symbols no platform names."""

    DEFAULT_ORDERS: ClassVar[Literal["none", "paper"]] = "none"
    """Default of `orders` in the platform's settings. Real orders are never a default."""

    capabilities: Capabilities | None = None
    account: PlatformAccount | None = None
    instruments: tuple[Instrument, ...] = ()
    catalog: Catalog | None = None
    sessions: Sessions | None = None
    names: PlatformNames | None = None
    orders: OrderDesk | None = None

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        self.feed = feed

    @abstractmethod
    def connect(self) -> None:
        """Open the session with the platform; may block for some seconds.

        Raises:
            LinkLostError: temporary; the session tries again after a pause.
            ConfigError: permanent, such as a wrong password: more attempts would lock the account. The process ends
                with exit code 2 and is not restarted.
        """

    @abstractmethod
    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        """Subscribe to the ticks of these symbols and unsubscribe all others.

        Called after each connect, and again in the same session when a symbol was added, removed or renamed, or its
        contract has changed (a roll).

        A universal symbol stands for its `contract`. Where that is empty, a future has no contract yet and gets no
        ticks. A symbol whose `name` is a contract is subscribed beside the front contract: the next one before a roll,
        the last one after it. After this returns, only ticks of a symbol's own contract may be published under its id;
        late ticks of the former contract go to that contract's own id, or are dropped. Else a reader would see two
        contracts under one name.

        Raises:
            LinkLostError: the session must be opened again.
        """

    @abstractmethod
    def poll(self, timeout_s: float) -> int:
        """Publish the ticks that have arrived (`self.feed`) and report the order events (`self.orders`); wait for them
        with `self.wait`, at most `timeout_s` seconds.

        Returns:
            Number of ticks published.

        Raises:
            LinkLostError: the session must be opened again.
        """

    @abstractmethod
    def close(self) -> None:
        """End the session and free its resources. Also called after a failure, on a session that is half open."""

    def execute(self, command: Command) -> None:
        """Send a command to the platform. Results are reported through `self.orders.report`, now or later.

        The base has checked account, capabilities, age, and that this order was not placed before. Report a Reject
        only when the platform certainly does not have the command; otherwise report nothing, and the gateway finds the
        outcome in the next snapshot. A Flatten comes only where `capabilities` has `flatten`.

        Neither this nor `snapshot` may block for `orders.mute_after_ms`: no heartbeat is sent meanwhile, and the
        gateway would cut the link.

        Raises:
            LinkLostError: the session must be opened again; the outcome of the command is unknown.
        """
        raise NotImplementedError(f"{type(self).__name__} has capabilities for orders but no execute")

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """Read positions, working orders, executions and money at the platform, all at one moment, after everything
        that was executed before.

        A part that could not be read whole has `complete` False; `complete` of the snapshot False = no part is. What
        the platform cannot list at all is said by `capabilities` (`lists_positions`, `lists_orders`,
        `executions_history`); the `complete` of its part does not count.

        Raises:
            LinkLostError: the platform does not answer.
        """
        raise NotImplementedError(f"{type(self).__name__} has capabilities for orders but no snapshot")

    def wait(self, timeout_s: float, sockets: Sequence[Readable] = ()) -> bool:
        """Sleep until one of `sockets` can be read, a command of the gateway has arrived, or `timeout_s` has passed.

        Use it for every pause of an adapter, so that an order never waits for market data.

        Returns:
            Whether there is something to read.
        """
        if self.orders is not None:
            return self.orders.wait(timeout_s, sockets)
        return wait_readable(timeout_s, sockets, None)
