"""The contract of an adapter: what differs from platform to platform, and nothing else (docs/adapters.md).

Everything that is the same for all platforms (ring, symbols, counters, reconnect with back-off, resubscription,
staleness, heartbeat, the order channel to the gateway) is in `feed.py`, `session.py` and `order_channel.py`. Methods
are called from one thread, never at the same time. An adapter for market data alone implements four of them.
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

Command = Order | Cancel | Replace
OrderEvent = OrderUpdate | Fill | Correction | Reject | Account


class LinkLostError(GatewayError):
    """The platform is gone or does not answer; the session closes, backs off and connects again."""


class PlatformAccount(Struct, frozen=True, kw_only=True):
    """The account that a session trades, as the platform itself describes it, and what can be traded there."""

    name: str
    mode: AccountMode
    currency: str
    instruments: tuple[Instrument, ...] = ()


class OrderDesk(Protocol):
    """What the base gives an adapter for its orders."""

    def report(self, event: OrderEvent) -> None:
        """Tell the gateway what the platform says. Never blocks, never lost; events keep their order.

        It leaves when the command that brought it has been executed, or else with the session's turn that follows
        `poll`: together with what else was said meanwhile.

        Raises:
            ValueError: the event names another platform or account than this session's.
        """

    def wait(self, timeout_s: float, sockets: Sequence[Readable]) -> bool:
        """See `Adapter.wait`."""


class Adapter(ABC):
    """One platform. A subclass converts `settings` to a typed struct in `__init__`; ConfigError if it is wrong.

    Attributes:
        feed: where ticks go.
        capabilities: what orders the platform takes; None = market data only.
        account: set by `connect` before it returns, when orders are wanted; `subscribe` renews its instruments.
        instruments: what the platform says of each subscribed symbol, set by `subscribe`; empty = it says nothing.
        catalog, sessions: instruments and trading hours, the user's own included; set before `connect`, None = the
            shipped ones.
        names: how the platform calls each symbol; set before `connect`, None where the mapping has no such platform.
        orders: where `execute` and `poll` report to; None while orders are off.
    """

    OWN_COUNTERS: ClassVar[tuple[str, ...]] = ()
    """Names of the counters that this adapter adds to those of `feed.COUNTERS`."""

    OWN_MARKET: ClassVar[bool] = False
    """Whether it makes its market itself: then that has no hours, and its symbols no names but ours."""

    DEFAULT_ORDERS: ClassVar[Literal["none", "paper"]] = "none"
    """What `orders` in the platform's settings is when it is not written. Real orders are never a default."""

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
            LinkLostError: not now; it is tried again after a pause.
            ConfigError: never, such as a wrong password: trying it again would lock the account. The process ends with
                exit code 2 and is not restarted.
        """

    @abstractmethod
    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        """Ask for these symbols' ticks, and no others. Called after each connect with all of them, and again in the
        same session when one stands for another contract now, or is new, gone or named otherwise.

        A universal symbol means its `contract`; where that is empty, a future has none yet, and no ticks. One whose
        `name` is a contract is heard beside the one in front: the next before a roll, the last after it. When this
        returns, what is published under a symbol's id is of its contract alone: ticks of the one before, still under
        way, go to the id that it has now, or nowhere.

        Raises:
            LinkLostError: the session must be opened again.
        """

    @abstractmethod
    def poll(self, timeout_s: float) -> int:
        """Move what has arrived into the ring (`self.feed`) and to `self.orders`; wait for it with `self.wait` at most
        `timeout_s`.

        Returns:
            Number of ticks published, 0 when none came in time.

        Raises:
            LinkLostError: the session must be opened again.
        """

    @abstractmethod
    def close(self) -> None:
        """End the session and free what `connect` took; also called after a failure, with whatever is half open."""

    def execute(self, command: Command) -> None:
        """Hand a command to the platform; its results come through `self.orders.report`, now or later.

        The base has checked account, capabilities, age and that this order was not placed before. A platform that is
        known not to have taken the order is reported as a Reject; when that is not known, nothing is reported. Neither
        this nor `snapshot` may block for as long as `orders.mute_after_ms`: no heartbeat goes out meanwhile, and the
        gateway would cut the link.

        Raises:
            LinkLostError: the session must be opened again; the outcome of the command is unknown.
        """
        raise NotImplementedError(f"{type(self).__name__} has capabilities for orders but no execute")

    def snapshot(self, request: SnapshotRequest) -> Snapshot:
        """What is true at the platform now, all parts read at one moment, after all that was executed before.

        `complete` is False when a part could not be read.

        Raises:
            LinkLostError: the platform does not answer.
        """
        raise NotImplementedError(f"{type(self).__name__} has capabilities for orders but no snapshot")

    def wait(self, timeout_s: float, sockets: Sequence[Readable] = ()) -> bool:
        """Sleep until one of `sockets` can be read, a command of the gateway has come, or `timeout_s` has passed.

        Every pause of an adapter goes through here: an order must not wait for market data.

        Returns:
            Whether there is something to read.
        """
        if self.orders is not None:
            return self.orders.wait(timeout_s, sockets)
        return wait_readable(timeout_s, sockets, None)
