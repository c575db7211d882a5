"""NEXUS's door to the order gateway for asyncio; the plain form, and what both promise, are in `interface.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType

from ..core.logs import Log, process_log
from ..core.messages import Positions, Reject, Signal
from .interface import DISK_PATIENCE_S
from .orders.callbacks import Callbacks, Teller
from .orders.link import Change, News, OrderLink
from .orders.options import DEFAULT_NAME, LinkOptions, gateway_options
from .orders.outcomes import LinkStatus, SignalOutcome


class AsyncNexusGatewayInterface:
    """The same for asyncio: used by one event loop, in which the callbacks are called as well."""

    def __init__(self, options: LinkOptions | None = None, log: Log | None = None) -> None:
        """Nothing happens before `connect`. `options` None = `gateway_options()`."""
        log = log or process_log(DEFAULT_NAME)
        self._teller = Teller(log)
        self._link = OrderLink(options or gateway_options(), self._hand_over, log)
        self._loop: asyncio.AbstractEventLoop | None = None

    def set_callbacks(
        self,
        *,
        on_outcome: Callable[[SignalOutcome], None] | None = None,
        on_reject: Callable[[Reject], None] | None = None,
        on_link: Callable[[LinkStatus], None] | None = None,
    ) -> None:
        """As in the plain form. Plain functions: to await something, put the news into an `asyncio.Queue`."""
        self._teller.callbacks = Callbacks(on_outcome, on_reject, on_link)

    async def connect(self, timeout_s: float = 5.0) -> bool:
        """As in the plain form."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            try:
                await asyncio.to_thread(self._link.start)
            except BaseException:
                self._loop = None  # a second try must not wait for a link that was never begun
                raise
        return await asyncio.to_thread(self._link.wait_up, timeout_s)

    @property
    def status(self) -> LinkStatus:
        """The link now."""
        return self._link.status

    @property
    def counts(self) -> dict[str, int]:
        """As in the plain form."""
        return {**self._link.book_counts(), "callback_errors": self._teller.errors}

    async def send_signal(self, signal: Signal, timeout_s: float = 5.0) -> SignalOutcome:
        """As in the plain form. Cancelling the task ends the waiting, not the signal."""
        kept, answer = self._link.submit(signal)
        try:
            await asyncio.wait_for(asyncio.wrap_future(kept), max(timeout_s, DISK_PATIENCE_S))
        except TimeoutError:
            return self._link.outcome_by_now(signal.signal_id, timeout_s)
        return await self._wait(answer, signal.signal_id, timeout_s)

    async def wait_settled(self, signal_id: str, timeout_s: float = 30.0) -> SignalOutcome:
        """As in the plain form."""
        return await self._wait(self._link.settle(signal_id), signal_id, timeout_s)

    async def change_signal(self, request: Change) -> bool:
        """As in the plain form."""
        return await asyncio.wrap_future(self._link.change(request))

    async def ask_positions(self, timeout_s: float = 5.0) -> tuple[Positions, ...]:
        """As in the plain form."""
        return await asyncio.wait_for(asyncio.wrap_future(self._link.positions()), timeout_s)

    def outcome(self, signal_id: str) -> SignalOutcome | None:
        """As in the plain form."""
        return self._link.outcome(signal_id)

    def unknown_symbols(self) -> frozenset[str]:
        """As in the plain form."""
        return self._link.unknown_symbols()

    async def forget_signal(self, signal_id: str) -> bool:
        """As in the plain form."""
        return await asyncio.wrap_future(self._link.forget(signal_id))

    async def close(self) -> None:
        """As in the plain form."""
        await asyncio.to_thread(self._link.close)

    async def __aenter__(self) -> AsyncNexusGatewayInterface:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _wait(self, future: Future[SignalOutcome], signal_id: str, timeout_s: float) -> SignalOutcome:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout_s)
        except TimeoutError:
            return self._link.outcome_by_now(signal_id, timeout_s)

    def _hand_over(self, news: News) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._teller.tell, news)
