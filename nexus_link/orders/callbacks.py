"""Calls the owner's callbacks; used by both forms of the interface."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ...core.logs import Log
from ...core.messages import Reject
from .link import News
from .outcomes import LinkStatus, SignalOutcome


class Callbacks(Struct, frozen=True):
    """The owner's callbacks; None = not called. See `set_callbacks` of the interface."""

    on_outcome: Callable[[SignalOutcome], None] | None = None
    on_reject: Callable[[Reject], None] | None = None
    on_link: Callable[[LinkStatus], None] | None = None


class Notifier:
    """Calls the callback for each piece of news, in the thread that calls `notify`.

    Attributes:
        callbacks: those in force; replaced as a whole.
        errors: callbacks that raised. They are logged; the next news is delivered all the same.
    """

    def __init__(self, log: Log) -> None:
        self.callbacks = Callbacks()
        self.errors = 0
        self._log = log

    def notify(self, news: News) -> None:
        """Call the callback for `news`. Never raises."""
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
