"""What is called with news from the gateway, in both forms of the interface."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ...core.logs import Log
from ...core.messages import Reject
from .link import News
from .outcomes import LinkStatus, SignalOutcome


class Callbacks(Struct, frozen=True):
    """What is called with news; None = nobody. See `set_callbacks`."""

    on_outcome: Callable[[SignalOutcome], None] | None = None
    on_reject: Callable[[Reject], None] | None = None
    on_link: Callable[[LinkStatus], None] | None = None


class Teller:
    """Hands news to callbacks. One that raises is logged and counted, and stops nothing."""

    def __init__(self, log: Log) -> None:
        self.callbacks = Callbacks()
        self.errors = 0
        self._log = log

    def tell(self, news: News) -> None:
        try:
            callbacks = self.callbacks
            if isinstance(news, SignalOutcome):
                if callbacks.on_outcome is not None:
                    callbacks.on_outcome(news)
            elif isinstance(news, Reject):
                if callbacks.on_reject is not None:
                    callbacks.on_reject(news)
            elif callbacks.on_link is not None:
                callbacks.on_link(news)
        except Exception:
            self.errors += 1
            self._log.exception("callback failed", news=type(news).__name__)
