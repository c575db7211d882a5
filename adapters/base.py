"""The contract of an adapter: what differs from platform to platform, and nothing else.

Everything that is the same for all platforms (ring, symbols, counters, reconnect with back-off, resubscription,
staleness, heartbeat) is in `feed.py` and `session.py`. Methods are called from one thread, never at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..core.errors import GatewayError
from ..shm.symbols import Symbol
from .feed import TickFeed


class LinkLostError(GatewayError):
    """The platform is gone or does not answer; the session closes, backs off and connects again."""


class Adapter(ABC):
    """One platform. A subclass converts `settings` to a typed struct in `__init__`; ConfigError if it is wrong."""

    OWN_COUNTERS: ClassVar[tuple[str, ...]] = ()
    """Names of the counters that this adapter adds to those of `feed.COUNTERS`."""

    def __init__(self, feed: TickFeed, settings: Mapping[str, Any]) -> None:
        self.feed = feed

    @abstractmethod
    def connect(self) -> None:
        """Open the session with the platform; may block for some seconds.

        Raises:
            LinkLostError: not now; it is tried again after a pause.
            ConfigError: never; the process ends with exit code 2 and is not restarted.
        """

    @abstractmethod
    def subscribe(self, symbols: Sequence[Symbol]) -> None:
        """Ask for these symbols' ticks. Called after each connect with all of them; what is known already is repeated.

        Raises:
            LinkLostError: the session must be opened again.
        """

    @abstractmethod
    def poll(self, timeout_s: float) -> int:
        """Move what has arrived into the ring (`self.feed`); wait for it at most `timeout_s`.

        Returns:
            Number of ticks published, 0 when none came in time.

        Raises:
            LinkLostError: the session must be opened again.
        """

    @abstractmethod
    def close(self) -> None:
        """End the session and free what `connect` took; also called after a failure, with whatever is half open."""
